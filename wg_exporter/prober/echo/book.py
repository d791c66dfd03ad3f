"""Small echoes: whom to ping when, which answer belongs to which probe, and what that says of each target.

Three ideas. **Every probe has a place in a ring** of `RING`, for all targets together. So the probe of an answer is
found at once, answers that come late or twice are recognised until their place is used again, and no peer can make
memory grow. **Idents are random and a target's own**, and so are sequence numbers: each is the place of the probe, plus
a random number that belongs to the ident. So a peer can't tell from its own echoes how those to others look. A target
that has lost a few in a row gets a new ident: NATs and connection trackers know an echo by its addresses and its ident,
and each echo would keep the entry alive that led the last ones nowhere. **A target's place in the interval is its
own**: the places follow the golden ratio, which spreads any number of targets evenly, and a target keeps its place when
its interval changes. So probes never gather into bursts, not even after an outage of all.

No clock, no socket: `now` is a monotonic reading in seconds.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.probed import SendError
from wg_exporter.prober.echo.track import LONGEST_INTERVAL, Track

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from wg_exporter.config.probe import ProbeSettings
    from wg_exporter.probed import ProbeStats
    from wg_exporter.prober.echo.track import EchoTarget

TICK = 0.01  # seconds: probes due within one tick are sent together
RING = 1 << 16  # probes that are remembered: one for each value of the 16-bit sequence number
ROOM = RING >> 6  # places by which the ring grows at a time until it is whole
LONGEST_STALL = 0.5  # seconds: if a probe is overdue by more, the whole calendar moves by its delay
RENEW_AFTER = 3  # probes lost in a row with one ident, until a target gets a new ident
IDENTS = 1 << 15  # the even ones: odd idents are those of MTU probes (`wire.sockets`)
CLOCK_STEP = 0.001  # seconds by which the two clocks may drift apart while a probe is on its way

_GOLDEN = 0.6180339887498949  # the fractional parts of its multiples are spread evenly, however many there are
_FREE, _WAITING, _ANSWERED, _LOST = range(4)


class Probe(NamedTuple):
    """One echo to send now; it was due at `due`. Tell the book with `sent` or `failed` what became of that `place`."""

    track: Track
    place: int
    ident: int
    sequence: int
    token: int
    due: float


class Reading(NamedTuple):
    """Both clocks read together, in seconds: the wall clock, to compare with kernel stamps, and the monotonic one."""

    wall: float
    monotonic: float


class EchoBook:
    """All targets, the probes in flight, and when the next ones are due.

    The caller's round: `answer` for each reply received, `expire`, `due`, and for each probe `sent` or `failed`; then
    sleep until `next_event`. Answers go first: one that came in time and was read late is not lost.
    """

    def __init__(
        self,
        settings: ProbeSettings,
        random_bytes: Callable[[int], bytes],
        changed: Callable[[Track], None] = lambda _track: None,
        longest_interval: float = LONGEST_INTERVAL,
    ) -> None:
        """`changed` is called whenever the statistics of a target have changed."""
        self._settings = settings
        self._changed = changed
        self._longest_interval = longest_interval
        self._random_bytes = random_bytes
        self._tracks: dict[Hashable, Track] = {}
        self._numbers: dict[Hashable, int] = {}
        self._freed: list[int] = []
        self._calendar: dict[int, list[Track]] = {}
        self._tick = -1  # the last one whose probes were handed out
        self._stood = 0.0  # seconds for which the calendar stood still
        # By place; as long as the ring has been used so far.
        self._probes: list[Track | None] = []
        self._states, self._extra = bytearray(), bytearray()
        self._idents, self._tokens = array("H"), array("Q")
        self._wall, self._monotonic = array("d"), array("d")
        self._shifts = array("H", random_bytes(2 * IDENTS))  # for each ident, from the place to the sequence number
        self._head = 0  # where the next probe goes
        self._tail = 0  # the oldest one whose fate may be open

    def put(self, target: EchoTarget, now: float) -> Track:
        """Probe this target from now on, in place of an earlier one with its id; its track.

        The statistics of the earlier one go on, unless the address or the namespace is another.
        ValueError if the address is no IP address; nothing has changed then.
        """
        self._begin(now)
        old = self._tracks.get(target.id)
        if old is not None and (old.target.address, old.target.netns) == (target.address, target.netns):
            return self._go_on(old, target, now)
        fresh = Track(target, len(self._settings.rtt_buckets))
        self._renew(fresh)
        if old is not None:
            self.remove(target.id)
        number = heapq.heappop(self._freed) if self._freed else len(self._numbers)
        self._numbers[target.id] = number
        fresh.phase = int(number * _GOLDEN % 1 * (1 << 32))
        self._tracks[target.id] = fresh
        self._schedule(fresh)
        return fresh

    def remove(self, name: Hashable) -> None:
        """Leave this target alone from now on. KeyError if there is none."""
        self._unschedule(self._tracks.pop(name))
        heapq.heappush(self._freed, self._numbers.pop(name))

    def track(self, name: Hashable) -> Track | None:
        """What is known of a target; None if there is none."""
        return self._tracks.get(name)

    def resume(self, name: Hashable, now: float) -> None:
        """Something says that this target may answer again: probe it at its interval, however long it was silent."""
        track = self._tracks.get(name)
        if track is not None and track.misses:
            track.resumed_at = now
            self._hasten(track)

    def tracks(self) -> Iterable[Track]:
        """All targets with what is known of them."""
        return self._tracks.values()

    def stats(self) -> dict[Hashable, ProbeStats]:
        """What is known of each target, by its id."""
        return {name: track.stats() for name, track in self._tracks.items()}

    def due(self, now: float) -> list[Probe]:
        """The probes to send now, oldest first."""
        self._begin(now)
        probes: list[Probe] = []
        stood, until = self._stood, self._tick_at(now)
        for tick in range(self._tick + 1, until + 1):
            if tick in self._calendar:
                behind = now - tick * TICK - self._stood
                if behind > LONGEST_STALL:
                    self._stood += behind
                    until = tick
                self._tick = tick
                self._launch(self._calendar.pop(tick), tick * TICK + stood, probes)
            if tick >= until:
                break
        self._tick = max(self._tick, until)
        return probes

    def sent(self, place: int, when: Reading) -> None:
        """The probe went out, right after `when` was read."""
        self._wall[place], self._monotonic[place] = when

    def failed(self, place: int, reason: SendError) -> None:
        """The probe could not be sent."""
        track = self._probes[place]
        self._states[place] = _FREE
        if track is not None:
            track.count_error(reason, self._monotonic[place])
            self._hasten(track)
            self._changed(track)

    def place(self, ident: int, sequence: int) -> int:
        """Where the probe is that has these numbers, if there is one."""
        return (sequence - self._shifts[ident >> 1]) % RING

    def answer(self, sender: bytes, place: int, token: int, stamp: float | None, read: Reading) -> bool:
        """An echo reply came: the kernel stamped it with the wall clock at `stamp`, and it was read at `read`.

        False, and nothing has changed, if it answers no probe that is remembered.
        """
        if place >= len(self._states):
            return False
        track = self._probes[place]
        state = self._states[place]
        if track is None or state == _FREE or token != self._tokens[place] or sender != track.address:
            return False
        track.break_silence(read.monotonic)
        if state == _ANSWERED:
            track.duplicates += 1
        else:
            self._count(track, place, self._rtt(place, stamp, read))
            self._states[place] = _ANSWERED
        self._changed(track)
        return True

    def _count(self, track: Track, place: int, rtt: float) -> None:
        """Count the first answer to a probe: in time, or late."""
        waiting, extra = self._states[place] == _WAITING, bool(self._extra[place])
        if waiting and rtt <= self._settings.timeout:
            if extra:
                track.count_extra_answer(rtt)
            else:
                track.count_answer(rtt, bisect_left(self._settings.rtt_buckets, rtt))
            if not track.clean:
                self._hasten(track)
            return
        if waiting:
            track.count_loss(self._monotonic[place], extra=extra)
            self._hasten(track)
        track.count_late(rtt, extra=extra)

    def expire(self, now: float) -> None:
        """Count as lost what has waited longer than the timeout."""
        while (oldest := self._oldest()) is not None and self._monotonic[oldest] + self._settings.timeout <= now:
            self._states[oldest] = _LOST
            track = self._probes[oldest]
            if track is not None:
                track.count_loss(self._monotonic[oldest], extra=bool(self._extra[oldest]))
                if self._idents[oldest] == track.ident:
                    track.unanswered += 1
                    if track.unanswered >= RENEW_AFTER:
                        self._renew(track)
                self._hasten(track)
                self._changed(track)

    def next_event(self, now: float) -> float:
        """When to call again at the latest: a probe is due or times out. At most a second from now."""
        self._begin(now)
        horizon = self._tick_at(now) + round(1 / TICK)
        tick = next((tick for tick in range(self._tick + 1, horizon) if tick in self._calendar), horizon)
        event = tick * TICK + self._stood
        oldest = self._oldest()
        return event if oldest is None else min(event, self._monotonic[oldest] + self._settings.timeout)

    def _renew(self, track: Track) -> None:
        track.ident = int.from_bytes(self._random_bytes(2), "big") & ~1
        track.unanswered = 0

    def _begin(self, now: float) -> None:
        """Begin the calendar at the present tick: the clock counts from the start of the host, which may be years."""
        if self._tick < 0:
            self._tick = self._tick_at(now)

    def _go_on(self, track: Track, target: EchoTarget, now: float) -> Track:
        """The same target, probed in another way."""
        paused = track.target.paused
        track.target = target
        track.resumed_at = now
        self._unschedule(track)
        self._schedule(track)
        if paused != target.paused:
            track.break_silence(now)
            self._changed(track)
        return track

    def _tick_at(self, now: float) -> int:
        return int((now - self._stood) / TICK)

    def _schedule(self, track: Track, *, soon: bool = False) -> None:
        """At the target's own place in its present interval, but never sooner than half of it from now.

        `soon`: after an extra probe, as else an interval would be left out.
        """
        if track.target.paused:
            return
        track.period = period = self._period(track)
        gap = ((track.phase * period >> 32) - self._tick) % period or period
        if track.fates and gap * 2 < period and not soon:
            gap += period
        self._put_at(track, self._tick + gap)

    def _put_at(self, track: Track, tick: int) -> None:
        track.tick = tick
        self._calendar.setdefault(tick, []).append(track)

    def _unschedule(self, track: Track) -> None:
        if track.tick in self._calendar:
            self._calendar[track.tick].remove(track)
        track.tick = -1

    def _period(self, track: Track) -> int:
        """Ticks from this probe of the target to the next."""
        return _ticks(track.wait(self._settings.suspect_interval, self._longest_interval))

    def _launch(self, tracks: list[Track], due: float, probes: list[Probe]) -> None:
        tokens = array("Q", self._random_bytes(8 * len(tracks)))
        for track, token in zip(tracks, tokens, strict=True):
            place, ident = self._head, track.ident
            extra = not self._opens_slot(track)
            self._schedule(track, soon=extra)
            if self._full():
                track.count_error(SendError.NO_BUFFER, due)
                self._changed(track)
                continue
            self._head = (place + 1) % RING
            if place == len(self._states):
                self._grow()
            self._probes[place] = track
            self._states[place] = _WAITING
            self._extra[place] = extra
            self._idents[place] = ident
            self._tokens[place] = token
            self._monotonic[place] = due
            probes.append(Probe(track, place, ident, (place + self._shifts[ident >> 1]) % RING, token, due))

    def _grow(self) -> None:
        """Make room for more probes than were ever sent: most hosts probe few peers, and the whole ring takes 2 MB."""
        self._probes += [None] * ROOM
        self._states += bytes(ROOM)
        self._extra += bytes(ROOM)
        for column in (self._idents, self._tokens, self._wall, self._monotonic):
            column.frombytes(bytes(column.itemsize * ROOM))

    def _opens_slot(self, track: Track) -> bool:
        """Whether this is the first probe of the target in its present interval. All others in it are extra."""
        interval = _ticks(track.target.interval)
        slot = (track.tick - (track.phase * interval >> 32)) // interval
        first, track.slot = slot != track.slot, slot
        return first

    def _full(self) -> bool:
        """Whether all places are in flight. Another probe could be mistaken for one of them."""
        following = (self._head + 1) % RING
        return following == self._tail and self._oldest() == following

    def _oldest(self) -> int | None:
        """The place of the oldest probe that waits, None if none does. Those before it are not looked at again."""
        if self._tail > self._head:
            found = self._states.find(_WAITING, self._tail)
            self._tail = max(found, 0)
            if found >= 0:
                return found
        found = self._states.find(_WAITING, self._tail, self._head)
        self._tail = self._head if found < 0 else found
        return None if found < 0 else found

    def _rtt(self, place: int, stamp: float | None, read: Reading) -> float:
        """Seconds, up to the kernel's stamp, which is more exact; not if the wall clock was set in the meantime."""
        elapsed = read.monotonic - self._monotonic[place]
        drift = read.wall - self._wall[place] - elapsed
        if stamp is None or abs(drift) > CLOCK_STEP:
            return max(elapsed, 0.0)
        rtt = stamp - self._wall[place]
        return rtt if 0.0 <= rtt <= elapsed + CLOCK_STEP else max(elapsed, 0.0)

    def _hasten(self, track: Track) -> None:
        """Bring the next probe forward if the target's interval became shorter."""
        period = self._period(track)
        if period < track.period and track.tick - self._tick > period:
            before = track.tick
            self._unschedule(track)
            self._schedule(track)
            if track.tick > before:
                self._unschedule(track)
                self._put_at(track, before)


def _ticks(seconds: float) -> int:
    return max(1, round(seconds / TICK))
