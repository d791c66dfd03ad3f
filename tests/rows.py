"""Rows to test with, short to write, and a host of fake sources that serves them.

A peer is a number: key, addresses and counters follow from it, so that no two peers share a value by chance.
"""

from __future__ import annotations

import base64
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from wg_exporter.exposition.view import DeviceView, ExporterFacts, View
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.history.counts import PeerCounts
from wg_exporter.linux.errors import SourceError
from wg_exporter.model import Backend, ConfFile, ConfPeer, Device, Link, Outcome, Peer, Peers, Snapshot, SourceName
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import MtuReport, Probed, ProbeStats, SendError, Verdict
from wg_exporter.reader.host import reader_of
from wg_exporter.reader.reader import Reader, Reading, Worker
from wg_exporter.sources import Clock

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from wg_exporter.config import Config
    from wg_exporter.exposition.parts import Sample
    from wg_exporter.model import FailedDevice

SECOND = 1_000_000_000
WALL = 1_700_000_000.0
"""The wall clock of a test when it begins."""


def key(n: int) -> str:
    return base64.b64encode(bytes((n & 255, n >> 8)) * 16).decode()


def peer(n: int, **changes: object) -> Peer:
    """The peer of this number: it has an endpoint, an allowed IP and keepalive, and never shook hands."""
    low, high = n & 255, n >> 8
    row = Peer(key(n), f"192.0.{high}.{low}:51820", (f"10.0.{high}.{low}/32",), 25, 0, 1000 + n, 2000 + n)
    return row._replace(**changes)


def device(*peers: Peer, name: str = "wg0", **changes: object) -> Device:
    return Device("", name, Backend.KERNEL, key(999), 51820, 0, Peers.of(peers))._replace(**changes)


def link(name: str = "wg0", ifindex: int = 7, **changes: object) -> Link:
    row = Link("", name, ifindex, "wireguard", True, 1420, 11, 12, 13, 14, 15, 16, 17, 18)
    return row._replace(**changes)


def conf_file(interface: str, *peers: ConfPeer, path: str = "") -> ConfFile:
    return ConfFile(path or f"/etc/wireguard/{interface}.conf", interface, peers)


def declared(n: int, name: str = "", endpoint: str = "", **changes: object) -> ConfPeer:
    return ConfPeer(key(n), name, endpoint)._replace(**changes)


def snapshot(
    *devices: Device,
    at: float = 0.0,
    wall: float | None = None,
    links: Iterable[Link] = (),
    failed: tuple[FailedDevice, ...] = (),
    conf: tuple[ConfFile, ...] = (),
    outcomes: tuple[Outcome, ...] = (),
) -> Snapshot:
    """What was read `at` seconds after the test began, by a wall clock that was not touched unless given."""
    found = {(one.netns, one.name): one for one in links}
    return Snapshot(WALL + at if wall is None else wall, at, devices, failed, found, conf, outcomes)


STATS = ProbeStats(
    up=True,
    sent=22,
    lost=2,
    duplicates=3,
    late=1,
    errors=((SendError.NO_ROUTE, 4),),
    buckets=(0, 0, 5, 0, 14, *(0,) * 10, 1),
    rtt_sum=0.75,
    rtt_min=0.0005,
    rtt_last=0.003,
    jitter=0.00025,
    extra_sent=6,
    extra_lost=5,
)
REPORT = MtuReport(Verdict.FRAGMENTED_PATH, 1420, 1420, 1400, 0, 1480, 1340, 1280, "198.51.100.1", WALL)


def probed(target: str = "10.0.0.1", mtu: MtuReport | None = REPORT, **changes: object) -> Probed:
    """A peer that is probed, with a bit of everything but what `changes` say of its echoes."""
    return Probed(target, STATS._replace(**changes), mtu)


FACTS = ExporterFacts("1.2.3", "3.11.2", True, WALL, (("net_admin", True), ("netns", False)), 2)


JUDGED = PeerHealth(State.DOWN, Reason.ONE_WAY, 3, 62.5, WALL + 0.25, "3 initiations came from it")


def device_view(
    row: Device,
    metas: Sequence[PeerMeta] = (),
    counts: Sequence[PeerCounts] = (),
    at: Link | None = None,
    health: Sequence[PeerHealth] | None = None,
) -> DeviceView:
    """A device as a scrape shows it; peers without a given name are called after their key, all are unhealthy."""
    metas = metas or tuple(PeerMeta(p.public_key[:8], False, False) for p in row.peers)
    health = (JUDGED,) * len(row.peers) if health is None else health
    return DeviceView(row, at, metas, counts or tuple(PeerCounts() for _ in row.peers), health)


