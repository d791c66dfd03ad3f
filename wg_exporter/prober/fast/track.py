"""One peer with fast echoes: which of the last ones were answered, and whether it is up.

**Down** is a peer when as many echoes in a row as its multiplier were sent since the last that was answered, and the
last of these has had its time too: an interval, or what an answer takes (RFC 6298, 2), whichever is longer. So each of
them has had a fair chance, and a random loss of a part p looks like an outage as often as p to the power of the
multiplier says. It counts echoes that were sent and not seconds, so a host that stands still for a second finds nobody
down. **Up** it is when as many in a row were answered, in whatever order the answers came. Before the first of both
nothing is known.

No clock: times are monotonic seconds.
"""

from __future__ import annotations

from array import array
from ipaddress import ip_address
from typing import NamedTuple

LEAST_INTERVAL, MOST_MULTIPLIER = 0.05, 50  # as in `config.fast`
LONGEST_WAIT = 1.0  # seconds: an answer that takes longer is none
KEPT = 256  # echoes that are remembered: twice those of `LONGEST_WAIT` and the largest multiplier, at least
RENEW_AFTER = 10  # echoes in a row without an answer, at least, until they get a new ident


class FastTarget(NamedTuple):
    """Whom to ask, how often, and how many answers make a state. `id` is the caller's name for the peer.

    `netns` is the name of the namespace of the device, empty for our own; `ifindex` is the device that the echo has to
    leave by. `interval` is in seconds.
    """

    id: int
    netns: str
    ifindex: int
    address: str
    interval: float
    multiplier: int


class FastTrack:
    """A peer and its last echoes, which are numbered from 0. `message` belongs to the sender."""

    __slots__ = (
        "_answered", "_between", "_sent_at", "address", "due", "ident", "last_answered", "message", "number",
        "renewed_at", "sequence", "target", "up", "wait",
    )  # fmt: skip

    def __init__(self, target: FastTarget, ident: int, sequence: int) -> None:
        """`ident` and `sequence` are those of the first echo. ValueError if the address is no IP address."""
        self.target = target
        self.address = ip_address(target.address).packed
        self.message: object = None
        self.ident = ident
        self.sequence = sequence
        self.due = 0.0  # of the next echo
        self.number = 0  # of the next echo
        self.renewed_at = 0  # the first number with this ident
        self.last_answered = -1
        self.up: bool | None = None
        self.wait = 0.0  # for an answer
        self._between: tuple[float, float] | None = None  # the round trip, smoothed, and how much it varies
        self._sent_at = array("d", bytes(8 * KEPT))
        self._answered = bytearray(KEPT)
        self._set_wait()

    def aim(self, target: FastTarget) -> None:
        """The same address, asked in another way."""
        self.target = target
        self.message = None
        self._set_wait()

    def send(self, now: float) -> int:
        """An echo is sent now. Returns its number."""
        number = self.number
        self._sent_at[number % KEPT] = now
        self._answered[number % KEPT] = 0
        self.number += 1
        return number

    def answer(self, number: int, arrived: float) -> None:
        """An answer to this echo came in time, the first to it."""
        self._measure(min(max(arrived - self._sent_at[number % KEPT], 0.0), LONGEST_WAIT))
        self._answered[number % KEPT] = 1
        self.last_answered = max(self.last_answered, number)
        if not self.up and self._in_a_row(number) >= self.target.multiplier:
            self.up = True

    def restart(self) -> None:
        """Nothing is known any more; what was sent so far says nothing."""
        self.up = None
        self.last_answered = self.number - 1
        self._answered = bytearray(KEPT)

    def deadline(self) -> float | None:
        """When it is down unless an answer comes before; None while too few echoes were sent since the last one."""
        if self.up is False:
            return None
        last = self.last_answered + self.target.multiplier
        if last >= self.number:
            return None
        return self._sent_at[last % KEPT] + self.wait if self.number - last <= KEPT else float("-inf")

    def look(self, now: float) -> bool:
        """Find out whether it has gone down. Returns whether it has."""
        deadline = self.deadline()
        if deadline is None or deadline > now:
            return False
        self.up = False
        return True

    @property
    def stale(self) -> bool:
        """Whether its echoes should have a new ident: NATs know an echo by it, and may lead this one nowhere."""
        unanswered = self.number - max(self.last_answered + 1, self.renewed_at)
        return unanswered >= max(self.target.multiplier, RENEW_AFTER)

    def _in_a_row(self, number: int) -> int:
        """How many echoes around this one were answered, without a gap."""
        first = last = number
        oldest = max(self.number - KEPT, 0)
        while first > oldest and self._answered[(first - 1) % KEPT]:
            first -= 1
        while last + 1 < self.number and self._answered[(last + 1) % KEPT]:
            last += 1
        return last - first + 1

    def _measure(self, rtt: float) -> None:
        """RFC 6298, section 2: the smoothed round trip and its variation."""
        if self._between is None:
            self._between = rtt, rtt / 2
        else:
            smoothed, variation = self._between
            self._between = smoothed + (rtt - smoothed) / 8, variation + (abs(rtt - smoothed) - variation) / 4
        self._set_wait()

    def _set_wait(self) -> None:
        smoothed, variation = self._between or (0.0, 0.0)
        self.wait = max(self.target.interval, min(smoothed + 4 * variation, LONGEST_WAIT))
