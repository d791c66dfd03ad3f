"""The prober's process, as the exporter sees it: told what to probe, asked what was found. No call waits but `stop`.

It is a process of its own so that round trips don't wait while 10,000 peers are rendered, and because it needs other
privileges. The `supervisor` keeps it alive and talks to it.
"""

from __future__ import annotations

import time
import warnings
from types import MappingProxyType
from typing import TYPE_CHECKING

from wg_exporter.messages.prober import Setup
from wg_exporter.remote.prober import supervisor
from wg_exporter.remote.prober.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wg_exporter.config.probe import ProbeSettings
    from wg_exporter.model import DeviceKey, PeerKey, Usage
    from wg_exporter.probed import FastPeer, Probed, ProbePeer
    from wg_exporter.remote.process import Process
    from wg_exporter.sighted import Caller, Sighting, WatchPeer

_NOTHING: Mapping[DeviceKey, Mapping[str, Probed]] = MappingProxyType({})


class ProberProcess:
    """Probes from now on until `stop`. Thread-safe; only `stop` waits.

    The process is started when there is a first peer to probe or to watch for. If the handle is dropped without `stop`,
    there is a ResourceWarning, and the process ends.
    """

    def __init__(
        self,
        settings: ProbeSettings,
        namespaces: Mapping[str, str] | None = None,
        log: Callable[[str], None] = lambda _line: None,
        start: Callable[[int], Process] | None = None,
    ) -> None:
        """`namespaces` maps names to paths. `log` gets a line, from another thread, when the process died or can't be
        started. `start` replaces `supervisor.start` in tests.
        """
        setup = Setup(settings.for_all(), dict(namespaces or {}))
        self._supervisor = Supervisor(setup, log, start or supervisor.start)

    def __del__(self) -> None:
        running = getattr(self, "_supervisor", None)  # there is none if `__init__` failed
        if running is not None and not running.stopping:
            warnings.warn(f"{self!r} was dropped and not stopped", ResourceWarning, source=self, stacklevel=2)
            running.stopping = True  # without the lock, as this may run anywhere; the thread looks once a second

    @property
    def pid(self) -> int | None:
        """The id of the process, None while there is none."""
        process = self._supervisor.process
        return process.pid if process is not None else None

    @property
    def usage(self) -> Usage | None:
        """What the process has cost its host, None while there is none."""
        return self._supervisor.usage

    def configure(self, settings: ProbeSettings, namespaces: Mapping[str, str]) -> None:
        """Probe in this way from now on. Counters go on; a histogram with other bounds begins at 0."""
        setup = Setup(settings.for_all(), dict(namespaces))
        with self._supervisor.lock:
            before = self._supervisor.setup
            if setup == before:
                return
            if setup.settings.rtt_buckets != before.settings.rtt_buckets:
                self._supervisor.known.empty_histograms(len(setup.settings.rtt_buckets))
            self._supervisor.restart(setup)

    def set_peers(self, peers: Sequence[ProbePeer]) -> None:
        """Probe exactly these. Costs nothing if it is the same object as before."""
        with self._supervisor.lock:
            self._supervisor.known.forget(self._supervisor.pending.set_peers(peers))
            self._supervisor.wake()

    def counters(self, rows: Mapping[PeerKey, tuple[int, int]]) -> None:
        """Take the byte counters (rx, tx) of peers, just read, without the peers that could not be read."""
        with self._supervisor.lock:
            self._supervisor.pending.set_counters(rows, self._supervisor.known.probed)
            self._supervisor.wake()

    def results(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        """The latest that is known of each peer, by device and public key; the same objects while nothing changed.

        Empty when the process has said nothing for `supervisor.SILENCE`, so that old results don't look like new ones.
        """
        with self._supervisor.lock:
            if time.monotonic() > self._supervisor.heard_at + supervisor.SILENCE:
                return _NOTHING
            return self._supervisor.known.by_device()

    def watch(self, peers: Iterable[WatchPeer], seconds: float) -> None:
        """Watch for these peers on the wire for so many seconds from now on. Whoever is watched for longer stays so."""
        with self._supervisor.lock:
            self._supervisor.watched.watch(peers, seconds, time.monotonic())
            self._supervisor.wake()

    def sightings(self) -> Mapping[PeerKey, Sighting]:
        """What was seen of each peer in its last window, by key; the same object until more is seen. A peer that is
        not in it was not watched in the last 20 minutes, or could not be.
        """
        with self._supervisor.lock:
            return self._supervisor.watched.sightings()

    def callers(self) -> Mapping[DeviceKey, tuple[Caller, ...]]:
        """Who sends handshake messages to a device and is no watched peer's endpoint, of the last windows."""
        with self._supervisor.lock:
            return self._supervisor.watched.callers()

    def ask_fast(self, peers: Sequence[FastPeer]) -> None:
        """Send fast echoes to exactly these. Costs nothing if it is the same object as before."""
        with self._supervisor.lock:
            self._supervisor.fast.set_peers(peers)
            self._supervisor.wake()

    def fast(self) -> Mapping[PeerKey, bool]:
        """Who is up and who is down by fast echoes, without those of whom that is not known. Waits for no lock."""
        return self._supervisor.fast.states(time.monotonic())

    def listen_fast(self, changed: Callable[[], object]) -> None:
        """Call this from now on, in another thread, when `fast` may have changed. It must not wait."""
        self._supervisor.on_fast = changed

    @property
    def watch_problem(self) -> str:
        """Why the last window could not be opened, one line; empty if it could."""
        return self._supervisor.watched.problem

    def scheduling_delay(self) -> float:
        """The longest time in seconds by which a small echo left after it was due, since the last call."""
        with self._supervisor.lock:
            worst, self._supervisor.delay = self._supervisor.delay, 0.0
            return worst

    def stop(self) -> None:
        """End the process and wait for it, for at most twice `supervisor.STOP_TIMEOUT`."""
        self._supervisor.stop(2 * supervisor.STOP_TIMEOUT)
