"""The colours of the dashboards say how bad a thing is, and where nothing is known there is a word and no colour."""

from __future__ import annotations

import re

import pytest

from tests.dashboards_known import END, VALUES
from tests.grafana import Field, Grafana, panel_of
from wg_exporter.health.states import State
from wg_exporter.probed import Verdict

NOTHING = Grafana(lambda _expr: [], END, VALUES)
GRAY = "#6e7680"
FAULTS = {"interface_above_route", "inner_path_smaller", "blackhole", "fragmented_local", "fragmented_path"}


@pytest.mark.parametrize(
    ("part", "color"),
    [(0, "green"), (0.009, "green"), (0.01, "yellow"), (0.09, "yellow"), (0.1, "orange"), (0.5, "red"), (1, "red")],
)
def test_loss_is_yellow_from_1_orange_from_10_and_red_from_50_of_100(part: float, color: str) -> None:
    assert Field.of(panel_of("host", "Worst loss", "stat")).color(part) == color
    assert Field.of(panel_of("peer", "Loss", "stat")).color(part) == color
    assert Field.of(panel_of("host", "Peers", "table"), name="Value #H").color(part) == color


@pytest.mark.parametrize(
    ("page", "title", "color"),
    [
        ("fleet", "Peers down", "red"),
        ("fleet", "Peers degraded", "orange"),
        ("fleet", "Interfaces down", "red"),
        ("fleet", "MTU faults", "orange"),
        ("fleet", "Exporters silent", "red"),
        ("fleet", "Not read", "red"),
        ("fleet", "Alerts firing", "red"),
        ("host", "Interfaces down", "red"),
        ("host", "MTU faults", "orange"),
        ("host", "Not read", "red"),
    ],
)
def test_one_fault_is_enough_for_a_colour_and_none_is_green(page: str, title: str, color: str) -> None:
    field = Field.of(panel_of(page, title, "stat"))
    assert [field.color(number) for number in (0, 1, 20)] == ["green", color, color]


def test_a_state_in_which_no_peer_is_has_no_colour() -> None:
    panel = panel_of("host", "Peers by state", "stat")
    colors = {"down": "red", "degraded": "orange", "up": "green", "idle": "blue", "never": GRAY}
    assert {target["legendFormat"] for target in panel["targets"]} == set(colors) == {str(state) for state in State}
    for state, color in colors.items():
        assert [Field.of(panel, name=state).color(number) for number in (0, 1, 5)] == ["text", color, color]


@pytest.mark.parametrize(
    ("number", "word", "color"),
    [(1, "up", "green"), (2, "idle", "blue"), (3, "never", GRAY), (4, "degraded", "orange"), (5, "down", "red")],
)
def test_a_state_has_the_same_word_and_colour_wherever_it_is_shown(number: int, word: str, color: str) -> None:
    places = (
        Field.of(panel_of("host", "State of the peers", "state-timeline")),
        Field.of(panel_of("host", "Peers", "table"), name="Value #B"),
        Field.of(panel_of("peer", "State", "stat")),
        Field.of(panel_of("peer", "State and reason", "state-timeline")),
    )
    assert {(field.text(number, END), field.color(number)) for field in places} == {(word, color)}
    assert Field.of(panel_of("fleet", "Broken now", "table"), name="state").color(word) == color


def test_what_can_not_be_read_and_who_does_not_answer_are_as_red_as_what_is_down() -> None:
    field = Field.of(panel_of("fleet", "Broken now", "table"), name="state")
    assert {field.color(word) for word in ("down", "not read", "no answer")} == {"red"}


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_verdict_is_coloured_by_what_it_asks_of_a_person(verdict: Verdict) -> None:
    expected = {"ok": "green", "blackhole": "red"} | dict.fromkeys(FAULTS - {"blackhole"}, "orange")
    expected |= dict.fromkeys(("remote_smaller", "filtered_large"), "yellow")
    for page, title in (("host", "Peers"), ("peer", "Verdict and advice")):
        assert Field.of(panel_of(page, title, "table"), name="verdict").color(str(verdict)) == expected.get(verdict, "")


def test_faults_are_the_verdicts_that_lose_or_fragment_packets_and_each_verdict_is_of_one_kind() -> None:
    patterns = re.compile(r'(?:(\d) \* \()?wireguard_mtu_verdict\{[^}]*verdict(=~|!~|=)"([^"]*)"')
    kinds: dict[str, set[str]] = {}
    for target in panel_of("peer", "MTU", "stat")["targets"]:
        for number, match, pattern in patterns.findall(target["expr"]):
            kinds[number] = {str(v) for v in Verdict if bool(re.fullmatch(pattern, v)) == (match != "!~")}
    assert kinds == {
        "1": {"ok"},
        "2": {"unknown", "unreachable", "inconclusive", "filtered_large", "filtered"},
        "3": {"remote_smaller"},
        "4": FAULTS,
    }
    for page in ("fleet", "host"):
        ((_, match, pattern),) = patterns.findall(panel_of(page, "MTU faults", "stat")["targets"][0]["expr"])
        assert {str(v) for v in Verdict if re.fullmatch(pattern, v)} == FAULTS
        assert match == "=~"


def test_the_severity_of_an_alert_has_its_colour() -> None:
    field = Field.of(panel_of("fleet", "Firing alerts", "table"), name="severity")
    assert [field.color(word) for word in ("critical", "warning", "info")] == ["red", "orange", "yellow"]


# Where nothing is known


@pytest.mark.parametrize(
    ("page", "title", "says"),
    [
        ("fleet", "Peers down", "no data"),
        ("fleet", "MTU faults", "none probed"),
        ("host", "Exporter", "never seen"),
        ("host", "Peers by state", "none judged"),
        ("host", "MTU faults", "none probed"),
        ("host", "Worst loss", "none probed"),
        ("peer", "State", "not judged"),
        ("peer", "Reason", "none"),
        ("peer", "Round trip", "no answer"),
        ("peer", "Loss", "not probed"),
        ("peer", "MTU", "not probed"),
        ("peer", "Since", "no change seen"),
        ("peer", "Last handshake", "never"),
    ],
)
def test_a_number_that_there_is_not_says_why(page: str, title: str, says: str) -> None:
    (shown,) = NOTHING.stat(page, title)
    assert shown.removesuffix(f" {GRAY}") == says


@pytest.mark.parametrize(
    ("page", "title", "says"),
    [
        ("fleet", "Broken now", "nothing is broken"),
        ("fleet", "Firing alerts", "no alert is firing"),
        ("fleet", "Outages in this range of time", "no peer was down"),
        ("host", "Peers", "no peers"),
        ("host", "Interfaces", "no interfaces"),
        ("peer", "Verdict and advice", "not probed"),
    ],
)
def test_an_empty_table_says_what_that_means(page: str, title: str, says: str) -> None:
    assert NOTHING.table(page, title) == [(says,)]
