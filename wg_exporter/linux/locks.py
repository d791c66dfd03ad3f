"""A lock on an open file or directory, for which one waits a moment: whoever held it may just be ending."""

from __future__ import annotations

import errno
import fcntl
import time

_SECONDS = 2.0
_PAUSE = 0.05


def lock(handle: int, held: str) -> None:
    """Lock it alone, until it is closed or this process ends, whatever happens to it (flock(2)).

    Raises OSError with the text `held` if somebody holds it for longer than two seconds.
    """
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(errno.EWOULDBLOCK, held) from None
        time.sleep(_PAUSE)
