"""How every peer is, judged at each tick from what was seen of it; a scrape only reads.

Nothing is made or lost by a scrape, and nothing is forgotten while somebody waits: a device that vanished keeps its
expected peers here, for metrics that vanish would resolve the page that should be firing.

Most peers do nothing most of the time. So each has a moment before which nothing but new counters can change its
state, and a tick looks only at those that moved and those whose moment has come.
"""

from __future__ import annotations

from itertools import compress
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.evidence import Evidence, Place
from wg_exporter.health.rules import first_that_holds
from wg_exporter.health.states import NOT_JUDGED, Change, PeerHealth, State
from wg_exporter.model import Backend, Peers, differences, same

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from wg_exporter.config.health import HealthLimits
    from wg_exporter.model import Device, DeviceKey, Peer, Probed, Snapshot
    from wg_exporter.names.identity import PeerMeta

# What is said of the peers of a device that can't be read is withdrawn after so long, unless they are down.
UNREAD_SECONDS = 30.0


class GoneDevice(NamedTuple):
    """A device that vanished while peers of it are expected up: these peers, and how they are."""

    netns: str
    name: str
    public_key: tuple[str, ...]
    metas: tuple[PeerMeta, ...]
    rows: tuple[PeerHealth, ...]


class _Watched:
    """One device: its peers at the last look and, in parallel, what was seen of them and how they are."""

    __slots__ = ("due", "index", "judged_at", "metas", "peers", "place", "read_at", "rows", "seen")

    def __init__(self) -> None:
        self.place = Place()
        self.peers = Peers()
        self.metas: Sequence[PeerMeta] = ()
        self.seen: list[Evidence] = []
        self.rows: tuple[PeerHealth, ...] = ()
        self.due: list[float] = []
        self.read_at = -inf
        self.judged_at = -inf
        self.index = 0


