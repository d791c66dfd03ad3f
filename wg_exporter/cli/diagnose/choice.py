"""Which peer `wg-exporter diagnose` is about, and all that one look at the host says of it.

A peer is named as for `show` and `mtu`. One that is not there any more can be named too: those that the exporter that
runs here still waits for, and those that a configuration file describes.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from wg_exporter.cli.common import planned
from wg_exporter.cli.show import overview
from wg_exporter.config import Probing
from wg_exporter.health.states import NOT_JUDGED, PeerHealth, Reason
from wg_exporter.model import Backend
from wg_exporter.plan.planner import Planner
from wg_exporter.plan.targets import Owners
from wg_exporter.probed import ProbePeer
from wg_exporter.status import words
from wg_exporter.status.rows import from_view, whose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wg_exporter.causes.cause import Finding
    from wg_exporter.config import Config
    from wg_exporter.drift.kinds import Drift
    from wg_exporter.exposition.view import View
    from wg_exporter.model import ConfFile, ConfPeer, Device, Link, Peer, PeerKey, Snapshot
    from wg_exporter.plan.planner import Plan
    from wg_exporter.status.rows import DeviceRow, Overview, PeerRow

ANYWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Addresses of nobody (RFC 5737, 3849): where a packet goes that shall provoke a handshake, if no other is known."""


class ChoiceError(Exception):
    """There is no such peer, or there are several. The message is one line that says so."""


class Chosen(NamedTuple):
    """The peer, its device and what is configured of both; None = it is not there, or could not be read.

    `target` is the address inside the tunnel that stands for the peer, empty with `why_no_target` if there is none;
    `meant` is the one that should, by the configuration or the device's file, while packets to it do not go there.
    `provoke` is one to which a packet leads to this peer: `target` if there is one, else perhaps nobody's; empty if
    there is none. `health` is how the exporter that runs here says that it is (`told`), or what one look shows; `found`
    is the cause that the exporter found, `usual` the round trip that it knows, in seconds. `entry` and `underlay_entry`
    lead commands into namespaces, `underlay` is that of the outer packets (None: none that can be looked into).
    `drift` is how the device differs from its file.
    """

    key: PeerKey
    name: str
    device: Device | None = None
    link: Link | None = None
    peer: Peer | None = None
    expected: bool = False
    target: str = ""
    why_no_target: str = ""
    meant: str = ""
    provoke: str = ""
    health: PeerHealth = NOT_JUDGED
    told: bool = False
    found: Finding | None = None
    usual: float | None = None
    entry: str = ""
    underlay: str | None = ""
    underlay_entry: str = ""
    conf: ConfFile | None = None
    conf_peer: ConfPeer | None = None
    drift: Drift | None = None
    problem: str = ""

    @property
    def endpoint(self) -> str:
        """The outer address of the peer without its port; empty if none is known."""
        return self.peer.endpoint.rpartition(":")[0].strip("[]") if self.peer else ""

    def probe(self, interval: float) -> ProbePeer | None:
        """How to send echoes to it, so many seconds apart; None if nothing can be sent."""
        if self.device is None or self.peer is None or self.link is None or not self.provoke:
            return None
        return ProbePeer(
            self.key,
            self.link.ifindex,
            self.link.mtu,
            self.provoke,
            any(":" in address and not address.startswith("fe8") for address in self.link.addresses),
            self.endpoint if self.target and self.underlay is not None else "",
            self.device.fwmark,
            self.underlay or "",
            roams=False,
            interval=interval,
        )


