"""A prober by a clock that the test moves, in a namespace of its own: minutes of probing in a moment, and no luck.

Packets are real and go over loopback, where an answer is there as soon as the question has left.
"""

from __future__ import annotations

import select
from types import SimpleNamespace
from typing import TYPE_CHECKING

from tests.probers import KeyedProber
from tests.rows import WALL
from wg_exporter.config import ProbeSettings
from wg_exporter.prober import driver, transport
from wg_exporter.prober.mtu.probes import Layer
from wg_exporter.prober.wire import engine, pool
from wg_exporter.prober.wire.engine import ECHO_SIZE_V4

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.lab import Namespace
    from wg_exporter.model import PeerKey
    from wg_exporter.probed import Probed, ProbePeer, Verdict

TICK = 0.02
ADDRESS = slice(16, 20)  # where an IPv4 packet goes


class Hands:
    """Stands for the module `time` where the prober looks at it."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.deaf = False  # what can be read waits

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return WALL + self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Waiting:
    """Stands for `select.epoll`: where nothing is ready, the clock is moved instead of waiting."""

    def __init__(self, clock: Hands) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        self.register, self.unregister, self.close = self._epoll.register, self._epoll.unregister, self._epoll.close

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        if self._clock.deaf:
            return []
        if not (ready := self._epoll.poll(0)):
            self._clock.now += timeout
            ready = self._epoll.poll(0)
        return ready


class Moved:
    """A prober, what it has told of each peer, and what it has sent: (clock, layer, packet)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, settings: ProbeSettings | None = None, **more: object) -> None:
        self.clock = Hands()
        for module in (driver, transport, engine, pool):
            monkeypatch.setattr(module, "time", self.clock)
        epoll = SimpleNamespace(epoll=lambda: Waiting(self.clock), EPOLLIN=select.EPOLLIN)
        monkeypatch.setattr(engine, "select", epoll)
        self.told: dict[PeerKey, Probed] = {}
        self.packets: list[tuple[float, Layer, bytes]] = []
        self.prober = KeyedProber(settings or ProbeSettings(timeout=0.5), tap=self._tap, **more)

    def _tap(self, direction: str, _netns: str, layer: Layer, data: bytes, _when: float) -> None:
        if direction == "sent":
            self.packets.append((self.clock.now, layer, data))

    def run(self, seconds: float, each: Callable[[], object] = lambda: None) -> None:
        """Let so much time pass. `each` is called every tick."""
        for _ in range(round(seconds / TICK)):
            self.clock.now += TICK
            self.prober.step(0.0)
            each()
            self.told.update(self.prober.told(1000))

    def wake(self, seconds: float) -> None:
        """The same, but the prober is asked only when it wants to be, as in its own loop."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.prober.step(1.0)
            self.clock.now += 0.0001  # what a round takes at least

    def until(self, true: Callable[[], object], within: float, each: Callable[[], object] = lambda: None) -> float:
        """Let time pass until it holds; how much did."""
        begun = self.clock.now
        while not true():
            assert self.clock.now < begun + within, f"it did not happen: {self.told}"
            self.run(TICK, each)
        return self.clock.now - begun

    def verdict(self, one: ProbePeer) -> Verdict | None:
        told = self.told.get(one.key)
        return told.mtu.verdict if told is not None and told.mtu is not None else None

    def up(self, one: ProbePeer) -> bool | None:
        told = self.told.get(one.key)
        return told.stats.up if told is not None else None

    def echoes(self) -> list[float]:
        """When small echoes left."""
        return [when for when, layer, data in self.packets if layer is Layer.INNER and len(data) == ECHO_SIZE_V4]

    def full(self, layer: Layer = Layer.INNER, size: int = 1420) -> list[tuple[float, bytes]]:
        """When packets of this size left, and where to."""
        return [(when, data[ADDRESS]) for when, on, data in self.packets if on is layer and len(data) == size]


def answering(namespace: Namespace, *, yes: bool) -> None:
    """Whether echoes are answered in this namespace from now on."""
    namespace.run(["sysctl", "-qw", f"net.ipv4.icmp_echo_ignore_all={int(not yes)}"])
