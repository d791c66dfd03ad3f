"""The last step of a pass: the packets of the peers that were just read.

It comes after the other sources, for it needs to know who owns which addresses now. Each network namespace has a thread
for it, as for the others; where nothing is counted, that thread takes away what a killed exporter has left, and ends.
"""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.model import Failure, Outcome, SourceName, same
from wg_exporter.reader.accounting.sweeper import Sweeper
from wg_exporter.reader.accounting.wanted import Wanted
from wg_exporter.reader.reader import Reading, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wg_exporter.accounted import Packets
    from wg_exporter.linux.namespaces import Entrance
    from wg_exporter.model import Device, Peers, Snapshot
    from wg_exporter.reader.accounting.source import AccountingSource
    from wg_exporter.sources import Clock

# How long `stop` waits for programs to be taken away.
END_SECONDS = 1.0

# What a pass always leaves for it, however late the others were.
LEAST_SECONDS = 0.5


class Counters(NamedTuple):
    """Those of one network namespace: its thread, and what that reads."""

    worker: Worker
    source: AccountingSource | Sweeper


def counters(clock: Clock, netns: str, namespace: Entrance | None, *, count: bool) -> Counters:
    """Those of the namespace with this configured name. `count`: else it only sweeps."""
    source = _source(clock) if count else Sweeper()

    def read() -> Reading:
        packets = source.read()
        return Reading(packets=packets, notes=source.notes)

    worker = Worker(SourceName.ACCOUNTING, read, source.close, clock=clock, netns=netns, namespace=namespace)
    return Counters(worker, source)


def _source(clock: Clock) -> AccountingSource:
    from wg_exporter.reader.accounting.source import AccountingSource  # noqa: PLC0415 - only for hosts that count

    return AccountingSource(clock.monotonic)


class Counting:
    """All counters of this host. `add` is called by one thread at a time."""

    def __init__(self, counters: Sequence[Counters], monotonic: Callable[[], float], *, count: bool) -> None:
        self._counters = counters
        self._monotonic = monotonic
        self._count = count

    def add(self, snapshot: Snapshot, until: float) -> Snapshot:
        """The snapshot with the packets of its peers, and how reading them went. `until` is the end of the pass."""
        if not self._counters:
            return snapshot
        started = []
        read = snapshot.namespaces_read()
        for worker, source in self._counters:
            source.follow(_wanted(snapshot, worker.netns, known=worker.netns in read))
            started.append((worker, worker.begin()))
        until = max(until, self._monotonic() + LEAST_SECONDS)
        found: dict[tuple[str, str], tuple[Peers, Packets]] = {}
        outcomes: list[Outcome] = []
        notes: list[str] = []
        for worker, future in started:
            try:
                done = future.result(max(0.0, until - self._monotonic()))
            except FutureTimeoutError:
                worker.was_late()
                late = self._monotonic() - worker.begun
                outcomes.append(Outcome(worker.name, worker.netns, False, late, "no answer in time"))  # noqa: FBT003
                continue
            failure = done.failure
            row = Outcome(worker.name, worker.netns, failure is None, done.duration, done.problem)
            outcomes.append(row._replace(failure=failure or Failure.OTHER))
            found |= {(worker.netns, name): packets for name, packets in done.reading.packets.items()}
            notes += done.reading.notes
        if not self._count:
            if all(isinstance(source, Sweeper) and source.done for _worker, source in self._counters):
                self.stop()
            return snapshot
        able = all(row.success for row in outcomes if not row.netns)
        return snapshot._replace(
            devices=tuple(_with_packets(device, found) for device in snapshot.devices),
            outcomes=(*snapshot.outcomes, *outcomes),
            notes=(*snapshot.notes, *notes),
            capabilities=(*snapshot.capabilities, ("bpf", able)),
        )

    def stop(self) -> None:
        """Let the threads end, and wait a moment until nothing of theirs is left on the host."""
        ending, self._counters = self._counters, ()
        for worker, _source in ending:
            worker.stop()
        until = self._monotonic() + END_SECONDS
        for worker, _source in ending:
            worker.join(max(0.0, until - self._monotonic()))


def _wanted(snapshot: Snapshot, netns: str, *, known: bool) -> Wanted:
    links = {name: link.ifindex for (place, name), link in snapshot.links.items() if place == netns}
    devices = {
        (device.name, links[device.name]): device.peers
        for device in snapshot.devices
        if device.netns == netns and device.name in links
    }
    return Wanted(devices, links.values() if known else None)


def _with_packets(device: Device, found: dict[tuple[str, str], tuple[Peers, Packets]]) -> Device:
    peers, packets = found.get((device.netns, device.name), (None, None))
    # The answer to an earlier pass may be of other peers.
    if peers is None or packets is None or not same(peers.public_key, device.peers.public_key):
        return device
    return device._replace(packets=packets)
