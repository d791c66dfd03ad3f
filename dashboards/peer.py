"""One peer, or a few to compare: what is wrong with it and since when, handshakes, traffic, latency, loss, MTU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana import BAD, GOOD, MUTED, NOTICE, QUIET, UNKNOWN, WARN, Panel, events, now, page, steps, words
from grafana import target as over_time
from panels import Column, graph, heatmap, row, stat, table, timeline
from promql import (
    EXPORTER,
    FAULTS,
    HOST,
    INTERFACE,
    NAMED,
    ONE_PEER,
    PEER,
    PROBES,
    STATES,
    cause,
    fast_up,
    handshake_age,
    last_change,
    loss,
    quantile,
    quiet_peers,
    reason_number,
    round_trip,
    state_changes,
    state_number,
    union,
    verdict_number,
)
from shared import INTERFACE as INTERFACE_VARIABLE
from shared import PEER as PEER_VARIABLE
from shared import PEER_ANYWHERE, PEER_UID, STATE_NUMBERS, VERDICT_WORDS, hidden, host_link, variables

if TYPE_CHECKING:
    from grafana import Json

REASON_STEPS = steps((STATES["degraded"], WARN), (STATES["down"], BAD), first=GOOD)
VERDICT_NUMBERS = words(
    {"1": ("right", GOOD), "2": ("not known", UNKNOWN), "3": ("far side", NOTICE), "4": ("fault", WARN)}
)
FAULTY = f'verdict=~"{FAULTS}"'
# Beside the states in a timeline: the peer pages nobody.
QUIET_NUMBER = 6
CAUSE_NUMBER = 7  # and why it is not well
FAST_NUMBER = 8  # and how it is by fast echoes: this for down, and the next for up
BESIDE_STATES = {
    str(QUIET_NUMBER): ("quiet", QUIET),
    str(CAUSE_NUMBER): ("cause", NOTICE),
    str(FAST_NUMBER): ("down", WARN),
    str(FAST_NUMBER + 1): ("up", GOOD),
}
# A session of WireGuard ends after this many seconds: with a handshake older than that, no data can pass.
SESSION = 180


def dashboard() -> Json:
    """The dashboard as Grafana's JSON."""
    return page(
        PEER_UID,
        "WireGuard / Peer",
        "One peer: its state and why, handshakes, traffic, latency, loss, and whether full-size packets get through.",
        variables=variables(INTERFACE_VARIABLE, PEER_VARIABLE, all_hosts=True),
        annotations=[
            events(
                "Alerts",
                f"max by (alertname, {EXPORTER}, peer) ({ONE_PEER('ALERTS', alertstate='firing')})",
                "{{alertname}}",
                "{{peer}}",
                BAD,
            ),
            events("States", state_changes(ONE_PEER), "{{state}}", PEER_ANYWHERE, NOTICE, at_value=True),
            events("Causes", f"{cause(ONE_PEER, NAMED)} == 1", "{{cause}}", PEER_ANYWHERE, WARN),
            events("Fast echoes", f"1 - {fast_up(ONE_PEER, NAMED)}", "down by fast echoes", PEER_ANYWHERE, WARN),
            events(
                "Roaming",
                ONE_PEER.increase("wireguard_peer_endpoint_changes_total", NAMED),
                "roamed",
                PEER_ANYWHERE,
                QUIET,
            ),
            events(
                "MTU faults",
                f"max by ({NAMED}, verdict) ({ONE_PEER('wireguard_mtu_verdict', FAULTY)}) == 1",
                "MTU {{verdict}}",
                PEER_ANYWHERE,
                WARN,
            ),
        ],
        rows=[
            _numbers(),
            [_states()],
            [row("Handshakes and traffic")],
            _handshakes(),
            _packets(),
            [row("Latency and loss")],
            [_heatmap(), _round_trips()],
            _losses(),
            [row("MTU")],
            [_advice()],
            _sizes(),
            [row("Endpoint")],
            _endpoints(),
            [_host_names()],
        ],
    )


