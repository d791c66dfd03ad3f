"""Each rule of the table at its limit: the last evidence for which it holds, and the first for which it does not."""

from __future__ import annotations

from math import inf

import pytest

from tests.rows import WALL, peer
from tests.tunnels import LIMITS
from wg_exporter.health.evidence import Evidence
from wg_exporter.health.place import Place
from wg_exporter.health.quality import Quality
from wg_exporter.health.rules import RULES, decide
from wg_exporter.health.states import Obstacle, Reason, State
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import SendError, Verdict

NOW = 10_000.0
UNANSWERED = {"called_since": NOW - 60, "called_at": NOW - 1, "attempts": 6}


def judged(*, age=10, keepalive=25, place=None, lossy=False, slow=False, **changes):
    """State and reason of a peer expected up that was heard `age` seconds ago, but for what `changes` say."""
    where = Place()
    for name, value in (place or {}).items():
        setattr(where, name, value)
    seen = Evidence(where, peer(1, persistent_keepalive=keepalive), PeerMeta("", False, True), NOW - 5000, WALL)
    seen.heard = seen.heard_data = None if age is None else NOW - age
    seen.judged, seen.left_at = True, NOW
    if lossy or slow or {"verdict", "target_silent_since", "refused"} & changes.keys():
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
    ("name", "reason"),
    [
        ("gone_since", Reason.INTERFACE_GONE),
        ("down_since", Reason.INTERFACE_DOWN),
        ("hung_since", Reason.UNREADABLE),
    ],
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
        ({"inbound_initiations": 2, "left_at": NOW - 60}, Reason.ONE_WAY),
        ({"inbound_initiations": 2, "left_at": NOW - 60.1}, Reason.NOT_SENT),
        ({"inbound_initiations": 1, "left_at": NOW - 60.1}, Reason.DATA_UNANSWERED),
        ({"probes": 2}, Reason.DATA_UNANSWERED),
        ({"data": 6}, Reason.DATA_UNANSWERED),
    ],
)
def test_what_went_unanswered_is_the_reason_and_only_if_it_was_for_long_enough(evidence, reason):
    assert judged(**UNANSWERED, **evidence) == down(reason)
    assert judged(**{**UNANSWERED, "attempts": 5}, **evidence) == UP
    assert judged(**UNANSWERED, **evidence, expected=False) == UP


@pytest.mark.parametrize(
    ("left", "lost", "since", "found"),
    [
        pytest.param(25, 1, 25, "not_sent", id="nothing-left-since-the-first-of-them"),
        pytest.param(25, 1, 24.9, None, id="not-yet-long-enough"),
        pytest.param(20, 1, 25, "not_sent", id="what-was-counted-a-look-later-left-before"),
        pytest.param(19.9, 1, 25, None, id="something-left"),
        pytest.param(25, 1, 600, "not_sent", id="of-a-target-that-never-answered"),
        pytest.param(24.9, 1, 600, None, id="something-left-to-it"),
        pytest.param(25, 15, 25, None, id="no-probe-was-lost-that-was-sent-since"),
        pytest.param(90, 60.1, 90, None, id="a-prober-that-stands-still"),
        pytest.param(90, 59.9, 90, "not_sent", id="one-that-asks-every-half-a-minute"),
    ],
)
def test_probes_that_are_lost_while_nothing_leaves_are_not_sent(left, lost, since, found):
    evidence = {"left_at": NOW - left, "lost_at": NOW - lost, "silent_since": NOW - since, "quality": Quality()}
    assert judged(**evidence) == (down(Reason(found)) if found else UP)
    assert judged(**evidence, expected=False) == UP


LONG_SILENT = {"target_silent_since": NOW - 600}


