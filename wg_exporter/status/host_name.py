"""What is worth a line about the host name of a peer's endpoint: that it leads elsewhere, or nowhere."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from wg_exporter.hostnames import MEANINGS
from wg_exporter.status.words import some_of

if TYPE_CHECKING:
    from wg_exporter.hostnames import EndpointName

WIDTH = 100  # characters of addresses in a line


def told(row: EndpointName, interface: str, public_key: str, endpoints: str = "full") -> str:
    """One line, with commands between backquotes; empty if there is nothing to say. `endpoints` as for the document."""
    named = f", {row.name}," if endpoints == "full" else f", {row.name.rpartition(':')[0]},"
    name = "" if endpoints == "off" else named
    if row.failure:
        return f"the host name in its file{name} could not be resolved: {MEANINGS[row.failure]}"
    if not row.mismatch:
        return ""
    if endpoints == "off":
        return "the host name in its file does not resolve to the endpoint in use"
    addresses = some_of(row.resolves_to, WIDTH)
    line = f"the host name in its file{name} now resolves to {addresses}, and not to the endpoint in use"
    if endpoints == "full" and row.reresolved is None:
        who = f"{shlex.quote(interface)} peer {public_key} endpoint {shlex.quote(row.name)}"
        line += f"; if the peer is there now: `wg set {who}`"
    return line
