"""The alert rules: promtool takes them and their unit tests, and nothing of an alert is missing or made up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.promtool import PAGES, ROOT, RULES, UNIT_TESTS, alerts, cases, names, promtool, records, unit_test
from wg_exporter import __version__
from wg_exporter.catalogue import METRICS
from wg_exporter.causes.cause import Cause
from wg_exporter.health.states import Reason
from wg_exporter.metric import Kind
from wg_exporter.probed import SendError, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.promtool import Rule

# An alert whose exporter is silent, or that has none, leads to the page at any exporter that answers.
ANY = (
    '{{ with query "max by (instance) (wireguard_exporter_build_info)" }}%s'
    '{{ . | sortByLabel "instance" | first | label "instance" }}'
)
RUNBOOKS = {
    **dict.fromkeys(
        ["WireGuardHubDown", "WireGuardAllPathsDown", "Watchdog"], f"{ANY % 'http://'}/docs/alerts/%s{{{{ end }}}}"
    ),
    **dict.fromkeys(
        ["WireGuardExporterDown", "WireGuardScrapesFailing"],
        f"http://{ANY % ''}{{{{ else }}}}{{{{ $labels.instance }}}}{{{{ end }}}}/docs/alerts/%s",
    ),
}
RUNBOOK = "http://{{ $labels.instance }}/docs/alerts/%s"
CATALOGUE = {metric.name: metric for metric in METRICS}
HISTOGRAMS = {metric.name for metric in METRICS if metric.kind is Kind.HISTOGRAM}
# What Prometheus adds to every series, what the exporter adds to some, and what a rule makes itself.
TARGET = {"job", "instance"}
ADDED = {*TARGET, "netns", "own_key", "hub"}
# Joins that need not name all three of job, instance and netns, and why.
NARROW_JOINS = {
    ("job",): "how often its targets are scraped",
    ("job", "tunnel"): "both ends of one tunnel",
    ("job", "tunnel", "public_key"): "one end of a tunnel, which hosts may share",
    ("job", "own_key"): "a hub, and what others say of it",
    ("job", "allowed_ips"): "an address that is scraped, and the peer that it is routed to",
    ("job", "instance"): "up and what the exporter says of itself know no namespace",
    ("job", "public_key"): "one key, seen by several hosts",
    ("job", "public_key", "own_key"): "one tunnel, seen by the hosts that share it",
}
# Series of which there is one for each peer, or interface, however the rule is asked.
UNIQUE = {"wireguard:interface_key", "wireguard:interface_names", "wireguard:peer_tunnel"}
# Gauges that are asked for their value of the moment.
FRESH = {
    "wireguard_peer_state": "the last value stands in for it where it is missing",
    "wireguard_peer_reason": "the last value stands in for it where it is missing",
    "wireguard_peer_cause": "an old cause is no cause",
    "wireguard_interface_up": "what was missing stays so while scrapes fail",
    "wireguard_peer_quiet": "it stays while scrapes fail, and ends with the first one that has it no more",
    "wireguard_interface_quiet": "it stays while scrapes fail, and ends with the first one that has it no more",
    "wireguard_interface_mtu_bytes": "it says what the same scrape has",
    "wireguard_interface_peers": "it says what the same scrape has",
    "wireguard_peer_info": "it says which exporters can be scraped; what follows from it holds for three minutes more",
}


def each(rules: list[Rule]) -> list[pytest.param]:
    return [pytest.param(rule, id=f"{rule.name}{'-' * bool(rule.severity)}{rule.severity}") for rule in rules]


# promtool


@pytest.mark.prometheus
def test_promtool_loads_the_rules():
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts()) + len(records())} rules found" in done.stdout


@pytest.mark.prometheus
def test_all_files_beside_the_rules_are_rules():
    """So `promtool check rules alerts/*.yml`, pint and a copy of the directory find nothing that is none."""
    done = promtool("check", "rules", *RULES.parent.iterdir())
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path for path in RULES.parent.iterdir() if path.suffix != ".yml"] == []


@pytest.mark.prometheus
@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_unit_tests_of_promtool_pass(path, tmp_path):
    done = promtool("test", "rules", unit_test(path, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
def test_promtool_reports_a_rule_that_errs_on_a_rename(tmp_path):
    """That no rule errs when a peer is renamed is worth as much as promtool's notice if one did."""
    (renamed,) = (path for path in UNIT_TESTS if path.stem == "WireGuardPeerDown")
    rules = tmp_path / "rules.yml"
    expr = (
        "sum by (public_key) (wireguard_peer_expected_up)"
        " * on (public_key) group_left (peer) last_over_time(wireguard_peer_expected_up[2m])"
    )
    record = {"record": "wireguard:careless", "expr": expr}
    rules.write_text(yaml.safe_dump({"groups": [{"name": "wireguard-paging", "rules": [record]}]}))
    test = tmp_path / "test.yml"
    test.write_text(renamed.read_text().replace("../../../alerts/wireguard.rules.yml", str(rules)))
    done = promtool("test", "rules", test)
    assert done.returncode == 1
    assert "found duplicate series for the match group" in done.stdout + done.stderr


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_unit_tests_are_those_of_the_shipped_rules(path: Path):
    assert "rule_files: [../../../alerts/wireguard.rules.yml]\n" in path.read_text()
    assert path.stem in names()


