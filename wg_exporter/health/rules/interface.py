"""Peers whose interface is gone or down."""

from __future__ import annotations

from wg_exporter.health.rules.rule import Rule, after
from wg_exporter.health.states import Reason, State

RULES = (
    Rule(
        State.DOWN,
        Reason.INTERFACE_GONE,
        "Its interface does not exist any more.",
        "Bring {interface} up again (`wg-quick up`, or restart what made it). If it is gone for good, say so with "
        "`state: any` under `expect`, and reload.",
        lambda seen, limits: after(seen.place.gone_since, limits.down_after),
    ),
    Rule(
        State.DOWN,
        Reason.INTERFACE_DOWN,
        "Its interface is administratively down.",
        "`ip link set {interface} up`, and find out who took it down.",
        lambda seen, limits: after(seen.place.down_since, limits.down_after),
    ),
)
