"""Grafana's classic dashboard JSON, as far as these dashboards need it: variables, panels, tables, links.

Plain dictionaries, as Grafana writes them itself. A panel is made without a place; `page` lays rows of panels on the
grid of 24 columns and numbers them, so that a panel can be put in between without counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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


# Panels


class Panel(NamedTuple):
    """A panel without a place."""

    width: int
    height: int
    body: Json


def _panel(kind: str, title: str, description: str, targets: Sequence[Json], *, width: int, height: int) -> Panel:
    body: Json = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [{**query, "refId": chr(ord("A") + index)} for index, query in enumerate(targets)],
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {},
    }
    return Panel(width, height, body)


def stat(
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    width: int = 3,
    height: int = 4,
    unit: str = "none",
    thresholds: Json | None = None,
    mappings: Sequence[Json] = (),
    nothing: str = "no data",
    show: str = "auto",
    tint: str = "background",
    decimals: int | None = None,
    overrides: Sequence[Json] = (),
) -> Panel:
    """Big numbers. `show` is what is big: the `value`, the `name` of the series, or both; `nothing` where is none."""
    made = _panel("stat", title, description, targets, width=width, height=height)
    defaults: Json = {"unit": unit, "noValue": nothing, "thresholds": thresholds or steps(first=MUTED)}
    # Else Grafana would give "no data" the colour below the first threshold, which is green.
    defaults |= {"color": {"mode": "thresholds"}, "mappings": [*mappings, *words({}, nothing)]}
    if decimals is not None:
        defaults["decimals"] = decimals
    made.body["fieldConfig"] = {"defaults": defaults, "overrides": list(overrides)}
    made.body["options"] = {
        "colorMode": tint,
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": show,
        "wideLayout": True,
    }
    return made


def graph(
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    width: int = 8,
    height: int = 8,
    unit: str = "short",
    bars: bool = False,
    thresholds: Json | None = None,
    limits: tuple[float | None, float | None] = (0, None),
    mirrored: str = "",
    at_least: float = 0,
    every: str = "",
) -> Panel:
    """Lines over time. `thresholds` are drawn as lines; the query `mirrored` (its letter) goes downwards.

    The axis reaches `at_least` this high, so that zeros don't look like something. `every`: no point more often.
    """
    if bars:
        at_least = max(at_least, 1)
    made = _panel("timeseries", title, description, targets, width=width, height=height)
    if every:
        made.body["interval"] = every
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 60 if bars else 8,
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "thresholdsStyle": {"mode": "line" if thresholds else "off"},
    }
    if at_least:
        custom["axisSoftMax"] = at_least
    defaults: Json = {"unit": unit, "custom": custom, "color": {"mode": "palette-classic"}}
    defaults["thresholds"] = thresholds or steps()
    for name, limit in zip(("min", "max"), limits, strict=True):
        if limit is not None and not (mirrored and name == "min"):
            defaults[name] = limit
    more = [override("byFrameRefID", mirrored, custom__transform="negative-Y")] if mirrored else []
    made.body["fieldConfig"] = {"defaults": defaults, "overrides": more}
    made.body["options"] = {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return made


def timeline(
    title: str,
    description: str,
    targets: Sequence[Json],
    mappings: Sequence[Json],
    *,
    width: int = 16,
    height: int = 8,
    links: Sequence[Json] = (),
) -> Panel:
    """One row for each series, coloured by its value."""
    made = _panel("state-timeline", title, description, targets, width=width, height=height)
    defaults: Json = {
        "mappings": list(mappings),
        "color": {"mode": "thresholds"},
        "thresholds": steps(first=MUTED),
        "custom": {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False},
    }
    if links:
        defaults["links"] = list(links)
    made.body["fieldConfig"] = {"defaults": defaults, "overrides": []}
    made.body["options"] = {
        "alignValue": "left",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "perPage": 20,
        "rowHeight": 0.85,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return made


def heatmap(title: str, description: str, query: Json, *, unit: str, width: int = 12, height: int = 8) -> Panel:
    """A histogram over time."""
    made = _panel("heatmap", title, description, [query], width=width, height=height)
    made.body["options"] = {
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
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    return made


class Column(NamedTuple):
    """A column of a table: the label or `Value #LETTER` that it shows, and how. A column without a title is hidden.

    Colours are those of the words, or else of the numbers; `filled` colours the cell and not the word.
    """

    field: str
    title: str = ""
    unit: str = ""
    width: int = 0
    mappings: Sequence[Json] = ()
    thresholds: Json | None = None
    link: Json | None = None
    decimals: int | None = None
    filled: bool = False


def table(
    title: str,
    description: str,
    queries: Sequence[str],
    columns: Sequence[Column],
    *,
    width: int = COLUMNS,
    height: int = 9,
    nothing: str = "",
    sort: Sequence[tuple[str, bool]] = (),
) -> Panel:
    """A table of what holds now: rows of all queries with the same labels are one row. `sort` by titles, True = down.

    A label that no column names is left out; one that is only needed in a link is a column without a title.
    """
    made = _panel("table", title, description, [_rows(query) for query in queries], width=width, height=height)
    defaults: Json = {"unit": "none", "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}}
    if nothing:
        defaults["noValue"] = nothing
    made.body["fieldConfig"] = {"defaults": defaults, "overrides": [_column(column) for column in columns]}
    made.body["options"] = {
        "cellHeight": "sm",
        "showHeader": True,
        "sortBy": [{"displayName": name, "desc": descending} for name, descending in sort],
    }
    made.body["transformations"] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {column.field: index for index, column in enumerate(columns)},
            },
        },
    ]
    return made


def _rows(query: str) -> Json:
    return target(query, instant=True, kind="table")


def _column(column: Column) -> Json:
    if not column.title:
        # The first is what Grafana up to 12.1 reads, the second what those after it do.
        hidden = {"legend": True, "tooltip": True, "viz": True}
        return override("byName", column.field, custom__hidden=True, custom__hideFrom=hidden)
    # What the table says when it has no rows, Grafana would also write into every cell that is empty.
    properties: Json = {"displayName": column.title, "noValue": "-"}
    if column.unit:
        properties["unit"] = column.unit
    if column.width:
        properties["custom__width"] = column.width
    if column.decimals is not None:
        properties["decimals"] = column.decimals
    if column.mappings:
        properties["mappings"] = list(column.mappings)
    if column.thresholds:
        properties |= {"thresholds": column.thresholds, "color": {"mode": "thresholds"}}
    if column.thresholds or any(mapping["type"] == "value" for mapping in column.mappings):
        filled = {"type": "color-background", "mode": "basic"}
        properties["custom__cellOptions"] = filled if column.filled else {"type": "color-text"}
    if column.filled:
        properties["custom__align"] = "left"
    if column.link:
        properties["links"] = [column.link]
    return override("byName", column.field, **properties)


def row(title: str) -> Panel:
    """A heading over the panels below it."""
    return Panel(COLUMNS, 1, {"type": "row", "title": title, "collapsed": False, "panels": []})


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


def events(name: str, expr: str, title: str, text: str, color: str) -> Json:
    """Marks on all graphs while this query has series."""
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
        "description": description,
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
