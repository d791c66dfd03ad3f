"""The history of a host: its devices from look to look, and what was counted of their peers.

Only a tick, or a look of `show --watch`, calls `update`. A scrape reads, so that none, one or ten scrapers give the
same counts.

A peer's counts live as long as its device shows the peer. A device that vanishes is remembered for `RETENTION_SECONDS`,
so that its counts go on if it is set up anew. One that had a peer expected up is remembered until it comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.history.counts import NOTHING_YET, Counted
from wg_exporter.history.devices import Known, changes
from wg_exporter.model import same

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from wg_exporter.history.counts import PeerCounts
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.model import Device, DeviceKey, Peer, Snapshot

# How long a device that vanished is remembered.
RETENTION_SECONDS = 3600.0

# No more are remembered, so that ever new names don't make memory grow. The one that was seen longest ago is forgotten.
MAX_DEVICES = 10_000

# The wall clock moves against the monotonic one by less than this unless it is stepped: adjtime(3) slews at 0.05 %.
CLOCK_STEP_SECONDS = 1.0


class Roamed(NamedTuple):
    """A peer whose endpoint is another than at the look before; `at` is its place among the peers of the device."""

    device: Device
    at: int
    before: str


class _Remembered:
    """One device: what the next look is compared with, and `seen`, when it was last there (monotonic seconds)."""

    __slots__ = ("counted", "expects_peers", "known", "seen")

    def __init__(self) -> None:
        self.known = Known()
        self.counted = Counted()
        self.seen = 0.0
        self.expects_peers = False

    @property
    def missed(self) -> bool:
        """Whether somebody waits for it: it had a peer expected up, and a link, without which it can't be missed."""
        return self.expects_peers and self.known.ifindex != 0


class History:
    """What changed from snapshot to snapshot. One thread may write; others may read meanwhile."""

    def __init__(self) -> None:
        self._devices: dict[DeviceKey, _Remembered] = {}
        self._clock: tuple[float, float] | None = None
        self._started_ns = 0
        self.clock_steps = 0
        self.roamed: list[Roamed] = []
        """Who roamed between the last two looks."""

    def update(self, snapshot: Snapshot, expecting: Collection[DeviceKey]) -> tuple[DeviceChange, ...]:
        """Take in a snapshot. Returns what became of each device that is there or remembered.

        `expecting` are the devices that have at least one peer expected up.
        """
        self._follow_clock(snapshot.wall, snapshot.monotonic)
        found = changes({key: device.known for key, device in self._devices.items()}, snapshot)
        failed = {(device.netns, device.name) for device in snapshot.failed}
        devices: dict[DeviceKey, _Remembered] = {}
        self.roamed = []
        for change in found:
            device = devices[change.key] = (change.was and self._devices.get(change.was)) or _Remembered()
            device.known = change.left
            if change.device is not None or change.link is not None or change.key in failed:
                device.seen = snapshot.monotonic
            if change.device is not None:
                device.expects_peers = change.key in expecting
            if change.read is not None:
                device.counted = device.counted.after(change.read, self._started_ns)
                self.roamed += [Roamed(change.read, *row) for row in device.counted.roamed]
        self._devices = _kept(devices, snapshot.monotonic)
        return found

    def counts_of(self, device: Device) -> Sequence[PeerCounts]:
        """Counts of the device's peers, in its order; 0 for those that no tick has seen yet.

        The same object as before while no count changed.
        """
        remembered = self._devices.get((device.netns, device.name))
        if remembered is None:
            return (NOTHING_YET,) * len(device.peers)
        peers, rows, _roamed = remembered.counted
        if same(device.peers.public_key, peers.public_key):
            return rows
        counts = dict(zip(peers.public_key, rows, strict=True))
        return [counts.get(key, NOTHING_YET) for key in device.peers.public_key]

    def expecting(self) -> set[DeviceKey]:
        """The devices that are missed when they are gone: their link was seen, with a peer expected up."""
        return {key for key, device in list(self._devices.items()) if device.missed}

    def reconsider(
        self, namespaces: Collection[str], expected: Callable[[DeviceKey, Peer], bool]
    ) -> Callable[[], None]:
        """Ask a new configuration which devices have a peer expected up, as looks don't show those that are gone.

        Devices outside of `namespaces` are forgotten. Nothing changes before the returned function is called.
        """
        kept = {key: device for key, device in self._devices.items() if key[0] in namespaces}
        answers = [any(expected(key, peer) for peer in device.counted.peers) for key, device in kept.items()]

        def take_over() -> None:
            self._devices = kept
            for device, expects_peers in zip(kept.values(), answers, strict=True):
                device.expects_peers = expects_peers

        return take_over

    def _follow_clock(self, wall: float, monotonic: float) -> None:
        if self._clock is None:
            self._started_ns = int(wall * 1e9)
        else:
            then_wall, then_monotonic = self._clock
            if abs((wall - then_wall) - (monotonic - then_monotonic)) > CLOCK_STEP_SECONDS:
                self.clock_steps += 1
        self._clock = (wall, monotonic)


def _kept(devices: dict[DeviceKey, _Remembered], now: float) -> dict[DeviceKey, _Remembered]:
    """Those with a peer expected up, and those of which something was seen in the last `RETENTION_SECONDS`; at most
    `MAX_DEVICES`.
    """
    kept = {
        key: device for key, device in devices.items() if device.expects_peers or now - device.seen <= RETENTION_SECONDS
    }
    for key in sorted(kept, key=lambda key: (kept[key].expects_peers, kept[key].seen))[:-MAX_DEVICES]:
        del kept[key]
    return kept
