"""Who is watched on the wire, and when: briefly, and only peers that are in doubt.

A packet socket costs a little of what passes meanwhile, and a handshake is tried every 5 s. So a window of
`OPEN_SECONDS` opens when a peer comes under suspicion, goes down, or is so for another reason or at another endpoint;
then one of `AGAIN_SECONDS` every `AGAIN_EVERY`, for all peers of the host together, so that the socket is closed most
of the time. Nothing is watched on a host where all is well.

AmneziaWG is not watched: its messages have other sizes and types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.log import Log
from wg_exporter.model import Backend
from wg_exporter.sighted import WatchPeer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wg_exporter.daemon.prober import Prober
    from wg_exporter.daemon.setup import Setup
    from wg_exporter.health.states import PeerHealth, Reason
    from wg_exporter.model import Device, DeviceKey, PeerKey, Snapshot
    from wg_exporter.sighted import Caller, Sighting

OPEN_SECONDS = 30.0
AGAIN_SECONDS = 20.0
AGAIN_EVERY = 600.0
TOGETHER = 300.0  # whoever was not watched for so long joins the others


class _Doubt(NamedTuple):
    """A peer that is in doubt: why and where, and until when it was watched last."""

    reason: Reason | None
    endpoint: str
    until: float


class Window(NamedTuple):
    """Whom to watch for, and for how many seconds."""

    peers: tuple[WatchPeer, ...]
    seconds: float


class Watching:
    """Follows the peers in doubt. No clock: `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._doubts: dict[PeerKey, _Doubt] = {}

    def follow(
        self,
        doubtful: Iterable[tuple[DeviceKey, str, PeerHealth]],
        snapshot: Snapshot,
        underlays: Mapping[DeviceKey, str | None],
        now: float,
    ) -> Iterator[Window]:
        """The windows to open now. `doubtful` are the peers in doubt, with how they are; `underlays` the namespaces of
        the UDP sockets of devices, None where that is none that is known.
        """
        found = {(*device, key): health for device, key, health in doubtful}
        if not found:
            self._doubts.clear()
            return
        rows = {row.key: row for row in _rows(found.keys(), snapshot, underlays)}
        unread = {(failed.netns, failed.name) for failed in snapshot.failed}
        self._doubts = {key: doubt for key, doubt in self._doubts.items() if key in found or (key[0], key[1]) in unread}
        fresh = [key for key, row in rows.items() if self._new(key, row, found[key])]
        if fresh:
            yield self._open(fresh, rows, found, OPEN_SECONDS, now)
        if any(now >= self._doubts[key].until + AGAIN_EVERY for key in rows):
            again = [key for key in rows if now >= self._doubts[key].until + TOGETHER]
            yield self._open(again, rows, found, AGAIN_SECONDS, now)

    def _new(self, key: PeerKey, row: WatchPeer, health: PeerHealth) -> bool:
        """Whether the doubt about a peer is another than before."""
        before = self._doubts.get(key)
        return before is None or (before.reason, before.endpoint) != (health.reason, row.endpoint)

    def _open(
        self,
        keys: list[PeerKey],
        rows: Mapping[PeerKey, WatchPeer],
        found: Mapping[PeerKey, PeerHealth],
        seconds: float,
        now: float,
    ) -> Window:
        for key in keys:
            self._doubts[key] = _Doubt(found[key].reason, rows[key].endpoint, now + seconds)
        return Window(tuple(rows[key] for key in keys), seconds)


class Watched:
    """The watcher as the tick has it. Only `follow` tells the prober anything."""

    def __init__(self, prober: Prober | None) -> None:
        self._prober = prober
        self._watching = Watching()
        self._log = Log(__name__)
        self._problem = ""
        self._given: tuple[Mapping[PeerKey, Sighting], Mapping[DeviceKey, Mapping[str, Sighting]]] = ({}, {})

    def follow(self, doubtful: Iterable[tuple[DeviceKey, str, PeerHealth]], snapshot: Snapshot, setup: Setup) -> None:
        """Have those watched that are in doubt, as far as the configuration in use wants it."""
        if self._prober is None or not setup.config.probe.watch:
            return
        for window in self._watching.follow(doubtful, snapshot, setup.planner.underlays(), snapshot.monotonic):
            self._prober.watch(window.peers, window.seconds)
        problem, self._problem = self._problem, self._prober.watch_problem
        if self._problem and self._problem != problem:
            self._log.warn("handshakes are not watched", problem=self._problem)

    def open(self, keys: Iterable[PeerKey], snapshot: Snapshot, setup: Setup, seconds: float) -> bool:
        """Have these peers watched for so many seconds from now on, in doubt or not: for whoever looks into them.
        Returns whether all of them can be.
        """
        wanted = set(keys)
        rows = tuple(_rows(wanted, snapshot, setup.planner.underlays()))
        if self._prober is None or not rows:
            return False
        self._prober.watch(rows, seconds)
        return len(rows) == len(wanted)

    def sightings(self) -> Mapping[PeerKey, Sighting]:
        """What was seen of each peer in its last window; the same object until more is seen."""
        return self._prober.sightings() if self._prober is not None else {}

    def callers(self) -> Mapping[DeviceKey, tuple[Caller, ...]]:
        """Who sends handshake messages to a device and is no watched peer's endpoint, of the last windows."""
        return self._prober.callers() if self._prober is not None else {}

    def by_device(self) -> Mapping[DeviceKey, Mapping[str, Sighting]]:
        """The sightings by device and public key, as the health wants them."""
        sightings = self.sightings()
        if sightings is not self._given[0]:
            self._given = sightings, _by_device(sightings)
        return self._given[1]


def watched(device: Device, underlay: str | None) -> Iterator[WatchPeer]:
    """The rows of all peers of a device that can be watched; none if it can't be."""
    if underlay is None or device.backend is Backend.AMNEZIAWG or not device.listen_port or not device.public_key:
        return
    for public_key, endpoint in zip(device.peers.public_key, device.peers.endpoint, strict=True):
        yield WatchPeer(
            (device.netns, device.name, public_key), underlay, endpoint, device.listen_port, device.public_key
        )


def _by_device(sightings: Mapping[PeerKey, Sighting]) -> dict[DeviceKey, dict[str, Sighting]]:
    found: dict[DeviceKey, dict[str, Sighting]] = {}
    for (netns, interface, public_key), row in sightings.items():
        found.setdefault((netns, interface), {})[public_key] = row
    return found


def _rows(
    keys: Iterable[PeerKey], snapshot: Snapshot, underlays: Mapping[DeviceKey, str | None]
) -> Iterator[WatchPeer]:
    """The rows of these peers, as far as they can be watched."""
    wanted: dict[DeviceKey, set[str]] = {}
    for netns, interface, public_key in keys:
        wanted.setdefault((netns, interface), set()).add(public_key)
    for device in snapshot.devices:
        theirs = wanted.get((device.netns, device.name))
        if theirs:
            for row in watched(device, underlays.get((device.netns, device.name))):
                if row.key[2] in theirs:
                    yield row
