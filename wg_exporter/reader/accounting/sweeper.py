"""Takes away what a killed exporter has left, where nothing is counted from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.linux.netlink import open_socket
from wg_exporter.reader.accounting.hooks import Hooks
from wg_exporter.reader.accounting.seat import Seat

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
        self._left: set[int] | None = None  # interfaces; None = not known yet
        self.done = False  # whether nothing is left to sweep

    def follow(self, wanted: Wanted) -> None:
        """Which interfaces there are."""
        self._wanted = wanted

    def read(self) -> dict[str, tuple[Peers, Packets]]:
        """Sweep, once it is known what is there; where somebody counts, another exporter or the reader of before a
        reload, once he has ended. Nothing is counted. Raises SourceError.
        """
        if not self.done and self._wanted is not None and self._wanted.there is not None:
            there = set(self._wanted.there)
            left = there if self._left is None else self._left & there
            self._left = {ifindex for ifindex in left if not self._sweep(ifindex)}
            self.done = not self._left
        return {}

    def _sweep(self, ifindex: int) -> bool:
        """False: somebody counts there."""
        seat = Seat(ifindex)
        if not seat.take():
            return False
        try:
            self._hooks.remove(ifindex)
        finally:
            seat.leave()
        return True

    def close(self) -> None:
        """Close the socket."""
        self._hooks.close()
