"""How a peer is: the states as an ordered table, of which the first rule that holds decides.

Everything that can change a state is in this table. A rule says in one place what it means, what to do about it, and
its span: the time in which it holds as long as nothing new is seen of the peer. So the time at which a state can change
by itself follows from the same numbers as the state (`decide`), and a rule with a time of its own needs nothing but its
span. Whether loss and latency are too high is decided in quality.py.

To add a reason: a word in `states.Reason`, and a rule in the file of its group. docs/health.md and `advice` are made
from the table.
"""

from __future__ import annotations

from itertools import product
from math import inf
from typing import TYPE_CHECKING

from wg_exporter.health.rules import interface, probing, silence
from wg_exporter.health.rules.rule import ANY_TIME, NO_TIME, Given, Rule, heard
from wg_exporter.health.states import State
from wg_exporter.health.timing import FIRST_ATTEMPTS, SUSPECT_SECONDS

if TYPE_CHECKING:
    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.evidence import Evidence

RULES: tuple[Rule, ...] = (
    Rule(
        State.NEVER,
        None,
        "Not expected up, and there was no handshake yet.",
        "",
        lambda seen, _limits: NO_TIME if seen.expected or seen.heard is not None else ANY_TIME,
    ),
    *interface.RULES,
    *silence.RULES,
    *probing.RULES,
    Rule(
        State.UP,
        None,
        "Something was heard of it, or a handshake made, within 200 s + its persistent keepalive.",
        "",
        heard,
        renewed=True,
    ),
    Rule(
        State.IDLE,
        None,
        "Everything else: nothing speaks against it, and nothing was heard lately.",
        "",
        lambda _seen, _limits: ANY_TIME,
    ),
)


def _matter(*, expected: bool, unanswered: bool, probed: bool) -> tuple[Rule, ...]:
    """The rules that can hold for peers in this situation. A peer that is not expected up can't be down."""
    left_out = set() if unanswered else {Given.UNANSWERED}
    left_out |= set() if probed else {Given.PROBED}
    return tuple(rule for rule in RULES if rule.given not in left_out and (expected or rule.state is not State.DOWN))


# By (expected up, anything unanswered, probed).
_MATTER = {
    (expected, unanswered, probed): _matter(expected=expected, unanswered=unanswered, probed=probed)
    for expected, unanswered, probed in product((False, True), repeat=3)
}

_NOT_YET = Rule(None, None, "It is expected up for less than `health.down_after`.", "", lambda _seen, _limits: ANY_TIME)


def decide(seen: Evidence, now: float, limits: HealthLimits) -> tuple[Rule, float]:
    """The rule that decides now, and the deadline: when another one can decide even if nothing new is seen of the peer.

    The deadline is the first time at which a rule above this one begins, or this one ends. Both are monotonic seconds.
    """
    due = inf
    for rule in _MATTER[seen.expected, seen.unanswered_since is not None, seen.quality is not None]:
        begin, end = rule.span(seen, limits)
        if now < begin:
            due = min(due, begin)
        elif now < end:
            # A peer must be expected up for `down_after` first: while its file is edited, a phone may seem to be.
            if rule.state is State.DOWN and seen.state is not State.DOWN:
                settled = seen.expected_since + limits.down_after
                if now < settled:
                    return _NOT_YET, min(due, end, settled)
            return rule, min(due, end)
    raise AssertionError("the last rule always holds")


def suspected_from(seen: Evidence) -> float:
    """From when on the peer is suspicious (an answer is overdue, and nothing is decided), in monotonic seconds."""
    if not seen.expected or seen.state is State.DOWN:
        return inf
    if not seen.judged:
        return -inf
    if seen.unanswered_since is not None and seen.attempts >= FIRST_ATTEMPTS:
        return seen.unanswered_since + SUSPECT_SECONDS
    # It may be heard, and hear nothing itself.
    silent = seen.target_silent_since if seen.state is not State.DEGRADED else None
    return inf if silent is None else silent + SUSPECT_SECONDS
