"""Every query of every panel, asked of a real Prometheus that scraped the real exporter in a network with faults.

The network has at once what the panels are there to show: a peer that is down and one that is up, an interface that is
down, an MTU that is too small at the far side, a device and a namespace that can't be read, an exporter that ended, an
alert that fires. So every query has to give series, with the labels that its legend and its columns speak of; last, a
peer is renamed, which may break none of them.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.dashboards import FIELD, ROOT, Query, dashboards, filled_in
from tests.lab import SOCKETS, eventually, servers, start_exporter
from tests.lab.exporting import lab_or_skip, scrape, star, until
from tests.test_end_to_end import rubbish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab import Exporter
    from tests.lab.exporting import Labels, Star
    from tests.lab.servers import Server

pytestmark = [pytest.mark.lab, pytest.mark.prometheus]

RULES = ROOT / "alerts" / "wireguard.rules.yml"
# What several hosts say of one peer, for which it would otherwise take three hubs.
SEVERAL = """\
groups:
  - name: test
    rules:
      - alert: WireGuardTestSeveral
        expr: max by (job, public_key) (wireguard_peer_state{state="down"}) == 1
        labels: {severity: critical}
"""
VALUES = {
    "__rate_interval": "8s",
    "__range": "2m",
    "job": ".+",
    "instance": ".+",
    "interface": ".+",
    "peer": ".+",
}
# Only what lies in another network namespace than the exporter has this label.
OPTIONAL = {"netns"}

Row = tuple[dict[str, str], list[tuple[float, float]]]


class Asked:
    """A running Prometheus, asked as a panel asks."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def now(self, expr: str) -> list[Labels]:
        """The labels of the series that there are now."""
        return [labels for labels, _ in self.server.query(expr)]

    def over_time(self, expr: str) -> list[Labels]:
        """The labels of the series that there were in the last minute."""
        end = time.time()
        span = {"start": str(end - 60), "end": str(end), "step": "2s"}
        return [row["metric"] for row in self.server.api("query_range", query=expr, **span)["result"]]

    def ask(self, query: Query) -> list[Labels]:
        """The labels of what a panel gets."""
        # What looks back a day in steps of a minute would see nothing of a network that has lived for half of one.
        expr = filled_in(query.expr, VALUES).replace("[1d:1m]", "[5m:1s]")
        return self.now(expr) if query.instant else self.over_time(expr)


class Scene(NamedTuple):
    """What is there to be looked at."""

    network: Star
    prometheus: Asked
    exporter: Exporter
    config: Path

    def text(self, name: str) -> str:
        """The configuration of the exporter, with this name for the peer that is up."""
        keys = self.network.keys
        return self.network.config(
            f"  - {{name: lost, netns: {self.network.lab.prefix}lost}}\n"
            f"names: []\npeers:\n"
            f"  - {{public_key: {json.dumps(keys['near'].public)}, name: {name}}}\n"
            f"  - {{public_key: {json.dumps(keys['far'].public)}, name: far}}\n"
            "expect: [{state: up, interface: '*hub'}, {state: any}]\n"
            "probe: {enabled: auto, interval: 500ms, suspect_interval: 500ms, timeout: 1s}\n"
            "health: {down_after: 15s}\n"
        )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if not shutil.which("prometheus"):
        pytest.skip("prometheus: no such command; apt-get install prometheus")
    directory = tmp_path_factory.mktemp("dashboards")
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(lab_or_skip(directory / "lab"))
        network = star(lab)
        network.near.namespace.ip("link", "set", network.near.name, "mtu", "1300")
        network.ping()
        stack.enter_context(rubbish(SOCKETS / f"{lab.prefix}rubbish.sock", b"nonsense\n\n"))
        config = directory / "exporter.yml"
        draft = Scene(network, None, None, config)  # type: ignore[arg-type]
        config.write_text(draft.text("near"))
        exporter = stack.enter_context(start_exporter(directory=directory, config=config))
        ending = stack.enter_context(
            start_exporter(directory=directory, config="interfaces: {include: [none]}\nprobe: {enabled: false}\n")
        )
        prometheus = stack.enter_context(serving(directory, [exporter.port, ending.port]))
        scene = draft._replace(prometheus=prometheus, exporter=exporter)
        until(exporter, "wireguard_probe_up", 1.0, within=20, peer="far")
        until(exporter, "wireguard_mtu_verdict", 1.0, within=20, peer="near", verdict="remote_smaller")
        eventually(lambda: len(prometheus.now("wireguard_exporter_build_info")) == 2, within=20, every=0.3)
        ending.stop()
        for link in (network.far.name, "to-hub"):
            network.far.namespace.ip("link", "set", link, "down")
        firing = 'count(ALERTS{alertstate="firing", alertname=~"WireGuardPeerDown|WireGuardTestSeveral"}) == 2'
        eventually(lambda: prometheus.now(firing), within=60, every=0.5)
        # A few samples more for what counts changes.
        down = 'increase(wireguard_peer_down_seconds_total{peer="far"}[2m]) > 0'
        eventually(lambda: prometheus.now(down), within=20, every=0.5)
        yield scene


