"""From rows to samples: what `/metrics` says, before it is bytes.

`View` is everything that one scrape shows. `samples` turns it into (metric, labels, value); the prometheus_client
collector is made of it, and so are all families of `/metrics` but those of the peers, which `exposition` writes faster
from the same tables (`PEER_FIELDS`, `peer_info`, `probed_fields`). The tests hold the two against each other.
"""

from __future__ import annotations

from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from wg_exporter import catalogue as c
from wg_exporter.catalogue import Point, points_of
from wg_exporter.config.probe import RTT_BUCKETS
from wg_exporter.health.series import FIELDS as HEALTH_FIELDS
from wg_exporter.health.series import reason_labels
from wg_exporter.history.tracker import PeerCounts
from wg_exporter.model import MtuReport, Peer, Probed, ProbeStats, SendError, Verdict
from wg_exporter.names.identity import PeerMeta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from wg_exporter.catalogue import Metric
    from wg_exporter.health import GoneDevice
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.model import Device, DeviceKey, FailedDevice, Link, Outcome

# More allowed IPs than this are cut from the info metric: a label value has to be readable, and short.
ALLOWED_IPS_SHOWN = 16


class DeviceView(NamedTuple):
    """A readable device with all that is known of its peers: `metas`, `counts` and `health` run in parallel to
    `device.peers`. Without `health`, nothing is known of any.
    """

    device: Device
    link: Link | None
    metas: Sequence[PeerMeta]
    counts: Sequence[PeerCounts]
    health: Sequence[PeerHealth] = ()


class ExporterFacts(NamedTuple):
    """What the exporter says of itself. Times are seconds since the epoch."""

    version: str
    python_version: str
    reload_successful: bool
    reload_timestamp: float
    capabilities: tuple[tuple[str, bool], ...]
    clock_steps: int


class View(NamedTuple):
    """Everything that one scrape shows.

    `missing` are expected interfaces that are gone. `gone` are the devices with peers expected up that are not among
    `devices`, because they are gone or can't be read. `endpoints` is `full`, `address` or `off`. `probes` holds the
    peers that are probed, by device and public key; `rtt_buckets` are the bounds in seconds by which their round trips
    were counted. `scheduling_delay` is in seconds, None where nothing is probed.
    """

    devices: tuple[DeviceView, ...]
    failed: tuple[tuple[FailedDevice, Link | None], ...]
    missing: tuple[DeviceKey, ...]
    outcomes: tuple[Outcome, ...]
    exporter: ExporterFacts
    endpoints: str = "full"
    probes: Mapping[DeviceKey, Mapping[str, Probed]] = MappingProxyType({})
    rtt_buckets: tuple[float, ...] = RTT_BUCKETS
    scheduling_delay: float | None = None
    gone: tuple[GoneDevice, ...] = ()


class Sample(NamedTuple):
    """One sample; `labels` are name-value pairs in the order in which they are written.

    `suffix` is what follows the name of the metric: `_bucket`, `_sum` or `_count` in a histogram.
    """

    metric: Metric
    labels: tuple[tuple[str, str], ...]
    value: float
    suffix: str = ""


def samples(view: View) -> Iterator[Sample]:
    """All samples of `view`, each family's together, in the order of the catalogue."""
    yield from interface_samples(view)
    yield from peer_samples(view)
    yield from health_samples(view)
    yield from probe_samples(view)
    yield from exporter_samples(view)


def labels(metric: Metric, netns: str, *values: str) -> tuple[tuple[str, str], ...]:
    """The labels of a sample. `netns` comes last, and only outside the exporter's own namespace."""
    pairs = tuple(zip(metric.labels, values, strict=True))
    return (*pairs, ("netns", netns)) if netns else pairs


def endpoint_label(endpoint: str, mode: str) -> str:
    """The endpoint as far as the configuration lets it be seen: with its port, the address alone, or not at all."""
    if mode == "full" or not endpoint:
        return endpoint
    if mode == "off":
        return ""
    return endpoint.rpartition(":")[0].strip("[]")


def allowed_ips_label(allowed_ips: Sequence[str]) -> str:
    """The allowed IPs joined by commas, cut after 16 with `+N` for the rest."""
    if len(allowed_ips) <= ALLOWED_IPS_SHOWN:
        return ",".join(allowed_ips)
    return ",".join((*allowed_ips[:ALLOWED_IPS_SHOWN], f"+{len(allowed_ips) - ALLOWED_IPS_SHOWN}"))


