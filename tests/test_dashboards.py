"""The dashboards as files: fresh, of known metrics, in a form that Grafana knows, and by the rules of its linter."""

from __future__ import annotations

import copy
import itertools
import json
import re
import shutil
import subprocess
import sys
import typing
import warnings

import pytest
import yaml

from tests.dashboards import ROOT, STRING, Dashboard, Json, Query, dashboards
from wg_exporter import __version__
from wg_exporter.catalogue import METRICS, NAMES
from wg_exporter.metric import Kind

if typing.TYPE_CHECKING:
    from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it would rather be used for another form of dashboards
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import dashboard as sdk
    from grafana_foundation_sdk.models import units

GENERATOR = ROOT / "dashboards" / "generate.py"
LINT = yaml.safe_load((ROOT / "dashboards" / ".lint").read_text())["exclusions"]

# What Prometheus adds to what the exporter serves.
PROMETHEUS = {"up", "ALERTS", "ALERTS_FOR_STATE"}
SERIES = {metric.name + s for metric in METRICS if metric.kind is Kind.HISTOGRAM for s in ("_bucket", "_sum", "_count")}
COUNTERS = {name for name in (*NAMES, *SERIES) if name.endswith(("_total", "_bucket", "_sum", "_count"))}
UNITS = {value for hint in vars(units)["__annotations__"].values() for value in typing.get_args(hint)} | {
    value for value in vars(units).values() if isinstance(value, str)
}
# By these alone may two sides be joined: they stay what they are when a peer is renamed.
JOINS = {"job, instance", "job, instance, netns, interface", "job, instance, netns, interface, public_key"}

every_dashboard = pytest.mark.parametrize("page", [pytest.param(page, id=page.title) for page in dashboards()])
every_query = pytest.mark.parametrize(
    "query",
    [
        pytest.param(query, id=query.name)
        for page in dashboards()
        for query in itertools.chain(page.queries(), page.events())
    ],
)


def excused(rule: str, query: Query) -> bool:
    """Whether `.lint` says that a rule doesn't apply, and why."""
    entries = LINT.get(rule, {}).get("entries", [])
    return {"dashboard": query.page, "panel": query.panel} in entries


# Made from Python


