"""Peers that are not heard: they do not answer, never came, or are silent for too long."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

from wg_exporter.health.rules.rule import ANY_TIME, NO_TIME, Given, Rule, Span, after
from wg_exporter.health.states import Reason, State
from wg_exporter.health.timing import (
    ACKNOWLEDGED_SECONDS,
    ACKNOWLEDGEMENTS_SECONDS,
    AGAIN_ACKNOWLEDGED_SECONDS,
    ANSWER_SECONDS,
    ATTEMPTS,
    BELIEVED_SECONDS,
    CALLING_SECONDS,
    CALLS,
    CALLS_WITHIN,
    FIRST_ATTEMPTS,
    FRESH_SECONDS,
    HEARS_WITHIN,
    JUDGED_SECONDS,
    LOOK_SECONDS,
    MORE_CALLS,
    MORE_WOKEN,
    SETTLED_SECONDS,
    SHAKEN_ATTEMPTS,
    STALE_SECONDS,
    WOKEN,
    WOKEN_LASTS_SECONDS,
    WOKEN_LEAST,
    WOKEN_MOST,
)

if TYPE_CHECKING:
    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.evidence import Evidence


def unanswered(seen: Evidence, limits: HealthLimits) -> Span:
    """Enough attempts went unanswered (`ATTEMPTS`), for `down_after` since an answer was due."""
    asked = seen.unanswered_since
    # One that made a handshake since it appeared is no stranger any more, whatever its state will be.
    shaken = not seen.judged and seen.shaken is not None and seen.shaken > seen.first_seen
    needed = ATTEMPTS if seen.judged else SHAKEN_ATTEMPTS if shaken else FIRST_ATTEMPTS
    if asked is None or seen.attempts < needed:
        return NO_TIME
    if shaken:
        return asked + limits.down_after, seen.lapses
    if not seen.judged:
        left = seen.first_seen + JUDGED_SECONDS - asked
        return asked + min(limits.down_after, max(left, ANSWER_SECONDS)), seen.lapses
    # An answer to an initiation, or to a probe of a target that answers, is due at once; one to other data later.
    overdue, handshakes_pass = seen.overdue_since, _handshakes_pass(seen)
    due = asked + (ACKNOWLEDGEMENTS_SECONDS if handshakes_pass else ACKNOWLEDGED_SECONDS)
    begin = (due if overdue is None or overdue > due else overdue) + limits.down_after
    if handshakes_pass and seen.shaken is not None and seen.quality is not None and seen.quality.loss > 0.0:
        begin = max(begin, seen.shaken + AGAIN_ACKNOWLEDGED_SECONDS)
    return begin, seen.lapses


def _handshakes_pass(seen: Evidence) -> bool:
    """Whether a handshake was made since something is unanswered."""
    return seen.shaken is not None and seen.unanswered_since is not None and seen.shaken > seen.unanswered_since


def _one_way(seen: Evidence, limits: HealthLimits) -> Span:
    """No session comes of its initiations; or one does, and it goes on calling like one that hears nothing."""
    spans = [_deaf(seen, limits), _deaf_on_wire(seen, limits)]
    if seen.inbound_initiations >= 2 and not _hears_handshakes(seen):
        spans.append(unanswered(seen, limits))
    return _any_of(spans)


def _hears_handshakes(seen: Evidence) -> bool:
    """Whether our responses reach it, though no session comes of its initiations: its data is what does not come. It
    starts a handshake 15 s after the last one then, and not after 5 s.
    """
    if _handshakes_pass(seen):
        return True
    number = max(HEARS_WITHIN) if seen.reason is Reason.ONE_WAY else min(len(seen.calls), 3)
    called = seen.calls[-number:]
    return len(called) == number >= 2 and called[-1] - called[0] > HEARS_WITHIN[number]


def _deaf(seen: Evidence, limits: HealthLimits) -> Span:
    """Probes have no answer, and the peer starts handshakes at the pace of one that hears nothing from here: every 5 s
    if our responses are lost too, every 15 s if only data is (WireGuard paper, 6.1, 6.4).
    """
    silent = seen.target_silent_since
    if silent is None:
        return NO_TIME
    proven = max(
        _pace(seen.calls, silent, (CALLS, MORE_CALLS), 0.0, CALLS_WITHIN / (CALLS - 1)),
        _pace(seen.woken, silent, (WOKEN, MORE_WOKEN), WOKEN_LEAST, WOKEN_MOST),
    )
    # Once it is down for this, it is so until it is heard to answer, or does not call for long.
    found = seen.state is State.DOWN and seen.reason is Reason.ONE_WAY
    if found and silent < seen.since and silent < seen.heard_from:
        moments = pairwise(moment for moment in sorted((*seen.calls, *seen.woken)) if moment > silent)
        calling = [second for first, second in moments if second - first <= CALLING_SECONDS]
        proven = max((proven, *calling))
    if proven == -inf:
        return NO_TIME
    return max(silent + limits.down_after, proven), proven + (STALE_SECONDS if found else SETTLED_SECONDS)


def _deaf_on_wire(seen: Evidence, limits: HealthLimits) -> Span:
    """The same as the watcher saw it: by our responses, which only an initiation from the peer itself brings about. It
    needs no probes where no handshake comes of them, and no data hides them.
    """
    silent, taken = seen.target_silent_since, seen.wire.taken
    shaken = -inf if seen.shaken is None else seen.shaken
    # Whoever answers an echo hears, also before it calls again: what was seen earlier may be told later.
    called, since = _called(taken, max(shaken, seen.echoed_at))
    proofs = []
    if called > -inf:
        proofs.append((called, since if silent is None else min(since, silent), taken[-1] + BELIEVED_SECONDS))
    # Where its data does not come either, it is not one way that is dead.
    if silent is not None and silent < seen.heard_from and (woken := _woken(taken, silent)) > -inf:
        proofs.append((woken, silent, max(woken, shaken) + WOKEN_LASTS_SECONDS))
    spans = []
    for proven, begun, end in proofs:
        if seen.state is State.DOWN and seen.reason is Reason.ONE_WAY:  # until a later window shows something else
            spans.append((seen.since, -inf if seen.wire.refutes(proven) else end))
        else:
            asked = inf if seen.unanswered_since is None else seen.unanswered_since
            spans.append((max(min(begun, asked) + limits.down_after, proven), proven + SETTLED_SECONDS))
    return _any_of(spans)


def _called(taken: tuple[float, ...], heard_us: float) -> tuple[float, float]:
    """The last `CALLS` calls, later than the peer heard anything from here, that came as those of one that hears
    nothing: when the latest of them came, and the first; (-inf, inf) if there were none.
    """
    for end in range(len(taken), CALLS - 1, -1):
        first, last = taken[end - CALLS], taken[end - 1]
        if first > heard_us and last - first <= CALLS_WITHIN:
            return last, first
    return -inf, inf


def _woken(taken: tuple[float, ...], silent: float) -> float:
    """The latest call since `silent` that came as those of one that hears no data; -inf if there was none. Between two
    windows nobody saw the calls, so later ones at another pace prove nothing else.
    """
    ends = range(len(taken) + 1)
    return max(_pace(taken[:end], silent, (WOKEN, MORE_WOKEN), WOKEN_LEAST, WOKEN_MOST) for end in ends)


def _pace(moments: tuple[float, ...], silent: float, numbers: tuple[int, int], least: float, most: float) -> float:
    """The last of these moments, if enough of them since `silent` came at the pace of a peer that hears nothing; -inf
    if they did not.

    `numbers`: how many are enough while the silence is fresh, and later. Seconds from one to the next: `most` as a mean
    or, where there is a `least`, each.
    """
    few, many = numbers
    since = [moment for moment in moments if moment > silent]
    for number in (few, many):
        last = since[-number:]
        if len(last) < number or (number == few and last[-1] > silent + FRESH_SECONDS):
            continue
        apart = [second - first for first, second in pairwise(last)]
        if sum(apart) <= most * len(apart) and (not least or all(least <= one <= most for one in apart)):
            return last[-1]
    return -inf


def _stale(seen: Evidence, limits: HealthLimits) -> Span:
    """The last sign is too old. Without persistent keepalive, age proves nothing."""
    if not seen.keepalive or seen.heard is None:
        return NO_TIME
    return max(seen.first_seen + limits.down_after, seen.heard + STALE_SECONDS + seen.keepalive), inf


def _still_down(seen: Evidence, _limits: HealthLimits) -> Span:
    if seen.state is not State.DOWN or (seen.heard is not None and seen.heard > seen.since):
        return NO_TIME
    of_interface = {Reason.INTERFACE_DOWN, Reason.INTERFACE_GONE, Reason.UNREADABLE}
    only_the_interface = seen.reason in of_interface and seen.place.well
    return NO_TIME if only_the_interface and not seen.keepalive and not seen.probed else ANY_TIME


def _not_sent(seen: Evidence, limits: HealthLimits) -> Span:
    """Probes are lost, or its own initiations come, and nothing has left for it meanwhile."""
    if (span := _unseen(seen, limits)) != NO_TIME:
        return span
    if seen.place.opaque:  # some daemons count nothing but data
        return NO_TIME
    if seen.silent_since is not None:
        # What is counted up to a look later may have left before the first of these probes.
        last = seen.left_at if seen.left_at > seen.silent_since + LOOK_SECONDS else seen.silent_since
        if seen.lost_at > last + 2 * LOOK_SECONDS:
            return last + limits.down_after, seen.lost_at + 2 * SETTLED_SECONDS
    called = seen.called_since
    if called is not None and seen.inbound_initiations >= 2 and seen.left_at < called:
        return unanswered(seen, limits)
    return NO_TIME


def _unseen(seen: Evidence, limits: HealthLimits) -> Span:
    """WireGuard sends, by its counters or as it must by now, and the watcher saw nothing leave."""
    unsent, asked, silent = seen.wire.unsent_at, seen.unanswered_since, seen.target_silent_since
    spans = []
    if unsent is not None and asked is not None and unsent >= asked:
        spans.append(unanswered(seen, limits))
    if unsent is not None and silent is not None and unsent >= silent:  # it may be heard all the while
        # Once it is down for this, it is so until something is seen leaving: in the next window.
        found = seen.state is State.DOWN and seen.reason is Reason.NOT_SENT and silent < seen.since
        spans.append((max(silent + limits.down_after, unsent), unsent + (BELIEVED_SECONDS if found else STALE_SECONDS)))
    return _any_of(spans)


def _any_of(spans: list[Span]) -> Span:
    """From the first of these spans to the end of the last."""
    spans = [span for span in spans if span != NO_TIME]
    return (min(begin for begin, _ in spans), max(end for _, end in spans)) if spans else NO_TIME


def _handshake_unanswered(seen: Evidence, limits: HealthLimits) -> Span:
    """Where others passed since, two may have met with the peer's own, and come to nothing."""
    return unanswered(seen, limits) if seen.initiations >= (4 if _handshakes_pass(seen) else 2) else NO_TIME