def view(*rows: DeviceView, **changes: object) -> View:
    outcomes = (Outcome(SourceName.KERNEL, "", True, 0.25), Outcome(SourceName.LINKS, "blue", False, 2.5, "busy"))
    return View(rows, (), (), outcomes, FACTS)._replace(**changes)


Flat = tuple[str, frozenset[tuple[str, str]], float]


def flat(samples: Iterable[Sample]) -> list[Flat]:
    """Samples as the parsers give them back: (name, labels, value)."""
    return [(sample.metric.name + sample.suffix, frozenset(sample.labels), float(sample.value)) for sample in samples]


def parsed(chunks: Iterable[bytes], *, openmetrics: bool) -> list[Flat]:
    """What prometheus_client's own parsers read from an exposition."""
    text = b"".join(chunks).decode()
    families = (parse_openmetrics if openmetrics else parse_text)(text)
    return [(s.name, frozenset(s.labels.items()), float(s.value)) for family in families for s in family.samples]


class FakeTime:
    """A clock that stands still until told to move."""

    def __init__(self) -> None:
        self.wall = WALL
        self.monotonic = 1000.0
        self.cpu = 0.0
        self.clock = Clock(lambda: self.wall, lambda: self.monotonic, lambda: self.cpu)

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def work(self, seconds: float) -> None:
        """Let time go by in which the processor is busy."""
        self.advance(seconds)
        self.cpu += seconds


class FakeHost:
    """A host whose sources bring what the test says; set `problems[source]` to a text or an exception to fail one.

    A source in `stuck` stays in its read until the event is set.
    """

    def __init__(self) -> None:
        self.devices: Sequence[Device] = ()
        self.failed: Sequence[FailedDevice] = ()
        self.links: Sequence[Link] = ()
        self.conf: tuple[ConfFile, ...] = ()
        self.doubles: tuple[str, ...] = ()
        self.routes: Mapping[tuple[int, str], str] = {}
        """What stands in the way, for what each source of links was asked."""
        self.problems: dict[SourceName, str | Exception] = {}
        self.stuck: dict[SourceName, threading.Event] = {}
        self.during: Callable[[], object] | None = None
        """Called once, in the middle of a pass: while the files are read, when every source has begun."""
        self.reads: Counter[SourceName] = Counter()
        self.started: list[Worker] = []

    def workers(self, config: Config, clock: Clock) -> Iterator[Worker]:
        """The sources of this host, as an Exporter asks for them."""
        for netns in ("", *(place.name for place in config.namespaces)):
            yield self._worker(
                SourceName.KERNEL, clock, lambda at=netns: Reading(self._in(at), tuple(self.failed)), netns
            )
            yield self._links_worker(clock, netns)
        if SourceName.USERSPACE in self.problems or self.doubles:
            yield self._worker(SourceName.USERSPACE, clock, lambda: Reading(doubles=self.doubles))
        yield self._worker(SourceName.CONF, clock, lambda: Reading(conf=self.conf))

    def sources(self, config: Config, clock: Clock) -> Reader:
        """As an Exporter opens them."""
        return reader_of(self.workers(config, clock), clock)

    def _links_worker(self, clock: Clock, netns: str) -> Worker:
        asked: list[tuple[int, str]] = []

        def read() -> Reading:
            routes = {question: self.routes[question] for question in asked if question in self.routes}
            return Reading(links=self._links(netns), routes=routes)

        worker = self._worker(SourceName.LINKS, clock, read, netns)
        worker.ask = lambda questions: asked.__setitem__(slice(None), questions)
        return worker

    def _in(self, netns: str) -> list[Device]:
        return [row for row in self.devices if row.netns == netns]

    def _links(self, netns: str) -> list[Link]:
        return [row for row in self.links if row.netns == netns]

    def _worker(self, name: SourceName, clock: Clock, read: Callable[[], Reading], netns: str = "") -> Worker:
        def attempt() -> Reading:
            self.reads[name] += 1
            if name is SourceName.CONF and self.during:
                during, self.during = self.during, None
                during()
            if name in self.stuck:
                self.stuck[name].wait(30)
            problem = self.problems.get(name)
            if isinstance(problem, Exception):
                raise problem
            if problem:
                raise SourceError(problem)
            return read()

        worker = Worker(name, attempt, clock=clock, netns=netns)
        self.started.append(worker)
        return worker
