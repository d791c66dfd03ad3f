"""Full-size probes (P2), each beside a small twin: do packets of the full MTU vanish where small ones get through?

One lost packet says nothing. A big one lost *while its twin came back* is a vote for a hole. The first loss brings five
more pairs quickly. A hole is declared when none of the big ones came back, at least `VOTES` twins did, and chance can't
explain it: the loss rate, as seen on the twins and on earlier big ones, to the power of the big ones lost in a row is
at most `CHANCE`. A path that loses many packets takes more pairs; if `MOST_PAIRS` don't settle it, the answer is
"unsure". One big one that comes back, however late, ends the suspicion at once; a declared hole is over after `VOTES`
good ones. While a suspicion lasts, the answer before it stands.

A hole is one for echoes; whether other packets fall into it too, `locate` finds out. If that is not proven, a filter
may let only so many bytes of echoes pass in a while, and quick pairs never get a big one through. So `slowly` sends one
after a rest, and those that confirm it come after rests too.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING

from wg_exporter.prober.mtu.probes import SMALL, LocalTooBig, NotSent, Passed, ProbeKind, TooBig, Want

if TYPE_CHECKING:
    from wg_exporter.config.probe import ProbeSettings
    from wg_exporter.probed import SendError
    from wg_exporter.prober.mtu.probes import Answer, Patience

GAP = 0.2  # seconds between the pairs of a suspicion
PAIRS = 6  # before anything is declared: the one that was lost and five more
MOST_PAIRS = 40  # of one suspicion; if these don't settle it, it stays unsure
VOTES = 3  # pairs of which only the small one came back, before a hole; then big ones that came back, to end it
CHANCE = 2e-7  # reached after 6 pairs on a path that has lost nothing, 10 at a loss of 20 %, 17 at 40 %
UNSENT = 3  # pairs in a row that could not be sent, before what was known is given up
REST = 10.0  # seconds between pairs, for a filter that counts bytes
FORGOTTEN = 20  # votes for a hole in a row, until a big one that passed meanwhile is forgotten
SILENT = PAIRS  # small ones lost in a row before the peer counts as silent


class Big(StrEnum):
    """What became of packets of the full size."""

    UNKNOWN = "unknown"
    PASSED = "passed"
    HOLE = "hole"
    UNSURE = "unsure"


class _Pair:
    """One pair in flight, sent at `sent` (monotonic seconds). `small` and `big`: it came back; None = not known yet."""

    __slots__ = ("big", "closed", "ignored", "sent", "small")

    def __init__(self, sent: float) -> None:
        self.sent = sent
        self.small: bool | None = None
        self.big: bool | None = None
        self.closed = False
        self.ignored = False


class Pairs:
    """The pairs of one peer. Read `big`, `votes`, `silent`, `ever`, `fragment`, `refused` and `claimed` at any time.

    `silent` counts the small ones lost in a row. `ever`: a small one was answered once. `fragment` is the fragment size
    of the last full-size answer, None if it came whole. `refused` is the MTU with which this host refused the size (0 =
    it didn't say), None if it did not. `unsent` is why this host can't send the small ones, for any other reason,
    None if it can. `claimed` is the last packet-too-big from inside the tunnel. `silent_since` is when the first of the
    small ones lost in a row was sent, `concluded` when the last pair became known, both in monotonic seconds. `lossy`:
    small ones were lost too in this suspicion, or in the one that ended in a hole. `spotty`: some big ones came out of
    the hole, and others did not.
    """

    def __init__(self, size: int, first: float, settings: ProbeSettings, patience: Patience) -> None:
        """Pairs of `size` and `SMALL` bytes from `first` on, one per `inner_interval` while nothing is wrong."""
        self.size = size
        self.big = Big.UNKNOWN
        self.votes = 0
        self.silent = 0
        self.silent_since: float | None = None
        self.ever = False
        self.fragment: int | None = None
        self.refused: int | None = None
        self.claimed: TooBig | None = None
        self.concluded: float | None = None
        self.lossy = False
        self.spotty = False
        self._gap = GAP  # between the next pairs
        self._slow = False  # big ones that confirm one come after rests
        self._resting = False  # until the pair after the rest is known
        self._settings = settings
        self._patience = patience
        self._due = first
        self._last = first  # when the last pair left
        self._more = 0
        self._run = 0
        self._good = 0
        self._stayed = 0  # votes for the hole in a row
        self._number = 0
        self._pairs: dict[int, _Pair] = {}
        self._unsent = 0  # pairs in a row that could not be sent
        self._unsent_for: SendError | None = None
        self._small_ring: deque[bool] = deque(maxlen=50)
        self._big_ring: deque[bool] = deque(maxlen=50)

    @property
    def unsent(self) -> SendError | None:
        """Why the last `UNSENT` small ones could not be sent."""
        return self._unsent_for if self._unsent >= UNSENT else None

    @property
    def calm(self) -> bool:
        """Whether nothing is suspected and no pair is open."""
        return (
            not self._more and not self._run and not self._resting and all(pair.closed for pair in self._pairs.values())
        )

    def check(self, now: float) -> None:
        """Send a pair now, on demand or because the peer has come back or fallen silent."""
        self._due = min(self._due, now)

    def slowly(self, now: float) -> None:
        """Send a pair after a rest, and those that may follow from it after rests too."""
        self._slow = self._resting = True
        self._due = now + REST

    def good(self, now: float) -> None:
        """A full-size packet came back, in a pair or in a search: that proves more than losses do."""
        self._big_ring.extend([False] * self._run)
        self._big_ring.append(True)
        self._run = self.votes = self._more = 0
        self._good += 1
        self._stayed = 0
        self.refused = self.claimed = None
        if self.big is Big.HOLE and self._good < VOTES:
            self._hurry(VOTES - self._good, now, REST if self._slow else GAP)
            return
        self.big = Big.PASSED
        self.spotty = self.lossy = self._slow = False

    def heard(self) -> None:
        """The target answered a probe of any size."""
        self.silent = 0
        self.silent_since = None
        self.ever = True

    def poll(self, now: float) -> list[Want]:
        """The next pair, if it is due; pairs whose time is up become known."""
        wait = self._patience.wait()
        for number, pair in list(self._pairs.items()):
            if not pair.closed and now >= pair.sent + wait:
                self._close(pair, now)
            if pair.closed and now >= pair.sent + self._settings.timeout:
                del self._pairs[number]
        if now < self._due:
            return []
        self._number += 1
        self._pairs[self._number] = _Pair(now)
        self._more = max(self._more - 1, 0)
        self._last = now
        self._due = now + (self._gap if self._more else self._settings.mtu.inner_interval)
        # The number of a pair is the big one's tag and, negative, the small one's.
        return [
            Want(ProbeKind.INNER_ECHO, self.size, tag=self._number),
            Want(ProbeKind.INNER_ECHO, SMALL, tag=-self._number),
        ]

    def next_time(self) -> float:
        """When a pair is due or an open one becomes known."""
        wait = self._patience.wait()
        return min([self._due, *(pair.sent + wait for pair in self._pairs.values() if not pair.closed)])

    def handle(self, want: Want, answer: Answer, now: float) -> None:
        """Take an answer to one of a pair."""
        pair = self._pairs.get(abs(want.tag))
        if pair is None:
            return
        if want.tag < 0:
            self._small(pair, answer, now)
        else:
            self._big(pair, answer, now)
        if pair.small is not None and pair.big is not None and not pair.closed:
            self._close(pair, now)

    def _small(self, pair: _Pair, answer: Answer, now: float) -> None:
        if isinstance(answer, Passed):
            self._unsent = 0
            pair.small = True
            self.heard()
            self._patience.learn(answer.rtt)
        elif isinstance(answer, NotSent):
            pair.ignored = True
            self._unsent += 1
            self._unsent_for = answer.reason
            if self._unsent < UNSENT:
                self._hurry(UNSENT - self._unsent, now)
            else:
                self.big = Big.UNKNOWN  # the path may have changed since probes could be sent

    def _big(self, pair: _Pair, answer: Answer, now: float) -> None:
        if isinstance(answer, Passed):
            self.fragment = answer.fragment
            late = pair.closed and not pair.big
            pair.big = True
            if late:
                self.good(now)
        elif pair.closed or pair.big is not None:
            return
        elif isinstance(answer, TooBig):
            self.claimed = answer  # not yet lost: the claim may be a lie, and the packet may still pass
        elif isinstance(answer, LocalTooBig):
            pair.big = False
            pair.ignored = True
            self.refused = answer.mtu
        elif isinstance(answer, NotSent):
            pair.ignored = True

    def _close(self, pair: _Pair, now: float) -> None:
        pair.closed = True
        self._resting = False
        pair.small = bool(pair.small)
        if pair.big:
            self._note_small(pair, now)
            self.concluded = now
            self.good(now)
        elif not pair.ignored:
            self.refused = None
            self._unsent = 0
            self._note_small(pair, now)
            self.concluded = now
            self._lost(now, vote=pair.small)
        elif pair.small:
            self.concluded = now

    def _note_small(self, pair: _Pair, now: float) -> None:
        self._small_ring.append(bool(pair.small))
        if not pair.small:
            self.lossy = self.lossy or (not pair.big and self.big is not Big.HOLE)
            self.silent += 1
            self.silent_since = pair.sent if self.silent_since is None else self.silent_since
            if self.silent < SILENT and not self._more:
                self._hurry(SILENT - self.silent, now)

    def _lost(self, now: float, *, vote: bool) -> None:
        if self.big is Big.HOLE and self._good > 0:
            self.spotty = self._slow = True
        self._good = 0
        if self.big is Big.HOLE:
            self._stayed += vote
            if self._stayed >= FORGOTTEN:
                self.spotty = False
                self.lossy = self.lossy and not all(self._small_ring)
            return
        self._run += 1
        self.votes += vote
        if self._run == 1 and (vote or self.silent < SILENT):
            self._hurry(PAIRS - 1, now)
            return
        if self.silent >= SILENT:
            self._conclude(self.big)  # nothing answers at any size, which says nothing of sizes
        elif self._run >= MOST_PAIRS:
            self._conclude(Big.UNSURE)
        elif self._run >= PAIRS:
            if self.votes >= VOTES and self._by_chance() <= CHANCE:
                self._conclude(Big.HOLE)
            else:
                self._hurry(1, now)

    def _conclude(self, big: Big) -> None:
        self.big = big
        self._run = self._more = 0
        self.votes = self.votes if big is Big.HOLE else 0

    def _by_chance(self) -> float:
        """How likely all big ones are lost at the loss rate of the others (Jeffreys' estimate of that rate)."""
        rates = ((ring.count(False) + 0.5) / (len(ring) + 1) for ring in (self._small_ring, self._big_ring) if ring)
        return float(max(rates) ** self._run)

    def _hurry(self, pairs: int, now: float, gap: float = GAP) -> None:
        self._gap = gap
        self._more = max(self._more, pairs)
        self._due = min(self._due, max(now, self._last + gap))