def _numbers() -> list[Panel]:
    return [
        stat(
            "State",
            "Down: should be up, and nothing was heard of it for long enough. Idle: nothing is sent, nothing is wrong.",
            [now(state_number(ONE_PEER), PEER_ANYWHERE)],
            mappings=STATE_NUMBERS,
            nothing="not judged",
        ),
        stat(
            "Reason",
            "Why it is down or degraded.",
            [now(reason_number(ONE_PEER, f"{NAMED}, reason"), "{{reason}}")],
            width=4,
            show="name",
            thresholds=REASON_STEPS,
            nothing="none",
        ),
        stat(
            "Since",
            "When the state last changed, as the exporter saw it; it knows nothing of changes before its own start.",
            [now(last_change(ONE_PEER, NAMED), PEER_ANYWHERE)],
            unit="dateTimeFromNow",
            tint="none",
            nothing="no change seen",
        ),
        stat(
            "Last handshake",
            "A tunnel that carries data has a handshake every two minutes. An idle one needs none, so that an old "
            "handshake alone is no fault.",
            [now(handshake_age(ONE_PEER, NAMED), PEER_ANYWHERE)],
            unit="s",
            decimals=0,
            tint="none",
            nothing="never",
        ),
        stat(
            "Round trip",
            "The mean of the last five minutes.",
            [now(round_trip(ONE_PEER, NAMED, recent=True), PEER_ANYWHERE)],
            unit="s",
            tint="none",
            nothing="no answer",
        ),
        stat(
            "Loss",
            "The part of the probes of the last five minutes that got no answer.",
            [now(loss(ONE_PEER, NAMED, recent=True), PEER_ANYWHERE)],
            width=2,
            unit="percentunit",
            thresholds=steps((0.01, NOTICE), (0.1, WARN), (0.5, BAD)),
            nothing="not probed",
        ),
        stat(
            "MTU",
            "Whether full-size packets from this host reach the peer, and whole. What to set is further down.",
            [now(verdict_number(ONE_PEER, f"{NAMED}, verdict"), "{{verdict}}")],
            show="name",
            thresholds=steps((1, GOOD), (2, UNKNOWN), (3, NOTICE), (4, WARN), first=MUTED),
            nothing="not probed",
        ),
        stat(
            "Expected",
            "Whether this peer should always be up. Only then it can be down.",
            [now(f"max by ({NAMED}) ({ONE_PEER('wireguard_peer_expected_up')})", PEER_ANYWHERE)],
            mappings=words({"1": ("up", MUTED), "0": ("may be off", MUTED)}),
            tint="none",
        ),
    ]


def _states() -> Panel:
    return timeline(
        "State and reason",
        "The state over time, and below it each reason and each cause for as long as it held: by what it is seen, and "
        "why that is so. Fast echoes move traffic before the state changes; only where the configuration has `fast`. "
        "Quiet: the peer paged nobody, for somebody worked on it; its state is the true one.",
        [
            over_time(state_number(ONE_PEER), PEER_ANYWHERE),
            over_time(f"{FAST_NUMBER} + {fast_up(ONE_PEER, NAMED)}", "{{peer}}: fast echoes"),
            over_time(reason_number(ONE_PEER, f"{NAMED}, reason"), "{{peer}}: {{reason}}"),
            over_time(f"{CAUSE_NUMBER} * {cause(ONE_PEER, NAMED)}", "{{peer}}: {{cause}}"),
            over_time(f"{QUIET_NUMBER} * {quiet_peers(ONE_PEER, NAMED)}", "{{peer}}: quiet"),
        ],
        [*STATE_NUMBERS, *words(BESIDE_STATES)],
        width=24,
        height=6,
    )


def _handshakes() -> list[Panel]:
    return [
        graph(
            "Age of the handshake",
            f"With traffic a new one comes every 120 s. Over the line, at {SESSION} s, the session has ended: no data "
            "can pass before a new handshake. A peer that is idle may be there.",
            [over_time(handshake_age(ONE_PEER, NAMED), PEER_ANYWHERE)],
            unit="s",
            at_least=SESSION + 20,
            thresholds=steps((SESSION, WARN), first="transparent"),
        ),
        graph(
            "Handshakes",
            "New handshakes. Many in a short time: someone starts again and again, or two hosts share one key.",
            [over_time(ONE_PEER.increase("wireguard_peer_handshakes_total", NAMED), PEER_ANYWHERE)],
            unit="short",
            bars=True,
        ),
        graph(
            "Traffic",
            "Received upwards, sent downwards; keepalives, handshakes and probes included. Only downwards: nobody "
            "answers.",
            [
                over_time(ONE_PEER.bits("wireguard_peer_receive_bytes_total", NAMED), f"{PEER_ANYWHERE} in"),
                over_time(ONE_PEER.bits("wireguard_peer_transmit_bytes_total", NAMED), f"{PEER_ANYWHERE} out"),
            ],
            unit="bps",
            mirrored="B",
        ),
    ]


