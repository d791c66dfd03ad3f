"""What to do about a peer, for a person at night: the advice of its reason, with commands to copy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wg_exporter.health.advice import advice
from wg_exporter.status.rows import whose

if TYPE_CHECKING:
    from wg_exporter.status.rows import DeviceRow, PeerRow

# A name that can stand in a command as it is. Of others the key is taken: quoting would be right, and unreadable.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def what_to_do(peer: PeerRow, device: DeviceRow, config_file: str = "") -> str:
    """One line, with commands between backquotes; empty if nothing is wrong. `config_file` is the exporter's."""
    if not peer.health.reason:
        return ""
    who = peer.name if _PLAIN.fullmatch(peer.name) else peer.peer.public_key
    return advice(peer.health.reason, whose(device)[1], who, config_file, device.entry)
