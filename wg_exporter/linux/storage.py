"""What the exporter keeps across restarts: a few small files in a directory of its own, written whole or not at all, or
line by line.

The directory that is named (`--storage.path`) belongs to whoever starts the exporter, mostly root, and nobody else gets
in. The process that writes may be another user, without any right: it gets a directory below, already open, which is
its group's to write to. It needs no capability for that, and no path; root needs none either, but to take on a group
for a moment, for a new directory gets the group of whoever makes it.

One exporter at a time: a lock on the directory lasts as long as the process that has it open, whatever happens to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from wg_exporter.linux.locks import lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.linux.privileges import User

BELOW = "exporter"
_MODE = 0o770
_FILE_MODE = 0o644  # nobody else can reach it; the next one to run may be another user
_HELD = "another wg-exporter keeps its state there; name another with --storage.path"
_WRONG = (errno.EINVAL, errno.EFBIG, errno.ELOOP, errno.ENXIO)  # the last two by open(2): a link, a socket
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class StorageError(Exception):
    """Nothing can be read or written there. The message is one line that says why, and what to do."""


class WrongFileError(StorageError):
    """A file is none of ours, whoever reads it and whenever: it is too long, no regular one, or a link."""


class Storage:
    """An open directory; or none, because of a `problem`: then nothing can be read or written."""

    def __init__(self, path: str = "", handle: int = -1, problem: str = "no --storage.path is given") -> None:
        self.path = path
        """What was asked for; empty: nothing was."""
        self.problem = "" if handle >= 0 else problem
        self._handle = handle

    def close(self) -> None:
        """Leave it to others."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self.problem = -1, self.problem or "it is closed"

    def read(self, name: str, longest: int) -> bytes | None:
        """A file of at most so many bytes; None if there is none. Raises StorageError, as WrongFileError if it is none
        of ours.
        """
        with self._saying(name):
            return _read(self._handle, name, longest)

    def write(self, name: str, data: bytes) -> None:
        """Replace a file: whoever reads it, also after a crash, finds the old or the new one. Raises StorageError."""
        making = f".{name}.new"
        with self._saying(name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(making, dir_fd=self._handle)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(making, flags, _FILE_MODE, dir_fd=self._handle)
            with open(handle, "wb") as file:  # noqa: PTH123
                os.fchmod(handle, _FILE_MODE)
                file.write(data)
                file.flush()
                os.fsync(handle)
            os.rename(making, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
            os.fsync(self._handle)

    def append(self, name: str, data: bytes) -> None:
        """Add to the end of a file. Whoever reads it, also after a crash, finds all that was there before, and of this
        what was written by then. Raises StorageError; then the last line may be cut, and the file is to be written.
        """
        with self._saying(name):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            handle = os.open(name, flags, _FILE_MODE, dir_fd=self._handle)
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise OSError(errno.EINVAL, "it is no regular file")
                left = memoryview(data)
                while left:
                    left = left[os.write(handle, left) :]
                os.fsync(handle)
            finally:
                os.close(handle)

    def set_aside(self, name: str) -> str:
        """Give a file that can't be used another name, in place of an earlier one. Returns it. Raises StorageError."""
        aside = f"{name}.bad"
        with self._saying(name):
            os.rename(name, aside, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        return aside

    def check(self) -> None:
        """Find out whether files can be written. Raises StorageError."""
        self.write(".check", b"")
        with self._saying(".check"):
            os.unlink(".check", dir_fd=self._handle)

    @contextlib.contextmanager
    def _saying(self, name: str) -> Iterator[None]:
        if self.problem:
            raise StorageError(self.problem)
        try:
            yield
        except ValueError:  # it was closed meanwhile
            raise StorageError("it is closed") from None
        except OSError as error:
            kind = WrongFileError if error.errno in _WRONG else StorageError
            raise kind(f"{self.path}/{BELOW}/{name}: {error.strerror or error}") from None


def read_kept(path: str, name: str, longest: int) -> bytes | None:
    """A file below `path` as an exporter has left it, or is writing it; None if there is none. Makes nothing, and needs
    no lock. Raises OSError.
    """
    parent = os.open(path, _DIRECTORY)
    try:
        below = os.open(BELOW, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        return None
    finally:
        os.close(parent)
    try:
        return _read(below, name, longest)
    finally:
        os.close(below)


def _why(error: OSError) -> str:
    why = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return f"{why[:1].lower()}{why[1:]}; run as root, or name a directory of your own with --storage.path"
    return why


def open_storage(path: str, user: User | None = None) -> Storage:
    """The storage below `path`, for this `user` to write to, None = for this process. Never fails: it may have a
    problem. An empty path: there is none.
    """
    if not path:
        return Storage()
    try:
        handle = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        fix = "make it (the systemd unit does), or name another with --storage.path"
        return Storage(path, problem=f"there is no directory {path}; {fix}")
    except OSError as error:
        return Storage(path, problem=f"{path}: {_why(error)}")
    try:
        below = open_below(handle, BELOW, _MODE, user.gid if user else os.getegid())
    except OSError as error:
        return Storage(path, problem=f"{path}/{BELOW}: {_why(error)}")
    finally:
        os.close(handle)
    try:
        own(below, _MODE, user.gid if user else None)
        lock(below, _HELD)
    except OSError as error:
        os.close(below)
        return Storage(path, problem=f"{path}/{BELOW}: {_why(error)}")
    return Storage(path, below)


def _read(directory: int, name: str, longest: int) -> bytes | None:
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    with open(handle, "rb") as file:  # noqa: PTH123 - it is open already
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        data = file.read(longest + 1)
    if len(data) > longest:
        raise OSError(errno.EFBIG, f"it has more than {longest:,} bytes")
    return data


def open_below(parent: int, name: str, mode: int, group: int) -> int:
    """A directory in an open one, made for this group if there is none. Raises OSError."""
    with _of_group(group):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=parent)
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


def own(directory: int, mode: int, group: int | None) -> None:
    """Have the group write to a directory that may have been made for another one, or by a careful umask. Raises
    OSError.
    """
    found = os.fstat(directory)
    if found.st_uid != os.geteuid():
        raise OSError(errno.EPERM, f"it belongs to the user {found.st_uid}; remove it, or name another")
    if group is not None and found.st_gid != group:
        with _of_group(group):
            os.fchown(directory, -1, group)
    if stat.S_IMODE(found.st_mode) != mode:
        os.fchmod(directory, mode)


@contextlib.contextmanager
def _of_group(group: int) -> Iterator[None]:
    """What is made meanwhile is of this group."""
    before = os.getegid()
    if group == before:
        yield
        return
    os.setegid(group)
    try:
        yield
    finally:
        os.setegid(before)