class Health:
    """Judges all peers of a host. One writer (the tick); readers see each device's rows whole."""

    def __init__(self) -> None:
        self._devices: dict[DeviceKey, _Watched] = {}
        self._gone: tuple[GoneDevice, ...] = ()
        self._suspicious = False

    @property
    def suspicious(self) -> bool:
        """Whether a look in a second is worth it: an answer of a peer that should be up is overdue."""
        return self._suspicious

    def of(self, device: Device) -> Sequence[PeerHealth]:
        """How the device's peers are, in its order; the same object as before while nothing changed."""
        watched = self._devices.get((device.netns, device.name))
        if watched is None:
            return (NOT_JUDGED,) * len(device.peers)
        keys, rows = watched.peers.public_key, watched.rows
        if same(device.peers.public_key, keys):
            return rows
        known = dict(zip(keys, rows, strict=True))
        return tuple(known.get(key, NOT_JUDGED) for key in device.peers.public_key)

    def gone(self) -> tuple[GoneDevice, ...]:
        """The devices that vanished, with those of their peers that are expected up."""
        return self._gone

    def unseen(self, there: Collection[DeviceKey]) -> tuple[GoneDevice, ...]:
        """As `gone`, of all devices but those that are `there`: a scrape may be the first to find one gone or back.

        One that is there and can't be read is among them: what fires of its peers goes on firing.
        """
        found = (_gone(key, watched) for key, watched in self._devices.items() if key not in there)
        return tuple(device for device in found if device.rows)

    def devices(self) -> Iterator[tuple[DeviceKey, Sequence[str], Sequence[PeerMeta], Sequence[PeerHealth]]]:
        """The peers of each device, there or gone: keys, and in parallel who and how they are."""
        for key, watched in self._devices.items():
            if watched.place.gone_since is None:
                yield key, watched.peers.public_key, watched.metas, watched.rows
        for device in self._gone:
            yield (device.netns, device.name), device.public_key, device.metas, device.rows

    def count(self, state: State) -> int:
        """How many peers are in this state."""
        return sum(row.state is state for watched in list(self._devices.values()) for row in watched.rows)

    def update(
        self,
        snapshot: Snapshot,
        metas: Callable[[Device], Sequence[PeerMeta]],
        probes: Mapping[DeviceKey, Mapping[str, Probed]],
        missed: Collection[DeviceKey],
        limits: HealthLimits,
    ) -> list[Change]:
        """Take in a look at the host, and judge. Returns what changed.

        `metas` tells of a device what `Names.metas` does. `missed` are the devices that somebody waits for.
        """
        now = snapshot.monotonic
        devices = {(device.netns, device.name): device for device in snapshot.devices}
        readable = snapshot.namespaces_read()
        self._suspicious = False
        self._rename(devices, snapshot)
        changes: list[Change] = []
        for key in [*dict.fromkeys((*self._devices, *devices))]:
            device, link = devices.get(key), snapshot.links.get(key)
            watched = self._devices.setdefault(key, _Watched())
            gone = device is None and link is None and key[0] in readable
            if gone and not (key in missed and any(meta.expected_up for meta in watched.metas)):
                del self._devices[key]
                continue
            self._locate(watched, now, gone=gone, down=link is not None and not link.up, known=key[0] in readable)
            moved: set[int] = set()
            if device is not None and device.fresh:
                watched.place.opaque = device.backend is Backend.AMNEZIAWG
                moved = self._look(watched, device, metas(device), snapshot, link.ifindex if link else 0)
            elif not gone and now - watched.read_at > UNREAD_SECONDS:
                self._withdraw(watched)
            self._probe(watched, probes.get(key, {}), now, limits, moved)
            if gone or (device is not None and device.fresh):
                changes += self._judge(key, watched, moved, snapshot, limits)
                watched.judged_at = now
        self._gone = self._find_gone()
        return changes

    def _rename(self, devices: Collection[DeviceKey], snapshot: Snapshot) -> None:
        """A device that has the index of one that was there a moment ago is that one, under another name."""
        for key in devices:
            link = snapshot.links.get(key)
            if key in self._devices or link is None:
                continue
            for other, watched in self._devices.items():
                there = other in snapshot.links or other in devices or watched.place.gone_since is not None
                if other[0] == key[0] and watched.index == link.ifindex and not there:
                    self._devices[key] = self._devices.pop(other)
                    break

    def reconsider(
        self, meta: Callable[[DeviceKey, Peer], PeerMeta], wanted: Callable[[DeviceKey], bool]
    ) -> Callable[[], None]:
        """Ask what a new configuration makes of peers whose device is gone; the others are told of at each look.

        Devices that are not `wanted` any more are forgotten, for nobody looks at them from now on. Nothing changes
        before the result is called.
        """
        kept = {key: watched for key, watched in self._devices.items() if wanted(key)}
        gone = [(key, watched) for key, watched in kept.items() if watched.place.gone_since is not None]
        answers = [tuple(meta(key, peer) for peer in watched.peers) for key, watched in gone]

        def take_over() -> None:
            self._devices = kept
            for (_key, watched), metas in zip(gone, answers, strict=True):
                watched.metas = metas
                for seen, found in zip(watched.seen, metas, strict=True):
                    seen.expected = found.expected_up
            self._gone = self._find_gone()

        return take_over

    def _find_gone(self) -> tuple[GoneDevice, ...]:
        return tuple(
            _gone(key, watched) for key, watched in self._devices.items() if watched.place.gone_since is not None
        )

    @staticmethod
    def _locate(watched: _Watched, now: float, *, gone: bool, down: bool, known: bool) -> None:
        """Since when the interface is down or gone. What can't be read stays as it was."""
        place = watched.place
        if not known:
            return
        before = place.gone_since is None, place.down_since is None
        place.gone_since = (place.gone_since or now) if gone else None
        place.down_since = (place.down_since or now) if down else None
        if before != (place.gone_since is None, place.down_since is None):
            watched.due = [now] * len(watched.due)

    @staticmethod
    def _look(
        watched: _Watched, device: Device, metas: Sequence[PeerMeta], snapshot: Snapshot, ifindex: int
    ) -> set[int]:
        """Take in what was read of a device; returns the places of the peers whose evidence changed."""
        now, wall = snapshot.monotonic, snapshot.wall
        seconds = now - watched.read_at
        anew = bool(ifindex and watched.index and ifindex != watched.index)
        old, new = watched.peers, device.peers
        watched.read_at, watched.index = now, ifindex or watched.index
        moved: set[int] = set()
        if not same(old.public_key, new.public_key) or anew:
            _regroup(watched, device, metas, now, wall, anew=anew)
            old = watched.peers
        elif not same(watched.metas, metas):
            for at in differences(watched.metas, metas):
                watched.seen[at].expect(metas[at].expected_up, now)
                moved.add(at)
        for at in differences(old.persistent_keepalive, new.persistent_keepalive):
            watched.seen[at].keepalive = new.persistent_keepalive[at]
            moved.add(at)
        shaken = {at for at in differences(old.last_handshake_ns, new.last_handshake_ns) if new.last_handshake_ns[at]}
        grown = {*differences(old.rx_bytes, new.rx_bytes), *differences(old.tx_bytes, new.tx_bytes), *shaken}
        for at in grown:
            received = new.rx_bytes[at] - old.rx_bytes[at]
            sent = new.tx_bytes[at] - old.tx_bytes[at]
            if received < 0 or sent < 0:  # the device or the peer was made anew between two looks
                watched.seen[at].appear(new[at], now, wall)
            else:
                watched.seen[at].move(received, sent, shaken=at in shaken, now=now, seconds=seconds)
        watched.peers, watched.metas = new, metas
        return moved | grown

    @staticmethod
    def _probe(
        watched: _Watched, probes: Mapping[str, Probed], now: float, limits: HealthLimits, moved: set[int]
    ) -> None:
        """What the prober knows can change with every look."""
        for at, (key, seen) in enumerate(zip(watched.peers.public_key, watched.seen, strict=True)):
            probed = probes.get(key)
            if probed is not None or seen.probed:
                seen.probe(probed, now, limits)
                moved.add(at)

    def _judge(
        self, key: DeviceKey, watched: _Watched, moved: set[int], snapshot: Snapshot, limits: HealthLimits
    ) -> Iterator[Change]:
        now = snapshot.monotonic
        moved.update(compress(range(len(watched.due)), [due <= now for due in watched.due]))
        rows: list[PeerHealth] | None = None
        for at in sorted(moved):
            seen, row = watched.seen[at], watched.rows[at]
            # Most peers that moved were just heard and go on being up: no rule before that one can hold.
            if seen.state is State.UP and seen.heard == now and not seen.probed and watched.place.well:
                watched.due[at] = now + seen.stale_after
                continue
            before, found = seen.state, _judged(seen, row, snapshot, now - watched.judged_at, limits)
            watched.due[at] = _due(seen, now, limits)
            self._suspicious = self._suspicious or (seen.state is not State.DOWN and seen.suspect(now))
            if found is not row:
                rows = list(watched.rows) if rows is None else rows
                rows[at] = found
            if seen.state is not None and seen.state is not before:
                who = (watched.peers.public_key[at], watched.metas[at].name)
                yield Change(*key, *who, before, seen.state, seen.reason, found.evidence or seen.told(now))
        if rows is not None:
            watched.rows = tuple(rows)

    @staticmethod
    def _withdraw(watched: _Watched) -> None:
        """Say nothing of peers of whom nothing can be read any more; a page that fires goes on firing."""
        rows = []
        for seen, row in zip(watched.seen, watched.rows, strict=True):
            if row.state is None or row.state is State.DOWN:
                rows.append(row)
            else:
                seen.state = seen.reason = None
                seen.judged = False
                rows.append(row._replace(state=None, reason=None, evidence=""))
        if not same(watched.rows, tuple(rows)):
            watched.rows = tuple(rows)
            # Whoever lost its state is judged at the next look that sees it, though nothing may have moved by then.
            watched.due = [-inf] * len(rows)


