"""The queries of the dashboards, put together from few parts, so that the rules which every query obeys stand once.

- Every selector has `job=~"$job", instance=~"$instance"`.
- A peer is the labels `PEER`, and nothing else: its name may change while it lives. So what is calculated from two
  series is calculated by `PEER`, and the name comes from a series of its own; a renamed peer breaks no panel.
- What lies outside the exporter's own network namespace has the label `netns`, the rest has it not, so `netns` is in
  every grouping and in no selector.
"""

from __future__ import annotations

from typing import NamedTuple

EXPORTER = "job, instance"
INTERFACE = f"{EXPORTER}, netns, interface"
PEER = f"{INTERFACE}, public_key"
NAMED = f"{PEER}, peer"

# Verdicts on an MTU by what they ask of a person. Those that are neither say that nothing is known.
FAULTS = "interface_above_route|inner_path_smaller|blackhole|fragmented_local|fragmented_path"
FAR_SIDE = "remote_smaller"

# A peer that does not answer is probed every half minute only: in less than this, there may be nothing to count.
PROBES = "1m"

# How bad a state is, as a number: what a state timeline can show, and what `max` finds the worst of.
STATES = {"up": 1, "idle": 2, "never": 3, "degraded": 4, "down": 5}


class Scope(NamedTuple):
    """Which series a dashboard looks at: the matchers that all its selectors have."""

    matchers: str = 'job=~"$job", instance=~"$instance"'

    def __call__(self, metric: str, *more: str, **labels: str) -> str:
        """A selector, with more matchers and with labels that have a value."""
        matchers = [self.matchers, *more, *(f'{name}="{value}"' for name, value in labels.items())]
        return f"{metric}{{{', '.join(matchers)}}}"

    def rate(self, metric: str, by: str) -> str:
        """Growth of a counter in a second. The two parts of a series that changed its other labels are one."""
        return f"sum by ({by}) (rate({self(metric)}[$__rate_interval]))"

    def increase(self, metric: str, by: str) -> str:
        """How often something happened, in whole numbers, which `increase` alone does not give."""
        return f"round(sum by ({by}) (increase({self(metric)}[$__rate_interval])))"

    def bits(self, metric: str, by: str) -> str:
        """A counter of bytes as bits in a second."""
        return f"8 * {self.rate(metric, by)}"

    def packet_size(self, side: str, by: str) -> str:
        """Bytes of WireGuard's messages for each packet that went through the tunnel, on average; where any did."""
        bytes_of = self.rate(f"wireguard_peer_{side}_bytes_total", by)
        return f"{bytes_of}\n/ ({self.rate(f'wireguard_peer_{side}_packets_total', by)} > 0)"


FLEET = Scope()
HOST = Scope(f'{FLEET.matchers}, interface=~"$interface"')
ONE_PEER = Scope(f'{HOST.matchers}, public_key=~"$peer"')


def union(*queries: str) -> str:
    """All series of all queries."""
    return "\nor\n".join(queries)


def labelled(query: str, **labels: str) -> str:
    """The query with more labels."""
    for name, value in labels.items():
        query = f'label_replace({query}, "{name}", "{value}", "", "")'
    return query


# States


def state_number(scope: Scope, by: str = NAMED) -> str:
    """The worst state of what is grouped, as its number in `STATES`; absent while a peer is not judged."""
    parts = [f"{number} * {scope('wireguard_peer_state', state=state)}" for state, number in STATES.items()]
    return f"max by ({by}) (\n{union(*parts)}\n)"


def in_state(scope: Scope, state: str) -> str:
    """How many peers are in a state; 0 only where peers were judged."""
    return f"sum({scope('wireguard_peer_state', state=state)})"


def reason_number(scope: Scope, by: str) -> str:
    """The number of the state of every peer that is degraded or down; `by` has the reason."""
    parts = [f"{STATES[state]} * {scope('wireguard_peer_reason', state=state)}" for state in ("degraded", "down")]
    return f"max by ({by}) (\n{union(*parts)}\n)"


def cause(scope: Scope, by: str = PEER) -> str:
    """1 for each peer whose cause was found, which is in `cause`; absent for the others."""
    return f"max by ({by}, cause) ({scope('wireguard_peer_cause')})"


def last_change(scope: Scope, by: str) -> str:
    """When the state last changed, in milliseconds since 1970, as Grafana counts."""
    return f"1000 * max by ({by}) ({scope('wireguard_peer_state_last_change_timestamp_seconds')})"


# What happened, as marks on graphs. The exporter's own journal (`/api/v1/events`) has more, such as why, but Grafana
# asks Prometheus alone: it would need a plugin to read lines of JSON, and a way to each exporter.