def generate(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(directory / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_json_is_what_its_python_makes() -> None:
    done = generate(GENERATOR.parent, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_dashboard_is_found_and_written_again(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("preview")
    copied = shutil.copytree(GENERATOR.parent, tmp_path / "dashboards", ignore=ignore)
    (tmp_path / "docs").symlink_to(GENERATOR.parents[1] / "docs")
    page = copied / "peer.json"
    fresh = page.read_text()
    page.write_text(fresh.replace("Loss", "Gain", 1))
    done = generate(copied, "--check")
    assert done.returncode == 1
    assert f"{page} is stale" in done.stderr
    assert page.read_text() != fresh
    assert generate(copied).returncode == 0
    assert page.read_text() == fresh


def test_a_dashboard_says_of_which_version_it_is() -> None:
    for name in ("fleet", "host", "peer"):
        page = json.loads((GENERATOR.parent / f"{name}.json").read_text())
        assert page["description"].endswith(f" Of wg-exporter {__version__}.")


# In Grafana's form


def changed(ours: object, theirs: object, path: str = "") -> list[str]:
    """Where a round trip did not bring back what we wrote; what it adds are defaults."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            fault
            for key, value in ours.items()
            for fault in ([f"{path}.{key}"] if key not in theirs else changed(value, theirs[key], f"{path}.{key}"))
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [fault for i, (one, other) in pairs for fault in changed(one, other, f"{path}[{i}]")]
    return [] if ours == theirs else [path]


def round_trip(page: Json) -> Json:
    """As read and written by Grafana's own library, which drops fields that it does not know."""
    plugins.register_default_plugins()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        again: Json = json.loads(JSONEncoder().encode(sdk.Dashboard.from_json(copy.deepcopy(page))))
    return again


@every_dashboard
def test_every_field_is_one_that_grafana_knows(page: Dashboard) -> None:
    assert changed(page.json, round_trip(page.json)) == []


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ((), "schemeVersion"),
        (("panels", 0), "desciption"),
        (("panels", 0, "options"), "colourMode"),
        (("panels", 0, "targets", 0), "legendformat"),
        (("panels", 0, "fieldConfig", "defaults"), "novalue"),
        (("templating", "list", 1), "multiple"),
    ],
)
def test_a_misspelt_field_is_found(where: tuple[str | int, ...], field: str) -> None:
    page = copy.deepcopy(dashboards()[0].json)
    inner: typing.Any = page
    for step in where:
        inner = inner[step]
    inner[field] = "x"
    (fault,) = changed(page, round_trip(page))
    assert fault.endswith(f".{field}")


@every_dashboard
def test_panels_neither_overlap_nor_leave_the_page(page: Dashboard) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in page.json["panels"]:
        place = panel["gridPos"]
        columns, lines = (range(place[at], place[at] + place[size]) for at, size in (("x", "w"), ("y", "h")))
        cells = set(itertools.product(columns, lines))
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    identities = [panel["id"] for panel in page.json["panels"]]
    assert len(set(identities)) == len(identities)


def test_each_has_a_name_of_its_own_that_links_can_rely_on() -> None:
    assert {page.path.stem: page.json["uid"] for page in dashboards()} == {
        name: f"wg-exporter-{name}" for name in ("fleet", "host", "peer")
    }


@every_dashboard
def test_every_link_leads_to_one_of_the_others_and_sets_variables_that_it_has(page: Dashboard) -> None:
    known = {other.json["uid"]: set(other.variables) for other in dashboards()}
    links = list(page.links())
    assert links or page.json["uid"] == "wg-exporter-peer"
    for link in links:
        (uid,) = re.findall(r"^/d/([\w-]+)\?", link)
        assert set(re.findall(r"&var-(\w+)=", link)) <= known[uid]
        assert "${__url_time_range}" in link
    (siblings,) = page.json["links"]
    assert siblings["includeVars"]
    assert siblings["keepTime"]
    assert set(siblings["tags"]) <= set(page.json["tags"])


# What is asked


@every_query
def test_every_metric_is_in_the_catalogue(query: Query) -> None:
    selected = {name for name, _ in query.selectors()}
    assert selected
    assert selected <= {*NAMES, *SERIES, *PROMETHEUS}
    # None is there without braces, where the rules below would miss it.
    bare = STRING.sub("", query.expr)
    assert set(re.findall(r"\b(wireguard_\w+|process_\w+|ALERTS\w*|up)\b", bare)) == selected


@every_query
def test_two_sides_are_joined_only_by_what_survives_a_new_name(query: Query) -> None:
    for labels in re.findall(r"\bon \(([^)]*)\)", query.expr):
        assert labels in JOINS
    assert re.findall(r"\bgroup_right\b", query.expr) == []
    assert re.findall(r"\bignoring \((?!alertstate\))", query.expr) == []
    for many in re.findall(r"group_left \(\) (.*)", query.expr):
        assert many.startswith("max by (")
    for by in re.findall(r"(?<= by )\(([^)]*)\)", query.expr):
        if "peer" in by.split(", ") and "ALERTS" not in query.expr:
            assert "public_key" in by.split(", "), "two peers of one name would be one"


def test_every_alert_but_the_watchdog_is_one_that_the_fleet_dashboard_lists() -> None:
    groups = yaml.safe_load((ROOT / "alerts" / "wireguard.rules.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    queries = [query for page in dashboards() for query in page.queries() if query.panel == "Firing alerts"]
    for query in queries:
        for pattern in re.findall(r'alertname=~"([^"]*)"', query.expr):
            assert {alert for alert in alerts if re.fullmatch(pattern, alert)} == alerts - {"Watchdog"}
    assert queries


# The rules of Grafana's dashboard-linter, under their names there


@every_query
def test_target_job_and_instance_rule(query: Query) -> None:
    for rule, matcher in (
        ("target-job-rule", 'job=~"$job"'),
        ("target-instance-rule", 'instance=~"$instance"'),
    ):
        missing = [name for name, matchers in query.selectors() if matcher not in matchers.split(", ")]
        assert bool(missing) == excused(rule, query), missing


@every_query
def test_target_rate_interval_and_counter_agg_rule(query: Query) -> None:
    text = query.expr
    for function, metric, span in re.findall(r"(\w+)\(([\w:]+)\{[^}]*\}\[([^\]]*)\]", text):
        assert function in {"rate", "increase", "last_over_time"}
        if function != "last_over_time":
            assert metric in COUNTERS
            # One number may speak of the whole range, or of the five minutes by which the exporter judges.
            one_number = function == "increase" and query.instant
            assert span == "$__rate_interval" or (one_number and span in {"$__range", "5m"})
        else:
            assert metric not in COUNTERS
    counters = [name for name, _ in query.selectors() if name in COUNTERS]
    assert len(re.findall(r"\b(?:rate|increase)\(", text)) == len(counters)


@every_dashboard
def test_template_rules(page: Dashboard) -> None:
    variables = page.variables
    assert variables["datasource"]["type"] == "datasource"
    assert (variables["datasource"]["label"], variables["datasource"]["query"]) == ("Data source", "prometheus")
    queried = {name: variable for name, variable in variables.items() if variable["type"] == "query"}
    assert set(variables) - set(queried) == {"datasource"}
    assert set(queried) >= {"job", "instance"}
    for name, variable in queried.items():
        assert variable["label"] == name.title()
        assert variable["datasource"] == {"type": "prometheus", "uid": "$datasource"}
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
        assert variable["refresh"] == 2, "asked again when the range of time changes"
        function, _, rest = variable["query"].partition("(")
        assert function in {"label_values", "query_result"}
        assert rest.endswith(")")


@every_dashboard
def test_uneditable_rule_and_schema(page: Dashboard) -> None:
    assert page.json["editable"] is False
    assert page.json["schemaVersion"] == 42


@every_dashboard
def test_panel_rules(page: Dashboard) -> None:
    for panel in page.panels:
        assert panel["targets"], panel["title"]
        assert panel["title"]
        assert len(panel["description"]) > 15, panel["title"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"]["uid"] == "$datasource"


@every_dashboard
def test_panel_units_rule(page: Dashboard) -> None:
    for panel in page.panels:
        defaults, overrides = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["overrides"]
        changes = [change for override in overrides for change in override["properties"]]
        used = [change["value"] for change in changes if change["id"] == "unit"]
        used += [defaults[key] for key in ("unit",) if key in defaults]
        assert used or "mappings" in defaults or panel["type"] == "heatmap", panel["title"]
        assert set(used) <= UNITS, panel["title"]


@every_dashboard
def test_a_number_that_nobody_knows_is_not_green(page: Dashboard) -> None:
    for panel in page.panels:
        if panel["type"] == "stat":
            mappings = panel["fieldConfig"]["defaults"]["mappings"]
            unknown = [each["options"] for each in mappings if each["type"] == "special"]
            assert [each["result"]["color"] for each in unknown if each["match"] == "null+nan"] == ["#6e7680"]
            # What was the last value of a series that has ended is not what holds now.
            assert all(target["instant"] for target in panel["targets"])


def test_every_exception_from_the_rules_has_a_reason_and_is_needed() -> None:
    known = {(query.page, query.panel) for page in dashboards() for query in page.queries()}
    for rule, exception in LINT.items():
        assert len(exception["reason"]) > 20, rule
        assert {(entry["dashboard"], entry["panel"]) for entry in exception["entries"]} <= known