def _packets() -> list[Panel]:
    return [
        graph(
            "Packets",
            "Received upwards, sent downwards; handshakes and keepalives are none. Only where `accounting` is on.",
            [
                over_time(ONE_PEER.rate("wireguard_peer_receive_packets_total", NAMED), f"{PEER_ANYWHERE} in"),
                over_time(ONE_PEER.rate("wireguard_peer_transmit_packets_total", NAMED), f"{PEER_ANYWHERE} out"),
            ],
            unit="pps",
            width=12,
            mirrored="B",
            at_least=10,
        ),
        graph(
            "Average packet",
            "WireGuard's bytes for each packet, received upwards, sent downwards: what users send, 32 to 47 on top, "
            "and handshakes and keepalives, which weigh where little is sent. Large: bulk data. Small and many: "
            "acknowledgements, speech, or somebody who scans. Sent and close to 0: WireGuard drops them, as while it "
            "waits for a handshake.",
            [
                over_time(ONE_PEER.packet_size("receive", NAMED), f"{PEER_ANYWHERE} in"),
                over_time(ONE_PEER.packet_size("transmit", NAMED), f"{PEER_ANYWHERE} out"),
            ],
            unit="bytes",
            width=12,
            mirrored="B",
        ),
    ]


def _heatmap() -> Panel:
    buckets = f"sum by (le) (increase({ONE_PEER('wireguard_probe_rtt_seconds_bucket')}[$__rate_interval]))"
    return heatmap(
        "Round trips",
        "How many probes took how long. Two bands are two paths; a band that spreads upwards is a queue that fills.",
        over_time(buckets, "{{le}}", kind="heatmap"),
        unit="s",
    )


def _round_trips() -> Panel:
    shortest = f"min by ({NAMED}) ({ONE_PEER('wireguard_probe_rtt_min_seconds')})"
    return graph(
        "Round trip: median, 99 of 100, shortest",
        "The shortest ever is what the path takes without queues; what is above it is waiting time.",
        [
            over_time(quantile(ONE_PEER, 0.5, NAMED), f"{PEER_ANYWHERE} median"),
            over_time(quantile(ONE_PEER, 0.99, NAMED), f"{PEER_ANYWHERE} 99 %"),
            over_time(shortest, f"{PEER_ANYWHERE} shortest"),
        ],
        unit="s",
        every=PROBES,
        width=12,
    )


def _losses() -> list[Panel]:
    odd = {"errors": "not sent: {{reason}}", "late": "late", "duplicates": "twice"}
    by = {"errors": f"{NAMED}, reason", "late": NAMED, "duplicates": NAMED}
    return [
        graph(
            "Loss",
            "The part of the probes that got no answer in time.",
            [over_time(loss(ONE_PEER, NAMED), PEER_ANYWHERE)],
            unit="percentunit",
            every=PROBES,
            limits=(0, 1),
            thresholds=steps((0.1, WARN), first="transparent"),
        ),
        graph(
            "Jitter",
            "How much the round trip differs from one answer to the next, smoothed as in RFC 3550.",
            [over_time(f"max by ({NAMED}) ({ONE_PEER('wireguard_probe_jitter_seconds')})", PEER_ANYWHERE)],
            unit="s",
        ),
        graph(
            "Odd probes",
            "Probes that could not be sent, and why; answers after the timeout, which count as lost; answers that came "
            "twice.",
            [
                over_time(ONE_PEER.increase(f"wireguard_probe_{what}_total", by[what]), f"{{{{peer}}}} {legend}")
                for what, legend in odd.items()
            ],
            unit="short",
            bars=True,
        ),
    ]


