"""What `show` has to say: who is judged and how, what is selected, JSON to rely on, reasons for nothing."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hosts import (
    HOSTILE,
    NOW,
    check_golden,
    device,
    failed,
    gone,
    host,
    hostile_host,
    link,
    office,
    outcome,
    peer,
)
from wg_exporter import model
from wg_exporter.cli.common import with_arguments
from wg_exporter.cli.show.overview import (
    NothingSelected,
    Standing,
    reason_for_failure,
    reason_when_empty,
    select,
    selected,
    standing,
)
from wg_exporter.config import Config, Interfaces
from wg_exporter.exposition.view import DeviceView, ExporterFacts, View
from wg_exporter.health import GoneDevice
from wg_exporter.health.quality import Window
from wg_exporter.health.states import NOT_JUDGED, PeerHealth, Reason, State
from wg_exporter.names.identity import PeerMeta
from wg_exporter.plan.planner import Aim
from wg_exporter.status.document import to_json
from wg_exporter.status.rows import DeviceRow, from_view

# --- who asks for attention ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ({"age": 199, "expected": True}, Standing.FINE),
        ({"age": 226, "expected": True, "keepalive": 25}, Standing.BROKEN),
        ({"age": 202, "expected": True}, Standing.DOUBT),
        ({"age": 10**8}, Standing.FINE),
        ({}, Standing.FINE),
        ({"age": 1, "health": PeerHealth(State.DEGRADED, Reason.LOSSY)}, Standing.DEGRADED),
        ({"age": 1, "health": PeerHealth(State.DOWN, Reason.ONE_WAY)}, Standing.BROKEN),
    ],
)
def test_down_is_broken_and_quiet_without_keepalive_is_a_doubt(what, found):
    assert standing(device(peer(**what)).peers[0]) is found


# --- how peers are ---------------------------------------------------------------------------------------------------


def test_what_an_exporter_knows_of_a_peer_goes_before_what_one_look_tells():
    row = device(peer("anna", key="A", age=5, expected=True), peer("bert", key="B", age=5))
    known = PeerHealth(State.DOWN, Reason.HANDSHAKE_UNANSWERED, evidence="5 handshake initiations unanswered for 27 s")
    overview = seen([row], health=[(known, NOT_JUDGED)])
    assert [p.health for p in overview.devices[0].peers] == [known, NOT_JUDGED]


def test_only_where_a_peer_expected_up_is_judged_by_one_look_that_is_said():
    row, idle = device(peer("anna", age=5, expected=True)), device(peer("phone", age=5))
    assert seen([row]).by_one_look
    assert not seen([idle]).by_one_look
    assert not seen([row], health=[(PeerHealth(State.UP),)]).by_one_look


def test_a_list_of_peers_from_an_earlier_read_tells_nothing_at_one_look():
    row = device(peer("anna", age=5, expected=True), fresh=False)
    assert [p.health for p in seen([row]).devices[0].peers] == [NOT_JUDGED]


def test_the_peers_of_a_device_that_is_gone_are_there_until_it_is_back():
    down = PeerHealth(State.DOWN, Reason.INTERFACE_GONE, evidence="interface gone for 27 s")
    vanished = GoneDevice("", "wg7", ("A" * 43 + "=",), (PeerMeta("anna", True, True),), (down,))
    [shown] = seen([], gone=[vanished], missing=[("", "wg7")]).devices
    assert shown == gone(peer("anna", key="A", expected=True, ips=(), health=down))
    assert seen([device(name="wg7")], gone=[vanished]).devices == (device(name="wg7"),)
    assert reason_for_failure(host(shown)) == "gone: wg7"


# --- from what was read ---------------------------------------------------------------------------------------------


def seen(
    rows,
    *,
    failed=(),
    missing=(),
    links=(),
    conf=(),
    outcomes=(),
    config=None,
    aims=None,
    health=None,
    gone=(),
    windows=None,
):
    """The overview of devices given as rows of `hosts.device`, by way of what an exporter's look would bring."""
    metas = [tuple(PeerMeta(p.name, p.named, p.expected_up) for p in row.peers) for row in rows]
    known = health or [()] * len(rows)
    devices = [DeviceView(r.device, r.link, m, (), h) for r, m, h in zip(rows, metas, known, strict=True)]
    facts = ExporterFacts("1", "3", True, 0.0, (), 0)
    view = View(tuple(devices), tuple(failed), tuple(missing), tuple(outcomes), facts, gone=tuple(gone))
    found = {(one.netns, one.name): one for one in links}
    snapshot = model.Snapshot(NOW, 1.0, tuple(r.device for r in rows), (), found, tuple(conf), tuple(outcomes))
    return from_view(snapshot, view, config or Config(), aims, windows=windows or {})