def state_changes(scope: Scope) -> str:
    """When the state of each peer last changed, in milliseconds since 1970, with the `state` that it then had."""
    now = f"max by ({PEER}, state) ({scope('wireguard_peer_state')}) == 1"
    return f"({last_change(scope, NAMED)} > 0)\n* on ({PEER}) group_left (state)\n({now})"


def starts() -> str:
    """When each exporter was started, in milliseconds since 1970."""
    known = FLEET("wireguard_exporter_build_info")
    return f"1000 * max by ({EXPORTER}) ({FLEET('process_start_time_seconds')})\nand on ({EXPORTER}) {known}"


def reloads() -> str:
    """When each exporter last took a configuration into use, in milliseconds since 1970."""
    when = FLEET("wireguard_exporter_config_last_reload_success_timestamp_seconds")
    return f"1000 * max by ({EXPORTER}) ({when})"


def fast_up(scope: Scope, by: str = PEER) -> str:
    """1 for each peer that answers its fast echoes, 0 for one that does not; absent where it has none, or nobody knows.

    A target that changed leaves the series of the one before for a while, and the worse of both is shown.
    """
    return f"min by ({by}) ({scope('wireguard_probe_fast_up')})"


# What pages nobody, as somebody works on it: present only while that is so


def quiet_peers(scope: Scope, by: str = PEER) -> str:
    """1 for each peer that is quiet, by itself or with its interface; absent for the others."""
    return f"max by ({by}) ({scope('wireguard_peer_quiet')})"


def quiet_interfaces(scope: Scope) -> str:
    """1 for each interface that is quiet as a whole; absent for the others."""
    return f"max by ({INTERFACE}) ({scope('wireguard_interface_quiet')})"


# The exporter and what it reads


def silent_exporters() -> str:
    """1 for an exporter that does not answer, 0 for one that does.

    Who answered as an exporter within a day is one; a Prometheus scrapes other things too.
    """
    known = f"last_over_time({FLEET('wireguard_exporter_build_info')}[1d])"
    return f"({FLEET('up')} == bool 0) and on ({EXPORTER}) {known}"


def unread(scope: Scope) -> str:
    """1 for a source or a device that could not be read, 0 for the others."""
    return union(
        f"({FLEET('wireguard_exporter_source_success')} == bool 0)",
        f"({scope('wireguard_interface_read_success')} == bool 0)",
    )


# Probes


def loss(scope: Scope, by: str = PEER, *, recent: bool = False) -> str:
    """The part of the probes that was lost, from 0 to 1; absent where none was sent. `recent`: see `_probes`."""
    lost, late, sent = (
        _probes(scope, f"wireguard_probe_{what}_total", by, recent=recent) for what in ("lost", "late", "sent")
    )
    return f"clamp_min({lost}\n- {late}, 0)\n/\n({sent} > 0)"


def round_trip(scope: Scope, by: str = PEER, *, recent: bool = False) -> str:
    """The mean round trip, in seconds; absent where no answer came. `recent`: see `_probes`."""
    total, count = (
        _probes(scope, f"wireguard_probe_rtt_seconds_{part}", by, recent=recent) for part in ("sum", "count")
    )
    return f"{total}\n/\n({count} > 0)"


def _probes(scope: Scope, counter: str, by: str, *, recent: bool) -> str:
    """A counter of probes over the last points of a graph or, as a number for now, over what the exporter judges by.

    A probe is sent every few seconds: over a scrape or two, a tunnel that is called lossy has often lost none.
    """
    return f"sum by ({by}) (increase({scope(counter)}[5m]))" if recent else scope.rate(counter, by)


def quantile(scope: Scope, which: float, by: str) -> str:
    """The round trip that this part of the answers stays below, in seconds."""
    return f"histogram_quantile({which:g}, {scope.rate('wireguard_probe_rtt_seconds_bucket', f'{by}, le')})"


def mtu_faults(scope: Scope) -> str:
    """How many probed peers have an MTU that loses or fragments packets; absent where none is probed."""
    faults = f'verdict=~"{FAULTS}"'
    return f"sum({scope('wireguard_mtu_verdict', faults)})"


def verdict_number(scope: Scope, by: str) -> str:
    """How bad the verdict that holds is: 1 right, 2 not known, 3 the far side's matter, 4 a fault. `by` has it."""
    kinds = {1: '="ok"', 2: f'!~"ok|{FAR_SIDE}|{FAULTS}"', 3: f'="{FAR_SIDE}"', 4: f'=~"{FAULTS}"'}
    parts = [f"{number} * ({scope('wireguard_mtu_verdict', f'verdict{kind}')} == 1)" for number, kind in kinds.items()]
    return f"max by ({by}) (\n{union(*parts)}\n)"


# Handshakes


def handshake_age(scope: Scope, by: str) -> str:
    """Seconds since the last handshake; absent for peers that had none."""
    return f"time() - max by ({by}) ({scope('wireguard_peer_last_handshake_timestamp_seconds')} > 0)"
