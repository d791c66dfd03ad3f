"""The first dashboard to open: is anything broken, where, and since when, over all exporters.

Read from the top: the numbers say whether, the table says where and since when and why, the timeline says whether it
is new. Nothing that is broken is only further down, and a number is green only if something was there to be counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana import BAD, GOOD, NOTICE, WARN, Panel, link, now, page, steps, words
from grafana import target as over_time
from panels import Column, graph, stat, table, timeline
from promql import (
    EXPORTER,
    FLEET,
    INTERFACE,
    NAMED,
    PEER,
    PROBES,
    cause,
    in_state,
    labelled,
    last_change,
    loss,
    mtu_faults,
    quiet_interfaces,
    quiet_peers,
    round_trip,
    silent_exporters,
    union,
    unread,
)
from shared import FLEET_UID, HOST_UID, QUIET_WORDS, STATE_WORDS, hidden, host_link, peer_link, variables

if TYPE_CHECKING:
    from grafana import Json

BROKEN = steps((1, BAD))
# Alerts that speak of several hosts, such as a hub that is down, have no instance; so these are chosen by their names.
ALERTS = 'alertname=~"WireGuard.+"'
FIRING = f'ALERTS{{alertstate="firing", {ALERTS}}}'
ALERT_LABELS = "alertname, severity, job, instance, netns, interface, public_key, peer"
SEVERITIES = words({"critical": ("critical", BAD), "warning": ("warning", WARN), "info": ("info", NOTICE)})

# How bad a host is doing, as the number of its worst part.
FINE, UNREAD, DEGRADED, DOWN, SILENT = range(5)
HOSTS = words(
    {
        str(FINE): ("fine", GOOD),
        str(UNREAD): ("not read", NOTICE),
        str(DEGRADED): ("degraded", WARN),
        str(DOWN): ("down", BAD),
        str(SILENT): ("no answer", "purple"),
    }
)


def dashboard() -> Json:
    """The dashboard as Grafana's JSON."""
    return page(
        FLEET_UID,
        "WireGuard / Fleet",
        "Is anything broken, where, and since when: every tunnel of every exporter.",
        variables=variables(all_hosts=True),
        rows=[_numbers(), [_broken(), _alerts()], [_hosts(), _outages()], _traffic()],
    )


def _numbers() -> list[Panel]:
    expected = FLEET("wireguard_peer_expected_up")
    return [
        stat(
            "Peers down",
            "Peers that should be up and are not. The table below says which, why and since when.",
            [now(in_state(FLEET, "down"))],
            thresholds=BROKEN,
        ),
        stat(
            "Peers degraded",
            "Peers that answer, but lose packets, are slower than they used to be, or have an MTU fault.",
            [now(in_state(FLEET, "degraded"))],
            thresholds=steps((1, WARN)),
        ),
        stat(
            "Interfaces down",
            "WireGuard interfaces that are down, or that are expected and gone.",
            [now(f"sum({FLEET('wireguard_interface_up')} == bool 0)")],
            thresholds=BROKEN,
        ),
        stat(
            "MTU faults",
            "Probed peers to which full-size packets get lost or are fragmented.",
            [now(mtu_faults(FLEET))],
            thresholds=steps((1, WARN)),
            nothing="none probed",
        ),
        stat(
            "Exporters silent",
            "Exporters that answered within the last day and do not answer now: nothing is known of their tunnels.",
            [now(f"sum({silent_exporters()})")],
            thresholds=BROKEN,
        ),
        stat(
            "Not read",
            "Sources and devices that an exporter could not read: what it says of them is missing or old.",
            [now(f"sum(\n{unread(FLEET)}\n)")],
            thresholds=BROKEN,
        ),
        stat(
            "Alerts firing",
            "Firing alerts of the rules that come with this exporter.",
            [now(f"count({FIRING}) or vector(0)")],
            thresholds=BROKEN,
        ),
        stat(
            "Peers",
            "How many peers should always be up, of how many that are configured; and how many page nobody at the "
            "moment, as somebody works on them.",
            [
                now(f"sum({expected})", "expected up"),
                now(f"count({expected})", "configured"),
                now(f"count({FLEET('wireguard_peer_quiet')})", "quiet"),
            ],
            tint="none",
            show="value_and_name",
        ),
    ]


