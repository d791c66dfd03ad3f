"""When each quiet ends: by two clocks, so that none lasts longer than was asked for, whatever a clock does.

A quiet has a time at which it ends, for it has to end while the exporter does not run, too. But wall clocks jump: that
of a host without a clock chip by decades at each boot. So it also has a number of seconds that are left, which the
monotonic clock counts down, and which is written down now and then. It ends when either says so.

- The clock jumps ahead, past the end: over. Only where it leaps by more than a year was it wrong before, at a boot;
  what was begun by the wrong clock moves with it.
- The clock jumps back: the seconds that are left decide.
- The clock at the start is behind the time at which the quiet began, so it can't tell how long nobody ran: what was
  left when it was last written down counts, less the time between two writings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.quiet import NOBODY, QuietNow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wg_exporter.model import PeerKey
    from wg_exporter.quiet import Quiet

WRITE_EVERY = 60.0  # seconds; while something is quiet
LEAP = 366 * 86400.0  # seconds; no host sleeps for as long
_SLACK = 1.0  # seconds by which the clocks may drift apart before another end is told


class Moment(NamedTuple):
    """One time by both clocks, in seconds: since the epoch, and monotonic."""

    wall: float
    monotonic: float


class Kept(NamedTuple):
    """A quiet as it is written down, with the seconds that were left then."""

    quiet: Quiet
    left: float


class _Entry(NamedTuple):
    quiet: Quiet
    deadline: float  # monotonic

    def left(self, now: Moment) -> float:
        """Seconds; none or less: it is over."""
        left = self.deadline - now.monotonic
        # Behind its begin the wall clock is wrong, and says nothing.
        return left if now.wall < self.quiet.since else min(left, self.quiet.until - now.wall)

    def told(self, now: Moment) -> Quiet:
        """As it will end by the clock of now."""
        end = now.wall + self.left(now)
        if abs(end - self.quiet.until) <= _SLACK:
            return self.quiet
        return self.quiet._replace(since=min(self.quiet.since, now.wall), until=end)


class Book:
    """All quiets of a host. `now` must not go back by the monotonic clock."""

    def __init__(self, now: Moment) -> None:
        self._entries: dict[PeerKey, _Entry] = {}
        self._last = now
        self._told = NOBODY

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: PeerKey) -> bool:
        return key in self._entries

    def begin(self, quiet: Quiet, now: Moment) -> None:
        """Begin with this one, in place of an earlier one of the same peer or interface."""
        self._entries[quiet.key] = _Entry(quiet, now.monotonic + quiet.until - quiet.since)

    def end(self, key: PeerKey) -> Quiet | None:
        """End one before its time. Returns it, None if there was none."""
        found = self._entries.pop(key, None)
        return found.quiet if found else None

    def move(self, was: tuple[str, str], key: tuple[str, str]) -> bool:
        """A device has another name. Returns whether anything of it is quiet."""
        moved = [entry for entry in self._entries.values() if entry.quiet.device == was]
        for entry in moved:
            del self._entries[entry.quiet.key]
            quiet = entry.quiet._replace(netns=key[0], interface=key[1])
            self._entries[quiet.key] = entry._replace(quiet=quiet)
        return bool(moved)

    def follow(self, now: Moment) -> list[Quiet]:
        """Forget those that are over. Returns them."""
        entries = list(self._leapt(now))
        self._last = now
        self._entries = {entry.quiet.key: entry for entry in entries if entry.left(now) > 0}
        return [entry.quiet for entry in entries if entry.left(now) <= 0]

    def now(self, now: Moment) -> QuietNow:
        """What is quiet. Changes nothing, and is right however long ago `follow` was called."""
        if not self._entries:
            return NOBODY
        found = [entry.told(now) for entry in self._leapt(now) if entry.left(now) > 0]
        found.sort(key=lambda quiet: (quiet.until, quiet.key))
        if tuple(found) != self._told.all:
            self._told = QuietNow(found)
        return self._told

    def kept(self, now: Moment) -> list[Kept]:
        """What to write down."""
        return [Kept(entry.quiet, entry.left(now)) for entry in self._leapt(now) if entry.left(now) > 0]

    def restore(self, kept: Iterable[Kept], now: Moment) -> list[Quiet]:
        """Go on with what was written down. Returns those that ended meanwhile."""
        over = []
        for quiet, left in kept:
            known = left if now.wall >= quiet.since else left - WRITE_EVERY
            entry = _Entry(quiet, now.monotonic + known)
            if entry.left(now) > 0:
                self._entries[quiet.key] = entry
            else:
                over.append(quiet)
        return over

    def _leapt(self, now: Moment) -> Iterable[_Entry]:
        """The entries; those that were begun by a clock that was plainly wrong, by the one that is right."""
        leap = (now.wall - self._last.wall) - (now.monotonic - self._last.monotonic)
        if leap <= LEAP:
            return self._entries.values()
        return [
            entry._replace(quiet=entry.quiet._replace(since=entry.quiet.since + leap, until=entry.quiet.until + leap))
            if entry.quiet.since <= self._last.wall
            else entry
            for entry in self._entries.values()
        ]