@pytest.mark.parametrize(
    ("evidence", "holds"),
    [
        pytest.param({"calls": (NOW - 17, NOW - 9, NOW)}, True, id="three-calls"),
        pytest.param({"calls": (NOW - 17.1, NOW - 9, NOW)}, False, id="too-far-apart"),
        pytest.param({"calls": (NOW - 9, NOW)}, False, id="two-may-be-bad-luck"),
        pytest.param({"calls": (NOW - 44, NOW - 38, NOW - 30.1)}, False, id="it-calls-no-more"),
        pytest.param({"calls": (NOW - 44, NOW - 38, NOW - 29.9)}, True, id="it-called-just-now"),
        pytest.param(
            {**LONG_SILENT, "calls": (NOW - 17, NOW - 9, NOW)}, False, id="long-after-the-first-three-are-few"
        ),
        pytest.param(
            {**LONG_SILENT, "calls": tuple(NOW - at for at in (34, 25, 17, 9, 0))}, True, id="and-five-enough"
        ),
        pytest.param({**LONG_SILENT, "calls": tuple(NOW - at for at in (35, 25, 17, 9, 0))}, False, id="five-too-far"),
        pytest.param({**LONG_SILENT, "woken": tuple(NOW - at for at in (20, 0))}, False, id="a-rekey-and-one-more"),
        pytest.param({**LONG_SILENT, "woken": tuple(NOW - at for at in (60, 40, 20, 0))}, True, id="four-handshakes"),
        pytest.param(
            {**LONG_SILENT, "woken": tuple(NOW - at for at in (160, 40, 20, 0))}, False, id="three-and-a-rekey"
        ),
        pytest.param({"woken": (NOW - 25, NOW)}, True, id="two-handshakes"),
        pytest.param({"woken": (NOW - 25.1, NOW)}, False, id="as-many-as-are-usual"),
        pytest.param({"woken": (NOW - 7.9, NOW)}, False, id="both-sides-began-one"),
        pytest.param({"woken": (NOW,)}, False, id="one-handshake"),
        pytest.param(
            {"calls": (NOW - 17, NOW - 9, NOW), "target_silent_since": NOW - 24.9}, False, id="not-yet-long-enough"
        ),
        pytest.param({"calls": (NOW - 17, NOW - 9, NOW), "target_silent_since": None}, False, id="probes-are-answered"),
        pytest.param({"calls": (NOW - 17, NOW - 9, NOW), "expected": False}, False, id="nobody-expects-it"),
        pytest.param(
            {"target_silent_since": NOW - 25, "calls": (NOW - 25, NOW - 17, NOW - 9)}, False, id="it-called-before"
        ),
    ],
)
def test_a_peer_that_is_heard_hears_nothing_if_it_starts_handshakes_at_that_pace(evidence, holds):
    """Its target is silent too, and that it was heard just now is no more than that."""
    found = judged(**{"target_silent_since": NOW - 45, "heard_data": NOW - 600, **evidence})
    assert found == (down(Reason.ONE_WAY) if holds else UP)


def test_it_stays_so_while_its_target_is_silent_and_is_called_that_when_it_calls_no_more():
    deaf = {"target_silent_since": NOW - 600, "since": NOW - 500, "calls": (NOW - 515, NOW - 510, NOW - 199.9)}
    deaf |= {"calls": (NOW - 208, NOW - 204, NOW - 199.9), "state": State.DOWN, "reason": Reason.ONE_WAY}
    deaf["target_silent_since"] = NOW - 240
    deaf["since"] = NOW - 200
    assert judged(**deaf) == down(Reason.ONE_WAY)
    later = {**deaf, "calls": (NOW - 209, NOW - 205, NOW - 200)}
    assert judged(**later) == (State.DEGRADED, Reason.TARGET_SILENT)
    assert judged(**later, risen=NOW - 1) == (State.DEGRADED, Reason.TARGET_SILENT), "it never came back"


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
    ({"obstacle": Obstacle(Reason.NOT_ALLOWED, ""), "obstructed_since": NOW - 15}, Reason.NOT_ALLOWED),
    ({"obstacle": Obstacle(Reason.NOT_ROUTED, ""), "obstructed_since": NOW - 15}, Reason.NOT_ROUTED),
    ({"target_silent_since": NOW - 60}, Reason.TARGET_SILENT),
    ({"refused": SendError.NO_PERMISSION}, Reason.PROBES_BLOCKED),
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