def _broken() -> Panel:
    return table(
        "Broken now",
        "Everything that is not as it should be at this moment. Since: when the state began, as the exporter saw it; "
        "for interfaces, sources and exporters the last time they were seen well. Cause: why a peer is not well, where "
        "that was found out. Quiet: it pages nobody, for somebody works on it. Click on a name to go there.",
        [_what_is_broken(), _since(), _quiet(), f"{cause(FLEET)}\nand on ({PEER}) {FLEET('wireguard_peer_reason')}"],
        [
            Column("state", "State", width=90, mappings=STATE_WORDS, filled=True),
            Column("what", "What", width=80),
            Column("instance", "Instance", link=host_link()),
            Column("netns", "Netns", width=80),
            Column("interface", "Interface", width=110),
            Column("peer", "Peer", link=peer_link()),
            Column("reason", "Reason", width=190),
            Column("cause", "Cause", width=150),
            Column("Value #B", "Since", unit="dateTimeFromNow", width=135, mappings=words({}, "before it was watched")),
            Column("Value #C", "Quiet", width=70, mappings=QUIET_WORDS),
            *hidden("job", "public_key", "Value #A", "Value #D"),
        ],
        width=14,
        nothing="nothing is broken",
        sort=[("State", True), ("Since", True)],
    )


def _what_is_broken() -> str:
    device_down = f"max by ({INTERFACE}) ({FLEET('wireguard_interface_up')}) == 0"
    device_unread = f"max by ({INTERFACE}) ({FLEET('wireguard_interface_read_success')}) == 0"
    source = f"max by ({EXPORTER}, netns, source) ({FLEET('wireguard_exporter_source_success')}) == 0"
    peers = f"max by ({NAMED}, state, reason) ({FLEET('wireguard_peer_reason')})"
    named = f'label_replace({source}, "reason", "$1", "source", "(.+)")'
    return union(
        labelled(peers, what="peer"),
        labelled(device_down, what="interface", state="down", reason="down or gone"),
        labelled(device_unread, what="interface", state="not read", reason="see the log of the exporter"),
        f"max by ({EXPORTER}, netns, what, state, reason) (\n{labelled(named, what='source', state='not read')}\n)",
        labelled(f"({silent_exporters()}) == 1", what="exporter", state="no answer", reason="no scrape succeeds"),
    )


def _since() -> str:
    """When each of them broke, in milliseconds since 1970."""
    return union(
        f"{last_change(FLEET, PEER)}\nand on ({PEER}) {FLEET('wireguard_peer_reason')}",
        f"{_last_well(FLEET('wireguard_interface_up') + ' == 1', INTERFACE)}\n"
        f"and on ({INTERFACE}) {FLEET('wireguard_interface_up')} == 0",
        f"{_last_well(FLEET('wireguard_exporter_build_info'), EXPORTER)}\n"
        f"and on ({EXPORTER}) (({silent_exporters()}) == 1)",
    )


def _quiet() -> str:
    """Which of them page nobody."""
    return union(
        f"{quiet_peers(FLEET)}\nand on ({PEER}) {FLEET('wireguard_peer_reason')}",
        f"{quiet_interfaces(FLEET)}\nand on ({INTERFACE}) {FLEET('wireguard_interface_up')} == 0",
        f"{quiet_interfaces(FLEET)}\nand on ({INTERFACE}) {FLEET('wireguard_interface_read_success')} == 0",
    )


def _last_well(well: str, by: str) -> str:
    """When there was such a series for the last time, to the minute, looking back a day."""
    return f"1000 * max by ({by}) (max_over_time(timestamp({well})[1d:1m]))"


def _alerts() -> Panel:
    begun = f"ALERTS_FOR_STATE{{{ALERTS}}} and ignoring (alertstate) {FIRING}"
    return table(
        "Firing alerts",
        "Alerts of the rules that come with this exporter, on all hosts, whatever is chosen above.",
        [
            f"max by ({ALERT_LABELS}) (\n{_with_key(FIRING)}\n)",
            # In milliseconds, as Grafana counts.
            f"1000 * min by ({ALERT_LABELS}) (\n{_with_key(begun)}\n)",
        ],
        [
            Column("severity", "Severity", width=80, mappings=SEVERITIES, filled=True),
            Column("alertname", "Alert", width=200),
            Column("instance", "Instance", link=host_link(), mappings=words({}, "several")),
            Column("peer", "Peer", link=peer_link()),
            Column("Value #B", "Since", unit="dateTimeFromNow", width=135),
            *hidden("job", "netns", "interface", "public_key", "Value #A"),
        ],
        width=10,
        nothing="no alert is firing",
        sort=[("Severity", False), ("Since", True)],
    )