def choose(
    snapshot: Snapshot,
    view: View,
    config: Config,
    wanted: tuple[str | None, str],
    told: Overview | None = None,
) -> Chosen:
    """The peer that is meant by (interface or None, peer). `told` is what the exporter that runs here says.

    Raises ChoiceError.
    """
    interface, peer = wanted
    seen = from_view(snapshot, view, config)
    looked_at = [seen] if told is None else [seen, told]
    why = ""
    for one in looked_at:
        try:
            found = [(row, peer_row) for row in _selected(one, interface, peer).devices for peer_row in row.peers]
        except overview.NothingSelected as nothing:
            why = why or str(nothing)
            continue
        if len(found) > 1:
            raise ChoiceError(_several(found, peer))
        if found and (found[0][0].device or one is looked_at[-1] or not _better(looked_at[-1], found[0])):
            return _chosen(found[0], snapshot, view, config, told)
    described = list(_described(snapshot, interface, peer))
    if len(described) > 1:
        named = words.first_of(f"{file.interface} {one.public_key}" for file, one in described)
        raise ChoiceError(f"several peers are called {words.plain(peer)}; say which: {named}")
    if described:
        return _absent(*described[0], snapshot, config)._replace(drift=view.drifts.get(("", described[0][0].interface)))
    reason = overview.reason_for_failure(seen) if not seen.devices else why
    raise ChoiceError((reason or f"no peer {words.plain(peer)}").replace("wg-exporter show", "wg-exporter diagnose"))


def _selected(one: Overview, interface: str | None, peer: str) -> Overview:
    """As `select`, where a single word is a peer; or an interface, if that has a single one."""
    if interface is not None:
        return overview.select(one, interface, peer)
    return overview.select(one, peer)


def _better(told: Overview, found: tuple[DeviceRow, PeerRow]) -> bool:
    """Whether the exporter knows more of a peer whose device can't be read than this one look."""
    return any(whose(row) == whose(found[0]) for row in told.devices)


def _several(found: Sequence[tuple[DeviceRow, PeerRow]], wanted: str) -> str:
    names = words.first_of(row.name for _, row in found)
    where = dict.fromkeys(whose(row)[1] for row, _ in found)
    if list(where) == [wanted]:
        return f"{words.plain(wanted)} has {words.count(len(found), 'peer')}; name one: {names}"
    keys = words.first_of(f"{whose(row)[1]} {one.peer.public_key}" for row, one in found)
    return f"several peers are called {words.plain(wanted)}; say which: {keys}"


def _described(snapshot: Snapshot, interface: str | None, wanted: str) -> Iterator[tuple[ConfFile, ConfPeer]]:
    """Peers of files, whose interface has them not."""
    for file in snapshot.conf:
        if file.interface and interface in (None, file.interface):
            for peer in file.peers:
                if wanted in (peer.name, peer.public_key) or (wanted and peer.public_key.startswith(wanted)):
                    yield file, peer


def _absent(file: ConfFile, peer: ConfPeer, snapshot: Snapshot, config: Config) -> Chosen:
    key = ("", file.interface, peer.public_key)
    device = next((one for one in snapshot.devices if (one.netns, one.name) == key[:2]), None)
    link = snapshot.links.get(key[:2])
    failed = next((one for one in snapshot.failed if (one.netns, one.name) == key[:2]), None)
    reason = Reason.MISSING if device else Reason.UNREADABLE if failed or link else Reason.INTERFACE_GONE
    if reason is Reason.INTERFACE_GONE and "" not in snapshot.namespaces_read():
        raise ChoiceError(f"the interfaces of this host could not be read, so nothing is known of {file.interface}")
    return Chosen(
        key,
        peer.name or peer.public_key[:8],
        device,
        link,
        health=PeerHealth(reason=reason),
        expected=True,
        entry=config.entries().get("", ""),
        conf=file,
        conf_peer=peer,
        problem=failed.problem if failed else "",
    )


def _chosen(
    found: tuple[DeviceRow, PeerRow], snapshot: Snapshot, view: View, config: Config, told: Overview | None
) -> Chosen:
    row, one = found
    place = whose(row)
    key = (*place, one.peer.public_key)
    row_told = _as_told(told, key)
    health = row_told.health if row_told else None
    entries = config.entries()
    conf, conf_peer = _file(snapshot, key)
    here = one.peer if row.device is not None and not one.gone else None
    chosen = Chosen(
        key,
        one.name,
        row.device,
        snapshot.links.get(place),
        here,
        one.expected_up,
        health=health or _at_a_glance(row, one, snapshot.links.get(place)),
        told=health is not None,
        found=row_told.cause if row_told else None,
        usual=row_told.window.rtt if row_told and row_told.window else None,
        entry=entries.get(place[0], ""),
        underlay=place[0],
        underlay_entry=entries.get(place[0], ""),
        conf=conf,
        conf_peer=conf_peer,
        drift=view.drifts.get(place),
        problem=row.failed.problem if row.failed else "",
    )
    if here is None or row.device is None:
        return chosen
    plan = planned(Planner(_probing_all(config)), snapshot, view)
    aimed = _aimed(chosen, row.device, here, plan, entries)
    return aimed if aimed.target else aimed._replace(meant=_meant(config, key, conf_peer))