def test_each_peer_keeps_its_own_name_and_expectation_and_a_device_without_peers_is_there_too():
    rows = (device(peer("anna", key="A", expected=True), peer(key="B")), device(name="wg1"))
    assert seen(rows).devices == rows
    assert seen(rows).wall == NOW


def test_a_device_that_could_not_be_read_comes_with_its_link_and_after_those_that_could():
    lost = model.FailedDevice("", "wg0", model.Backend.KERNEL, "busy")
    overview = seen([device(name="wg1")], failed=[(lost, link())])
    assert overview.devices[1] == DeviceRow(None, lost, link(), ())


def test_problems_of_files_and_missing_interfaces_are_told_and_those_of_sources_not_twice():
    files = [model.ConfFile("a.conf", "wg0", (), ("a.conf:3: no key",))]
    overview = seen([], conf=files, missing=[("", "wg0"), ("blue", "wg1")], outcomes=[outcome("no answer")])
    assert overview.problems == ("a.conf:3: no key", "wg0 is gone", "wg1 is gone from namespace blue")
    assert [row.problem for row in overview.outcomes] == ["no answer"]


def test_only_wireguard_interfaces_that_the_configuration_leaves_out_are_hidden():
    config = Config(interfaces=Interfaces(exclude=("wg9", "eth0")))
    links = [link("wg0"), link("wg9"), link("eth0")._replace(kind="")]
    assert seen([], links=links, config=config).hidden == ("wg9",)


# --- JSON -----------------------------------------------------------------------------------------------------------


def test_in_json_a_peer_that_never_connected_has_no_handshake_and_no_age():
    [row] = json.loads(to_json(host(device(peer()))))["devices"][0]["peers"]
    assert row["latest_handshake"] is None
    assert row["latest_handshake_age_seconds"] is None
    assert row["name"] is None


def test_in_json_a_target_says_where_it_came_from_and_its_absence_why():
    probed = Aim("10.8.0.2", "only_host", "", wanted=True)
    unprobed = Aim("", "none", "only networks", wanted=True)
    rows = json.loads(
        to_json(host(device(*(peer(key=k, aim=a) for k, a in zip("ABC", (probed, unprobed, None), strict=True)))))
    )
    assert [[row[f"target{what}"] for what in ("", "_origin", "_reason")] for row in rows["devices"][0]["peers"]] == [
        ["10.8.0.2", "only_host", None],
        [None, None, "only networks"],
        [None, None, None],
    ]


def test_each_peer_has_its_own_aim():
    row = device(peer(key="A"), peer(key="B"))
    aim = Aim("10.8.0.2", "only_host", "", wanted=True)
    keys = [p.peer.public_key for p in row.peers]
    found = seen([row], aims={("", "wg0", keys[1]): aim, ("blue", "wg0", keys[0]): aim})
    assert [p.aim for p in found.devices[0].peers] == [None, aim]


def test_in_json_the_state_has_its_reason_and_evidence_and_what_is_not_known_is_null():
    rows = (
        peer("berlin", key="A", age=3 * 3600, keepalive=25, expected=True),
        peer("phone", key="B", age=3600),
    )
    [first, second] = json.loads(to_json(host(device(*rows))))["devices"][0]["peers"]
    assert (first["state"], first["reason"], first["evidence"]) == ("down", "stale_handshake", "last heard 3 h ago")
    assert (second["state"], second["reason"], second["evidence"]) == ("idle", None, None)
    [old] = json.loads(to_json(seen([device(peer(), fresh=False)])))["devices"][0]["peers"]
    assert (old["state"], old["reason"], old["evidence"]) == (None, None, None)


def test_in_json_a_device_that_is_gone_has_its_peers_of_whom_nothing_is_known_but_their_state():
    down = PeerHealth(State.DOWN, Reason.INTERFACE_GONE, evidence="interface gone for 27 s")
    [row] = json.loads(to_json(host(gone(peer("anna", expected=True, health=down)))))["devices"]
    assert (row["interface"], row["read_success"], row["problem"]) == ("wg7", False, "the interface is gone")
    [anna] = row["peers"]
    known = {key: value for key, value in anna.items() if value is not None}
    assert known == {
        "public_key": "A" * 43 + "=",
        "name": "anna",
        "label": "anna",
        "expected_up": True,
        "state": "down",
        "reason": "interface_gone",
        "evidence": "interface gone for 27 s",
        "advice": "Bring wg7 up again (`wg-quick up`, or restart what made it). If it is gone for good, say so with "
        "`state: any` under `expect`, and reload.",
    }
    assert set(anna) == set(json.loads(to_json(host(device(peer()))))["devices"][0]["peers"][0])


