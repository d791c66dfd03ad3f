"""What the exporter knows of one peer, as the row from which its cause is decided. No clock: the snapshot has the time.

Everything here was found out for something else, or was asked of the reader. Nothing is sent or waited for.
"""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.causes import drifted
from wg_exporter.causes.facts import Echo, Facts, packets_entered
from wg_exporter.health.states import Reason
from wg_exporter.hostnames import MEANINGS, LookupFailure
from wg_exporter.plan.routing import taken
from wg_exporter.plan.targets import NotAllowed, Owners, parse
from wg_exporter.sighted import Callers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.config import Config
    from wg_exporter.drift.kinds import Drift
    from wg_exporter.health import Health
    from wg_exporter.health.evidence import Evidence
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.hostnames import EndpointName
    from wg_exporter.inspected import Inspected
    from wg_exporter.model import Device, DeviceKey, PeerKey, Snapshot
    from wg_exporter.names.identity import PeerMeta
    from wg_exporter.plan.planner import Plan
    from wg_exporter.probed import Probed, ProbeStats
    from wg_exporter.sighted import Caller, Sighting

LEAST_SECONDS = 5.0  # over which counters tell anything by not growing


class Places:
    """Where each peer is in the columns of its device. Kept while the column of keys is the same object."""

    def __init__(self) -> None:
        self._devices: dict[DeviceKey, tuple[Device, Mapping[str, int]]] = {}
        self._received: dict[DeviceKey, tuple[Sequence[int], int]] = {}

    def take(self, snapshot: Snapshot) -> None:
        """Take in what was read. A device whose list is not complete is not there."""
        before, self._devices = self._devices, {}
        for device in snapshot.devices:
            if device.fresh:
                key = (device.netns, device.name)
                known = before.get(key)
                keys = device.peers.public_key
                same = known is not None and known[0].peers.public_key is keys
                places = known[1] if same and known is not None else {one: at for at, one in enumerate(keys)}
                self._devices[key] = device, places
        self._received = {key: row for key, row in self._received.items() if key in self._devices}

    def find(self, key: PeerKey) -> tuple[Device, int] | None:
        """The device of a peer, and the peer's place in it; None if it was not read, or has no such peer."""
        device, places = self._devices.get(key[:2], (None, {}))
        at = places.get(key[2])
        return None if device is None or at is None else (device, at)

    def received(self, device: Device) -> int:
        """The bytes that came from all peers of a device together."""
        key, column = (device.netns, device.name), device.peers.rx_bytes
        known = self._received.get(key)
        if known is None or known[0] is not column:
            known = self._received[key] = column, sum(column)
        return known[1]


class Look(NamedTuple):
    """What one tick has. `host_names` tells of the host name of each peer of a device; nothing if none has one.
    `drifts` compares devices with their files, if somebody asks.
    """

    snapshot: Snapshot
    health: Health
    plan: Plan
    config: Config
    probes: Mapping[DeviceKey, Mapping[str, Probed]]
    sightings: Mapping[PeerKey, Sighting]
    callers: Mapping[DeviceKey, tuple[Caller, ...]]
    underlays: Mapping[DeviceKey, str | None]
    places: Places
    host_names: Callable[[Device], Sequence[EndpointName]]
    drifts: Callable[[], Mapping[DeviceKey, Drift]]


class Mark(NamedTuple):
    """Counters of a peer at one time (monotonic seconds): of itself, of the other peers, of its interface (`entered` is
    None if that does not tell), and of the echoes to it, those in doubt too.
    """

    at: float
    rx: int
    tx: int
    handshake_ns: int
    others_rx: int
    entered: int | None
    echoes: int | None = None
    left: int | None = None

    def grows_to(self, later: Mark) -> bool:
        """Whether these counters can have grown to later ones; not if the device or the peer was made anew."""
        return self.rx <= later.rx and self.tx <= later.tx


class Two(NamedTuple):
    """What the reader found at two times, and what the watcher had seen at each. None = not yet."""

    before: Inspected | None = None
    host: Inspected | None = None
    seen_before: Sighting | None = None
    seen_then: Sighting | None = None

    def after(self, row: Inspected, sighting: Sighting | None) -> Two:
        """With a look at the host more: the first one of the same window stays, to be compared with the latest."""
        if self.host is None:
            return Two(None, row, None, sighting)
        if row.at <= self.host.at:
            return self
        if self.before is None:
            then = self.seen_then
            if sighting is not None and (then is None or then.began != sighting.began):
                return Two(None, row, None, sighting)  # of another window: what came since can't be told
            return Two(self.host, row, then, sighting)
        return self._replace(host=row, seen_then=sighting)


