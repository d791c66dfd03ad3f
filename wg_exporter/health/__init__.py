"""How every peer is, judged at each tick from what was seen of it; a scrape only reads.

A scrape changes nothing. A device that vanished keeps its peers that are expected up here, because metrics that vanish
would resolve the alert that should be firing.

`rules` decide how a peer is, and until when, from its `evidence`. `judge` makes a row of that. `device` judges those
peers of a device that have new evidence or whose deadline has come, `Health` those of all devices. The history says
what became of each device.
"""

from __future__ import annotations

from itertools import compress
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.device import JudgedDevice
from wg_exporter.health.judge import Tick
from wg_exporter.health.missing import MissingPeers
from wg_exporter.health.states import NOT_JUDGED
from wg_exporter.model import Failure, same

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.evidence import Evidence
    from wg_exporter.health.missing import MissingDevicePeers
    from wg_exporter.health.quality import Window
    from wg_exporter.health.states import Change, Obstacle, PeerHealth, State
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.model import ConfPeer, Device, DeviceKey, Peer, PeerKey, Snapshot
    from wg_exporter.names.identity import PeerMeta
    from wg_exporter.probed import Probed
    from wg_exporter.sighted import Sighting


_NO_OBSTACLE: Mapping[str, Obstacle] = MappingProxyType({})
NO_OBSTACLES: Mapping[DeviceKey, Mapping[str, Obstacle]] = MappingProxyType({})
_NO_SIGHTING: Mapping[str, Sighting] = MappingProxyType({})
NO_SIGHTINGS: Mapping[DeviceKey, Mapping[str, Sighting]] = MappingProxyType({})


class GoneDevice(NamedTuple):
    """A device that vanished, with its peers that are expected up; or one that is there, with those that it lacks. The
    last three run in parallel.
    """

    netns: str
    name: str
    public_key: tuple[str, ...]
    metas: tuple[PeerMeta, ...]
    rows: tuple[PeerHealth, ...]