@contextlib.contextmanager
def serving(directory: Path, ports: list[int]) -> Iterator[Asked]:
    """A Prometheus that scrapes these ports of 127.0.0.1 each second."""
    (directory / "rules.yml").write_text(SEVERAL)
    targets = [f"127.0.0.1:{port}" for port in ports]
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml", str(RULES)],
        "scrape_configs": [{"job_name": "wireguard", "static_configs": [{"targets": targets}]}],
    }
    with servers.prometheus(directory, settings) as server:
        yield Asked(server)


def queries() -> list[pytest.param]:
    found = [query for page in dashboards() for query in (*page.queries(), *page.events())]
    return [pytest.param(query, id=query.name) for query in found]


@pytest.mark.parametrize("query", queries())
def test_a_query_gives_series_with_the_labels_of_its_legend(scene: Scene, query: Query) -> None:
    series = scene.prometheus.ask(query)
    assert series
    for label in set(re.findall(r"\{\{(\w+)\}\}", query.legend)) - OPTIONAL:
        assert [labels for labels in series if not labels.get(label)] == []


@pytest.mark.parametrize("page", [pytest.param(page, id=page.title) for page in dashboards()])
def test_a_table_has_what_its_columns_show_and_its_links_need(scene: Scene, page) -> None:
    tables = [panel for panel in page.panels if panel["type"] == "table"]
    for panel in tables:
        asked = [query for query in page.queries() if query.panel == panel["title"] and query.kind == "table"]
        fields = {f"Value #{query.letter}" for query in asked}
        for query in asked:
            fields.update(label for labels in scene.prometheus.ask(query) for label in labels)
        overrides = panel["fieldConfig"]["overrides"]
        columns = {override["matcher"]["options"] for override in overrides}
        assert columns <= fields, panel["title"]
        assert fields - columns <= {"source", "layer"}, "a column that nobody asked for"
        assert set(FIELD.findall(json.dumps(overrides))) <= columns
    assert tables


def test_the_table_of_what_is_broken_has_everything_that_is_broken(scene: Scene) -> None:
    what, since = (query for query in _fleet() if query.panel == "Broken now")
    rows = {
        (row["what"], row["state"], row.get("peer") or row.get("interface") or "", row["reason"]): row
        for row in scene.prometheus.ask(what)
    }
    hub, far = scene.network.hub.name, scene.network.far.name
    found = {(kind, state, name) for kind, state, name, _ in rows}
    assert ("peer", "down", "far") in found
    assert ("interface", "down", far) in found
    assert ("interface", "not read", f"{scene.network.lab.prefix}rubbish") in found
    assert ("source", "not read", "") in found
    assert ("exporter", "no answer", "") in found
    assert [row["interface"] for row in rows.values() if row["what"] == "peer"] == [hub]
    # Since when is known of the peer, the interface and the exporter.
    begun = scene.prometheus.ask(since)
    assert {labels.get("interface", "") for labels in begun} == {hub, far, ""}
    assert len(begun) == 3


