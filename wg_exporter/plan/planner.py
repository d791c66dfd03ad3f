"""Which peers are probed, and why the others are not: what was read and what is configured -> rows for the prober.

A peer is wanted if the configuration says so or, under `auto`, if it is expected up. A wanted peer is probed if there
is an interface to send into, an address to aim at, and an endpoint, without which WireGuard would only queue the
packets. Otherwise it is in `Plan.unprobed` with the reason.

The prober forgets a peer that is not in the plan, with its counters. So a device that could not be read, or whose links
could not be read, stays in the plan as it was.

A host may have 10,000 peers, and at most looks only counters have moved; then the plan is the same object.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config import Probing
from wg_exporter.model import same
from wg_exporter.plan.targets import Origin, Target, Targets
from wg_exporter.probed import ProbePeer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wg_exporter.config import Config, PeerConfig
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.model import ConfFile, Device, DeviceKey, Link, PeerKey, Snapshot
    from wg_exporter.names.identity import PeerMeta

NO_INTERFACE = "its interface was not found; if it is in another network namespace, name that under `namespaces`"
TURNED_OFF = "the configuration turns probing off for it"
NOT_EXPECTED = "it is not expected up; `probe: true` for it in the configuration turns probing on"
NO_ENDPOINT = "no endpoint yet: WireGuard does not know where to send to until the peer calls or one is set"

NO_TARGET = Target("", Origin.NONE)


class Aim(NamedTuple):
    """Where probes to a peer go, for a person. `target` is the address inside the tunnel, `origin` where that came from
    (`configured`, `in_subnet`, `only_host`, `derived`, or `none`). `reason` is one line that says why the peer is not
    probed, empty if it is. `wanted` says whether it should be.
    """

    target: str
    origin: str
    reason: str
    wanted: bool


class Plan(NamedTuple):
    """What to probe. `unprobed` are the peers that are wanted and can't be probed, each with one line that says why.

    `targets` has, for each device with a wanted peer, the Target of each of its peers, by public key.
    """

    peers: tuple[ProbePeer, ...] = ()
    unprobed: Mapping[PeerKey, str] = {}
    targets: Mapping[DeviceKey, Mapping[str, Target]] = {}


class Wish(NamedTuple):
    """What the configuration says of one peer; None and empty where it says nothing. `interval` is in seconds."""

    probe: Probing | None = None
    interval: float | None = None
    target: str = ""


class _Place(NamedTuple):
    """What matters of a link: all but its counters."""

    ifindex: int
    mtu: int
    addresses: tuple[str, ...]


class _Planned(NamedTuple):
    """A device at the last look, and its part of the plan.

    `underlay` is the namespace of its UDP socket, None if it is in none of the namespaces that are read. `servers` are
    the public keys whose endpoints are in the device's configuration file; None without a file.
    """

    device: Device
    metas: Sequence[PeerMeta]
    place: _Place | None
    underlay: str | None
    servers: frozenset[str] | None
    targets: Mapping[str, Target]
    rows: tuple[ProbePeer, ...]
    unprobed: Mapping[PeerKey, str]


class Planner:
    """Makes plans for one configuration. Not thread-safe."""

    def __init__(self, config: Config) -> None:
        self._probe = config.probe
        self._wishes = _wishes(config.peers)
        self._targets = Targets()
        self._conf: tuple[ConfFile, ...] = ()
        self._servers: dict[str, frozenset[str]] = {}
        self._known: dict[DeviceKey, _Planned] = {}
        self._plan = Plan()

    def plan(
        self, devices: Sequence[DeviceChange], snapshot: Snapshot, metas: Callable[[Device], Sequence[PeerMeta]]
    ) -> Plan:
        """What to probe after this look at `devices`; the same object again while nothing about it changed.

        `metas` is `Names.metas`.
        """
        if snapshot.conf is not self._conf:
            self._conf, self._servers = snapshot.conf, _servers(snapshot.conf)
        known: dict[DeviceKey, _Planned] = {}
        for change in devices:
            before, device, place = self._known.get(change.key), change.device, _place(change.link)
            if place is None and before and not change.certain:
                place = before.place
            if device:
                known[change.key] = self._look(device, metas(device), place, snapshot.udp_ports, before)
            elif before and place:  # it could not be read this time, but it is there
                known[change.key] = self._look(before.device, before.metas, place, snapshot.udp_ports, before)
        return self._planned(known)

    def aims(self) -> dict[PeerKey, Aim]:
        """The last plan for a person: how each peer of each device is probed, or why it is not."""
        found: dict[PeerKey, Aim] = {}
        probed = {row.key for row in self._plan.peers}
        for (netns, name), known in self._known.items():
            wishes = self._wishes_on(known.device)
            for public_key in known.device.peers.public_key:
                key = (netns, name, public_key)
                target = known.targets.get(public_key, NO_TARGET)
                if key in probed:
                    found[key] = Aim(target.address, target.origin, "", wanted=True)
                elif key in known.unprobed:
                    found[key] = Aim(target.address, target.origin, known.unprobed[key], wanted=True)
                else:
                    reason = TURNED_OFF if self._probing(wishes, public_key) is Probing.OFF else NOT_EXPECTED
                    found[key] = Aim("", Origin.NONE, reason, wanted=False)
        return found

    def underlays(self) -> dict[DeviceKey, str | None]:
        """The namespace of the UDP socket of each device of the last plan, None where none that is read has it."""
        return {key: known.underlay for key, known in self._known.items()}

    def _probing(self, wishes: Mapping[str, Wish], public_key: str) -> Probing:
        wish = wishes.get(public_key)
        return wish.probe if wish and wish.probe is not None else self._probe.enabled

    def _planned(self, known: dict[DeviceKey, _Planned]) -> Plan:
        before, self._known = self._known, known
        if before.keys() == known.keys() and all(map(_same_result, before.values(), known.values())):
            return self._plan
        self._targets.forget(known)
        rows = tuple(chain.from_iterable(device.rows for device in known.values()))
        self._plan = Plan(
            self._plan.peers if same(self._plan.peers, rows) else rows,
            {key: why for device in known.values() for key, why in device.unprobed.items()},
            {key: device.targets for key, device in known.items() if device.targets},
        )
        return self._plan

    def _look(
        self,
        device: Device,
        metas: Sequence[PeerMeta],
        place: _Place | None,
        udp_ports: Mapping[str, frozenset[int]],
        before: _Planned | None,
    ) -> _Planned:
        servers = None if device.netns else self._servers.get(device.name)
        underlay = _underlay(device, udp_ports, before)
        current = _Planned(device, metas, place, underlay, servers, {}, (), {})
        if before and _alike(before, current):
            return before._replace(device=device, metas=metas)
        wishes = self._wishes_on(device)
        wanted = [*self._wanted(device, metas, wishes)]
        targets: Mapping[str, Target] = {}
        if wanted and place:
            configured = {key: wish.target for key, wish in wishes.items() if wish.target}
            targets = self._targets.of(device, place.addresses, configured)
        current = current._replace(targets=targets)
        unprobed: dict[PeerKey, str] = {}
        rows: list[ProbePeer] = []
        for index in wanted:
            found = self._row(current, index, wishes)
            if isinstance(found, str):
                unprobed[device.netns, device.name, device.peers.public_key[index]] = found
            else:
                rows.append(found)
        return current._replace(
            rows=before.rows if before and same(before.rows, tuple(rows)) else tuple(rows),
            unprobed=before.unprobed if before and before.unprobed == unprobed else unprobed,
        )

    def _wishes_on(self, device: Device) -> Mapping[str, Wish]:
        """The wishes for the device's peers, by public key; only those that say something."""
        if not self._wishes:
            return {}
        everywhere, here = self._wishes.get("", {}), self._wishes.get(device.name, {})
        found = ((key, here.get(key) or everywhere.get(key)) for key in device.peers.public_key)
        return {key: wish for key, wish in found if wish}

    def _wanted(self, device: Device, metas: Sequence[PeerMeta], wishes: Mapping[str, Wish]) -> Iterator[int]:
        """The indices of the peers that are to be probed."""
        for index, (key, meta) in enumerate(zip(device.peers.public_key, metas, strict=True)):
            probing = self._probing(wishes, key)
            if probing is Probing.ON or (probing is Probing.AUTO and meta.expected_up):
                yield index

    def _row(self, current: _Planned, index: int, wishes: Mapping[str, Wish]) -> ProbePeer | str:
        """How to probe the peer with this index, or why that can't be done."""
        device, place = current.device, current.place
        key, endpoint = device.peers.public_key[index], device.peers.endpoint[index]
        if place is None:
            return NO_INTERFACE
        target = current.targets[key]
        if not target.address or not endpoint:
            return target.reason or NO_ENDPOINT
        interval = wishes[key].interval if key in wishes else None
        return ProbePeer(
            key=(device.netns, device.name, key),
            ifindex=place.ifindex,
            mtu=place.mtu,
            target=target.address,
            ipv6_inside=any(":" in address and not _link_local(address) for address in place.addresses),
            endpoint="" if current.underlay is None else endpoint.rpartition(":")[0].strip("[]"),
            fwmark=device.fwmark,
            underlay=current.underlay or "",
            roams=current.servers is not None and key not in current.servers,
            interval=self._probe.interval if interval is None else interval,
        )


