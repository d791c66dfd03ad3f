"""Applies the rule that decides to a peer: its new state and row, and when to judge it again."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.rules import decide, suspected_from
from wg_exporter.health.states import State
from wg_exporter.health.words import in_words

if TYPE_CHECKING:
    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.evidence import Evidence
    from wg_exporter.health.states import PeerHealth, Reason


class Tick(NamedTuple):
    """When a device is judged: `now` is monotonic, `wall` since the epoch, `seconds` the time since the last tick."""

    now: float
    wall: float
    seconds: float


def judge(seen: Evidence, row: PeerHealth, tick: Tick, limits: HealthLimits) -> tuple[PeerHealth, float]:
    """The peer's row from now on, the same object if nothing changed, and its deadline.

    The deadline is the monotonic time in seconds at which the peer has to be judged again even if nothing new is seen
    of it. It is at once (-inf) while the peer is down, as its seconds are counted, and after its state or reason
    changed, as a rule may ask what it was. While the peer is suspicious it has passed, too.
    """
    if seen.state is State.DOWN:
        row = row._replace(down_seconds=row.down_seconds + tick.seconds)
    seen.lapse(tick.now)
    rule, due = decide(seen, tick.now, limits)
    seen.renewed = rule.renewed
    if rule.state is not None:
        reason = seen.reason if rule.reason is None and rule.state is State.DOWN else rule.reason
        if not seen.judged or rule.state is not seen.state or reason is not seen.reason:
            row, due = _found(seen, row, rule.state, reason, tick), -inf
    return row, -inf if seen.state is State.DOWN else min(due, suspected_from(seen))


def _found(seen: Evidence, row: PeerHealth, state: State, reason: Reason | None, tick: Tick) -> PeerHealth:
    """The peer has this state and reason now. A first state is no change."""
    before, seen.judged = seen.state, True
    if state is before and reason is seen.reason:
        return row
    seen.reason = reason
    if state is not before:
        seen.risen = tick.now if before is State.DOWN else seen.risen
        seen.state, seen.since = state, tick.now
        if before is not None:
            row = row._replace(changes=row.changes + 1, changed_at=tick.wall)
    evidence, at = (in_words(seen, tick.now), tick.wall) if reason else ("", 0.0)
    return row._replace(state=state, reason=reason, evidence=evidence, reason_at=at)
