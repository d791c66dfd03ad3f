"""Which probe does an answer belong to? All packets in flight, of all peers, and what an answer says of its probe.

A packet is found by its address, ident and sequence number, a datagram by the address and the port that it went to.
An answer counts only if it also has the packet's token, 64 random bits that only those know who saw the packet. A
router may quote too little in an error to hold the token (RFC 792 asks for 8 bytes). Then the size and, over IPv4, the
checksum have to fit, which is made of the token too; and one such error alone proves nothing (`repeats`). Idents,
sequence numbers and ports are drawn at random, so that whoever sees the probes to one peer can't guess those to others.

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
DRAWS = 16  # of a number, until one is free
FIRST_PORT, PORTS = 33_434, 4_096  # those of traceroute, as hardly anything listens there

Owner = TypeVar("Owner")
_Key = tuple[bytes, int, int]  # address, ident and sequence number; or address, 0 and port


class Outgoing(NamedTuple, Generic[Owner]):
    """A packet in flight: whose it is, what was asked for, and what it looks like. `sent` is monotonic seconds."""

    owner: Owner
    send: Send
    address: bytes
    ident: int
    sequence: int
    token: int
    port: int
    sent: float

    @property
    def layer(self) -> Layer:
        """On which side of the encryption it travels."""
        return Layer.OUTER if self.send.kind is ProbeKind.OUTER_ECHO else Layer.INNER

    @property
    def key(self) -> _Key:
        """What finds it."""
        return (self.address, 0, self.port) if self.port else (self.address, self.ident, self.sequence)


class InFlight(Generic[Owner]):
    """All packets in flight."""

    def __init__(self, timeout: float, random_bytes: Callable[[int], bytes], tag: int = 0) -> None:
        """A packet is remembered for `timeout` seconds. `tag` is that of the sockets, which the checksum contains."""
        self._timeout = timeout
        self._random_bytes = random_bytes
        self._tag = tag
        self._known: dict[_Key, Outgoing[Owner]] = {}
        self._oldest: deque[Outgoing[Owner]] = deque()

    def __len__(self) -> int:
        return len(self._oldest)

    def start(self, owner: Owner, send: Send, address: bytes, ident: int, now: float) -> Outgoing[Owner] | None:
        """Give numbers and a token to a packet that is about to leave; None if `MOST` are in flight."""
        while self._oldest and now >= self._oldest[0].sent + self._timeout:
            self.forget(self._oldest[0])
        if len(self._oldest) >= MOST:
            return None
        token = int.from_bytes(self._random_bytes(8), "big")
        for _ in range(DRAWS):
            sequence = int.from_bytes(self._random_bytes(2), "big")
            port = FIRST_PORT + sequence % PORTS if send.kind is ProbeKind.INNER_UDP else 0
            outgoing = Outgoing(owner, send, address, ident, sequence, token, port, now)
            if outgoing.key not in self._known:
                break
        self._oldest.append(outgoing)
        self._known[outgoing.key] = outgoing
        return outgoing

    def forget(self, outgoing: Outgoing[Owner]) -> None:
        """Forget a packet that did not leave or timed out: only the oldest or the newest."""
        if self._oldest[0] is outgoing:
            self._oldest.popleft()
        else:
            self._oldest.pop()
        if self._known.get(outgoing.key) is outgoing:
            del self._known[outgoing.key]

    def of(self, answer: packet.IcmpAnswer) -> Outgoing[Owner] | None:
        """The packet that this answers, or seems to if it has no token; None if there is none."""
        ident = 0 if answer.protocol == packet.UDP else answer.ident
        outgoing = self._known.get((answer.target, ident, answer.sequence))
        if outgoing is None:
            return None
        if answer.token is None:
            return outgoing if answer.size == outgoing.send.size and self._checksum_fits(answer, outgoing) else None
        return outgoing if answer.token == outgoing.token else None

    def _checksum_fits(self, answer: packet.IcmpAnswer, outgoing: Outgoing[Owner]) -> bool:
        """Over IPv6 the kernel makes it, and over IPv4 our datagrams have none."""
        if answer.protocol != packet.ICMP:
            return True
        return answer.checksum == packet.checksum_v4(outgoing.ident, outgoing.sequence, outgoing.token, self._tag)


def meaning(
    answer: packet.IcmpAnswer, outgoing: Outgoing[Owner], arrived: float, *, tunnelled: bool = False
) -> Answer | None:
    """What an answer to this packet says of its probe; None if nothing. `arrived` is monotonic seconds.

    `tunnelled`: it came out of the device that the packet left by.
    """
    send = outgoing.send
    if answer.kind is packet.IcmpKind.REPLY:
        # Some endpoints send back less than they got (RFC 1122, 3.2.2.6 forbids it). That proves what came through on
        # the way there, which is all that outer probes ask; it proves nothing about the way back.
        if answer.size != send.size and outgoing.layer is Layer.INNER:
            return None
        return Passed(send.probe, max(arrived - outgoing.sent, 0.0), answer.fragment or None)
    if answer.kind is packet.IcmpKind.TOO_BIG:
        return TooBig(send.probe, str(ip_address(answer.sender)), answer.mtu, outgoing.layer)
    # Whoever refuses a datagram has got it, whole: the target (no such port), or a router or firewall behind the peer
    # (prohibited, no such host, TTL exceeded). What this host refuses itself does not come out of the tunnel.
    if send.kind is ProbeKind.INNER_UDP:
        return Refused(send.probe) if tunnelled or answer.sender == outgoing.address else None
    if answer.kind is packet.IcmpKind.TIME_EXCEEDED and send.ttl:
        return TimeExceeded(send.probe, str(ip_address(answer.sender)))
    return None
