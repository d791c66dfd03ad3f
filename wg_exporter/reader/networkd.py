"""Where systemd-networkd looks for `.netdev` files and their drop-ins, and which of them count (systemd.netdev(5)).

A file in one of its directories replaces those of the same name in the later ones. The drop-ins of a file, in
`NAME.netdev.d/`, are taken from all directories, wherever the file is, replace each other in the same way, and are read
in the order of their names. An empty file or a link to /dev/null stands for nothing: it masks those that it replaces.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The first counts most.
DIRECTORIES = (
    Path("/etc/systemd/network"),
    Path("/run/systemd/network"),
    Path("/usr/local/lib/systemd/network"),
    Path("/usr/lib/systemd/network"),
)
_NULL = os.makedev(1, 3)


def is_replaced(path: Path, directories: Sequence[Path]) -> bool:
    """Whether a file of the same name in a directory that counts more stands before this one."""
    if path.parent not in directories:
        return False
    before = directories[: list(directories).index(path.parent)]
    return any(os.path.lexists(directory / path.name) for directory in before)


def masks(status: os.stat_result) -> bool:
    """Whether a file with this status stands for nothing."""
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == _NULL
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def drop_in_directories(path: Path, directories: Sequence[Path]) -> list[Path]:
    """Where the drop-ins of a .netdev can be, the first counts most: only beside it, if it is not in networkd's own."""
    places = directories if path.parent in directories else (path.parent,)
    return [place / f"{path.name}.d" for place in places]


def find_drop_ins(directories: Sequence[Path], listing: Callable[[Path], list[str]]) -> list[Path]:
    """The drop-ins in the order in which they are read. Raises OSError if a directory is there and cannot be listed."""
    found: dict[str, Path] = {}
    for directory in directories:
        try:
            names = fnmatch.filter(listing(directory), "*.conf")
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            found.setdefault(name, directory / name)
    return [found[name] for name in sorted(found)]
