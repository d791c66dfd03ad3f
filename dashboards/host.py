"""One host, or a few: its interfaces and all peers in one table, and the way from there to a single peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana import BAD, GOOD, MUTED, NOTICE, QUIET, WARN, Panel, events, now, override, page, steps, words
from grafana import target as over_time
from panels import Column, graph, row, stat, table, timeline
from promql import (
    EXPORTER,
    FLEET,
    HOST,
    INTERFACE,
    NAMED,
    PEER,
    PROBES,
    cause,
    fast_up,
    handshake_age,
    in_state,
    loss,
    mtu_faults,
    quiet_interfaces,
    quiet_peers,
    reloads,
    round_trip,
    silent_exporters,
    starts,
    state_number,
    unread,
)
from shared import (
    FAST_WORDS,
    HOST_UID,
    PEER_LEGEND,
    QUIET_WORDS,
    STATE_COLORS,
    STATE_NUMBERS,
    VERDICT_WORDS,
    hidden,
    peer_link,
    variables,
)
from shared import INTERFACE as INTERFACE_VARIABLE

if TYPE_CHECKING:
    from grafana import Json

DEVICE = "{{netns}} {{interface}}"
LOSSY = steps((0.01, NOTICE), (0.1, WARN), (0.5, BAD))


def dashboard() -> Json:
    """The dashboard as Grafana's JSON."""
    return page(
        HOST_UID,
        "WireGuard / Host",
        "The interfaces and peers of one host: what state they are in, what goes through them, what gets lost.",
        variables=variables(INTERFACE_VARIABLE, all_hosts=False),
        annotations=[
            events(
                "Alerts",
                f"max by (alertname, {EXPORTER}, peer) ({HOST('ALERTS', alertstate='firing')})",
                "{{alertname}}",
                "{{peer}}",
                BAD,
            ),
            events("Starts", starts(), "exporter started", "{{instance}}", QUIET, at_value=True),
            events("Reloads", reloads(), "configuration in use", "{{instance}}", QUIET, at_value=True),
            events(
                "Drift",
                f"sum by ({INTERFACE}) ({HOST('wireguard_config_drift')})",
                "differs from its file",
                "{{interface}} {{netns}}",
                NOTICE,
            ),
        ],
        rows=[
            _numbers(),
            [_peers()],
            [_states(), _interfaces()],
            [row("Interfaces")],
            _links(),
            [row("Peers")],
            _traffic(),
            _packets(),
            [row("The exporter itself")],
            _exporter(),
        ],
    )


def _numbers() -> list[Panel]:
    return [
        stat(
            "Exporter",
            "Whether the exporter answers. If it does not, nothing below is news.",
            [now(f"max({silent_exporters()})")],
            mappings=words({"0": ("answers", GOOD), "1": ("no answer", BAD)}),
            nothing="never seen",
        ),
        stat(
            "Peers by state",
            "Only peers that are expected up can be down. Idle: nothing is sent, and nothing is wrong. Never: not "
            "expected, and not heard of since the interface was set up. Peers that are not judged yet are not counted.",
            [now(in_state(HOST, state), state) for state in STATE_COLORS],
            width=9,
            show="value_and_name",
            tint="value",
            nothing="none judged",
            overrides=[
                override("byName", state, thresholds=steps((1, color), first=MUTED))
                for state, color in STATE_COLORS.items()
            ],
        ),
        stat(
            "Interfaces down",
            "Interfaces that are down, or that are expected and gone.",
            [now(f"sum({HOST('wireguard_interface_up')} == bool 0)")],
            thresholds=steps((1, BAD)),
        ),
        stat(
            "MTU faults",
            "Probed peers to which full-size packets get lost or are fragmented.",
            [now(mtu_faults(HOST))],
            thresholds=steps((1, WARN)),
            nothing="none probed",
        ),
        stat(
            "Worst loss",
            "The part of the probes of the last five minutes that got no answer, of the tunnel that loses most.",
            [now(f"max(\n{loss(HOST, recent=True)}\n)")],
            unit="percentunit",
            thresholds=LOSSY,
            nothing="none probed",
        ),
        stat(
            "Not read",
            "Sources and devices that the exporter could not read: what it says of them is missing or old.",
            [now(f"sum(\n{unread(HOST)}\n)")],
            thresholds=steps((1, BAD)),
        ),
    ]


