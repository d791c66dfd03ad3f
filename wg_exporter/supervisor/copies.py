"""Open files that are handed to the exporter: what is in them may be a private key, which the kernel copies, not we."""

from __future__ import annotations

import errno
import os
import stat

MOST_BYTES = 1 << 20  # of a certificate or a key


def holding(data: bytes) -> int:
    """An open file with this in it."""
    file = os.memfd_create("handed over", os.MFD_CLOEXEC)
    os.write(file, data)
    return file


def copy(path: str) -> int:
    """An open file with what is at `path`. Raises OSError."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        file = holding(b"")
        while os.sendfile(file, source, None, MOST_BYTES):
            if os.fstat(file).st_size >= MOST_BYTES:
                break
        return file
    finally:
        os.close(source)
