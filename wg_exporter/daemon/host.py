"""What is known of a host beyond one look: what changed, how its peers are, who is missed; and what a scrape shows.

A `HostHistory` outlives reloads, so the configuration and the names made from it are handed in. Not thread-safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config import Expected
from wg_exporter.drift.book import Drifts
from wg_exporter.exposition.view import DeviceView, View
from wg_exporter.health import NO_OBSTACLES, NO_SIGHTINGS, Health
from wg_exporter.health.states import State
from wg_exporter.history.history import History
from wg_exporter.history.packets import PacketTotals
from wg_exporter.history.round_trips import RoundTrips
from wg_exporter.model import USERSPACE_KIND, Backend, ConfPeer, FailedDevice, Failure, SourceName
from wg_exporter.names.endpoints import EndpointNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wg_exporter.config import Config
    from wg_exporter.drift.kinds import Drift
    from wg_exporter.exposition.view import ExporterFacts
    from wg_exporter.health.states import Change, Obstacle
    from wg_exporter.health.summary import Summary
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.history.history import Roamed
    from wg_exporter.history.round_trips import Line
    from wg_exporter.hostnames import EndpointName
    from wg_exporter.model import Device, DeviceKey, Peer, PeerKey, Snapshot
    from wg_exporter.names.table import Names
    from wg_exporter.probed import Probed
    from wg_exporter.sighted import Sighting
    from wg_exporter.sources import Unwell


_NO_SOCKET = "the interface is there, but its control socket is not"
_NOT_MOUNTED = (
    f"{_NO_SOCKET}; if wg-exporter is in a container, mount /var/run/wireguard there, else restart the daemon of the "
    "interface"
)


class Status(NamedTuple):
    """How the host was at the last tick, at `wall` (seconds since the epoch). `problems` are lines for a person.

    `others` is the number of peers that are not expected up.
    """

    wall: float
    summary: Summary
    problems: tuple[str, ...]
    others: int = 0


class HostHistory:
    """Driven by the tick (`follow`, then `judge`); a scrape only asks for a `view`."""

    def __init__(self) -> None:
        self.health = Health()
        self._history = History()
        self._packets = PacketTotals()
        self._interfaces: frozenset[DeviceKey] = frozenset()
        self._round_trips = RoundTrips()
        self._drifts = Drifts()
        self._endpoint_names = EndpointNames()
        self._waits_for: tuple[Config | None, Mapping[str, Mapping[str, ConfPeer]]] = (None, {})

    @property
    def clock_steps(self) -> int:
        """Jumps of the wall clock so far."""
        return self._history.clock_steps

    @property
    def peers(self) -> int:
        """How many peers are known: those of devices that were read or can't be read now, and of the others those that
        are expected up.
        """
        return sum(len(keys) for _, keys, _, _ in self.health.devices())

    def follow(self, names: Names, snapshot: Snapshot) -> tuple[DeviceChange, ...]:
        """Take in which devices and peers there are. Returns what became of each device."""
        names.use(snapshot.conf)
        expecting = {
            (device.netns, device.name)
            for device in snapshot.devices
            if any(meta.expected_up for meta in names.metas(device))
        }
        self._endpoint_names.follow(snapshot)
        changes = self._history.update(snapshot, expecting)
        names.follow(changes)
        return changes

    def judge(
        self,
        config: Config,
        names: Names,
        devices: Sequence[DeviceChange],
        snapshot: Snapshot,
        probes: Mapping[DeviceKey, Mapping[str, Probed]],
        *,
        obstacles: Mapping[DeviceKey, Mapping[str, Obstacle]] = NO_OBSTACLES,
        sightings: Mapping[DeviceKey, Mapping[str, Sighting]] = NO_SIGHTINGS,
    ) -> list[Change]:
        """Judge the peers. Returns what changed. `obstacles` are what keeps users' packets from them, `sightings` what
        the watcher saw of them.
        """
        missed = self._expected(config)
        unread = {(failed.netns, failed.name) for failed in snapshot.failed}
        self._interfaces = frozenset(missed | unread | {one.key for one in devices})
        self._round_trips.take(probes, snapshot.monotonic)
        changes = self.health.update(
            devices,
            snapshot,
            names.metas,
            probes,
            missed=missed,
            limits=config.health,
            obstacles=obstacles,
            sightings=sightings,
        )
        if self._waits_for[0] is not config:
            self._waits_for = config, _waited_for(config)
        return changes + self.health.miss(devices, snapshot, self._waits_for[1], names.meta, config.health)

    def reconsider(self, config: Config, names: Names) -> Callable[[], None]:
        """Ask a new configuration whether anybody still waits for the devices that are gone.

        Nothing changes before the returned function is called, which can't fail.
        """

        def expected(key: DeviceKey, peer: Peer) -> bool:
            return config.interfaces.wanted(key[1]) and names.meta(key, peer).expected_up

        namespaces = {"", *(namespace.name for namespace in config.namespaces)}

        def wanted(key: DeviceKey) -> bool:
            return key[0] in namespaces and config.interfaces.wanted(key[1])

        of_history = self._history.reconsider(namespaces, expected)
        of_health = self.health.reconsider(names.meta, wanted)

        def take_over() -> None:
            of_history()
            of_health()

        return take_over

    def with_packets(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot, with the packets of each peer since the exporter started, whoever read them. Every snapshot has
        to come by.
        """
        return self._packets.take(snapshot)

    def with_silent(self, config: Config, snapshot: Snapshot) -> Snapshot:
        """The snapshot, with a failed device for each userspace interface of which the link is there and no control
        socket answers: those that are expected, and those that a file describes. Where the directory of the sockets is
        not mounted, nothing else would tell that they are not read.
        """
        there = {(device.netns, device.name) for device in snapshot.devices}
        there |= {(failed.netns, failed.name) for failed in snapshot.failed}
        described = {
            ("", file.interface)  # a file describes devices of this host's own namespace
            for file in snapshot.conf
            if file.peers and config.interfaces.wanted(file.interface)
        }
        silent = [
            key
            for key in sorted((self._expected(config) | described) - there)
            if key in snapshot.links and snapshot.links[key].kind == USERSPACE_KIND
        ]
        if not silent:
            return snapshot
        sources = (row for row in snapshot.outcomes if row.source is SourceName.USERSPACE and not row.success)
        why = next(((row.problem, row.failure) for row in sources), None)
        expected = self._expected(config)
        rows = (
            FailedDevice(
                *key, Backend.USERSPACE, *(why or (_NO_SOCKET if key in expected else _NOT_MOUNTED, Failure.OTHER))
            )
            for key in silent
        )
        return snapshot._replace(failed=(*snapshot.failed, *rows))

    def view(self, config: Config, names: Names, snapshot: Snapshot, facts: ExporterFacts) -> View:
        """What a scrape shows, without what the prober knows."""
        names.use(snapshot.conf)
        devices = tuple(
            DeviceView(
                device,
                snapshot.links.get((device.netns, device.name)),
                names.metas(device),
                self._history.counts_of(device),
                self.health.of(device),
                self.endpoint_names(device, snapshot),
            )
            for device in snapshot.devices
        )
        return View(
            devices,
            tuple((row, snapshot.links.get((row.netns, row.name))) for row in snapshot.failed),
            self._missing(config, snapshot),
            snapshot.outcomes,
            facts,
            config.metrics.endpoint,
            rtt_buckets=config.probe.rtt_buckets,
            gone=self.health.unseen({(device.netns, device.name) for device in snapshot.devices}),
            lacking=self.health.lacking(snapshot.devices),
            drifts=self.drifts(snapshot),
        )

    def endpoint_names(self, device: Device, snapshot: Snapshot) -> Sequence[EndpointName]:
        """What is known of the host name of each peer of a device; empty if none has one."""
        return self._endpoint_names.rows(device, snapshot)

    def unwell(self, snapshot: Snapshot) -> Unwell:
        """The peers with a host name in their file that are down or degraded, as last judged."""
        found = set()
        for device in snapshot.devices:
            named = self.endpoint_names(device, snapshot)
            rows = zip(device.peers.public_key, named, self.health.of(device), strict=False) if named else ()
            for key, name, health in rows:
                if name.name and health.state in {State.DOWN, State.DEGRADED}:
                    found.add((device.name, key, health.state is State.DOWN))
        return frozenset(found)

    def name_of(self, key: PeerKey) -> str | None:
        """The name of a peer, there or gone, as last judged; empty for an interface (no public key). None: there is no
        such thing.
        """
        *device, public_key = key
        if not public_key:
            return "" if tuple(device) in self._interfaces else None
        known = (found for found in self.health.devices() if found[0] == tuple(device))
        names = (dict(zip(keys, metas, strict=True)).get(public_key) for _, keys, metas, _ in known)
        return next((meta.name for meta in names if meta), None)

    def names_of(self, device: DeviceKey) -> dict[str, str]:
        """What the peers of a device are called, by public key, as last judged."""
        known = (found for found in self.health.devices() if found[0] == device)
        return {key: meta.name for _, keys, metas, _ in known for key, meta in zip(keys, metas, strict=True)}

    def roamed(self) -> Sequence[Roamed]:
        """Who roamed between the last two looks."""
        return self._history.roamed

    def drifts(self, snapshot: Snapshot) -> Mapping[DeviceKey, Drift]:
        """How each device that a file describes differs from it; the same object as before while nothing changed."""
        return self._drifts.look(snapshot, self._endpoint_names.resolved(snapshot))

    def lines(self, snapshot: Snapshot) -> dict[PeerKey, Line]:
        """The round trips of the last ten minutes of all probed peers. Not for each tick."""
        found = self._round_trips.lines(snapshot.monotonic, snapshot.wall)
        return {(*device, public_key): line for device, public_key, line in found}

    def problems(self, config: Config, snapshot: Snapshot) -> Iterator[str]:
        """What could not be read or is gone, a line each."""
        for outcome in snapshot.outcomes:
            if not outcome.success:
                yield f"{outcome.source}{_within(outcome.netns)}: {outcome.problem}"
        for failed in snapshot.failed:
            yield f"{failed.name}{_within(failed.netns)} could not be read: {failed.problem}"
        yield from snapshot.doubles
        for netns, name in self._missing(config, snapshot):
            yield f"{name}{_within(netns)} is gone"

    def _missing(self, config: Config, snapshot: Snapshot) -> tuple[DeviceKey, ...]:
        """Expected interfaces that are gone. None in a namespace whose links can't be read, as nobody knows."""
        read = snapshot.namespaces_read()
        there = {(device.netns, device.name) for device in snapshot.devices}
        gone = self._expected(config) - there - snapshot.links.keys()
        return tuple(sorted(key for key in gone if key[0] in read))

    def _expected(self, config: Config) -> set[DeviceKey]:
        return {*config.interfaces.expected, *self._history.expecting()}


def _waited_for(config: Config) -> dict[str, dict[str, ConfPeer]]:
    """The peers that rules expect up by interface and key, so that it is known where they are missing."""
    found: dict[str, dict[str, ConfPeer]] = {}
    for rule in config.expect:
        plain = rule.interface is not None and not any(character in rule.interface for character in "*?[")
        if rule.state is Expected.UP and rule.public_key and plain:
            found.setdefault(rule.interface or "", {})[rule.public_key] = ConfPeer(rule.public_key)
    return found


def _within(netns: str) -> str:
    return f" in {netns}" if netns else ""