class PeerField(NamedTuple):
    """A peer metric whose value is one field of one of a peer's three rows."""

    metric: Metric
    row: type[Peer] | type[PeerMeta] | type[PeerCounts]
    field: str
    value: Callable[[Any], float]

    def column(self, view: DeviceView) -> Sequence[Any]:
        """The field of all peers of a device."""
        if self.row is Peer:
            values: Sequence[Any] = getattr(view.device.peers, self.field)
            return values
        rows = view.metas if self.row is PeerMeta else view.counts
        return tuple([getattr(row, self.field) for row in rows])


# All peer metrics but the info, in the order of the catalogue.
PEER_FIELDS = (
    PeerField(c.PEER_RECEIVE_BYTES, Peer, "rx_bytes", int),
    PeerField(c.PEER_TRANSMIT_BYTES, Peer, "tx_bytes", int),
    PeerField(c.PEER_LAST_HANDSHAKE, Peer, "last_handshake_ns", lambda nanoseconds: nanoseconds / 1e9),
    PeerField(c.PEER_HANDSHAKES, PeerCounts, "handshakes", int),
    PeerField(c.PEER_ENDPOINT_CHANGES, PeerCounts, "endpoint_changes", int),
    PeerField(c.PEER_KEEPALIVE, Peer, "persistent_keepalive", int),
    PeerField(c.PEER_ALLOWED_IPS, Peer, "allowed_ips", len),
    PeerField(c.PEER_EXPECTED_UP, PeerMeta, "expected_up", int),
)


# All of them, in that order.
PEER_METRICS = (c.PEER_INFO, *(field.metric for field in PEER_FIELDS))


# Of a peer whose MTU was not looked at yet.
NO_REPORT = MtuReport(Verdict.UNKNOWN, 0, None, None, 0, None, None, None, "", 0.0)


class ProbedField(NamedTuple):
    """A metric of a probed peer, made of these `fields` of one of its rows. What is unknown is None.

    `values` makes of them a value per point; without it, the one field is the one value.
    """

    metric: Metric
    row: type[ProbeStats] | type[MtuReport]
    fields: tuple[str, ...]
    values: Callable[..., tuple[float | None, ...]] | None = None
    points: tuple[Point, ...] = (Point(),)

    def of(self, probed: Probed) -> tuple[float | None, ...]:
        """The values of one peer, one per point."""
        row = probed.stats if self.row is ProbeStats else probed.mtu or NO_REPORT
        found = tuple(getattr(row, field) for field in self.fields)
        return found if self.values is None else self.values(*found)


def _errors(found: tuple[tuple[SendError, int], ...]) -> tuple[int, ...]:
    """All reasons are there from the start, for the first error has to be an increase too."""
    numbers = dict(found)
    return tuple([numbers.get(reason, 0) for reason in SendError])


def _rtt(bounds: Sequence[float]) -> ProbedField:
    """The histogram, by these bounds; absent for a peer whose round trips were counted by others (a reload)."""
    points = tuple(Point("_bucket", (("le", repr(float(bound))),)) for bound in bounds)
    points += (Point("_bucket", (("le", "+Inf"),)), Point("_sum"), Point("_count"))
    nothing = (None,) * len(points)

    def values(buckets: tuple[int, ...], rtt_sum: float) -> tuple[float | None, ...]:
        if len(buckets) != len(bounds) + 1:
            return nothing
        below = tuple(accumulate(buckets))
        return (*below, rtt_sum, below[-1])

    return ProbedField(c.PROBE_RTT, ProbeStats, ("buckets", "rtt_sum"), values, points)


_VERDICTS = {verdict: tuple(int(verdict is other) for other in Verdict) for verdict in Verdict}