def _peers() -> Panel:
    return table(
        "Peers",
        "Every configured peer. Handshake: how long ago; a tunnel that carries data has one every two minutes, an idle "
        "one needs none. Receive and transmit are this host's view, round trip and loss those of five minutes. Quiet: "
        "it pages nobody, for somebody works on it. Fast: whether it answers fast echoes, by which traffic is moved. "
        "Click on a name for all there is about the peer.",
        [
            f"max by ({NAMED}) ({HOST('wireguard_peer_expected_up')})",
            state_number(HOST, PEER),
            f"max by ({PEER}, reason) ({HOST('wireguard_peer_reason')}) == 1",
            handshake_age(HOST, PEER),
            HOST.bits("wireguard_peer_receive_bytes_total", PEER),
            HOST.bits("wireguard_peer_transmit_bytes_total", PEER),
            round_trip(HOST, recent=True),
            loss(HOST, recent=True),
            f"max by ({PEER}, verdict) ({HOST('wireguard_mtu_verdict')}) == 1",
            f"max by ({PEER}, endpoint) ({HOST('wireguard_peer_info')})",
            f"{quiet_peers(HOST)}\nand on ({PEER}) {HOST('wireguard_peer_expected_up')}",
            f"{cause(HOST)} == 1",
            fast_up(HOST),
        ],
        [
            Column("Value #B", "State", width=90, mappings=STATE_NUMBERS, filled=True),
            Column("Value #K", "Quiet", width=70, mappings=QUIET_WORDS),
            Column("peer", "Peer", link=peer_link()),
            Column("interface", "Interface", width=110),
            Column("netns", "Netns", width=90),
            Column("reason", "Reason", width=180),
            Column("cause", "Cause", width=140),
            Column("Value #M", "Fast", width=60, mappings=FAST_WORDS),
            Column("Value #D", "Handshake", unit="s", width=95, decimals=1),
            Column("Value #E", "Receive", unit="bps", width=95),
            Column("Value #F", "Transmit", unit="bps", width=95),
            Column("Value #G", "Round trip", unit="s", width=95),
            Column("Value #H", "Loss", unit="percentunit", width=80, thresholds=LOSSY, decimals=1),
            Column("verdict", "MTU", width=150, mappings=VERDICT_WORDS),
            Column("endpoint", "Endpoint", width=190),
            Column("Value #A", "Expected", width=80, mappings=words({"1": ("up", "text"), "0": ("no", "text")})),
            *hidden("job", "instance", "public_key", "Value #C", "Value #I", "Value #J", "Value #L"),
        ],
        height=11,
        nothing="no peers",
        sort=[("State", True), ("Peer", False)],
    )


def _states() -> Panel:
    return timeline(
        "State of the peers",
        "Each peer over time. A gap is a time in which the peer was not judged, or the exporter gave no answer.",
        [over_time(state_number(HOST), PEER_LEGEND)],
        STATE_NUMBERS,
        width=14,
        height=9,
    )


def _interfaces() -> Panel:
    return table(
        "Interfaces",
        "Every WireGuard interface: whether it is up, its MTU, how many peers it has and how it is implemented. Drift: "
        "in how many places it differs from the file that describes it (`wg-exporter drift`). "
        "Quiet: neither it nor its peers page, for somebody works on it.",
        [
            f"max by ({INTERFACE}) ({HOST('wireguard_interface_up')})",
            f"max by ({INTERFACE}) ({HOST('wireguard_interface_mtu_bytes')})",
            f"max by ({INTERFACE}) ({HOST('wireguard_interface_peers')})",
            f"max by ({INTERFACE}, listen_port, backend) ({HOST('wireguard_interface_info')})",
            f"{quiet_interfaces(HOST)}\nand on ({INTERFACE}) {HOST('wireguard_interface_up')}",
            f"sum by ({INTERFACE}) ({HOST('wireguard_config_drift')})",
        ],
        [
            Column("interface", "Interface"),
            Column("netns", "Netns"),
            Column("Value #A", "Up", width=70, mappings=words({"1": ("up", GOOD), "0": ("down", BAD)}), filled=True),
            Column("Value #E", "Quiet", width=70, mappings=QUIET_WORDS),
            Column("Value #B", "MTU", width=70),
            Column("Value #C", "Peers", width=70),
            Column("listen_port", "Port", width=80),
            Column("Value #F", "Drift", width=70, thresholds=steps((1, NOTICE))),
            Column("backend", "Backend", width=110),
            *hidden("job", "instance", "Value #D"),
        ],
        width=10,
        nothing="no interfaces",
        sort=[("Up", False), ("Interface", False)],
    )


