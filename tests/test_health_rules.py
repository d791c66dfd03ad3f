"""Each rule of the table at its limit: the last evidence for which it holds, and the first for which it does not."""

from __future__ import annotations

from math import inf

import pytest

from tests.rows import WALL, peer
from tests.tunnels import LIMITS
from wg_exporter.health.evidence import Evidence, Place
from wg_exporter.health.quality import Quality
from wg_exporter.health.rules import RULES, decide
from wg_exporter.health.states import Reason, State
from wg_exporter.model import Verdict
from wg_exporter.names.identity import PeerMeta

NOW = 10_000.0
UNANSWERED = {"unanswered_since": NOW - 60, "overdue_since": NOW - 60, "attempts": 6}


def judged(*, age=10, keepalive=25, place=None, lossy=False, slow=False, **changes):
    """State and reason of a peer expected up that was heard `age` seconds ago, but for what `changes` say."""
    where = Place()
    for name, value in (place or {}).items():
        setattr(where, name, value)
    seen = Evidence(where, peer(1, persistent_keepalive=keepalive), PeerMeta("", False, True), NOW - 5000, WALL)
    seen.heard, seen.judged = None if age is None else NOW - age, True
    if lossy or slow or {"verdict", "target_silent_since"} & changes.keys():
        seen.quality = Quality()
        seen.quality.lossy, seen.quality.slow = lossy, slow
    for name, value in changes.items():
        assert hasattr(seen, name)
        setattr(seen, name, value)
    rule, _ = decide(seen, NOW, LIMITS)
    return rule.state, rule.reason


UP, IDLE, NEVER, STILL_DOWN = (State.UP, None), (State.IDLE, None), (State.NEVER, None), (State.DOWN, None)


def down(reason):
    return State.DOWN, reason


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        ({"age": None, "expected": False}, NEVER),
        ({"age": None, "expected": False, "place": {"gone_since": 0.0}}, NEVER),
        ({"age": 9999, "expected": False}, IDLE),
        ({"age": 225, "expected": False}, UP),
        ({"age": 226, "expected": False}, IDLE),
        ({"age": 200, "keepalive": 0}, UP),
        ({"age": 201, "keepalive": 0}, IDLE),
    ],
)
def test_a_peer_against_whom_nothing_speaks_is_up_idle_or_never(evidence, found):
    assert judged(**evidence) == found


@pytest.mark.parametrize(
    ("since", "holds"), [(NOW - 25, True), (NOW - 24.9, False), (0.0, True), (NOW, False)], ids=str
)
@pytest.mark.parametrize(
    ("name", "reason"), [("gone_since", Reason.INTERFACE_GONE), ("down_since", Reason.INTERFACE_DOWN)]
)
def test_an_interface_is_missed_for_25_seconds_first(name, reason, since, holds):
    assert judged(place={name: since}) == (down(reason) if holds else UP)