class Health:
    """Judges all peers of a host. One thread may write; others may read meanwhile, and see each device's rows whole."""

    def __init__(self) -> None:
        self._devices: dict[DeviceKey, JudgedDevice] = {}
        self._gone: tuple[GoneDevice, ...] = ()
        self._limits: HealthLimits | None = None
        self._missing = MissingPeers()
        self._looked_at = -inf

    @property
    def suspicious(self) -> bool:
        """Whether any peer is suspicious, so that the next tick should come in a second."""
        return any(device.suspicious for device in self._devices.values())

    def evidence(self, key: PeerKey) -> Evidence | None:
        """What was seen of a peer whose device is there; for whoever drives the ticks alone."""
        device = self._devices.get(key[:2])
        return device.seen(key[2]) if device is not None else None

    def doubtful(self) -> Iterator[tuple[DeviceKey, str, PeerHealth]]:
        """The peers that are suspicious, down, or silent behind their target: device, public key, and how they are."""
        for key, device in self._devices.items():
            for at in device.doubtful:
                yield key, device.peers.public_key[at], device.rows[at]

    def of(self, device: Device) -> Sequence[PeerHealth]:
        """How the device's peers are, in its order; the same object as before while nothing changed."""
        judged = self._devices.get((device.netns, device.name))
        if judged is None:
            return (NOT_JUDGED,) * len(device.peers)
        keys, rows = judged.peers.public_key, judged.rows
        if same(device.peers.public_key, keys):
            return rows
        known = dict(zip(keys, rows, strict=True))
        return tuple(known.get(key, NOT_JUDGED) for key in device.peers.public_key)

    def gone(self) -> tuple[GoneDevice, ...]:
        """The devices that vanished, with those of their peers that are expected up."""
        return self._gone

    def unseen(self, there: Collection[DeviceKey]) -> tuple[GoneDevice, ...]:
        """As `gone`, but for all devices that are not `there`: a scrape may be the first to find one gone or back.

        They include a device that can't be read, so that alerts on its peers go on firing.
        """
        found = (_gone(key, device) for key, device in list(self._devices.items()) if key not in there)
        return tuple(device for device in found if device.rows)

    def lacking(self, there: Iterable[Device] = ()) -> tuple[GoneDevice, ...]:
        """The devices that lack peers, with these, but for those that are `there`: a scrape may be the first to find a
        peer on its device again.
        """
        found = {(device.netns, device.name): device.peers.public_key for device in there}
        rows = (_lacking(key, device, found.get(key, ())) for key, device in self._missing)
        return tuple(row for row in rows if row.rows)

    def windows(self) -> dict[PeerKey, Window]:
        """Loss and round trip of the peers of which they are known at present. Not for each tick."""
        return {
            (*key, public_key): window
            for key, device in self._devices.items()
            if not device.gone
            for public_key, window in device.windows()
        }

    def devices(self) -> Iterator[tuple[DeviceKey, Sequence[str], Sequence[PeerMeta], Sequence[PeerHealth]]]:
        """The peers of each device, there or gone, and those that it lacks: its key and, in parallel, public keys,
        names and health.
        """
        for key, device in self._devices.items():
            if not device.gone:
                yield key, device.peers.public_key, device.metas, device.rows
        for gone in self._gone:
            yield (gone.netns, gone.name), gone.public_key, gone.metas, gone.rows
        for key, lacking in self._missing:
            yield key, lacking.keys, lacking.metas, lacking.rows

    def count(self, state: State) -> int:
        """How many peers are in this state."""
        known = [device.rows for device in list(self._devices.values())]
        known += [device.rows for _, device in self._missing]
        return sum(row.state is state for rows in known for row in rows)

    def miss(
        self,
        devices: Sequence[DeviceChange],
        snapshot: Snapshot,
        others: Mapping[str, Mapping[str, ConfPeer]],
        meta: Callable[[DeviceKey, Peer], PeerMeta],
        limits: HealthLimits,
    ) -> list[Change]:
        """Judge the peers that should be on a device and are not. Returns what changed. `others`: see `missing`."""
        now = snapshot.monotonic
        tick = Tick(now, snapshot.wall, now - self._looked_at)
        self._looked_at = now
        return self._missing.look(devices, snapshot.conf, others, meta, tick, limits.down_after)

    def update(
        self,
        devices: Sequence[DeviceChange],
        snapshot: Snapshot,
        metas: Callable[[Device], Sequence[PeerMeta]],
        probes: Mapping[DeviceKey, Mapping[str, Probed]],
        *,
        missed: Collection[DeviceKey],
        limits: HealthLimits,
        obstacles: Mapping[DeviceKey, Mapping[str, Obstacle]] = NO_OBSTACLES,
        sightings: Mapping[DeviceKey, Mapping[str, Sighting]] = NO_SIGHTINGS,
    ) -> list[Change]:
        """Take in a look at the host, and judge. Returns what changed.

        `devices` are those that are there and those that the history remembers. `metas` is `Names.metas`. `missed` are
        the devices that somebody waits for. `obstacles` are what keeps users' packets from peers, by public key,
        `sightings` what the watcher saw of them.
        """
        if limits != self._limits:
            self._limits = limits
            for device in self._devices.values():
                device.judge_all()
        hang = {(row.netns, row.name) for row in snapshot.failed if row.failure is Failure.UNANSWERED}
        kept: dict[DeviceKey, JudgedDevice] = {}
        changes: list[Change] = []
        for found in devices:
            judged = self._devices.get(found.was) if found.was else None
            if judged is None and found.device is not None:
                judged = JudgedDevice()
            if judged is None or (found.gone and not (found.key in missed and judged.expected)):
                continue
            kept[found.key] = judged
            hangs = found.key in hang
            known, theirs = probes.get(found.key, {}), obstacles.get(found.key, _NO_OBSTACLE)
            sighted = sightings.get(found.key, _NO_SIGHTING)
            changes += judged.look(
                found, metas, known, snapshot, limits, hangs=hangs, obstacles=theirs, sightings=sighted
            )
        self._devices = kept
        self._find_gone()
        return changes

    def reconsider(
        self, meta: Callable[[DeviceKey, Peer], PeerMeta], wanted: Callable[[DeviceKey], bool]
    ) -> Callable[[], None]:
        """Ask a new configuration about peers whose device is gone, as looks bring only the others.

        Devices that are not `wanted` are forgotten, as they are not looked at any more. Nothing changes before the
        returned function is called.
        """
        kept = {key: device for key, device in self._devices.items() if wanted(key)}
        gone = [device for device in kept.values() if device.gone]
        answers = [tuple(meta(key, peer) for peer in device.peers) for key, device in kept.items() if device.gone]

        def take_over() -> None:
            self._devices = kept
            for device, metas in zip(gone, answers, strict=True):
                device.expect(metas)
            self._find_gone()

        return take_over

    def _find_gone(self) -> None:
        self._gone = tuple(_gone(key, device) for key, device in self._devices.items() if device.gone)


def _lacking(key: DeviceKey, device: MissingDevicePeers, there: Sequence[str]) -> GoneDevice:
    back = set(device.keys).intersection(there)
    if not back:
        return GoneDevice(*key, device.keys, device.metas, device.rows)
    picked = [public_key not in back for public_key in device.keys]
    return GoneDevice(
        *key,
        tuple(compress(device.keys, picked)),
        tuple(compress(device.metas, picked)),
        tuple(compress(device.rows, picked)),
    )


def _gone(key: DeviceKey, device: JudgedDevice) -> GoneDevice:
    picked = [meta.expected_up for meta in device.metas]
    return GoneDevice(
        *key,
        tuple(compress(device.peers.public_key, picked)),
        tuple(compress(device.metas, picked)),
        tuple(compress(device.rows, picked)),
    )
