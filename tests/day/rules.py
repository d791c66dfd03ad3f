"""What a file of rules reads: the rules that page with all that they rest on, and the series that these select."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')


class Matcher(NamedTuple):
    """One condition on a label, as selectors of Prometheus and matchers of Alertmanager write it."""

    label: str
    how: str
    value: str

    def holds(self, labels: Mapping[str, str]) -> bool:
        """A label that is missing is empty."""
        found = labels.get(self.label, "")
        same = re.fullmatch(self.value, found) is not None if "~" in self.how else found == self.value
        return same != self.how.startswith("!")


def matchers(text: str) -> tuple[Matcher, ...]:
    """All in a text."""
    return tuple(Matcher(*found) for found in _MATCHER.findall(text))


class Rules(NamedTuple):
    """Rules, as groups of a rule file, and the selectors in them."""

    groups: tuple[Mapping[str, Any], ...]
    selectors: Mapping[str, tuple[tuple[Matcher, ...], ...]]

    def read(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether one of them selects such a series."""
        return any(all(one.holds(labels) for one in selector) for selector in self.selectors.get(name, ()))

    def text(self) -> str:
        """The rule file."""
        return yaml.safe_dump({"groups": list(self.groups)}, sort_keys=False, width=10_000)


def paging(path: Path) -> Rules:
    """The alerts of a file that are critical, and the recorded series that they rest on; the others wake nobody."""
    groups = yaml.safe_load(path.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    recorded = {rule["record"]: rule for rule in rules if "record" in rule}
    wanted = [rule for rule in rules if rule.get("labels", {}).get("severity") == "critical"]
    queue, seen = list(wanted), set[str]()
    while queue:
        for name, _ in _SELECTOR.findall(queue.pop()["expr"]):
            if name in recorded and name not in seen:
                seen.add(name)
                queue.append(recorded[name])
    wanted += [recorded[name] for name in seen]
    kept = tuple(
        {"name": group["name"], "rules": [rule for rule in group["rules"] if rule in wanted]} for group in groups
    )
    return of(group for group in kept if group["rules"])


def of(groups: Iterable[Mapping[str, Any]]) -> Rules:
    """These rules, whatever they are."""
    groups = tuple(groups)
    selectors: dict[str, list[tuple[Matcher, ...]]] = {}
    for group in groups:
        for rule in group["rules"]:
            for name, inside in _SELECTOR.findall(rule["expr"]):
                selectors.setdefault(name, []).append(matchers(inside))
    return Rules(groups, {name: tuple(found) for name, found in selectors.items()})
