"""Every metric that `/metrics` can serve, as data: name, type, labels, help.

The writer, the prometheus_client collector, the documentation and the tests all read this one table. Names, types,
labels and meanings are a contract with dashboards, rules and users. Base units; a counter's name ends in `_total`; an
unknown value is an absent sample, a known zero is 0.

`netns` is never listed here: it is added to the labels of whatever lies outside the exporter's own network namespace.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

PREFIX = "wireguard_"


class Kind(StrEnum):
    """The types of the exposition formats that are used."""

    GAUGE = "gauge"
    COUNTER = "counter"


class Scope(StrEnum):
    """What a metric speaks of; the order is that of the documentation."""

    INTERFACE = "Interface"
    PEER = "Peer"
    EXPORTER = "The exporter itself"


class Metric(NamedTuple):
    """One metric family. `labels` are in the order in which they are written."""

    name: str
    kind: Kind
    scope: Scope
    labels: tuple[str, ...]
    help: str

    @property
    def family(self) -> str:
        """The name that OpenMetrics gives the family: a counter's without its `_total`."""
        return self.name.removesuffix("_total") if self.kind is Kind.COUNTER else self.name

    @property
    def unit(self) -> str:
        """The OpenMetrics unit, empty where the name ends in none."""
        return next((unit for unit in ("bytes", "seconds") if self.family.endswith("_" + unit)), "")


_INTERFACE = ("interface",)
_PEER = ("interface", "public_key", "peer")


def _interface(name: str, kind: Kind, text: str, *more: str) -> Metric:
    return Metric(f"{PREFIX}interface_{name}", kind, Scope.INTERFACE, _INTERFACE + more, text)


def _peer(name: str, kind: Kind, text: str, *more: str) -> Metric:
    return Metric(f"{PREFIX}peer_{name}", kind, Scope.PEER, _PEER + more, text)


def _exporter(name: str, kind: Kind, text: str, *labels: str) -> Metric:
    return Metric(f"{PREFIX}exporter_{name}", kind, Scope.EXPORTER, labels, text)


INTERFACE_INFO = _interface(
    "info",
    Kind.GAUGE,
    "Always 1; the device's own public key, its UDP port, and how it is implemented: kernel, userspace or amneziawg.",
    "public_key",
    "listen_port",
    "backend",
)
INTERFACE_UP = _interface(
    "up",
    Kind.GAUGE,
    "1 if the interface is administratively up. Stays, at 0, when an interface that is expected is gone.",
)
INTERFACE_READ_SUCCESS = _interface(
    "read_success",
    Kind.GAUGE,
    "1 if this device was read in full; at 0 its peers are missing or those of the last complete read.",
)
INTERFACE_MTU = _interface(
    "mtu_bytes", Kind.GAUGE, "MTU of the interface: the largest packet it takes into the tunnel."
)
INTERFACE_PEERS = _interface("peers", Kind.GAUGE, "Configured peers, connected or not.")

# Metrics that are one field of the link each: (metric, field of model.Link).
LINK_COUNTERS = tuple(
    (_interface(f"{direction}_{what}_total", Kind.COUNTER, text), f"{short}_{what}")
    for direction, short, what, text in (
        ("receive", "rx", "bytes", "Bytes received by the interface, as `ip -s link` shows them."),
        ("transmit", "tx", "bytes", "Bytes sent by the interface, as `ip -s link` shows them."),
        ("receive", "rx", "packets", "Packets received by the interface, as `ip -s link` shows them."),
        ("transmit", "tx", "packets", "Packets sent by the interface, as `ip -s link` shows them."),
        ("receive", "rx", "errors", "Received packets refused: not authentic, replayed, or not from an allowed IP."),
        ("transmit", "tx", "errors", "Packets not sent: no peer has the address, or the peer has no endpoint."),
        ("receive", "rx", "dropped", "Received packets dropped by this host, as `ip -s link` shows them."),
        ("transmit", "tx", "dropped", "Packets dropped before sending, mostly while a handshake was awaited."),
    )
)

