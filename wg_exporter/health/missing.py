"""Peers that should be on a device and are not: its file describes them, or our configuration waits for them.

WireGuard knows nothing of such a peer, so none of its series would be left: no state, and an alert that fires would
resolve. That happens by a slip of `wg syncconf`, or of whatever writes the configuration.

A peer that was on its device and left it while its file still describes it is missed after `down_after`. One that a
file describes and that was never there is missed after `ROLLOUT_SECONDS` in which the file did not change, for rollouts
write the file first. One that left the device and the file was removed, and nobody misses it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.states import NOT_JUDGED, Change, PeerHealth, Reason, State
from wg_exporter.model import Peer, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from wg_exporter.health.judge import Tick
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.model import ConfFile, ConfPeer, Device, DeviceKey
    from wg_exporter.names.identity import PeerMeta

ROLLOUT_SECONDS = 600.0


class Described(NamedTuple):
    """A peer that should be on a device, and the file that says so; None if our own configuration does."""

    peer: ConfPeer
    file: ConfFile | None


class _Missed:
    """One peer that is not on its device. Times are monotonic seconds."""

    __slots__ = ("described", "row", "settled", "since", "was_there")

    def __init__(self, described: Described, now: float, *, was_there: bool) -> None:
        self.described = described
        self.since = now
        self.settled = now  # since when its file has not changed
        self.was_there = was_there
        self.row = NOT_JUDGED


class MissingDevicePeers:
    """The peers that one device lacks."""

    def __init__(self) -> None:
        self._missed: dict[str, _Missed] = {}
        self._been: set[str] = set()  # those described that were on the device
        self._looked: tuple[tuple[str, ...], Mapping[str, Described]] = ((), {})
        self.keys: tuple[str, ...] = ()
        self.metas: tuple[PeerMeta, ...] = ()
        self.rows: tuple[PeerHealth, ...] = ()

    def look(
        self,
        device: Device,
        described: Mapping[str, Described],
        meta: Callable[[Peer], PeerMeta],
        tick: Tick,
        down_after: float,
    ) -> Iterator[Change]:
        """Take in which peers the device has, and judge those that it lacks. Yields what changed.

        `described` is the same object as before while nothing changed.
        """
        keys = device.peers.public_key
        if not (same(self._looked[0], keys) and self._looked[1] is described):
            self._compare(keys, described, tick.now)
            self._looked = keys, described
        if not self._missed and not self.keys:
            return
        shown: list[tuple[str, PeerMeta, PeerHealth]] = []
        for key, missed in self._missed.items():
            found = meta(_as_peer(missed.described.peer))
            before, missed.row = missed.row, _judged(missed, found, tick, down_after)
            if missed.row.state is None:
                continue
            shown.append((key, found, missed.row))
            if missed.row.state is not before.state:
                who = (device.netns, device.name, key, found.name)
                yield Change(*who, before.state, missed.row.state, missed.row.reason, missed.row.evidence)
        columns = tuple(zip(*shown, strict=True)) or ((), (), ())
        for name, column in zip(("keys", "metas", "rows"), columns, strict=True):
            if not same(getattr(self, name), column):
                setattr(self, name, column)

    def _compare(self, keys: Sequence[str], described: Mapping[str, Described], now: float) -> None:
        """Find out which of those described the device lacks."""
        there = set(keys)
        self._been = (self._been | there) & described.keys()
        missed: dict[str, _Missed] = {}
        for key in described.keys() - there:
            known = self._missed.get(key)
            if known is None:
                known = _Missed(described[key], now, was_there=key in self._been)
            elif known.described != described[key]:
                known.described, known.settled = described[key], now
            missed[key] = known
        self._missed = dict(sorted(missed.items()))


def described(device: Device, files: Iterable[ConfFile], others: Mapping[str, ConfPeer]) -> dict[str, Described]:
    """The peers that should be on a device: those of its files, and `others`, for which our configuration waits.

    Its files are those that wg-quick or networkd would load for it or, if there are none, those with a peer of it. A
    file that wg-quick saves itself says what was, and nothing of what should be.
    """
    found = {key: Described(peer, None) for key, peer in others.items()}
    if device.netns:  # a file describes devices of this host's own namespace
        return found
    useful = [file for file in files if file.peers and not file.saved]
    own = [file for file in useful if file.interface == device.name]
    if not own:
        keys = set(device.peers.public_key)
        own = [file for file in useful if any(peer.public_key in keys for peer in file.peers)]
    for file in own:
        for peer in file.peers:
            found.setdefault(peer.public_key, Described(peer, file))
    return found


def _judged(missed: _Missed, meta: PeerMeta, tick: Tick, down_after: float) -> PeerHealth:
    row = missed.row
    if row.state is State.DOWN:
        row = row._replace(down_seconds=row.down_seconds + tick.seconds)
    lately = missed.was_there or missed.described.file is None
    begin = missed.since + down_after if lately else max(missed.since, missed.settled) + ROLLOUT_SECONDS
    if tick.now < begin:
        return row
    state = State.DOWN if lately and meta.expected_up else State.DEGRADED
    if state is row.state:
        return row
    if row.state is not None or missed.was_there:  # a state found at the start is no change
        row = row._replace(changes=row.changes + 1, changed_at=tick.wall)
    evidence = _evidence(missed, tick.now)
    return row._replace(state=state, reason=Reason.MISSING, evidence=evidence, reason_at=tick.wall)


def _evidence(missed: _Missed, now: float) -> str:
    file = missed.described.file
    where = f"{file.path} describes it" if file else "the configuration of wg-exporter expects it up"
    gone = f"it left the device {now - missed.since:.0f} s ago" if missed.was_there else "it was never on the device"
    return f"{gone}, and {where}"


def _as_peer(peer: ConfPeer) -> Peer:
    """As it would be on the device, for whoever asks whether it should be up."""
    return Peer(peer.public_key, peer.endpoint, peer.allowed_ips, peer.persistent_keepalive or 0, 0, 0, 0)


class _Found(NamedTuple):
    """Who is described, and what that was worked out from."""

    files: tuple[ConfFile, ...]
    others: Mapping[str, Mapping[str, ConfPeer]]
    keys: Sequence[str]
    described: Mapping[str, Described]


class MissingPeers:
    """The peers that the devices of a host lack. Not thread-safe."""

    def __init__(self) -> None:
        self._devices: dict[DeviceKey, MissingDevicePeers] = {}
        self._described: dict[DeviceKey, _Found] = {}

    def __iter__(self) -> Iterator[tuple[DeviceKey, MissingDevicePeers]]:
        """The devices that lack peers."""
        return ((key, device) for key, device in list(self._devices.items()) if device.keys)

    def look(  # noqa: PLR0917 - what a look brings
        self,
        devices: Sequence[DeviceChange],
        files: tuple[ConfFile, ...],
        others: Mapping[str, Mapping[str, ConfPeer]],
        meta: Callable[[DeviceKey, Peer], PeerMeta],
        tick: Tick,
        down_after: float,
    ) -> list[Change]:
        """Take in a look at the host. Returns what changed. A device that can't be read lacks what it lacked.

        `others` are the peers for which the configuration waits, by interface and public key; the same object as before
        while it is the same configuration.
        """
        kept: dict[DeviceKey, MissingDevicePeers] = {}
        changes: list[Change] = []
        for found in devices:
            known = self._devices.get(found.was) if found.was else None
            if found.gone or (known is None and found.read is None):
                continue
            kept[found.key] = known or MissingDevicePeers()
            if found.read is not None:
                wanted = self._wanted(found.read, files, others)
                changes += kept[found.key].look(found.read, wanted, partial(meta, found.key), tick, down_after)
        self._devices = kept
        self._described = {key: value for key, value in self._described.items() if key in kept}
        return changes

    def _wanted(
        self, device: Device, files: tuple[ConfFile, ...], others: Mapping[str, Mapping[str, ConfPeer]]
    ) -> Mapping[str, Described]:
        """`described`, the same object as before while nothing changed that it depends on."""
        key, keys = (device.netns, device.name), device.peers.public_key
        known = self._described.get(key)
        if known is not None and known.files is files and known.others is others and same(known.keys, keys):
            return known.described
        found: Mapping[str, Described] = described(device, files, others.get(device.name, {}))
        if known is not None and known.described == found:
            found = known.described
        self._described[key] = _Found(files, others, keys, found)
        return found