def probed_fields(bounds: Sequence[float]) -> tuple[ProbedField, ...]:
    """All metrics of a probed peer, in the order of the catalogue. `bounds` are those of the histogram in seconds."""
    return (
        ProbedField(c.PROBE_UP, ProbeStats, ("up",), lambda up: (int(up),)),
        ProbedField(c.PROBE_SENT, ProbeStats, ("sent",)),
        ProbedField(c.PROBE_LOST, ProbeStats, ("lost",)),
        ProbedField(c.PROBE_DUPLICATES, ProbeStats, ("duplicates",)),
        ProbedField(c.PROBE_LATE, ProbeStats, ("late",)),
        ProbedField(c.PROBE_ERRORS, ProbeStats, ("errors",), _errors, points_of("reason", tuple(SendError))),
        _rtt(bounds),
        ProbedField(c.PROBE_JITTER, ProbeStats, ("jitter",)),
        ProbedField(c.PROBE_RTT_MIN, ProbeStats, ("rtt_min",)),
        ProbedField(c.PROBE_LAST_RTT, ProbeStats, ("rtt_last",)),
        ProbedField(
            c.MTU_VERDICT, MtuReport, ("verdict",), _VERDICTS.__getitem__, points_of("verdict", tuple(Verdict))
        ),
        ProbedField(
            c.MTU_PATH,
            MtuReport,
            ("path_inner", "path_outer"),
            lambda *sizes: sizes,
            points_of("layer", ("inner", "outer")),
        ),
        ProbedField(c.MTU_NEEDED, MtuReport, ("needed",)),
        ProbedField(c.MTU_RECOMMENDED, MtuReport, ("recommended",)),
        ProbedField(c.MTU_REMOTE, MtuReport, ("remote",)),
        ProbedField(c.MTU_LAST_CHECK, MtuReport, ("checked",), lambda checked: (checked or None,)),
    )


def probed_labels(
    kind: type[ProbeStats] | type[MtuReport], interface: str, key: str, name: str, target: str
) -> tuple[tuple[str, str], ...]:
    """The labels that all metrics of a probed peer have which are made of this row."""
    pairs = (("interface", interface), ("public_key", key), ("peer", name))
    return (*pairs, ("target", target)) if kind is ProbeStats else pairs


def probe_samples(view: View) -> Iterator[Sample]:
    """The families of scope Probe and MTU, for the probed peers that their device has."""
    names = [dict(zip(row.device.peers.public_key, (m.name for m in row.metas), strict=True)) for row in view.devices]
    for field in probed_fields(view.rtt_buckets):
        for row, name in zip(view.devices, names, strict=True):
            device = row.device
            netns = (("netns", device.netns),) if device.netns else ()
            for key, probed in view.probes.get((device.netns, device.name), {}).items():
                if key in name:
                    pairs = probed_labels(field.row, device.name, key, name[key], probed.target)
                    for point, value in zip(field.points, field.of(probed), strict=True):
                        if value is not None:
                            yield Sample(field.metric, (*pairs, *point.labels, *netns), value, point.suffix)


def interface_samples(view: View) -> Iterator[Sample]:
    """The families of scope Interface."""
    devices = view.devices
    links: list[tuple[str, str, Link]] = [
        (row.device.netns, row.device.name, row.link) for row in devices if row.link is not None
    ] + [(failed.netns, failed.name, link) for failed, link in view.failed if link is not None]
    for row in devices:
        device = row.device
        values = (device.name, device.public_key, str(device.listen_port), device.backend)
        yield Sample(c.INTERFACE_INFO, labels(c.INTERFACE_INFO, device.netns, *values), 1)
    for netns, name, link in links:
        yield Sample(c.INTERFACE_UP, labels(c.INTERFACE_UP, netns, name), int(link.up))
    for netns, name in view.missing:
        yield Sample(c.INTERFACE_UP, labels(c.INTERFACE_UP, netns, name), 0)
    for row in devices:
        success = labels(c.INTERFACE_READ_SUCCESS, row.device.netns, row.device.name)
        yield Sample(c.INTERFACE_READ_SUCCESS, success, int(row.device.fresh))
    for failed, _link in view.failed:
        yield Sample(c.INTERFACE_READ_SUCCESS, labels(c.INTERFACE_READ_SUCCESS, failed.netns, failed.name), 0)
    for netns, name, link in links:
        yield Sample(c.INTERFACE_MTU, labels(c.INTERFACE_MTU, netns, name), link.mtu)
    for row in devices:
        yield Sample(
            c.INTERFACE_PEERS, labels(c.INTERFACE_PEERS, row.device.netns, row.device.name), len(row.device.peers)
        )
    for metric, field in c.LINK_COUNTERS:
        for netns, name, link in links:
            yield Sample(metric, labels(metric, netns, name), getattr(link, field))