PEER_INFO = _peer(
    "info",
    Kind.GAUGE,
    "Always 1; the peer's endpoint (empty while unknown) and its allowed IPs (cut after 16, with +N for the rest).",
    "endpoint",
    "allowed_ips",
)
PEER_RECEIVE_BYTES = _peer(
    "receive_bytes_total",
    Kind.COUNTER,
    "Bytes received from the peer, as WireGuard counts: whole messages, handshakes and keepalives included.",
)
PEER_TRANSMIT_BYTES = _peer(
    "transmit_bytes_total",
    Kind.COUNTER,
    "Bytes sent to the peer, as WireGuard counts: whole messages, handshakes and keepalives included.",
)
PEER_LAST_HANDSHAKE = _peer(
    "last_handshake_timestamp_seconds",
    Kind.GAUGE,
    "When the last handshake was completed, in seconds since 1970; 0 = never. This is a time, not an age.",
)
PEER_HANDSHAKES = _peer(
    "handshakes_total",
    Kind.COUNTER,
    "Handshakes seen since the exporter started; looked for every few seconds, whether or not anyone scrapes.",
)
PEER_ENDPOINT_CHANGES = _peer(
    "endpoint_changes_total",
    Kind.COUNTER,
    "Changes of the peer's endpoint (roaming) seen since the exporter started.",
)
PEER_KEEPALIVE = _peer(
    "persistent_keepalive_seconds",
    Kind.GAUGE,
    "Persistent keepalive interval; 0 = off.",
)
PEER_ALLOWED_IPS = _peer("allowed_ips", Kind.GAUGE, "How many allowed IPs the peer has.")
PEER_EXPECTED_UP = _peer(
    "expected_up",
    Kind.GAUGE,
    "1 if this peer should always be up, by the rules in `expect`; without one: if it has a persistent keepalive and "
    "its configuration file, where there is one, names an endpoint.",
)

BUILD_INFO = _exporter(
    "build_info", Kind.GAUGE, "Always 1; the versions of the exporter and of Python.", "version", "python_version"
)
SOURCE_SUCCESS = _exporter(
    "source_success",
    Kind.GAUGE,
    "1 if this source could be read at this scrape. At 0 its rows are missing: an absence that means nothing else.",
    "source",
)
SOURCE_DURATION = _exporter(
    "source_duration_seconds", Kind.GAUGE, "How long the last read of this source took.", "source"
)
DEVICES = _exporter("devices", Kind.GAUGE, "WireGuard devices found, readable or not.")
RELOAD_SUCCESSFUL = _exporter(
    "config_last_reload_successful", Kind.GAUGE, "1 if the last load or reload of the configuration succeeded."
)
RELOAD_TIMESTAMP = _exporter(
    "config_last_reload_success_timestamp_seconds",
    Kind.GAUGE,
    "When the configuration in use was loaded, in seconds since 1970.",
)
CAPABILITY = _exporter(
    "capability",
    Kind.GAUGE,
    "1 if the exporter may do this: net_admin (read kernel devices), net_raw (send probes), uapi (read userspace "
    "devices), conf_read (read names from configuration files), netns (enter the configured namespaces).",
    "name",
)
CLOCK_STEPS = _exporter(
    "clock_steps_total", Kind.COUNTER, "Jumps of the wall clock by more than a second seen since the exporter started."
)

METRICS: tuple[Metric, ...] = (
    INTERFACE_INFO,
    INTERFACE_UP,
    INTERFACE_READ_SUCCESS,
    INTERFACE_MTU,
    INTERFACE_PEERS,
    *(metric for metric, _field in LINK_COUNTERS),
    PEER_INFO,
    PEER_RECEIVE_BYTES,
    PEER_TRANSMIT_BYTES,
    PEER_LAST_HANDSHAKE,
    PEER_HANDSHAKES,
    PEER_ENDPOINT_CHANGES,
    PEER_KEEPALIVE,
    PEER_ALLOWED_IPS,
    PEER_EXPECTED_UP,
    BUILD_INFO,
    SOURCE_SUCCESS,
    SOURCE_DURATION,
    DEVICES,
    RELOAD_SUCCESSFUL,
    RELOAD_TIMESTAMP,
    CAPABILITY,
    CLOCK_STEPS,
)

# What prometheus_client's ProcessCollector adds on Linux.
PROCESS_NAMES = (
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
)

NAMES: tuple[str, ...] = (*(metric.name for metric in METRICS), *PROCESS_NAMES)
"""The names of all metrics that `/metrics` can serve."""