def _data_unanswered(seen: Evidence, limits: HealthLimits) -> Span:
    """Whatever it was that did not come back. After a handshake, not before data was sent again: `_hold` holds then."""
    begin, end = unanswered(seen, limits)
    back = seen.state is State.DOWN and seen.reason is not Reason.DATA_UNANSWERED and end < inf
    return NO_TIME if back else (begin, end)


def _hold(seen: Evidence, _limits: HealthLimits) -> Span:
    """Whether it is well is in doubt, and not decided yet. Whoever is down stays so as long as anything is in doubt."""
    if not seen.expected or seen.state is None or seen.unanswered_since is None:
        return NO_TIME
    doubt = seen.state is State.DOWN or seen.attempts >= FIRST_ATTEMPTS
    return (-inf, seen.lapses) if doubt else NO_TIME


def opening(seen: Evidence, _limits: HealthLimits) -> Span:
    """Too little is known yet: for `JUDGED_SECONDS` since the peer appeared, or since an answer is due."""
    if seen.judged:
        return NO_TIME
    asked = seen.unanswered_since if seen.expected else None
    return -inf, min(max(seen.first_seen, -inf if asked is None else asked) + JUDGED_SECONDS, seen.lapses)


RULES = (
    Rule(
        State.DOWN,
        Reason.NOT_SENT,
        "Nothing leaves for it, though probes wait for an answer, or its own initiations do, or WireGuard makes "
        "handshakes that are not seen leaving: this host has no route to its endpoint, a filter drops it, or the next "
        "hop does not answer.",
        "`ip route get` its endpoint (`wg-exporter show {interface} {peer}` prints it): is there a route, out of an "
        "interface that is up? `ip neigh`: is the next hop FAILED, as nobody on the link answers for it? "
        "`nft list ruleset`: does a filter of this host drop it?",
        _not_sent,
    ),
    Rule(
        State.DOWN,
        Reason.ONE_WAY,
        "What it sends arrives, and it hears nothing: no session comes of its handshake initiations, or it starts "
        "handshakes again and again while probes go unanswered.",
        "What it sends arrives, what we send does not: look for a firewall or NAT on the way out, here too unless the "
        "evidence says that it was seen leaving this host, and compare the endpoint that "
        "`wg-exporter show {interface} {peer}` prints with where the peer is.",
        _one_way,
    ),
    Rule(
        State.DOWN,
        Reason.HANDSHAKE_UNANSWERED,
        "Our handshake initiations are not answered: the peer is gone, firewalled, elsewhere, or has another key.",
        "Is the peer running, and has it this interface's public key? Then compare its endpoint and port "
        "(`wg-exporter show {interface} {peer}`) with where it is, and look for a firewall that drops UDP, here "
        "too, unless the evidence says that it was seen leaving this host.",
        _handshake_unanswered,
        Given.UNANSWERED,
    ),
    Rule(
        State.DOWN,
        Reason.DATA_UNANSWERED,
        "Data was sent and nothing came back, not even the keepalive that acknowledges it. Handshakes may pass.",
        "Where handshakes pass (`wg-exporter show {interface} {peer}`: the last one is seconds old), a filter on the "
        "way drops the rest, as some do against VPNs: try another port. Else it broke minutes ago at most: look at the "
        "path to its endpoint, and whether the peer was restarted.",
        _data_unanswered,
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
    Rule(
        None,
        None,
        "It is expected up, and two answers or more are due, or it is down and any answer is due, also after a "
        "handshake: it keeps its state until that is decided.",
        "",
        _hold,
        Given.UNANSWERED,
    ),
)
