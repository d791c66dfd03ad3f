"""Two ends of a tunnel as the kernel has them: keys, timers, sizes (drivers/net/wireguard: timers.c, send.c, noise.c).

Counted are the bytes that WireGuard counts. What is simulated is all that decides when something is sent: who made the
key and how old it is, what waits for an answer, what was acknowledged. What is not: cookies, counters, padding of
single packets, roaming of both ends at once.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tests.day.loop import WALL

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.day.loop import Loop

Then: TypeAlias = "Callable[[End], object] | None"

INITIATION, RESPONSE, KEEPALIVE = 148, 92, 32  # bytes on the wire
REKEY_AFTER, REJECT_AFTER, REKEY_TIMEOUT, KEEPALIVE_TIMEOUT = 120.0, 180.0, 5.0, 10.0
JITTER = 1 / 3  # seconds, at most, on top of REKEY_TIMEOUT
MAX_ATTEMPTS = 18  # MAX_TIMER_HANDSHAKES: 90 s of tries
MAX_STAGED = 128  # packets that wait for a key


class Path:
    """What is between two ends. `loss` of the packets are lost, each way; a way that is not open loses all of them."""

    __slots__ = ("latency", "loss", "open", "rng")

    def __init__(self, rng: Random, loss: float = 0.0, latency: float = 0.02) -> None:
        self.rng, self.loss, self.latency = rng, loss, latency
        self.open = {True: True, False: True}  # True: away from us

    def carries(self, away: bool, packets: int) -> int:
        """How many of so many packets arrive."""
        if not self.open[away]:
            return 0
        if not self.loss:
            return packets
        return sum(self.rng.random() >= self.loss for _ in range(packets))


class Data(NamedTuple):
    """Some packets of one size on the wire. `then` is called with the end at which they arrive."""

    size: int
    packets: int
    then: Then


class Key:
    """A session's keys, and who asked for them."""

    __slots__ = ("born", "initiator")

    def __init__(self, born: float, initiator: End) -> None:
        self.born, self.initiator = born, initiator


