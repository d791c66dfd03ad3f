"""The round trips of the last ten minutes of each probed peer, as a line to draw: a mean and the losses of each step.

Only the tick feeds it, with the counters that the prober tells, which only grow; a scrape reads. A step is closed at
the first look after its end, so looks in between cost nothing. A probed peer takes about 600 bytes, others take none.
"""

from __future__ import annotations

from array import array
from math import floor, isnan, nan
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wg_exporter.model import DeviceKey
    from wg_exporter.probed import Probed

STEP_SECONDS = 15.0
STEPS = 40  # ten minutes

_NO_MEANS = array("f", [nan]) * STEPS
_NO_LOSSES = array("H", [0]) * STEPS
_MOST_LOST = 0xFFFF  # that a step can hold


class Line(NamedTuple):
    """The steps until the moment `until`, the oldest first. `means` are mean round trips in seconds, None where nothing
    was answered; `lost` are numbers of probes. A step with neither had no probe, or nobody looked.

    An answer that came late is no loss, but a long round trip.
    """

    until: float
    means: Sequence[float | None]
    lost: Sequence[int]


class RoundTrips:
    """The lines of all probed peers. Not thread-safe."""

    def __init__(self) -> None:
        self._peers: Mapping[DeviceKey, Mapping[str, _Peer]] = {}
        self._step: int | None = None

    def take(self, probes: Mapping[DeviceKey, Mapping[str, Probed]], now: float) -> None:
        """Take in what the prober knows at `now` (monotonic seconds). Peers that are not in it are forgotten."""
        step = floor(now / STEP_SECONDS)
        if step == self._step:
            return
        steps = STEPS if self._step is None else min(step - self._step, STEPS)
        self._step = step
        before, self._peers = self._peers, {}
        for device, rows in probes.items():
            known = before.get(device, {})
            self._peers[device] = {key: known.get(key) or _Peer() for key in rows}
            for key, probed in rows.items():
                self._peers[device][key].take(probed, steps)

    def lines(self, now: float, wall: float) -> Iterator[tuple[DeviceKey, str, Line]]:
        """The line of each probed peer, with its device and public key. `now` and `wall` are the same moment by the
        monotonic and by the wall clock, which `until` is told by.
        """
        until = wall - (now - (self._step or 0) * STEP_SECONDS)
        for device, peers in self._peers.items():
            for key, peer in peers.items():
                if (line := peer.line(until)) is not None:
                    yield device, key, line


class _Peer:
    """One probed peer: its line, and its counters when the last step was closed."""

    __slots__ = ("_answered", "_lost", "_means", "_sent", "_sum", "_target", "_total")

    def __init__(self) -> None:
        self._target: str | None = None
        self._begin()

    def _begin(self) -> None:
        self._means, self._lost = _NO_MEANS, _NO_LOSSES  # never changed in place
        self._sent = self._answered = self._total = 0
        self._sum = 0.0

    def take(self, probed: Probed, steps: int) -> None:
        """Close a step with these counters; `steps` have passed since the one before."""
        stats = probed.stats
        lost = max(stats.lost - stats.late, 0)
        answered, rtt_sum = stats.sent - lost, stats.rtt_sum + stats.late_sum
        if probed.target != self._target or stats.sent < self._sent:  # another target, or counted anew
            self._begin()
            self._target = probed.target
        else:
            answers, losses = answered - self._answered, max(lost - self._total, 0)
            mean = max(rtt_sum - self._sum, 0.0) / answers if answers > 0 else nan
            # What happened in several steps at once is not known of each.
            self._means = self._means[steps:] + _NO_MEANS[1:steps] + array("f", [mean])
            self._lost = self._lost[steps:] + _NO_LOSSES[1:steps] + array("H", [min(losses, _MOST_LOST)])
        self._sent, self._answered, self._total, self._sum = stats.sent, answered, lost, rtt_sum

    def line(self, until: float) -> Line | None:
        """None if there is nothing to draw yet."""
        if self._means is _NO_MEANS:
            return None
        means = [None if isnan(mean) else round(mean, 6) for mean in self._means]
        return Line(until, means, self._lost.tolist())
