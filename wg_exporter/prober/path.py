"""One peer that is probed: its row, the machine that probes its MTU, and what is known and was told of it. No clock."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from wg_exporter.model import Probed, Verdict
from wg_exporter.prober.echo.track import EchoTarget
from wg_exporter.prober.mtu.probes import SMALL
from wg_exporter.prober.mtu.verdict import Tunnel
from wg_exporter.prober.wire.sockets import LaneKey

if TYPE_CHECKING:
    from wg_exporter.model import ProbePeer, ProbeStats
    from wg_exporter.prober.mtu.machine import PathMtu


class Path:
    """One peer and its machine. `up` is None until a small echo has had its fate, `told` what was last told of it."""

    __slots__ = ("active", "address", "endpoint", "lanes", "mtu", "peer", "scope", "stale", "stats", "told", "up")

    def __init__(self, peer: ProbePeer, mtu: PathMtu) -> None:
        self.mtu = mtu
        self.up: bool | None = None
        self.stats: ProbeStats | None = None
        self.told: Probed | None = None
        self.stale = True  # the report may have changed
        self.set(peer)

    def set(self, peer: ProbePeer) -> None:
        """It is this row from now on."""
        self.peer = peer
        self.address = ip_address(peer.target).packed
        endpoint, _, zone = peer.endpoint.partition("%")
        self.endpoint = ip_address(endpoint).packed if endpoint else b""
        self.scope = int(zone) if zone.isdecimal() else 0
        self.active = bool(peer.ifindex and peer.mtu > SMALL)
        inner = LaneKey(peer.key[0], len(self.address) == 16)
        outer = LaneKey(peer.underlay, len(self.endpoint) == 16, peer.fwmark)
        self.lanes = {inner, outer} if endpoint else {inner}  # what MTU probes leave by

    def target(self) -> EchoTarget:
        """What small echoes are to be sent: none while the byte counters are asked, or there is no device."""
        peer = self.peer
        paused = self.mtu.pause_echoes or not self.active
        return EchoTarget(peer.key, peer.key[0], peer.ifindex, peer.target, peer.interval, paused)

    def news(self, now: float, wall: float) -> Probed | None:
        """What is known, if it is not what was told before. The report is the same object while nothing changed.

        Before the fate of a first probe is known there is nothing to tell: "not up" would be wrong.
        """
        stats = self.stats
        if stats is None or not (stats.sent or stats.errors):
            return None
        before = self.told.mtu if self.told is not None else None
        report = before
        if self.stale:
            self.stale = False
            report = self.mtu.report(now, wall)
            if before is not None and abs(report.checked - before.checked) < 0.5:  # two clocks, read one by one
                report = report._replace(checked=before.checked)
            if report == before:
                report = before
            elif report.verdict is Verdict.UNKNOWN:
                report = None
        news = Probed(self.peer.target, stats, report)
        if news == self.told:
            return None
        self.told = news
        return news


def tunnel(peer: ProbePeer) -> Tunnel:
    """What its machine has to know of a peer."""
    return Tunnel(peer.key[1], peer.mtu, peer.endpoint, peer.target, peer.roams, peer.ipv6_inside)


def usable(peer: ProbePeer) -> bool:
    """Whether its addresses are some. The target's is needed; an endpoint may be unknown yet."""
    return _address(peer.target) and (not peer.endpoint or _address(peer.endpoint.partition("%")[0]))


def _address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
