"""What changed between one look at the devices and the next: handshakes, roaming, interfaces that went away, clock steps.

Only the background tick calls `update`. A scrape reads, so that none, one or ten scrapers give the same counts.

A peer's counts live as long as its device shows the peer. A device that vanishes is remembered for an hour, so that one which is set up
anew goes on counting where it was; an interface that had a peer expected up is remembered until it comes back.
"""

from __future__ import annotations

from itertools import compress, repeat
from operator import is_not, itemgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from wg_exporter.model import Device, Peer, Snapshot

# How long a device that vanished is remembered.
RETENTION_SECONDS = 3600.0

# The wall clock moves against the monotonic one by less than this unless it is stepped: adjtime(3) slews at 0.05 %.
CLOCK_STEP_SECONDS = 1.0

_public_key = itemgetter(0)

DeviceKey = tuple[str, str]
"""(netns, interface name)"""


class PeerCounts(NamedTuple):
    """What was seen of a peer since the exporter started."""

    handshakes: int = 0
    endpoint_changes: int = 0


NOTHING_YET = PeerCounts()


class _Tracked:
    """One device: its peers at the last look, and their counts."""

    __slots__ = ("counts", "expects_peers", "ifindex", "peers", "seen")

    def __init__(self) -> None:
        self.peers: tuple[Peer, ...] = ()
        self.counts: dict[str, PeerCounts] = {}
        self.ifindex = 0
        self.seen = 0.0
        self.expects_peers = False


class Tracker:
    """Counts changes from snapshot to snapshot. One writer (the tick); readers see each count whole."""

    def __init__(self) -> None:
        self._devices: dict[DeviceKey, _Tracked] = {}
        self._clock: tuple[float, float] | None = None
        self._started_ns = 0
        self.clock_steps = 0

    def update(self, snapshot: Snapshot, expecting: Collection[DeviceKey]) -> None:
        """Take in a snapshot. `expecting` are the devices that have at least one peer expected up."""
        if self._clock is None:
            self._started_ns = int(snapshot.wall * 1e9)
        self._watch_clock(snapshot.wall, snapshot.monotonic)
        present: set[DeviceKey] = {(failed.netns, failed.name) for failed in snapshot.failed}
        for device in snapshot.devices:
            key = (device.netns, device.name)
            present.add(key)
            link = snapshot.links.get(key)
            tracked = self._find(key, link.ifindex if link else 0)
            tracked.seen = snapshot.monotonic
            tracked.expects_peers = key in expecting
            if device.fresh:
                _count(tracked, device, self._started_ns)
        self._forget(present, snapshot.monotonic)

    def counts_of(self, device: Device) -> list[PeerCounts]:
        """Counts of the device's peers, in its order; those that no tick has seen yet are at zero."""
        tracked = self._devices.get((device.netns, device.name))
        if tracked is None:
            return [NOTHING_YET] * len(device.peers)
        return list(map(tracked.counts.get, map(_public_key, device.peers), repeat(NOTHING_YET)))

    def expecting(self) -> set[DeviceKey]:
        """Devices that had a peer expected up when last seen."""
        return {key for key, tracked in list(self._devices.items()) if tracked.expects_peers}

    def keep_namespaces(self, configured: Collection[str]) -> None:
        """Forget the devices of namespaces that are no longer configured."""
        self._devices = {key: tracked for key, tracked in self._devices.items() if key[0] in configured}

    def _watch_clock(self, wall: float, monotonic: float) -> None:
        if self._clock is not None:
            then_wall, then_monotonic = self._clock
            if abs((wall - then_wall) - (monotonic - then_monotonic)) > CLOCK_STEP_SECONDS:
                self.clock_steps += 1
        self._clock = (wall, monotonic)

    def _find(self, key: DeviceKey, ifindex: int) -> _Tracked:
        tracked = self._devices.get(key)
        if tracked is None:
            tracked = self._renamed(key, ifindex) or _Tracked()
            self._devices[key] = tracked
        tracked.ifindex = ifindex
        return tracked

    def _renamed(self, key: DeviceKey, ifindex: int) -> _Tracked | None:
        """The device that had this index under another name: it is no longer missing, it is this one."""
        for other, tracked in self._devices.items():
            if ifindex and other[0] == key[0] and tracked.ifindex == ifindex:
                return self._devices.pop(other)
        return None

    def _forget(self, present: set[DeviceKey], now: float) -> None:
        for key, tracked in list(self._devices.items()):
            if key not in present and not tracked.expects_peers and now - tracked.seen > RETENTION_SECONDS:
                del self._devices[key]


def _count(tracked: _Tracked, device: Device, started_ns: int) -> None:
    old, new = tracked.peers, device.peers
    if old is new:
        return
    tracked.peers = new
    if len(old) == len(new) and list(map(_public_key, old)) == list(map(_public_key, new)):
        changed = compress(zip(old, new, strict=True), map(is_not, old, new))
        for before, after in changed:
            _compare(tracked, before, after)
        return
    known = {peer.public_key: peer for peer in old}
    tracked.counts = {peer.public_key: tracked.counts.get(peer.public_key, NOTHING_YET) for peer in new}
    for after in new:
        before = known.get(after.public_key)
        if before is not None:
            _compare(tracked, before, after)
        elif after.last_handshake_ns > started_ns:
            # Seen for the first time, but shaken since the exporter started.
            _add(tracked, after.public_key, 1, 0)


def _compare(tracked: _Tracked, before: Peer, after: Peer) -> None:
    shaken = after.last_handshake_ns not in (before.last_handshake_ns, 0)
    moved = after.endpoint != before.endpoint and bool(before.endpoint and after.endpoint)
    if shaken or moved:
        _add(tracked, after.public_key, int(shaken), int(moved))


def _add(tracked: _Tracked, public_key: str, handshakes: int, endpoint_changes: int) -> None:
    counts = tracked.counts[public_key]
    tracked.counts[public_key] = PeerCounts(counts.handshakes + handshakes, counts.endpoint_changes + endpoint_changes)
