"""Takes away what a killed exporter has left, where nothing is counted from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.linux.netlink import open_socket
from wg_exporter.reader.accounting.hooks import Hooks

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from wg_exporter.accounted import Packets
    from wg_exporter.model import Peers
    from wg_exporter.reader.accounting.wanted import Wanted


class Sweeper:
    """Of one network namespace. Not thread-safe but for `follow`: one thread, one namespace."""

    notes: tuple[str, ...] = ()

    def __init__(self, open_socket: Callable[[int], socket.socket] = open_socket) -> None:
        self._hooks = Hooks(open_socket=open_socket)
        self._wanted: Wanted | None = None
        self.done = False  # whether nothing is left to sweep

    def follow(self, wanted: Wanted) -> None:
        """Which interfaces there are."""
        self._wanted = wanted

    def read(self) -> dict[str, tuple[Peers, Packets]]:
        """Sweep, once it is known what is there. Nothing is counted. Raises SourceError."""
        if not self.done and self._wanted is not None and self._wanted.there is not None:
            for ifindex in self._wanted.there:
                self._hooks.remove(ifindex)
            self.done = True
        return {}

    def close(self) -> None:
        """Close the socket."""
        self._hooks.close()
