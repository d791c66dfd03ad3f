"""What changed between one look at the devices and the next: handshakes, roaming, interfaces gone, clock steps.

Only the background tick calls `update`. A scrape reads, so that none, one or ten scrapers give the same counts.

A peer's counts live as long as its device shows the peer. A device that vanishes is remembered for an hour, so that one
which is set up anew goes on counting where it was; an interface that had a peer expected up is remembered until it
comes back.
"""

from __future__ import annotations

from itertools import compress
from operator import is_not
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from wg_exporter.model import Device, DeviceKey, Peer, Snapshot

# How long a device that vanished is remembered.
RETENTION_SECONDS = 3600.0

# More are not remembered: names that are made up anew for ever must not grow memory. The longest gone is forgotten.
MAX_DEVICES = 10_000

# The wall clock moves against the monotonic one by less than this unless it is stepped: adjtime(3) slews at 0.05 %.
CLOCK_STEP_SECONDS = 1.0


class PeerCounts(NamedTuple):
    """What was seen of a peer since the exporter started."""

    handshakes: int = 0
    endpoint_changes: int = 0


NOTHING_YET = PeerCounts()


class _Tracked:
    """One device: its peers at the last look and, in parallel, their counts."""

    __slots__ = ("expects_peers", "ifindex", "keys", "peers", "rows", "seen")

    def __init__(self) -> None:
        self.peers: tuple[Peer, ...] = ()
        self.keys: tuple[str, ...] = ()
        self.rows: tuple[PeerCounts, ...] = ()
        self.ifindex = 0
        self.seen = 0.0
        self.expects_peers = False

    @property
    def missed(self) -> bool:
        """Whether somebody wants it back: it had a peer expected up, and a link, without which none can be missed."""
        return self.expects_peers and self.ifindex != 0


class Tracker:
    """Counts changes from snapshot to snapshot. One writer (the tick); readers see each count whole."""

    def __init__(self) -> None:
        self._devices: dict[DeviceKey, _Tracked] = {}
        self._clock: tuple[float, float] | None = None
        self._started_ns = 0
        self._present: set[DeviceKey] = set()  # at the last look
        self.clock_steps = 0

    def update(self, snapshot: Snapshot, expecting: Collection[DeviceKey]) -> None:
        """Take in a snapshot. `expecting` are the devices that have at least one peer expected up."""
        if self._clock is None:
            self._started_ns = int(snapshot.wall * 1e9)
        self._watch_clock(snapshot.wall, snapshot.monotonic)
        present: set[DeviceKey] = {(failed.netns, failed.name) for failed in snapshot.failed}
        for key in present & self._devices.keys():
            self._devices[key].seen = snapshot.monotonic
        for device in snapshot.devices:
            key = (device.netns, device.name)
            present.add(key)
            link = snapshot.links.get(key)
            tracked = self._find(key, link.ifindex if link else 0)
            tracked.seen = snapshot.monotonic
            tracked.expects_peers = key in expecting
            if device.fresh:
                _count(tracked, device, self._started_ns)
        self._present = present
        self._forget(present, snapshot.monotonic)

    def counts_of(self, device: Device) -> Sequence[PeerCounts]:
        """Counts of the device's peers, in its order; those that no tick has seen yet are at zero.

        The same object as before while no count changed.
        """
        tracked = self._devices.get((device.netns, device.name))
        if tracked is None:
            return (NOTHING_YET,) * len(device.peers)
        if device.keys_of() == tracked.keys:
            return tracked.rows
        counts = dict(zip(tracked.keys, tracked.rows, strict=True))
        return [counts.get(key, NOTHING_YET) for key in device.keys_of()]

    def expecting(self) -> set[DeviceKey]:
        """Devices that are missed where they are gone: their link was seen, with a peer expected up."""
        return {key for key, tracked in list(self._devices.items()) if tracked.missed}

    def reconsider(self, namespaces: Collection[str], expected: Callable[[DeviceKey, Peer], bool]) -> None:
        """Take in a new configuration: forget the devices of namespaces that are no longer in it, and ask again
        whether the peers of devices that are gone should be up.
        """
        self._devices = {key: tracked for key, tracked in self._devices.items() if key[0] in namespaces}
        for key, tracked in self._devices.items():
            if key not in self._present:
                tracked.expects_peers = any(expected(key, peer) for peer in tracked.peers)

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
        tracked.ifindex = ifindex or tracked.ifindex
        return tracked

    def _renamed(self, key: DeviceKey, ifindex: int) -> _Tracked | None:
        """The device that had this index under another name: it is no longer missing, it is this one."""
        for other, tracked in self._devices.items():
            # Indices start anew in a namespace that was made anew: only what was there a moment ago can be renamed.
            if ifindex and other[0] == key[0] and tracked.ifindex == ifindex and other in self._present:
                return self._devices.pop(other)
        return None

    def _forget(self, present: set[DeviceKey], now: float) -> None:
        for key, tracked in list(self._devices.items()):
            if key not in present and not tracked.missed and now - tracked.seen > RETENTION_SECONDS:
                del self._devices[key]
        while len(self._devices) > MAX_DEVICES:
            del self._devices[min(self._devices, key=lambda key: self._devices[key].seen)]


def _count(tracked: _Tracked, device: Device, started_ns: int) -> None:
    if tracked.peers is device.peers:
        return
    old, rows, keys = tracked.peers, tracked.rows, device.keys_of()
    if tracked.keys != keys:
        peers = dict(zip(tracked.keys, old, strict=True))
        counts = dict(zip(tracked.keys, rows, strict=True))
        # A peer seen for the first time: its handshake counts if it happened since the exporter started.
        strangers = (
            peer._replace(last_handshake_ns=0) if peer.last_handshake_ns > started_ns else peer for peer in device.peers
        )
        old = tuple(peers.get(stranger.public_key, stranger) for stranger in strangers)
        rows = tuple(counts.get(key, NOTHING_YET) for key in keys)
    changes = {
        index: more
        for index in compress(range(len(keys)), map(is_not, old, device.peers))
        if any(more := _compare(old[index], device.peers[index]))
    }
    if changes:
        updated = list(rows)
        for index, (handshakes, endpoint_changes) in changes.items():
            counted = rows[index]
            updated[index] = PeerCounts(counted.handshakes + handshakes, counted.endpoint_changes + endpoint_changes)
        rows = tuple(updated)
    tracked.peers, tracked.keys, tracked.rows = device.peers, keys, rows


def _compare(before: Peer, after: Peer) -> tuple[bool, bool]:
    """Whether there was a handshake, and whether the peer roamed, between two looks.

    A device that is set up anew forgets both times and endpoints; that is neither.
    """
    shaken = after.last_handshake_ns not in (before.last_handshake_ns, 0)
    moved = after.endpoint != before.endpoint and bool(before.endpoint and after.endpoint)
    return shaken, moved