def peer_samples(view: View) -> Iterator[Sample]:
    """The families of scope Peer."""
    for row in view.devices:
        for peer, meta in zip(row.device.peers, row.metas, strict=True):
            values = peer_info(row.device.name, peer, meta, view.endpoints)
            yield Sample(c.PEER_INFO, labels(c.PEER_INFO, row.device.netns, *values), 1)
    for field in PEER_FIELDS:
        for row in view.devices:
            keys = row.device.peers.public_key
            for key, meta, value in zip(keys, row.metas, field.column(row), strict=True):
                pairs = labels(field.metric, row.device.netns, row.device.name, key, meta.name)
                yield Sample(field.metric, pairs, field.value(value))
    # Last of these, so that the peers of devices that are gone come right behind the others.
    for device in view.gone:
        for key, meta in zip(device.public_key, device.metas, strict=True):
            yield Sample(c.PEER_EXPECTED_UP, labels(c.PEER_EXPECTED_UP, device.netns, device.name, key, meta.name), 1)


class JudgedPeer(NamedTuple):
    """Whom a row of health speaks of."""

    netns: str
    interface: str
    public_key: str
    name: str
    health: PeerHealth

    def labels(self, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
        """The labels of its series, in the order in which they are written."""
        pairs = (("interface", self.interface), ("public_key", self.public_key), ("peer", self.name), *more)
        return (*pairs, ("netns", self.netns)) if self.netns else pairs


def judged(view: View) -> Iterator[JudgedPeer]:
    """All peers whose health is known, those of devices that are gone last."""
    for row in view.devices:
        if row.health:
            keys = row.device.peers.public_key
            for key, meta, health in zip(keys, row.metas, row.health, strict=True):
                yield JudgedPeer(row.device.netns, row.device.name, key, meta.name, health)
    for device in view.gone:
        for key, meta, health in zip(device.public_key, device.metas, device.rows, strict=True):
            yield JudgedPeer(device.netns, device.name, key, meta.name, health)


def health_samples(view: View) -> Iterator[Sample]:
    """The families of scope Peer that say how peers are."""
    peers = list(judged(view))
    for field in HEALTH_FIELDS:
        for peer in peers:
            for point, value in zip(field.points, field.values(peer.health), strict=True):
                if value is not None:
                    yield Sample(field.metric, peer.labels(*point.labels), value)
        if field.metric is c.PEER_STATE:
            yield from reason_samples(peers)


def reason_samples(peers: Iterable[JudgedPeer]) -> Iterator[Sample]:
    """Why peers are degraded or down."""
    for peer in peers:
        if more := reason_labels(peer.health):
            yield Sample(c.PEER_REASON, peer.labels(*more), 1)


def peer_info(interface: str, peer: Peer, meta: PeerMeta, endpoints: str) -> tuple[str, ...]:
    """The label values of `wireguard_peer_info`."""
    endpoint = endpoint_label(peer.endpoint, endpoints)
    return (interface, peer.public_key, meta.name, endpoint, allowed_ips_label(peer.allowed_ips))


def exporter_samples(view: View) -> Iterator[Sample]:
    """The families of the exporter itself."""
    exporter = view.exporter
    yield Sample(c.BUILD_INFO, labels(c.BUILD_INFO, "", exporter.version, exporter.python_version), 1)
    for outcome in view.outcomes:
        pairs = labels(c.SOURCE_SUCCESS, outcome.netns, outcome.source)
        yield Sample(c.SOURCE_SUCCESS, pairs, int(outcome.success))
    for outcome in view.outcomes:
        yield Sample(c.SOURCE_DURATION, labels(c.SOURCE_DURATION, outcome.netns, outcome.source), outcome.duration)
    yield Sample(c.DEVICES, (), len(view.devices) + len(view.failed))
    yield Sample(c.RELOAD_SUCCESSFUL, (), int(exporter.reload_successful))
    yield Sample(c.RELOAD_TIMESTAMP, (), exporter.reload_timestamp)
    for name, able in exporter.capabilities:
        yield Sample(c.CAPABILITY, labels(c.CAPABILITY, "", name), int(able))
    if view.scheduling_delay is not None:
        yield Sample(c.SCHEDULING_DELAY, (), view.scheduling_delay)
    yield Sample(c.CLOCK_STEPS, (), exporter.clock_steps)
