"""What the exporter wants of whatever reads the host, and what it makes of a read that failed.

The reader may be threads of this process (`reader.host`) or a process of its own that is root (`reader.process`). The
exporter itself reads nothing, so it needs no right.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from wg_exporter.model import KERNEL_KINDS, FailedDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.config import Config
    from wg_exporter.inspected import Inspected
    from wg_exporter.model import PeerKey, Snapshot, Usage

Questions: TypeAlias = "Mapping[str, tuple[tuple[int, str], ...]]"
"""By namespace: targets whose routes are to be looked at, each with the index of the device that should be taken."""

Unwell: TypeAlias = "frozenset[tuple[str, str, bool]]"
"""Peers of this host's own namespace that are down or degraded: interface, public key, and whether it is down."""


class Clock(NamedTuple):
    """Where the time comes from: wall clock, monotonic clock, and the processor time of this process, in seconds."""

    wall: Callable[[], float]
    monotonic: Callable[[], float]
    cpu: Callable[[], float]


SYSTEM_CLOCK = Clock(time.time, time.monotonic, time.process_time)


class StoppedError(Exception):
    """The reader was stopped, because another one has taken its place."""


class OnePass:
    """One pass for all who ask while it is under way. Thread-safe."""

    def __init__(self, run: Callable[[], Snapshot]) -> None:
        """`run` makes a pass; it is called by one thread at a time, of those who ask."""
        self._run = run
        self._lock = threading.Lock()
        self._current: Future[Snapshot] | None = None

    def read(self) -> Snapshot:
        """The pass that is under way, or a new one. Raises what `run` raises."""
        with self._lock:
            current, mine = self._current, self._current is None
            if current is None:
                current = self._current = Future()
        if mine:
            try:
                current.set_result(self._run())
            except BaseException as error:
                current.set_exception(error)
                raise
            finally:
                with self._lock:
                    self._current = None
        return current.result()


class Sources(Protocol):
    """All sources of the host, for one configuration. Thread-safe."""

    @property
    def problem(self) -> str:
        """Why nothing at all can be read now, in one line; empty if that is not so."""

    @property
    def usage(self) -> Usage | None:
        """What it costs the host beside this process; None if nothing."""

    def read(self) -> Snapshot:
        """One pass over all sources, or the one that is under way. It ends by a deadline. Raises StoppedError."""

    def ask(self, questions: Questions) -> None:
        """Which routes to look at from the next pass on. The answers are in `Snapshot.routes`. Does not wait."""

    def inspect(self, keys: Sequence[PeerKey]) -> None:
        """Look at this host for a few peers, once, in the background. Does not wait."""

    def inspected(self) -> tuple[Inspected, ...]:
        """What was found for such peers since the last call, after one of the next passes. Does not wait."""

    def unwell(self, peers: Unwell) -> None:
        """Which peers are down or degraded from now on; their host names are looked up more often. Does not wait."""

    def stop(self) -> None:
        """End it. Does not wait."""


OpenSources: TypeAlias = "Callable[[Config, Clock], Sources]"
"""Opens the sources that a configuration asks for. Raises OSError or RuntimeError for lack of files or threads."""


def with_unread(snapshot: Snapshot, wanted: Callable[[str], bool]) -> Snapshot:
    """The snapshot, with a failed device for each kernel device whose source failed.

    Reading links needs no permission, so their rows are there even where devices can't be read.
    """
    failures = {(outcome.source, outcome.netns): outcome for outcome in snapshot.outcomes if not outcome.success}
    if not failures:
        return snapshot
    known = {(device.netns, device.name) for device in snapshot.devices}
    known |= {(failed.netns, failed.name) for failed in snapshot.failed}
    unread: list[FailedDevice] = []
    for (netns, name), link in snapshot.links.items():
        if link.kind in KERNEL_KINDS and (netns, name) not in known and wanted(name):
            source, backend = KERNEL_KINDS[link.kind]
            if failure := failures.get((source, netns)):
                unread.append(FailedDevice(netns, name, backend, failure.problem, failure.failure))
    return snapshot._replace(failed=(*snapshot.failed, *unread)) if unread else snapshot