@pytest.mark.parametrize("state", [State.UP, State.IDLE, State.DEGRADED])
def test_while_answers_are_overdue_a_peer_keeps_its_state(state):
    doubt = {"data_since": NOW - 5, "attempts": 2, "state": state}
    assert judged(**doubt) == (None, None)
    assert judged(**doubt, lossy=True) == (None, None)
    assert judged(**{**doubt, "attempts": 1}) == UP
    assert judged(**doubt, expected=False) == UP
    assert judged(**{**doubt, "data_since": None}) == UP


def test_a_doubt_about_data_ends_by_itself_15_s_after_a_handshake_without_data_since():
    doubt = {"data_since": NOW - 90, "data_asked": NOW - 30, "attempts": 6}
    assert judged(**doubt) == down(Reason.DATA_UNANSWERED)
    assert judged(**doubt, shaken=NOW - 14.9) == down(Reason.DATA_UNANSWERED)
    assert judged(**doubt, shaken=NOW - 15) == UP
    assert judged(**doubt, shaken=NOW - 30.1) == down(Reason.DATA_UNANSWERED), "data was sent since"
    assert judged(**doubt, shaken=NOW - 15, called_since=NOW - 1, called_at=NOW) == down(Reason.DATA_UNANSWERED)


def test_a_doubt_about_handshakes_ends_when_nobody_has_tried_one_for_half_a_minute():
    doubt = {"called_since": NOW - 600, "initiations": 6, "attempts": 6}
    assert judged(**doubt, called_at=NOW - 29.9) == down(Reason.HANDSHAKE_UNANSWERED)
    assert judged(**doubt, called_at=NOW - 30) == UP
    down_already = {**doubt, "state": State.DOWN, "reason": Reason.HANDSHAKE_UNANSWERED}
    assert judged(**down_already, called_at=NOW - 300) == down(Reason.HANDSHAKE_UNANSWERED)


def test_where_handshakes_pass_and_only_acknowledgements_tell_more_of_them_are_waited_for():
    doubt = {"data_since": NOW - 74.9, "data_asked": NOW, "shaken": NOW - 20, "attempts": 6}
    assert judged(**doubt) == UP
    assert judged(**{**doubt, "data_since": NOW - 75}) == down(Reason.DATA_UNANSWERED)
    assert judged(**{**doubt, "data_since": NOW - 35, "shaken": NOW - 36}) == down(Reason.DATA_UNANSWERED)
    echoes = {"data_since": NOW - 25, "echo_since": NOW - 25}
    assert judged(**{**doubt, **echoes}) == down(Reason.DATA_UNANSWERED), "an echo is due at once"


def test_a_peer_that_is_back_is_not_down_for_another_reason_before_data_was_sent_to_it():
    back = {"data_since": NOW - 90, "data_asked": NOW - 30, "shaken": NOW - 5, "attempts": 6, "since": NOW - 40}
    back |= {"state": State.DOWN, "reason": Reason.HANDSHAKE_UNANSWERED}
    assert judged(**back, age=5) == (None, None)
    assert judged(**{**back, "shaken": NOW - 15}, age=15) == UP
    assert judged(**{**back, "data_asked": NOW - 4}, age=5) == down(Reason.DATA_UNANSWERED)


def test_of_a_peer_that_is_down_for_it_that_doubt_lasts_as_long_as_a_session():
    doubt = {"data_since": NOW - 600, "data_asked": NOW - 300, "attempts": 6, "state": State.DOWN}
    doubt["reason"] = Reason.DATA_UNANSWERED
    assert judged(**doubt, shaken=NOW - 199.9) == down(Reason.DATA_UNANSWERED)
    assert judged(**doubt, since=NOW - 201, shaken=NOW - 200) == UP


def test_one_that_is_down_gets_no_more_time_because_handshakes_pass():
    doubt = {"data_since": NOW - 40, "data_asked": NOW, "shaken": NOW - 5, "attempts": 6, "since": NOW - 10, "age": 5}
    assert judged(**doubt, state=State.UP) == (None, None)
    assert judged(**{**doubt, "attempts": 1}, state=State.UP) == UP
    doubt |= {"state": State.DOWN}
    for reason in (Reason.DATA_UNANSWERED, Reason.HANDSHAKE_UNANSWERED):
        for attempts in (1, 6):  # it keeps its state until data is answered
            assert judged(**{**doubt, "attempts": attempts}, reason=reason) == (None, None)
