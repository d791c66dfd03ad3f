"""What is known of a host beyond one look: what changed, how its peers are, who is missed; and what a scrape shows.

A `HostHistory` outlives reloads, so the configuration and the names made from it are handed in. Not thread-safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config import Expected
from wg_exporter.exposition.view import DeviceView, View
from wg_exporter.health import Health
from wg_exporter.history.history import History
from wg_exporter.model import USERSPACE_KIND, Backend, ConfPeer, FailedDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wg_exporter.config import Config
    from wg_exporter.exposition.view import ExporterFacts
    from wg_exporter.health.quality import Window
    from wg_exporter.health.states import Change, PeerHealth
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.model import DeviceKey, Peer, PeerKey, Probed, Snapshot
    from wg_exporter.names.identity import PeerMeta
    from wg_exporter.names.table import Names


class KnownPeers(NamedTuple):
    """The peers of one device, there or gone, in parallel; and loss and round trip where known, of all peers."""

    device: DeviceKey
    public_key: Sequence[str]
    metas: Sequence[PeerMeta]
    rows: Sequence[PeerHealth]
    windows: Mapping[PeerKey, Window]


class HostHistory:
    """Driven by the tick (`follow`, then `judge`); a scrape only asks for a `view`."""

    def __init__(self) -> None:
        self.health = Health()
        self._history = History()
        self._waits_for: tuple[Config | None, Mapping[str, Mapping[str, ConfPeer]]] = (None, {})
        self._expected_here = 0
        self._others_here = 0

    @property
    def clock_steps(self) -> int:
        """Jumps of the wall clock so far."""
        return self._history.clock_steps

    @property
    def expected_up(self) -> int:
        """How many peers are expected up, including those of devices that are gone, and those that devices lack."""
        return self._expected_here + sum(
            meta.expected_up for device in (*self.health.gone(), *self.health.lacking()) for meta in device.metas
        )

    @property
    def not_expected_up(self) -> int:
        """How many peers are not expected up, without those of devices that are gone."""
        return self._others_here

    def follow(self, names: Names, snapshot: Snapshot) -> tuple[DeviceChange, ...]:
        """Take in which devices and peers there are. Returns what became of each device."""
        names.use(snapshot.conf)
        expected = {
            (device.netns, device.name): sum(meta.expected_up for meta in names.metas(device))
            for device in snapshot.devices
        }
        changes = self._history.update(snapshot, {key for key, number in expected.items() if number})
        names.follow(changes)
        self._expected_here = sum(expected.values())
        self._others_here = sum(len(device.peers) for device in snapshot.devices) - self._expected_here
        return changes

    def judge(
        self,
        config: Config,
        names: Names,
        devices: Sequence[DeviceChange],
        snapshot: Snapshot,
        probes: Mapping[DeviceKey, Mapping[str, Probed]],
    ) -> list[Change]:
        """Judge the peers. Returns what changed."""
        missed = self._expected(config)
        changes = self.health.update(devices, snapshot, names.metas, probes, missed=missed, limits=config.health)
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
            )
            for device in snapshot.devices
        )
        failed = (*snapshot.failed, *self._silent(config, snapshot))
        return View(
            devices,
            tuple((row, snapshot.links.get((row.netns, row.name))) for row in failed),
            self._missing(config, snapshot),
            snapshot.outcomes,
            facts,
            config.metrics.endpoint,
            rtt_buckets=config.probe.rtt_buckets,
            gone=self.health.unseen({(device.netns, device.name) for device in snapshot.devices}),
            lacking=self.health.lacking(),
        )

    def peers(self) -> list[KnownPeers]:
        """All peers as last judged. Not for each tick."""
        windows = self.health.windows()
        return [KnownPeers(*known, windows) for known in self.health.devices()]

    def problems(self, config: Config, snapshot: Snapshot) -> Iterator[str]:
        """What could not be read or is gone, a line each."""
        for outcome in snapshot.outcomes:
            if not outcome.success:
                yield f"{outcome.source}{_within(outcome.netns)}: {outcome.problem}"
        for failed in (*snapshot.failed, *self._silent(config, snapshot)):
            yield f"{failed.name}{_within(failed.netns)} could not be read: {failed.problem}"
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

    def _silent(self, config: Config, snapshot: Snapshot) -> list[FailedDevice]:
        """Expected userspace interfaces whose link is there while no control socket answers for them."""
        there = {(device.netns, device.name) for device in snapshot.devices}
        there |= {(failed.netns, failed.name) for failed in snapshot.failed}
        return [
            FailedDevice(*key, Backend.USERSPACE, "the interface is there, but its control socket is not")
            for key in sorted(self._expected(config) - there)
            if key in snapshot.links and snapshot.links[key].kind == USERSPACE_KIND
        ]


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