@pytest.mark.parametrize("alert", each(alerts()))
def test_an_alert_has_a_unit_test_in_which_it_fires(alert):
    fired = [labels for case in cases() if case.alert == alert.name for labels in case.fires]
    assert alert.severity in {labels["severity"] for labels in fired}


@pytest.mark.parametrize("name", [name for name in names() if name != "Watchdog"])
def test_an_alert_has_a_unit_test_in_which_it_must_not_fire(name):
    assert [case.name for case in cases() if case.alert == name and not case.fires]


# Expressions


@pytest.mark.parametrize("rule", each([*records(), *alerts()]))
def test_a_rule_reads_only_what_there_is(rule):
    recorded = {record.name for record in records()}
    for name, matchers in selectors(rule.expr):
        if name in recorded or name in {"up", "ALERTS"}:
            continue
        base = re.sub(r"_(?:bucket|sum|count)$", "", name)
        metric = CATALOGUE[base if base in HISTOGRAMS else name]
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= {*metric.labels, *ADDED}, name


@pytest.mark.parametrize("rule", each([*records(), *alerts()]))
def test_a_rule_groups_by_labels_that_there_are(rule):
    known = {label for metric in METRICS for label in metric.labels} | ADDED
    for labels in re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right) \(([^)]*)\)", rule.expr):
        assert set(words(labels)) <= known


@pytest.mark.parametrize("rule", each([*records(), *alerts()]))
def test_a_join_tells_hosts_and_namespaces_apart(rule):
    for labels in re.findall(r"\bon \(([^)]*)\)", rule.expr):
        assert {"job", "instance", "netns"} <= set(words(labels)) or tuple(words(labels)) in NARROW_JOINS


@pytest.mark.parametrize("rule", each([*records(), *alerts()]))
def test_a_join_that_copies_a_label_has_one_series_on_its_other_side(rule):
    """`and` and `unless` never err. Arithmetic does when a rename leaves two series for one peer."""
    for right in re.findall(r"\bgroup_left \([^)]*\)\s*(\(?\s*\S+)", rule.expr):
        made_unique = right.strip("( \n").startswith(("sum", "max", "count", "topk"))
        assert made_unique or right in UNIQUE
    assert "group_right" not in rule.expr


@pytest.mark.parametrize("rule", each([*records(), *alerts()]))
def test_a_lost_scrape_resets_nothing(rule):
    for name, _matchers, ranged in selectors(rule.expr, ranges=True):
        if name in CATALOGUE and name not in FRESH:
            assert ranged, f"{name} is missing after every scrape that fails"


