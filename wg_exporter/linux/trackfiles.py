"""A directory with a small file for each peer that is watched closely, for programs that wait for a file to change.

As with the storage, whoever starts the exporter opens it, mostly root, and hands it over open: the process that writes
has no right, and knows no path. The directory is the exporter's own, made by it, and others only read there. One that
was there before is taken if it is empty: a group that may write to it must not get into somebody else's directory.

A file is replaced as a whole, by rename(2), so whoever reads it finds a number, and inotify(7) tells of each change
once. It need not survive a crash of the host, so nobody waits for a disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from typing import TYPE_CHECKING

from wg_exporter.linux.locks import lock
from wg_exporter.linux.storage import open_below, own

if TYPE_CHECKING:
    from wg_exporter.linux.privileges import User

LONGEST = 16  # bytes of a file that are read

_MODE = 0o775
_FILE_MODE = 0o644
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OURS = re.compile(r"[^/]+\.[A-Za-z0-9_-]{43}=")  # a name that ends in a public key
_GONE = "it was removed; restart wg-exporter, and then whatever reads there"
_HELD = "another wg-exporter writes there; name another directory with track_files"


class TrackFiles:
    """An open directory; or none, because of a `problem`."""

    def __init__(self, path: str, handle: int = -1, problem: str = "") -> None:
        self.path = path
        """What was asked for."""
        self.problem = problem
        self._handle = handle

    def __bool__(self) -> bool:
        return self._handle >= 0

    @property
    def gone(self) -> bool:
        """Whether the directory was removed: what is at its path now, if anything, is another one."""
        return self._handle >= 0 and os.fstat(self._handle).st_nlink == 0

    def close(self) -> None:
        """Leave it to others."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    def found(self) -> dict[str, bytes]:
        """The files of peers that are there, by name. Raises OSError."""
        if self.gone:
            raise FileNotFoundError(errno.ENOENT, _GONE)
        names = [name for name in os.listdir(self._handle) if _OURS.fullmatch(name)]  # noqa: PTH208 - it is open
        return {name: data for name in names if (data := self._read(name)) is not None}

    def write(self, name: str, data: bytes) -> None:
        """Replace a file: whoever reads it finds the old or the new one. Raises OSError."""
        making = ".new"
        self.remove(making)  # of one that was killed, perhaps of another user
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(making, flags, _FILE_MODE, dir_fd=self._handle)
        with open(handle, "wb") as file:  # noqa: PTH123 - it is open already
            os.fchmod(handle, _FILE_MODE)
            file.write(data)
        os.rename(making, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._handle)

    def _read(self, name: str) -> bytes | None:
        """None for what is no regular file, or can't be read."""
        try:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._handle)
        except OSError:
            return None
        with open(handle, "rb") as file:  # noqa: PTH123
            return file.read(LONGEST) if stat.S_ISREG(os.fstat(handle).st_mode) else None


def open_track_files(path: str, user: User | None = None) -> TrackFiles:
    """The directory at this absolute `path`, for this `user` to write to, None = for this process. Never fails: it may
    have a problem.
    """
    above, _, name = path.rpartition("/")
    try:
        parent = os.open(above or "/", _DIRECTORY)
    except FileNotFoundError:
        return TrackFiles(path, problem=f"there is no directory {above}; make it, or name another with track_files")
    except OSError as error:
        return TrackFiles(path, problem=f"{above}: {error.strerror or error}")
    handle = -1
    try:
        handle = open_below(parent, name, _MODE, user.gid if user else os.getegid())
        _ours(handle, user)
        if user is not None:
            own(handle, _MODE, user.gid)
        lock(handle, _HELD)
    except OSError as error:
        if handle >= 0:
            os.close(handle)
        return TrackFiles(path, problem=f"{path}: {error.strerror or error}")
    finally:
        os.close(parent)
    return TrackFiles(path, handle)


def _ours(directory: int, user: User | None) -> None:
    """Raises OSError for a directory that is or was somebody else's."""
    found = os.fstat(directory)
    if found.st_uid not in {0, os.geteuid()}:
        raise OSError(errno.EPERM, f"it belongs to the user {found.st_uid}; remove it, or name another")
    if user is not None and found.st_gid != user.gid and os.listdir(directory):
        raise OSError(errno.ENOTEMPTY, "it is not empty, and not the exporter's; name one that does not exist yet")
