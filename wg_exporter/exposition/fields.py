"""Which metrics a peer has, and of which fields of its rows they are made, in the order of the catalogue.

`peers` has all peers of a view with their counters and health; those of devices that are gone, and those that devices
lack, come last. `probes` has
the peers that are probed.
"""

from __future__ import annotations

import sys
from functools import lru_cache, partial
from itertools import accumulate, repeat
from typing import TYPE_CHECKING, Any

from wg_exporter import catalogue as c
from wg_exporter.accounted import PeerPackets
from wg_exporter.exposition.parts import Field, Rows, Section, Source
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.history.counts import PeerCounts
from wg_exporter.hostnames import EndpointName
from wg_exporter.metric import Metric, Point, points_of
from wg_exporter.model import SOME_TIME, Peer
from wg_exporter.names.identity import PeerMeta
from wg_exporter.names.tunnel import tunnel_name
from wg_exporter.probed import MtuReport, Probed, ProbeStats, SendError, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wg_exporter.accounted import Packets
    from wg_exporter.exposition.parts import Keep, Pairs
    from wg_exporter.exposition.view import View
    from wg_exporter.model import Peers

# The info metric has no more allowed IPs than this, so that the label stays short.
ALLOWED_IPS_SHOWN = 16

# Of a host name with more addresses, no more are in its label.
ADDRESSES_SHOWN = 4

# Reasons for being down that say nothing of what is between this host and the peer.
_NOT_OF_THE_PATH = frozenset(
    {Reason.INTERFACE_GONE, Reason.INTERFACE_DOWN, Reason.UNREADABLE, Reason.MISSING, Reason.NOT_SENT}
)

# The report on a peer without a verdict.
NO_REPORT = MtuReport(Verdict.UNKNOWN, 0, None, None, 0, None, None, None, "", 0.0)


def peers(view: View) -> Section:
    """All peers, and how they are."""
    return Section(peer_fields(view.endpoints), [*_peers(view)])


def probes(view: View) -> Section:
    """The peers that are probed: their echoes, and their MTU."""
    return Section(probe_fields(view.rtt_buckets), [*_probes(view)])


def _peers(view: View) -> Iterator[Source]:
    for row in view.devices:
        device = row.device
        # Each look has a string of its own with the same key: interned, it is the same object while it is equal.
        own = sys.intern(device.public_key)
        yield Source(device.netns, device.name, _known_peers, (own, device.peers, device.packets, *row[2:]))
    for gone in (*view.gone, *view.lacking):
        yield Source(gone.netns, gone.name, _gone_peers, (gone.public_key, gone.metas, gone.rows))


def _known_peers(  # noqa: PLR0917 - a `Source` makes rows of these, in this order
    keep: Keep,
    own_key: str,
    known: Peers,
    packets: Packets | None,
    metas: Sequence[PeerMeta],
    counts: Sequence[PeerCounts],
    health: Sequence[PeerHealth],
    host_names: Sequence[EndpointName],
) -> Rows:
    rows: dict[type, Sequence[Any]] = {Peer: known, PeerMeta: metas, PeerCounts: counts}
    rows |= {PeerPackets: packets} if packets else {}
    rows |= {PeerHealth: health} if health else {}
    rows |= {EndpointName: host_names} if host_names else {}
    return Rows((known.public_key, metas, keep(_tunnels, own_key, known.public_key)), rows)


def _tunnels(_keep: Keep, own_key: str, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(tunnel_name, repeat(own_key), keys))


def _gone_peers(_keep: Keep, keys: Sequence[str], metas: Sequence[PeerMeta], health: Sequence[PeerHealth]) -> Rows:
    return Rows((keys, metas), {PeerMeta: metas, PeerHealth: health})


def _probes(view: View) -> Iterator[Source]:
    for row in view.devices:
        device = row.device
        if probed := view.probes.get((device.netns, device.name)):
            rows = (device.peers.public_key, row.metas, probed, row.health)
            yield Source(device.netns, device.name, _probed_peers, rows)


def _probed_peers(
    keep: Keep,
    keys: Sequence[str],
    metas: Sequence[PeerMeta],
    probed: Mapping[str, Probed],
    health: Sequence[PeerHealth],
) -> Rows:
    """The probed peers that the device has, in the order of `probed`."""
    known = keep(_by_key, keys, metas)
    if not probed.keys() <= known.keys():
        probed = {key: row for key, row in probed.items() if key in known}
    targets, stats, mtu = zip(*probed.values(), strict=True) if probed else ((), (), ())
    who = (tuple(probed), tuple(map(known.__getitem__, probed)), targets)
    down = keep(_down, keys, health)
    reports = [consistent(report or NO_REPORT, down.get(key)) for key, report in zip(probed, mtu, strict=True)]
    return Rows(who, {ProbeStats: stats, MtuReport: reports})


def _down(_keep: Keep, keys: Sequence[str], health: Sequence[PeerHealth]) -> dict[str, PeerHealth]:
    return {key: row for key, row in zip(keys, health, strict=False) if row.state is State.DOWN}