def _link_local(address: str) -> bool:
    """fe80::/10. The kernel gives such an address to every tun, and again after an MTU below 1280 has removed it."""
    return address[:3].lower() in {"fe8", "fe9", "fea", "feb"}


def _wishes(peers: Sequence[PeerConfig]) -> dict[str, dict[str, Wish]]:
    """The wishes by interface, or "" for every interface, and public key.

    Each setting of an entry with an interface goes before that of an entry without.
    """
    found: dict[str, dict[str, Wish]] = {}
    for peer in sorted(peers, key=lambda peer: peer.interface or ""):
        usual = found.get("", {}).get(peer.public_key, Wish())
        found.setdefault(peer.interface or "", {})[peer.public_key] = Wish(
            usual.probe if peer.probe is None else peer.probe,
            usual.interval if peer.interval is None else peer.interval,
            peer.target or usual.target,
        )
    return found


def _servers(conf: tuple[ConfFile, ...]) -> dict[str, frozenset[str]]:
    """For each interface that a file describes, the peers whose endpoint is in it. The other peers may roam."""
    found: dict[str, set[str]] = {}
    for file in conf:
        if file.interface and file.peers:
            found.setdefault(file.interface, set()).update(peer.public_key for peer in file.peers if peer.endpoint)
    return {interface: frozenset(keys) for interface, keys in found.items()}


