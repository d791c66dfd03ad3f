"""Packets of peers, as counted in the kernel where `accounting` is on. WireGuard itself counts bytes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_COUNTS = ": packets are not counted: "
"""What stands in a note between the interface whose packets can't be counted and why."""


class PeerPackets(NamedTuple):
    """The packets of one peer inside the tunnel: those that came out of it, and those that were handed to WireGuard.

    Handshakes and keepalives are none. A packet that WireGuard drops while it waits for a handshake is one.
    """

    rx_packets: int
    tx_packets: int


class Packets(Sequence[PeerPackets]):
    """The packets of a device's peers, in its order, by column: an attribute for each field of `PeerPackets`.

    `life` is the number of who counts: counts of another life began at 0. Immutable, as `model.Peers` is.
    """

    ROW = PeerPackets
    __slots__ = ("life", "rx_packets", "tx_packets")

    def __init__(self, life: int, rx_packets: tuple[int, ...], tx_packets: tuple[int, ...]) -> None:
        self.life = life
        self.rx_packets = rx_packets
        self.tx_packets = tx_packets

    def columns(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Both columns, in the order of the fields of `PeerPackets`."""
        return self.rx_packets, self.tx_packets

    def sharing(self, before: Packets | None) -> Packets:
        """`before` if it is equal, else these with the column of `before` that is."""
        if before is None:
            return self
        received = before.rx_packets if before.rx_packets == self.rx_packets else self.rx_packets
        sent = before.tx_packets if before.tx_packets == self.tx_packets else self.tx_packets
        if received is before.rx_packets and sent is before.tx_packets and before.life == self.life:
            return before
        return Packets(self.life, received, sent)

    def __len__(self) -> int:
        return len(self.rx_packets)

    @overload
    def __getitem__(self, index: int) -> PeerPackets: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[PeerPackets, ...]: ...

    def __getitem__(self, index: int | slice) -> PeerPackets | tuple[PeerPackets, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        return PeerPackets(self.rx_packets[index], self.tx_packets[index])

    def __iter__(self) -> Iterator[PeerPackets]:
        return map(PeerPackets, self.rx_packets, self.tx_packets)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Packets):
            return NotImplemented
        return (self.life, self.columns()) == (other.life, other.columns())

    def __hash__(self) -> int:
        return hash((self.life, self.columns()))

    def __repr__(self) -> str:
        return f"Packets({self.life}, {self.rx_packets!r}, {self.tx_packets!r})"
