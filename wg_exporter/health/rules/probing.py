"""Peers that are heard, while probes, or routes and allowed IPs, show that something is wrong with the tunnel."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from wg_exporter.health.rules.rule import NO_TIME, Given, Rule, Span, heard
from wg_exporter.health.states import Reason, State
from wg_exporter.health.timing import ANSWER_SECONDS, OBSTRUCTED_SECONDS, SETTLED_SECONDS
from wg_exporter.probed import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.evidence import Evidence


def _target_silent(seen: Evidence, limits: HealthLimits) -> Span:
    silent, heard_data = seen.target_silent_since, seen.heard_data
    if silent is None or heard_data is None or heard_data - silent < ANSWER_SECONDS:
        return NO_TIME
    # Whoever was down for hearing nothing, in the same silence, has not come back.
    same = silent < seen.since and seen.reason in {Reason.ONE_WAY, Reason.TARGET_SILENT}
    if seen.state is State.DOWN and not same:
        return NO_TIME
    return -inf if same else seen.risen + SETTLED_SECONDS, heard(seen, limits)[1]


def _degraded(reason: Reason, meaning: str, advice: str, holds: Callable[[Evidence], bool]) -> Rule:
    """A rule for what probes show (`holds`), as long as the peer is heard."""
    return Rule(
        State.DEGRADED,
        reason,
        meaning,
        advice,
        lambda seen, limits: heard(seen, limits) if holds(seen) else NO_TIME,
        Given.PROBED,
    )


def _obstructed(reason: Reason, meaning: str, advice: str) -> Rule:
    """A rule for what keeps users' packets from a peer, as long as the peer is heard."""

    def span(seen: Evidence, limits: HealthLimits) -> Span:
        if seen.obstacle is None or seen.obstacle.reason is not reason:
            return NO_TIME
        return seen.obstructed_since + OBSTRUCTED_SECONDS, heard(seen, limits)[1]

    return Rule(State.DEGRADED, reason, meaning, advice, span)


def _mtu(reason: Reason, verdict: Verdict, meaning: str) -> Rule:
    advice = "`wg-exporter mtu {interface} {peer}` shows where packets end, and what MTU to set."
    return _degraded(reason, meaning, advice, lambda seen: seen.verdict is verdict)


RULES = (
    _obstructed(
        Reason.NOT_ALLOWED,
        "WireGuard sends it nothing of what users send to its target: its allowed IPs do not cover that address, or "
        "another peer has it.",
        "`{entry}wg show {interface} allowed-ips` says which peer gets what. Of two peers with the same allowed IP, "
        "the one that was set last has it. Correct `AllowedIPs`, or the `target` under `peers`.",
    ),
    _obstructed(
        Reason.NOT_ROUTED,
        "Probes are bound to the interface and may pass; what users send to its target does not: this host has no "
        "route for it, or one that leads elsewhere.",
        "`{entry}ip route get` its target (`wg-exporter show {interface} {peer}` prints it) says where packets go, "
        "`{entry}ip rule` which tables decide. Set the route again (`{entry}ip route add TARGET dev {interface}`). If "
        "it is meant to be so, say `routes: ignore` for {interface} under `interfaces: settings`.",
    ),
    _mtu(Reason.MTU_BLACKHOLE, Verdict.BLACKHOLE, "Full-size packets vanish without a word."),
    _mtu(
        Reason.MTU_INTERFACE_ABOVE_ROUTE,
        Verdict.INTERFACE_ABOVE_ROUTE,
        "This host itself refuses packets as large as the interface's MTU.",
    ),
    _mtu(
        Reason.MTU_INNER_PATH_SMALLER,
        Verdict.INNER_PATH_SMALLER,
        "A hop inside the tunnel, behind the peer, takes no full-size packets.",
    ),
    _mtu(
        Reason.MTU_FRAGMENTED_LOCAL, Verdict.FRAGMENTED_LOCAL, "This host sends full packets to the peer in fragments."
    ),
    _mtu(Reason.MTU_FRAGMENTED_PATH, Verdict.FRAGMENTED_PATH, "Full packets are fragmented on the way to the peer."),
    _degraded(
        Reason.PROBES_BLOCKED,
        "This host refuses to send probes to it. Whether users' packets pass is not known.",
        "Most often it is a firewall of this host, in its output chain, or allowed IPs that do not cover the target: "
        "`wg-exporter show {interface} {peer}` says where probes go. Let ICMP echoes pass there, or set another "
        "`target` under `peers`, or `probe: false`.",
        lambda seen: seen.refused is not None,
    ),
    Rule(
        State.DEGRADED,
        Reason.TARGET_SILENT,
        "The peer is heard, but the address inside the tunnel that used to answer probes does not.",
        "`wg-exporter show {interface} {peer}` says where probes go. Does another address behind the peer answer "
        "(`{entry}ping -I {interface}`)? Then only that host is off or drops echoes: set another `target` under "
        "`peers`, or `probe: false`. If none does, what we send is lost behind the peer's WireGuard: its allowed IPs "
        "must cover the addresses of {interface}, and its firewall and rp_filter let them in.",
        _target_silent,
        Given.PROBED,
    ),
    _degraded(
        Reason.LOSSY,
        "At least `health.loss` of the probes were lost within `health.window`.",
        "Look for a full line or a bad one: compare with other peers, and test the path to its endpoint outside the "
        "tunnel.",
        lambda seen: seen.quality is not None and seen.quality.lossy,
    ),
    _degraded(
        Reason.SLOW,
        "Round trips take `health.slow_factor` times as long as is usual for this peer, and at least 20 ms longer.",
        "Look for a full line or a longer route: compare with other peers, and test the path to its endpoint outside "
        "the tunnel.",
        lambda seen: seen.quality is not None and seen.quality.slow,
    ),
)
