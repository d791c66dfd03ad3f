"""What was seen of one peer: what ends every doubt, what asks for an answer, and when that answer is overdue."""

from __future__ import annotations

import pytest

from tests.rows import SECOND, STATS, WALL, peer
from tests.tunnels import INITIATION, KEEPALIVE, LIMITS, RESPONSE
from wg_exporter.config.health import HealthLimits
from wg_exporter.health.evidence import Evidence
from wg_exporter.health.place import Place
from wg_exporter.health.rules import decide, silence, suspected_from
from wg_exporter.health.states import Reason, State
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import MtuReport, Probed, Verdict

START = 1000.0
"""When the peer was seen first, by the monotonic clock."""


def seen(*, age=None, expected=True, keepalive=25, opaque=False, **changes):
    """A peer at its first look, but for what `changes` say; its handshake was `age` seconds before."""
    place = Place()
    place.opaque = opaque
    stamp = 0 if age is None else int((WALL - age) * SECOND)
    row = peer(1, persistent_keepalive=keepalive, last_handshake_ns=stamp)
    found = Evidence(place, row, PeerMeta("", False, expected), START, WALL)
    for name, value in changes.items():
        assert hasattr(found, name)
        setattr(found, name, value)
    return found


def waiting(found):
    """What is waited for: since when an answer of any kind, and since when one that is due at once."""
    return found.unanswered_since, found.overdue_since


def move(found, received=0, sent=0, *, handshake=False, at=5.0, seconds=5.0):
    found.move(received, sent, handshake=handshake, now=START + at, seconds=seconds)
    return found


# --- what is known at the first look ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "heard"), [(None, None), (0, START), (70, START - 70), (-3600, START)])
def test_a_handshake_tells_at_the_first_look_when_the_peer_was_heard(age, heard):
    assert seen(age=age).heard == heard


def test_a_peer_that_was_made_anew_is_as_if_it_had_never_been_seen():
    found = move(seen(age=10), sent=INITIATION)
    found.inbound_initiations = found.data = found.probes = found.lost_before = 3
    found.judged = True
    found.appear(peer(1, persistent_keepalive=5), START + 60, WALL + 60)
    assert (found.first_seen, found.heard, found.judged, found.keepalive) == (START + 60, None, False, 5)
    assert waiting(found) == (None, None)
    assert (found.initiations, found.data, found.inbound_initiations, found.attempts, found.probes) == (0, 0, 0, 0, 0)
    assert found.lost_before is None


def test_a_peer_is_waited_for_since_it_was_first_expected():
    found = seen(expected=True)
    found.expect(True, START + 5)
    assert found.expected_since == START
    found.expect(False, START + 10)
    assert (found.expected, found.expected_since) == (False, START)
    found.expect(True, START + 15)
    assert (found.expected, found.expected_since) == (True, START + 15)


# --- what the counters say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "grown",
    [
        {"received": KEEPALIVE},
        {"received": INITIATION + KEEPALIVE},
        {"received": INITIATION + KEEPALIVE, "handshake": True},
        {"received": 3 * INITIATION},
    ],
)
def test_what_only_a_session_sends_ends_every_doubt(grown):
    found = move(move(seen(age=100), sent=INITIATION + 128), **grown, at=10)
    assert (found.heard, found.heard_data, found.judged, waiting(found)) == (START + 10, START + 10, True, (None, None))
    assert (found.initiations, found.data, found.attempts) == (0, 0, 0)


@pytest.mark.parametrize("grown", [{"received": INITIATION}, {"sent": INITIATION}, {"received": RESPONSE}, {}])
def test_a_handshake_ends_the_doubt_about_handshakes_and_not_that_about_data(grown):
    found = move(move(seen(age=100), sent=INITIATION + 128), **grown, handshake=True, at=10)
    assert (found.heard, found.shaken, found.heard_data) == (START + 10, START + 10, None)
    assert (waiting(found), found.judged) == ((START + 5, None), False)
    assert (found.initiations, found.data, found.attempts) == (0, 1, 1)
    assert waiting(move(move(seen(), sent=INITIATION), **grown, handshake=True, at=10)) == (None, None)


@pytest.mark.parametrize(
    ("grown", "data"),
    [
        ({"sent": INITIATION + KEEPALIVE + 80, "received": RESPONSE}, 1),
        ({"sent": INITIATION + 2 * KEEPALIVE, "received": RESPONSE}, 0),
        ({"sent": RESPONSE, "received": INITIATION}, 0),
    ],
)
def test_data_sent_in_the_look_of_a_handshake_asks_for_an_answer(grown, data):
    found = move(seen(), **grown, handshake=True)
    assert (found.data, found.initiations, found.inbound_initiations) == (data, 0, 0)
    assert waiting(found) == (START + 5 if data else None, None)