class End:
    """One end, as its peer entry on that host. Our own end is the one that is `away`: it sends away from us."""

    __slots__ = (
        "_asked", "_attempts", "_current", "_last_minute", "_last_sent", "_more_keepalive", "_next", "_previous",
        "_staged", "_timers", "_wake", "address", "away", "endpoint", "handshake_ns", "keepalive", "loop", "on",
        "other", "path", "rx", "tx",
    )  # fmt: skip

    other: End
    rx: int
    tx: int
    handshake_ns: int

    def __init__(self, loop: Loop, path: Path, *, away: bool, keepalive: int = 0) -> None:
        self.loop, self.path, self.away, self.keepalive = loop, path, away, keepalive
        self.on = True
        self.address = 1  # where this end is; another number is another place
        self.endpoint = 1  # where the other end was last heard, or is by configuration; 0 = nobody knows
        self._wake = inf
        self.make_anew()

    def make_anew(self) -> None:
        """The device is set up: no keys, all counters at 0."""
        self.rx = self.tx = 0
        self.handshake_ns = 0
        self._current: Key | None = None
        self._next: Key | None = None
        self._previous: Key | None = None
        self._staged: list[Data] = []
        self._asked: object | None = None  # our initiation that may be responded to
        self._attempts = 0
        self._last_sent = -inf
        self._last_minute = self._more_keepalive = False
        # retransmit, keepalive, new handshake, persistent keepalive, forget the keys
        self._timers = [inf] * 5
        if self.keepalive:
            self._set(3, self.loop.now + self.path.rng.uniform(0.01, 5 if self.loop.now else 120))

    # --- what people do ---

    def send(self, size: int, packets: int = 1, then: Then = None) -> None:
        """Send data: so many packets of so many bytes on the wire each. `then` is called where they arrive."""
        if not self.on:
            return
        if len(self._staged) >= MAX_STAGED:
            del self._staged[0]
        self._staged.append(Data(size, packets, then))
        self._send_staged()

    # --- sending ---

    def _put(self, receive: Callable[..., object], *what: object, size: int, packets: int = 1) -> None:
        """On the wire, where it is counted, whatever becomes of it."""
        if not self.endpoint:
            return
        self.tx += size * packets
        if self.endpoint == self.other.address and (arrived := self.path.carries(self.away, packets)):
            self.loop.at(self.loop.now + self.path.latency, receive, *what, arrived)

    def _send_staged(self) -> None:
        now, key = self.loop.now, self._current
        if key is None or now - key.born >= REJECT_AFTER:
            self._initiate(retry=False)
            return
        staged, self._staged = self._staged, []
        for data in staged:
            self._put(self.other.take_data, key, data, size=data.size, packets=data.packets)
            self._traversed(now)
            self._timers[1] = inf
            if data.size > KEEPALIVE and self.endpoint and self._timers[2] == inf:
                self._set(2, now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self.path.rng.random() * JITTER)
        if key.initiator is self and now - key.born >= REKEY_AFTER:
            self._initiate(retry=False)

    def _send_keepalive(self) -> None:
        if not self._staged:
            self._staged.append(Data(KEEPALIVE, 1, None))
        self._send_staged()

    def _initiate(self, *, retry: bool) -> None:
        now = self.loop.now
        if not retry:
            self._attempts = 0
        if now - self._last_sent < REKEY_TIMEOUT:
            return
        self._last_sent = now
        self._traversed(now)
        self._timers[1] = inf
        self._asked = asked = object()
        self._put(self.other.take_initiation, asked, size=INITIATION)
        self._set(0, now + REKEY_TIMEOUT + self.path.rng.random() * JITTER)

    def _respond(self, asked: object) -> None:
        now = self.loop.now
        self._last_sent = now
        self._asked = None
        key = Key(now, self.other)
        self._next, self._previous = key, None
        self._set(4, now + REJECT_AFTER * 3)
        self._traversed(now)
        self._timers[1] = inf
        self._put(self.other.take_response, asked, key, size=RESPONSE)

    def _traversed(self, now: float) -> None:
        if self.keepalive:
            self._set(3, now + self.keepalive)

    # --- receiving ---

    def take_initiation(self, asked: object, _packets: int) -> None:
        """Somebody wants a new key."""
        if self.on:
            self._took(INITIATION)
            self._respond(asked)

    def take_response(self, asked: object, key: Key, _packets: int) -> None:
        """The answer to our initiation, if it is to the last one."""
        if not self.on or asked is not self._asked:
            return
        self._asked = None
        if self._next is not None:
            self._previous, self._next = self._next, None
        else:
            self._previous = self._current
        self._current = key
        self._set(4, self.loop.now + REJECT_AFTER * 3)
        self._took(RESPONSE)
        self._complete()
        self._send_keepalive()

    def take_data(self, key: Key, data: Data, packets: int) -> None:
        """Data or a keepalive. What can't be decrypted is neither counted nor answered."""
        now = self.loop.now
        known = key is self._current or key is self._next or key is self._previous
        if not self.on or not known or now - key.born >= REJECT_AFTER:
            return
        if key is self._next:
            self._previous, self._current, self._next = self._current, key, None
            self._complete()
            if self._staged:
                self._send_staged()
        self._took(data.size * packets)
        current = self._current
        late = REJECT_AFTER - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
        if current is not None and current.initiator is self and not self._last_minute and now - current.born >= late:
            self._last_minute = True
            self._initiate(retry=False)
        if data.size > KEEPALIVE:
            if self._timers[1] == inf:
                self._set(1, now + KEEPALIVE_TIMEOUT)
            else:
                self._more_keepalive = True
        if data.then is not None:
            data.then(self)

    def _took(self, size: int) -> None:
        self.rx += size
        self.endpoint = self.other.address
        self._timers[2] = inf
        self._traversed(self.loop.now)

    def _complete(self) -> None:
        self._timers[0] = inf
        self._attempts = 0
        self._last_minute = False
        self.handshake_ns = int((WALL + self.loop.now) * 1e9)

    # --- timers ---

    def _set(self, timer: int, when: float) -> None:
        self._timers[timer] = when
        if when < self._wake:
            self._wake = when
            self.loop.at(when, self._fire, when)

    def _fire(self, when: float) -> None:
        """Timers are mostly put off, so one call in the calendar serves them all, and asks what is really due."""
        if when != self._wake:
            return  # an earlier one was set meanwhile
        self._wake = inf
        now, timers = self.loop.now, self._timers
        for timer, expired in enumerate((self._retry, self._passive, self._unanswered, self._persistent, self._forget)):
            if timers[timer] <= now:
                timers[timer] = inf
                if self.on:
                    expired()
        earliest = min(self._timers)
        if earliest < self._wake:
            self._wake = earliest
            self.loop.at(earliest, self._fire, earliest)

    def _retry(self) -> None:
        if self._attempts > MAX_ATTEMPTS:
            self._timers[1] = inf
            self._staged.clear()
            if self._timers[4] == inf:
                self._set(4, self.loop.now + REJECT_AFTER * 3)
            return
        self._attempts += 1
        self._initiate(retry=True)

    def _passive(self) -> None:
        self._send_keepalive()
        if self._more_keepalive:
            self._more_keepalive = False
            self._set(1, self.loop.now + KEEPALIVE_TIMEOUT)

    def _unanswered(self) -> None:
        self._initiate(retry=False)

    def _persistent(self) -> None:
        if self.keepalive:
            self._send_keepalive()

    def _forget(self) -> None:
        self._asked = self._current = self._next = self._previous = None


def tunnel(loop: Loop, path: Path, ours: int = 0, theirs: int = 0) -> tuple[End, End]:
    """Both ends, ours first, with these persistent keepalives in seconds."""
    here, there = End(loop, path, away=True, keepalive=ours), End(loop, path, away=False, keepalive=theirs)
    here.other, there.other = there, here
    return here, there