def mark(key: PeerKey, look: Look) -> Mark | None:
    """The counters of now; None if the device has no such peer, or could not be read."""
    place = look.places.find(key)
    if place is None:
        return None
    device, at = place
    peers, rx, link = device.peers, device.peers.rx_bytes[at], look.snapshot.links.get(key[:2])
    return Mark(
        look.snapshot.monotonic,
        rx,
        peers.tx_bytes[at],
        peers.last_handshake_ns[at],
        look.places.received(device) - rx,
        packets_entered(device, link),
        _echoes_sent(look, key),
        link.rx_packets if link else None,
    )


def _echoes_sent(look: Look, key: PeerKey) -> int | None:
    probed = look.probes.get(key[:2], {}).get(key[2])
    return probed.stats.sent + probed.stats.extra_sent if probed else None


def facts(key: PeerKey, who: tuple[PeerMeta, PeerHealth], look: Look, begun: Mark | None, two: Two) -> Facts:
    """All that is known. `begun` are the counters from which growth is told."""
    meta, row = who
    snapshot, entries = look.snapshot, look.config.entries()
    underlay = look.underlays.get(key[:2])
    known = Facts(
        key,
        meta.name,
        entries.get(key[0], ""),
        entries.get(underlay, "") if underlay is not None else "",
        state=row.state,
        reason=row.reason,
        expected=meta.expected_up,
    )
    place = look.places.find(key)
    if place is None:
        return known
    device, at = place
    peers = device.peers
    evidence = look.health.evidence(key)
    known = known._replace(
        backend=device.backend,
        opaque=device.opaque,
        listen_port=device.listen_port,
        fwmark=device.fwmark,
        endpoint=peers.endpoint[at],
        keepalive=peers.persistent_keepalive[at],
        allowed_ips=peers.allowed_ips[at],
        sighting=look.sightings.get(key),
        callers=Callers((key[0], key[1]), look.callers[key[:2]]) if key[:2] in look.callers else None,
        seen_before=two.seen_before,
        seen_then=two.seen_then,
        before=two.before,
        others=len(peers.public_key) - 1,
    )
    link = snapshot.links.get(key[:2])
    known = _described(known, snapshot)._replace(mtu=link.mtu if link else None, interface_up=link.up if link else None)
    if (drift := look.drifts().get(key[:2])) is not None:
        known = known._replace(drift=drifted.of_peer(drift, key))
    if names := look.host_names(device):
        known = _named(known, names[at])
    known = _aimed(known, look, two.host, device)
    if begun is not None:
        known = _grown(known, begun, look)
    if evidence is not None:
        known = _seen(known, evidence, snapshot.monotonic)
    probed = look.probes.get(key[:2], {}).get(key[2])
    return known if probed is None else _probed(known, probed, evidence, snapshot.monotonic)


def _named(known: Facts, row: EndpointName) -> Facts:
    """A name that is not there leads nowhere; of any other failure nothing follows."""
    if not row.name:
        return known
    nowhere = row.failure is LookupFailure.NOT_FOUND
    return known._replace(
        dns_name=row.name.rpartition(":")[0],
        resolved=row.resolves_to if row.resolved or nowhere else None,
        dns_problem=MEANINGS[row.failure] if row.failure and not nowhere else "",
    )


def _described(known: Facts, snapshot: Snapshot) -> Facts:
    """What a configuration file says of it."""
    for file in snapshot.conf:
        if file.interface == known.key[1]:
            known = known._replace(conf_path=file.path)
            for row in file.peers:
                if row.public_key == known.key[2]:
                    known = known._replace(conf_endpoint=row.endpoint)
    return known


def _aimed(known: Facts, look: Look, host: Inspected | None, device: Device) -> Facts:
    """Its target, and whom WireGuard gives that to: the plan has made sure of it, or says why it can't be."""
    target = look.plan.targets.get(known.key[:2], {}).get(known.key[2])
    if target is None:
        return known._replace(host=host)
    if isinstance(target, NotAllowed):
        meant, owner = _not_its(known.key, look, device)
        return known._replace(host=host, target=meant, owner=owner)
    if host is not None and target.address:
        host = host._replace(owner=known.key[2])
    return known._replace(host=host, target=target.address)


def _not_its(key: PeerKey, look: Look, device: Device) -> tuple[str, str | None]:
    """What is meant for a peer that its allowed IPs keep from it, by the configuration or by its file, and whose it is;
    empty and None where that is not known.
    """
    for entry in look.config.peers:
        if entry.public_key == key[2] and entry.interface in {None, key[1]} and entry.target:
            parsed = parse(entry.target)
            owner = Owners(device.peers).owner(*parsed[:2]) if parsed else key[2]
            return entry.target, owner if owner != key[2] else None
    network, other = taken(device, key[2], look.snapshot.conf)
    return network, other or None


