"""Peers whose interface is gone or down, or whose daemon hangs."""

from __future__ import annotations

from wg_exporter.health.rules.rule import NO_TIME, Rule, after
from wg_exporter.health.states import Reason, State

RULES = (
    Rule(
        State.DOWN,
        Reason.INTERFACE_GONE,
        "Its interface does not exist any more.",
        "Bring {interface} up again (`{entry}wg-quick up`, or restart what made it). If it is gone for good, say so "
        "with `state: any` under `expect`, and reload.",
        lambda seen, limits: after(seen.place.gone_since, limits.down_after),
    ),
    Rule(
        State.DOWN,
        Reason.INTERFACE_DOWN,
        "Its interface is administratively down.",
        "`{entry}ip link set {interface} up`, and find out who took it down.",
        lambda seen, limits: after(seen.place.down_since, limits.down_after),
    ),
    Rule(
        State.DOWN,
        Reason.UNREADABLE,
        "The daemon of its userspace interface does not answer, and neither does any peer of the interface that is "
        "probed: it hangs.",
        "Look at the process that made {interface} (`pgrep -a wireguard`), and restart it.",
        lambda seen, limits: after(seen.place.hung_since, limits.down_after),
    ),
    # There is no evidence of a peer that is not there, so this is decided in missing.py.
    Rule(
        State.DOWN,
        Reason.MISSING,
        "It left its device, while its file still describes it, or the configuration waits for it. It is `degraded` if "
        "nobody expects it up, or if a file that has not changed for 10 minutes describes it and it was never there.",
        "`{entry}wg show {interface}` does not list it. Load the file again (`{entry}wg syncconf {interface} "
        "<(wg-quick strip {interface})`, or `networkctl reload`); if it is gone for good, remove it from the file.",
        lambda _seen, _limits: NO_TIME,
    ),
)
