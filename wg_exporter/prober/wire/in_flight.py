"""Which probe does an answer belong to? All packets in flight, of all peers, and what an answer says of its probe.

A packet is found by its sequence number. An answer counts only if it also fits the address that the packet went to and
its token, 64 random bits that only those know who saw the packet. A router may quote too little in an error to hold the
token (RFC 792 asks for 8 bytes); then address, sequence number and size have to fit, besides the ident that the
socket's filter checks. UDP has no sequence number, so a datagram is found by the port that it was sent to.

Memory is bounded by `MOST`, whoever is silent and whoever floods. No clock: `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from ipaddress import ip_address
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from wg_exporter.prober.mtu.probes import Layer, Passed, ProbeKind, Refused, TimeExceeded, TooBig
from wg_exporter.prober.wire import packet

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.prober.mtu.probes import Answer, Send

MOST = 16_384  # packets in flight: 5,000 a second for 3 s
SEQUENCES = 1 << 16
FIRST_PORT, PORTS = 33_434, 4_096  # those of traceroute, as hardly anything listens there

Owner = TypeVar("Owner")


class Outgoing(NamedTuple, Generic[Owner]):
    """A packet in flight: whose it is, what was asked for, and what it looks like. `sent` is monotonic seconds."""

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
        return Layer.OUTER if self.send.kind is ProbeKind.OUTER_ECHO else Layer.INNER


class InFlight(Generic[Owner]):
    """All packets in flight, by sequence number and, of datagrams, by port."""

    def __init__(self, timeout: float, random_bytes: Callable[[int], bytes]) -> None:
        """A packet is remembered for `timeout` seconds."""
        self._timeout = timeout
        self._random_bytes = random_bytes
        self._echoes: dict[int, Outgoing[Owner]] = {}
        self._ports: dict[int, Outgoing[Owner]] = {}
        self._oldest: deque[Outgoing[Owner]] = deque()
        self._sequence = int.from_bytes(random_bytes(2), "big")

    def __len__(self) -> int:
        return len(self._oldest)

    def start(self, owner: Owner, send: Send, address: bytes, now: float) -> Outgoing[Owner] | None:
        """Give a number and a token to a packet that is about to leave; None if `MOST` are in flight."""
        while self._oldest and now >= self._oldest[0].sent + self._timeout:
            self.forget(self._oldest[0])
        if len(self._oldest) >= MOST:
            return None
        self._sequence = sequence = (self._sequence + 1) % SEQUENCES
        token = int.from_bytes(self._random_bytes(8), "big")
        port = FIRST_PORT + sequence % PORTS if send.kind is ProbeKind.INNER_UDP else 0
        outgoing = Outgoing(owner, send, address, sequence, token, port, now)
        self._oldest.append(outgoing)
        if port:
            self._ports[port] = outgoing
        else:
            self._echoes[sequence] = outgoing
        return outgoing

    def forget(self, outgoing: Outgoing[Owner]) -> None:
        """Forget a packet that did not leave or timed out: only the oldest or the newest."""
        if self._oldest[0] is outgoing:
            self._oldest.popleft()
        else:
            self._oldest.pop()
        known, place = (self._ports, outgoing.port) if outgoing.port else (self._echoes, outgoing.sequence)
        if known.get(place) is outgoing:
            del known[place]

    def of(self, answer: packet.IcmpAnswer) -> Outgoing[Owner] | None:
        """The packet that this answers; None unless that is certain."""
        udp = answer.protocol == packet.UDP
        outgoing = self._ports.get(answer.sequence) if udp else self._echoes.get(answer.sequence)
        if outgoing is None or outgoing.address != answer.target:
            return None
        if answer.token is None:
            return outgoing if answer.size == outgoing.send.size else None
        return outgoing if answer.token == outgoing.token else None


def meaning(answer: packet.IcmpAnswer, outgoing: Outgoing[Owner], arrived: float) -> Answer | None:
    """What an answer to this packet says of its probe; None if nothing. `arrived` is monotonic seconds."""
    send = outgoing.send
    if answer.kind is packet.IcmpKind.REPLY:
        # Some endpoints send back less than they got (RFC 1122, 3.2.2.6 forbids it). That proves what came through on
        # the way there, which is all that outer probes ask; it proves nothing about the way back.
        if answer.size != send.size and outgoing.layer is Layer.INNER:
            return None
        return Passed(send.probe, max(arrived - outgoing.sent, 0.0), answer.fragment or None)
    if answer.kind is packet.IcmpKind.TOO_BIG:
        return TooBig(send.probe, str(ip_address(answer.sender)), answer.mtu, outgoing.layer)
    if answer.kind is packet.IcmpKind.TIME_EXCEEDED:
        return TimeExceeded(send.probe, str(ip_address(answer.sender))) if send.ttl else None
    # A refusal by the target itself (no such port, or a firewall's "prohibited") proves that the datagram arrived; that
    # of a router does not.
    if send.kind is ProbeKind.INNER_UDP and answer.sender == outgoing.address:
        return Refused(send.probe)
    return None
