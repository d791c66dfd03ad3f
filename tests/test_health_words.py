"""What is said of a peer beside its state: a judgement from one look, the evidence in words, what to do."""

from __future__ import annotations

import re
import shlex
from math import inf
from pathlib import Path

import pytest

from tests.rows import SECOND, WALL, device, link, peer
from wg_exporter.cli import main
from wg_exporter.config.health import HealthLimits
from wg_exporter.health.advice import advice
from wg_exporter.health.evidence import Evidence
from wg_exporter.health.place import Place
from wg_exporter.health.quality import Quality
from wg_exporter.health.rules import RULES
from wg_exporter.health.snapshot import judge_snapshot
from wg_exporter.health.states import Reason, State
from wg_exporter.health.words import in_words
from wg_exporter.names.identity import PeerMeta


def at_one_look(*, age=None, keepalive=0, expected=True, up=True):
    stamp = 0 if age is None else int((WALL - age) * SECOND)
    row = peer(1, persistent_keepalive=keepalive, last_handshake_ns=stamp)
    meta = PeerMeta("berlin", True, expected)
    [found] = judge_snapshot(device(row), link(up=up), [meta], WALL, HealthLimits())
    return found


# --- one look --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "keepalive", "state", "reason"),
    [
        (204, 5, None, None),
        (206, 5, State.DOWN, Reason.STALE_HANDSHAKE),
        (1, 0, None, None),
        (199, 0, None, None),
        (201, 0, None, None),
        (None, 0, State.DOWN, Reason.NEVER_HEARD),
        (None, 25, State.DOWN, Reason.NEVER_HEARD),
        (-600, 25, None, None),
    ],
)
def test_one_look_tells_of_a_peer_expected_up_only_that_it_is_down_never_that_it_is_well(age, keepalive, state, reason):
    found = at_one_look(age=age, keepalive=keepalive)
    assert (found.state, found.reason) == (state, reason)


@pytest.mark.parametrize(("age", "state"), [(None, State.NEVER), (10, None), (10**8, State.IDLE)])
def test_a_peer_that_nobody_expects_is_never_down_at_one_look_though_the_interface_is(age, state):
    assert at_one_look(age=age, keepalive=25, expected=False, up=False).state is state


def test_behind_an_interface_that_is_down_an_expected_peer_is_down_however_fresh_its_handshake():
    found = at_one_look(age=5, up=False)
    assert (found.state, found.reason) == (State.DOWN, Reason.INTERFACE_DOWN)
    assert found.evidence == "interface down, last heard 5 s ago"


def test_a_link_that_is_not_known_says_nothing_against_its_peers():
    row = peer(1, last_handshake_ns=int((WALL - 5) * SECOND))
    [found] = judge_snapshot(device(row), None, [PeerMeta("berlin", True, True)], WALL, HealthLimits())
    assert found.state is None


def test_one_look_counts_nothing_and_brings_evidence_only_for_a_reason():
    fine, broken = at_one_look(age=5), at_one_look(age=3 * 86_400, keepalive=25)
    assert fine[2:6] == (0, 0.0, 0.0, "")
    assert broken[2:6] == (0, 0.0, 0.0, "last heard 3 days ago")


# --- evidence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_199, "119 min"),
        (7_200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 days"),
        (259_200, "3 days"),
    ],
)
def test_ages_are_told_in_whole_units(seconds, said):
    seen = Evidence(Place(), peer(1), PeerMeta("", False, True), 0.0, WALL)
    seen.hear(0.0)
    assert in_words(seen, float(seconds)) == f"last heard {said} ago"


def test_one_handshake_is_not_several():
    seen = Evidence(Place(), peer(1), PeerMeta("", False, True), 0.0, WALL)
    seen.move(0, 148, handshake=False, now=5.0, seconds=5.0)
    assert in_words(seen, 10.0) == "never heard, 1 handshake initiation unanswered for 5 s"
    seen.move(0, 148, handshake=False, now=10.0, seconds=5.0)
    assert in_words(seen, 10.0) == "never heard, 2 handshake initiations unanswered for 5 s"


def test_how_long_an_interface_has_been_down_is_not_told_where_nobody_knows():
    place = Place()
    seen = Evidence(place, peer(1), PeerMeta("", False, True), 0.0, WALL)
    place.gone_since = -inf
    assert in_words(seen, 0.0) == "interface gone, never heard"
    place.gone_since = -27.0
    assert in_words(seen, 0.0) == "interface gone for 27 s, never heard"