def test_the_latest_calls_are_remembered_until_a_handshake_is_made_of_them():
    found = seen()
    for at in (0, 5, 10, 15, 20):
        move(found, received=INITIATION, at=at)
    assert found.calls == tuple(START + at for at in (0, 5, 10, 15, 20))
    move(found, received=INITIATION + 96, at=25)
    assert found.calls == tuple(START + at for at in (5, 10, 15, 20, 25))
    move(found, received=RESPONSE, handshake=True, at=30)
    assert (found.calls, found.woken) == ((), (START + 30,))
    move(found, received=RESPONSE, handshake=True, at=45)
    assert found.woken == (START + 30,), "we began that one"
    move(found, received=INITIATION + KEEPALIVE, handshake=True, at=60)
    assert found.woken == (START + 30, START + 60)


@pytest.mark.parametrize("grown", [{"received": INITIATION}, {"sent": INITIATION}, {"sent": 128}, {"sent": KEEPALIVE}])
def test_what_goes_to_a_peer_and_its_own_calls_prove_nothing(grown):
    found = move(seen(age=100), **grown)
    assert (found.heard, found.judged) == (START - 100, False)


@pytest.mark.parametrize(
    ("grown", "asked", "called", "counts"),
    [
        ({"sent": KEEPALIVE}, False, False, (0, 0, 0, 0)),
        ({"sent": 128}, True, False, (0, 1, 0, 1)),
        ({"sent": 4096}, True, False, (0, 1, 0, 1)),
        ({"sent": INITIATION}, True, True, (1, 0, 0, 1)),
        ({"sent": 2 * INITIATION}, True, True, (2, 0, 0, 2)),
        ({"sent": INITIATION + 128}, True, True, (1, 1, 0, 1)),
        ({"received": INITIATION}, True, True, (0, 0, 1, 1)),
        ({"received": 2 * INITIATION, "sent": 184}, True, True, (0, 0, 2, 2)),
    ],
)
def test_what_asks_for_an_answer_is_counted(grown, asked, called, counts):
    found = move(seen(), **grown)
    at = START + 5
    assert waiting(found) == (at if asked else None, at if called else None)
    assert (found.initiations, found.data, found.inbound_initiations, found.attempts) == counts
    move(found, **grown, at=10)
    assert waiting(found) == (at if asked else None, at if called else None), "the first one dates it"
    assert (found.initiations, found.data, found.inbound_initiations, found.attempts) == tuple(
        2 * count for count in counts
    )


def test_data_may_wait_for_its_acknowledgement_and_the_handshake_after_it_may_not():
    found = move(move(seen(), sent=128), sent=INITIATION, at=20)
    assert waiting(found) == (START + 5, START + 20)
    move(found, sent=128, at=25)
    assert waiting(found) == (START + 5, START + 20)


def test_where_sizes_say_nothing_whatever_comes_is_heard_and_nothing_asks():
    assert move(seen(opaque=True), received=INITIATION).heard == START + 5
    found = move(seen(opaque=True), sent=INITIATION)
    assert (found.heard, waiting(found), found.attempts) == (None, (None, None), 0)


# --- what probes say -------------------------------------------------------------------------------------------------


def ask(found, *, lost=0, silent=None, at=60.0, answers=True, sent=100, verdict=None):
    """The prober has lost so many by now, of which the last ones since `silent` seconds after the start."""
    stats = STATS._replace(
        sent=sent,
        lost=lost,
        rtt_last=0.02 if answers else None,
        silent_since=None if silent is None else START + silent,
    )
    report = MtuReport(verdict, 1420, None, None, 0, None, None, None, "", 0.0) if verdict else None
    found.probe(Probed("10.0.0.1", stats, report), START + at, LIMITS)
    return found


def heard(at=0.0, **changes):
    return seen(heard=START + at, heard_data=START + at, left_at=START + at, judged=True, **changes)


def test_losses_count_from_when_the_peer_was_last_heard():
    found = ask(heard(), lost=7)
    assert (found.probes, found.attempts) == (0, 0)
    assert ask(found, lost=9).probes == 2
    assert found.attempts == 2
    found.hear(START + 61)
    assert ask(found, lost=10, at=62).probes == 0
    assert ask(found, lost=11, at=63).probes == 1


def test_a_prober_that_begins_anew_has_lost_nothing_yet():
    found = ask(ask(heard(), lost=7), lost=2)
    assert found.probes == 0
    assert ask(found, lost=3).probes == 1


def test_lost_probes_and_what_the_counters_saw_are_the_same_attempts():
    found = ask(heard(attempts=3), lost=0)
    assert ask(found, lost=2).attempts == 3
    assert ask(found, lost=5).attempts == 5