def consistent(report: MtuReport, down: PeerHealth | None) -> MtuReport:
    """The report on a peer, without what can't be true while it is down (None: it is not).

    The prober knows of the peer by its probes and counters alone, and of some outages later than health.
    """
    if down is None:
        return report
    elsewhere = down.reason in _NOT_OF_THE_PATH or report.verdict is Verdict.UNKNOWN
    verdict = Verdict.UNKNOWN if elsewhere else Verdict.UNREACHABLE
    gone: dict[str, Any] = dict.fromkeys(("path_inner", "path_outer", "recommended", "remote"))
    return report._replace(verdict=verdict, path_slack=0, shrinks_at="", **gone)


def _by_key(_keep: Keep, keys: Sequence[str], metas: Sequence[PeerMeta]) -> dict[str, PeerMeta]:
    return dict(zip(keys, metas, strict=True))


# --- labels -----------------------------------------------------------------------------------------------------------


def peer_labels(interface: str, key: str, meta: PeerMeta, _tunnel: str = "") -> Pairs:
    """The labels of a peer."""
    return (("interface", interface), ("public_key", key), ("peer", meta.name))


def info_labels(interface: str, key: str, meta: PeerMeta, tunnel: str) -> Pairs:
    """Those of a peer's info metric that change with nothing but keys and names."""
    return (*peer_labels(interface, key, meta), ("tunnel", tunnel))


def echo_labels(interface: str, key: str, meta: PeerMeta, target: str) -> Pairs:
    """Those of what is found by probing a target."""
    return (*peer_labels(interface, key, meta), ("target", target))


def _mtu_labels(interface: str, key: str, meta: PeerMeta, _target: str) -> Pairs:
    return peer_labels(interface, key, meta)


def endpoint_label(endpoint: str, mode: str) -> str:
    """The endpoint as `metrics.endpoint` has it: with its port (`full`), without (`address`), or empty (`off`)."""
    if mode == "full" or not endpoint:
        return endpoint
    if mode == "off":
        return ""
    return endpoint.rpartition(":")[0].strip("[]")


def allowed_ips_label(allowed_ips: Sequence[str]) -> str:
    """The allowed IPs joined by commas, cut after `ALLOWED_IPS_SHOWN` with `+N` for the rest."""
    if len(allowed_ips) <= ALLOWED_IPS_SHOWN:
        return ",".join(allowed_ips)
    return ",".join((*allowed_ips[:ALLOWED_IPS_SHOWN], f"+{len(allowed_ips) - ALLOWED_IPS_SHOWN}"))


def _info(mode: str, endpoint: str, allowed_ips: Sequence[str]) -> Pairs:
    return (("endpoint", endpoint_label(endpoint, mode)), ("allowed_ips", allowed_ips_label(allowed_ips)))


def _moved(mode: str, name: str, addresses: tuple[str, ...], mismatch: bool | None) -> Pairs:  # noqa: FBT001
    """The labels of a host name that leads elsewhere; empty otherwise, and where nothing of an endpoint is told."""
    if not mismatch or mode == "off":
        return ()
    known = EndpointName(addresses=addresses).resolves_to
    more = (f"+{len(known) - ADDRESSES_SHOWN}",) if len(known) > ADDRESSES_SHOWN else ()
    return (("host", name.rpartition(":")[0]), ("resolves_to", ",".join((*known[:ADDRESSES_SHOWN], *more))))


def _known(found: bool | None) -> int | None:  # noqa: FBT001
    return None if found is None else int(found)


def _stamp(nanoseconds: int) -> float | None:
    """The time of a handshake in seconds; absent where it is not known."""
    return None if nanoseconds == SOME_TIME else nanoseconds / 1e9


def _reason(state: State | None, reason: Reason | None) -> Pairs:
    """The labels of a reason; empty without one."""
    return (("state", state), ("reason", reason)) if state and reason else ()


# --- peers and their health -------------------------------------------------------------------------------------------

_STATES: dict[State | None, tuple[int | None, ...]] = {
    state: tuple(int(state is other) for other in State) if state else (None,) * len(State) for state in (None, *State)
}

# Whether a peer is expected up, and its health: also of peers whose device is gone.
HEALTH_FIELDS = (
    Field(c.PEER_EXPECTED_UP, peer_labels, PeerMeta, ("expected_up",), int),
    Field(c.PEER_STATE, peer_labels, PeerHealth, ("state",), _STATES.__getitem__, points_of("state", tuple(State))),
    Field(c.PEER_REASON, peer_labels, PeerHealth, ("state", "reason"), labels=_reason),
    Field(c.PEER_STATE_CHANGES, peer_labels, PeerHealth, ("changes",)),
    Field(c.PEER_DOWN_SECONDS, peer_labels, PeerHealth, ("down_seconds",)),
    Field(c.PEER_LAST_CHANGE, peer_labels, PeerHealth, ("changed_at",), lambda wall: wall or None),
)


