"""Entering another network namespace, for the calling thread alone (setns(2)).

A namespace is named by a path: /run/netns/NAME, /proc/PID/ns/net, or any other. What the path stands for may be removed
and made anew under the same name while the exporter runs, so it is checked before each read.
"""

from __future__ import annotations

import errno
import os

from wg_exporter.sources.errors import SourceError

CLONE_NEWNET = 0x40000000


class Namespace:
    """A namespace that a thread enters and stays in. One object for each thread."""

    def __init__(self, name: str, path: str) -> None:
        self._name = name
        self._path = path
        self._entered: tuple[int, int] | None = None

    def enter(self) -> bool:
        """Make sure that this thread is in the namespace; True if it moved, so that sockets must be opened anew.

        Raises SourceError with the fix when there is no such namespace or no permission.
        """
        try:
            # Not blocking, for a path could be a pipe that nobody writes to.
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self._problem(error) from None
        try:
            status = os.fstat(handle)
            identity = (status.st_dev, status.st_ino)
            if identity == self._entered:
                return False
            _setns(handle)
        except OSError as error:
            raise self._problem(error) from None
        finally:
            os.close(handle)
        self._entered = identity
        return True

    def _problem(self, error: OSError) -> SourceError:
        where = f"namespace {self._name}: {self._path}"
        if error.errno == errno.ENOENT:
            return SourceError(f"{where} does not exist; start what makes it, or take it out of `namespaces`")
        if error.errno in (errno.EPERM, errno.EACCES):
            return SourceError(f"{where}: no permission; grant CAP_SYS_ADMIN, and CAP_SYS_PTRACE for a pid's namespace")
        if error.errno == errno.EINVAL:
            return SourceError(f"{where} is not a network namespace")
        return SourceError(f"{where}: {error.strerror}")


def _setns(handle: int) -> None:
    if hasattr(os, "setns"):  # Python 3.12
        os.setns(handle, CLONE_NEWNET)
        return
    from pyroute2 import netns  # noqa: PLC0415 - 13 MB that only a host with `namespaces` and an older Python needs

    netns.setns(handle)
