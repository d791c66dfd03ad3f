"""The same devices under the names, labels and values of two other exporters, for the dashboards that people have.

A dashboard made for MindFlavor's prometheus_wireguard_exporter or for mdlayher's wireguard_exporter works on
`/metrics/mindflavor` and `/metrics/mdlayher` by a change of `metrics_path` alone. `/metrics` never mixes these in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.catalogue import Kind, Metric, Scope
from wg_exporter.exposition.samples import Sample, endpoint_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wg_exporter.exposition.samples import DeviceView, View
    from wg_exporter.model import Peer

_MINDFLAVOR_LABELS = ("interface", "public_key", "allowed_ips", "friendly_name")
_MDLAYHER_PEER = ("device", "public_key")


def _mindflavor(name: str, kind: Kind, text: str) -> Metric:
    return Metric(f"wireguard_{name}", kind, Scope.PEER, _MINDFLAVOR_LABELS, text)


MINDFLAVOR_SENT = _mindflavor("sent_bytes_total", Kind.COUNTER, "Bytes sent to the peer")
MINDFLAVOR_RECEIVED = _mindflavor("received_bytes_total", Kind.COUNTER, "Bytes received from the peer")
MINDFLAVOR_HANDSHAKE = _mindflavor(
    "latest_handshake_seconds", Kind.GAUGE, "UNIX timestamp seconds of the last handshake"
)
MINDFLAVOR_DELAY = _mindflavor("latest_handshake_delay_seconds", Kind.GAUGE, "Seconds from the last handshake")

MDLAYHER_DEVICE_INFO = Metric(
    "wireguard_device_info", Kind.GAUGE, Scope.INTERFACE, ("device", "public_key"), "Metadata about a device."
)
MDLAYHER_PEER_INFO = Metric(
    "wireguard_peer_info",
    Kind.GAUGE,
    Scope.PEER,
    (*_MDLAYHER_PEER, "endpoint", "name"),
    "Metadata about a peer. The public_key label on peer metrics refers to the peer's public key; not the device's "
    "public key.",
)
MDLAYHER_ALLOWED_IPS = Metric(
    "wireguard_peer_allowed_ips_info",
    Kind.GAUGE,
    Scope.PEER,
    (*_MDLAYHER_PEER, "allowed_ips", "family"),
    "Metadata about each of a peer's allowed IP subnets for a given device.",
)
MDLAYHER_RECEIVE = Metric(
    "wireguard_peer_receive_bytes_total",
    Kind.COUNTER,
    Scope.PEER,
    _MDLAYHER_PEER,
    "Number of bytes received from a given peer.",
)
MDLAYHER_TRANSMIT = Metric(
    "wireguard_peer_transmit_bytes_total",
    Kind.COUNTER,
    Scope.PEER,
    _MDLAYHER_PEER,
    "Number of bytes transmitted to a given peer.",
)
MDLAYHER_HANDSHAKE = Metric(
    "wireguard_peer_last_handshake_seconds",
    Kind.GAUGE,
    Scope.PEER,
    _MDLAYHER_PEER,
    "UNIX timestamp for the last handshake with a given peer.",
)


def mindflavor(view: View, now: float) -> Iterator[Sample]:
    """What MindFlavor's exporter serves. `now` is in seconds since the epoch.

    The delay of a peer that never shook is the time since 1970, as that exporter has it.
    """
    values: tuple[tuple[Metric, Callable[[Peer], float]], ...] = (
        (MINDFLAVOR_SENT, lambda peer: peer.tx_bytes),
        (MINDFLAVOR_RECEIVED, lambda peer: peer.rx_bytes),
        (MINDFLAVOR_HANDSHAKE, _whole_seconds),
        (MINDFLAVOR_DELAY, lambda peer: max(0, int(now) - _whole_seconds(peer))),
    )
    for metric, value in values:
        for row in view.devices:
            for peer, meta in zip(row.device.peers, row.metas, strict=True):
                allowed_ips = ",".join(peer.allowed_ips) or "(none)"
                pairs = zip(_MINDFLAVOR_LABELS, (row.device.name, peer.public_key, allowed_ips, meta.name), strict=True)
                labels = tuple(pairs) if meta.named else tuple(pairs)[:-1]
                yield Sample(metric, _with_netns(labels, row), value(peer))


def mdlayher(view: View) -> Iterator[Sample]:
    """What mdlayher's exporter serves."""

    def sample(metric: Metric, row: DeviceView, value: float, *labels: str) -> Sample:
        return Sample(metric, _with_netns(tuple(zip(metric.labels, labels, strict=True)), row), value)

    for row in view.devices:
        yield sample(MDLAYHER_DEVICE_INFO, row, 1, row.device.name, row.device.public_key)
    for row in view.devices:
        for peer, meta in zip(row.device.peers, row.metas, strict=True):
            endpoint = endpoint_label(peer.endpoint, view.endpoints)
            name = meta.name if meta.named else ""
            yield sample(MDLAYHER_PEER_INFO, row, 1, row.device.name, peer.public_key, endpoint, name)
    for row in view.devices:
        for peer in row.device.peers:
            for allowed_ip in peer.allowed_ips:
                family = "IPv6" if ":" in allowed_ip else "IPv4"
                yield sample(MDLAYHER_ALLOWED_IPS, row, 1, row.device.name, peer.public_key, allowed_ip, family)
    values: tuple[tuple[Metric, Callable[[Peer], float]], ...] = (
        (MDLAYHER_RECEIVE, lambda peer: peer.rx_bytes),
        (MDLAYHER_TRANSMIT, lambda peer: peer.tx_bytes),
        (MDLAYHER_HANDSHAKE, _whole_seconds),
    )
    for metric, value in values:
        for row in view.devices:
            for peer in row.device.peers:
                yield sample(metric, row, value(peer), row.device.name, peer.public_key)


def _whole_seconds(peer: Peer) -> int:
    return peer.last_handshake_ns // 1_000_000_000


def _with_netns(labels: tuple[tuple[str, str], ...], row: DeviceView) -> tuple[tuple[str, str], ...]:
    """Neither of the two knows namespaces; without a label the devices of two of them could become one series."""
    return (*labels, ("netns", row.device.netns)) if row.device.netns else labels
