"""Seeks the causes of peers that are down or degraded, in the background, a few at a time.

The tick publishes states first, then comes here: no page waits for a cause. But a page is sent once, so what is to be
asked is asked while a peer is only in doubt, and what is known when it goes down is decided by in the same tick.

Nothing is sent for it. What WireGuard's counters, the probes and the watcher know is there; of the host the reader is
asked, twice, so that counters can be compared. For two peers at a time, those first that explain most: whoever is down
before whoever is degraded, and a hub, with wide allowed IPs, before a laptop. A peer is sought for again when what is
known of it has changed, once a minute at most; and twice more if nothing was proved, as on a busy host counters that
are read a moment too late can leave a search in doubt.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.causes.cause import Confidence
from wg_exporter.causes.decide import decide
from wg_exporter.causes.facts import Facts
from wg_exporter.daemon.facts import Mark, Two, facts, kinds, mark, width
from wg_exporter.health.states import Reason, State
from wg_exporter.names.identity import PeerMeta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from wg_exporter.causes.cause import Finding
    from wg_exporter.daemon.facts import Look
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.inspected import Inspected
    from wg_exporter.model import DeviceKey, PeerKey
    from wg_exporter.sighted import Sighting
    from wg_exporter.sources import Sources

AT_ONCE = 2  # peers that are sought for
AGAIN_SECONDS = 60.0  # from one search for a peer to the next
TRIES = 3  # searches that prove nothing, while nothing else is seen
COMPARED_SECONDS = 15.0  # from one look at the host to the next: three tries of a handshake
WINDOW_SECONDS = 5.0  # from the first look to the next, where the wire was not watched at the first
WATCHED_SECONDS = 20.0  # on the wire: whoever hears nothing from here has called by then
SEARCH_SECONDS = 45.0  # at most: whatever has not come by then does not come
CHECKED = 256  # peers whose evidence is compared at one tick
AT_FIRST = 64  # peers that are decided at once by what is known when they go down: 0.1 ms each

_ILL = frozenset({State.DOWN, State.DEGRADED})

# Reasons that are causes themselves: nothing has to be looked at.
_PLAIN = frozenset({Reason.INTERFACE_GONE, Reason.INTERFACE_DOWN, Reason.UNREADABLE, Reason.MISSING})


def _nobody(_keys: list[PeerKey]) -> None:
    """Watch for nobody."""


class Found(NamedTuple):
    """A cause that was found, or another one than before."""

    key: PeerKey
    name: str
    finding: Finding


class _Case:
    """A peer that is down or degraded, or in doubt; of one that is only in doubt nothing is decided."""

    __slots__ = ("begun", "evidence", "finding", "meta", "queued", "row", "sought_at", "tries", "two")

    def __init__(self, row: PeerHealth, begun: Mark | None) -> None:
        self.row = row
        self.meta: PeerMeta | None = None
        self.begun = begun
        self.two = Two()
        self.sought_at = -inf
        self.evidence: tuple[object, ...] = ()  # by which it was sought for
        self.tries = 0  # searches by this evidence
        self.finding: Finding | None = None
        self.queued = False

    @property
    def ill(self) -> bool:
        """Whether it is down or degraded."""
        return self.row.state in _ILL

    def due(self, evidence: tuple[object, ...]) -> bool:
        """Whether to seek again, now that this is known of it."""
        unproved = self.finding is None or self.finding.confidence is Confidence.POSSIBLE
        return evidence != self.evidence or (unproved and self.tries < TRIES)


class _Search:
    """One search for the cause of one peer."""

    __slots__ = ("asked", "begun")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.asked = -inf  # when the reader was asked last


class Causes:
    """Driven by the tick (`follow`); `now` is for all. It changes nothing but what it remembers."""

    def __init__(self) -> None:
        self._cases: dict[PeerKey, _Case] = {}
        self._marks: dict[PeerKey, Mark] = {}  # of peers in doubt, from when that began
        self._queue: list[tuple[int, bool, int, int, PeerKey]] = []
        self._searches: dict[PeerKey, _Search] = {}
        self._number = 0
        self._checking: Iterator[PeerKey] = iter(())
        self._plain: dict[tuple[DeviceKey, Reason], Finding] = {}
        self._now: Mapping[DeviceKey, Mapping[str, Finding]] = MappingProxyType({})

    def now(self) -> Mapping[DeviceKey, Mapping[str, Finding]]:
        """The causes found, by device and public key. A device is the same object while nothing of it changes."""
        return self._now

    def follow(self, look: Look, sources: Sources, watch: Callable[[list[PeerKey]], object] = _nobody) -> list[Found]:
        """Take in a tick, and go on seeking. Returns what was found by a search and is new. Waits for nothing. `watch`
        has peers watched on the wire for `SEARCH_SECONDS`.
        """
        now = look.snapshot.monotonic
        changed: set[PeerKey] = set()
        # Right after the start everybody is in doubt, and most are well.
        doubtful = {(*device, key): row for device, key, row in look.health.doubtful() if row.state is not None}
        self._mark(doubtful, look)
        fresh = self._take(doubtful, look, changed)
        found = [*self._at_first(fresh, look, changed)]
        self._check(look, now)
        found += self._seek(look, sources, watch, changed)
        if changed:
            self._publish({(key[0], key[1]) for key in changed})
        return found

    def _take(self, doubtful: Mapping[PeerKey, PeerHealth], look: Look, changed: set[PeerKey]) -> list[PeerKey]:
        """Take in who is down or degraded, and who is in doubt. Returns those that fell ill. Where the reason is the
        cause itself, nothing is sought.
        """
        kept: set[PeerKey] = set()
        fresh: list[PeerKey] = []
        for device, keys, metas, rows in look.health.devices():
            for public_key, meta, row in zip(keys, metas, rows, strict=False):
                if row.state not in _ILL:
                    continue
                key = (*device, public_key)
                kept.add(key)
                case = self._case(key, row, look, changed)
                case.meta = meta
                if row.reason in _PLAIN and row.reason is not None:
                    self._settle(key, case, self._plainly(key, row.reason, look), changed)
                elif case.finding is None and case.sought_at == -inf:
                    fresh.append(key)
        for key, row in doubtful.items():
            if key not in kept:
                kept.add(key)
                self._case(key, row, look, changed)
        for key in self._cases.keys() - kept:
            if self._cases.pop(key).finding is not None:
                changed.add(key)
            self._searches.pop(key, None)
        return fresh

    def _case(self, key: PeerKey, row: PeerHealth, look: Look, changed: set[PeerKey]) -> _Case:
        """The case of a peer, a new one if its state is another. What was found out while it was in doubt stays."""
        before = self._cases.get(key)
        if before is not None and (before.row.state is row.state):
            before.row = row
            return before
        case = self._cases[key] = _Case(row, self._marks.get(key))
        if before is not None and not before.ill:
            case.two, case.begun = before.two, before.begun
        else:
            self._searches.pop(key, None)
        if before is not None and before.finding is not None:
            changed.add(key)
        if row.reason not in _PLAIN:
            self._enqueue(key, case, look)
        return case

    def _at_first(self, fresh: list[PeerKey], look: Look, changed: set[PeerKey]) -> Iterator[Found]:
        """Decide by what is known about those that fell ill just now: their page may leave with the next scrape."""
        for key in fresh[:AT_FIRST]:
            case = self._cases[key]
            finding = self._decide(key, case, look)
            if finding.cause.fault and finding.confidence is not Confidence.POSSIBLE:
                yield from self._tell(key, case, finding, changed)

    def _decide(self, key: PeerKey, case: _Case, look: Look) -> Finding:
        meta = case.meta or PeerMeta(key[2][:8], False, False)  # noqa: FBT003
        return decide(facts(key, (meta, case.row), look, case.begun, case.two))

    def _plainly(self, key: PeerKey, reason: Reason, look: Look) -> Finding:
        """The finding of all peers of a device with such a reason."""
        of = ((key[0], key[1]), reason)
        if of not in self._plain:
            if len(self._plain) > CHECKED:
                self._plain.clear()
            entry = look.config.entries().get(key[0], "")
            self._plain[of] = decide(Facts((*of[0], ""), entry=entry, state=State.DOWN, reason=reason))
        return self._plain[of]

    def _mark(self, doubtful: Mapping[PeerKey, PeerHealth], look: Look) -> None:
        """Remember the counters of peers from when they come into doubt."""
        self._marks = {key: one for key, one in self._marks.items() if key in doubtful or key in self._cases}
        for key in islice((key for key in (*doubtful, *self._cases) if key not in self._marks), CHECKED):
            if (counters := mark(key, look)) is not None:
                self._marks[key] = counters
                if key in self._cases and self._cases[key].begun is None:
                    self._cases[key].begun = counters

    def _enqueue(self, key: PeerKey, case: _Case, look: Look) -> None:
        """Have it sought for: whoever was not yet before whoever was, down before degraded before in doubt, and of
        those the widest first.
        """
        if case.queued:
            return
        case.queued = True
        self._number += 1
        rank = 0 if case.row.state is State.DOWN else 1 if case.ill else 2
        heappush(self._queue, (rank, case.sought_at > -inf, -width(key, look), self._number, key))

    def _check(self, look: Look, now: float) -> None:
        """Seek again for those of whom other things are known than when they were sought for: a few at each tick."""
        for _ in range(min(CHECKED, len(self._cases))):
            key = next(self._checking, None)
            if key is None:
                self._checking = iter(tuple(self._cases))
                key = next(self._checking)
            case = self._cases.get(key)
            if case is None or not case.ill or case.queued or key in self._searches or case.row.reason in _PLAIN:
                continue
            if now - case.sought_at >= AGAIN_SECONDS and case.due(kinds(key, case.row, look)):
                self._enqueue(key, case, look)

    def _seek(
        self, look: Look, sources: Sources, watch: Callable[[list[PeerKey]], object], changed: set[PeerKey]
    ) -> Iterator[Found]:
        now = look.snapshot.monotonic
        begun = [*self._begin(look, now)]
        came = {row.key: row for row in sources.inspected()}
        for key, search in list(self._searches.items()):
            yield from self._go_on(key, search, came.get(key), look, changed)
        unseen = [key for key in begun if key in self._searches and not _watched(look.sightings.get(key))]
        if unseen:
            watch(unseen)
        due = [key for key, search in self._searches.items() if now - search.asked >= self._wait(key)]
        for key in due:
            self._searches[key].asked = now
        if due:
            sources.inspect(due)

    def _begin(self, look: Look, now: float) -> Iterator[PeerKey]:
        """Begin searches for those that come first. Yields them."""
        while self._queue and len(self._searches) < AT_ONCE:
            key = heappop(self._queue)[-1]
            case = self._cases.get(key)
            if case is None or not case.queued:
                continue
            case.queued = False
            if case.sought_at > -inf:  # the counters of the first search are those from the beginning of the doubt
                case.begun, case.two = mark(key, look), Two()
            evidence = kinds(key, case.row, look)
            case.tries = case.tries + 1 if evidence == case.evidence else 1
            case.sought_at, case.evidence = now, evidence
            self._searches.setdefault(key, _Search(now))
            yield key

    def _wait(self, key: PeerKey) -> float:
        """How long to wait for the next look at the host: what it is compared with must be of the same window."""
        two = self._cases[key].two
        return COMPARED_SECONDS if two.host is None or _watched(two.seen_then) else WINDOW_SECONDS

    def _go_on(
        self, key: PeerKey, search: _Search, row: Inspected | None, look: Look, changed: set[PeerKey]
    ) -> Iterator[Found]:
        """Decide by what is known now, and end the search if nothing more will come of it."""
        case, now = self._cases[key], look.snapshot.monotonic
        if look.places.find(key) is None:  # its device can't be read now: what was found stays
            del self._searches[key]
            return
        if row is not None:
            case.two = case.two.after(row, look.sightings.get(key))
        counters = mark(key, look)
        if case.begun is None or (counters is not None and not case.begun.grows_to(counters)):
            case.begun = counters  # the peer was made anew meanwhile, and counts from nothing
        late = now - search.begun >= SEARCH_SECONDS
        if not case.ill:
            if late:
                del self._searches[key]
            return
        finding = self._decide(key, case, look)
        proved = finding.cause.fault and finding.confidence is not Confidence.POSSIBLE
        last = late or (case.two.before is not None and (proved or _long(look.sightings.get(key), now)))
        if _holds_still(case.finding, finding, looked=case.two.host is not None):
            pass
        elif proved or (last and finding.cause.fault):
            yield from self._tell(key, case, finding, changed)
        elif last and case.finding is not None:
            case.finding = None  # what it was found by is not so any more
            changed.add(key)
        if last or (finding.confidence is Confidence.CERTAIN and finding.cause.fault and case.two.host is not None):
            del self._searches[key]

    def _tell(self, key: PeerKey, case: _Case, finding: Finding, changed: set[PeerKey]) -> Iterator[Found]:
        if self._settle(key, case, finding, changed) and case.meta is not None:
            yield Found(key, case.meta.name, finding)

    def _settle(self, key: PeerKey, case: _Case, finding: Finding, changed: set[PeerKey]) -> bool:
        """Keep what was found. Returns whether it is another cause than before."""
        before, case.finding = case.finding, finding
        if before is not finding and before != finding:
            changed.add(key)
        return before is None or before.cause is not finding.cause

    def _publish(self, devices: Iterable[DeviceKey]) -> None:
        rows = dict(self._now)
        for device in devices:
            rows.pop(device, None)
        touched = set(devices)
        anew: dict[DeviceKey, dict[str, Finding]] = {}
        for key, case in self._cases.items():
            if case.finding is not None and (key[0], key[1]) in touched:
                anew.setdefault((key[0], key[1]), {})[key[2]] = case.finding
        self._now = MappingProxyType(rows | anew)


def _watched(sighting: Sighting | None) -> bool:
    return sighting is not None and sighting.open


def _long(sighting: Sighting | None, now: float) -> bool:
    """Whether the wire was watched for long enough, or will not be watched for any longer."""
    return sighting is None or not sighting.open or now - sighting.began >= WATCHED_SECONDS


def _holds_still(before: Finding | None, now: Finding, *, looked: bool) -> bool:
    """Whether what was found stays: less is seen now, as nobody watches any more, and nothing speaks against it; or the
    same is less sure only because the host was not `looked` at again yet.
    """
    if before is not None and not looked and before.cause is now.cause:
        return before.confidence is Confidence.CERTAIN or now.confidence is Confidence.POSSIBLE
    weak = now.confidence is Confidence.POSSIBLE
    proved = before is not None and before.confidence is not Confidence.POSSIBLE
    return before is not None and proved and weak and before.cause not in dict(now.excluded)
