"""Write docs/metrics.md from the catalogue that `/metrics` itself is written from. With `--check`, only compare."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from generating import DOCS, run, table

from wg_exporter.catalogue import METRICS, PROBE_RTT
from wg_exporter.config.probe import RTT_BUCKETS
from wg_exporter.drift.kinds import MEANINGS
from wg_exporter.drift.kinds import Kind as DriftKind
from wg_exporter.exposition.fields import HEALTH_FIELDS, probe_fields
from wg_exporter.metric import Kind, Metric, Scope
from wg_exporter.probed import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = """\
<!-- Written by docs/generate_metrics.py from wg_exporter/catalogue.py. Do not edit by hand. -->
# Metrics

What `/metrics` serves, as Prometheus text 0.0.4 or, if the client asks for it, OpenMetrics 1.0. Names, types, labels
and meanings are a contract. A peer makes up to {peer_series} series, an interface {interface_series}. A peer that is
probed makes {probe_series} more, {rtt_series} of them its histogram. What you do not want to pay for, leave out with
`metrics: exclude` in the [configuration](configuration.md#metrics), or count by fewer
[buckets](configuration.md#probe). The paths for the dashboards of other exporters are in
[compatibility.md](compatibility.md).

## Labels

- `interface` is the name of the device, `public_key` the key of the peer in base64, as `wg show` prints them. On
  `wireguard_interface_info`, `public_key` is the device's own.
- `peer` is the friendly name of the peer or, where it has none, the first 8 characters of its key. Two peers of the
  same name stay two series, for their keys differ. [names.md](names.md) says where names come from.
- `target` is the address inside the tunnel that probes are sent to. When it changes, or the name, new series begin; the
  series of a peer that is no longer probed end.
- `netns` is there only for devices in a network namespace other than the exporter's own. Its value is the name that the
  configuration gives the namespace, never a path or a process id.
- `tunnel`, on `wireguard_peer_info` alone, names the pair of keys: a hash of the public keys of the interface and the
  peer, which is the same at both ends. So what two exporters say of one tunnel can be put together. It is empty where
  the interface has no key.
- Endpoint and allowed IPs change while a peer lives, so they are labels of `wireguard_peer_info` alone: a phone that
  roams starts one new series, not {peer_series}. `metrics: endpoint` cuts the port off the endpoint, or leaves it
  empty.

## Values

- Receive and transmit are this host's view: receive is what comes from the peer.
- **Absent is not 0.** What could not be read is absent, and a known zero is 0. When
  `wireguard_exporter_source_success` and `wireguard_interface_read_success` are 1, what is not there does not exist.
- `wireguard_peer_last_handshake_timestamp_seconds` is a time. 0 means that there was no handshake since the peer was
  configured; take such peers out before you subtract, or they are more than 50 years old.
- Byte counters of a peer count what WireGuard sends and receives: headers, padding, handshakes and keepalives are in
  them, and UDP and IP headers are not. Counters of an interface are those of `ip -s link`: the driver decides what
  they include, so they need not be the sum of the peers'.
- Counters of a device begin at 0 when the device is set up anew, those of the exporter when the exporter starts. `rate`
  and `increase` know how to treat that.
- Probes are counted when their fate is known, so at every moment sent = answered + lost. Loss is counted over any time
  you like, whenever you scrape: nothing is sent by a scrape, and nothing is reset.
- `wireguard_peer_state` is what to alert on. [health.md](health.md) says how a peer is judged, and what each value of
  `reason` means. It is absent until there is evidence, and stays, with `wireguard_peer_expected_up`, for peers that
  should be up while their interface is gone.
- `wireguard_mtu_verdict` looks at the direction from this host to the peer; the other direction is for the exporter at
  the other end. Where the endpoint answers no probes outside the tunnel, `ok` can't exclude that packets are fragmented
  on the way.
- `wireguard_peer_handshakes_total` and `wireguard_peer_endpoint_changes_total` come from a look at the devices every
  5 seconds, whether or not anyone scrapes: none, one or ten scrapers get the same counts.

## Queries

How long ago the last handshake was, for peers that had one:

```promql
time() - (wireguard_peer_last_handshake_timestamp_seconds > 0)
```

Peers that should be up and were never heard of. Both sides have the same labels, so `and` needs nothing more:

```promql
wireguard_peer_last_handshake_timestamp_seconds == 0 and wireguard_peer_expected_up == 1
```

Traffic of each peer with its endpoint beside it. A peer that is renamed has two series within the range for a while. So
take the name away first, or the whole query fails for that while; `sum` puts the two parts of a rate together again:

```promql
sum by (job, instance, netns, interface, public_key) (rate(wireguard_peer_receive_bytes_total[5m]))
  * on (job, instance, netns, interface, public_key) group_left (endpoint)
max by (job, instance, netns, interface, public_key, endpoint) (wireguard_peer_info)
```

The average size of the packets from each peer, where [they are counted](accounting.md), in bytes of WireGuard's
messages:

```promql
sum by (job, instance, netns, interface, public_key) (rate(wireguard_peer_receive_bytes_total[5m]))
/ (sum by (job, instance, netns, interface, public_key) (rate(wireguard_peer_receive_packets_total[5m])) > 0)
```

Peers that are down or degraded, and why:

```promql
wireguard_peer_reason == 1
```

Part of the last 30 days for which a peer that should be up was not down:

```promql
1 - increase(wireguard_peer_down_seconds_total[30d]) / 2592000 and wireguard_peer_expected_up == 1
```

Loss of each probed tunnel over five minutes, from 0 to 1, and the round-trip time that 99 of 100 stay below:

```promql
(increase(wireguard_probe_lost_total[5m]) - increase(wireguard_probe_late_total[5m]))
/ (increase(wireguard_probe_sent_total[5m]) > 0)
```

```promql
histogram_quantile(0.99, rate(wireguard_probe_rtt_seconds_bucket[5m]))
```

Tunnels whose MTU is not right, with the verdict as a label, and what to set:

```promql
wireguard_mtu_verdict{{verdict!~"ok|unknown|unreachable|inconclusive|filtered_large|filtered"}} == 1
```

```promql
wireguard_mtu_recommended_bytes < on (job, instance, netns, interface) group_left () wireguard_interface_mtu_bytes
```

Peers that machines keep away from, by [fast echoes](failover.md):

```promql
wireguard_probe_fast_up == 0
```

Anything that could not be read in the last five minutes:

```promql
min_over_time(wireguard_exporter_source_success[5m]) == 0 or min_over_time(wireguard_interface_read_success[5m]) == 0
```
"""

TAIL = """
The `process_*` metrics of the exporter's own process are there too: CPU time, memory, open files, start time.
"""

VERDICTS = {
    Verdict.UNKNOWN: "Not looked at yet.",
    Verdict.UNREACHABLE: "Small packets are not answered, and nothing else comes from the peer.",
    Verdict.INCONCLUSIVE: "Small packets get lost too, or there were too few answers to tell.",
    Verdict.INTERFACE_ABOVE_ROUTE: "This host itself refuses packets as large as the interface's MTU.",
    Verdict.INNER_PATH_SMALLER: "A hop inside the tunnel, behind the peer, takes no packets of this size, and says so.",
    Verdict.BLACKHOLE: "Small packets are answered and full-size ones vanish without a word.",
    Verdict.FRAGMENTED_LOCAL: "Full packets arrive, but this host has to send them in fragments.",
    Verdict.FRAGMENTED_PATH: "Full packets arrive, but the path outside the tunnel is too small to carry them whole.",
    Verdict.REMOTE_SMALLER: "Full packets arrive, and the answers come in fragments: the peer's MTU is smaller.",
    Verdict.FILTERED_LARGE: "Small echoes are answered and large ones are not, and nothing proves that other large "
    "packets are lost: most often a firewall drops large echoes.",
    Verdict.FILTERED: "The peer is alive and answers no probes, so nothing is known of full-size packets.",
    Verdict.OK: "Full packets arrive, and nothing speaks against their being whole.",
}


def page() -> str:
    """The whole text of docs/metrics.md."""
    points = {field.metric: len(field.points) for field in HEALTH_FIELDS}
    series = {scope: sum(points.get(metric, 1) for metric in METRICS if metric.scope is scope) for scope in Scope}
    probed = {field.metric: len(field.points) for field in probe_fields(RTT_BUCKETS)}
    parts = [
        HEAD.format(
            peer_series=series[Scope.PEER],
            interface_series=series[Scope.INTERFACE],
            probe_series=sum(probed.values()),
            rtt_series=probed[PROBE_RTT],
        )
    ]
    for scope in Scope:
        metrics = [metric for metric in METRICS if metric.scope is scope]
        shared = [label for label in metrics[0].labels if all(label in metric.labels for metric in metrics)]
        parts.append(f"\n## {scope}\n\n")
        if shared:
            parts.append(f"All have the label{'s' * (len(shared) > 1)} {_names(shared)}.\n\n")
        head = ("metric", "type", "more labels" if shared else "labels", "meaning")
        parts.append(table(head, (_row(metric, shared) for metric in metrics)))
        if scope is Scope.DRIFT:
            parts.append("\nWhat counts as a difference, and what does not, is in [drift.md](drift.md). The kinds:\n\n")
            parts.append(table(("kind", "counts"), ((f"`{kind}`", MEANINGS[kind]) for kind in DriftKind)))
        if scope is Scope.MTU:
            parts.append("\nExactly one verdict holds: the first of these that applies.\n\n")
            parts.append(table(("verdict", "meaning"), ((f"`{verdict}`", VERDICTS[verdict]) for verdict in Verdict)))
    return "".join([*parts, TAIL])


def _row(metric: Metric, shared: Sequence[str]) -> tuple[str, ...]:
    labels = [label for label in metric.labels if label not in shared] + ["le"] * (metric.kind is Kind.HISTOGRAM)
    return f"`{metric.name}`", metric.kind, _names(labels), metric.help


def _names(labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


if __name__ == "__main__":
    sys.exit(run(DOCS / "metrics.md", page, __doc__))
