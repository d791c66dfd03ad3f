"""Which probe does an answer belong to? The packets under way of all peers together, and answers made of packets.

The idea: **a packet's sequence number is its place in a ring**, and only what also fits the rest of what was sent is
taken for an answer: the address it went to, and the token, 64 random bits that only who saw the packet can know. A
router may quote less of it in an error than it takes to hold the token (RFC 792 asks for 8 bytes); then address,
sequence and size have to do, and the ident that the socket's filter looks at. UDP has no sequence, so there the port it
was sent to is the place.

Memory is bounded by `MOST`, whoever is silent and whoever floods. No clock: `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from ipaddress import ip_address
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from wg_exporter.prober.mtu.probes import Kind, Layer, Passed, Refused, TimeExceeded, TooBig
from wg_exporter.prober.wire import packet

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.prober.mtu.probes import Answer, Send

MOST = 16_384  # packets under way: 5,000 a second for 3 s
SEQUENCES = 1 << 16
FIRST_PORT, PORTS = 33_434, 4_096  # where traceroute aims, for hardly anything listens there

Owner = TypeVar("Owner")


class Flight(NamedTuple, Generic[Owner]):
    """A packet under way: whose it is, what was asked for, and what it looks like. `sent` is monotonic seconds."""

    owner: Owner
    send: Send
    address: bytes
    sequence: int
    token: int
    port: int
    sent: float

    @property
    def layer(self) -> Layer:
        """On which side of the encryption it travels."""
        return Layer.OUTER if self.send.kind is Kind.OUTER_ECHO else Layer.INNER


class Flights(Generic[Owner]):
    """All packets under way, by sequence number and, of datagrams, by port."""

    def __init__(self, timeout: float, random_bytes: Callable[[int], bytes]) -> None:
        """A packet is remembered for `timeout` seconds."""
        self._timeout = timeout
        self._random_bytes = random_bytes
        self._flights: dict[int, Flight[Owner]] = {}
        self._ports: dict[int, Flight[Owner]] = {}
        self._oldest: deque[Flight[Owner]] = deque()
        self._sequence = int.from_bytes(random_bytes(2), "big")

    def __len__(self) -> int:
        return len(self._oldest)

    def start(self, owner: Owner, send: Send, address: bytes, now: float) -> Flight[Owner] | None:
        """Number and token for a packet that is about to leave; None if too many are under way."""
        while self._oldest and now >= self._oldest[0].sent + self._timeout:
            self.forget(self._oldest[0])
        if len(self._oldest) >= MOST:
            return None
        self._sequence = sequence = (self._sequence + 1) % SEQUENCES
        token = int.from_bytes(self._random_bytes(8), "big")
        port = FIRST_PORT + sequence % PORTS if send.kind is Kind.INNER_UDP else 0
        flight = Flight(owner, send, address, sequence, token, port, now)
        self._oldest.append(flight)
        if port:
            self._ports[port] = flight
        else:
            self._flights[sequence] = flight
        return flight

    def forget(self, flight: Flight[Owner]) -> None:
        """It did not leave, or its time is over. Only the oldest and the newest can be forgotten."""
        if self._oldest[0] is flight:
            self._oldest.popleft()
        else:
            self._oldest.pop()
        known, place = (self._ports, flight.port) if flight.port else (self._flights, flight.sequence)
        if known.get(place) is flight:
            del known[place]

    def of(self, answer: packet.Answer) -> Flight[Owner] | None:
        """The packet that this is an answer to; None if it is none, or not surely."""
        udp = answer.protocol == packet.UDP
        flight = self._ports.get(answer.sequence) if udp else self._flights.get(answer.sequence)
        if flight is None or flight.address != answer.target:
            return None
        if answer.token is None:
            return flight if answer.size == flight.send.size else None
        return flight if answer.token == flight.token else None


def meaning(answer: packet.Answer, flight: Flight[Owner], arrived: float) -> Answer | None:
    """What an answer to this packet says of its probe; None if nothing. `arrived` is monotonic seconds."""
    send = flight.send
    if answer.kind is packet.Kind.REPLY:
        # Some endpoints send back less than they got (RFC 1122, 3.2.2.6 forbids it). That says how much came through on
        # the way there, which is what outer probes are for; of the way back it says nothing.
        if answer.size != send.size and flight.layer is Layer.INNER:
            return None
        return Passed(send.probe, max(arrived - flight.sent, 0.0), answer.fragment or None)
    if answer.kind is packet.Kind.TOO_BIG:
        return TooBig(send.probe, str(ip_address(answer.sender)), answer.mtu, flight.layer)
    if answer.kind is packet.Kind.TIME_EXCEEDED:
        return TimeExceeded(send.probe, str(ip_address(answer.sender))) if send.ttl else None
    # Refused by the target itself, so it arrived there: no such port, or a firewall's "prohibited". A router's own
    # refusal says nothing of that.
    if send.kind is Kind.INNER_UDP and answer.sender == flight.address:
        return Refused(send.probe)
    return None
