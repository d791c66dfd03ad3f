"""The kinds of panels: big numbers, graphs, state timelines, heat maps, tables, headings.

Each function says what its kind is used for here, and takes only what differs from panel to panel: so what is the same
on all three dashboards is the same because it stands here once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from grafana import COLUMNS, DATASOURCE, MUTED, Json, Panel, override, steps, target, words

if TYPE_CHECKING:
    from collections.abc import Sequence


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
