"""When each host name is looked up, and what the last lookup brought. No clock and no sockets: `now` is handed in.

Each name has a place of its own in the interval, so that a host with many asks evenly. One of a peer that is not well
is asked for more often, and one that failed again before its time.
"""

from __future__ import annotations

from binascii import crc32
from math import inf
from typing import TYPE_CHECKING

from wg_exporter.hostnames import HostName, LookupFailure
from wg_exporter.messages.resolver import MOST_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INTERVAL = 300.0  # seconds between two lookups of a name
SOON = 60.0  # the same for a name of a peer that is down or degraded, and after a failure; then twice as long each time
LEAST = 30.0  # the same, whatever anybody says of the peer
PACE = 0.05  # seconds between two lookups of any names
PATIENCE = 25.0  # seconds for an answer; the resolver itself gives up after 20
MOST_NAMES = 1000


class _Name:
    """One name. Times are monotonic seconds."""

    __slots__ = ("answered", "asked", "due", "failures", "row")

    def __init__(self, endpoint: str, now: float) -> None:
        self.row = HostName(endpoint)
        self.due = now
        self.asked = self.answered = -inf
        self.failures = 0


class Schedule:
    """The names, and which questions are open. Not thread-safe."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._unwell: frozenset[str] = frozenset()
        self._open: dict[int, tuple[str, float]] = {}  # by number: the name, and until when an answer is waited for
        self._number = 0
        self._not_before = -inf
        self._rows: tuple[HostName, ...] = ()
        self._changed = False

    @property
    def rows(self) -> tuple[HostName, ...]:
        """What is known of each name that was ever looked up; the same object while nothing changed."""
        if self._changed:
            self._changed = False
            self._rows = tuple(name.row for name in self._names.values() if name.answered > -inf)
        return self._rows

    def use(self, endpoints: Iterable[str], now: float) -> None:
        """Look exactly these names up from now on; of more than `MOST_NAMES` those that come first."""
        wanted = list(dict.fromkeys(endpoints))[:MOST_NAMES]
        if wanted == list(self._names):
            return
        self._names = {endpoint: self._names.get(endpoint) or _Name(endpoint, now) for endpoint in wanted}
        self._changed = True

    def unwell(self, endpoints: frozenset[str], now: float) -> None:
        """These are names of peers that are down or degraded."""
        for endpoint in endpoints - self._unwell:
            if name := self._names.get(endpoint):
                name.due = min(name.due, max(now, name.asked + LEAST))
        self._unwell = endpoints

    def take(self, now: float) -> Iterator[tuple[int, str]]:
        """The questions to ask now, each with its number; those of peers that are not well first."""
        while len(self._open) < MOST_AT_ONCE and now >= self._not_before:
            waiting = {endpoint for endpoint, _ in self._open.values()}
            due = [one for one, name in self._names.items() if name.due <= now and one not in waiting]
            if not due:
                return
            endpoint = min(due, key=lambda one: (one not in self._unwell, self._names[one].due))
            self._number += 1
            self._open[self._number] = (endpoint, now + PATIENCE)
            self._names[endpoint].asked = now
            self._not_before = now + PACE
            yield self._number, endpoint

    def answer(
        self, number: int, addresses: tuple[str, ...], failure: LookupFailure | None, now: float, wall: float
    ) -> None:
        """Take the answer to the question of this number. One that nobody waits for is dropped."""
        endpoint, _until = self._open.pop(number, ("", 0.0))
        name = self._names.get(endpoint)
        if name is None:
            return
        self._changed = True
        name.answered = now
        if failure is None:
            name.failures = 0
            name.row = HostName(endpoint, addresses, at=wall)
            name.due = now + SOON if endpoint in self._unwell else _own_place(endpoint, now + INTERVAL / 2)
            return
        name.failures += 1
        since = name.row.failed_since if name.row.failure else wall
        name.row = HostName(endpoint, (), name.row.at, failure, since)
        wait = SOON if endpoint in self._unwell else min(SOON * 2 ** min(name.failures - 1, 8), INTERVAL)
        name.due = now + wait

    def expire(self, now: float, wall: float) -> None:
        """Give up the questions that nobody answers."""
        for number in [number for number, (_, until) in self._open.items() if now >= until]:
            self.answer(number, (), LookupFailure.LATE, now, wall)

    def lost(self, now: float, wall: float) -> None:
        """The resolver is gone, and with it all answers."""
        for number in list(self._open):
            self.answer(number, (), LookupFailure.UNUSABLE, now, wall)

    def next_time(self) -> float:
        """When to call `take` or `expire` again, in monotonic seconds; inf = not before anything else happens."""
        late = min((until for _, until in self._open.values()), default=inf)
        if len(self._open) >= MOST_AT_ONCE:
            return late
        waiting = {endpoint for endpoint, _ in self._open.values()}
        due = min((name.due for one, name in self._names.items() if one not in waiting), default=inf)
        return min(late, max(due, self._not_before))

    def known(self, endpoint: str, now: float) -> tuple[tuple[str, ...], float] | None:
        """The addresses of a name, and how many seconds old they are; None if the last lookup brought none."""
        name = self._names.get(endpoint)
        return (name.row.addresses, now - name.answered) if name and name.row.addresses else None


def _own_place(endpoint: str, earliest: float) -> float:
    """The first time from `earliest` on that is this name's place in the interval."""
    place = crc32(endpoint.encode()) / 2**32 * INTERVAL
    return earliest + (place - earliest) % INTERVAL