@pytest.mark.parametrize(
    ("before", "silent", "lost", "asked", "called"),
    [
        pytest.param({}, 40, 1, 40, 40, id="one-lost-since-it-was-heard"),
        pytest.param({}, 30, 1, 30, 30, id="at-the-very-moment"),
        pytest.param({}, 26, 1, 26, 26, id="since-the-look-before-it-was-heard"),
        pytest.param({}, 40, 0, None, None, id="a-prober-that-stands-still"),
        pytest.param({"data_since": 35.0}, 40, 0, 35, 40, id="bytes-asked-earlier"),
        pytest.param({"data_since": 45.0}, 40, 0, 40, 40, id="bytes-asked-later"),
        pytest.param({"called_since": 45.0, "called_at": 60.0}, 40, 1, 40, 40, id="a-handshake-later"),
        pytest.param({"called_since": 35.0, "called_at": 60.0}, 40, 1, 35, 35, id="a-handshake-earlier"),
        pytest.param({}, 20, 1, None, None, id="sent-before-it-was-heard"),
        pytest.param({}, 20, 2, 60, None, id="of-two-one-was-sent-after-it"),
        pytest.param({"data_since": 45.0}, 20, 2, 45, None, id="bytes-have-asked-by-then"),
        pytest.param({}, None, 5, None, None, id="answered-since"),
    ],
)
def test_a_silence_is_dated_by_its_first_probe_if_that_was_sent_after_the_peer_was_heard(
    before, silent, lost, asked, called
):
    found = ask(heard(30.0, heard_from=START + 25.0), at=30)
    for name, value in before.items():
        setattr(found, name, START + value)
    ask(found, lost=lost, silent=silent)
    assert waiting(found) == tuple(None if value is None else START + value for value in (asked, called))


@pytest.mark.parametrize(
    ("pause", "silent", "since"),
    [
        pytest.param(5.0, 96, (96, 96), id="a-look-ago"),
        pytest.param(60.0, 96, (96, 96), id="a-moment-ago-whatever-the-pause"),
        pytest.param(60.0, 60, (104, None), id="in-the-pause-data-may-have-come-after-it"),
    ],
)
def test_what_was_heard_in_a_look_may_have_come_before_the_silence_but_not_long_before(pause, silent, since):
    found = ask(heard(), at=90)
    found.hear(START + 100, pause)
    ask(ask(found, lost=1, silent=silent, at=101), lost=4, silent=silent, at=104)
    assert waiting(found) == tuple(None if at is None else START + at for at in since)


def test_an_echo_that_was_answered_is_heard_whatever_the_counters_say():
    found = move(ask(heard(30.0), sent=100, lost=0, at=35), received=INITIATION, at=40)
    assert ask(found, sent=100, lost=0, at=40).heard_data == START + 30
    assert ask(found, sent=101, lost=0, at=45).heard_data == START + 45
    assert waiting(found) == (None, None)
    assert ask(found, sent=103, lost=1, silent=48, at=50).heard_data == START + 45, "a later one has no answer"


def test_a_target_that_never_answered_owes_nothing_at_once():
    found = ask(ask(heard(30.0), at=30), lost=1, silent=40, answers=False)
    assert waiting(found) == (START + 40, None)


@pytest.mark.parametrize(("silent", "lost", "asked"), [(0, 1, 0), (20, 1, 20), (-1, 1, None), (-1, 2, 60)])
def test_of_a_peer_that_was_never_heard_probes_count_from_its_first_look(silent, lost, asked):
    found = ask(ask(seen(), at=1), lost=lost, silent=silent)
    assert found.unanswered_since == (None if asked is None else START + asked)


@pytest.mark.parametrize(
    ("changes", "probes", "silent"),
    [
        ({}, {}, True),
        ({}, {"silent": 85.1}, False),
        ({}, {"silent": None}, False),
        ({}, {"answers": False}, False),
        ({"heard": None}, {}, False),
        ({"state": State.DOWN}, {}, False),
        ({"risen": START + 80}, {}, True),
        ({"risen": START + 80.1}, {}, False),
    ],
)
def test_a_target_is_silent_while_the_peer_is_heard_15_s_later_and_its_last_outage_is_30_s_past(
    changes, probes, silent
):
    found = heard(100.0, state=State.UP)
    for name, value in changes.items():
        setattr(found, name, value)
    ask(found, **{"lost": 3, "silent": 85, "at": 110, **probes})
    rule, _ = decide(found, START + 110, LIMITS)
    assert (rule.reason is Reason.TARGET_SILENT) is silent


