"""What to do about a peer that is down or degraded: the rule's line, for whoever is paged at night.

`wg-exporter show`, the page at `/` and docs/health.md all take it from here.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from wg_exporter.health.rules import RULES

if TYPE_CHECKING:
    from wg_exporter.health.states import Reason

_LINES = {rule.reason: rule.advice for rule in RULES if rule.reason}


def advice(reason: Reason, interface: str = "", peer: str = "", config_file: str = "", entry: str = "") -> str:
    """One line that says what to do, with commands for this peer, quoted for a shell; without names, for any peer.

    With a `config_file`, `wg-exporter mtu` is told of it: it probes by itself. `entry` is what a command begins with to
    be run in the namespace of the interface.
    """
    lines = _LINES[reason]
    if config_file:
        option = shlex.quote(f"--config.file={config_file}").replace("{", "{{").replace("}", "}}")
        lines = lines.replace("wg-exporter mtu ", f"wg-exporter mtu {option} ")
    return lines.format(
        interface=shlex.quote(interface) if interface else "INTERFACE",
        peer=shlex.quote(peer) if peer else "PEER",
        entry=entry,
    )
