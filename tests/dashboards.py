"""The dashboards as their tests see them: panels, queries, variables, and a query as Grafana would send it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "dashboards").glob("*.json"))

STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^{}]*)\}")
FIELD = re.compile(r"\$\{__(?:data\.fields|field\.labels)\.(\w+)")

Json = dict[str, Any]


class Query(NamedTuple):
    """One query of a panel, or of the events of a dashboard."""

    page: str
    panel: str
    letter: str
    kind: str
    expr: str
    legend: str
    instant: bool

    @property
    def name(self) -> str:
        """What a test of it is called."""
        return f"{self.page}: {self.panel} {self.letter}"

    def selectors(self) -> list[tuple[str, str]]:
        """The metrics that are selected, each with its matchers."""
        # Braces in strings are none, and strings in matchers are needed: so they are hidden and brought back.
        strings: list[str] = []

        def hide(match: re.Match[str]) -> str:
            strings.append(match[0])
            return f"\0{len(strings) - 1}\0"

        found = SELECTOR.findall(STRING.sub(hide, self.expr))
        return [(name, re.sub(r"\0(\d+)\0", lambda m: strings[int(m[1])], matchers)) for name, matchers in found]


class Dashboard(NamedTuple):
    """A dashboard of the repository."""

    path: Path
    json: Json

    @property
    def title(self) -> str:
        """Its title."""
        title: str = self.json["title"]
        return title

    @property
    def panels(self) -> list[Json]:
        """All panels but the headings."""
        return [panel for panel in self.json["panels"] if panel["type"] != "row"]

    @property
    def variables(self) -> dict[str, Json]:
        """Its variables by name."""
        return {variable["name"]: variable for variable in self.json["templating"]["list"]}

    def queries(self) -> Iterator[Query]:
        """The queries of its panels."""
        for panel in self.panels:
            for target in panel["targets"]:
                where = (self.title, panel["title"], target["refId"], panel["type"])
                yield Query(*where, target["expr"], target["legendFormat"], target["instant"])

    def events(self) -> Iterator[Query]:
        """The queries of what it marks on its graphs."""
        for mark in self.json["annotations"]["list"]:
            legend = mark["titleFormat"] + mark["textFormat"]
            yield Query(self.title, mark["name"], "event", "event", mark["expr"], legend, instant=False)

    def links(self) -> Iterator[str]:
        """The addresses that its panels link to."""
        for panel in self.panels:
            fields = panel["fieldConfig"]
            for link in fields["defaults"].get("links", []):
                yield link["url"]
            for override in fields["overrides"]:
                for change in override["properties"]:
                    if change["id"] == "links":
                        yield from (link["url"] for link in change["value"])


def dashboards() -> list[Dashboard]:
    """All of them."""
    return [Dashboard(page, json.loads(page.read_text())) for page in PAGES]


def filled_in(expr: str, values: Mapping[str, str]) -> str:
    """The query as it reaches Prometheus, with the values of its variables, longest names first."""
    for name in sorted(values, key=len, reverse=True):
        expr = expr.replace(f"${name}", values[name])
    assert "$" not in re.sub(r'"\$\d|key \$\d', "", expr), f"a variable without a value: {expr}"
    return expr