@lru_cache(maxsize=8)
def peer_fields(endpoints: str) -> tuple[Field, ...]:
    """All metrics of a peer. `endpoints` is `full`, `address` or `off`."""
    return (
        Field(c.PEER_INFO, info_labels, Peer, ("endpoint", "allowed_ips"), labels=partial(_info, endpoints)),
        Field(c.PEER_RECEIVE_BYTES, peer_labels, Peer, ("rx_bytes",)),
        Field(c.PEER_TRANSMIT_BYTES, peer_labels, Peer, ("tx_bytes",)),
        Field(c.PEER_RECEIVE_PACKETS, peer_labels, PeerPackets, ("rx_packets",)),
        Field(c.PEER_TRANSMIT_PACKETS, peer_labels, PeerPackets, ("tx_packets",)),
        Field(c.PEER_LAST_HANDSHAKE, peer_labels, Peer, ("last_handshake_ns",), _stamp),
        Field(c.PEER_HANDSHAKES, peer_labels, PeerCounts, ("handshakes",)),
        Field(c.PEER_ENDPOINT_CHANGES, peer_labels, PeerCounts, ("endpoint_changes",)),
        Field(c.PEER_DNS_MISMATCH, peer_labels, EndpointName, ("mismatch",), _known),
        Field(c.PEER_DNS_SUCCESS, peer_labels, EndpointName, ("resolved",), _known),
        Field(
            c.PEER_DNS_INFO,
            peer_labels,
            EndpointName,
            ("name", "addresses", "mismatch"),
            labels=partial(_moved, endpoints),
        ),
        Field(c.PEER_RERESOLVED, peer_labels, EndpointName, ("reresolved",)),
        Field(c.PEER_KEEPALIVE, peer_labels, Peer, ("persistent_keepalive",)),
        Field(c.PEER_ALLOWED_IPS, peer_labels, Peer, ("allowed_ips",), len),
        *HEALTH_FIELDS,
    )


# --- probes -----------------------------------------------------------------------------------------------------------

_VERDICTS = {verdict: tuple(int(verdict is other) for other in Verdict) for verdict in Verdict}


def _errors(found: tuple[tuple[SendError, int], ...]) -> tuple[int, ...]:
    """A count for every reason, from the start: a series that began with the first error would show no increase."""
    numbers = dict(found)
    return tuple([numbers.get(reason, 0) for reason in SendError])


def _round_trips(bounds: Sequence[float]) -> Field:
    """The histogram with these bounds; absent for a peer whose round trips were counted by others, after a reload."""
    points = tuple(Point("_bucket", (("le", repr(float(bound))),)) for bound in bounds)
    points += (Point("_bucket", (("le", "+Inf"),)), Point("_sum"), Point("_count"))
    nothing = (None,) * len(points)

    def values(buckets: tuple[int, ...], rtt_sum: float) -> tuple[float | None, ...]:
        if len(buckets) != len(bounds) + 1:
            return nothing
        below = tuple(accumulate(buckets))
        return (*below, rtt_sum, below[-1])

    return Field(c.PROBE_RTT, echo_labels, ProbeStats, ("buckets", "rtt_sum"), values, points)


@lru_cache(maxsize=8)
def probe_fields(bounds: tuple[float, ...]) -> tuple[Field, ...]:
    """All metrics of a probed peer. `bounds` are those of the histogram in seconds."""

    def echo(metric: Metric, field: str) -> Field:
        return Field(metric, echo_labels, ProbeStats, (field,))

    def mtu(metric: Metric, field: str) -> Field:
        return Field(metric, _mtu_labels, MtuReport, (field,))

    return (
        echo(c.PROBE_UP, "up")._replace(value=int),
        echo(c.PROBE_SENT, "sent"),
        echo(c.PROBE_LOST, "lost"),
        echo(c.PROBE_DUPLICATES, "duplicates"),
        echo(c.PROBE_LATE, "late"),
        echo(c.PROBE_EXTRA_SENT, "extra_sent"),
        echo(c.PROBE_EXTRA_LOST, "extra_lost"),
        echo(c.PROBE_ERRORS, "errors")._replace(value=_errors, points=points_of("reason", tuple(SendError))),
        _round_trips(bounds),
        echo(c.PROBE_JITTER, "jitter"),
        echo(c.PROBE_RTT_MIN, "rtt_min"),
        echo(c.PROBE_LAST_RTT, "rtt_last"),
        mtu(c.MTU_VERDICT, "verdict")._replace(
            value=_VERDICTS.__getitem__, points=points_of("verdict", tuple(Verdict))
        ),
        Field(
            c.MTU_PATH,
            _mtu_labels,
            MtuReport,
            ("path_inner", "path_outer"),
            lambda *sizes: sizes,
            points_of("layer", ("inner", "outer")),
        ),
        mtu(c.MTU_NEEDED, "needed"),
        mtu(c.MTU_RECOMMENDED, "recommended"),
        mtu(c.MTU_REMOTE, "remote"),
        mtu(c.MTU_LAST_CHECK, "checked")._replace(value=lambda checked: checked or None),
    )
