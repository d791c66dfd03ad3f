"""The example of an Alertmanager: who is told of which alert, and which alerts are left out beside another."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
import yaml

from tests.promtool import EXAMPLE, alerts, amtool, cases

RECEIVERS = {"critical": "pager", "warning": "chat", "info": "nobody"}
KEEPS = re.compile(r"(\d+)([smh])")


class Inhibition(NamedTuple):
    """An inhibition, with the alerts (name and severity) that its matchers meet."""

    sources: set[tuple[str, str]]
    targets: set[tuple[str, str]]
    equal: list[str]


def meets(matchers: list[str], alert: tuple[str, str]) -> bool:
    labels = dict(zip(("alertname", "severity"), alert, strict=True))
    for matcher in matchers:
        label, operator, value = re.fullmatch(r"(\w+)(=~|=)\"(.*)\"", matcher).groups()
        if not re.fullmatch(value if operator == "=~" else re.escape(value), labels[label]):
            return False
    return True


def inhibitions() -> list[pytest.param]:
    every = {(alert.name, alert.severity) for alert in alerts()}
    return [
        pytest.param(
            Inhibition(
                {alert for alert in every if meets(rule["source_matchers"], alert)},
                {alert for alert in every if meets(rule["target_matchers"], alert)},
                rule["equal"],
            ),
            id=re.sub(r"WireGuard|\W", " ", rule["source_matchers"][0].partition("=")[2]).strip().replace(" ", "-"),
        )
        for rule in yaml.safe_load(EXAMPLE.read_text())["inhibit_rules"]
    ]


def fired(alert: tuple[str, str]) -> list[dict[str, str]]:
    """The labels with which it fires in the unit tests."""
    return [
        {"alertname": case.alert, **labels}
        for case in cases()
        for labels in case.fires
        if (case.alert, labels["severity"]) == alert
    ]


def seconds(wait: str) -> int:
    number, unit = KEEPS.fullmatch(wait).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


@pytest.mark.prometheus
def test_amtool_accepts_the_example():
    done = amtool("check-config", EXAMPLE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.prometheus
@pytest.mark.parametrize("alert", [pytest.param(a, id=f"{a.name}-{a.severity}") for a in alerts()])
def test_an_alert_reaches_the_receiver_of_its_severity(alert):
    receiver = "dead-man" if alert.name == "Watchdog" else RECEIVERS[alert.severity]
    labels = [f"alertname={alert.name}", f"severity={alert.severity}", "job=wg", "instance=gw1:9586"]
    done = amtool("config", "routes", "test", f"--config.file={EXAMPLE}", f"--verify.receivers={receiver}", *labels)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == [receiver]


@pytest.mark.parametrize("inhibition", inhibitions())
def test_both_sides_of_an_inhibition_carry_the_labels_that_must_be_equal(inhibition):
    """Two labels that are missing are equal to Alertmanager: a label on neither side would tie strangers together."""
    assert inhibition.sources
    assert inhibition.targets
    for alert in inhibition.sources | inhibition.targets:
        assert fired(alert)
        for labels in fired(alert):
            # Without netns it is the exporter's own namespace, on both sides.
            assert set(inhibition.equal) - {"netns"} <= labels.keys(), alert


@pytest.mark.parametrize("inhibition", inhibitions())
def test_what_is_of_an_interface_is_inhibited_in_its_namespace_only(inhibition):
    if "interface" in inhibition.equal:
        assert {"job", "instance", "netns"} <= set(inhibition.equal)


@pytest.mark.parametrize("inhibition", inhibitions())
def test_no_alert_inhibits_itself_and_no_page_is_inhibited(inhibition):
    """A page that ended while inhibited would stay open, and not be sent again (prometheus/alertmanager#2754)."""
    assert not inhibition.sources & inhibition.targets
    assert "critical" not in {severity for _name, severity in inhibition.targets}


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_whatever_is_no_page_is_inhibited_while_its_exporter_is_silent(severity):
    (inhibition,) = (each.values[0] for each in inhibitions() if each.id == "ExporterDown")
    own = {alert for alert in inhibition.targets if alert[1] == severity}
    assert own == {
        (alert.name, alert.severity) for alert in alerts() if alert.severity == severity and alert.name != "Watchdog"
    }
    assert not {alert for alert in inhibition.targets if alert[1] == "critical"}


def test_pages_leave_at_once_each_by_itself_and_the_dead_man_is_told_every_minute():
    route = yaml.safe_load(EXAMPLE.read_text())["route"]
    assert route["group_by"] == ["alertname", "job", "instance", "netns", "interface"]
    routes = {child["receiver"]: child for child in route["routes"]}
    assert routes["pager"]["group_by"] == [*route["group_by"], "public_key"]
    assert (routes["pager"]["group_wait"], routes["pager"]["group_interval"]) == ("0s", "30s")
    assert seconds(routes["dead-man"]["repeat_interval"]) <= 60


def test_the_parent_that_the_example_names_takes_all_alerts_in():
    (parent,) = re.findall(r'matchers: \[alertname=~"([^"]+)"\]` and the `group_by`', EXAMPLE.read_text())
    assert all(re.fullmatch(parent, alert.name) for alert in alerts())


def test_no_secret_is_written_into_the_example():
    text = EXAMPLE.read_text()
    assert not re.search(r"\b(?:routing_key|service_key|api_url|password|credentials|bearer_token|api_key):", text)
    assert "_file: /etc/alertmanager/secrets/" in text