def _place(link: Link | None) -> _Place | None:
    return link and _Place(link.ifindex, link.mtu, link.addresses)


def _underlay(device: Device, udp_ports: Mapping[str, frozenset[int]], before: _Planned | None) -> str | None:
    """The namespace of the device's UDP socket: its own or, if its port is not bound there, the only one where it is.

    None if it is none of the namespaces that are read: a route or path in another one would be a different one.
    """
    own = udp_ports.get(device.netns)
    if own is None:
        return before.underlay if before else device.netns
    if not device.listen_port or device.listen_port in own:
        return device.netns
    others = [netns for netns, ports in udp_ports.items() if device.listen_port in ports]
    return others[0] if len(others) == 1 else None


def _alike(before: _Planned, current: _Planned) -> bool:
    """Whether nothing changed that the plan depends on. Mostly only counters and handshakes move."""
    old, new = before.device.peers, current.device.peers
    return (
        before.place == current.place
        and before.underlay == current.underlay
        and before.servers == current.servers
        and before.device.fwmark == current.device.fwmark
        and same(old.public_key, new.public_key)
        and same(old.allowed_ips, new.allowed_ips)
        and same(old.endpoint, new.endpoint)
        and same(before.metas, current.metas)
    )


def _same_result(before: _Planned, current: _Planned) -> bool:
    return before.rows is current.rows and before.unprobed is current.unprobed and before.targets is current.targets
