"""Every metric that `/metrics` can serve, as data: name, type, labels, help.

The writer, the prometheus_client collector, the documentation and the tests all read this one table. Names, types,
labels and meanings are a contract with dashboards, rules and users. Base units; a name ends in `_total` if it is a
counter's, and no other does; an unknown value is an absent sample, a known zero is 0.

`netns` is never listed here: it is added to the labels of whatever lies outside the exporter's own network namespace.
"""

from __future__ import annotations

from wg_exporter.metric import PREFIX, Kind, Metric, Scope
from wg_exporter.process_metrics import PROCESS_METRICS

_INTERFACE = ("interface",)
_PEER = ("interface", "public_key", "peer")


def _kind(name: str) -> Kind:
    return Kind.COUNTER if name.endswith("_total") else Kind.GAUGE


def _interface(name: str, text: str, *more: str) -> Metric:
    return Metric(f"{PREFIX}interface_{name}", _kind(name), Scope.INTERFACE, _INTERFACE + more, text)


def _peer(name: str, text: str, *more: str) -> Metric:
    return Metric(f"{PREFIX}peer_{name}", _kind(name), Scope.PEER, _PEER + more, text)


def _probe(name: str, text: str, *more: str) -> Metric:
    return Metric(f"{PREFIX}probe_{name}", _kind(name), Scope.PROBE, (*_PEER, "target", *more), text)


def _mtu(name: str, text: str, *more: str) -> Metric:
    return Metric(f"{PREFIX}mtu_{name}", _kind(name), Scope.MTU, _PEER + more, text)


def _exporter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"{PREFIX}exporter_{name}", _kind(name), Scope.EXPORTER, labels, text)


INTERFACE_INFO = _interface(
    "info",
    "Always 1; the device's own public key, its UDP port, and how it is implemented: kernel, userspace or amneziawg.",
    "public_key",
    "listen_port",
    "backend",
)
INTERFACE_UP = _interface(
    "up",
    "1 if the interface is administratively up. Stays, at 0, when an interface that is expected is gone.",
)
INTERFACE_READ_SUCCESS = _interface(
    "read_success",
    "1 if this device was read in full; at 0 its peers are missing or those of the last complete read.",
)
INTERFACE_MTU = _interface("mtu_bytes", "MTU of the interface: the largest packet it takes into the tunnel.")
INTERFACE_PEERS = _interface("peers", "Configured peers, connected or not.")
INTERFACE_QUIET = _interface(
    "quiet",
    "Always 1; somebody works on the interface, so neither it nor its peers page. Absent unless that is so; there also "
    "while the interface is gone.",
)

