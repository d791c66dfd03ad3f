"""What more than one of the dashboards needs: their names, their variables, and how states and verdicts look.

The colours say how much a thing matters at night: red is broken, orange hurts, yellow is worth a look, blue is quiet,
and what nobody can judge has no colour.
"""

from __future__ import annotations

from grafana import BAD, GOOD, NOTICE, QUIET, UNKNOWN, WARN, Json, cell, datasource, link, variable, words
from panels import Column
from promql import FAULTS, FLEET, HOST, STATES

FLEET_UID, HOST_UID, PEER_UID = "wg-exporter-fleet", "wg-exporter-host", "wg-exporter-peer"

# The worst first.
STATE_COLORS = {"down": BAD, "degraded": WARN, "up": GOOD, "idle": QUIET, "never": UNKNOWN}

STATE_NUMBERS = words({str(number): (state, STATE_COLORS[state]) for state, number in STATES.items()})
STATE_WORDS = words(
    {
        **{state: (state, color) for state, color in STATE_COLORS.items()},
        "not read": ("not read", BAD),
        "no answer": ("no answer", BAD),
    }
)
# What somebody works on pages nobody: `wg-exporter quiet`.
QUIET_WORDS = words({"1": ("quiet", QUIET)})
# By fast echoes, for failover. Not red: a peer that stays down is down by its state a moment later.
FAST_WORDS = words({"1": ("up", GOOD), "0": ("down", WARN)})
VERDICT_WORDS = words(
    {
        "ok": ("ok", GOOD),
        **{verdict: (verdict, NOTICE) for verdict in ("remote_smaller", "filtered_large")},
        **{fault: (fault, BAD if fault == "blackhole" else WARN) for fault in FAULTS.split("|")},
    }
)

# The name of a peer and where it is, for legends on dashboards of one host and of one peer.
PEER_LEGEND = "{{peer}} {{netns}} {{interface}}"
PEER_ANYWHERE = "{{peer}} on {{instance}}"

JOB = variable("job", "Job", "label_values(wireguard_exporter_build_info, job)")
INSTANCE_QUERY = 'label_values(wireguard_exporter_build_info{job=~"$job"}, instance)'
INTERFACE = variable("interface", "Interface", f"label_values({FLEET('wireguard_interface_up')}, interface)")
# The value is the key and only what one reads is the name: a link to a peer survives that it is renamed.
PEER = variable(
    "peer",
    "Peer",
    f"query_result(max by (peer, public_key) (last_over_time({HOST('wireguard_peer_expected_up')}[$__range])))",
    '/peer="(?<text>.*)",public_key="(?<value>[^"]+)"/',
    all_at_first=False,
)


def variables(*more: Json, all_hosts: bool) -> list[Json]:
    """The variables that every dashboard begins with, and more."""
    return [datasource(), JOB, variable("instance", "Instance", INSTANCE_QUERY, all_at_first=all_hosts), *more]


def host_link() -> Json:
    """From a row of a table to the dashboard of its host."""
    return link("Show this host", HOST_UID, job=cell("job"), instance=cell("instance"))


def peer_link() -> Json:
    """From a row of a table to the dashboard of its peer."""
    row = {name: cell(name) for name in ("job", "instance", "interface")}
    return link("Show this peer", PEER_UID, **row, peer=cell("public_key"))


def hidden(*fields: str) -> list[Column]:
    """Columns that are not shown, but may be needed in a link."""
    return [Column(field) for field in fields]
