"""Loss and latency of one probed peer over `health.window`, from counters that only grow.

A reading is kept every fifth of the window, so a peer has six small rows whatever the interval of its probes is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from wg_exporter.config.health import HealthLimits
    from wg_exporter.probed import ProbeStats

PARTS = 5  # readings in a window
FEWEST_PROBES = 20  # in the window, before they are judged
USUAL_SECONDS = 6 * 3600.0  # over which the usual latency is smoothed: less than a day, as evenings are slower
LEARNING_SECONDS = 600.0  # before latency is judged at all
SLOWER_SECONDS = 0.02  # a peer that is slower by less than this is not slow: 1 ms instead of 0.3 ms is no fault


class _Reading(NamedTuple):
    """Counters at one moment. An answer that came late is no loss, but a long round trip."""

    at: float
    sent: int
    lost: int
    rtt_sum: float


class Window(NamedTuple):
    """What the probes of the present window say: the loss from 0 to 1, and the mean round trip in seconds."""

    loss: float
    rtt: float | None


class Quality:
    """Judges the small echoes of one peer. Not thread-safe."""

    __slots__ = ("_known", "_learned", "_readings", "loss", "lossy", "rtt", "slow", "usual")

    def __init__(self) -> None:
        self._readings: deque[_Reading] = deque(maxlen=PARTS + 1)
        self._learned = 0.0
        self._known = False  # whether loss and round trip are of now
        self.loss = 0.0  # of the window, from 0 to 1
        self.rtt: float | None = None  # the mean of the window in seconds
        self.usual = 0.0  # seconds; 0 until something was learned
        self.lossy = False
        self.slow = False

    def forget(self) -> None:
        """Begin a new window: probes lost in an outage say nothing about the tunnel that came back."""
        self._readings.clear()
        self._known = False
        self.lossy = self.slow = False

    def take(self, stats: ProbeStats, now: float, limits: HealthLimits) -> None:
        """Take in the counters, read at `now` (monotonic seconds)."""
        if stats.silent_since is not None:
            self._known = False
            return  # this may be loss or an outage
        reading = _Reading(now, stats.sent, stats.lost - stats.late, stats.rtt_sum + stats.late_sum)
        if self._readings and (stats.sent < self._readings[-1].sent or now - self._readings[-1].at > limits.window):
            self.forget()
        if not self._readings:
            self._readings.append(reading)
            return
        first = self._readings[0]
        probes, lost = reading.sent - first.sent, max(reading.lost - first.lost, 0)
        if probes >= FEWEST_PROBES:
            self._judge(probes, lost, reading.rtt_sum - first.rtt_sum, limits)
        if now - self._readings[-1].at >= limits.window / PARTS:
            self._learn(now - self._readings[-1].at)
            self._readings.append(reading)

    def window(self) -> Window | None:
        """Loss and round trip as they are now; None while answers are missing, or too few probes were sent."""
        return Window(self.loss, self.rtt) if self._known else None

    def _judge(self, probes: int, lost: int, rtt_sum: float, limits: HealthLimits) -> None:
        """Judge the window. What begins at a limit ends at a lower one, so that it doesn't flap."""
        self._known = True
        self.loss = lost / probes
        self.lossy = self.loss >= (limits.loss / 2 if self.lossy else limits.loss)
        self.rtt = rtt_sum / (probes - lost) if probes > lost else None
        if self.rtt is None or self._learned < LEARNING_SECONDS:
            self.slow = False
            return
        over = (limits.slow_factor - 1) / (2 if self.slow else 1) * self.usual
        self.slow = self.rtt > self.usual + max(over, SLOWER_SECONDS)

    def _learn(self, seconds: float) -> None:
        """Smooth the latency of the window into the usual one, which is a plain mean for the first `USUAL_SECONDS`."""
        if self.rtt is None:
            return
        self._learned += seconds
        self.usual += (self.rtt - self.usual) * seconds / min(self._learned, USUAL_SECONDS)
