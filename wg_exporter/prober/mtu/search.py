"""The burst search (P6): the largest size that gets through, without waiting for one size after the other.

All sizes of a round leave at once (paced, at most `ROUND_BYTES`). So a silent hole costs two rounds of two waits each,
where halving with timeouts costs ten waits. The answer lies between the largest size that passed (`low`) and the
smallest above it that did not (`high`); it is exact when the two are neighbours.

There are three kinds of answers, the strongest first:

- A packet that came back overrides every claim and loss at its size and below.
- A packet-too-big makes its own packet "too big" at once. The MTU that it claims is a hint of what to try next, and is
  believed where that size passes and the next byte doesn't. If nothing comes back at any size, as from an endpoint that
  answers no echo, the claim is believed if two probes brought it, or one that was a byte larger, and a probe of the
  claimed size is lost.
- Silence: a size counts as lost only after `SENDS` sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.prober.mtu.probes import (
    NEVER,
    PADDING,
    SMALL,
    Layer,
    LocalTooBig,
    NotSent,
    Passed,
    ProbeKind,
    TooBig,
    Want,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.prober.mtu.probes import Answer, Patience

ROUND_BYTES = 32_000  # a thin uplink drops the end of a larger burst, which looks like a small MTU
RATE = 500_000  # bytes a second: a round takes 64 ms; on an uplink of 2 Mbit/s half of it has to queue
ROUNDS = 7  # three do for any path below 1500, jumbo frames take more
SENDS = 2  # of each size before it is lost
EAGER = 3  # claims of one round that are tried without waiting for its end
LEAST_COMMON = 1280  # bytes; path MTUs below it are rare, so there plateaus are tried first

# MTUs that are in use, and others so that from 1280 on no gap is above 20: the next round then finds the exact byte.
PLATEAUS = (
    *(1500, 1492, 1480, 1472, 1460, 1454, 1440, 1430, 1420, 1412, 1400, 1390, 1376, 1360, 1344, 1328, 1312, 1300, 1280),
    *(1180, 1006, 768, 576, 296),
)


class Found(NamedTuple):
    """What a search found, sizes in bytes of the layer that was searched.

    `passed` is the largest size that came back, 0 = none did. `limit` is the smallest that did not, None = all passed.
    `claim` is the believed MTU of a packet-too-big, and `reporter` its sender. `exact`: the path MTU is `path`.
    `repeats`: two probes brought it. `fragment` is the size of the fragments in which an answer came, None if all came
    whole.
    """

    passed: int
    limit: int | None
    claim: int | None
    reporter: str
    exact: bool
    repeats: bool
    fragment: int | None = None

    @property
    def path(self) -> int | None:
        """The largest size that the path is known to carry, None if nothing is known. What is claimed and believed goes
        before what came back: the far end may drop echoes that arrive.
        """
        return self.claim or self.passed or None


@dataclass(slots=True)
class _Size:
    """What is known of one size. `sent` is when the last copy left, None while none has."""

    copies: int = 0
    sent: float | None = None
    passed: bool = False
    refused: bool = False
    lost: bool = False
    unsent: int = 0  # copies that could not be sent

    def known(self) -> bool:
        """Whether no more copies have to be sent. The size may be unknown still, if this host can't send it."""
        return self.passed or self.refused or self.lost or self.unsent >= SENDS


class Pace:
    """The pace that all searches of one peer share: they may run at the same time, inside and outside."""

    def __init__(self) -> None:
        self.free_at = 0.0  # when the next packet may leave

    def sent(self, size: int, now: float) -> None:
        """A packet leaves. Unused time is not saved up, so there is no burst after a pause."""
        self.free_at = max(self.free_at, now - 0.01) + size / RATE