# Metrics that are one field of the link each: (metric, field of model.Link).
LINK_COUNTERS = tuple(
    (_interface(f"{direction}_{what}_total", text), f"{short}_{what}")
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

CONFIG_DRIFT = Metric(
    f"{PREFIX}config_drift",
    Kind.GAUGE,
    Scope.DRIFT,
    (*_INTERFACE, "kind"),
    "How many differences there are between the running device and the file that describes it, by kind: peer_missing "
    "(in the file alone), peer_extra (on the device alone), allowed_ips, endpoint, keepalive, preshared_key, "
    "private_key, listen_port, fwmark, mtu, address. Each kind that could be judged is there, at 0 while nothing "
    "differs; none where no file describes the device or the files can't be read. `wg-exporter drift` shows them.",
)

PEER_INFO = _peer(
    "info",
    "Always 1; the tunnel (a hash of both public keys, the same at both ends), the peer's endpoint (empty while "
    "unknown) and its allowed IPs (cut after 16, with +N for the rest).",
    "tunnel",
    "endpoint",
    "allowed_ips",
)
PEER_RECEIVE_BYTES = _peer(
    "receive_bytes_total",
    "Bytes received from the peer, as WireGuard counts: whole messages, with handshakes, keepalives and our probes.",
)
PEER_TRANSMIT_BYTES = _peer(
    "transmit_bytes_total",
    "Bytes sent to the peer, as WireGuard counts: whole messages, with handshakes, keepalives and our probes.",
)
PEER_RECEIVE_PACKETS = _peer(
    "receive_packets_total",
    "Packets received from the peer, as they came out of the tunnel: our probes are among them, handshakes and "
    "keepalives are not. Since the exporter started; absent unless `accounting` is on, and where not every packet can "
    "be counted.",
)
PEER_TRANSMIT_PACKETS = _peer(
    "transmit_packets_total",
    "Packets for the peer, as WireGuard was handed them: our probes are among them, and those that it then drops, as "
    "while it waits for a handshake; handshakes and keepalives are not. Since the exporter started; absent unless "
    "`accounting` is on, and where not every packet can be counted.",
)
PEER_LAST_HANDSHAKE = _peer(
    "last_handshake_timestamp_seconds",
    "When the last handshake was completed, in seconds since 1970; 0 = never. This is a time, not an age.",
)
PEER_HANDSHAKES = _peer(
    "handshakes_total",
    "Handshakes seen since the exporter started; looked for every few seconds, whether or not anyone scrapes.",
)
PEER_ENDPOINT_CHANGES = _peer(
    "endpoint_changes_total",
    "Changes of the peer's endpoint (roaming) seen since the exporter started.",
)
PEER_DNS_MISMATCH = _peer(
    "endpoint_dns_mismatch",
    "1 if the host name in the peer's file no longer resolves to the address of the endpoint in use, 0 if it does. "
    "Absent where the file has none, while the name can't be resolved, and without an endpoint.",
)
PEER_DNS_SUCCESS = _peer(
    "endpoint_dns_success",
    "1 if the last lookup of the host name in the peer's file found an address, 0 if it found none; absent where the "
    "file has none. Names are looked up every 5 minutes.",
)
PEER_DNS_INFO = _peer(
    "endpoint_dns_info",
    "Always 1; the host name in the peer's file, and the addresses that it resolves to (cut after 4, with +N for the "
    "rest). Absent unless the endpoint in use is none of them.",
    "host",
    "resolves_to",
)
PEER_RERESOLVED = _peer(
    "endpoint_reresolved_total",
    "How often the exporter has set the peer's endpoint to what its host name resolves to, since it started; absent "
    "unless `dns.reresolve` is on, and where the file has no host name.",
)
PEER_KEEPALIVE = _peer(
    "persistent_keepalive_seconds",
    "Persistent keepalive interval; 0 = off.",
)
PEER_ALLOWED_IPS = _peer("allowed_ips", "How many allowed IPs the peer has.")
PEER_EXPECTED_UP = _peer(
    "expected_up",
    "1 if this peer should always be up, by the rules in `expect`; without one: if it has a persistent keepalive and "
    "its configuration file, where there is one, names an endpoint.",
)

PEER_STATE = _peer(
    "state",
    "1 for the state that holds, 0 for the others; absent until there is evidence, at most 30 s after the start. Only "
    "peers that are expected up can be down; those of an interface that is gone stay.",
    "state",
)
PEER_REASON = _peer("reason", "Always 1; why the peer is degraded or down, and absent unless it is.", "state", "reason")
PEER_STATE_CHANGES = _peer("state_changes_total", "Changes of the peer's state seen since the exporter started.")
PEER_DOWN_SECONDS = _peer(
    "down_seconds_total",
    "Time for which the peer was down since the exporter started; an outage between two scrapes is in it too.",
)
PEER_LAST_CHANGE = _peer(
    "state_last_change_timestamp_seconds",
    "When the peer's state last changed, in seconds since 1970; absent before a change was seen.",
)
PEER_CAUSE = _peer(
    "cause",
    "Always 1; why the peer's tunnel does not work, as the wire, the routes and sockets of this host and the files "
    "say. Found in the background, with the state or some seconds after it; absent where nothing is certain or likely, "
    "and unless the peer is degraded or down.",
    "cause",
)
PEER_QUIET = _peer(
    "quiet",
    "Always 1; somebody works on the peer, or on its interface, so it pages nobody. Absent unless that is so. Its "
    "state is the true one all the while.",
)

PROBE_FAST_UP = _probe(
    "fast_up",
    "1 while the peer answers fast echoes (`fast` in the configuration), 0 while it does not. Absent while it is not "
    "known. An outage between two scrapes is in the log alone.",
)
PROBE_UP = _probe("up", "1 if one of the last 5 probes through the tunnel was answered.")
PROBE_SENT = _probe(
    "sent_total",
    "Probes whose fate is known: answered or lost. One that still waits for its answer is not in here, so that a "
    "scrape never takes it for loss.",
)
PROBE_LOST = _probe(
    "lost_total",
    "Probes that were not answered within the timeout. The loss is the increase of this, less that of late, by that of "
    "sent.",
)
PROBE_DUPLICATES = _probe("duplicates_total", "Answers to probes that had been answered before.")
PROBE_LATE = _probe(
    "late_total",
    "Answers that came after the timeout: slow, not lost. Their probes stay counted as lost.",
)
PROBE_EXTRA_SENT = _probe(
    "extra_sent_total",
    "Probes sent beyond the regular ones because an answer was missing, once their fate is known. They count in up, "
    "and in no figure of loss or round trips.",
)
PROBE_EXTRA_LOST = _probe("extra_lost_total", "Extra probes that were not answered within the timeout.")
PROBE_ERRORS = _probe(
    "errors_total",
    "Probes that could not be sent, in neither sent nor lost. Each reason is always there: no_device (gone or down), "
    "no_route (or no endpoint), no_key (no peer for the address), no_permission, no_buffer, too_big, other.",
    "reason",
)
PROBE_RTT = _probe(
    "rtt_seconds",
    "Round-trip time of answered probes through the tunnel, up to the moment at which the kernel had the answer.",
)._replace(kind=Kind.HISTOGRAM)
PROBE_JITTER = _probe(
    "jitter_seconds",
    "How much the round-trip time differs from one answer to the next, smoothed as in RFC 3550; absent before the "
    "second answer.",
)
PROBE_RTT_MIN = _probe(
    "rtt_min_seconds",
    "Shortest round trip since this target is probed: what the path takes without queues; absent before an answer.",
)
PROBE_LAST_RTT = _probe(
    "last_rtt_seconds",
    "Round-trip time of the last answered probe; it stays when answers stop, and is absent before the first.",
)

MTU_VERDICT = _mtu(
    "verdict",
    "1 for the one verdict that holds, 0 for the others: whether full-size packets from this host reach the peer, and "
    "whole. It looks at this host's direction. Where the endpoint answers no probes outside the tunnel, or they "
    "take another way, ok can't exclude that they are fragmented on the way.",
    "verdict",
)
MTU_PATH = _mtu(
    "path_bytes",
    "Largest IP packet that gets through: inner is inside the tunnel, outer is the path MTU to the endpoint; absent "
    "until found.",
    "layer",
)
MTU_NEEDED = _mtu(
    "needed_bytes",
    "Size outside the tunnel of a full packet inside it: the MTU of the interface + 60, or + 80 over IPv6. What the "
    "path has to carry.",
)
MTU_RECOMMENDED = _mtu(
    "recommended_bytes",
    "The MTU to set on the interface for this peer, enough even if the far side is left as it is; never above what is "
    "known to get through, nor below 576, or 1280 where the device has IPv6 addresses.",
)
MTU_REMOTE = _mtu(
    "remote_bytes", "MTU of the peer's own interface; absent where its answers do not show it, which is often."
)
MTU_LAST_CHECK = _mtu(
    "last_check_timestamp_seconds",
    "When the MTU was last looked at, in seconds since 1970; absent before the first time.",
)

BUILD_INFO = _exporter(
    "build_info", "Always 1; the versions of the exporter and of Python.", "version", "python_version"
)
SOURCE_SUCCESS = _exporter(
    "source_success",
    "1 if this source could be read at this scrape. At 0 its rows are missing, and nothing is known of them.",
    "source",
)
SOURCE_DURATION = _exporter("source_duration_seconds", "How long the last read of this source took.", "source")
DEVICES = _exporter("devices", "WireGuard devices found, readable or not.")
RELOAD_SUCCESSFUL = _exporter(
    "config_last_reload_successful", "1 if the last load or reload of the configuration succeeded."
)
RELOAD_TIMESTAMP = _exporter(
    "config_last_reload_success_timestamp_seconds",
    "When the configuration in use was loaded, in seconds since 1970.",
)
CAPABILITY = _exporter(
    "capability",
    "1 if the exporter may do this: net_admin (read kernel devices), net_raw (send probes), uapi (read userspace "
    "devices), conf_read (read names from configuration files), netns (enter the configured namespaces), bpf (count "
    "packets; absent unless `accounting` is on).",
    "name",
)
SCHEDULING_DELAY = _exporter(
    "probe_scheduling_delay_seconds",
    "How late a probe was sent in the last seconds, at worst. When this grows, the host is too busy to probe on time.",
)
CLOCK_STEPS = _exporter(
    "clock_steps_total", "Jumps of the wall clock by more than a second seen since the exporter started."
)

METRICS: tuple[Metric, ...] = (
    INTERFACE_INFO,
    INTERFACE_UP,
    INTERFACE_READ_SUCCESS,
    INTERFACE_MTU,
    INTERFACE_PEERS,
    INTERFACE_QUIET,
    *(metric for metric, _field in LINK_COUNTERS),
    CONFIG_DRIFT,
    PEER_INFO,
    PEER_RECEIVE_BYTES,
    PEER_TRANSMIT_BYTES,
    PEER_RECEIVE_PACKETS,
    PEER_TRANSMIT_PACKETS,
    PEER_LAST_HANDSHAKE,
    PEER_HANDSHAKES,
    PEER_ENDPOINT_CHANGES,
    PEER_DNS_MISMATCH,
    PEER_DNS_SUCCESS,
    PEER_DNS_INFO,
    PEER_RERESOLVED,
    PEER_KEEPALIVE,
    PEER_ALLOWED_IPS,
    PEER_EXPECTED_UP,
    PEER_STATE,
    PEER_REASON,
    PEER_STATE_CHANGES,
    PEER_DOWN_SECONDS,
    PEER_LAST_CHANGE,
    PEER_CAUSE,
    PEER_QUIET,
    PROBE_FAST_UP,
    PROBE_UP,
    PROBE_SENT,
    PROBE_LOST,
    PROBE_DUPLICATES,
    PROBE_LATE,
    PROBE_EXTRA_SENT,
    PROBE_EXTRA_LOST,
    PROBE_ERRORS,
    PROBE_RTT,
    PROBE_JITTER,
    PROBE_RTT_MIN,
    PROBE_LAST_RTT,
    MTU_VERDICT,
    MTU_PATH,
    MTU_NEEDED,
    MTU_RECOMMENDED,
    MTU_REMOTE,
    MTU_LAST_CHECK,
    BUILD_INFO,
    SOURCE_SUCCESS,
    SOURCE_DURATION,
    DEVICES,
    RELOAD_SUCCESSFUL,
    RELOAD_TIMESTAMP,
    CAPABILITY,
    SCHEDULING_DELAY,
    CLOCK_STEPS,
)

NAMES: tuple[str, ...] = (*(metric.name for metric in METRICS), *(metric.name for metric in PROCESS_METRICS))
"""The names of all metrics that `/metrics` can serve."""