def test_what_probes_said_ends_with_them():
    found = ask(heard(100.0), lost=3, silent=80, at=110, verdict=Verdict.BLACKHOLE)
    assert (found.probed, found.target_silent_since, found.verdict) == (True, START + 80, Verdict.BLACKHOLE)
    assert found.quality is not None
    assert ask(found).verdict is None
    found.probe(None, START + 111, LIMITS)
    assert (found.probed, found.target_silent_since, found.verdict, found.quality) == (False, None, None, None)


def test_loss_is_counted_anew_while_the_peer_is_down_and_goes_on_else():
    def lossy(state):
        found = heard(state=state)
        for look in range(10):
            ask(found, sent=10 * look, lost=5 * look, at=look)
        return found.quality.lossy

    assert lossy(State.UP)
    assert not lossy(State.DOWN)


# --- when an answer is overdue ---------------------------------------------------------------------------------------


def unanswered(found, at, **limits):
    begin, end = silence.unanswered(found, HealthLimits(**limits))
    return begin <= START + at < end


@pytest.mark.parametrize(
    ("asked", "called", "since"),
    [
        pytest.param(100.0, 100.0, 100, id="a-call-at-once"),
        pytest.param(100.0, None, 110, id="data-after-ten-seconds"),
        pytest.param(100.0, 105.0, 105, id="a-call-after-data"),
        pytest.param(100.0, 120.0, 110, id="a-call-long-after-data"),
    ],
)
@pytest.mark.parametrize("down_after", [15.0, 25.0, 60.0])
def test_an_answer_of_a_peer_that_was_judged_is_overdue_for_down_after(asked, called, since, down_after):
    calls = {} if called is None else {"called_since": START + called, "called_at": START + 1e9}
    found = heard(data_since=START + asked, attempts=6, **calls)
    assert not unanswered(found, since + down_after - 0.1, down_after=down_after)
    assert unanswered(found, since + down_after, down_after=down_after)
    found.attempts = 5
    assert not unanswered(found, since + 1000)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        pytest.param(0.0, 25, id="at-once"),
        pytest.param(10.0, 20, id="so-that-a-state-is-known-after-30-s"),
        pytest.param(20.0, 15, id="but-not-sooner-than-an-answer-may-come"),
        pytest.param(500.0, 15, id="long-after-the-start"),
    ],
)
def test_at_the_start_less_is_enough_for_a_state_has_to_be_found(asked, seconds):
    found = seen(called_since=START + asked, called_at=START + 1e9, attempts=2)
    assert not unanswered(found, asked + seconds - 0.1)
    assert unanswered(found, asked + seconds)
    found.attempts = 1
    assert not unanswered(found, asked + 1000)


def test_at_the_start_down_after_is_enough_if_it_is_shorter():
    found = seen(data_since=START, attempts=2)
    assert not unanswered(found, 17.9, down_after=18.0)
    assert unanswered(found, 18, down_after=18.0)


def test_where_nothing_was_asked_nothing_is_overdue():
    assert not unanswered(heard(attempts=9), 1000)
    assert not unanswered(seen(attempts=9), 1000)


# --- before anything is said, and before anything is decided ---------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "at", "is_open"),
    [
        ({}, 29.9, True),
        ({}, 30, False),
        ({"judged": True}, 5, False),
        ({"data_since": START + 20}, 49.9, True),
        ({"data_since": START + 20}, 50, False),
        ({"data_since": START + 20, "expected": False}, 40, False),
        ({"data_since": START + 20, "judged": True}, 40, False),
    ],
)
def test_half_a_minute_passes_before_anything_is_said_and_another_where_somebody_waits_for_an_answer(
    changes, at, is_open
):
    begin, end = silence.opening(seen(**changes), LIMITS)
    assert (begin <= START + at < end) is is_open


@pytest.mark.parametrize(
    ("changes", "at", "suspect"),
    [
        ({}, 1000, True),
        ({"expected": False}, 1000, False),
        ({"judged": True}, 1000, False),
        ({"judged": True, "data_since": START, "attempts": 2}, 10, True),
        ({"judged": True, "data_since": START, "attempts": 2}, 9.9, False),
        ({"judged": True, "data_since": START, "attempts": 1}, 1000, False),
        ({"judged": True, "data_since": START, "attempts": 2, "expected": False}, 1000, False),
    ],
)
def test_a_closer_look_is_worth_it_at_the_start_and_where_an_answer_is_late(changes, at, suspect):
    assert (suspected_from(seen(**changes)) <= START + at) is suspect


@pytest.mark.parametrize(("name", "well"), [("down_since", False), ("gone_since", False), ("opaque", True)])
def test_a_device_is_well_unless_it_is_down_or_gone(name, well):
    place = Place()
    assert place.well
    setattr(place, name, 1.0)
    assert place.well is well
