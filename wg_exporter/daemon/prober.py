"""What the exporter wants of the prober's process, and who stays unjudged without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from wg_exporter.events import Life
from wg_exporter.log import Log
from wg_exporter.remote.prober.handle import ProberProcess
from wg_exporter.remote.prober.supervisor import start as start_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence, Set

    from wg_exporter.config import Config, ProbeSettings
    from wg_exporter.model import Device, DeviceKey, PeerKey, Snapshot, Usage
    from wg_exporter.names.identity import PeerMeta
    from wg_exporter.plan.planner import Plan
    from wg_exporter.probed import FastPeer, Probed, ProbePeer
    from wg_exporter.remote.process import Process
    from wg_exporter.sighted import Caller, Sighting, WatchPeer


class Prober(Protocol):
    """What probes the peers, in a process of its own (`remote.prober.handle`). Only `stop` waits for it."""

    def configure(self, config: Config) -> None:
        """Probe as this configuration says, from now on. Counters go on, except of histograms with other bounds.

        If it raises, nothing has changed.
        """

    def set_peers(self, peers: Sequence[ProbePeer]) -> None:
        """Probe exactly these from now on."""

    def counters(self, rows: Mapping[PeerKey, tuple[int, int]]) -> None:
        """Take the byte counters (rx, tx) of peers, which have just been read."""

    def results(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        """What is known of each peer, by device and public key; a device is the same object while nothing changed."""

    def watch(self, peers: Iterable[WatchPeer], seconds: float) -> None:
        """Watch for these peers on the wire for so many seconds from now on."""

    def sightings(self) -> Mapping[PeerKey, Sighting]:
        """What was seen of each peer in its last window; the same object until more is seen."""

    def callers(self) -> Mapping[DeviceKey, tuple[Caller, ...]]:
        """Who sends handshake messages to a device and is no watched peer's endpoint, of the last windows."""

    @property
    def watch_problem(self) -> str:
        """Why the last window could not be opened, one line; empty if it could."""

    def ask_fast(self, peers: Sequence[FastPeer]) -> None:
        """Send fast echoes to exactly these from now on."""

    def fast(self) -> Mapping[PeerKey, bool]:
        """Who is up and who is down by them, without those of whom that is not known. Waits for nothing."""

    def listen_fast(self, changed: Callable[[], object]) -> None:
        """Call this, in another thread, when `fast` may have changed. It must not wait."""

    def scheduling_delay(self) -> float | None:
        """The longest time in seconds by which a probe left late, since the last call; None if nothing is probed."""

    def usages(self) -> Sequence[Usage]:
        """What each of its processes has cost the host."""

    def stop(self) -> None:
        """End it, and wait for that."""


def read_counters(snapshot: Snapshot, keys: Set[PeerKey]) -> dict[PeerKey, tuple[int, int]]:
    """(rx, tx) in bytes of these peers, without those of devices that could not be read now."""
    found = {}
    for device in snapshot.devices:
        if device.fresh:
            rows = device.peers
            for public_key, rx, tx in zip(rows.public_key, rows.rx_bytes, rows.tx_bytes, strict=True):
                key = (device.netns, device.name, public_key)
                if key in keys:
                    found[key] = (rx, tx)
    return found


def unjudged(snapshot: Snapshot, metas: Callable[[Device], Sequence[PeerMeta]], plan: Plan | None) -> int:
    """How many peers are expected up without keepalive and probes: idle and dead look alike until data is sent."""
    probed = {peer.key for peer in plan.peers} if plan else set()
    return sum(
        meta.expected_up and not keepalive and (device.netns, device.name, key) not in probed
        for device in snapshot.devices
        for key, keepalive, meta in zip(
            device.peers.public_key, device.peers.persistent_keepalive, metas(device), strict=True
        )
    )


class Probing:
    """The prober's process, as `Prober`. `start` starts it for the configuration in use."""

    def __init__(
        self,
        config: Config,
        start: Callable[[Config, int], Process] | None = None,
        tell: Callable[[Life, str], object] = lambda _life, _how: None,
    ) -> None:
        """`tell` is told, in another thread, when the process has died, and when it runs again."""
        self._config = config
        lives = _Lives(start_here if start is None else lambda fd: start(self._config, fd), tell)
        self._process = ProberProcess(*_probing(config), log=lives.failed, start=lives.start)

    def configure(self, config: Config) -> None:
        """As `Prober`."""
        before, self._config = self._config, config
        try:
            self._process.configure(*_probing(config))
        except BaseException:
            self._config = before
            raise

    def set_peers(self, peers: Sequence[ProbePeer]) -> None:
        """As `Prober`."""
        self._process.set_peers(peers)

    def counters(self, rows: Mapping[PeerKey, tuple[int, int]]) -> None:
        """As `Prober`."""
        self._process.counters(rows)

    def results(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        """As `Prober`."""
        return self._process.results()

    def watch(self, peers: Iterable[WatchPeer], seconds: float) -> None:
        """As `Prober`."""
        self._process.watch(peers, seconds)

    def sightings(self) -> Mapping[PeerKey, Sighting]:
        """As `Prober`."""
        return self._process.sightings()

    def callers(self) -> Mapping[DeviceKey, tuple[Caller, ...]]:
        """As `Prober`."""
        return self._process.callers()

    def ask_fast(self, peers: Sequence[FastPeer]) -> None:
        """As `Prober`."""
        self._process.ask_fast(peers)

    def fast(self) -> Mapping[PeerKey, bool]:
        """As `Prober`."""
        return self._process.fast()

    def listen_fast(self, changed: Callable[[], object]) -> None:
        """As `Prober`."""
        self._process.listen_fast(changed)

    @property
    def watch_problem(self) -> str:
        """As `Prober`."""
        return self._process.watch_problem

    def scheduling_delay(self) -> float | None:
        """As `Prober`."""
        return self._process.scheduling_delay() if self._process.pid else None

    def usages(self) -> list[Usage]:
        """As `Prober`."""
        usage = self._process.usage
        return [] if usage is None else [usage]

    def stop(self) -> None:
        """As `Prober`."""
        self._process.stop()


class _Lives:
    """Tells of the process's ends and starts. It holds no handle, which would not be collected."""

    def __init__(self, start: Callable[[int], Process], tell: Callable[[Life, str], object]) -> None:
        self._start = start
        self._tell = tell
        self._failed = False

    def start(self, fd: int) -> Process:
        process = self._start(fd)
        if self._failed:
            self._failed = False
            self._tell(Life.RECOVERED, "")
        return process

    def failed(self, problem: str) -> None:
        self._failed = True
        Log(__name__).warn("probing", problem=problem)
        self._tell(Life.FAILED, problem.removeprefix("the prober "))


def _probing(config: Config) -> tuple[ProbeSettings, dict[str, str]]:
    return config.probe, {place.name: place.path for place in config.namespaces}
