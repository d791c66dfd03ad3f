"""When each of many machines is to run next, and which few of them may search. No clock."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Generic, TypeVar

from wg_exporter.prober.mtu.probes import NEVER

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T", bound="Hashable")


class Schedule(Generic[T]):
    """When each is due next, the longest overdue first. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._due: dict[T, float] = {}
        self._count = 0  # decides between equal times, so that items are never compared

    def add(self, one: T, due: float) -> None:
        """Make it due at `due`, unless it is due earlier already: running early must be harmless."""
        if due < self._due.get(one, NEVER):
            self._due[one] = due
            self._count += 1
            heapq.heappush(self._heap, (due, self._count, one))

    def cancel(self, one: T) -> None:
        """It is not due any more."""
        self._due.pop(one, None)

    def next_due(self) -> float:
        """When the next one is due, `NEVER` if none is."""
        heap = self._heap
        while heap and self._due.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else NEVER

    def take(self) -> T:
        """The one that is due next, taken out. IndexError if there is none."""
        self.next_due()
        one = heapq.heappop(self._heap)[2]
        del self._due[one]
        return one


class Slots(Generic[T]):
    """Lets few at a time do something, in the order in which they asked."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._holders: set[T] = set()
        self._waiting: dict[T, None] = {}

    def __contains__(self, one: T) -> bool:
        return one in self._holders

    def ask(self, one: T) -> None:
        """Take a slot, or queue for one."""
        if one in self._holders:
            return
        if len(self._holders) < self._most:
            self._holders.add(one)
        else:
            self._waiting[one] = None

    def release(self, one: T) -> T | None:
        """Give up its slot, or its place in the queue. Returns who got the slot; None if nobody did."""
        self._waiting.pop(one, None)
        if one not in self._holders:
            return None
        self._holders.discard(one)
        following = next(iter(self._waiting), None)
        if following is not None:
            del self._waiting[following]
            self._holders.add(following)
        return following
