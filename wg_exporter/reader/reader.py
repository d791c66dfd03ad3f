"""Reads all sources at once and makes a Snapshot of what they say, within a deadline that no source can stretch.

Each source has a thread of its own: a read of the kernel can't be cut short, and a thread can stay in a network
namespace. The deadline is on the waiter. A read that misses it loses only its own rows, goes on, and is not started a
second time. All who ask during a pass get its result.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from queue import SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.linux.errors import SourceError
from wg_exporter.log import place
from wg_exporter.model import (
    USERSPACE_KIND,
    ConfFile,
    Device,
    DeviceKey,
    FailedDevice,
    Failure,
    Link,
    Outcome,
    Snapshot,
    SourceName,
    Usage,
)
from wg_exporter.reader.inspect.background import Inspector
from wg_exporter.reader.rights import capabilities
from wg_exporter.sources import OnePass, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.accounted import Packets
    from wg_exporter.inspected import Inspected
    from wg_exporter.linux.namespaces import Entrance
    from wg_exporter.model import PeerKey, Peers
    from wg_exporter.reader.accounting.wanted import Counting
    from wg_exporter.reader.dns.service import HostNames
    from wg_exporter.reader.keys import Comparisons, FileKeys
    from wg_exporter.sources import Clock, Questions, Unwell

# A scrape must be over well before Prometheus gives up, which is after 10 s unless told otherwise.
DEADLINE_SECONDS = 2.5

# An answer that came too late is given to the next pass, if its read began less than this many seconds before.
LATE_SECONDS = 15.0


_NO_NAMESPACES: Mapping[str, str] = MappingProxyType({})

_KERNELS = "the kernel's is shown, and the peers of the other are not: rename one"


class Reading(NamedTuple):
    """What one source brings: the rows of its kind, and nothing of the others."""

    devices: Sequence[Device] = ()
    failed: Sequence[FailedDevice] = ()
    links: Sequence[Link] = ()
    conf: tuple[ConfFile, ...] = ()
    notes: tuple[str, ...] = ()
    ports: frozenset[int] | None = None
    left_out: frozenset[str] = frozenset()
    idle_patterns: tuple[str, ...] = ()
    doubles: tuple[str, ...] = ()
    routes: Mapping[tuple[int, str], str] | None = None
    keys: Mapping[str, FileKeys] = {}
    packets: Mapping[str, tuple[Peers, Packets]] = {}


class _Done(NamedTuple):
    """How a read ended; `failure` is None on success."""

    reading: Reading
    problem: str
    duration: float
    failure: Failure | None


def nothing() -> None:
    """What a source without sockets has to close."""


def unasked(_questions: tuple[tuple[int, str], ...]) -> None:
    """What a source does that looks at no routes."""


class Worker:
    """A source and the thread that reads it.

    `read` raises SourceError if the source as a whole failed. `close` lets go of sockets, because the thread ends or
    is in another namespace from now on. Both are called by the worker's thread alone. `ask` takes the targets to which
    routes are to be looked at, from any thread. An answer younger than `every`
    seconds is given again instead of a new one: for a source that hardly ever changes but takes a while to read.
    """

    def __init__(
        self,
        name: SourceName,
        read: Callable[[], Reading],
        close: Callable[[], None] = nothing,
        ask: Callable[[tuple[tuple[int, str], ...]], None] = unasked,
        *,
        clock: Clock,
        netns: str = "",
        namespace: Entrance | None = None,
        every: float = 0.0,
    ) -> None:
        self.name = name
        self.netns = netns
        self._read = read
        self._close = close
        self.ask = ask
        self._clock = clock
        self._namespace = namespace
        self._every = every
        self.begun = 0.0
        self._orders: SimpleQueue[Future[_Done] | None] = SimpleQueue()
        self._current: Future[_Done] | None = None
        self._stopped = False
        self._late = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"{name} {netns}".strip(), daemon=True)
        self._thread.start()

    def begin(self) -> Future[_Done]:
        """Start a read, or join the one that is still under way. Raises StoppedError after `stop`."""
        with self._lock:
            if self._stopped:
                raise StoppedError
            now = self._clock.monotonic()
            if self._late and self._current is not None and self._current.done():
                # The pass that asked did not get this answer. A source that is always late is served late, not never.
                self._late = False
                if now - self.begun < LATE_SECONDS:
                    return self._current
            if self._current is None or (self._current.done() and now - self.begun >= self._every):
                self.begun = now
                self._current = Future()
                self._orders.put(self._current)
            return self._current

    def was_late(self) -> None:
        """No pass waits for the read under way any more: the next one may take its answer."""
        with self._lock:
            self._late = True

    def stop(self) -> None:
        """Let the thread end after what it is doing."""
        with self._lock:
            self._stopped = True
            self._orders.put(None)

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, for at most `timeout` seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            begun = self._clock.monotonic()
            reading, problem, failure = Reading(), "", None
            try:
                self._enter()
                reading = self._read()
            except SourceError as error:
                problem, failure = str(error), error.failure
            except Exception as error:  # noqa: BLE001 - a bug in one source must not stop the others, nor go unseen
                problem, failure = f"unexpected {type(error).__name__} in {place(error)}", Failure.OTHER
            order.set_result(_Done(reading, problem, self._clock.monotonic() - begun, failure))
        self._close()
        if self._namespace is not None:
            self._namespace.close()

    def _enter(self) -> None:
        """Enter the source's namespace. A socket stays in the namespace where it was opened, so a move closes them."""
        if self._namespace is None:
            return
        try:
            moved = self._namespace.enter()
        except SourceError:
            self._close()
            raise
        if moved:
            self._close()


