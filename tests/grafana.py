"""What a person would see on a dashboard: the little of Grafana that this takes.

    grafana = Grafana(ask, END)
    grafana.stat("fleet", "Peers down") == ["1 red"]

`ask` runs a query at one moment. A number is shown with its unit, in base units whatever the unit of the panel is, so
that it does not matter whether a panel shows 0.02 s or 20 ms, but does whether it shows bytes or bits. Behind it is its
colour, where it has one.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.dashboards import Dashboard, dashboards, filled_in
from tests.lab import servers
from tests.promtool import promtool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    Labels = dict[str, str]
    Ask = Callable[[str], Sequence[tuple[Labels, float]]]

Json = dict[str, Any]
Row = dict[str, "str | float"]

# What a unit of Grafana is in base units: the factor, and the name.
UNITS = {
    "none": (1, ""),
    "short": (1, ""),
    "ms": (0.001, " s"),
    "s": (1, " s"),
    "bps": (1, " bit/s"),
    "Bps": (8, " bit/s"),
    "pps": (1, " packets/s"),
    "bytes": (1, " bytes"),
    "percent": (1, " %"),
    "percentunit": (100, " %"),
}


class Field(NamedTuple):
    """How the values of one series or column are shown: the panel's defaults with what holds for this one alone."""

    settings: Json

    @classmethod
    def of(cls, panel: Json, *, letter: str = "", name: str = "") -> Field:
        settings = {**panel["fieldConfig"]["defaults"]}
        custom = {**settings.pop("custom", {})}
        for override in panel["fieldConfig"]["overrides"]:
            matcher = override["matcher"]
            if matcher == {"id": "byFrameRefID", "options": letter} or matcher == {"id": "byName", "options": name}:
                for change in override["properties"]:
                    where, _, key = change["id"].rpartition(".")
                    (custom if where == "custom" else settings)[key] = change["value"]
        return cls({**settings, "custom": custom})

    @property
    def custom(self) -> Json:
        found: Json = self.settings["custom"]
        return found

    def text(self, value: str | float | None, now: float) -> str:
        """As it is shown, without its colour."""
        if value is None or value == "":
            words = self._special("null+nan" if value is None else "empty")
            return words["text"] if words else self.settings.get("noValue", "")
        if words := self._word(value):
            return words["text"]
        if isinstance(value, str):
            return value
        if self.settings.get("unit") == "dateTimeFromNow":
            return f"{now - value / 1000:g} s ago"
        factor, name = UNITS[self.settings.get("unit", "none")]
        value *= -factor if self.custom.get("transform") == "negative-Y" else factor
        decimals = self.settings.get("decimals")
        return f"{round(value, 9) or 0:{'g' if decimals is None else f'.{decimals}f'}}{name}"

    def color(self, value: str | float | None) -> str:
        """Its colour, empty if it has none of its own."""
        if value is None or value == "":
            words = self._special("null+nan" if value is None else "empty")
            return words["color"] if words else ""
        if words := self._word(value):
            return words["color"]
        if isinstance(value, str) or self.settings.get("color", {}).get("mode") != "thresholds":
            return ""
        first, *steps = self.settings["thresholds"]["steps"]
        return [first["color"], *(step["color"] for step in steps if value >= step["value"])][-1]

    def _word(self, value: str | float) -> Json | None:
        key = value if isinstance(value, str) else f"{value:g}"
        found = [each["options"] for each in self.settings.get("mappings", []) if each["type"] == "value"]
        return next((options[key] for options in found if key in options), None)

    def _special(self, match: str) -> Json | None:
        found = [each["options"] for each in self.settings.get("mappings", []) if each["type"] == "special"]
        return next((options["result"] for options in found if options["match"] == match), None)


