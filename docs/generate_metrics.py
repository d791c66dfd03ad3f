"""Write docs/metrics.md from the catalogue that `/metrics` itself is written from. With `--check`, only compare."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from generating import DOCS, run, table

from wg_exporter.catalogue import METRICS, Metric, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = """\
<!-- Written by docs/generate_metrics.py from wg_exporter/catalogue.py. Do not edit by hand. -->
# Metrics

What `/metrics` serves, as Prometheus text 0.0.4 or, if the client asks for it, OpenMetrics 1.0. Names, types, labels
and meanings are a contract. A peer makes {peer_series} series, an interface {interface_series}. What you do not want to
pay for, leave out with `metrics: exclude` in the [configuration](configuration.md#metrics). The paths for the
dashboards of other exporters are in [compatibility.md](compatibility.md).

## Labels

- `interface` is the name of the device, `public_key` the key of the peer in base64, as `wg show` prints them. On
  `wireguard_interface_info`, `public_key` is the device's own.
- `peer` is the friendly name of the peer or, where it has none, the first 8 characters of its key. Two peers of the
  same name stay two series, for their keys differ. [names.md](names.md) says where names come from.
- `netns` is there only for devices in a network namespace other than the exporter's own. Its value is the name that the
  configuration gives the namespace, never a path or a process id.
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

Anything that could not be read in the last five minutes:

```promql
min_over_time(wireguard_exporter_source_success[5m]) == 0 or min_over_time(wireguard_interface_read_success[5m]) == 0
```
"""

TAIL = """
The `process_*` metrics of the exporter's own process are there too: CPU time, memory, open files, start time.
"""


def page() -> str:
    """The whole text of docs/metrics.md."""
    series = {scope: sum(metric.scope is scope for metric in METRICS) for scope in Scope}
    parts = [HEAD.format(peer_series=series[Scope.PEER], interface_series=series[Scope.INTERFACE])]
    for scope in Scope:
        metrics = [metric for metric in METRICS if metric.scope is scope]
        shared = [label for label in metrics[0].labels if all(label in metric.labels for metric in metrics)]
        parts.append(f"\n## {scope}\n\n")
        if shared:
            parts.append(f"All have the label{'s' * (len(shared) > 1)} {_names(shared)}.\n\n")
        head = ("metric", "type", "more labels" if shared else "labels", "meaning")
        parts.append(table(head, (_row(metric, shared) for metric in metrics)))
    return "".join([*parts, TAIL])


def _row(metric: Metric, shared: Sequence[str]) -> tuple[str, ...]:
    labels = [label for label in metric.labels if label not in shared]
    return f"`{metric.name}`", metric.kind, _names(labels), metric.help


def _names(labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


if __name__ == "__main__":
    sys.exit(run(DOCS / "metrics.md", page, __doc__))
