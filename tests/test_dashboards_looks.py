"""How dashboards look: axes, lines and bars, links, and the page. Colours are in test_dashboards_colours.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dashboards import ROOT, Dashboard, dashboards
from tests.grafana import Field, dashboard

LEGEND = {"calcs": [], "displayMode": "list", "placement": "bottom"}

every_dashboard = pytest.mark.parametrize("page", [pytest.param(page, id=page.title) for page in dashboards()])


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [panel for page in dashboards() for panel in page.panels if panel["type"] == kind]


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
        "Packets received": 10,
        "Packets sent": 10,
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


def test_every_kind_of_panel_has_one_look() -> None:
    looks: dict[str, list[object]] = {}
    for page in dashboards():
        for panel in page.panels:
            own = {"textMode", "colorMode", "sortBy"}
            look = {name: value for name, value in panel["options"].items() if name not in own}
            if look not in looks.setdefault(panel["type"], []):
                looks[panel["type"]].append(look)
    assert looks == {
        "stat": [
            {
                "graphMode": "none",
                "justifyMode": "auto",
                "orientation": "auto",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "wideLayout": True,
            }
        ],
        "timeseries": [{"legend": {**LEGEND, "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}}],
        "state-timeline": [
            {
                "alignValue": "left",
                "legend": {**LEGEND, "showLegend": False},
                "mergeValues": True,
                "perPage": 20,
                "rowHeight": 0.85,
                "showValue": "auto",
                "tooltip": {"mode": "single", "sort": "none"},
            }
        ],
        "table": [{"cellHeight": "sm", "showHeader": True}],
        "heatmap": [
            {
                "calculate": False,
                "cellGap": 1,
                "cellValues": {"unit": "short"},
                "color": {
                    "exponent": 0.5,
                    "fill": "dark-orange",
                    "mode": "scheme",
                    "reverse": False,
                    "scheme": "Oranges",
                    "steps": 64,
                },
                "exemplars": {"color": "rgba(255,0,255,0.7)"},
                "filterValues": {"le": 1e-9},
                "legend": {"show": True},
                "rowsFrame": {"layout": "auto"},
                "showValue": "never",
                "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
                "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
            }
        ],
    }


def test_lines_bars_and_states_are_filled_alike() -> None:
    for panel in of_kind("timeseries"):
        custom = Field.of(panel).custom
        fill = 60 if custom["drawStyle"] == "bars" else 8
        look = [custom[name] for name in ("fillOpacity", "lineInterpolation", "lineWidth", "showPoints")]
        assert look == [fill, "linear", 1, "never"], panel["title"]
        assert Field.of(panel).settings["color"] == {"mode": "palette-classic"}
    for panel in of_kind("state-timeline"):
        assert (Field.of(panel).custom["fillOpacity"], Field.of(panel).custom["lineWidth"]) == (80, 0)
        assert Field.of(panel).settings["color"] == {"mode": "thresholds"}


def test_of_a_table_only_what_says_how_bad_it_is_has_a_colour_and_what_matters_most_is_filled() -> None:
    looks: dict[str, dict[str, str]] = {}
    for panel in of_kind("table"):
        for override in panel["fieldConfig"]["overrides"]:
            field = Field.of(panel, name=override["matcher"]["options"])
            kind = field.custom["cellOptions"]["type"]
            if kind != "auto":
                looks.setdefault(panel["title"], {})[field.settings["displayName"]] = kind
                assert field.custom["align"] == ("left" if kind == "color-background" else "auto")
    assert looks == {
        "Broken now": {"State": "color-background", "Quiet": "color-text"},
        "Firing alerts": {"Severity": "color-background"},
        "Peers": {
            "State": "color-background",
            "Quiet": "color-text",
            "Fast": "color-text",
            "Loss": "color-text",
            "MTU": "color-text",
            "Expected": "color-text",
        },
        "Interfaces": {"Up": "color-background", "Quiet": "color-text", "Drift": "color-text"},
        "Verdict and advice": {"Verdict": "color-background"},
    }


def test_columns_that_only_links_need_are_hidden_whatever_the_version_of_grafana() -> None:
    parts = {"legend": True, "tooltip": True, "viz": True}
    for panel in of_kind("table"):
        for override in panel["fieldConfig"]["overrides"]:
            changes = {change["id"]: change["value"] for change in override["properties"]}
            if "displayName" not in changes:
                assert changes == {"custom.hidden": True, "custom.hideFrom": parts}  # until 12.1, and since


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


def test_a_kind_of_panel_is_about_as_high_everywhere() -> None:
    heights = {
        kind: {panel["gridPos"]["h"] for panel in of_kind(kind)}
        for kind in ("stat", "timeseries", "heatmap", "state-timeline", "table")
    }
    assert heights == {
        "stat": {4},
        "timeseries": {6, 7, 8},
        "heatmap": {8},
        "state-timeline": {6, 7, 8, 9},
        "table": {5, 8, 9, 11},
    }


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


def test_what_tells_whether_something_is_broken_is_at_the_top() -> None:
    order = {page.path.stem: [panel["title"] for panel in page.panels] for page in dashboards()}
    assert order == {
        "fleet": [
            *("Peers down", "Peers degraded", "Interfaces down", "MTU faults", "Exporters silent", "Not read"),
            *("Alerts firing", "Peers"),
            *("Broken now", "Firing alerts"),
            *("Hosts", "Outages in this range of time"),
            *("Traffic", "Loss, worst tunnel of each host", "Round trip, slowest tunnel of each host"),
        ],
        "host": [
            *("Exporter", "Peers by state", "Interfaces down", "MTU faults", "Worst loss", "Not read"),
            "Peers",
            *("State of the peers", "Interfaces"),
            *("Throughput", "Packets", "Errors", "Drops"),
            *("Receive", "Transmit", "Round trip", "Loss"),
            *("Packets received", "Packets sent"),
            *("Time to read", "Probes sent late", "CPU", "Memory"),
        ],
        "peer": [
            *("State", "Reason", "Since", "Last handshake", "Round trip", "Loss", "MTU", "Expected"),
            "State and reason",
            *("Age of the handshake", "Handshakes", "Traffic"),
            *("Packets", "Average packet"),
            *("Round trips", "Round trip: median, 99 of 100, shortest"),
            *("Loss", "Jitter", "Odd probes"),
            "Verdict and advice",
            *("Verdict", "Sizes"),
            *("Endpoints", "Changes of the endpoint"),
            "Host names",
        ],
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
