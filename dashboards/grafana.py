"""Grafana's classic dashboard JSON, as far as these dashboards need it: queries, looks, variables, links, the page.

Plain dictionaries, as Grafana writes them itself. The panels are in `panels.py`. They are made without a place; `page`
lays rows of them on the grid of 24 columns and numbers them, so that one can be put in between without counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from wg_exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

Json = dict[str, Any]

SCHEMA = 42
TAG = "wg-exporter"
DATASOURCE: Json = {"type": "prometheus", "uid": "$datasource"}
COLUMNS = 24

# Colours by meaning, the same on all dashboards.
GOOD, QUIET, NOTICE, WARN, BAD, MUTED = "green", "blue", "yellow", "orange", "red", "text"
UNKNOWN = "#6e7680"


# Queries


def target(expr: str, legend: str = "", *, instant: bool = False, kind: str = "time_series") -> Json:
    """A query. `legend` names its series; `kind` is `time_series`, `table` or `heatmap`."""
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expr,
        "format": kind,
        "instant": instant,
        "legendFormat": legend,
        "range": not instant,
    }


def now(expr: str, legend: str = "") -> Json:
    """What holds at the end of the range. Of a series that has ended there is nothing, rather than its last value."""
    return target(expr, legend, instant=True)


# Looks


def steps(*later: tuple[float, str], first: str = GOOD) -> Json:
    """Thresholds: the colour up to the first step, and from each step on."""
    return {
        "mode": "absolute",
        "steps": [{"color": first, "value": None}, *({"color": color, "value": value} for value, color in later)],
    }


def words(meanings: dict[str, tuple[str, str]], missing: str = "") -> list[Json]:
    """Values and what to write for them, in which colour. `missing` is written where there is no value."""
    options = {
        value: {"text": text, "color": color, "index": index}
        for index, (value, (text, color)) in enumerate(meanings.items())
    }
    mappings: list[Json] = [{"type": "value", "options": options}] if options else []
    if missing:
        for index, match in enumerate(("null+nan", "empty"), len(meanings)):
            result = {"text": missing, "color": UNKNOWN, "index": index}
            mappings.append({"type": "special", "options": {"match": match, "result": result}})
    return mappings


def override(matcher: str, name: str, **properties: Any) -> Json:
    """Settings of some fields alone. In the names of properties `__` stands for a dot."""
    return {
        "matcher": {"id": matcher, "options": name},
        "properties": [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()],
    }


class Panel(NamedTuple):
    """A panel without a place."""

    width: int
    height: int
    body: Json


# Variables and links


def datasource() -> Json:
    """The variable with which one chooses the Prometheus."""
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }


def variable(name: str, label: str, query: str, regex: str = "", *, all_at_first: bool = True) -> Json:
    """A variable whose values Prometheus knows, one or many or all; asked again when the range of time changes."""
    everything = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": query,
        "regex": regex,
        "allValue": ".+",
        "current": everything if all_at_first else {},
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "options": [],
        "refresh": 2,
        "sort": 1,
    }


def link(title: str, uid: str, **values: str) -> Json:
    """A link to another dashboard, with the same range of time and source of data, and these values of variables."""
    variables = "".join(f"&var-{name}={value}" for name, value in values.items())
    return {
        "title": title,
        "url": f"/d/{uid}?${{__url_time_range}}&var-datasource=${{datasource}}{variables}",
        "targetBlank": False,
    }


def cell(field: str) -> str:
    """The value of another column of the same row, to be put into a link."""
    return f"${{__data.fields.{field}:percentencode}}"


def siblings() -> Json:
    """The links between these dashboards, with range and variables kept."""
    return {
        "title": "WireGuard",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "",
        "url": "",
    }


def events(name: str, expr: str, title: str, text: str, color: str, *, at_value: bool = False) -> Json:
    """Marks on all graphs while this query has series above 0 or, `at_value`, at the times that are their values, in
    milliseconds since 1970.
    """
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "step": "30s",
        "titleFormat": title,
        "textFormat": text,
        "useValueForTime": at_value,
    }


def page(
    uid: str,
    title: str,
    description: str,
    *,
    variables: Sequence[Json],
    rows: Sequence[Sequence[Panel]],
    annotations: Sequence[Json] = (),
    span: str = "now-3h",
) -> Json:
    """A dashboard of rows of panels. Raises ValueError if a row is not as wide as the page."""
    return {
        "uid": uid,
        "title": title,
        "description": f"{description} Of wg-exporter {__version__}.",
        "tags": [TAG, "wireguard"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": span, "to": "now"},
        "timepicker": {},
        "refresh": "30s",
        "templating": {"list": list(variables)},
        "annotations": {"list": list(annotations)},
        "links": [siblings()],
        "panels": _placed(rows),
    }


def _placed(rows: Sequence[Sequence[Panel]]) -> list[Json]:
    placed: list[Json] = []
    y = 0
    for panels in rows:
        x = 0
        for panel in panels:
            place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            placed.append({"id": len(placed) + 1, **panel.body, "gridPos": place})
            x += panel.width
        if x != COLUMNS:
            raise ValueError(f"a row is {x} columns wide: {[panel.body['title'] for panel in panels]}")
        y += max(panel.height for panel in panels)
    return placed