class Search:
    """One search in one layer. `done` when there is nothing left to learn; then read `found()`."""

    def __init__(self, layer: Layer, top: int, patience: Patience, pace: Pace, first: Sequence[int] = ()) -> None:
        """Search sizes up to `top` bytes. The first round is `first`, by default a spread over all sizes."""
        self.layer = layer
        self.top = top
        self.done = False
        self._patience = patience
        self._step = 1 if layer is Layer.OUTER else PADDING
        self._kind = ProbeKind.OUTER_ECHO if layer is Layer.OUTER else ProbeKind.INNER_ECHO
        self._sizes: dict[int, _Size] = {}
        self._claims: dict[int, list[int]] = {}  # claimed MTU -> sizes of the probes that brought it; one claim a size
        self._reporters: dict[int, str] = {}
        self._fragment: int | None = None  # the size of those in which answers came
        self._queue: list[int] = []
        self._pace = pace
        self._rounds = 0
        self._eager = 0
        self._thorough = not first
        self._start_round(sorted(set(first)) or self._spread(SMALL, top))

    @property
    def heavy(self) -> bool:
        """Whether it is under way and sends whole rounds, not just a few sizes."""
        return not self.done and (self._thorough or self._rounds > 1)

    def poll(self, now: float) -> list[Want]:
        """Sizes to send now. Sizes whose wait is over are sent again, or count as lost after `SENDS`."""
        self._expire(now)
        self._advance()
        wants = []
        while self._queue and now >= self._pace.free_at:
            size = self._queue.pop(0)
            state = self._sizes[size]
            if state.known():
                continue
            state.copies += 1
            state.sent = now
            self._pace.sent(size, now)
            wants.append(Want(self._kind, size, tag=size))
        return wants

    def next_time(self) -> float:
        """When the pace allows a packet, or a size becomes known."""
        if self.done:
            return NEVER
        wait = self._patience.wait()
        open_sizes = (s for size, s in self._sizes.items() if not s.known() and size not in self._queue)
        times = [s.sent + wait for s in open_sizes if s.sent is not None]
        if self._queue:
            times.append(self._pace.free_at)
        return min(times, default=NEVER)

    def handle(self, want: Want, answer: Answer, now: float) -> None:  # noqa: ARG002 - all machines have this shape
        """Take what came back for a size, however late."""
        state = self._sizes[want.tag]
        if isinstance(answer, Passed):
            state.passed = True
            self._fragment = answer.fragment or self._fragment
        elif state.refused or state.passed:
            return
        elif isinstance(answer, TooBig):
            state.refused = True
            self._claim(want.tag, answer.mtu, answer.reporter)
        elif isinstance(answer, LocalTooBig):
            state.refused = True
            if answer.mtu:
                self._claim(want.tag, answer.mtu, "")
        elif isinstance(answer, NotSent):
            state.copies -= 1  # it never left, so its silence is no loss
            state.unsent += 1
        self._advance()

    def found(self) -> Found:
        """What is known so far."""
        low, high = self._low(), self._high()
        claim = self._believed(low, high)
        exact = high is None or high == low + 1 or claim is not None
        reporter = self._reporters.get(claim or 0, "")
        repeats = len(self._claims.get(claim or 0, ())) > 1
        return Found(low, high, claim, reporter, exact and bool(low or claim), repeats, self._fragment)

    def _claim(self, size: int, mtu: int, reporter: str) -> None:
        if mtu >= size:
            return
        self._claims.setdefault(mtu, []).append(size)
        self._reporters[mtu] = self._reporters.get(mtu) or reporter
        if self._eager and mtu not in self._sizes and not self.done:
            # Don't wait for the rest of the round, which may bring nothing: the answer is likely to be here.
            self._eager -= 1
            for hint in (mtu + 1, mtu):
                if self._sizes.setdefault(hint, _Size()).sent is None and hint not in self._queue:
                    self._queue.insert(0, hint)

    def _low(self) -> int:
        return max((size for size, state in self._sizes.items() if state.passed), default=0)

    def _high(self) -> int | None:
        low = self._low()
        # If nothing passes at all, a loss says nothing about the size.
        failed = (size for size, s in self._sizes.items() if size > low and (s.refused or (s.lost and low)))
        return min(failed, default=None)

    def _believed(self, low: int, high: int | None) -> int | None:
        if low in self._claims and high == low + 1:
            return low  # the claimed size came back, and the next byte did not
        if low and self.layer is Layer.INNER:
            return None
        for mtu in sorted(mtu for mtu in self._claims if mtu > low):
            tried = self._sizes.get(mtu)
            sizes = self._claims[mtu]
            if (len(sizes) > 1 or mtu + 1 in sizes) and tried is not None and tried.lost:
                return mtu
        return None

    def _expire(self, now: float) -> None:
        wait = self._patience.wait()
        for size, state in self._sizes.items():
            if state.known() or state.sent is None or now < state.sent + wait:
                continue
            if size < self._low() or state.copies >= SENDS:
                state.lost = True
            elif size not in self._queue:
                self._queue.append(size)

    def _advance(self) -> None:
        """Start the next round when all sizes of this one are known."""
        if self.done:
            return
        low, high = self._low(), self._high()
        if self._sizes[self.top].passed or (low and high == low + 1):
            self._finish()
        elif not any(not state.known() for size, state in self._sizes.items() if size > low):
            sizes = self._next_sizes(low, high or self.top)
            if sizes and self._rounds < ROUNDS:
                self._start_round(sizes)
            else:
                self._finish()

    def _finish(self) -> None:
        self.done = True
        self._queue.clear()

    def _start_round(self, sizes: list[int]) -> None:
        self._rounds += 1
        self._eager = EAGER
        for size in sizes:
            self._sizes.setdefault(size, _Size())
        # Large ones first: if the end of the burst is dropped, it is the sizes most likely to pass that are sent again.
        self._queue = sorted(sizes, reverse=True)

    def _next_sizes(self, low: int, high: int) -> list[int]:
        """What to try between `low`, which passed, and `high`, which didn't."""
        claimed = [mtu for mtu in self._claims if low <= mtu < high]
        if not low and not claimed:
            return []  # nothing answers at any size and nobody says why: more sizes would not help
        hints = {size for mtu in sorted(claimed)[:4] for size in (mtu, mtu + 1)}
        between = set(self._spread(low, high - 1) if low else ())
        if claimed and self._rounds < 3:
            # The answer is at a claim, or below the least claim if a later link is narrower: don't look above.
            between = {size for size in between if size < min(claimed) and size in PLATEAUS}
        sizes = {size for size in hints | between if low < size < high and size not in self._sizes}
        return _within(sorted(sizes), hints)

    def _spread(self, low: int, high: int) -> list[int]:
        """Sizes above `low` up to `high`: all of them if they fit into a round, else a selection."""
        grid = range(low - low % self._step + self._step, high + 1, self._step)
        ends = [size for size in (low, high) if not self._sizes]
        if sum(grid) <= ROUND_BYTES - sum(ends):
            return sorted({*grid, *ends})
        if high <= PLATEAUS[0] + PADDING:
            fine = [size for size in grid if size >= LEAST_COMMON] if self._step > 1 else []
            coarse = [size for size in PLATEAUS if low < size <= high and (self._step == 1 or size < LEAST_COMMON)]
            return sorted({*fine, *coarse, *ends})
        return self._evenly(grid, ends)

    def _evenly(self, grid: range, ends: list[int]) -> list[int]:
        count = max((ROUND_BYTES - sum(ends)) * 2 // (grid[0] + grid[-1]), 1)
        picked = {grid[i * len(grid) // (count + 1)] for i in range(1, count + 1)}
        return sorted({*picked, *ends})


def _within(sizes: list[int], first: set[int]) -> list[int]:
    """As many of the sizes as a round may hold, those of `first` before others."""
    kept: list[int] = []
    room = ROUND_BYTES
    for size in sorted(sizes, key=lambda size: (size not in first, size)):
        if size <= room or not kept:
            kept.append(size)
            room -= size
    return sorted(kept)
