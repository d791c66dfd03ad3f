"""Which cause it is: the table, gone through from the top.

The first cause that is certain or likely is the answer. Those that stand higher explain those that stand lower: who has
no route sends nothing, and who sends nothing hears nothing. Without one, the first that is possible is named, and all
others that fit beside it. What is excluded is told too: it is what somebody who looks next need not look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.causes import calls, data, drifted, fine, leaves, refused, silence, taken
from wg_exporter.causes.cause import Cause, Confidence, Finding
from wg_exporter.causes.rule import Excluded, Holds, Rule, fill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wg_exporter.causes.facts import Facts

NO_PROOF = Rule(
    Cause.UNKNOWN,
    "Too little could be looked at to say anything.",
    "Nothing was proved.",
    ("`wg-exporter diagnose {interface} {peer}` as root looks at more.",),
    lambda _facts: None,
)

RULES: tuple[Rule, ...] = (
    *fine.RULES,
    *leaves.RULES,
    *silence.RULES,
    *refused.RULES,
    *taken.RULES,
    *calls.RULES,
    *silence.LAST_RULES,
    *leaves.INNER_RULES,
    *data.RULES,
)
"""Every cause but `unknown`, in the order in which they explain each other."""

_BY_CAUSE: Mapping[Cause, Rule] = {rule.cause: rule for rule in (*RULES, NO_PROOF)}

_WELL = frozenset({Cause.FINE, Cause.IDLE})


def decide(facts: Facts) -> Finding:
    """What is the matter with the peer. The same for the same facts, and never a fault for a peer that is `up`."""
    holding: dict[Cause, Holds] = {}
    excluded: list[tuple[Cause, str]] = []
    for rule in RULES:
        judged = rule.judge(facts)
        if isinstance(judged, Holds):
            if rule.cause in _WELL:
                return _finding(rule.cause, judged, {}, (), facts)
            holding[rule.cause] = judged
        elif isinstance(judged, Excluded):
            excluded.append((rule.cause, judged.why))
    proved = [cause for cause, holds in holding.items() if holds.confidence is not Confidence.POSSIBLE]
    named = next(iter(proved or holding), None)
    if named is None:
        return _finding(Cause.UNKNOWN, Holds(Confidence.POSSIBLE, ()), {}, tuple(excluded), facts)
    return _finding(named, holding[named], holding, tuple(excluded), facts)


def meaning(cause: Cause) -> str:
    """What is wrong, for a person."""
    return _BY_CAUSE[cause].meaning


def _finding(
    cause: Cause,
    holds: Holds,
    holding: Mapping[Cause, Holds],
    excluded: tuple[tuple[Cause, str], ...],
    facts: Facts,
) -> Finding:
    also = () if holds.confidence is Confidence.CERTAIN else tuple(other for other in holding if other is not cause)
    apart = dict.fromkeys(holds.apart for holds in (holds, *(holding[other] for other in also)) if holds.apart)
    unseen = [] if cause in _WELL or holds.confidence is Confidence.CERTAIN else _unseen(facts)
    rule, differing = _BY_CAUSE[cause], drifted.explaining(cause, facts)
    fix = holds.fix or rule.fix
    if differing and drifted.FIX not in fix:
        fix = (drifted.FIX, *fix)
    return Finding(
        cause,
        holds.confidence,
        (*holds.evidence, *differing),
        excluded,
        also,
        fill(fix, facts),
        " ".join((*fill(tuple(apart), facts), *unseen)),
    )


def _unseen(facts: Facts) -> list[str]:
    """What nobody looked at, or could not, though it might have decided."""
    unseen = [*facts.not_looked, *facts.unread_filters]
    if facts.sighting is None:
        unseen.append("what passes on the wire")
    if facts.host is None:
        unseen.append("routes and sockets of this host")
    else:
        unseen += facts.host.problems
    if facts.dns_problem and facts.dns_name:
        unseen.append(f"the name {facts.dns_name} ({facts.dns_problem})")
    return [f"Not looked at: {'; '.join(dict.fromkeys(unseen))}."] if unseen else []