def quality(**changes):
    found = Quality()
    for name, value in changes.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "last heard 60 s ago"),
        ({"data_since": 0.0, "data": 4}, "last heard 60 s ago, data unanswered for 60 s"),
        (
            {"data_since": 0.0, "initiations": 1, "data": 1},
            "last heard 60 s ago, 1 handshake initiation and data unanswered for 60 s",
        ),
        (
            {"data_since": 0.0, "initiations": 2, "data": 1, "probes": 3},
            "last heard 60 s ago, 2 handshake initiations, data and 3 probes unanswered for 60 s",
        ),
        ({"data_since": 0.0, "probes": 1}, "last heard 60 s ago, 1 probe unanswered for 60 s"),
        ({"data_since": 0.0, "inbound_initiations": 1}, "last heard 60 s ago, 1 initiation came from it"),
        ({"data_since": 0.0, "inbound_initiations": 2}, "last heard 60 s ago, 2 initiations came from it"),
        ({"initiations": 2, "data": 1, "probes": 3, "inbound_initiations": 4}, "last heard 60 s ago"),
        ({"quality": quality(lossy=True, loss=0.254)}, "last heard 60 s ago, 25% of probes lost"),
        ({"quality": quality(loss=0.254, rtt=0.5)}, "last heard 60 s ago"),
        ({"quality": quality(slow=True)}, "last heard 60 s ago"),
        (
            {"quality": quality(slow=True, rtt=1.2345, usual=0.9876)},
            "last heard 60 s ago, round trips of 1234.5 ms, usually 987.6 ms",
        ),
    ],
)
def test_what_speaks_for_a_state_is_told_in_a_line(changes, told):
    seen = Evidence(Place(), peer(1), PeerMeta("", False, True), 0.0, WALL)
    seen.hear(0.0)
    for name, value in changes.items():
        setattr(seen, name, value)
    assert in_words(seen, 60.0) == told


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"down_since": 33.0}, "interface down for 27 s, never heard"),
        ({"gone_since": 33.0, "down_since": 0.0}, "interface gone for 27 s, never heard"),
    ],
)
def test_an_interface_that_is_not_there_is_told_first(place, told):
    found = Evidence(Place(), peer(1), PeerMeta("", False, True), 0.0, WALL)
    for name, value in place.items():
        setattr(found.place, name, value)
    assert in_words(found, 60.0) == told


# --- advice ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", Reason)
def test_for_every_reason_there_is_one_line_that_says_what_to_do(reason):
    line = advice(reason)
    assert line.endswith((".", "?"))
    assert line.isprintable()
    assert "{" not in line


def test_where_nothing_leaves_routes_neighbours_and_filters_are_looked_at():
    """Everywhere where somebody reads what to do about it."""
    page = (Path(__file__).parents[1] / "docs/alerts/WireGuardPeerDown.md").read_text()
    mitigation = next(
        item for item in page.partition("## Mitigation")[2].split("\n- ") if item.startswith("`not_sent`")
    )
    meaning = next(rule.meaning for rule in RULES if rule.reason is Reason.NOT_SENT)
    for text in (advice(Reason.NOT_SENT, "wg0", "berlin"), mitigation):
        assert all(f"`{command}" in text for command in ("ip route get", "ip neigh", "nft list ruleset")), text
    assert all(word in meaning for word in ("route", "filter", "next hop")), meaning


@pytest.mark.parametrize("reason", Reason)
def test_commands_in_the_advice_are_there_and_take_any_name(reason):
    for piece in advice(reason, "wg0", "anna's {phone}; x").split("`")[1::2]:
        words = shlex.split(piece)
        if words[0] == "wg-exporter":
            assert words[1] in main.commands
            assert words[2:] == ["wg0", "anna's {phone}; x"]


def test_advice_for_any_peer_has_words_to_replace_and_for_one_its_names():
    general, own = advice(Reason.STALE_HANDSHAKE), advice(Reason.STALE_HANDSHAKE, "wg0", "berlin")
    assert "`wg-exporter show INTERFACE PEER`" in general
    assert "`wg-exporter show wg0 berlin`" in own
    assert advice(Reason.INTERFACE_DOWN, "wg0").startswith("`ip link set wg0 up`")


@pytest.mark.parametrize("reason", Reason)
def test_commands_that_need_the_namespace_of_the_interface_are_led_into_it(reason):
    """The same name may be another interface where the reader of the advice is."""
    entry = "ip netns exec blue "
    pieces = advice(reason, "wg0", "berlin", entry=entry).split("`")[1::2]
    tools = [piece.removeprefix(entry).split()[0] for piece in pieces]
    outside = reason is Reason.NOT_SENT  # its command is about the endpoint
    for piece, tool in zip(pieces, tools, strict=True):
        assert piece.startswith(entry) == (tool in {"ip", "wg", "wg-quick", "ping"} and not outside), piece


def test_the_page_of_a_peer_that_is_down_has_every_reason_of_it():
    page = (Path(__file__).parents[1] / "docs/alerts/WireGuardPeerDown.md").read_text()
    table = page.partition("The reasons:")[2].partition("##")[0]
    reasons = {rule.reason.value for rule in RULES if rule.reason and rule.state is State.DOWN}
    assert set(re.findall(r"`(\w+)`", "".join(line.split(" | ")[0] for line in table.splitlines()))) == reasons


def test_the_docs_say_the_same_as_the_table_of_rules_and_the_advice():
    page = (Path(__file__).parents[1] / "docs/health.md").read_text()
    for rule in RULES:
        state = f"`{rule.state}`" if rule.state else "as before"
        assert f"| {state} | {f'`{rule.reason}`' if rule.reason else ''} | {rule.meaning} |" in page
        if rule.reason:
            assert f"| `{rule.reason}` | {rule.meaning} | {advice(rule.reason)} |" in page