def _advice() -> Panel:
    def size(metric: str, **labels: str) -> str:
        return f"max by ({PEER}) ({ONE_PEER(metric, **labels)})"

    # The interface has no peer among its labels, so it is asked for by its own, and taken to the peers that are shown.
    interface = f"max by ({INTERFACE}) ({HOST('wireguard_interface_mtu_bytes')})"
    return table(
        "Verdict and advice",
        "Needed: what a full packet of this interface takes outside the tunnel; the path outside has to carry that. "
        "Set: the MTU to give to the interface for this peer. Far side: the MTU of the peer's own interface, where its "
        "answers show it.",
        [
            f"max by ({NAMED}, verdict) ({ONE_PEER('wireguard_mtu_verdict')}) == 1",
            f"{size('wireguard_mtu_needed_bytes')} * 0 + on ({INTERFACE}) group_left () {interface}",
            size("wireguard_mtu_needed_bytes"),
            size("wireguard_mtu_path_bytes", layer="outer"),
            size("wireguard_mtu_path_bytes", layer="inner"),
            size("wireguard_mtu_recommended_bytes"),
            size("wireguard_mtu_remote_bytes"),
            f"1000 * {size('wireguard_mtu_last_check_timestamp_seconds')}",
        ],
        [
            Column("peer", "Peer"),
            Column("instance", "Instance", link=host_link()),
            Column("interface", "Interface", width=110),
            Column("verdict", "Verdict", width=170, mappings=VERDICT_WORDS, filled=True),
            Column("Value #B", "Interface's MTU", width=130),
            Column("Value #F", "Set", width=90),
            Column("Value #C", "Needed outside", width=130),
            Column("Value #D", "Path outside", width=120),
            Column("Value #E", "Path inside", width=120),
            Column("Value #G", "Far side", width=100),
            Column("Value #H", "Looked at", unit="dateTimeFromNow", width=150),
            *hidden("job", "netns", "public_key", "Value #A"),
        ],
        height=5,
        nothing="not probed",
        sort=[("Peer", False)],
    )


def _sizes() -> list[Panel]:
    def size(metric: str, legend: str, by: str = NAMED) -> Json:
        return over_time(f"max by ({by}) ({ONE_PEER(metric)})", f"{PEER_ANYWHERE} {legend}")

    return [
        timeline(
            "Verdict",
            "Each verdict on the MTU for as long as it held.",
            [over_time(verdict_number(ONE_PEER, f"{NAMED}, verdict"), "{{peer}}: {{verdict}}")],
            VERDICT_NUMBERS,
            width=12,
            height=7,
        ),
        graph(
            "Sizes",
            "What the path carries inside and outside the tunnel, what a full packet needs outside, and what to set.",
            [
                size("wireguard_mtu_path_bytes", "path {{layer}}", f"{NAMED}, layer"),
                size("wireguard_mtu_needed_bytes", "needed outside"),
                size("wireguard_mtu_recommended_bytes", "to set"),
            ],
            unit="none",
            limits=(None, None),
            width=12,
            height=7,
        ),
    ]


KNOWN = 'endpoint!=""'
NAME_NUMBERS = words({"0": ("leads here", GOOD), "1": ("leads elsewhere", WARN), "2": ("does not resolve", WARN)})


def _endpoints() -> list[Panel]:
    return [
        timeline(
            "Endpoints",
            "The address outside the tunnel from which the peer was heard last, each for as long as it held.",
            [
                over_time(
                    f"max by ({NAMED}, endpoint) ({ONE_PEER('wireguard_peer_info', KNOWN)})",
                    "{{peer}}: {{endpoint}}",
                )
            ],
            words({"1": (" ", "blue")}),
            width=14,
            height=6,
        ),
        graph(
            "Changes of the endpoint",
            "Roaming. A peer at a fixed place that roams all the time is two hosts with one key, or a forgetful NAT.",
            [over_time(ONE_PEER.increase("wireguard_peer_endpoint_changes_total", NAMED), PEER_ANYWHERE)],
            unit="short",
            bars=True,
            width=10,
            height=6,
        ),
    ]


def _host_names() -> Panel:
    """Of peers with a host name in their file."""
    mismatch, success = (ONE_PEER(f"wireguard_peer_endpoint_dns_{what}") for what in ("mismatch", "success"))
    return timeline(
        "Host names",
        "Whether the host name in the peer's file still leads to the endpoint in use, and where it leads if not. "
        "WireGuard follows a peer that calls from another address, and never a name.",
        [
            over_time(
                union(f"max by ({NAMED}) ({mismatch})", f"2 + (max by ({NAMED}) ({success}) == 0)"), PEER_ANYWHERE
            ),
            over_time(
                f"max by ({NAMED}, host, resolves_to) ({ONE_PEER('wireguard_peer_endpoint_dns_info')})",
                "{{peer}}: {{host}} is {{resolves_to}}",
            ),
        ],
        NAME_NUMBERS,
        width=24,
        height=6,
    )
