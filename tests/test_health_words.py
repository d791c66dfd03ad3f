"""What is said of a peer beside its state: a judgement from one look, the evidence in words, what to do."""

from __future__ import annotations

import shlex
from math import inf

import pytest

from tests.rows import SECOND, WALL, device, link, peer
from wg_exporter.cli import main
from wg_exporter.config.health import HealthLimits
from wg_exporter.health.advice import advice
from wg_exporter.health.evidence import Evidence, Place
from wg_exporter.health.snapshot import judge_snapshot
from wg_exporter.health.states import Reason, State
from wg_exporter.names.identity import PeerMeta


def glanced(*, age=None, keepalive=0, expected=True, up=True):
    stamp = 0 if age is None else int((WALL - age) * SECOND)
    row = peer(1, persistent_keepalive=keepalive, last_handshake_ns=stamp)
    meta = PeerMeta("berlin", True, expected)
    [found] = judge_snapshot(device(row), link(up=up), [meta], WALL, HealthLimits())
    return found


# --- one look --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "keepalive", "state", "reason"),
    [
        (204, 5, State.UP, None),
        (206, 5, State.DOWN, Reason.STALE_HANDSHAKE),
        (199, 0, State.UP, None),
        (201, 0, State.IDLE, None),
        (None, 0, State.DOWN, Reason.NEVER_HEARD),
        (None, 25, State.DOWN, Reason.NEVER_HEARD),
        (-600, 25, State.UP, None),
    ],
)
def test_one_look_judges_a_peer_expected_up_by_its_age_where_keepalive_makes_that_meaningful(
    age, keepalive, state, reason
):
    found = glanced(age=age, keepalive=keepalive)
    assert (found.state, found.reason) == (state, reason)


@pytest.mark.parametrize(("age", "state"), [(None, State.NEVER), (10, State.UP), (10**8, State.IDLE)])
def test_a_peer_that_nobody_expects_is_never_down_at_one_look_though_the_interface_is(age, state):
    assert glanced(age=age, keepalive=25, expected=False, up=False).state is state


def test_behind_an_interface_that_is_down_an_expected_peer_is_down_however_fresh_its_handshake():
    found = glanced(age=5, up=False)
    assert (found.state, found.reason) == (State.DOWN, Reason.INTERFACE_DOWN)
    assert found.evidence == "interface down, last heard 5 s ago"


def test_a_link_that_is_not_known_says_nothing_against_its_peers():
    row = peer(1, last_handshake_ns=int((WALL - 5) * SECOND))
    [found] = judge_snapshot(device(row), None, [PeerMeta("berlin", True, True)], WALL, HealthLimits())
    assert found.state is State.UP


def test_one_look_counts_nothing_and_brings_evidence_only_for_a_reason():
    fine, broken = glanced(age=5), glanced(age=3 * 86_400, keepalive=25)
    assert fine[2:] == (0, 0.0, 0.0, "")
    assert broken[2:] == (0, 0.0, 0.0, "last heard 3 days ago")


# --- evidence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h"), (172_800, "2 days")],
)
def test_ages_are_told_in_whole_units(seconds, said):
    seen = Evidence(Place(), peer(1), PeerMeta("", False, True), 0.0, WALL)
    seen.hear(0.0)
    assert seen.told(float(seconds)) == f"last heard {said} ago"


def test_one_handshake_is_not_several():
    seen = Evidence(Place(), peer(1), PeerMeta("", False, True), 0.0, WALL)
    seen.move(0, 148, handshake=False, now=5.0, seconds=5.0)
    assert seen.told(10.0) == "never heard, 1 handshake initiation unanswered for 5 s"
    seen.move(0, 148, handshake=False, now=10.0, seconds=5.0)
    assert seen.told(10.0) == "never heard, 2 handshake initiations unanswered for 5 s"


def test_how_long_an_interface_has_been_down_is_not_told_where_nobody_knows():
    place = Place()
    seen = Evidence(place, peer(1), PeerMeta("", False, True), 0.0, WALL)
    place.gone_since = -inf
    assert seen.told(0.0) == "interface gone, never heard"
    place.gone_since = -27.0
    assert seen.told(0.0) == "interface gone for 27 s, never heard"


# --- advice ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", Reason)
def test_for_every_reason_there_is_one_line_that_says_what_to_do(reason):
    line = advice(reason)
    assert line.endswith((".", "?"))
    assert line.isprintable()
    assert "{" not in line


@pytest.mark.parametrize("reason", Reason)
def test_commands_in_the_advice_are_there_and_take_any_name(reason):
    for piece in advice(reason, "wg0", "anna's {phone}; x").split("`")[1::2]:
        words = shlex.split(piece)
        if words[0] == "wg-exporter":
            assert words[1] in main.commands
            assert words[2:] == ["wg0", "anna's {phone}; x"]
