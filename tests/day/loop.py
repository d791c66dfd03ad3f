"""Simulated time: what is due happens in order, and nothing takes any."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86_400.0
BEGIN = 600.0
"""When the day begins, in seconds since the tunnels were set up."""
WALL = 1_700_000_000.0
"""The wall clock, in seconds since the epoch, at time 0."""


class Loop:
    """A calendar of calls. `now` is in seconds since the tunnels were set up."""

    __slots__ = ("_calls", "_order", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._calls: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = count()

    def at(self, when: float, call: Callable[..., object], *arguments: Any) -> None:
        """Call it then."""
        heapq.heappush(self._calls, (when, next(self._order), call, arguments))

    def run(self, until: float) -> None:
        """Let time pass."""
        calls, pop = self._calls, heapq.heappop
        while calls and calls[0][0] <= until:
            self.now, _order, call, arguments = pop(calls)
            call(*arguments)
        self.now = until