def test_numbers_say_how_much_is_broken(scene: Scene) -> None:
    expected = {"Peers down": 1, "Interfaces down": 1, "Exporters silent": 1, "Peers degraded": 0}
    for query in _fleet():
        if query.panel in expected:
            ((_, value),) = scene.prometheus.server.query(filled_in(query.expr, VALUES))
            assert value == expected[query.panel], query.panel


def test_a_host_is_shown_as_its_worst_part(scene: Scene) -> None:
    (query,) = (query for query in _fleet() if query.panel == "Hosts")
    # 3: a peer is down; 4: the exporter does not answer.
    rows = scene.prometheus.server.query(filled_in(query.expr, VALUES))
    worst = {labels["instance"]: value for labels, value in rows}
    assert worst.pop(f"127.0.0.1:{scene.exporter.port}") == 3
    assert list(worst.values()) == [4]


def test_an_alert_of_several_hosts_is_listed_with_the_key_of_its_peer(scene: Scene) -> None:
    query = next(query for query in _fleet() if query.panel == "Firing alerts")
    rows = {labels["alertname"]: labels for labels in scene.prometheus.ask(query)}
    assert rows["WireGuardPeerDown"]["peer"] == "far"
    assert "Watchdog" not in rows
    assert rows["WireGuardTestSeveral"]["peer"] == f"key {scene.network.keys['far'].public[:8]}"
    assert "instance" not in rows["WireGuardTestSeveral"]


def _fleet() -> list[Query]:
    return [query for page in dashboards() for query in page.queries() if page.path.stem == "fleet"]


@pytest.mark.parametrize("page", [pytest.param(page, id=page.title) for page in dashboards()])
def test_variables_offer_what_there_is(scene: Scene, page) -> None:
    for variable in page.variables.values():
        function, _, rest = variable["query"].removesuffix(")").partition("(")
        if function == "label_values":
            selector, _, label = rest.rpartition(", ")
            span = {"start": str(time.time() - 120), "end": str(time.time())}
            assert scene.prometheus.server.api(
                f"label/{label}/values", **{"match[]": filled_in(selector, VALUES)}, **span
            )
        elif function == "query_result":
            # Grafana writes each series as text, with its labels in the order in which Prometheus gave them.
            lines = [
                "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "} 1 0"
                for labels in scene.prometheus.now(filled_in(rest, VALUES))
            ]
            pattern = variable["regex"].strip("/").replace("(?<", "(?P<")
            found = [re.search(pattern, line) for line in lines]
            keys = scene.network.keys
            offered = {(match["text"], match["value"]) for match in found if match}
            assert offered >= {("near", keys["near"].public), ("far", keys["far"].public)}


def test_one_peer_that_is_chosen_is_shown_alone(scene: Scene) -> None:
    key = re.escape(scene.network.keys["far"].public)
    for page in dashboards():
        for query in page.queries() if "peer" in page.variables else ():
            expr = filled_in(query.expr, VALUES | {"peer": key.replace("\\", "\\\\")})
            series = scene.prometheus.now(expr)
            assert {labels["peer"] for labels in series if "peer" in labels} <= {"far"}, query.name


# The last one, for it changes the scene.


def test_a_peer_that_gets_another_name_breaks_no_query(scene: Scene) -> None:
    scene.config.write_text(scene.text("renamed"))
    scene.exporter.reload()
    eventually(lambda: scrape(scene.exporter).all("wireguard_peer_state", peer="renamed"), within=15)
    both = 'count(count by (peer) (max_over_time(wireguard_peer_expected_up{peer=~"near|renamed"}[1m]))) == 2'
    eventually(lambda: scene.prometheus.now(both), within=15, every=0.3)
    for page in dashboards():
        for query in (*page.queries(), *page.events()):
            assert scene.prometheus.ask(query), query.name
    # In the table of a host it is one row, under its new name.
    host = next(page for page in dashboards() if page.path.stem == "host")
    rows = [scene.prometheus.ask(query) for query in host.queries() if query.panel == "Peers"]
    near = scene.network.keys["near"].public
    for series in rows:
        assert len([labels for labels in series if labels["public_key"] == near]) <= 1
    assert [labels["peer"] for labels in rows[0] if labels["public_key"] == near] == ["renamed"]