@pytest.mark.parametrize("rule", each([*records(), *alerts()]))
def test_a_range_over_what_is_scraped_holds_four_scrapes_of_60_s(rule):
    """In Prometheus 3 too, whose ranges leave out their first moment. `up` is counted, whatever its range."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    for name, _matchers, ranged in selectors(rule.expr, ranges=True):
        if ranged and name != "up":
            least = 180 if ":" in name else 240
            assert int(ranged[1:-2]) * units[ranged[-2]] >= least, f"{name}{ranged}"


def test_an_exporter_is_down_after_five_scrapes_or_two_minutes_at_any_interval():
    (rule,) = (alert for alert in alerts() if alert.name == "WireGuardExporterDown")
    ranges = [int(number) * 60 for number in re.findall(r"count_over_time\(up\[(\d+)m\]\) >= 5", rule.expr)]
    for interval in range(5, 61):
        holds = [seconds for seconds in ranges if seconds // interval >= 5]
        assert holds, f"scraped every {interval} s it never fires"
        assert holds[0] <= max(120, 10 * interval)


@pytest.mark.parametrize("rule", each([*records(), *alerts()]))
def test_no_rule_reads_the_clock(rule):
    """So the clocks of exporters may differ from that of Prometheus."""
    assert not re.search(r"\b(?:time|timestamp)\(|_timestamp_seconds", rule.expr)


def selectors(expr: str, *, ranges: bool = False) -> list[tuple[str, ...]]:
    """The series that an expression selects: name, matchers and, if asked for, the range."""
    found = re.findall(r"(?<![\w:\"])(up|wireguard[_:][\w:]+)(\{[^}]*\})?(\[\w+\])?", expr)
    assert found or expr == "vector(1)"
    return found if ranges else [(name, matchers) for name, matchers, _range in found]


def words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


# What a person reads


@pytest.mark.parametrize("alert", each(alerts()))
def test_an_alert_says_how_bad_what_where_and_what_to_do(alert):
    assert alert.severity in {"critical", "warning", "info"}
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert "{{" not in alert.annotations["summary"]
    assert "$labels" in alert.annotations["description"] or alert.name == "Watchdog"
    assert alert.annotations["runbook_url"] == RUNBOOKS.get(alert.name, RUNBOOK) % alert.name


def test_the_rules_and_their_alert_on_versions_are_of_this_version():
    (alert,) = (alert for alert in alerts() if alert.name == "WireGuardRulesVersionDiffers")
    assert f'version!="{__version__}"' in alert.expr
    assert f"these rules are of {__version__}." in alert.annotations["description"]


def test_an_alert_without_an_instance_has_its_page_elsewhere():
    for alert in alerts():
        fired = [labels for case in cases() if case.alert == alert.name for labels in case.fires]
        assert all("instance" in labels for labels in fired) or "query" in alert.annotations["runbook_url"]


@pytest.mark.parametrize("reason", [str(reason) for reason in (*Reason, *SendError, Verdict.FILTERED)])
def test_a_reason_has_words_for_a_page(reason):
    words = {
        rule["labels"]["reason"]: rule["labels"]["meaning"]
        for rule in shipped()
        if rule.get("record") == "wireguard:reason_meaning"
    }
    assert re.fullmatch(r"[A-Z`].+[^.]\.", words[reason])


@pytest.mark.parametrize("cause", [str(cause) for cause in Cause if cause.fault])
def test_a_cause_has_words_for_a_page(cause):
    words = {
        rule["labels"]["cause"]: rule["labels"]["meaning"]
        for rule in shipped()
        if rule.get("record") == "wireguard:cause_meaning"
    }
    assert re.fullmatch(r"[A-Z].+[^.]\.", words[cause])


@pytest.mark.parametrize("alert", [alert for alert in alerts() if "$labels.peer" in alert.annotations["description"]])
def test_an_alert_of_a_peer_carries_its_tunnel(alert):
    labels = next(rule["labels"] for rule in shipped() if rule.get("alert") == alert.name)
    assert "tunnel" in labels or "group_left (tunnel)" in alert.expr


@pytest.mark.parametrize("name", names())
def test_an_alert_has_a_page(name):
    page = (PAGES / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def test_every_page_is_of_an_alert():
    assert {path.stem for path in PAGES.glob("*.md")} == {*names(), "README"}


def test_the_index_has_every_alert_as_it_is():
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (.+?) \| (.+?) \| (.+?) \|$", index(), re.MULTILINE)
    waits = {alert.name: alert.waits[0] for alert in reversed(alerts())}
    severities = {name: " or ".join(alert.severity for alert in alerts() if alert.name == name) for name in names()}
    assert [(name, page, severity, wait) for name, page, severity, wait, _text in rows] == [
        (name, name, severities[name], waits[name]) for name in names()
    ]


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_names_metrics_that_there_are(path):
    for name in re.findall(
        r"\b(?:wireguard_(?:peer|interface|probe|mtu|exporter)_\w+|wireguard:[\w:]+)", path.read_text()
    ):
        assert name in CATALOGUE or name in {record.name for record in records()}, name


def shipped() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def index() -> str:
    return (ROOT / "docs/alerts/README.md").read_text()