def _regroup(
    watched: _Watched, device: Device, metas: Sequence[PeerMeta], now: float, wall: float, *, anew: bool
) -> None:
    """Other peers than before, or all of them on a device that was made anew. So all are judged."""
    old = dict(zip(watched.peers.public_key, zip(watched.peers, watched.seen, watched.rows, strict=True), strict=True))
    peers, seen, rows = [], [], []
    for peer, meta in zip(device.peers, metas, strict=True):
        before = old.get(peer.public_key)
        if before is None:
            found = (peer, Evidence(watched.place, peer, meta, now, wall), NOT_JUDGED)
        else:
            found = (peer if anew else before[0], before[1], before[2])
            found[1].expect(meta.expected_up, now)
            if anew:
                found[1].appear(peer, now, wall)
        peers.append(found[0])
        seen.append(found[1])
        rows.append(found[2])
    watched.peers, watched.seen, watched.rows = Peers.of(peers), seen, tuple(rows)
    watched.due = [now] * len(seen)


def _judged(seen: Evidence, row: PeerHealth, snapshot: Snapshot, seconds: float, limits: HealthLimits) -> PeerHealth:
    """The row of a peer after this look, the same object if nothing changed. `seconds` went by since the last look."""
    now, before = snapshot.monotonic, seen.state
    if before is State.DOWN:
        row = row._replace(down_seconds=row.down_seconds + seconds)
    rule = first_that_holds(seen, now, limits)
    if seen.open(now) and rule.state not in {State.DOWN, State.NEVER}:
        return row
    if rule.state is State.DOWN and before is not State.DOWN and now - seen.expected_since < limits.down_after:
        return row  # it was not expected up a moment ago, and may not be in another: its file is being written
    seen.judged = True
    reason = seen.reason if rule.state is State.DOWN and rule.reason is None else rule.reason
    if rule.state is before:
        if reason is not seen.reason:
            seen.reason = reason
            row = row._replace(reason=reason, evidence=seen.told(now))
        return row
    if before is State.DOWN:
        seen.risen = now
    seen.state, seen.reason, seen.since = rule.state, reason, now
    row = row._replace(state=rule.state, reason=reason, evidence=seen.told(now) if reason else "")
    if before is not None:
        row = row._replace(changes=row.changes + 1, changed_at=snapshot.wall)
    return row


def _due(seen: Evidence, now: float, limits: HealthLimits) -> float:
    """The monotonic time at which the peer has to be looked at again, though nothing moves."""
    if not seen.judged or seen.state is State.DOWN or (seen.expected and seen.asked is not None):
        return now
    if seen.expected and now - seen.expected_since < limits.down_after:
        return now
    if seen.expected and (seen.place.down_since is not None or seen.place.gone_since is not None):
        return now
    if seen.recent(now):
        return (seen.heard or now) + seen.stale_after
    if seen.expected and seen.heard is None:
        return seen.first_seen + limits.down_after
    return inf


def _gone(key: DeviceKey, watched: _Watched) -> GoneDevice:
    picked = [meta.expected_up for meta in watched.metas]
    return GoneDevice(
        *key,
        tuple(compress(watched.peers.public_key, picked)),
        tuple(compress(watched.metas, picked)),
        tuple(compress(watched.rows, picked)),
    )
