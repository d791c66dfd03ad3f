"""How dashboards look: colours by how bad a thing is, units, axes, links and what is said where nothing is known."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.dashboards import ROOT, Dashboard, dashboards
from tests.dashboards_known import END, VALUES
from tests.grafana import Field, Grafana, dashboard, panel_of
from wg_exporter.health.states import State
from wg_exporter.model import Verdict

NOTHING = Grafana(lambda _expr: [], END, VALUES)
GRAY = "#6e7680"
FAULTS = {"interface_above_route", "inner_path_smaller", "blackhole", "fragmented_local", "fragmented_path"}

every_dashboard = pytest.mark.parametrize("page", [pytest.param(page, id=page.title) for page in dashboards()])


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [panel for page in dashboards() for panel in page.panels if panel["type"] == kind]


# Colours


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
    expected = {"ok": "green", "remote_smaller": "yellow", "blackhole": "red"} | dict.fromkeys(
        FAULTS - {"blackhole"}, "orange"
    )
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
        "2": {"unknown", "unreachable", "inconclusive", "filtered"},
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


# Axes


def test_only_what_goes_out_is_drawn_downwards_and_then_the_axis_goes_below_zero() -> None:
    for panel in of_kind("timeseries"):
        sides = [Field.of(panel, letter=t["refId"]).custom.get("transform") for t in panel["targets"]]
        legends = [target["legendFormat"] for target in panel["targets"]]
        both = [name.rpartition(" ")[2] for name in legends] == ["in", "out"]
        assert sides == ([None, "negative-Y"] if both else [None] * len(legends)), panel["title"]
        assert panel["fieldConfig"]["defaults"].get("min") == (None if both or panel["title"] == "Sizes" else 0)


def test_axes_of_loss_end_at_all_of_it_and_others_at_what_there_is() -> None:
    for panel in of_kind("timeseries"):
        assert panel["fieldConfig"]["defaults"].get("max") == (1 if panel["title"].startswith("Loss") else None)


def test_an_axis_reaches_so_high_that_little_does_not_look_like_much() -> None:
    soft = {
        panel["title"]: Field.of(panel).custom["axisSoftMax"]
        for panel in of_kind("timeseries")
        if "axisSoftMax" in Field.of(panel).custom
    }
    assert soft == {
        "Throughput": 10,
        "Packets": 10,
        "Errors": 10,
        "Drops": 10,
        "Age of the handshake": 200,
        "Handshakes": 1,
        "Odd probes": 1,
        "Changes of the endpoint": 1,
    }


def test_lines_are_drawn_at_10_of_100_lost_and_at_the_end_of_a_session() -> None:
    drawn = {}
    for page in dashboards():
        for panel in page.panels:
            if panel["type"] == "timeseries" and Field.of(panel).custom["thresholdsStyle"] == {"mode": "line"}:
                drawn[page.path.stem, panel["title"]] = [
                    (step["value"], step["color"]) for step in Field.of(panel).settings["thresholds"]["steps"]
                ]
    assert drawn == {
        ("fleet", "Loss, worst tunnel of each host"): [(None, "transparent"), (0.1, "orange")],
        ("peer", "Loss"): [(None, "transparent"), (0.1, "orange")],
        ("peer", "Age of the handshake"): [(None, "transparent"), (180, "orange")],
    }


def test_what_is_counted_is_drawn_as_bars_and_what_flows_as_lines() -> None:
    for panel in of_kind("timeseries"):
        counted = all(target["expr"].startswith("round(") for target in panel["targets"])
        assert Field.of(panel).custom["drawStyle"] == ("bars" if counted else "line"), panel["title"]


def test_loss_and_round_trips_have_no_more_points_than_probes_can_fill() -> None:
    for panel in of_kind("timeseries"):
        exprs = " ".join(target["expr"] for target in panel["targets"])
        wanted = "1m" if "wireguard_probe" in exprs and "rate(" in exprs else None
        assert panel.get("interval") == wanted, panel["title"]


def test_a_gap_is_shown_as_a_gap() -> None:
    for panel in (*of_kind("timeseries"), *of_kind("state-timeline")):
        assert Field.of(panel).custom["spanNulls"] is False


# Queries


def test_tables_and_numbers_ask_for_now_and_graphs_for_a_range() -> None:
    for page in dashboards():
        for panel in page.panels:
            kind = {"table": "table", "heatmap": "heatmap"}.get(panel["type"], "time_series")
            now = panel["type"] in ("stat", "table")
            for target in panel["targets"]:
                assert (target["format"], target["instant"], target["range"]) == (kind, now, not now), panel["title"]


# Links


def test_a_link_in_a_table_takes_the_row_along() -> None:
    for panel in of_kind("table"):
        for override in panel["fieldConfig"]["overrides"]:
            for link in [link for c in override["properties"] if c["id"] == "links" for link in c["value"]]:
                column = override["matcher"]["options"]
                names = ["job", "instance"] + (["interface", "peer"] if column == "peer" else [])
                where = {"instance": "wg-exporter-host", "peer": "wg-exporter-peer"}[column]
                fields = {name: "public_key" if name == "peer" else name for name in names}
                row = [f"&var-{name}=${{__data.fields.{field}:percentencode}}" for name, field in fields.items()]
                assert link["url"] == f"/d/{where}?${{__url_time_range}}&var-datasource=${{datasource}}{''.join(row)}"
                assert link["title"] == f"Show this {where.rpartition('-')[2]}"
                assert link["targetBlank"] is False


def test_names_of_hosts_and_peers_are_links_except_where_one_is_there_already() -> None:
    linked = {}
    for page in dashboards():
        for panel in page.panels:
            if panel["type"] == "table":
                overrides = panel["fieldConfig"]["overrides"]
                columns = [o["matcher"]["options"] for o in overrides if "links" in {c["id"] for c in o["properties"]}]
                linked[panel["title"]] = columns
    assert linked == {
        "Broken now": ["instance", "peer"],
        "Firing alerts": ["instance", "peer"],
        "Outages in this range of time": ["instance", "peer"],
        "Peers": ["peer"],
        "Interfaces": [],
        "Verdict and advice": ["instance"],
    }


def test_a_bar_of_a_host_leads_to_the_host() -> None:
    ((link,),) = [p["fieldConfig"]["defaults"]["links"] for p in of_kind("state-timeline") if p["title"] == "Hosts"]
    labels = "".join(f"&var-{name}=${{__field.labels.{name}:percentencode}}" for name in ("job", "instance"))
    assert link["url"] == f"/d/wg-exporter-host?${{__url_time_range}}&var-datasource=${{datasource}}{labels}"


# The page


@every_dashboard
def test_rows_of_panels_leave_no_gaps(page: Dashboard) -> None:
    places = [panel["gridPos"] for panel in page.json["panels"]]
    bottom = max(place["y"] + place["h"] for place in places)
    assert sum(place["w"] * place["h"] for place in places) == 24 * bottom


@every_dashboard
def test_a_page_shows_three_hours_and_looks_again_every_half_minute(page: Dashboard) -> None:
    assert page.json["time"] == {"from": "now-3h", "to": "now"}
    assert page.json["refresh"] == "30s"
    assert page.json["timezone"] == "browser"
    assert page.json["graphTooltip"] == 1, "one crosshair on all graphs"


def test_a_page_begins_with_all_that_it_can_show_but_one_host_and_one_peer() -> None:
    everything = {"selected": True, "text": ["All"], "value": ["$__all"]}
    chosen = {
        page.path.stem: {name: variable["current"] == everything for name, variable in page.variables.items()}
        for page in dashboards()
    }
    assert chosen == {
        "fleet": {"datasource": False, "job": True, "instance": True},
        "host": {"datasource": False, "job": True, "instance": False, "interface": True},
        "peer": {"datasource": False, "job": True, "instance": True, "interface": True, "peer": False},
    }


def test_headings_are_those_of_their_pages() -> None:
    found = {
        page.path.stem: [panel["title"] for panel in page.json["panels"] if panel["type"] == "row"]
        for page in dashboards()
    }
    assert found == {
        "fleet": [],
        "host": ["Interfaces", "Peers", "The exporter itself"],
        "peer": ["Handshakes and traffic", "Latency and loss", "MTU", "Endpoint"],
    }
    assert dashboard("peer").json["tags"] == ["wg-exporter", "wireguard"]


@every_dashboard
def test_every_panel_has_its_values_compared_with_known_ones(page: Dashboard) -> None:
    tests = (ROOT / "tests" / f"test_dashboards_{page.path.stem}.py").read_text()
    assert [panel["title"] for panel in page.panels if f'"{panel["title"]}"' not in tests] == []
