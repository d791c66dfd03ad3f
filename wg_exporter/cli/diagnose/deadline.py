"""One deadline for the whole command, and how its seconds are divided.

A tunnel often fails on a host that is overloaded, where reading the devices alone may take seconds. Whatever takes
long has less left for what follows: it is the looking that ends earlier, not the command that ends later. The clock is
handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROMISED = 20.0  # seconds from the command to its last line
SPOKEN = 1.0  # of them for the start of the interpreter, and for deciding, printing and ending
LAST_LOOKS = 0.8  # and for reading everything once more
SLOWER = 3.0  # what is left for the end, in the longest rounds so far: on a busy host that takes long too
AT_LAST = 0.05  # part of the time until the first packet that the end takes, as far as that tells
MOST_SLOWER = 5.0  # seconds of that, so that one round that hung is not the end


class Deadline:
    """What is left of the time. `began` is when the command was given, by the same clock (monotonic seconds)."""

    def __init__(self, began: float, clock: Callable[[], float]) -> None:
        self.began = began
        self._clock = clock
        self._longest = 0.0

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    def elapsed(self) -> float:
        """Seconds since the command was given."""
        return self._clock() - self.began

    def left(self, most: float) -> float:
        """How many seconds something may take, `most` at most: until all has to be said. Not below 0."""
        return max(min(most, self.began + PROMISED - SPOKEN - self._clock()), 0.0)

    def first_packet(self) -> None:
        """All is read that comes before the first packet: how long that took says how slow this host is."""
        self.took(self.elapsed() * AT_LAST)

    def took(self, seconds: float) -> None:
        """A round of looking took so long, beyond what it waited for."""
        self._longest = max(self._longest, seconds)

    def looks_until(self) -> float:
        """When to stop looking, so that the rest ends in time (monotonic seconds)."""
        slower = min(self._longest * SLOWER, MOST_SLOWER)
        return self.began + PROMISED - SPOKEN - LAST_LOOKS - slower
