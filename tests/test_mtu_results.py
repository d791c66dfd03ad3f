"""What `wg-exporter mtu` says of a peer: rows of findings, numbers for scripts, and what else could be done."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from tests.test_prober_verdict import FINE, HOLE, IPV4, LARGE, MUTE, evidences
from wg_exporter.cli.mtu.results import Asked, all_ok, conclude, shared_devices, so_far, to_json, unprobed
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.probed import Verdict
from wg_exporter.prober.mtu.locate import Direction, Shrink
from wg_exporter.prober.mtu.oracle import Oracle
from wg_exporter.prober.mtu.pairs import Big
from wg_exporter.prober.mtu.verdict import Findings

BERLIN = Asked("", "wg0", "A" * 43 + "=", "berlin", "10.0.0.2", 1420)
PARIS = BERLIN._replace(public_key="B" * 43 + "=", name="paris")
NARROW = FINE._replace(outer=1400, outer_full=False)
KEYS = [
    "interface",
    "public_key",
    "peer",
    "target",
    "verdict",
    "interface_mtu",
    "path_mtu_inner",
    "path_mtu_outer",
    "recommended_mtu",
    "shrinks_at",
    "seconds",
    "state",
    "reason",
]


def came_back(findings, sent, shrink=None):
    """What the table says to the row that begins with `sent`."""
    [row] = [row for row in conclude(BERLIN, findings, shrink, 1.0).rows if row.sent.startswith(sent)]
    return row.came_back


def test_a_script_gets_the_numbers_of_a_narrow_path():
    [found] = json.loads(to_json([conclude(BERLIN, NARROW, Shrink("192.0.2.1", 1, certain=True), 1.2345)]))
    assert list(found) == KEYS
    assert found == {
        "interface": "wg0",
        "public_key": BERLIN.public_key,
        "peer": "berlin",
        "target": "10.0.0.2",
        "verdict": "fragmented_path",
        "interface_mtu": 1420,
        "path_mtu_inner": 1420,
        "path_mtu_outer": 1400,
        "recommended_mtu": 1328,
        "shrinks_at": "192.0.2.1",
        "seconds": 1.234,
        "state": None,
        "reason": None,
    }


def test_what_is_not_known_is_null_and_the_peer_is_in_the_list_nevertheless():
    result = unprobed(PARIS._replace(target="", mtu=None, problem="no allowed IPs"))
    [found] = json.loads(to_json([result]))
    assert {key for key, value in found.items() if value is None} == set(KEYS[3:4] + KEYS[5:10] + KEYS[11:])
    assert found["verdict"] == "unknown"
    assert result.advice.sentence == "paris can't be probed: no allowed IPs."


@given(evidences)
def test_any_findings_become_rows_that_hold_no_none_and_ascii_json(findings):
    result = conclude(BERLIN, findings, None, 0.1)
    assert all("None" not in word for row in result.rows for word in row[:3])
    text = to_json([result])
    assert text.isascii()
    assert json.loads(text)[0]["verdict"] == result.advice.verdict
    assert "None" not in so_far(findings)


def test_only_when_every_verdict_is_ok_all_is_ok():
    fine, narrow = conclude(BERLIN, FINE, None, 1.0), conclude(BERLIN, NARROW, None, 1.0)
    assert all_ok([fine, fine])
    assert not all_ok([fine, narrow])
    assert not all_ok([fine, unprobed(PARIS)])


@pytest.mark.parametrize(
    ("findings", "sent", "said"),
    [
        (FINE, "echo of 100", "answered"),
        (FINE, "echo of 1420", "answered"),
        (FINE, "echo of 1480", "answered, and of 1500 too"),
        (FINE, "route", "carries 1500 bytes"),
        (FINE._replace(route=1400), "route", "carries 1400 bytes, and a full packet needs 1480"),
        (FINE._replace(learnt=1400), "path MTU", "1400 bytes, by a packet-too-big"),
        (FINE._replace(fragment=1380), "echo of 1420", "answered, in fragments of up to 1380 bytes"),
        (
            FINE._replace(outer=None, outer_full=None),
            "echo of 1480",
            "nothing that could tell: large echoes may be dropped there",
        ),
        (NARROW, "echo of 1480", "nothing; the largest that was answered has 1400 bytes"),
        (
            NARROW._replace(hop="192.0.2.1"),
            "echo of 1480",
            "too big for the path, which carries 1400 bytes, says 192.0.2.1",
        ),
        (HOLE, "echo of 1420", "nothing, while small ones were answered"),
        (HOLE, "echoes", "1360 bytes passed, the next 16 bytes more did not"),
        (HOLE._replace(inner=1391, inner_exact=True), "echoes", "1391 bytes passed"),
        (HOLE._replace(direction=Direction.BACK), "UDP", "refused, so it arrived"),
        (
            HOLE._replace(direction=Direction.TOWARDS),
            "UDP",
            "nothing, though smaller ones were refused: the loss is on the way there",
        ),
        (HOLE._replace(refused=1391), "echo of 1420", "this host refused to send it: 1391 bytes at most"),
        (HOLE._replace(inner_claim=1300, hop="10.0.0.9"), "echo of 1420", "too big: 1300 bytes at most, says 10.0.0.9"),
        (MUTE, "echo of 100", "nothing, 6 times in a row"),
        (MUTE, "the peer's byte counters", "the peer is alive: something came from it within 25 s"),
        (MUTE._replace(alive=False), "the peer's byte counters", "nothing came from the peer for 25 s"),
        (
            MUTE._replace(oracle=Oracle.LOST),
            "the peer's byte counters, 3 times",
            "full-size packets are lost: none was acknowledged, and a new handshake was",
        ),
        (FINE._replace(big=Big.UNSURE), "echo of 1420", "lost now and then, as small ones are"),
        (Findings(IPV4), "echo of 100", "not known yet"),
    ],
)
def test_the_table_says_what_was_sent_and_what_came_back(findings, sent, said):
    assert came_back(findings, sent) == said


def test_the_reporter_of_a_narrow_link_inside_is_not_blamed_for_the_path_outside():
    findings = HOLE._replace(inner_claim=1300, hop="10.0.0.9", outer=1400, outer_full=False)
    assert "10.0.0.9" not in came_back(findings, "echo of 1480")


def test_the_hop_is_told_with_its_distance_and_how_sure_it_is():
    assert came_back(NARROW, "the same", Shrink("192.0.2.1", 1, certain=True)) == (
        "192.0.2.1, 1 router away: too big for the link behind it"
    )
    assert came_back(NARROW, "the same", Shrink("192.0.2.1", 3, certain=False)) == (
        "192.0.2.1, 3 routers away: the last that full-size packets reached"
    )
    assert came_back(NARROW, "the same", Shrink("192.0.2.1", 0, certain=True)) == (
        "192.0.2.1 says that it is too big for the first link"
    )


def test_a_filtered_peer_comes_with_the_hint_that_its_counters_can_be_asked_until_they_were():
    assert "--silent-peers" in conclude(BERLIN, MUTE, None, 26.0).hint
    assert conclude(BERLIN, MUTE._replace(oracle=Oracle.ARRIVES), None, 99.0).hint == ""
    assert "--timeout" in conclude(BERLIN, MUTE, None, 26.0, cut=True).hint


def test_peers_that_need_different_mtus_share_the_smallest_of_their_device():
    berlin = conclude(BERLIN, FINE, None, 1.0)
    paris = conclude(PARIS, FINE._replace(outer=1400, outer_full=False), None, 1.0)
    [sentence] = shared_devices([berlin, paris])
    assert sentence.startswith("wg0 has one MTU for all its peers: 1328, which paris needs, suits them all.")
    elsewhere = paris._replace(asked=PARIS._replace(netns="blue"))
    assert [*shared_devices([berlin, elsewhere])] == []
    assert [*shared_devices([berlin, berlin])] == []


def test_peers_that_cannot_be_probed_and_nobody_expects_make_nothing_fail_unless_there_are_no_others():
    fine = conclude(BERLIN, FINE, None, 1.0)
    phone = unprobed(PARIS._replace(problem="no endpoint yet", expected=False))
    assert all_ok([fine, phone])
    assert not all_ok([phone])
    assert not all_ok([fine, phone, unprobed(PARIS._replace(problem="no endpoint yet"))])
    assert not all_ok([phone, conclude(PARIS._replace(expected=False), NARROW, None, 1.0)])


@pytest.mark.parametrize(
    ("findings", "more"),
    [
        (LARGE, True),
        (LARGE._replace(direction=Direction.BACK), False),
        (HOLE._replace(direction=Direction.TOWARDS), False),
        (LARGE._replace(oracle=Oracle.INCONCLUSIVE), False),
    ],
)
def test_where_large_echoes_alone_are_lost_the_counters_may_tell_what_datagrams_have_not(findings, more):
    assert ("--silent-peers" in conclude(BERLIN, findings, None, 9.0).hint) is more


def test_a_peer_that_was_not_probed_is_unknown_and_has_no_advice():
    result = unprobed(PARIS._replace(problem="no endpoint"))
    assert result.advice.verdict is Verdict.UNKNOWN
    assert result.advice.commands == ()


def test_of_a_peer_that_is_down_it_is_not_said_that_it_is_alive():
    assert conclude(BERLIN, MUTE, None, 1.0).advice.verdict is Verdict.FILTERED
    down = BERLIN._replace(health=PeerHealth(State.DOWN, Reason.DATA_UNANSWERED))
    found = conclude(down, MUTE, None, 1.0).advice
    assert found.verdict is Verdict.UNREACHABLE
    assert found.sentence.endswith("says that it is down (data_unanswered).")
    assert conclude(down, FINE, None, 1.0).advice.verdict is Verdict.OK, "what was measured now stays"
