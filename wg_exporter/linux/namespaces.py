"""Entering another network namespace, for the calling thread alone (setns(2)).

A namespace is named by a path: /run/netns/NAME, /proc/PID/ns/net, or any other. It may be removed and made anew under
the same path while the exporter runs, so the path is checked before each read.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import TYPE_CHECKING

from wg_exporter.linux.errors import NamespaceDeniedError, NamespaceGoneError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_NEWNET = 0x40000000


class Entrance:
    """The way of one thread into a network namespace, where it stays. One object for each thread."""

    def __init__(self, name: str, path: str) -> None:
        self._name = name
        self._path = path
        self._entered: tuple[int, int] | None = None
        self._home: int | None = None
        self._setns = _find_setns()  # here, for an import would count against the deadline of the first read

    def enter(self) -> bool:
        """Make sure that this thread is in the namespace; True if it moved, so that sockets must be opened anew.

        Raises SourceError with the fix when it can't be entered: NamespaceDeniedError without permission,
        NamespaceGoneError if it is certain that there is none. The thread is back in its first namespace then: whoever
        stays in a namespace that was deleted keeps it alive, with its interfaces.
        """
        if self._home is None:
            self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Not blocking, for a path could be a pipe that nobody writes to.
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self.leave()
            raise self._problem(error) from None
        try:
            status = os.fstat(handle)
            identity = (status.st_dev, status.st_ino)
            if identity == self._entered:
                return False
            self._setns(handle)
        except OSError as error:
            raise self._problem(error) from None
        finally:
            os.close(handle)
        self._entered = identity
        return True

    def leave(self) -> None:
        """Go back to the namespace that the thread was in at first."""
        if self._home is not None and self._entered is not None:
            self._setns(self._home)
            self._entered = None

    def close(self) -> None:
        """Leave, and let go of the way back; for the end of the thread."""
        self.leave()
        if self._home is not None:
            os.close(self._home)
            self._home = None

    def _problem(self, error: OSError) -> SourceError:
        where = f"namespace {self._name}: {self._path}"
        if error.errno == errno.ENOENT:
            return NamespaceGoneError(f"{where} does not exist; start what makes it, or take it out of `namespaces`")
        if error.errno in (errno.EPERM, errno.EACCES):
            fix = "grant CAP_SYS_ADMIN, and CAP_SYS_PTRACE for a pid's namespace"
            return NamespaceDeniedError(f"{where}: no permission; {fix}")
        if error.errno == errno.EINVAL:
            return SourceError(f"{where} is not a network namespace")
        return SourceError(f"{where}: {error.strerror}")


def _find_setns() -> Callable[[int], object]:
    if sys.version_info >= (3, 12):
        return lambda handle: os.setns(handle, CLONE_NEWNET)
    from pyroute2 import netns  # noqa: PLC0415 - 13 MB that only a host with `namespaces` and an older Python needs

    # Without being handed the C library, pyroute2 looks for it by running ldconfig.
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda handle: netns.setns(handle, libc=libc)
