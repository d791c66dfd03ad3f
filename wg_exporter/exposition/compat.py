"""The same devices under the names, labels and values of two other exporters, for the dashboards that people have.

A dashboard made for MindFlavor's prometheus_wireguard_exporter or for mdlayher's wireguard_exporter works on
`/metrics/mindflavor` or `/metrics/mdlayher` by a change of `metrics_path` alone. `/metrics` never has these names. Both
pages end with our families on what could be read, sources and devices. The others have none, so a failure would go
unnoticed.
"""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config.compat import MindFlavor
from wg_exporter.exposition.fields import endpoint_label
from wg_exporter.exposition.parts import Field, Rows, Sample, Section, Source
from wg_exporter.exposition.samples import device_success, labels, source_success
from wg_exporter.metric import Kind, Metric, Scope
from wg_exporter.model import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wg_exporter.exposition.parts import Keep, Pairs, Parts
    from wg_exporter.exposition.view import View
    from wg_exporter.model import Peers
    from wg_exporter.names.identity import PeerMeta

_MINDFLAVOR_PEER = ("interface", "public_key", "allowed_ips", "friendly_name")
_MDLAYHER_PEER = ("device", "public_key")
_PLAIN = MindFlavor()


def _mindflavor(name: str, kind: Kind, text: str) -> Metric:
    return Metric(f"wireguard_{name}", kind, Scope.PEER, _MINDFLAVOR_PEER, text)


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


def mindflavor(view: View, now: float, options: MindFlavor = _PLAIN) -> Parts:
    """What MindFlavor's exporter serves. `now` is in seconds since the epoch."""
    fields = _mindflavor_fields(options, view.endpoints)
    delay = Field(MINDFLAVOR_DELAY, fields[0].who, Peer, ("last_handshake_ns",), partial(_delay, int(now)))
    return (Section((*fields, delay), [*_peers(view)]), _success(view))


def mdlayher(view: View) -> Parts:
    """What mdlayher's exporter serves."""
    peers = [*_peers(view)]
    return (
        _mdlayher_devices(view),
        Section(_mdlayher_info(view.endpoints), peers),
        Section(_MDLAYHER_SUBNETS, [*_subnets(view)]),
        Section(_MDLAYHER_FIELDS, peers),
        _success(view),
    )


def _success(view: View) -> Iterator[Sample]:
    return chain(device_success(view), source_success(view))


def _peers(view: View) -> Iterator[Source]:
    for row in view.devices:
        yield Source(row.device.netns, row.device.name, _rows, (row.device.peers, row.metas))


def _rows(_keep: Keep, peers: Peers, metas: Sequence[PeerMeta]) -> Rows:
    return Rows((peers.public_key, peers.endpoint, peers.allowed_ips, metas), {Peer: peers})


def _whole_seconds(nanoseconds: int) -> int:
    return max(0, nanoseconds) // 1_000_000_000


# --- MindFlavor's -----------------------------------------------------------------------------------------------------


def _mindflavor_labels(  # noqa: PLR0917 - a cell of each column of `_rows`
    options: MindFlavor,
    endpoints: str,
    interface: str,
    key: str,
    endpoint: str,
    allowed_ips: Sequence[str],
    meta: PeerMeta,
) -> Pairs:
    """In the order of the original: all allowed IPs, however many; the name only where there is one."""
    pairs = [("interface", interface), ("public_key", key)]
    if not options.separate_allowed_ips:
        pairs.append(("allowed_ips", ",".join(allowed_ips) or "(none)"))
    json = meta.labels if options.friendly_json else ()
    if meta.named and ("name", meta.name) not in json:
        pairs.append(("friendly_name", meta.name))
    remote = options.export_remote_ip_and_port and endpoint
    if remote and endpoints != "off":
        pairs.append(("remote_ip", endpoint_label(endpoint, "address").partition("%")[0]))
    if options.separate_allowed_ips:
        for at, (address, _, bits) in enumerate(each.partition("/") for each in allowed_ips):
            pairs += [(f"allowed_ip_{at}", address), (f"allowed_subnet_{at}", bits)]
    port = [("remote_port", endpoint.rpartition(":")[2])] if remote and endpoints == "full" else []
    taken = {"netns", *(name for name, _ in (*pairs, *port))}
    return (*pairs, *(pair for pair in json if pair[0] not in taken), *port)