def test_an_interface_that_is_gone_is_not_called_down():
    assert judged(place={"gone_since": 0.0, "down_since": 0.0}) == down(Reason.INTERFACE_GONE)


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ({"inbound_initiations": 2}, Reason.ONE_WAY),
        ({"inbound_initiations": 2, "initiations": 9}, Reason.ONE_WAY),
        ({"inbound_initiations": 1}, Reason.DATA_UNANSWERED),
        ({"inbound_initiations": 1, "initiations": 2}, Reason.HANDSHAKE_UNANSWERED),
        ({"initiations": 2}, Reason.HANDSHAKE_UNANSWERED),
        ({"initiations": 1}, Reason.DATA_UNANSWERED),
        ({"initiations": 2, "probes": 9}, Reason.HANDSHAKE_UNANSWERED),
        ({"probes": 2}, Reason.NOT_SENT),
        ({"probes": 1}, Reason.DATA_UNANSWERED),
        ({"probes": 2, "initiations": 1}, Reason.NOT_SENT),
        ({"probes": 2, "data": 1}, Reason.NOT_SENT),
        ({"probes": 2, "initiations": 1, "data": 1}, Reason.DATA_UNANSWERED),
        ({"probes": 2, "data": 2}, Reason.DATA_UNANSWERED),
        ({"probes": 2, "place": {"opaque": True}}, Reason.DATA_UNANSWERED),
        ({"data": 6}, Reason.DATA_UNANSWERED),
    ],
)
def test_what_went_unanswered_is_the_reason_and_only_if_it_was_for_long_enough(evidence, reason):
    assert judged(**UNANSWERED, **evidence) == down(reason)
    assert judged(**{**UNANSWERED, "attempts": 5}, **evidence) == UP
    assert judged(**UNANSWERED, **evidence, expected=False) == UP


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        ({"age": None, "first_seen": NOW - 25}, down(Reason.NEVER_HEARD)),
        ({"age": None, "first_seen": NOW - 24.9}, IDLE),
        ({"age": 225}, down(Reason.STALE_HANDSHAKE)),
        ({"age": 224.9}, UP),
        ({"age": 226, "first_seen": NOW - 25}, down(Reason.STALE_HANDSHAKE)),
        ({"age": 226, "first_seen": NOW - 24.9}, IDLE),
        ({"age": 226, "expected": False}, IDLE),
        ({"age": 9999, "keepalive": 0}, IDLE),
    ],
)
def test_silence_alone_speaks_against_a_peer_that_was_watched_for_25_seconds(evidence, found):
    assert judged(**evidence) == found


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        ({"age": 11}, STILL_DOWN),
        ({"age": 10}, STILL_DOWN),
        ({"age": 9.9}, UP),
        ({"age": 10, "expected": False}, UP),
        ({"age": 10, "state": State.UP}, UP),
        ({"age": None, "first_seen": NOW}, STILL_DOWN),
        ({"age": 9999, "keepalive": 0}, STILL_DOWN),
        ({"age": 9999, "keepalive": 0, "quality": Quality()}, STILL_DOWN),
        ({"age": 9999, "keepalive": 0, "reason": Reason.INTERFACE_DOWN}, IDLE),
        ({"age": 9999, "keepalive": 0, "reason": Reason.INTERFACE_GONE}, IDLE),
        ({"age": 100, "keepalive": 0, "reason": Reason.INTERFACE_GONE}, UP),
        ({"age": 9999, "keepalive": 0, "reason": Reason.INTERFACE_DOWN, "quality": Quality()}, STILL_DOWN),
        ({"age": 100, "keepalive": 25, "reason": Reason.INTERFACE_DOWN}, STILL_DOWN),
        ({"age": 9999, "keepalive": 0, "reason": Reason.INTERFACE_DOWN, "place": {"down_since": NOW}}, STILL_DOWN),
        ({"age": 9999, "keepalive": 0, "reason": Reason.INTERFACE_DOWN, "place": {"gone_since": NOW}}, STILL_DOWN),
    ],
)
def test_a_peer_that_was_down_ten_seconds_ago_is_so_until_it_is_heard_or_could_not_be(evidence, found):
    about = {"state": State.DOWN, "reason": Reason.DATA_UNANSWERED, "since": NOW - 10}
    assert judged(**{**about, **evidence}) == found


FAULTS = [
    *(({"verdict": Verdict(reason.removeprefix("mtu_"))}, reason) for reason in Reason if reason.startswith("mtu_")),
    ({"target_silent_since": NOW - 60}, Reason.TARGET_SILENT),
    ({"lossy": True}, Reason.LOSSY),
    ({"slow": True}, Reason.SLOW),
]


@pytest.mark.parametrize(("evidence", "reason"), FAULTS, ids=[reason for _, reason in FAULTS])
def test_what_degrades_a_tunnel_is_said_while_the_peer_is_heard_and_of_those_too_whom_nobody_expects(evidence, reason):
    assert judged(**evidence) == (State.DEGRADED, reason)
    assert judged(**evidence, expected=False) == (State.DEGRADED, reason)
    assert judged(**evidence, age=201, keepalive=0) == IDLE
    assert judged(**evidence, age=9999) == down(Reason.STALE_HANDSHAKE)
    assert judged(**evidence, **UNANSWERED) == down(Reason.DATA_UNANSWERED)


def test_probes_of_good_quality_degrade_nothing():
    seen = Quality()
    assert judged(quality=seen) == UP


def test_every_state_and_every_reason_has_a_rule_and_the_last_always_holds():
    assert {rule.state for rule in RULES} == {None, *State}
    assert {rule.reason for rule in RULES} == {None, *Reason}
    assert len([rule for rule in RULES if rule.reason]) == len(Reason)
    for rule in RULES:
        assert (rule.reason is None) or rule.state in {State.DOWN, State.DEGRADED}
        assert rule.meaning.endswith(".")
    assert judged(age=None, first_seen=inf, expected=True) == IDLE
