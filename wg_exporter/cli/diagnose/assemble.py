"""From all that was looked at to the row of facts that a cause is decided from. No socket and no clock."""

from __future__ import annotations

from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.causes import drifted
from wg_exporter.causes.facts import Facts, packets_entered
from wg_exporter.health.states import Reason, State
from wg_exporter.model import SOME_TIME
from wg_exporter.prober.mtu.advice import Entry, advise
from wg_exporter.prober.mtu.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.causes.facts import Echo, Filter, Opened
    from wg_exporter.cli.diagnose.choice import Chosen
    from wg_exporter.cli.diagnose.echoes import Inside
    from wg_exporter.cli.diagnose.host import Resolved
    from wg_exporter.inspected import Inspected
    from wg_exporter.model import Device, Peer, PeerKey, Snapshot
    from wg_exporter.sighted import Callers, Sighting

SAME_HANDSHAKE = 2_500_000_000  # nanoseconds by which the stamp of one handshake may wobble (reader/userspace/uapi.py)
ANSWER_SECONDS = 1.0  # after which an initiation counts as unanswered
SETTLED_SECONDS = 5.5  # after the first packet: less than enough.HANDSHAKES
ENOUGH = 2  # handshake messages that come to nothing
STALE_SECONDS = 6.0  # what was read of the device longer ago says nothing of the attempts since

_NOT_THERE = frozenset({Reason.INTERFACE_GONE, Reason.INTERFACE_DOWN, Reason.UNREADABLE, Reason.MISSING})


class Known(NamedTuple):
    """All that was looked at so far; None = nobody could, or it is not there yet. Times are monotonic seconds.

    `first` and `last` are what was read of the device before the first packet and lately, the same where nothing was
    read since; `handshakes` counts stamps that moved in between. `provoked`: an inner packet was sent. `knocked`: the
    target answered something else than an echo. `names` are those of all peers of the device.
    """

    chosen: Chosen
    now: float
    wall: float
    first: Snapshot
    last: Snapshot
    handshakes: int = 0
    provoked: bool = False
    inside: Inside | None = None
    knocked: bool = False
    outer: Echo | None = None
    sighting: Sighting | None = None
    callers: Callers | None = None
    before: Inspected | None = None
    host: Inspected | None = None
    dns_name: str = ""
    resolved: Resolved | None = None
    opened: tuple[Opened, ...] | None = None
    filters: tuple[Filter, ...] | None = None
    unread_filters: tuple[str, ...] = ()
    names: Mapping[str, str] = {}
    others_expected: int = 0
    not_looked: tuple[str, ...] = ()


def facts(known: Known) -> Facts:
    """The row. What is certain by what we did ourselves goes before what an exporter said before."""
    chosen, inside = known.chosen, known.inside
    now, then = peer_in(known.last, chosen.key), peer_in(known.first, chosen.key)
    device = device_in(known.last, chosen.key) or chosen.device
    answered = inside.echo.answered > 0 or known.knocked if inside is not None and chosen.target else None
    session = _session(known, answered=bool(answered))
    again = known.last.monotonic > known.first.monotonic
    received = _growth(then, now, "rx_bytes") if again else None
    state, reason = _told(known, answered=bool(answered), received=received or 0)
    findings = inside.findings if inside is not None else None
    advice = advise(findings, "", Entry(chosen.entry, chosen.underlay_entry)) if findings else None
    owner = known.host.owner if known.host else None
    return Facts(
        key=chosen.key,
        name=chosen.name,
        entry=chosen.entry,
        underlay_entry=chosen.underlay_entry,
        backend=device.backend if device else None,
        opaque=device.opaque if device else None,
        listen_port=device.listen_port if device else None,
        fwmark=device.fwmark if device else None,
        endpoint=now.endpoint if now else None,
        keepalive=now.persistent_keepalive if now else None,
        allowed_ips=now.allowed_ips if now else None,
        target=chosen.target or chosen.meant,
        mtu=chosen.link.mtu if chosen.link else None,
        expected=chosen.expected,
        conf_path=chosen.conf.path if chosen.conf else "",
        conf_endpoint=chosen.conf_peer.endpoint if chosen.conf_peer else None,
        owner_name=known.names.get(owner, "") if owner else "",
        drift=drifted.of_peer(chosen.drift, chosen.key) if chosen.drift else None,
        state=state,
        reason=reason,
        heard_seconds=0.0 if answered else _shaken(known, now),
        shaken_seconds=_shaken(known, now) if _settled(known) else None,
        seconds=known.last.monotonic - known.first.monotonic if again else None,
        sent_bytes=_growth(then, now, "tx_bytes") if again else None,
        received_bytes=received,
        handshakes=known.handshakes if now and again else None,
        entered_packets=_entered(known, device) if again else None,
        others_received=_others_received(known) if again else None,
        others=known.others_expected,
        sighting=known.sighting,
        callers=known.callers if _callers_known(known) else None,
        host=known.host,
        before=known.before,
        dns_name=known.dns_name or None,
        resolved=known.resolved.addresses if known.resolved and not known.resolved.problem else None,
        dns_problem=known.resolved.problem if known.resolved else "",
        echo=inside.echo if inside and chosen.target else None,
        loss=inside.loss if inside and chosen.target and inside.echo.answered else None,
        round_trip=inside.round_trip if inside else None,
        usual_round_trip=chosen.usual,
        verdict=judge(findings) if findings else None,
        recommended_mtu=advice.mtu if advice else None,
        provoked=known.provoked,
        provoke_refused=inside.echo.refused if inside else None,
        session=session,
        answered=answered,
        knocked=known.knocked or None,
        outer_ping=known.outer,
        other_inner=inside.others if inside and inside.others else None,
        opened=known.opened,
        filters=known.filters,
        unread_filters=known.unread_filters,
        clock=known.wall,
        not_looked=known.not_looked,
    )