def _aimed(chosen: Chosen, device: Device, peer: Peer, plan: Plan, entries: dict[str, str]) -> Chosen:
    """With the addresses to send to, and the namespace of outer packets."""
    target = plan.targets.get((device.netns, device.name), {}).get(peer.public_key)
    row = next((one for one in plan.peers if one.key == chosen.key), None)
    underlay: str | None = device.netns
    if row is not None:
        underlay = row.underlay if row.endpoint else None
    addresses = chosen.link.addresses if chosen.link else ()
    aimed = target.address if target else ""
    return chosen._replace(
        target=aimed,
        why_no_target=(target.reason if target else "") if not aimed else "",
        provoke=aimed or leading_to(device, peer, addresses),
        underlay=underlay,
        underlay_entry=entries.get(underlay or "", ""),
    )


def _meant(config: Config, key: PeerKey, described: ConfPeer | None) -> str:
    """The address that users send to, as somebody wrote it down; empty if nobody did."""
    named = (one.target or "" for one in config.peers if one.public_key == key[2] and one.interface in (None, key[1]))
    single = (text.partition("/")[0] for text in (described.allowed_ips if described else ()) if _is_single(text))
    for text in (*named, *single):
        try:
            return str(ip_address(text))
        except ValueError:
            continue
    return ""


def _is_single(text: str) -> bool:
    return text.endswith("/128" if ":" in text else "/32")


def leading_to(device: Device, peer: Peer, addresses: Sequence[str]) -> str:
    """An address that is this peer's by its allowed IPs, and not our own; empty if there is none.

    The narrowest network is taken; of one that is all of the internet, an address of the interface's own network, or
    one that nobody has.
    """
    owners = Owners(device.peers)
    own = [ip_interface(text) for text in addresses]
    networks = sorted(map(ip_network, peer.allowed_ips), key=lambda network: -network.prefixlen)
    for network in networks:
        candidates = [network.network_address, *(network.network_address + step for step in (1, 2))]
        if not network.prefixlen:
            inside = [one.network.network_address + step for one in own for step in (1, 2)]
            candidates = [*(one for one in inside if one in network), ip_address(ANYWHERE[network.version])]
        for address in candidates:
            single = network.prefixlen == network.max_prefixlen
            if address not in network or (address == network.network_address and not single):
                continue
            if all(address != one.ip for one in own) and owners.owner(address.version, int(address)) == peer.public_key:
                return str(address)
    return ""


def _as_told(told: Overview | None, key: PeerKey) -> PeerRow | None:
    for row in told.devices if told else ():
        for one in row.peers:
            if (*whose(row), one.peer.public_key) == key:
                return one
    return None


def _at_a_glance(row: DeviceRow, one: PeerRow, link: Link | None) -> PeerHealth:
    """What one look is enough for."""
    if row.gone is not None:
        return PeerHealth(reason=Reason.INTERFACE_GONE)
    if one.gone:
        return PeerHealth(reason=Reason.MISSING)
    if row.failed is not None:
        return PeerHealth(reason=Reason.UNREADABLE if row.failed.backend is Backend.USERSPACE else None)
    if link is not None and not link.up:
        return PeerHealth(reason=Reason.INTERFACE_DOWN)
    return NOT_JUDGED


def _file(snapshot: Snapshot, key: PeerKey) -> tuple[ConfFile | None, ConfPeer | None]:
    """The file that describes the device, and what it says of the peer. Files are about this host's own namespace."""
    files = [file for file in snapshot.conf if file.interface == key[1]] if not key[0] else []
    for file in files:
        for peer in file.peers:
            if peer.public_key == key[2]:
                return file, peer
    return (files[0], None) if files else (None, None)


def _probing_all(config: Config) -> Config:
    """The same configuration, but with all peers probed."""
    peers = tuple(replace(peer, probe=None) for peer in config.peers)
    return replace(config, probe=replace(config.probe, enabled=Probing.ON), peers=peers)