class Grafana(NamedTuple):
    """Shows panels as they are at `now`. `values` are those of the variables, by page."""

    ask: Ask
    now: float
    values: Mapping[str, Mapping[str, str]]

    def stat(self, page: str, title: str) -> list[str]:
        """The big numbers, in the order in which they stand there."""
        panel = panel_of(page, title, "stat")
        found = self._series(page, panel)
        mode, named = panel["options"]["textMode"], len(found) > 1
        shown = []
        for name, letter, value in found or [("", "A", None)]:
            field = Field.of(panel, letter=letter, name=name)
            number = field.text(value, self.now)
            text = name if mode == "name" and name else number
            text = f"{name}: {number}" if name and (mode == "value_and_name" or (mode == "auto" and named)) else text
            shown.append(f"{text} {field.color(value)}" if panel["options"]["colorMode"] != "none" else text)
        return shown

    def graph(self, page: str, title: str) -> list[tuple[str, str]]:
        """The lines with their last values, and whether they go upwards."""
        panel = panel_of(page, title, "timeseries")
        return [
            (name, Field.of(panel, letter=letter, name=name).text(value, self.now))
            for name, letter, value in self._series(page, panel)
        ]

    def heatmap(self, page: str, title: str) -> list[tuple[str, str]]:
        """The bands, each with how many there are in it and in all below it."""
        panel = panel_of(page, title, "heatmap")
        factor, unit = UNITS[panel["options"]["yAxis"]["unit"]]
        bands = [(float(name), f"{count:g}") for name, _, count in self._series(page, panel)]
        return [(f"{factor * bound:g}{unit}", count) for bound, count in sorted(bands)]

    def timeline(self, page: str, title: str) -> list[tuple[str, str]]:
        """The bars with what is written in them at the end."""
        panel = panel_of(page, title, "state-timeline")
        field = Field.of(panel)
        found = self._series(page, panel)
        return [(name, f"{field.text(value, self.now)} {field.color(value)}") for name, _, value in found]

    def table(self, page: str, title: str) -> list[tuple[str, ...]]:
        """The names of the columns, then the rows. What the table says if it is empty is the only row then."""
        panel = panel_of(page, title, "table")
        merge, organize = panel["transformations"]
        assert merge["id"] == "merge"
        rows = _merged([self._frame(page, target) for target in panel["targets"]])
        if not rows:
            return [(panel["fieldConfig"]["defaults"]["noValue"],)]
        order = organize["options"]["indexByName"]
        there = {name for row in rows for name in row}
        fields = {name: Field.of(panel, name=name) for name in sorted(there, key=lambda name: order.get(name, 99))}
        shown = {name: field for name, field in fields.items() if not field.custom.get("hidden")}
        titles = {field.settings.get("displayName", name): name for name, field in shown.items()}
        for by in reversed(panel["options"]["sortBy"]):
            name = titles[by["displayName"]]
            nothing = -math.inf if name.startswith("Value") else ""
            rows.sort(key=lambda row: row.get(name, nothing), reverse=by["desc"])
        lines = [tuple(self._cell(field, row.get(name)) for name, field in shown.items()) for row in rows]
        return [tuple(titles), *lines]

    def events(self, page: str) -> list[tuple[str, str, str]]:
        """What is marked on all graphs at the end: title, text and colour. As Grafana does, nothing while it is 0, and
        where the value is the time of the mark it is a time, in milliseconds; here the text then has how long ago.
        """

        def text(mark: Json, labels: Labels, value: float) -> str:
            ago = f", {self.now - value / 1000:g} s ago" if mark["useValueForTime"] else ""
            return _legend(mark["textFormat"], labels) + ago

        return [
            (_legend(mark["titleFormat"], labels), text(mark, labels, value), mark["iconColor"])
            for mark in dashboard(page).json["annotations"]["list"]
            for labels, value in self.ask(self._filled(page, mark["expr"]))
            if value > 0
        ]

    def choices(self, page: str, name: str) -> dict[str, str]:
        """What a variable offers: the texts with their values."""
        variable = dashboard(page).variables[name]
        function, _, rest = variable["query"].removesuffix(")").partition("(")
        if function == "label_values":
            selector, _, label = rest.rpartition(", ")
            found = self.ask(f"last_over_time({self._filled(page, selector)}[20m])")
            return {labels[label]: labels[label] for labels, _ in found}
        # Grafana writes each series as text, with its labels in the order in which Prometheus gave them.
        pattern = re.compile(variable["regex"].strip("/").replace("(?<", "(?P<"))
        lines = [
            "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + f"}} {number:g} {self.now:g}000"
            for labels, number in self.ask(self._filled(page, rest))
        ]
        return {match["text"]: match["value"] for match in map(pattern.search, lines) if match}

    def _cell(self, field: Field, value: str | float | None) -> str:
        color = field.color(value) if field.custom.get("cellOptions", {}).get("type", "auto") != "auto" else ""
        return f"{field.text(value, self.now)} {color}".rstrip()

    def _series(self, page: str, panel: Json) -> list[tuple[str, str, float]]:
        """(legend, letter of the query, value) of all series."""
        found = []
        for target in panel["targets"]:
            rows = [
                (_legend(target["legendFormat"], labels), target["refId"], value)
                for labels, value in self.ask(self._filled(page, target["expr"]))
            ]
            found += sorted(rows)
        return found

    def _frame(self, page: str, target: Json) -> list[Row]:
        found = self.ask(self._filled(page, target["expr"]))
        names = sorted({name for labels, _ in found for name in labels})
        number = f"Value #{target['refId']}"
        return [{name: labels.get(name, "") for name in names} | {number: value} for labels, value in found]

    def _filled(self, page: str, expr: str) -> str:
        return filled_in(expr, self.values[page])


@contextlib.contextmanager
def over(directory: Path, samples: str, now: int, values: Mapping[str, Mapping[str, str]]) -> Iterator[Grafana]:
    """The dashboards over a Prometheus that has these samples (OpenMetrics, with times) and scrapes nothing."""
    file = directory / "samples.om"
    file.write_text(samples)
    made = promtool("tsdb", "create-blocks-from", "openmetrics", file, directory / "prometheus")
    assert made.returncode == 0, made.stderr
    with servers.prometheus(directory, {}, "--storage.tsdb.retention.time=100y") as server:

        def ask(expr: str) -> list[tuple[Labels, float]]:
            result = server.api("query", query=expr, time=str(now))["result"]
            return [(row["metric"], float(row["value"][1])) for row in result]

        yield Grafana(ask, now, values)


def dashboard(page: str) -> Dashboard:
    """A dashboard by the name of its file."""
    (found,) = (each for each in dashboards() if each.path.stem == page)
    return found


def panel_of(page: str, title: str, kind: str) -> Json:
    """One of its panels, of this kind."""
    (found,) = (panel for panel in dashboard(page).panels if (panel["title"], panel["type"]) == (title, kind))
    return found


def _legend(text: str, labels: Labels) -> str:
    """A name as Grafana makes it of labels. Spaces are put in order, as HTML does."""
    return " ".join(re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), text).split())


def _merged(frames: Sequence[Sequence[Row]]) -> list[Row]:
    """Grafana's transformation `merge`: a row goes into all those before it that it does not contradict."""
    columns = [set().union(*frame) for frame in frames if frame]
    common = set.intersection(*columns) if columns else set()
    merged: list[Row] = []
    for row in itertools.chain(*frames):
        same = [other for other in merged if all(row[name] == other[name] for name in common)]
        fitting = [other for other in same if all(other.get(name, value) == value for name, value in row.items())]
        for other in fitting:
            other.update(row)
        if not fitting:
            merged.append(dict(row))
    return merged
