"""What a rule is: what it means, what to do about it, and when it holds."""

from __future__ import annotations

from enum import Enum, auto
from math import inf, nextafter
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.timing import STALE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.evidence import Evidence
    from wg_exporter.health.states import Reason, State

Span = tuple[float, float]
"""From the first time on, until just before the second: monotonic seconds."""

NO_TIME: Span = (-inf, -inf)
ANY_TIME: Span = (-inf, inf)


class Given(Enum):
    """What is true of few peers at a time; a rule that needs it is left out for the others."""

    NOTHING = auto()
    UNANSWERED = auto()
    PROBED = auto()


class Rule(NamedTuple):
    """One line of the table.

    state: what the peer is while the rule holds; None = what it was before.
    reason: why. A peer that is down keeps its reason under a rule without one.
    meaning: when the rule holds, for a person.
    advice: what to do, one line for whoever is paged; {interface} and {peer} stand for names quoted for a
        shell, {entry} for what leads a command into the namespace of the interface.
    span: when it holds as long as nothing new is seen.
    given: what the rule needs; without it, it never holds and is not asked.
    renewed: whether the rule merely holds longer for a peer that is not probed and is heard again. Such a peer is not
        judged for being heard. So being heard may make a rule above this one begin later, but never earlier.
    """

    state: State | None
    reason: Reason | None
    meaning: str
    advice: str
    span: Callable[[Evidence, HealthLimits], Span]
    given: Given = Given.NOTHING
    renewed: bool = False


def after(moment: float | None, seconds: float) -> Span:
    """From `seconds` after `moment` on, without an end; no time if `moment` is None."""
    return NO_TIME if moment is None else (moment + seconds, inf)


def heard(seen: Evidence, _limits: HealthLimits) -> Span:
    """Until the age that a peer which keeps its session alive never reaches: `STALE_SECONDS` and its keepalive."""
    if seen.heard is None:
        return NO_TIME
    return -inf, nextafter(seen.heard + STALE_SECONDS + seen.keepalive, inf)
