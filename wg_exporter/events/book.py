"""The last events of a host, in order: how they are numbered, which become one, and which have to go.

Ten thousand peers that lose their interface are one thing that happened, and not ten thousand: they would push out
everything else. So events of one look that differ in the peer alone become one when there are many (`gathered`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from wg_exporter.events import ALIKE, MOST, MOST_OF, MOST_OF_PEER, Kind
from wg_exporter.quiet import plain

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from wg_exporter.events import Event

_NAMED = 10  # peers, of those that became one event


class Book:
    """Keeps the last `MOST`. Numbers go on where they were restored."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self.last = 0
        """The number of the last event, 0 before the first."""

    def __len__(self) -> int:
        return len(self._events)

    @property
    def all(self) -> tuple[Event, ...]:
        """All that are kept, the oldest first."""
        return tuple(self._events)

    def add(self, events: Iterable[Event]) -> list[Event]:
        """Take in what happened at one look. Returns the events as they are kept, with their numbers."""
        added = [replace(one, number=number) for number, one in enumerate(gathered(events), self.last + 1)]
        if added:
            self.last = added[-1].number
            self._keep(added)
        return added

    def restore(self, events: Sequence[Event]) -> None:
        """Go on with those that were kept before, in order."""
        if events:
            self.last = max(self.last, events[-1].number)
            self._keep(events)

    def after(self, number: int = 0) -> tuple[Event, ...]:
        """Those with a higher number. All of them if there is no such number yet: then they were counted anew."""
        at = bisect_right(self._events, number, key=lambda one: one.number) if number <= self.last else 0
        return tuple(islice(self._events, at, None))

    def _keep(self, events: Sequence[Event]) -> None:
        every = [*self._events, *events]
        numbers = Counter(one.kind for one in every)
        spare = {kind: numbers[kind] - most for kind, most in MOST_OF.items() if numbers[kind] > most}
        self._events = _last([one for one in every if not _spared(one, spare)] if spare else every)


def _last(every: list[Event]) -> list[Event]:
    """The last `MOST`, or more of those before them and fewer of the peers that have more than `MOST_OF_PEER`."""
    excess = len(every) - MOST
    if excess <= 0:
        return every
    numbers = Counter([one.public_key for one in every if one.public_key])
    kept: list[Event] = []
    for at, one in enumerate(every):
        if not excess:
            return kept + every[at:]
        if numbers[one.public_key] > MOST_OF_PEER:
            numbers[one.public_key] -= 1
            excess -= 1
        else:
            kept.append(one)
    return kept[-MOST:]


def _spared(one: Event, spare: dict[Kind, int]) -> bool:
    """Whether it is one of those that have to go: the first of its kind, `spare` of them."""
    if not spare.get(one.kind):
        return False
    spare[one.kind] -= 1
    return True


def gathered(events: Iterable[Event]) -> list[Event]:
    """The events, but of more than `ALIKE` that differ in the peer alone the first stands for all of them."""
    every = list(events)
    if len(every) <= ALIKE:
        return every
    numbers = Counter(map(_alike, every))
    names: dict[Hashable, list[str]] = {}
    causes: dict[Hashable, set[str]] = {}
    found: list[Event] = []
    places: dict[Hashable, int] = {}
    for one in every:
        alike = _alike(one)
        if numbers[alike] <= ALIKE or not one.public_key:
            found.append(one)
            continue
        if alike not in places:
            places[alike] = len(found)
            found.append(one)
        causes.setdefault(alike, set()).add(one.cause)
        if len(known := names.setdefault(alike, [])) < _NAMED:
            known.append(one.name or one.public_key[:8])
    for alike, at in places.items():
        found[at] = _of_many(found[at], names[alike], causes[alike], numbers[alike])
    return found


def _alike(one: Event) -> Hashable:
    """What is the same in events that can become one. Everybody roams to an address of his own; and of many peers that
    go down at once the cause of the first ones alone is known by then.
    """
    places = () if one.kind is Kind.ROAMING else (one.before, one.after)
    cause = one.cause if one.kind is Kind.CAUSE else ""
    return one.kind, one.netns, one.interface, *places, one.reason, cause, one.level, one.quiet


def _of_many(first: Event, names: list[str], causes: set[str], number: int) -> Event:
    """One event for so many peers. What was seen of each is the log's."""
    more = f" and {number - len(names):,} more" if number > len(names) else ""
    before, after = ("", "") if first.kind is Kind.ROAMING else (first.before, first.after)
    return replace(
        first,
        public_key="",
        name=plain(", ".join(names), 200) + more,
        before=before,
        after=after,
        cause=first.cause if len(causes) == 1 else "",
        confidence="",
        evidence="",
        peers=number,
    )