def test_in_json_a_handshake_is_unix_seconds_and_its_age_is_against_the_same_clock():
    [row] = json.loads(to_json(host(device(peer(age=90.5)))))["devices"][0]["peers"]
    assert row["latest_handshake"] == pytest.approx(NOW - 90.5)
    assert row["latest_handshake_age_seconds"] == pytest.approx(90.5)


def test_in_json_a_device_that_could_not_be_read_does_not_look_fine():
    [row] = json.loads(to_json(host(failed("connection refused"))))["devices"]
    assert (row["read_success"], row["problem"], row["up"], row["peers"]) == (False, "connection refused", None, [])


def test_in_json_a_list_of_peers_from_an_earlier_read_is_no_success():
    [row] = json.loads(to_json(host(device(peer("anna"), fresh=False))))["devices"]
    assert row["read_success"] is False
    assert len(row["peers"]) == 1


def test_json_does_not_even_hold_a_raw_delete_character():
    written = to_json(host(device(peer("a\x7fb"))))
    assert "\x7f" not in written
    assert json.loads(written)["devices"][0]["peers"][0]["name"] == "a\x7fb"


def test_the_office_in_json():
    check_golden("office_json", to_json(office()) + "\n")


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_json_is_ascii_without_control_characters_and_gives_the_text_back(bad):
    written = to_json(hostile_host(bad))
    assert all(" " <= c <= "~" or c == "\n" for c in written)
    said = bad.encode("utf-8", "replace").decode()  # what is no character can't be told to everybody
    assert json.loads(written)["devices"][0]["peers"][0]["endpoint"] == (said or None)


# --- selection ------------------------------------------------------------------------------------------------------


def two_devices():
    return host(
        device(peer("anna", key="A"), peer("bert", key="B")),
        device(peer("anna", key="C"), peer(key="D"), name="wg1"),
    )


def chosen(interface=None, name=None):
    found = select(two_devices(), interface, name)
    return [(row.device.name, [p.peer.public_key[0] for p in row.peers]) for row in found.devices]


def test_without_a_choice_everything_is_selected():
    assert chosen() == [("wg0", ["A", "B"]), ("wg1", ["C", "D"])]


def test_an_interface_is_selected_with_all_its_peers():
    assert chosen("wg1") == [("wg1", ["C", "D"])]


def test_a_peer_is_found_by_name_on_every_device_that_has_one():
    assert chosen(name="anna") == [("wg0", ["A"]), ("wg1", ["C"])]


@pytest.mark.parametrize("wanted", ["D" * 43 + "=", "DDDDDDDD", "D"])
def test_a_peer_is_found_by_its_key_or_the_start_of_it(wanted):
    assert chosen(name=wanted) == [("wg1", ["D"])]


def test_a_name_wins_over_a_key_that_starts_with_it():
    overview = host(device(peer("B", key="A"), peer("bert", key="B")))
    assert [p.name for p in select(overview, None, "B").devices[0].peers] == ["B"]


def test_an_unknown_interface_is_answered_with_those_there_are():
    with pytest.raises(NothingSelected, match=r"^no WireGuard interface and no peer wg9; there is: wg0, wg1; peers: "):
        chosen("wg9")


@pytest.mark.parametrize(("wanted", "meant"), [("Office", "'office (dead)'"), ("ofice (dead)", "'office (dead)'")])
@pytest.mark.parametrize("interface", [None, "wg0"])
def test_a_peer_that_was_nearly_named_is_asked_for(wanted, meant, interface):
    overview = host(device(peer("office (dead)", key="A"), peer("bert", key="B")))
    with pytest.raises(NothingSelected, match=rf"; did you mean {re.escape(meant)}\?$"):
        select(overview, *filter(None, [interface, wanted]))


def test_an_unknown_peer_is_answered_with_those_there_are():
    with pytest.raises(NothingSelected, match=r"^no peer zoe on wg1; there is: anna, DDDDDDDD$"):
        chosen("wg1", "zoe")


def test_an_empty_peer_selects_nothing():
    with pytest.raises(NothingSelected):
        chosen(name="")


def test_a_peer_may_hide_on_a_device_that_could_not_be_read_and_the_answer_says_so():
    with pytest.raises(NothingSelected, match=r"could not read wg1"):
        select(host(device(peer("anna")), failed("refused")), None, "zoe")


def test_the_answer_to_a_hostile_name_is_one_safe_line():
    with pytest.raises(NothingSelected) as caught:
        select(hostile_host(HOSTILE), None, "\x1b[2J\n")
    assert str(caught.value).isprintable()


# --- nothing there --------------------------------------------------------------------------------------------------


def test_where_something_is_shown_there_is_no_reason_for_nothing():
    assert reason_when_empty(host(device())) == ""


