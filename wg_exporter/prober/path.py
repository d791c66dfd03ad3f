"""One peer that is probed: its row, its small echoes, the machine that probes its MTU, and what was told of it.

No clock. Only this module compares what is known of a peer with what was told before.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from wg_exporter.probed import Verdict
from wg_exporter.prober.echo.track import EchoTarget
from wg_exporter.prober.mtu.probes import SMALL
from wg_exporter.prober.mtu.verdict import Tunnel
from wg_exporter.prober.wire.idents import Ident
from wg_exporter.prober.wire.sockets import SocketKey

if TYPE_CHECKING:
    from wg_exporter.probed import MtuReport, ProbePeer, ProbeStats
    from wg_exporter.prober.echo.track import Track
    from wg_exporter.prober.mtu.machine import PathMtu

CLOCK_JITTER = 0.5  # seconds: a time made of two clocks, which are read one after the other, moves a little


class Path:
    """One peer, by the `id` that the caller chose. `up` is None until a small echo was answered or lost."""

    __slots__ = (
        "active", "address", "echoed", "endpoint", "id", "inner_ident", "machine", "outer_ident", "outer_socket",
        "peer", "report", "scope", "stale", "track", "up",
    )  # fmt: skip

    def __init__(self, id: Any, peer: ProbePeer, machine: PathMtu) -> None:  # noqa: A002 - the word for it
        self.id = id
        self.machine = machine
        self.inner_ident, self.outer_ident = Ident(), Ident()  # of MTU probes
        self.track: Track | None = None  # of its small echoes, once they are sent
        self.up: bool | None = None
        self.report: MtuReport | None = None  # on its MTU, as last told
        self.echoed = False  # the statistics of small echoes have changed since they were told
        self.stale = True  # the report may have changed since it was told
        self.set(peer)

    def set(self, peer: ProbePeer) -> None:
        """Take a new row of the same peer."""
        self.peer = peer
        self.address = ip_address(peer.target).packed
        endpoint, _, zone = peer.endpoint.partition("%")
        self.endpoint = ip_address(endpoint).packed if endpoint else b""
        self.scope = int(zone) if zone.isdecimal() else 0
        self.active = bool(peer.ifindex and peer.mtu > SMALL and not peer.paused)
        outer = SocketKey(peer.underlay, len(self.endpoint) == 16, peer.fwmark)
        self.outer_socket = outer if endpoint else None

    def target(self) -> EchoTarget:
        """Where small echoes go: paused while byte counters are asked, somebody wants quiet, or there is no device."""
        peer = self.peer
        paused = self.machine.pause_echoes or not self.active
        return EchoTarget(self.id, peer.key[0], peer.ifindex, peer.target, peer.interval, paused)

    def new_stats(self) -> tuple[str, ProbeStats] | None:
        """The target and the statistics of its small echoes, if they changed since this was last asked."""
        if not self.echoed or self.track is None:
            return None
        self.echoed = False
        return self.peer.target, self.track.stats()

    def renew_report(self, now: float, wall: float) -> bool:
        """Make the report on its MTU again, if it may have changed; True if it has. It is None without a verdict."""
        if not self.stale:
            return False
        self.stale = False
        before, report = self.report, self.machine.report(now, wall)
        if before is not None and abs(report.checked - before.checked) < CLOCK_JITTER:
            report = report._replace(checked=before.checked)
        self.report = None if report.verdict is Verdict.UNKNOWN else report
        return self.report != before


def tunnel(peer: ProbePeer) -> Tunnel:
    """The tunnel to a peer, as its machine has to know it."""
    return Tunnel(peer.key[1], peer.mtu, peer.endpoint, peer.target, peer.roams, peer.ipv6_inside)


def usable(peer: ProbePeer) -> bool:
    """Whether the target is an IP address and the endpoint, which may be unknown yet, is one too or empty."""
    return is_address(peer.target) and (not peer.endpoint or is_address(peer.endpoint.partition("%")[0]))


def is_address(text: str) -> bool:
    """Whether this is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