def peer_in(snapshot: Snapshot, key: PeerKey) -> Peer | None:
    """The peer as it was read; None if it was not."""
    device = device_in(snapshot, key)
    return next((peer for peer in device.peers if peer.public_key == key[2]), None) if device else None


def device_in(snapshot: Snapshot, key: PeerKey) -> Device | None:
    """Its device as it was read."""
    return next((one for one in snapshot.devices if (one.netns, one.name) == key[:2]), None)


def moved(before: Peer | None, after: Peer | None) -> bool:
    """Whether there was a handshake between these two looks at a peer."""
    if before is None or after is None or SOME_TIME in (before.last_handshake_ns, after.last_handshake_ns):
        return False
    return abs(after.last_handshake_ns - before.last_handshake_ns) > SAME_HANDSHAKE


def _session(known: Known, *, answered: bool) -> bool | None:
    """Whether handshakes come to a session, by what was seen since the first packet."""
    if answered or known.handshakes:
        return True
    seen = known.sighting
    if seen is None or known.now - known.last.monotonic >= STALE_SECONDS:
        return None
    if max(seen.initiations_sent, seen.initiations_received, seen.misdirected) >= ENOUGH:
        return False
    unanswered = seen.initiations_sent and not seen.answered
    return False if unanswered and seen.sent_at and known.now - seen.sent_at[-1] >= ANSWER_SECONDS else None


def _told(known: Known, *, answered: bool, received: int) -> tuple[State | None, Reason | None]:
    """What the exporter says of the peer, as far as it still holds.

    Down is what nobody says of a peer that has just answered. That it is up, one believes while something comes from
    it; and without an exporter nothing is known but what one look is enough for.
    """
    health = known.chosen.health
    if health.reason in _NOT_THERE:
        return health.state, health.reason
    if not known.provoked:
        return health.state, health.reason
    if health.state is State.DEGRADED:
        return health.state, health.reason
    if health.state is State.UP and received and not answered:
        return health.state, None
    return None, None


def _growth(before: Peer | None, after: Peer | None, counter: str) -> int | None:
    if before is None or after is None:
        return None
    grew = int(getattr(after, counter)) - int(getattr(before, counter))
    return grew if grew >= 0 else None


def _settled(known: Known) -> bool:
    """Whether an old handshake tells anything: in the first seconds it says nothing of how the tunnel is now."""
    since = known.last.monotonic - known.first.monotonic
    return not known.provoked or bool(known.handshakes) or since >= SETTLED_SECONDS


def _shaken(known: Known, peer: Peer | None) -> float | None:
    if peer is None or peer.last_handshake_ns == SOME_TIME:
        return None
    if not peer.last_handshake_ns:
        return inf
    return max(known.last.wall - peer.last_handshake_ns / 1e9, 0.0)


def _entered(known: Known, device: Device | None) -> int | None:
    """How many packets this host put into the interface."""
    if device is None:
        return None
    place = known.chosen.key[:2]
    before, after = (packets_entered(device, looked.links.get(place)) for looked in (known.first, known.last))
    return None if before is None or after is None else after - before


def _others_received(known: Known) -> int | None:
    before, after = device_in(known.first, known.chosen.key), device_in(known.last, known.chosen.key)
    if before is None or after is None:
        return None
    then = dict(zip(before.peers.public_key, before.peers.rx_bytes, strict=True))
    mine = known.chosen.key[2]
    return sum(
        max(rx - then[key], 0)
        for key, rx in zip(after.peers.public_key, after.peers.rx_bytes, strict=True)
        if key != mine and key in then
    )


WATCHED_SECONDS = 6.0  # as in causes/seen.py


def _callers_known(known: Known) -> bool:
    """Whether it may be said that nobody calls: not in the first moments."""
    if known.callers is None:
        return False
    return bool(known.callers.callers) or (known.sighting is not None and known.sighting.seconds >= WATCHED_SECONDS)


def host_name(endpoint: str) -> str:
    """The host name in "name:port"; empty if an address stands there, or nothing."""
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return ""


def other_addresses(chosen: Chosen, most: int = 3) -> Sequence[str]:
    """Addresses inside the tunnel beside the target: single ones among the allowed IPs, and the first of networks."""
    found: list[str] = []
    for text in chosen.peer.allowed_ips if chosen.peer else ():
        address, _, length = text.partition("/")
        if length in ("32", "128") and address != chosen.target:
            found.append(address)
    return tuple(dict.fromkeys(found))[:most]
