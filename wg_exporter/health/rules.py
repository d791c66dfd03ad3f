"""The states of a peer as an ordered table: the first rule that holds decides. docs/health.md is written from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.states import Reason, State
from wg_exporter.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.evidence import Evidence


class Rule(NamedTuple):
    """One line of the table. `holds` takes what was seen, the monotonic time in seconds, and the limits.

    Without a `reason`, a peer that is down keeps the one it has.
    """

    state: State
    reason: Reason | None
    meaning: str
    holds: Callable[[Evidence, float, HealthLimits], bool]


def _expected_and(holds: Callable[[Evidence, float, HealthLimits], bool]) -> Callable[..., bool]:
    """Only a peer that is expected up can be down: nobody waits for the others."""
    return lambda seen, now, limits: seen.expected and holds(seen, now, limits)


def _since(moment: float | None, now: float, seconds: float) -> bool:
    return moment is not None and now - moment >= seconds


def _stale(seen: Evidence, now: float, limits: HealthLimits) -> bool:
    """By age alone: only where keepalives make it meaningful."""
    return bool(
        seen.keepalive and _since(seen.first_seen, now, limits.down_after) and _since(seen.heard, now, seen.stale_after)
    )


def _still_down(seen: Evidence, _now: float, _limits: HealthLimits) -> bool:
    heard = seen.heard is not None and seen.heard > seen.since
    only_the_interface = seen.reason in {Reason.INTERFACE_DOWN, Reason.INTERFACE_GONE} and seen.place.well
    return (
        seen.state is State.DOWN and not heard and not (only_the_interface and not seen.keepalive and not seen.probed)
    )


def _faulty(verdict: Verdict) -> Callable[..., bool]:
    return lambda seen, now, _limits: seen.verdict is verdict and seen.recent(now)


def _down(reason: Reason | None, meaning: str, holds: Callable[[Evidence, float, HealthLimits], bool]) -> Rule:
    return Rule(State.DOWN, reason, meaning, _expected_and(holds))


def _mtu(reason: Reason, verdict: Verdict, meaning: str) -> Rule:
    return Rule(State.DEGRADED, reason, meaning, _faulty(verdict))


RULES: tuple[Rule, ...] = (
    Rule(
        State.NEVER,
        None,
        "Not expected up, and there was no handshake yet.",
        lambda seen, _now, _limits: not seen.expected and seen.heard is None,
    ),
    _down(
        Reason.INTERFACE_GONE,
        "Its interface does not exist any more.",
        lambda seen, now, limits: _since(seen.place.gone_since, now, limits.down_after),
    ),
    _down(
        Reason.INTERFACE_DOWN,
        "Its interface is administratively down.",
        lambda seen, now, limits: _since(seen.place.down_since, now, limits.down_after),
    ),
    _down(
        Reason.ONE_WAY,
        "Its handshake initiations arrive, and no session comes of them: our responses do not reach it.",
        lambda seen, now, limits: seen.knocks >= 2 and seen.unanswered(now, limits),
    ),
    _down(
        Reason.HANDSHAKE_UNANSWERED,
        "Our handshake initiations are not answered: the peer is gone, firewalled, elsewhere, or has another key.",
        lambda seen, now, limits: seen.initiations >= 2 and seen.unanswered(now, limits),
    ),
    _down(
        Reason.NOT_SENT,
        "Probes are not answered, and nothing leaves for it: this host has no way to its endpoint.",
        # One packet may have left before the way was lost.
        lambda seen, now, limits: (
            seen.probes >= 2
            and seen.initiations + seen.data <= 1
            and not seen.place.opaque
            and seen.unanswered(now, limits)
        ),
    ),
    _down(
        Reason.DATA_UNANSWERED,
        "Data was sent and nothing came back, not even the keepalive that acknowledges it.",
        lambda seen, now, limits: seen.unanswered(now, limits),
    ),
    _down(
        Reason.NEVER_HEARD,
        "Nothing was heard of it since its device appeared.",
        lambda seen, now, limits: seen.heard is None and _since(seen.first_seen, now, limits.down_after),
    ),
    _down(
        Reason.STALE_HANDSHAKE,
        "It has persistent keepalive K, and was not heard for 200 s + K.",
        _stale,
    ),
    _down(
        None,
        "It was down, and nothing was heard of it since. The reason stays. But where only its interface was down, a "
        "peer without keepalive and probes is `idle` afterwards, for nothing would be heard anyway.",
        _still_down,
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
    Rule(
        State.DEGRADED,
        Reason.TARGET_SILENT,
        "The peer is heard, but the address inside the tunnel that used to answer probes does not.",
        lambda seen, now, _limits: seen.target_silent and seen.recent(now),
    ),
    Rule(
        State.DEGRADED,
        Reason.LOSSY,
        "At least `health.loss` of the probes were lost within `health.window`.",
        lambda seen, now, _limits: seen.quality is not None and seen.quality.lossy and seen.recent(now),
    ),
    Rule(
        State.DEGRADED,
        Reason.SLOW,
        "Round trips take `health.slow_factor` times as long as is usual for this peer, and at least 20 ms longer.",
        lambda seen, now, _limits: seen.quality is not None and seen.quality.slow and seen.recent(now),
    ),
    Rule(
        State.UP,
        None,
        "Something was heard of it, or a handshake made, within 200 s + its persistent keepalive.",
        lambda seen, now, _limits: seen.recent(now),
    ),
    Rule(
        State.IDLE,
        None,
        "Everything else: nothing speaks against it, and nothing was heard lately.",
        lambda _seen, _now, _limits: True,
    ),
)


def first_that_holds(seen: Evidence, now: float, limits: HealthLimits) -> Rule:
    """The rule that decides."""
    for rule in RULES:
        if rule.holds(seen, now, limits):
            return rule
    raise AssertionError("the last rule always holds")