def _with_key(alerts: str) -> str:
    """What several hosts say of one peer names no peer, for it may have other names there: then its key."""
    joined = f'label_join({alerts}, "peer", "\\t", "peer", "public_key")'
    named = f'label_replace({joined}, "peer", "$1", "peer", "(.+)\\t.*|\\t")'
    return f'label_replace({named}, "peer", "key $1", "peer", "\\t(.{{8}}).*")'


def _hosts() -> Panel:
    # Of two series with the same labels the first one counts: so what is worse comes first, and alone, without zeros.
    worst = union(
        f"{SILENT} * ({silent_exporters()})",
        f"{DOWN} * {FLEET('wireguard_peer_state', state='down')}",
        f"{DEGRADED} * {FLEET('wireguard_peer_state', state='degraded')}",
        f"{DOWN} + ({FLEET('wireguard_interface_up')} == 0)",
        f"{UNREAD} + ({FLEET('wireguard_interface_read_success')} == 0)",
        f"{UNREAD} + ({FLEET('wireguard_exporter_source_success')} == 0)",
    )
    there = link(
        "Show this host",
        HOST_UID,
        job="${__field.labels.job:percentencode}",
        instance="${__field.labels.instance:percentencode}",
    )
    return timeline(
        "Hosts",
        "The worst that holds at each host: the exporter does not answer, a peer or an interface is down, a peer is "
        "degraded, something can't be read. A gap is a time in which Prometheus knew nothing of the host.",
        [over_time(f"max by ({EXPORTER}) (\n{worst}\n)", "{{instance}}")],
        HOSTS,
        width=14,
        links=[there],
    )


def _outages() -> Panel:
    down = f"increase({FLEET('wireguard_peer_down_seconds_total')}[$__range])"
    changes = f"increase({FLEET('wireguard_peer_state_changes_total')}[$__range])"
    return table(
        "Outages in this range of time",
        "How long each peer was down in the range of time that is chosen above, and how often its state changed. What "
        "happened between two scrapes is counted too.",
        [
            f"sum by ({NAMED}) ({down}) > 0",
            f"sum by ({NAMED}) ({changes})\nand on ({PEER}) (sum by ({PEER}) ({down}) > 0)",
        ],
        [
            Column("instance", "Instance", link=host_link()),
            Column("peer", "Peer", link=peer_link()),
            Column("Value #A", "Down for", unit="s", width=110, decimals=1),
            Column("Value #B", "Changes", unit="none", width=90, decimals=0),
            *hidden("job", "netns", "interface", "public_key"),
        ],
        width=10,
        height=8,
        nothing="no peer was down",
        sort=[("Down for", True)],
    )


def _traffic() -> list[Panel]:
    return [
        graph(
            "Traffic",
            "What goes through the tunnels of each host: received upwards, sent downwards.",
            [
                over_time(FLEET.bits("wireguard_interface_receive_bytes_total", EXPORTER), "{{instance}} in"),
                over_time(FLEET.bits("wireguard_interface_transmit_bytes_total", EXPORTER), "{{instance}} out"),
            ],
            unit="bps",
            mirrored="B",
        ),
        graph(
            "Loss, worst tunnel of each host",
            "The part of the probes that got no answer. A tunnel that is down loses all of them.",
            [over_time(f"max by ({EXPORTER}) (\n{loss(FLEET)}\n)", "{{instance}}")],
            unit="percentunit",
            every=PROBES,
            limits=(0, 1),
            thresholds=steps((0.1, WARN), first="transparent"),
        ),
        graph(
            "Round trip, slowest tunnel of each host",
            "The mean time until a probe through the tunnel was answered.",
            [over_time(f"max by ({EXPORTER}) (\n{round_trip(FLEET)}\n)", "{{instance}}")],
            unit="s",
            every=PROBES,
        ),
    ]
