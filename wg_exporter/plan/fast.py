"""Who gets fast echoes, and how the others stand that should: what was read and what is configured -> rows.

A peer with `fast` in its entry gets them wherever it is aimed at and has an endpoint, whether or not it is probed
besides. A peer that is certainly gone, or whose interface is, or that nothing can be sent to, is down: a gateway must
not draw traffic for it. Of all others nothing is known. What could not be read stays as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config.fast import MOST_ECHOES, MOST_FAST, too_many
from wg_exporter.model import SourceName
from wg_exporter.plan.targets import Targets
from wg_exporter.probed import FastPeer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wg_exporter.config import Config, PeerConfig
    from wg_exporter.config.fast import Fast
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.model import Device, DeviceKey, PeerKey, Snapshot

NOT_THERE = "its interface is not there, or the interface has no such peer"
NO_ENDPOINT = "it has no endpoint, so nothing can be sent to it"
NOT_MET = "no such peer was met here yet"
NO_INTERFACE = "the addresses of its interface are not known"
MOST_MET = 16 * MOST_FAST
"""Peers that were there once: an entry without an interface means one on each that ever comes and goes."""

TOO_MANY = f"others have the {MOST_FAST} places, or the {MOST_ECHOES:.0f} fast echoes a second, that a host has"
NOT_READ = "the interfaces could not be read yet"
NO_ANSWER_YET = "its echoes have not said yet"


class Unasked(NamedTuple):
    """A peer that gets no fast echoes, though it should: whether it is down for that, and why it gets none. `target` is
    where they would go or last went, empty if that is not known.
    """

    down: bool
    why: str
    target: str = ""


class FastPlan(NamedTuple):
    """Whom to send fast echoes to, and whom not. All of them are peers with `fast` in the configuration, which are
    `configured` by interface, empty for any, and public key: some of them may not have been met yet.
    """

    peers: tuple[FastPeer, ...] = ()
    unasked: Mapping[PeerKey, Unasked] = {}
    configured: frozenset[tuple[str, str]] = frozenset()

    def unmet(self, key: PeerKey) -> Unasked | None:
        """The row of a peer that is configured and was not met here; None if it is not configured."""
        return None if self.configured.isdisjoint({key[1:], ("", key[2])}) else Unasked(down=False, why=NOT_MET)


class _Seen(NamedTuple):
    """A device as it was last read, and its interface."""

    device: Device
    ifindex: int
    addresses: tuple[str, ...]


class FastPlanner:
    """Makes plans for one configuration. Not thread-safe."""

    def __init__(self, config: Config) -> None:
        self._fast = {
            (peer.interface or "", peer.public_key): peer.fast for peer in config.peers if peer.fast is not None
        }
        self._keys = frozenset(key for _, key in self._fast)
        self._namespaces = frozenset({"", *(place.name for place in config.namespaces)})
        self._aims = _aims(config.peers)
        self._targets = Targets()
        self._seen: dict[DeviceKey, _Seen] = {}
        self._met: dict[PeerKey, str] = {}  # the peers that were there once, and where they were aimed at
        self._plan = FastPlan()

    def follow(self, before: FastPlanner) -> None:
        """Go on with the peers that the planner of the configuration before has met, as far as they are in this one."""
        self._met = {
            (netns, interface, key): target
            for (netns, interface, key), target in before._met.items()
            if netns in self._namespaces and not self._fast.keys().isdisjoint({(interface, key), ("", key)})
        }

    def plan(self, devices: Sequence[DeviceChange], snapshot: Snapshot) -> FastPlan:
        """Whom to ask after this look at `devices`; the same object again while nothing about it changed."""
        if not self._fast:
            return self._plan
        self._look(devices)
        peers: list[FastPeer] = []
        unasked: dict[PeerKey, Unasked] = {}
        echoes = 0.0  # a second
        for key, row in self._rows():
            if isinstance(row, Unasked):
                unasked[key] = row
            elif too_many(len(peers) + 1, echoes + 1 / row.interval):  # an entry without an interface may mean many
                unasked[key] = Unasked(down=False, why=TOO_MANY)
            else:
                peers.append(row)
                echoes += 1 / row.interval
        while len(self._met) > MOST_MET:
            del self._met[next(iter(self._met))]
        there = {*unasked, *(peer.key for peer in peers)}
        unasked |= {key: row for key, row in self._gone(snapshot).items() if key not in there}
        found = FastPlan(tuple(peers), unasked, frozenset(self._fast))
        if found != self._plan:
            # The prober compares nothing while it is the same object.
            self._plan = found._replace(peers=self._plan.peers) if found.peers == self._plan.peers else found
        return self._plan

    def _look(self, devices: Sequence[DeviceChange]) -> None:
        seen: dict[DeviceKey, _Seen] = {}
        for change in devices:
            before = self._seen.get(change.key)
            ifindex, addresses = (0, ()) if change.link is None else (change.link.ifindex, change.link.addresses)
            if change.link is None and before and not change.certain:
                ifindex, addresses = before.ifindex, before.addresses
            device = change.device or (before.device if before and ifindex else None)
            if device is not None:
                seen[change.key] = _Seen(device, ifindex, addresses)
        self._seen = seen
        self._targets.forget(seen)

    def _rows(self) -> Iterator[tuple[PeerKey, FastPeer | Unasked]]:
        for seen in self._seen.values():
            device = seen.device
            wanted = self._keys.intersection(device.peers.public_key)
            for public_key in sorted(wanted, key=device.peers.public_key.index):
                fast = self._fast.get((device.name, public_key)) or self._fast.get(("", public_key))
                if fast is not None:
                    key = (device.netns, device.name, public_key)
                    row = self._row(seen, key, fast)
                    before = self._met.pop(key, "")
                    self._met[key] = row.target or before  # behind those that are gone
                    yield key, row

    def _row(self, seen: _Seen, key: PeerKey, fast: Fast) -> FastPeer | Unasked:
        if not seen.ifindex:
            return Unasked(down=False, why=NO_INTERFACE)
        device = seen.device
        aims = {**self._aims.get("", {}), **self._aims.get(device.name, {})}
        target = self._targets.of(device, seen.addresses, aims)[key[2]]
        if not target.address:
            return Unasked(down=False, why=target.reason)
        if not device.peers.endpoint[device.peers.public_key.index(key[2])]:
            return Unasked(down=True, why=NO_ENDPOINT, target=target.address)
        return FastPeer(key, seen.ifindex, target.address, fast.interval, fast.multiplier)

    def _gone(self, snapshot: Snapshot) -> dict[PeerKey, Unasked]:
        """Those that were there once, or whose entry says on which interface they should be."""
        read = all(row.success for row in snapshot.outcomes if row.source is not SourceName.CONF)
        failed = {device.name for device in snapshot.failed}
        met = {(interface, key) for _, interface, key in self._met}
        named = [("", interface, key) for interface, key in self._fast if interface and (interface, key) not in met]
        return {
            key: Unasked(down=True, why=NOT_THERE, target=self._met.get(key, ""))
            if read and key[1] not in failed
            else Unasked(down=False, why=NOT_READ)
            for key in (*self._met, *named)
        }


def _aims(peers: Sequence[PeerConfig]) -> dict[str, dict[str, str]]:
    """The targets that the configuration names, by interface, "" for every one, and public key."""
    found: dict[str, dict[str, str]] = {}
    for peer in peers:
        if peer.target:
            found.setdefault(peer.interface or "", {})[peer.public_key] = peer.target
    return found
