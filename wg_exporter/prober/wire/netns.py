"""Sockets in other network namespaces: go in, open one, come back. A socket stays where it was opened (setns(2)).

The prober's one thread is in another namespace only while it opens a socket there. The namespace of a path like
/run/netns/blue may be removed and made anew while sockets of the old one are open, which then lead nowhere; `moved`
tells.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wg_exporter.linux.errors import NamespaceDeniedError, SourceError
from wg_exporter.linux.namespaces import Entrance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Identity = tuple[int, int] | None

T = TypeVar("T")


class Namespaces:
    """The configured network namespaces, by name; the empty name is our own. For one thread."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        """`paths` maps names to paths, which need not exist yet."""
        self._paths = dict(paths)
        self._entrances = {name: Entrance(name, path) for name, path in self._paths.items()}
        self._seen: dict[str, Identity] = {name: _identity(path) for name, path in self._paths.items()}

    def open(self, netns: str, family: int, kind: int, protocol: int) -> socket.socket:
        """An `Opener`: a socket in the namespace. Raises OSError: EPERM, or ENODEV if there is no such namespace."""
        return self.inside(netns, lambda: socket.socket(family, kind, protocol))

    def inside(self, netns: str, work: Callable[[], T]) -> T:
        """Call `work` in the namespace and return its result. Raises OSError as `open`, or what `work` raises."""
        if not netns:
            return work()
        entrance = self._entrances.get(netns)
        if entrance is None:
            raise OSError(errno.ENODEV, f"the namespace {netns} is not configured")
        try:
            entrance.enter()
        except NamespaceDeniedError as error:
            raise OSError(errno.EPERM, str(error)) from None
        except SourceError as error:
            raise OSError(errno.ENODEV, str(error)) from None
        try:
            return work()
        finally:
            try:
                entrance.leave()
            except OSError as error:  # not raised as OSError, which callers take for a failure of this socket alone
                raise RuntimeError(f"no way back from the namespace {netns}") from error

    def packets_left(self, netns: str) -> int:
        """How many packets have left by all interfaces of a namespace so far (proc(5), net/dev). Raises OSError."""
        text = self.inside(netns, Path("/proc/thread-self/net/dev").read_text)
        rows = (line.partition(":")[2].split() for line in text.splitlines()[2:])
        return sum(int(row[9]) for row in rows if len(row) > 9)

    def moved(self) -> list[str]:
        """The names that stand for another namespace than when this was last asked, or for none any more."""
        now = {name: _identity(path) for name, path in self._paths.items()}
        moved = [name for name, identity in now.items() if identity != self._seen[name]]
        self._seen = now
        return moved

    def close(self) -> None:
        """Close the files that lead back."""
        for entrance in self._entrances.values():
            entrance.close()


def _identity(path: str) -> Identity:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