def _delay(now: int, nanoseconds: int) -> int:
    """The age of the last handshake in seconds; without one, the time since 1970, as in that exporter."""
    return max(0, now - _whole_seconds(nanoseconds))


@lru_cache(maxsize=8)
def _mindflavor_fields(options: MindFlavor, endpoints: str) -> tuple[Field, ...]:
    """All but the delay, whose function depends on the time of the scrape."""
    who = partial(_mindflavor_labels, options, endpoints)
    return (
        Field(MINDFLAVOR_SENT, who, Peer, ("tx_bytes",)),
        Field(MINDFLAVOR_RECEIVED, who, Peer, ("rx_bytes",)),
        Field(MINDFLAVOR_HANDSHAKE, who, Peer, ("last_handshake_ns",), _whole_seconds),
    )


# --- mdlayher's -------------------------------------------------------------------------------------------------------


class _Subnet(NamedTuple):
    """An allowed IP of a peer, which has a line of its own."""

    public_key: str
    allowed_ip: str


def _mdlayher_devices(view: View) -> Iterator[Sample]:
    for device, *_ in view.devices:
        yield Sample(
            MDLAYHER_DEVICE_INFO, labels(MDLAYHER_DEVICE_INFO, device.netns, device.name, device.public_key), 1
        )


def _subnets(view: View) -> Iterator[Source]:
    for device, *_ in view.devices:
        yield Source(device.netns, device.name, _subnet_rows, (device.peers.public_key, device.peers.allowed_ips))


def _subnet_rows(_keep: Keep, keys: Sequence[str], allowed_ips: Sequence[Sequence[str]]) -> Rows:
    rows = [_Subnet(key, each) for key, of_one in zip(keys, allowed_ips, strict=True) for each in of_one]
    return Rows((rows,), {_Subnet: rows})


def _subnet_labels(interface: str, row: _Subnet) -> Pairs:
    family = "IPv6" if ":" in row.allowed_ip else "IPv4"
    return tuple(zip(MDLAYHER_ALLOWED_IPS.labels, (interface, *row, family), strict=True))


def _mdlayher_labels(interface: str, key: str, *_rest: object) -> Pairs:
    return (("device", interface), ("public_key", key))


def _info_labels(
    mode: str, interface: str, key: str, endpoint: str, _allowed_ips: Sequence[str], meta: PeerMeta
) -> Pairs:
    values = (interface, key, endpoint_label(endpoint, mode), meta.name if meta.named else "")
    return tuple(zip(MDLAYHER_PEER_INFO.labels, values, strict=True))


def _one(_cell: object) -> int:
    return 1


@lru_cache(maxsize=8)
def _mdlayher_info(endpoints: str) -> tuple[Field]:
    return (Field(MDLAYHER_PEER_INFO, partial(_info_labels, endpoints), Peer, ("public_key",), _one),)


_MDLAYHER_SUBNETS = (Field(MDLAYHER_ALLOWED_IPS, _subnet_labels, _Subnet, ("allowed_ip",), _one),)
_MDLAYHER_FIELDS = (
    Field(MDLAYHER_RECEIVE, _mdlayher_labels, Peer, ("rx_bytes",)),
    Field(MDLAYHER_TRANSMIT, _mdlayher_labels, Peer, ("tx_bytes",)),
    Field(MDLAYHER_HANDSHAKE, _mdlayher_labels, Peer, ("last_handshake_ns",), _whole_seconds),
)
