"""The prober's process, as the exporter sees it: told what to probe, asked what was found. Nobody who calls ever waits.

A process, because round trips should not wait while 10,000 peers are rendered beside it, and because it needs another
set of privileges. The `supervisor` keeps it alive and talks to it.
"""

from __future__ import annotations

import time
import warnings
from types import MappingProxyType
from typing import TYPE_CHECKING

from wg_exporter.prober.process import supervisor
from wg_exporter.prober.process.messages import Setup
from wg_exporter.prober.process.supervisor import Supervisor

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.config.probe import ProbeSettings
    from wg_exporter.model import DeviceKey, PeerKey, Probed, ProbePeer

_NOTHING: Mapping[DeviceKey, Mapping[str, Probed]] = MappingProxyType({})


class ProberProcess:
    """Probes from now on until `stop`. Safe for several threads; only `stop` waits.

    The process is started when there is a first peer to probe. Who drops the handle without `stop` gets a
    ResourceWarning, and the process ends.
    """

    def __init__(
        self,
        settings: ProbeSettings,
        namespaces: Mapping[str, str] | None = None,
        log: Callable[[str], None] = lambda _line: None,
        start: Callable[[int], subprocess.Popen[bytes]] | None = None,
    ) -> None:
        """`log` gets a line, from another thread, when the process died or can't be started.

        `start` stands in for the program that is started with its end of the socket.
        """
        setup = Setup(settings.for_all(), dict(namespaces or {}))
        self._supervisor = Supervisor(setup, log, start or supervisor.start)

    def __del__(self) -> None:
        running = getattr(self, "_supervisor", None)  # there is none where it could not be started
        if running is not None and not running.stopping:
            warnings.warn(f"{self!r} was dropped and not stopped", ResourceWarning, source=self, stacklevel=2)
            running.stopping = True  # and no lock: this may run anywhere. The thread looks once a second.

    @property
    def pid(self) -> int | None:
        """Of the process, None while there is none."""
        process = self._supervisor.process
        return process.pid if process is not None else None

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
        """Probe exactly these. Free where it is the same object as before."""
        with self._supervisor.lock:
            self._supervisor.known.forget(self._supervisor.pending.set_peers(peers))
            self._supervisor.wake()

    def counters(self, rows: Mapping[PeerKey, tuple[int, int]]) -> None:
        """The byte counters (rx, tx) of peers, just read. Peers that could not be read are not among them."""
        with self._supervisor.lock:
            self._supervisor.pending.set_counters(rows, self._supervisor.known.probed)
            self._supervisor.wake()

    def results(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        """The latest that is known of each peer, by device and public key; the same objects while nothing changed.

        Nothing, when the process is gone or mute for longer than a new start takes: what was true once would look fine.
        """
        with self._supervisor.lock:
            if time.monotonic() > self._supervisor.heard_at + supervisor.SILENCE:
                return _NOTHING
            return self._supervisor.known.by_device()

    def scheduling_delay(self) -> float:
        """By how many seconds the latest small echo left after it was due, the worst since this was last asked."""
        with self._supervisor.lock:
            worst, self._supervisor.delay = self._supervisor.delay, 0.0
            return worst

    def stop(self) -> None:
        """End the process and wait for it, at most some seconds."""
        self._supervisor.stop(2 * supervisor.STOP_TIMEOUT)