class Reader:
    """Passes over all sources, as `sources.Sources`."""

    problem = ""

    def __init__(
        self,
        workers: Sequence[Worker],
        clock: Clock,
        deadline: float = DEADLINE_SECONDS,
        *,
        namespaces: Mapping[str, str] = _NO_NAMESPACES,
        keys: Comparisons | None = None,
        names: HostNames | None = None,
        counting: Counting | None = None,
    ) -> None:
        """`namespaces` are the paths of those that are configured, by name. `names` looks up the host names of
        endpoints, `counting` counts packets; None = nobody does.
        """
        self._workers = workers
        self._clock = clock
        self._deadline = deadline
        self._names = names
        self._counting = counting
        self._passes = OnePass(self._pass)
        self._inspector = Inspector(namespaces, clock.monotonic)
        self._last: Snapshot | None = None
        self._conf: tuple[ConfFile, ...] = ()
        self._idle_patterns: tuple[str, ...] = ()
        self._keys = keys
        self._homes: dict[str, str] = {}  # the namespace in which each userspace device was last seen

    @property
    def usage(self) -> Usage | None:
        """What the process costs that looks names up; the threads are this process's."""
        return self._names.usage if self._names else None

    def read(self) -> Snapshot:
        """One pass over all sources, or the one that is under way. Takes no longer than the deadline."""
        return self._passes.read()

    def ask(self, questions: Questions) -> None:
        """Which routes to look at from the next pass on, by namespace: each to an address, and into the device with an
        index. The answers are in `Snapshot.routes`. Does not wait.
        """
        for worker in self._workers:
            worker.ask(questions.get(worker.netns, ()))

    def inspect(self, keys: Sequence[PeerKey]) -> None:
        """As `sources.Sources`: by what the last pass has read."""
        if self._last is not None:
            self._inspector.ask(keys, self._last)

    def inspected(self) -> tuple[Inspected, ...]:
        """As `sources.Sources`."""
        return self._inspector.take()

    def unwell(self, peers: Unwell) -> None:
        """As `sources.Sources`."""
        if self._names is not None:
            self._names.unwell(peers)

    def stop(self) -> None:
        """Let all threads end. Waits for what counts packets: that must not stay on the host."""
        if self._counting is not None:
            self._counting.stop()
        if self._names is not None:
            self._names.stop()
        for worker in self._workers:
            worker.stop()

    def _pass(self) -> Snapshot:
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        started = [(worker, worker.begin()) for worker in self._workers]
        outcomes: list[Outcome] = []
        readings: list[tuple[Worker, Reading]] = []
        for worker, future in started:
            # The time of a read counts from its beginning: one that hangs must not cost every pass a whole deadline.
            left = max(0.0, min(monotonic, worker.begun) + self._deadline - self._clock.monotonic())
            try:
                done = future.result(left)
            except FutureTimeoutError:
                worker.was_late()
                done = _Done(Reading(), f"no answer within {self._deadline} s", self._deadline, Failure.OTHER)
            success, failure = done.failure is None, done.failure or Failure.OTHER
            if worker.name is SourceName.CONF and success:
                self._conf, self._idle_patterns = done.reading.conf, done.reading.idle_patterns
                if self._keys is not None:
                    self._keys.describe(self._conf, done.reading.keys)
            outcomes.append(Outcome(worker.name, worker.netns, success, done.duration, done.problem, failure))
            readings.append((worker, done.reading))
        self._last = self._snapshot(wall, monotonic, readings, tuple(outcomes))
        if self._counting is not None:
            self._last = self._counting.add(self._last, monotonic + self._deadline)
        return self._last

    def _snapshot(
        self, wall: float, monotonic: float, readings: list[tuple[Worker, Reading]], outcomes: tuple[Outcome, ...]
    ) -> Snapshot:
        links = {
            (worker.netns, link.name): link._replace(netns=worker.netns)
            for worker, reading in readings
            for link in reading.links
        }
        devices: dict[DeviceKey, Device] = {}
        sources: dict[DeviceKey, SourceName] = {}
        doubles = [line for _worker, reading in readings for line in reading.doubles]
        failed: dict[DeviceKey, FailedDevice] = {}
        for worker, reading in readings:
            for device in reading.devices:
                netns = self._home(worker, device.name, links)
                devices.setdefault(
                    (netns, device.name), device if netns == device.netns else device._replace(netns=netns)
                )
                if sources.setdefault((netns, device.name), worker.name) is not worker.name:
                    doubles.append(f"{device.name}: a kernel device and a userspace daemon have this name; {_KERNELS}")
            for problem in reading.failed:
                netns = self._home(worker, problem.name, links)
                failed.setdefault((netns, problem.name), problem._replace(netns=netns))
        here = {name: device.backend for (netns, name), device in devices.items() if not netns}
        read = tuple(devices.values())
        if self._names is not None:
            self._names.look(read, self._conf)
        return Snapshot(
            wall,
            monotonic,
            read,
            tuple(problem for key, problem in failed.items() if key not in devices),
            links,
            self._conf,
            outcomes,
            tuple(note for _worker, reading in readings for note in reading.notes),
            {worker.netns: reading.ports for worker, reading in readings if reading.ports is not None},
            frozenset().union(*(reading.left_out for _worker, reading in readings)),
            self._idle_patterns,
            tuple(doubles),
            {worker.netns: reading.routes for worker, reading in readings if reading.routes is not None},
            capabilities(outcomes),
            keys=self._keys.now(here) if self._keys is not None else (),
            host_names=self._names.rows if self._names else (),
            reresolved=self._names.reresolved if self._names else None,
        )

    def _home(self, worker: Worker, name: str, links: dict[DeviceKey, Link]) -> str:
        """The namespace of a device. All userspace daemons have their control sockets in one directory, so a userspace
        device belongs to the namespace that has a tun link of its name, or had one last.
        """
        if worker.name is not SourceName.USERSPACE:
            return worker.netns
        places = [netns for (netns, other), link in links.items() if other == name and link.kind == USERSPACE_KIND]
        if places and self._homes.get(name) not in places:
            self._homes[name] = "" if "" in places else places[0]
        return self._homes.get(name, "")