def _both_ways(title: str, description: str, what: str, unit: str) -> Panel:
    sides = (("receive", "in"), ("transmit", "out"))
    rates = [HOST.rate(f"wireguard_interface_{side}_{what}_total", INTERFACE) for side, _ in sides]
    if what == "bytes":
        rates = [f"8 * {rate}" for rate in rates]
    legends = [f"{DEVICE} {way}" for _, way in sides]
    queries = [over_time(rate, legend) for rate, legend in zip(rates, legends, strict=True)]
    return graph(title, description, queries, unit=unit, mirrored="B", width=6, at_least=10)


def _links() -> list[Panel]:
    return [
        _both_ways("Throughput", "Received upwards, sent downwards, as `ip -s link` counts.", "bytes", "bps"),
        _both_ways("Packets", "Received upwards, sent downwards.", "packets", "pps"),
        _both_ways(
            "Errors",
            "Upwards: received packets that were not authentic, replayed, or not from an allowed IP. Downwards: "
            "packets for which there is no peer, or whose peer has no endpoint yet, which is common.",
            "errors",
            "pps",
        ),
        _both_ways(
            "Drops",
            "Packets that this host dropped. Downwards mostly while a handshake was awaited: a peer does not answer.",
            "dropped",
            "pps",
        ),
    ]


def _traffic() -> list[Panel]:
    return [
        graph(
            "Receive",
            "What comes from each peer, keepalives, handshakes and probes included.",
            [over_time(HOST.bits("wireguard_peer_receive_bytes_total", NAMED), PEER_LEGEND)],
            unit="bps",
            width=6,
        ),
        graph(
            "Transmit",
            "What is sent to each peer, keepalives, handshakes and probes included.",
            [over_time(HOST.bits("wireguard_peer_transmit_bytes_total", NAMED), PEER_LEGEND)],
            unit="bps",
            width=6,
        ),
        graph(
            "Round trip",
            "The mean time until a probe through the tunnel was answered.",
            [over_time(round_trip(HOST, NAMED), PEER_LEGEND)],
            unit="s",
            every=PROBES,
            width=6,
        ),
        graph(
            "Loss",
            "The part of the probes that got no answer.",
            [over_time(loss(HOST, NAMED), PEER_LEGEND)],
            unit="percentunit",
            every=PROBES,
            limits=(0, 1),
            width=6,
        ),
    ]


def _packets() -> list[Panel]:
    return [
        graph(
            f"Packets {word}",
            f"{what} no handshakes and keepalives. Only where `accounting` is on.",
            [over_time(HOST.rate(f"wireguard_peer_{side}_packets_total", NAMED), PEER_LEGEND)],
            unit="pps",
            width=12,
            at_least=10,
        )
        for word, side, what in (
            ("received", "receive", "Packets that came out of the tunnel from each peer;"),
            ("sent", "transmit", "Packets for each peer;"),
        )
    ]


def _exporter() -> list[Panel]:
    return [
        graph(
            "Time to read",
            "How long the last read of each source took. A scrape waits for 2.5 s at most.",
            [
                over_time(
                    f"max by ({EXPORTER}, netns, source) ({FLEET('wireguard_exporter_source_duration_seconds')})",
                    "{{source}} {{netns}}",
                )
            ],
            unit="s",
            width=6,
        ),
        graph(
            "Probes sent late",
            "How late a probe was sent, at worst. If this grows, the host is too busy, and its round trips are not to "
            "be trusted.",
            [
                over_time(
                    f"max by ({EXPORTER}) ({FLEET('wireguard_exporter_probe_scheduling_delay_seconds')})",
                    "{{instance}}",
                )
            ],
            unit="s",
            width=6,
        ),
        graph(
            "CPU",
            "Processor time of all processes of the exporter; 100 % is one processor.",
            [
                over_time(
                    f"{FLEET.rate('process_cpu_seconds_total', EXPORTER)}\n"
                    f"and on ({EXPORTER}) {FLEET('wireguard_exporter_build_info')}",
                    "{{instance}}",
                )
            ],
            unit="percentunit",
            width=6,
        ),
        graph(
            "Memory",
            "Resident memory of all processes of the exporter.",
            [
                over_time(
                    f"max by ({EXPORTER}) ({FLEET('process_resident_memory_bytes')})\n"
                    f"and on ({EXPORTER}) {FLEET('wireguard_exporter_build_info')}",
                    "{{instance}}",
                )
            ],
            unit="bytes",
            width=6,
        ),
    ]
