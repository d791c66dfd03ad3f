"""What to do about a peer that is down or degraded: one line for each reason, for whoever is paged at night.

`wg-exporter show`, the page at `/` and docs/health.md say the same, for they all say it from here.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from wg_exporter.health.states import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

_MTU = "`wg-exporter mtu {interface} {peer}` shows where packets end, and what MTU to set."

_LINES: Mapping[Reason, str] = {
    Reason.INTERFACE_GONE: (
        "Bring {interface} up again (`wg-quick up`, or restart what made it). If it is gone for good, say so with "
        "`state: any` under `expect`, and reload."
    ),
    Reason.INTERFACE_DOWN: "`ip link set {interface} up`, and find out who took it down.",
    Reason.ONE_WAY: (
        "What it sends arrives, what we send does not: look for a firewall or NAT on the way out, and compare the "
        "endpoint that `wg-exporter show {interface} {peer}` prints with where the peer is."
    ),
    Reason.HANDSHAKE_UNANSWERED: (
        "Is the peer running, and has it this interface's public key? Then compare its endpoint and port "
        "(`wg-exporter show {interface} {peer}`) with where it is, and look for a firewall that drops UDP."
    ),
    Reason.NOT_SENT: (
        "`ip route get` its endpoint (`wg-exporter show {interface} {peer}` prints it): no route, an interface of this "
        "host that is down, or a firewall of its own."
    ),
    Reason.DATA_UNANSWERED: (
        "Its session still lives, so it broke minutes ago at most: look at the path to its endpoint "
        "(`wg-exporter show {interface} {peer}`), and whether the peer was restarted."
    ),
    Reason.NEVER_HEARD: (
        "Compare the public keys on both sides, then endpoint and port (`wg-exporter show {interface} {peer}`). "
        "Without an endpoint here, it is the peer that has to call. Not set up yet? `state: any` under `expect`."
    ),
    Reason.STALE_HANDSHAKE: (
        "It should have been heard by now: is the peer running, and does its endpoint "
        "(`wg-exporter show {interface} {peer}`) still lead to it?"
    ),
    Reason.MTU_BLACKHOLE: _MTU,
    Reason.MTU_INTERFACE_ABOVE_ROUTE: _MTU,
    Reason.MTU_INNER_PATH_SMALLER: _MTU,
    Reason.MTU_FRAGMENTED_LOCAL: _MTU,
    Reason.MTU_FRAGMENTED_PATH: _MTU,
    Reason.TARGET_SILENT: (
        "The tunnel works. `wg-exporter show {interface} {peer}` says where probes go: that host is off or drops "
        "echoes. Set another `target` under `peers`, or `probe: false`."
    ),
    Reason.LOSSY: (
        "Look for a full line or a bad one: compare with other peers, and test the path to its endpoint "
        "outside the tunnel."
    ),
    Reason.SLOW: (
        "Look for a full line or a longer route: compare with other peers, and test the path to its endpoint outside "
        "the tunnel."
    ),
}


def advice(reason: Reason, interface: str = "", peer: str = "") -> str:
    """One line that says what to do, with commands for this peer, or for any. They are quoted for a shell."""
    return _LINES[reason].format(
        interface=shlex.quote(interface) if interface else "INTERFACE",
        peer=shlex.quote(peer) if peer else "PEER",
    )
