"""Where full-size packets are lost: in which direction (P4), and behind which router (P7). Each asks once.

P4: an echo may be lost on the way there, on the way back, or by a filter that likes no large echoes. A UDP datagram to
a closed port is answered by an ICMP error, which is small (RFC 1122, 3.2.2.1). If a full-size datagram is refused, it
arrived. If none of several is, while smaller ones beside them are, full-size packets are lost on the way there: no
filter of echoes does that.

A full line loses large packets more often than small ones, but two of nearly the same size alike. So beside the largest
size that is known to pass goes one that is 16 bytes larger, and a hole has the edge between the two. Echoes show the
same edge: as WireGuard pads to 16 bytes, one byte more than what passes is lost in a hole under the tunnel. Datagrams
are not so small that a refusal of one would be smaller than that of the full size. Larger ones leave first, so that a
peer that refuses only so often refuses those.

P7: probes to the endpoint with every TTL at once, a full-size and a small one each. The last router at which the
full-size one ran out of TTL, while the small one got further, stands before the link that is too small.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from math import comb
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.prober.mtu.probes import (
    NEVER,
    PADDING,
    SMALL,
    LocalTooBig,
    NotSent,
    Passed,
    ProbeKind,
    Refused,
    TimeExceeded,
    TooBig,
    Want,
)

if TYPE_CHECKING:
    from wg_exporter.prober.mtu.probes import Answer, Patience

HOPS = 20  # with a full-size and a small probe each, about the 32 kB that a round may have
REFUSED_V4 = 548  # bytes: an error quotes what fits into 576 (RFC 1812, 4.3.2.3; net/ipv4/icmp.c)
REFUSED_V6 = 1232  # bytes: the same, into 1280 (RFC 4443, 2.4 c)
PACE = 0.005  # seconds between the probes of one TTL and the next

GAP, LONG_GAP = 0.2, 1.2  # seconds between two rounds
QUICK_ROUNDS = 6  # Linux refuses six datagrams at once and then one a second (net/ipv4/icmp.c), others one a second
MOST_ROUNDS = 14
MOST_STEPS = 2
CHANCE = 2e-3  # that two sizes which pass equally often look like an edge: reached after 6 rounds if nothing is lost


class Direction(StrEnum):
    """On which way full-size packets are lost."""

    UNKNOWN = "unknown"
    TOWARDS = "towards"  # from this host to the peer
    BACK = "back"


class _Part(IntEnum):
    """The packets of a round, in the order in which they leave."""

    FULL = 0  # datagrams
    NEXT = 1
    PASSED = 2
    ECHO_NEXT = 3
    ECHO_PASSED = 4


class Ways:
    """P4. `direction`, where it isn't unknown, and `sharp` are proven at any time.

    `sharp`: echoes of the largest size that passes came back, and none of one byte more.
    """

    def __init__(self, size: int, passed: int, patience: Patience, now: float, *, ipv6: bool, lossy: bool) -> None:
        """`size` is that of the whole IP packet in bytes, `passed` the largest size that is known to pass. `ipv6`: the
        target is an IPv6 address. `lossy`: small packets are lost too, so take time."""
        self.done = False
        self.direction = Direction.UNKNOWN
        self.sharp = False
        self.lossy = lossy
        self._patience = patience
        self._due = now
        smaller = min(max(passed, REFUSED_V6 if ipv6 else REFUSED_V4), size - 1)
        self._sizes = {
            _Part.FULL: size,
            _Part.NEXT: min(smaller + PADDING, size),
            _Part.PASSED: smaller,
            _Part.ECHO_NEXT: passed + 1,
            _Part.ECHO_PASSED: passed,
        }
        self._echoes = passed > 0
        self._first = 0  # the first round with the present sizes
        self._steps = 0
        self._sent: list[float] = []  # when each round left
        self._unsent: set[int] = set()  # rounds that did not leave as a whole
        self._back: set[tuple[_Part, int]] = set()  # what was refused or answered, and in which round

    def poll(self, now: float) -> list[Want]:
        """The next round; after the last one, a wait."""
        if self.done or now < self._due:
            return []
        self._judge(now)
        parts = self._open()
        if not parts:
            self.done = True
            return []
        number = len(self._sent)
        self._sent.append(now)
        count = len(self._sent) - self._first
        if count < QUICK_ROUNDS and not self.lossy:
            self._due = now + GAP
        else:
            self._due = now + (self._patience.wait() if count in (QUICK_ROUNDS, MOST_ROUNDS) else LONG_GAP)
        return [
            Want(
                ProbeKind.INNER_UDP if part < _Part.ECHO_NEXT else ProbeKind.INNER_ECHO,
                self._sizes[part],
                tag=number * len(_Part) + part,
            )
            for part in parts
        ]

    def next_time(self) -> float:
        """When to send again, or to give up."""
        return NEVER if self.done else self._due

    def handle(self, want: Want, answer: Answer, now: float) -> None:  # noqa: ARG002 - all machines have this shape
        """Take an answer. A full-size datagram that is refused, however late, tells the direction at once."""
        number, place = divmod(want.tag, len(_Part))
        part = _Part(place)
        if isinstance(answer, NotSent | LocalTooBig):
            self._unsent.add(number)
        elif isinstance(answer, Refused | Passed):
            self._back.add((part, number))
            if part is _Part.FULL or (part is _Part.NEXT and want.size == self._sizes[_Part.FULL]):
                self.direction = Direction.BACK
            elif part is _Part.NEXT and number >= self._first:
                self._step_up()

    def _step_up(self) -> None:
        """More passes than was known, as by chance the search may have lost what does pass."""
        self._steps += 1
        self._first = len(self._sent)
        if self._steps > MOST_STEPS:  # the edge is somewhere else, and refusals of this size take the place of others
            return
        self._sizes[_Part.PASSED] = self._sizes[_Part.NEXT]
        self._sizes[_Part.NEXT] = min(self._sizes[_Part.PASSED] + PADDING, self._sizes[_Part.FULL])

    def _open(self) -> list[_Part]:
        """What is still to be asked."""
        sent, back = len(self._sent) - self._first, {part for part, _ in self._back}
        if sent >= MOST_ROUNDS:
            return []
        quick = sent < QUICK_ROUNDS
        datagrams = self.direction is Direction.UNKNOWN and (quick or _Part.PASSED in back)
        echoes = (
            self._echoes and not self.sharp and _Part.ECHO_NEXT not in back and (quick or _Part.ECHO_PASSED in back)
        )
        parts = [_Part.FULL, _Part.NEXT, _Part.PASSED] if datagrams else []
        if datagrams and self._steps > MOST_STEPS:
            parts.remove(_Part.NEXT)
        return parts + ([_Part.ECHO_NEXT, _Part.ECHO_PASSED] if echoes else [])

    def _judge(self, now: float) -> None:
        wait = self._patience.wait()
        over = {number for number, sent in enumerate(self._sent) if now >= sent + wait} - self._unsent
        enough = MOST_ROUNDS - 1 if self.lossy else 0
        if len(over) >= enough and not self._count(_Part.ECHO_NEXT, over):
            self.sharp = self.sharp or _edge(len(over), self._count(_Part.ECHO_PASSED, over))
        over = {number for number in over if number >= self._first}
        if self.direction is not Direction.UNKNOWN or len(over) < enough:
            return
        passed = self._count(_Part.PASSED, over)
        # Where echoes are filtered, the edge is at another size. Then hardly one of the smaller may be lost.
        elsewhere = len(over) >= MOST_ROUNDS - 1 and passed >= len(over) - 1
        sharp = self._steps <= MOST_STEPS and not self._count(_Part.NEXT, over)
        if elsewhere or (sharp and _edge(len(over), passed)):
            self.direction = Direction.TOWARDS

    def _count(self, part: _Part, rounds: set[int]) -> int:
        return sum((part, number) in self._back for number in rounds)


def _edge(rounds: int, passed: int) -> bool:
    """Whether it can't be chance that one size passed so often in these rounds, and another one never."""
    return comb(rounds, passed) / comb(2 * rounds, passed) <= CHANCE


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
