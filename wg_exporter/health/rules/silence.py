"""Peers that are not heard: they do not answer, never came, or are silent for too long."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from wg_exporter.health.rules.rule import ANY_TIME, NO_TIME, Given, Rule, Span, after
from wg_exporter.health.rules.timing import (
    ACKNOWLEDGED_SECONDS,
    ANSWER_SECONDS,
    ATTEMPTS,
    FIRST_ATTEMPTS,
    JUDGED_SECONDS,
    STALE_SECONDS,
)
from wg_exporter.health.states import Reason, State

if TYPE_CHECKING:
    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.evidence import Evidence


def unanswered(seen: Evidence, limits: HealthLimits) -> Span:
    """Enough attempts went unanswered (`ATTEMPTS`), for `down_after` since an answer was due."""
    asked = seen.unanswered_since
    if asked is None or seen.attempts < (ATTEMPTS if seen.judged else FIRST_ATTEMPTS):
        return NO_TIME
    if not seen.judged:
        left = seen.first_seen + JUDGED_SECONDS - asked
        return asked + min(limits.down_after, max(left, ANSWER_SECONDS)), inf
    # An answer to an initiation, or to a probe of a target that answers, is due at once; one to other data later.
    due, overdue = asked + ACKNOWLEDGED_SECONDS, seen.overdue_since
    return (due if overdue is None or overdue > due else overdue) + limits.down_after, inf


def _stale(seen: Evidence, limits: HealthLimits) -> Span:
    """The last sign is too old. Without persistent keepalive, age proves nothing."""
    if not seen.keepalive or seen.heard is None:
        return NO_TIME
    return max(seen.first_seen + limits.down_after, seen.heard + STALE_SECONDS + seen.keepalive), inf


def _still_down(seen: Evidence, _limits: HealthLimits) -> Span:
    if seen.state is not State.DOWN or (seen.heard is not None and seen.heard > seen.since):
        return NO_TIME
    only_the_interface = seen.reason in {Reason.INTERFACE_DOWN, Reason.INTERFACE_GONE} and seen.place.well
    return NO_TIME if only_the_interface and not seen.keepalive and not seen.probed else ANY_TIME


def _not_sent(seen: Evidence, limits: HealthLimits) -> Span:
    """Probes are unanswered and nothing left, except one packet that may have left before the way was lost."""
    nothing_left = seen.initiations + seen.data <= 1 and not seen.place.opaque
    return unanswered(seen, limits) if seen.probes >= 2 and nothing_left else NO_TIME


def opening(seen: Evidence, _limits: HealthLimits) -> Span:
    """Too little is known yet: for `JUDGED_SECONDS` since the peer appeared, or since an answer is due."""
    if seen.judged:
        return NO_TIME
    asked = seen.unanswered_since if seen.expected else None
    return -inf, max(seen.first_seen, -inf if asked is None else asked) + JUDGED_SECONDS


RULES = (
    Rule(
        State.DOWN,
        Reason.ONE_WAY,
        "Its handshake initiations arrive, and no session comes of them: our responses do not reach it.",
        "What it sends arrives, what we send does not: look for a firewall or NAT on the way out, and compare the "
        "endpoint that `wg-exporter show {interface} {peer}` prints with where the peer is.",
        lambda seen, limits: unanswered(seen, limits) if seen.inbound_initiations >= 2 else NO_TIME,
        Given.UNANSWERED,
    ),
    Rule(
        State.DOWN,
        Reason.HANDSHAKE_UNANSWERED,
        "Our handshake initiations are not answered: the peer is gone, firewalled, elsewhere, or has another key.",
        "Is the peer running, and has it this interface's public key? Then compare its endpoint and port "
        "(`wg-exporter show {interface} {peer}`) with where it is, and look for a firewall that drops UDP.",
        lambda seen, limits: unanswered(seen, limits) if seen.initiations >= 2 else NO_TIME,
        Given.UNANSWERED,
    ),
    Rule(
        State.DOWN,
        Reason.NOT_SENT,
        "Probes are not answered, and nothing leaves for it: this host has no way to its endpoint.",
        "`ip route get` its endpoint (`wg-exporter show {interface} {peer}` prints it): no route, an interface of this "
        "host that is down, or a firewall of its own.",
        _not_sent,
        Given.UNANSWERED,
    ),
    Rule(
        State.DOWN,
        Reason.DATA_UNANSWERED,
        "Data was sent and nothing came back, not even the keepalive that acknowledges it.",
        "Its session still lives, so it broke minutes ago at most: look at the path to its endpoint "
        "(`wg-exporter show {interface} {peer}`), and whether the peer was restarted.",
        unanswered,
        Given.UNANSWERED,
    ),
    Rule(
        State.DOWN,
        Reason.NEVER_HEARD,
        "Nothing was heard of it since its device appeared.",
        "Compare the public keys on both sides, then endpoint and port (`wg-exporter show {interface} {peer}`). "
        "Without an endpoint here, it is the peer that has to call. Not set up yet? `state: any` under `expect`.",
        lambda seen, limits: NO_TIME if seen.heard is not None else after(seen.first_seen, limits.down_after),
    ),
    Rule(
        State.DOWN,
        Reason.STALE_HANDSHAKE,
        "It has persistent keepalive K, and was not heard for 200 s + K.",
        "It should have been heard by now: is the peer running, and does its endpoint "
        "(`wg-exporter show {interface} {peer}`) still lead to it?",
        _stale,
    ),
    Rule(
        State.DOWN,
        None,
        "It was down, and nothing was heard of it since. The reason stays. But where only its interface was down, a "
        "peer without keepalive and probes is `idle` afterwards, for nothing would be heard anyway.",
        "",
        _still_down,
    ),
    Rule(
        None,
        None,
        "It appeared less than 30 s ago and was not heard since, or an answer is due: too early to say.",
        "",
        opening,
    ),
)
