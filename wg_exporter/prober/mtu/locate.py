"""Where full-size packets are lost: in which direction (P4), and behind which router (P7). Each asks once.

P4: an echo may be lost on the way there or on the way back. A UDP datagram to a closed port is answered by a
port-unreachable, which is smaller (RFC 1122, 3.2.2.1). If a full-size datagram is refused, it arrived, so echoes are
lost on the way back. If it isn't, either the datagram or its refusal was lost. So a smaller datagram goes beside it,
whose refusal is as large: if that one is refused, refusals do come back, and the full-size one was lost on the way
there.

P7: probes to the endpoint with every TTL at once, a full-size and a small one each. The last router at which the
full-size one ran out of TTL, while the small one got further, stands before the link that is too small.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.prober.mtu.probes import NEVER, SMALL, NotSent, Passed, ProbeKind, Refused, TimeExceeded, TooBig, Want

if TYPE_CHECKING:
    from wg_exporter.prober.mtu.probes import Answer, Patience

HOPS = 20  # with a full-size and a small probe each, about the 32 kB that a round may have
REFUSED_V4 = 548  # bytes: an error quotes what fits into 576 (RFC 1812, 4.3.2.3; net/ipv4/icmp.c)
REFUSED_V6 = 1232  # bytes: the same, into 1280 (RFC 4443, 2.4 c)
PACE = 0.005  # seconds between the probes of one TTL and the next


class Direction(StrEnum):
    """On which way full-size packets are lost."""

    UNKNOWN = "unknown"
    TOWARDS = "towards"  # from this host to the peer
    BACK = "back"


class Ways:
    """P4: two full-size datagrams and two smaller ones to a closed port."""

    def __init__(self, size: int, patience: Patience, now: float, *, ipv6: bool) -> None:
        """`size` is that of the whole IP packet in bytes. `ipv6`: the target is an IPv6 address."""
        self.done = False
        self.direction = Direction.UNKNOWN
        self._size = size
        self._patience = patience
        self._due = now
        self._sends = 0
        self._smaller = min(REFUSED_V6 if ipv6 else REFUSED_V4, size - 1)
        self._refused = {size: False, self._smaller: False}

    def poll(self, now: float) -> list[Want]:
        """A datagram of each size; after a wait, one more of each that was not refused."""
        if self.done or now < self._due:
            return []
        self._due = now + self._patience.wait()
        self._sends += 1
        if self._sends > 2:
            self.done = True
            return []
        return [Want(ProbeKind.INNER_UDP, size, tag=size) for size in self._refused if not self._refused[size]]

    def next_time(self) -> float:
        """When to send again, or to give up."""
        return NEVER if self.done else self._due

    def handle(self, want: Want, answer: Answer, now: float) -> None:  # noqa: ARG002 - all machines have this shape
        """Take a refusal. That of a full-size datagram ends the search."""
        if isinstance(answer, Refused):
            self._refused[want.tag] = True
            if self._refused[self._size]:
                self.direction, self.done = Direction.BACK, True
            elif self._refused[self._smaller]:
                self.direction = Direction.TOWARDS


class Shrink(NamedTuple):
    """Where the path becomes too small: behind `hop` (empty = not found), `distance` routers away.

    `certain`: a router said so with a packet-too-big. Otherwise it follows from the last router that answered.
    """

    hop: str
    distance: int
    certain: bool


class Hops:
    """P7: which router is the last that a packet of `size` reaches."""

    def __init__(self, size: int, patience: Patience, now: float) -> None:
        self.done = False
        self._size = size
        self._patience = patience
        self._due = now
        self._ttl = 0
        self._reached: dict[int, str] = {}  # TTL -> the router at which the full-size probe ran out
        self._small: int = 0  # the largest TTL at which a small probe brought an answer
        self._arrived = False
        self._said: tuple[int, str] | None = None  # the least TTL that brought a packet-too-big, and its sender

    def poll(self, now: float) -> list[Want]:
        """A full-size and a small probe for the next TTL."""
        if self.done or now < self._due:
            return []
        if self._ttl == HOPS:
            self.done = True
            return []
        self._ttl += 1
        self._due = now + (PACE if self._ttl < HOPS else self._patience.wait())
        # Positive tags are full-size probes, negative ones small.
        return [
            Want(ProbeKind.OUTER_ECHO, self._size, tag=self._ttl, ttl=self._ttl),
            Want(ProbeKind.OUTER_ECHO, SMALL, tag=-self._ttl, ttl=self._ttl),
        ]

    def next_time(self) -> float:
        """When to send for the next TTL, or when the search ends."""
        return NEVER if self.done else self._due

    def handle(self, want: Want, answer: Answer, now: float) -> None:  # noqa: ARG002 - all machines have this shape
        """Take an answer of a router or of the endpoint."""
        if isinstance(answer, NotSent):
            return
        if want.tag < 0:
            if isinstance(answer, Passed | TimeExceeded):
                self._small = max(self._small, -want.tag)
        elif isinstance(answer, TimeExceeded):
            self._reached[want.tag] = answer.hop
        elif isinstance(answer, Passed):
            self._arrived = True
        elif isinstance(answer, TooBig) and (self._said is None or want.tag < self._said[0]):
            self._said = (want.tag, answer.reporter)

    def found(self) -> Shrink | None:
        """Where it shrinks; None if full-size packets arrive, or nothing is known."""
        if self._arrived:
            return None
        last = max(self._reached, default=0)
        if self._said and self._said[0] > last:
            return Shrink(self._said[1], self._said[0] - 1, certain=True)
        if self._small > last > 0:
            return Shrink(self._reached[last], last, certain=False)
        return None