def _grown(known: Facts, begun: Mark, look: Look) -> Facts:
    now = mark(known.key, look)
    if now is None or not begun.grows_to(now) or now.at - begun.at < LEAST_SECONDS:
        return known  # too little time went by to say anything
    entered = None if now.entered is None or begun.entered is None else now.entered - begun.entered
    return known._replace(
        seconds=now.at - begun.at,
        sent_bytes=now.tx - begun.tx,
        received_bytes=now.rx - begun.rx,
        handshakes=int(now.handshake_ns != begun.handshake_ns),
        entered_packets=entered if entered is None or entered >= 0 else None,
        left_packets=None if now.left is None or begun.left is None or now.left < begun.left else now.left - begun.left,
        echoes_sent=None if now.echoes is None or begun.echoes is None else now.echoes - begun.echoes,
        others_received=max(now.others_rx - begun.others_rx, 0),
    )


def _seen(known: Facts, evidence: Evidence, now: float) -> Facts:
    obstacle = evidence.obstacle
    return known._replace(
        obstacle=obstacle.line if obstacle is not None and obstacle.reason is known.reason else "",
        heard_seconds=_since(evidence.heard, now),
        data_seconds=None if known.opaque or known.reason in _OF_DEVICES else _since(evidence.heard_data, now),
        shaken_seconds=_since(evidence.shaken, now),
        initiations=evidence.initiations,
        inbound_initiations=evidence.inbound_initiations,
    )


_OF_DEVICES = frozenset({Reason.INTERFACE_GONE, Reason.INTERFACE_DOWN, Reason.UNREADABLE, Reason.MISSING})


def _since(moment: float | None, now: float) -> float:
    """Seconds since then; infinite if it never was, or nobody knows when."""
    return inf if moment is None or not isfinite(moment) else max(now - moment, 0.0)


def _probed(known: Facts, probed: Probed, evidence: Evidence | None, now: float) -> Facts:
    quality = evidence.quality if evidence else None
    window = quality.window() if quality else None
    report = probed.mtu
    return known._replace(
        target=known.target or probed.target,
        echo=_echo(probed.target, probed.stats, evidence),
        silent_seconds=None if probed.stats.silent_since is None else now - probed.stats.silent_since,
        loss=window.loss if window else None,
        round_trip=window.rtt if window else None,
        usual_round_trip=quality.usual if quality and quality.usual else None,
        verdict=report.verdict if report else None,
        recommended_mtu=report.recommended if report else None,
    )


def _echo(target: str, stats: ProbeStats, evidence: Evidence | None) -> Echo:
    """The echoes that tell how it is now: in a silence those of it, and none where this host refuses to send any."""
    sent = 0 if stats.refused else stats.sent
    if stats.silent_since is None:
        return Echo(target, sent, max(sent - stats.lost, 0), stats.refused)
    return Echo(target, max(evidence.probes if evidence else 0, 1), 0, stats.refused)


def width(key: PeerKey, look: Look) -> int:
    """How much a peer explains: the bits that its widest allowed IP leaves open. A hub has /0 or a whole network."""
    place = look.places.find(key)
    networks = place[0].peers.allowed_ips[place[1]] if place else ()
    return max(map(_open_bits, networks), default=0)


def _open_bits(network: str) -> int:
    length = network.rpartition("/")[2]
    return min((128 if ":" in network else 32) - int(length), 32) if length.isdigit() else 0


def kinds(key: PeerKey, row: PeerHealth, look: Look) -> tuple[object, ...]:
    """What, when it is another, is reason to seek again: kinds of things, no counts."""
    sighting = look.sightings.get(key)
    place = look.places.find(key)
    endpoint = place[0].peers.endpoint[place[1]] if place else ""
    names = look.host_names(place[0]) if place else ()
    leads = (names[place[1]].resolves_to, names[place[1]].failure) if place and names else None
    wire: tuple[object, ...] = ()
    if sighting is not None:
        flags = (
            sighting.initiations_sent,
            sighting.responses_sent,
            sighting.initiations_received,
            sighting.responses_received,
            sighting.cookies_received,
            sighting.misdirected,
            sighting.answered,
        )
        refusals = frozenset((one.by, one.type, one.code) for one in sighting.refusals)
        # Of a window that is open still, what was not seen may be seen yet.
        wire = (sighting.open, *map(bool, flags), refusals)
    strangers = frozenset((one.sender.address, one.for_us) for one in look.callers.get(key[:2], ()))
    return (row.reason, endpoint, wire, strangers, leads)
