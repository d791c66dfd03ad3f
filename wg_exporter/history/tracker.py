"""What changed between one look at the devices and the next: handshakes, roaming, interfaces gone, clock steps.

Only the background tick calls `update`. A scrape reads, so that none, one or ten scrapers give the same counts.

A peer's counts live as long as its device shows the peer. A device that vanishes is remembered for an hour, so that one
which is set up anew goes on counting where it was; an interface that had a peer expected up is remembered until it
comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.model import Peers, differences, same

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

    __slots__ = ("expects_peers", "ifindex", "peers", "rows", "seen")

    def __init__(self) -> None:
        self.peers = Peers()
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
        keys = device.peers.public_key
        if same(keys, tracked.peers.public_key):
            return tracked.rows
        counts = dict(zip(tracked.peers.public_key, tracked.rows, strict=True))
        return [counts.get(key, NOTHING_YET) for key in keys]

    def expecting(self) -> set[DeviceKey]:
        """Devices that are missed where they are gone: their link was seen, with a peer expected up."""
        return {key for key, tracked in list(self._devices.items()) if tracked.missed}

    def reconsider(
        self, namespaces: Collection[str], expected: Callable[[DeviceKey, Peer], bool]
    ) -> Callable[[], None]:
        """Ask by a new configuration whether the peers of devices that are gone should be up, and which namespaces are
        still looked at: devices of others are forgotten. Nothing changes before the result is called.
        """
        kept = {key: tracked for key, tracked in self._devices.items() if key[0] in namespaces}
        gone = [(key, tracked) for key, tracked in kept.items() if key not in self._present]
        answers = [any(expected(key, peer) for peer in tracked.peers) for key, tracked in gone]

        def take_over() -> None:
            self._devices = kept
            for (_key, tracked), expects_peers in zip(gone, answers, strict=True):
                tracked.expects_peers = expects_peers

        return take_over

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
    old, rows, new = tracked.peers, tracked.rows, device.peers
    if not same(old.public_key, new.public_key):
        counts = dict(zip(old.public_key, rows, strict=True))
        rows = tuple(counts.get(key, NOTHING_YET) for key in new.public_key)
        old = _as_if_known(old, new, started_ns)
    # A device that is set up anew forgets times and endpoints: that is neither a handshake nor roaming.
    shaken = [at for at in differences(old.last_handshake_ns, new.last_handshake_ns) if new.last_handshake_ns[at]]
    roamed = [at for at in differences(old.endpoint, new.endpoint) if old.endpoint[at] and new.endpoint[at]]
    if shaken or roamed:
        updated = list(rows)
        for index in shaken:
            updated[index] = updated[index]._replace(handshakes=updated[index].handshakes + 1)
        for index in roamed:
            updated[index] = updated[index]._replace(endpoint_changes=updated[index].endpoint_changes + 1)
        rows = tuple(updated)
    tracked.peers, tracked.rows = new, rows


def _as_if_known(old: Peers, new: Peers, started_ns: int) -> Peers:
    """The peers of now as they were before, those seen for the first time as they are. The handshake of such a one
    counts if it happened since the exporter started.
    """
    known = {peer.public_key: peer for peer in old}
    strangers = (peer._replace(last_handshake_ns=0) if peer.last_handshake_ns > started_ns else peer for peer in new)
    return Peers.of(known.get(stranger.public_key, stranger) for stranger in strangers)
