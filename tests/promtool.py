"""The shipped alerts as data, for the tests that hold them against their unit tests, pages and routes."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from wg_exporter import __version__

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "alerts/wireguard.rules.yml"
EXAMPLE = ROOT / "deploy/alertmanager.example.yml"
PAGES = ROOT / "docs/alerts"
UNIT_TESTS = sorted((ROOT / "tests/data/alerts").glob("*.yml"))


class Rule(NamedTuple):
    """A recording or alerting rule; of the former, `severity` and `annotations` are empty."""

    name: str
    expr: str
    severity: str
    annotations: dict[str, str]
    waits: tuple[str, str]  # `for` and `keep_firing_for`


class Case(NamedTuple):
    """What one unit test expects of an alert: the labels of those that fire, at any of the times it asks for."""

    alert: str
    name: str
    fires: list[dict[str, str]]


def run(*command: str | Path, package: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of a Debian package, or skip the test where it is not installed."""
    if not shutil.which(str(command[0])):
        pytest.skip(f"{command[0]}: no such command; apt-get install {package}")
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What promtool says."""
    return run("promtool", *arguments, package="prometheus")


def amtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What amtool says."""
    return run("amtool", *arguments, package="prometheus-alertmanager")


def unit_test(path: Path, directory: Path) -> Path:
    """A unit test as promtool takes it: THIS_VERSION is the version that the rules should be of."""
    text = path.read_text()
    if "THIS_VERSION" not in text:
        return path
    written = directory / path.name
    rules = f"rule_files: [{RULES}]"
    text = text.replace("rule_files: [../../../alerts/wireguard.rules.yml]", rules)
    written.write_text(text.replace("THIS_VERSION", __version__))
    return written


def alerts() -> list[Rule]:
    """The alerting rules; a name may be there twice, with two severities."""
    return [_rule(rule["alert"], rule) for rule in _rules() if "alert" in rule]


def records() -> list[Rule]:
    """The recording rules."""
    return [_rule(rule["record"], rule) for rule in _rules() if "record" in rule]


def names() -> list[str]:
    """The names of the alerts, each once, in the order of the file."""
    return list(dict.fromkeys(alert.name for alert in alerts()))


@functools.cache
def cases() -> list[Case]:
    """What the unit tests say of each alert, one row for each test and alert."""
    found = []
    for path in UNIT_TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            asked: dict[str, list[dict[str, str]]] = {}
            for look in test.get("alert_rule_test", []):
                fires = asked.setdefault(look["alertname"], [])
                fires += [alert["exp_labels"] for alert in look.get("exp_alerts") or []]
            found += [Case(alert, test["name"], fires) for alert, fires in asked.items()]
    return found


@functools.cache
def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def _rule(name: str, rule: dict[str, Any]) -> Rule:
    waits = rule.get("for", "0s"), rule.get("keep_firing_for", "0s")
    return Rule(name, rule["expr"], rule.get("labels", {}).get("severity", ""), rule.get("annotations", {}), waits)
