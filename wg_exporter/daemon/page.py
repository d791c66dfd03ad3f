"""What the page at `/` says of the host, in words. Made when somebody opens it, from what the last tick knew."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wg_exporter.health.advice import advice
from wg_exporter.health.states import State
from wg_exporter.status.mtu import told
from wg_exporter.web.landing import Group, PeerRow, Status, UnhealthyRow

if TYPE_CHECKING:
    from wg_exporter.daemon.exporter import Exporter
    from wg_exporter.daemon.host import KnownPeers
    from wg_exporter.health.quality import Window
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.health.summary import UnhealthyPeer
    from wg_exporter.probed import Probed

# A name that can stand in a command as it is. Of others the key is taken: quoting would be right, and unreadable.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def status_of(exporter: Exporter) -> Status:
    """How the host is."""
    found, teller, probes, entries = exporter.status(), exporter.teller, exporter.probed(), exporter.entries()
    said = found.summary
    unhealthy = tuple(
        _unhealthy(
            peer,
            probes.get((peer.netns, peer.interface), {}).get(peer.public_key),
            teller.config_file,
            entries.get(peer.netns, ""),
        )
        for peer in said.unhealthy
    )
    counts = (said.expected, said.down, said.degraded, said.open)
    groups = tuple(map(_group, exporter.peers()))
    return Status(found.wall, *counts, unhealthy, found.problems, teller.host, groups, found.others, said.idle)


def _unhealthy(peer: UnhealthyPeer, probed: Probed | None, config_file: str, entry: str) -> UnhealthyRow:
    health, reason = peer.health, peer.health.reason
    line = ""
    if reason:
        who = peer.name if _PLAIN.fullmatch(peer.name) else peer.public_key
        line = advice(reason, peer.interface, who, config_file, entry)
    report = probed.mtu if probed and reason and reason.startswith("mtu_") else None
    found = told(report, peer.interface, probed.target, entry) if probed and report else ""
    return UnhealthyRow(
        peer.name,
        _place((peer.netns, peer.interface)),
        health.state or "",
        reason or "",
        health.evidence,
        line,
        health.changed_at,
        health.state is State.DOWN,
        health.reason_at,
        found,
    )


def _group(known: KnownPeers) -> Group:
    rows = zip(known.public_key, known.metas, known.rows, strict=True)
    return Group(
        _place(known.device),
        tuple(
            PeerRow(meta.name, health.state or "not known", _facts(health, known.windows.get((*known.device, key))))
            for key, meta, health in rows
        ),
    )


def _facts(health: PeerHealth, window: Window | None) -> str:
    """The reason and, of a peer that is not down, round trip and loss as they are now."""
    facts = [health.reason.value] if health.reason else []
    if window is not None and health.state is not State.DOWN:
        facts += [f"{window.rtt * 1e3:.1f} ms"] if window.rtt is not None else []
        facts += [f"{window.loss:.1%} lost"] if window.loss else []
    return ", ".join(facts)


def _place(device: tuple[str, str]) -> str:
    netns, interface = device
    return f"{interface} in {netns}" if netns else interface
