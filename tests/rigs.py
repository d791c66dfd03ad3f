"""An exporter over a fake host, with a clock that stands still: help for the tests of what is wired together."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from tests.rows import SECOND, WALL, FakeHost, FakeTime, device, link, parsed, peer
from wg_exporter.config import Config
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.reader.reader import Reader, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wg_exporter.model import Device, Peer, SourceName
    from wg_exporter.reader.reader import Reading

UP = "wireguard_interface_up"


def shaken(n: int, seconds: float, **changes: object) -> Peer:
    """Peer `n`, its last handshake that many seconds after the test began."""
    return peer(n, last_handshake_ns=int(WALL + seconds) * SECOND, **changes)


class Rig:
    """A fake host, a clock that stands still, and exporters that are stopped in the end."""

    def __init__(self) -> None:
        self.host, self.time = FakeHost(), FakeTime()
        self.host.devices, self.host.links = [device(peer(1), peer(2, persistent_keepalive=0))], [link()]
        self.made: list[Exporter] = []

    def exporter(self, config: Config | None = None, path: Path | None = None, **more: object) -> Exporter:
        exporter = Exporter(config or Config(), path, self.host.sources, self.time.clock, **more)
        self.made.append(exporter)
        return exporter

    def tick(self, exporter: Exporter, *devices: Device) -> None:
        self.host.devices = devices or self.host.devices
        self.time.advance(5)
        exporter.tick()

    def stop(self) -> None:
        for event in self.host.stuck.values():
            event.set()
        for exporter in self.made:
            exporter.stop()


@contextmanager
def reading(time_: FakeTime, *given: tuple[SourceName, Reading | Exception, str]) -> Iterator[Reader]:
    """A reader of workers of (name, what it brings or raises, netns); ended afterwards."""

    def read(what: Reading | Exception) -> Reading:
        if isinstance(what, Exception):
            raise what
        return what

    made = [Worker(name, partial(read, what), clock=time_.clock, netns=netns) for name, what, netns in given]
    reader = Reader(made, time_.clock, 1.0)
    try:
        yield reader
    finally:
        reader.stop()


def found(exporter: Exporter, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Values of a metric at a scrape, by its labels but the key."""
    values = parsed(exporter.scrape("", openmetrics=True), openmetrics=True)
    return {
        tuple(sorted((n, v) for n, v in at if n != "public_key")): value
        for metric, at, value in values
        if metric == name
    }


def of(exporter: Exporter, name: str) -> list[float]:
    """The values alone."""
    return sorted(found(exporter, name).values())


def labelled(**labels: str) -> tuple[tuple[str, str], ...]:
    """A key of what `found` returns."""
    return tuple(sorted(labels.items()))
