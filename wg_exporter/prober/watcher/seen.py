"""What was seen of one peer in one window. What counts for it, `book` decides."""

from __future__ import annotations

from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING

from wg_exporter.prober.watcher.decode import Kind, mac1_key
from wg_exporter.sighted import LAST, MOST_REFUSALS, MOST_SENDERS, Refusal, Sender, Sighting

if TYPE_CHECKING:
    from wg_exporter.model import DeviceKey
    from wg_exporter.prober.watcher.decode import Message, Quote
    from wg_exporter.sighted import WatchPeer

Place = tuple[int, bytes, int]
"""What finds a peer by its messages: our port, and the packed address and the port of its endpoint."""

_Sender = tuple[bytes, int, str]
_Refusal = tuple[bytes, int, int, bool]


class Seen:
    """The counts of one peer, until `until`."""

    __slots__ = (
        "_answered",
        "_began",
        "_initiation",
        "_misdirected",
        "_received",
        "_received_at",
        "_refusals",
        "_senders",
        "_sent",
        "_sent_at",
        "_taken_at",
        "cookies_sent",
        "key",
        "missed",
        "number",
        "out",
        "peer",
        "place",
        "until",
    )

    def __init__(self, number: int, peer: WatchPeer, began: float, until: float) -> None:
        self.number = number
        self.until = until
        self.missed = False
        self.cookies_sent = 0
        self.out = (-inf, inf)  # when what leaves was looked at
        self._began = began
        self._sent = {Kind.INITIATION: 0, Kind.RESPONSE: 0}
        self._received = {Kind.INITIATION: 0, Kind.RESPONSE: 0, Kind.COOKIE: 0}
        self._misdirected = self._answered = 0
        self._sent_at: tuple[float, ...] = ()
        self._received_at: tuple[float, ...] = ()
        self._taken_at: tuple[float, ...] = ()
        self._senders: dict[_Sender, int] = {}
        self._refusals: dict[_Refusal, tuple[int, int]] = {}  # how many, and how many of them are proven
        self._initiation = b""
        self.aim(peer)

    def aim(self, peer: WatchPeer) -> None:
        """The peer is this from now on: its endpoint may have changed."""
        self.peer = peer
        self.place = place_of(peer)
        self.key = mac1_key(peer.key[2])

    @property
    def device(self) -> DeviceKey:
        """That of the peer."""
        netns, interface, _ = self.peer.key
        return netns, interface

    def leave(self, kind: Kind, now: float) -> None:
        """An initiation or a response left for it."""
        self._sent[kind] += 1
        if kind is Kind.INITIATION:
            self._sent_at = (*self._sent_at, now)[-LAST:]
        else:
            self._taken_at = (*self._taken_at, now)[-LAST:]

    def arrive(self, message: Message, now: float, *, for_us: bool, answers: bool) -> None:
        """A message came from its endpoint. `answers`: to one of ours for this peer that was seen leaving."""
        if message.kind is not Kind.COOKIE and not for_us:
            self._misdirected += 1
            return
        self._received[message.kind] += 1
        if message.kind is Kind.INITIATION:
            self._received_at = (*self._received_at, now)[-LAST:]
            self._initiation = message.data
        elif message.kind is Kind.RESPONSE and answers:
            self._answered += 1

    def count(self, address: bytes, port: int, interface: str) -> None:
        """It came from there, on this interface."""
        sender = (address, port, interface)
        if sender in self._senders or len(self._senders) < MOST_SENDERS:
            self._senders[sender] = self._senders.get(sender, 0) + 1

    def move(self, address: bytes, port: int, before: str, interface: str) -> None:
        """What was counted on one interface came on to another."""
        known = self._senders.get((address, port, before))
        if known is not None and before != interface:
            self._senders[address, port, before] = known - 1
            if known == 1:
                del self._senders[address, port, before]
            self.count(address, port, interface)

    def refuse(self, quote: Quote, *, proven: bool, own: bool) -> None:
        """Somebody says that what is sent to its endpoint can't be delivered; `own`: from an address of this host. What
        is proven is never crowded out by what is not.
        """
        name = (quote.by, quote.type, quote.code, own)
        count, believed = self._refusals.get(name, (0, 0))
        if not count and len(self._refusals) >= MOST_REFUSALS:
            weak = [known for known, (_, proofs) in self._refusals.items() if not proofs]
            if not proven or not weak:
                return
            del self._refusals[weak[0]]
        self._refusals[name] = (count + 1, believed + proven)

    def row(self, now: float) -> Sighting:
        """All of it, as of `now`."""
        return Sighting(
            self._began,
            now - self._began,
            initiations_sent=self._sent[Kind.INITIATION],
            responses_sent=self._sent[Kind.RESPONSE],
            cookies_sent=self.cookies_sent,
            initiations_received=self._received[Kind.INITIATION],
            responses_received=self._received[Kind.RESPONSE],
            cookies_received=self._received[Kind.COOKIE],
            misdirected=self._misdirected,
            answered=self._answered,
            sent_at=self._sent_at,
            received_at=self._received_at,
            taken_at=self._taken_at,
            senders=tuple(
                Sender(str(ip_address(address)), port, interface, count)
                for (address, port, interface), count in self._senders.items()
            ),
            refusals=tuple(
                Refusal(str(ip_address(by)), len(by) == 16, kind, code, *counts, own)
                for (by, kind, code, own), counts in self._refusals.items()
            ),
            initiation=self._initiation,
            missed=self.missed,
            out_from=self.out[0],
            out_to=self.out[1],
        )


def place_of(peer: WatchPeer) -> Place | None:
    """What finds the peer by its messages; None without an endpoint that is an address."""
    host, _, port = peer.endpoint.rpartition(":")
    try:
        return peer.port, ip_address(host.strip("[]").partition("%")[0]).packed, int(port)
    except ValueError:
        return None
