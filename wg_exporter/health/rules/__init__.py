"""How a peer is: the states as an ordered table, of which the first rule that holds decides.

Everything that can change a state is in this table. A rule has in one place what it means, what to do about it, and
its span: the time in which it holds as long as nothing new is seen of the peer. So the moment at which a state can
change by itself follows from the same numbers as the state (`decide`), and a rule with a time of its own needs no
other line than its span. How much loss and latency is too much is measured in quality.py.

To add a reason: a word in `states.Reason`, and a rule in the file of its group. docs/health.md and `advice` are made
from the table.
"""

from __future__ import annotations

from itertools import product
from math import inf
from typing import TYPE_CHECKING

from wg_exporter.health.rules import interface, probing, silence
from wg_exporter.health.rules.rule import ANY_TIME, NO_TIME, Given, Rule, heard
from wg_exporter.health.rules.timing import FIRST_ATTEMPTS, SUSPECT_SECONDS
from wg_exporter.health.states import State

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
    """The rules that can hold of such a peer. Only one that is expected up can be down: nobody waits for the others."""
    left_out = set() if unanswered else {Given.UNANSWERED}
    left_out |= set() if probed else {Given.PROBED}
    return tuple(rule for rule in RULES if rule.given not in left_out and (expected or rule.state is not State.DOWN))


# By whether the peer is expected up, whether anything is unanswered, and whether it is probed.
_MATTER = {
    (expected, unanswered, probed): _matter(expected=expected, unanswered=unanswered, probed=probed)
    for expected, unanswered, probed in product((False, True), repeat=3)
}

_NOT_YET = Rule(None, None, "It is expected up for less than `health.down_after`.", "", lambda _seen, _limits: ANY_TIME)


def decide(seen: Evidence, now: float, limits: HealthLimits) -> tuple[Rule, float]:
    """The rule that decides now, and when another one can though nothing new is seen of the peer.

    That deadline is the minimum over the rules that matter: one before this one begins, or this one ends.
    """
    due = inf
    for rule in _MATTER[seen.expected, seen.unanswered_since is not None, seen.quality is not None]:
        begin, end = rule.span(seen, limits)
        if now < begin:
            due = min(due, begin)
        elif now < end:
            # Between two writes of its file a phone may look as if it should be up.
            if rule.state is State.DOWN and seen.state is not State.DOWN:
                settled = seen.expected_since + limits.down_after
                if now < settled:
                    return _NOT_YET, min(due, end, settled)
            return rule, min(due, end)
    raise AssertionError("the last rule always holds")


def suspected_from(seen: Evidence) -> float:
    """From when on a closer look is worth its price: an answer is overdue, and nothing is decided."""
    if not seen.expected or seen.state is State.DOWN:
        return inf
    if not seen.judged:
        return -inf
    if seen.unanswered_since is None or seen.attempts < FIRST_ATTEMPTS:
        return inf
    return seen.unanswered_since + SUSPECT_SECONDS