def test_without_any_device_the_reason_says_how_to_get_one():
    assert reason_when_empty(host(outcomes=[outcome()])).startswith("no WireGuard device here; bring one up")


def test_without_permission_the_reason_names_the_capability_and_the_command():
    reason = reason_when_empty(host(outcomes=[outcome("it is locked", failure=model.Failure.DENIED)]))
    assert "CAP_NET_ADMIN" in reason
    assert "sudo wg-exporter show" in reason


@pytest.mark.parametrize("problem", ["no answer in 3 s", "no permission asked"])
def test_a_source_that_failed_otherwise_is_the_reason_with_its_own_words(problem):
    reason = reason_when_empty(host(outcomes=[outcome(problem)]))
    assert reason == f"no WireGuard device could be read: kernel: {problem}"


@pytest.mark.parametrize("source", [model.SourceName.CONF, model.SourceName.ACCOUNTING])
@pytest.mark.parametrize("failure", [model.Failure.OTHER, model.Failure.DENIED])
def test_files_and_packets_that_cannot_be_read_are_no_reason_for_missing_devices(failure, source):
    unread = outcome("it can't be read", source, failure)
    assert reason_when_empty(host(outcomes=[unread])).startswith("no WireGuard device here")


def test_devices_that_the_configuration_leaves_out_are_named_as_the_reason():
    reason = reason_when_empty(host(hidden=("wg0", "wg1")))
    assert "leaves out" in reason
    assert "(wg0, wg1)" in reason


def test_the_command_to_run_as_root_is_the_one_that_was_given(monkeypatch):
    monkeypatch.setattr("sys.argv", ["wg-exporter", "show", "wg0", "anna's lab", "--json"])
    reason = reason_when_empty(host(outcomes=[outcome("it is locked", failure=model.Failure.DENIED)]))
    assert with_arguments(reason).endswith("run: sudo wg-exporter show wg0 'anna'\"'\"'s lab' --json")
    assert with_arguments("no peer zoe on wg0") == "no peer zoe on wg0"


def test_a_selection_that_matches_nothing_is_an_overview_that_says_so_instead_of_what_else_may_be_wrong():
    nothing = selected(host(device(), outcomes=[outcome("no", failure=model.Failure.DENIED)]), "wg9")
    assert nothing.devices == ()
    assert (
        reason_when_empty(nothing)
        == reason_for_failure(nothing)
        == "no WireGuard interface and no peer wg9; there is: wg0"
    )


def test_one_device_that_could_be_read_is_enough_not_to_fail():
    assert reason_for_failure(host(failed("refused"), device())) == ""


def test_if_no_device_could_be_read_the_reason_names_them_and_the_fix():
    reason = reason_for_failure(host(failed("it hung up"), failed("timed out", name="wg2")))
    assert reason == "could not read wg1, wg2: it hung up; compare with: wg show wg1"
    assert reason_for_failure(host()) == reason_when_empty(host())


@pytest.mark.parametrize("bad", [HOSTILE, "\n"])
def test_the_reason_for_failure_is_one_safe_line(bad):
    assert reason_for_failure(host(failed(bad, name=bad))).isprintable()


def test_a_peer_is_found_without_its_interface_if_its_name_or_key_is_unique():
    overview = host(
        device(peer("anna", key="A"), peer("bert", key="B")),
        device(peer("bert", key="C"), peer("carl", key="D"), name="wg1"),
    )
    for asked in ("carl", "D" * 43 + "=", "DDD"):
        [row] = select(overview, asked).devices
        assert [one.name for one in row.peers] == ["carl"]
    with pytest.raises(NothingSelected, match=r"^several peers are called bert; say which: wg0 B+=, wg1 C+=$"):
        select(overview, "bert")
    said = r"^no WireGuard interface and no peer zoe; there is: wg0, wg1; peers: anna, bert, carl$"
    with pytest.raises(NothingSelected, match=said):
        select(overview, "zoe")


def test_an_interface_goes_before_a_peer_that_is_called_the_same():
    overview = host(device(peer("wg1", key="A")), device(peer("bert", key="B"), name="wg1"))
    [row] = select(overview, "wg1").devices
    assert [one.name for one in row.peers] == ["bert"]


def test_a_peer_that_is_down_has_no_round_trip_whatever_was_measured_before():
    row = device(peer("anna", key="A", expected=True))
    key = ("", "wg0", row.peers[0].peer.public_key)
    for state, shown in ((State.UP, True), (State.DOWN, False)):
        overview = seen([row], health=[(PeerHealth(state),)], windows={key: Window(0.1, 0.02)})
        assert (overview.devices[0].peers[0].window is not None) is shown
