"""From rows to samples: what `/metrics` says, before it is bytes.

`View` is everything that one scrape shows. `samples` turns it into (metric, labels, value); the prometheus_client
collector is made of it, and so are all families of `/metrics` but those of the peers, which `exposition` writes faster
from the same table (`PEER_FIELDS`, `peer_info`). The tests hold the two against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from wg_exporter import catalogue as c
from wg_exporter.identity import PeerMeta
from wg_exporter.model import Peer
from wg_exporter.tracker import PeerCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wg_exporter.catalogue import Metric
    from wg_exporter.model import Device, DeviceKey, FailedDevice, Link, Outcome

# More allowed IPs than this are cut from the info metric: a label value has to be readable, and short.
ALLOWED_IPS_SHOWN = 16


class DeviceView(NamedTuple):
    """A readable device with all that is known of its peers; `metas` and `counts` run in parallel to `device.peers`."""

    device: Device
    link: Link | None
    metas: Sequence[PeerMeta]
    counts: Sequence[PeerCounts]


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

    `missing` are expected interfaces that are gone. `endpoints` is `full`, `address` or `off`.
    """

    devices: tuple[DeviceView, ...]
    failed: tuple[tuple[FailedDevice, Link | None], ...]
    missing: tuple[DeviceKey, ...]
    outcomes: tuple[Outcome, ...]
    exporter: ExporterFacts
    endpoints: str = "full"


class Sample(NamedTuple):
    """One sample; `labels` are name-value pairs in the order in which they are written."""

    metric: Metric
    labels: tuple[tuple[str, str], ...]
    value: float


def samples(view: View) -> Iterator[Sample]:
    """All samples of `view`, each family's together, in the order of the catalogue."""
    yield from interface_samples(view)
    yield from peer_samples(view)
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
    yield Sample(c.CLOCK_STEPS, (), exporter.clock_steps)
