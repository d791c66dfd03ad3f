"""Nothing is wrong. These rules come first: a cause is never named for a peer that works."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from wg_exporter.causes import seen
from wg_exporter.causes.cause import Cause
from wg_exporter.causes.data import heavy_loss, mtu_fault
from wg_exporter.causes.rule import Judgement, Rule, certain, likely
from wg_exporter.health.states import State

if TYPE_CHECKING:
    from wg_exporter.causes.facts import Facts

_ILL = frozenset({State.DOWN, State.DEGRADED})


def _fine(facts: Facts) -> Judgement:
    if facts.state is State.UP:
        heard = facts.heard_seconds
        known = heard is not None and isfinite(heard)
        return certain(f"it was heard {seen.span(heard or 0.0)} ago" if known else "it is heard")
    if facts.state in _ILL or seen.shakes(facts) is not True or _obstructed(facts):
        return None
    if mtu_fault(facts) or heavy_loss(facts):
        return None
    if seen.answered(facts):
        return certain("a handshake was made, and what was sent inside the tunnel is answered")
    return None


def _obstructed(facts: Facts) -> bool:
    """Whether something of this host keeps users' packets from the peer though probes pass."""
    host = facts.host
    if host is None:
        return False
    not_its = bool(facts.target) and host.owner is not None and host.owner != facts.key[2]
    path = host.to_target
    return not_its or (path is not None and not path.tunnel)


def _idle(facts: Facts) -> Judgement:
    if facts.state is not State.IDLE or facts.provoked:
        return None
    return likely("nothing was sent that asks for an answer, and nothing speaks against it")


RULES = (
    Rule(
        Cause.FINE,
        "The tunnel works.",
        "The peer is `up`; or a handshake was just made, and data inside the tunnel is answered.",
        (),
        _fine,
    ),
    Rule(
        Cause.IDLE,
        "Nobody sends, so nothing is known to be wrong. WireGuard says nothing without a reason.",
        "The peer is `idle`: nothing asks for an answer.",
        ("`wg-exporter diagnose {interface} {peer}` sends one packet, so that a handshake follows.",),
        _idle,
    ),
)
