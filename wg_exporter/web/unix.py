"""The Unix socket on which the same server answers commands of this host, as its owner alone may connect.

A socket file outlives its process. Whoever finds one at the start asks whether anybody listens: nobody does, and it is
replaced; somebody does, and that is another exporter, which keeps it. Both under a lock on the directory, so that two
that start at once don't take the socket from each other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter.linux.locks import lock
from wg_exporter.web.listen import BACKLOG

if TYPE_CHECKING:
    from collections.abc import Iterator

MODE = 0o600
LONGEST_PATH = 107  # bytes (unix(7))
_CONNECT_SECONDS = 1.0


class UnixSocketError(Exception):
    """The socket can't be served: one line that says why, and what to do. The exporter runs without it."""


class UnixSocket:
    """A listening socket at `path`. `close` removes the file, if it is still ours."""

    def __init__(self, path: str) -> None:
        """Raises UnixSocketError."""
        self.path = path
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise UnixSocketError(f"{path}: a socket's path has at most {LONGEST_PATH} bytes; use a shorter one")
        directory = Path(path).parent
        try:
            with _locked(directory):
                self.socket = _listen(path)
                self._file = _identity(path)
        except FileNotFoundError:
            raise UnixSocketError(
                f"{path}: there is no directory {directory}; make it (the systemd unit does), or name another socket "
                "with --web.unix-socket"
            ) from None
        except OSError as error:
            raise UnixSocketError(f"{path}: {error.strerror or error}") from None

    def close(self) -> None:
        """Remove the file. The socket itself is closed by the server that was given it."""
        with contextlib.suppress(OSError), _locked(Path(self.path).parent):
            if _identity(self.path) == self._file:
                os.unlink(self.path)  # noqa: PTH108 - a path as it was given


def _listen(path: str) -> socket.socket:
    _make_way(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~MODE)  # not chmod(2) afterwards, as somebody could connect in between
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _make_way(path: str) -> None:
    """Remove a socket on which nobody listens. Raises UnixSocketError for anything else that is there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise UnixSocketError(f"{path} is there and is no socket; remove it, or name another with --web.unix-socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as trying:
        trying.settimeout(_CONNECT_SECONDS)
        try:
            trying.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108
            return
        except OSError as error:  # whoever is too busy to accept is there
            if error.errno not in (errno.EAGAIN, errno.ETIMEDOUT) and not isinstance(error, TimeoutError):
                raise
    raise UnixSocketError(
        f"{path}: another wg-exporter answers there, and `show` and `mtu` go on asking that one; "
        "name another with --web.unix-socket"
    )


def _identity(path: str) -> tuple[int, int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino, found.st_ctime_ns  # a new file may get the number of one that was removed


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Nobody else makes or removes a socket there meanwhile. The lock ends with the process, whatever happens to it."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock(handle, "another process holds a lock on its directory")
        yield
    finally:
        os.close(handle)
