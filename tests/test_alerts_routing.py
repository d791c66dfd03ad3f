"""The example of an Alertmanager: who is told of which alert, and which alerts are left out beside another."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pytest
import yaml

from tests.promtool import EXAMPLE, alerts, amtool, cases
from tests.rows import key
from wg_exporter.names.tunnel import tunnel_name

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


def test_both_ends_of_a_tunnel_are_one_incident_and_so_are_a_hub_and_its_branches():
    route = yaml.safe_load(EXAMPLE.read_text())["route"]
    below = {child["receiver"]: child.get("routes", ()) for child in route["routes"]}
    groups = [(one["matchers"][0].partition("=")[0], one["group_by"]) for one in below["pager"]]
    assert groups == [("tunnel", ["job", "tunnel"]), ("hub", ["job", "hub"])]
    assert [one["group_by"] for one in below["chat"]] == [["alertname", "job", "tunnel"]]


def test_a_tunnel_without_a_name_is_no_incident_of_its_own():
    """`unknown` is what a warning has as its tunnel when the exporter doesn't name it."""
    route = yaml.safe_load(EXAMPLE.read_text())["route"]
    for child in route["routes"]:
        for one in child.get("routes", ()):
            operator, value = re.fullmatch(r"\w+(=~)\"(.+)\"", one["matchers"][0]).groups()
            assert operator == "=~"
            if one["matchers"][0].startswith("tunnel"):
                assert re.fullmatch(value, tunnel_name(key(1), key(2)))
                assert not re.fullmatch(value, "unknown")


def said(tmp_path, receiver, kind, field, *alerts):
    """What the example makes of these alerts, as amtool renders it."""
    (shipped,) = (
        one[f"{kind}_configs"][0] for one in yaml.safe_load(EXAMPLE.read_text())["receivers"] if one["name"] == receiver
    )
    data, empty = tmp_path / "data.json", tmp_path / "empty.tmpl"
    data.write_text(json.dumps({"status": alerts[0]["status"], "alerts": alerts}))
    empty.write_text("")
    options = (f"--template.glob={empty}", f"--template.data={data}", f"--template.text={shipped[field]}")
    done = amtool("template", "render", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ended(name, description, minutes, **labels):
    return {
        "status": "resolved",
        "labels": {"alertname": name, **labels},
        "annotations": {"description": description},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": f"2026-01-01T00:{minutes:02}:05Z",
    }


@pytest.mark.prometheus
def test_when_a_peer_is_up_again_the_page_says_for_how_long_it_was_down(tmp_path):
    """The alert began 25 s after the fault, and went on for 2 m after its end."""
    text = said(tmp_path, "pager", "pagerduty", "description", ended("WireGuardPeerDown", "It is.", 14, peer="berlin"))
    assert text == "berlin is up again. It was down for about 12m30s. What was said: It is."


@pytest.mark.prometheus
def test_of_an_interface_that_was_gone_the_page_does_not_say_that_it_was_down(tmp_path):
    text = said(tmp_path, "pager", "pagerduty", "description", ended("WireGuardInterfaceDown", "wg0 is gone.", 14))
    assert text == "It has ended, after about 12m30s. What was said: wg0 is gone."


@pytest.mark.prometheus
def test_what_still_fires_is_said_before_what_has_ended(tmp_path):
    over = ended("WireGuardPeerDown", "This end.", 14, peer="berlin")
    still = {**ended("WireGuardPeerDown", "The other end.", 14), "status": "firing"}
    assert said(tmp_path, "pager", "pagerduty", "description", over, still) == "The other end."


@pytest.mark.prometheus
def test_the_chat_is_told_how_long_a_warning_lasted(tmp_path):
    text = said(tmp_path, "chat", "slack", "text", ended("WireGuardHighLoss", "It loses.", 14))
    assert text == "Ended after 14m5s: It loses."


def test_the_parent_that_the_example_names_takes_all_alerts_in():
    (parent,) = re.findall(r'matchers: \[alertname=~"([^"]+)"\]` and the `group_by`', EXAMPLE.read_text())
    assert all(re.fullmatch(parent, alert.name) for alert in alerts())


def test_no_secret_is_written_into_the_example():
    text = EXAMPLE.read_text()
    assert not re.search(r"\b(?:routing_key|service_key|api_url|password|credentials|bearer_token|api_key):", text)
    assert "_file: /etc/alertmanager/secrets/" in text
