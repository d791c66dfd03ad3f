"""Every query of every panel, asked of a real Prometheus that scraped the real exporter in a network with faults.

The network (tests/dashboards_scene.py) has at once what the panels are there to show. So every query has to give
series, with the labels that its legend and its columns speak of, and the numbers have to be those that `wg` and `ip`
tell, or that the exporter told; last, a peer is renamed, which may break none of them. What each panel makes of numbers
that are all known is in test_dashboards_fleet.py, test_dashboards_host.py and test_dashboards_peer.py.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.dashboards import FIELD, Query, dashboards, filled_in
from tests.dashboards_scene import VALUES, live
from tests.lab import eventually
from tests.lab.exporting import dump, link_counters, scrape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.dashboards_scene import Moment, Scene

pytestmark = [pytest.mark.lab, pytest.mark.prometheus]

# Only what lies in another network namespace than the exporter has this label.
OPTIONAL = {"netns"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if not shutil.which("prometheus"):
        pytest.skip("prometheus: no such command; apt-get install prometheus")
    with live(tmp_path_factory.mktemp("dashboards")) as scene:
        yield scene


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
    what, since, quiet, cause = (query for query in _fleet() if query.panel == "Broken now")
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
    assert ("peer", "degraded", "hub", "mtu_fragmented_local") in rows
    peers = [row["interface"] for row in rows.values() if row["what"] == "peer"]
    assert sorted(peers) == sorted([hub, scene.network.near.name])
    # Since when is known of the peer, the interface and the exporter; and of the peer with a fault of its MTU if it was
    # well before.
    begun = sorted(labels.get("interface", "") for labels in scene.prometheus.ask(since))
    assert [interface for interface in begun if interface != scene.network.near.name] == sorted([hub, far, ""])
    rubbish = f"{scene.network.lab.prefix}rubbish"
    quieted = {labels["interface"] for labels in scene.prometheus.ask(quiet)}
    assert quieted == {rubbish, scene.network.near.name}
    assert {labels["interface"] for labels in scene.prometheus.ask(cause)} <= {hub, far, scene.network.near.name}


def test_numbers_say_how_much_is_broken(scene: Scene) -> None:
    expected = {"Peers down": 1, "Interfaces down": 1, "Exporters silent": 1, "Peers degraded": 1}
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


# The numbers of this network


def table(scene_table: list[tuple[str, ...]], key: str) -> dict[str, dict[str, str]]:
    """Rows by what is in one of the columns, each with its cells by their titles."""
    head, *rows = scene_table
    return {row[head.index(key)]: dict(zip(head, row, strict=True)) for row in rows}


def number(text: str) -> float:
    """The number of a text with a unit."""
    return float(text.split(maxsplit=1)[0])


def test_sizes_are_those_of_the_network_each_in_its_column(scene: Scene) -> None:
    near = table(scene.moment().grafana.table("peer", "Verdict and advice"), "Peer")["near"]
    mtu = link_counters(scene.network.hub.namespace, scene.network.hub.name)["mtu_bytes"]
    assert near["Verdict"] == "remote_smaller yellow"
    assert (near["Interface's MTU"], near["Path inside"]) == (str(mtu), str(mtu))
    assert (near["Needed outside"], near["Path outside"]) == (str(mtu + 60), "1500")
    assert (near["Far side"], near["Set"]) == ("1300", "1300")


def test_traffic_is_eight_times_what_the_counters_of_bytes_grew_and_most_of_it_comes_in(scene: Scene) -> None:
    now, hub = scene.moment(), scene.network.hub.name
    host = f"127.0.0.1:{scene.exporter.port}"
    shown = {
        "peer": (
            number(table(now.grafana.table("host", "Peers"), "Peer")["near"]["Receive"]),
            number(table(now.grafana.table("host", "Peers"), "Peer")["near"]["Transmit"]),
        ),
        "interface": tuple(
            number(dict(now.grafana.graph("host", "Throughput"))[f"centre {hub} {way}"]) for way in ("in", "out")
        ),
    }
    for what, labels in (("peer", {"peer": "near"}), ("interface", {"interface": hub})):
        received, sent = (
            now.grown(f"wireguard_{what}_{side}_bytes_total", VALUES["__rate_interval"], **labels)
            for side in ("receive", "transmit")
        )
        assert (shown[what][0], abs(shown[what][1])) == pytest.approx((8 * received, 8 * sent), rel=0.02)
        assert shown[what][0] > 2 * abs(shown[what][1]) > 0
    peer = dict(now.grafana.graph("peer", "Traffic"))
    assert number(peer[f"near on {host} in"]) == shown["peer"][0]
    assert number(peer[f"near on {host} out"]) == -shown["peer"][1]
    assert number(dict(now.grafana.graph("host", "Receive"))[f"near centre {hub}"]) == shown["peer"][0]
    assert number(dict(now.grafana.graph("host", "Transmit"))[f"near centre {hub}"]) == shown["peer"][1]
    assert shown["interface"][1] < 0


def test_packets_and_their_average_size_are_what_both_counters_grew(scene: Scene) -> None:
    """Datagrams of 528 bytes come in, and errors of 556 bytes go out for a few of them: ICMP errors are limited."""
    now, hub, host = scene.moment(), scene.network.hub.name, f"127.0.0.1:{scene.exporter.port}"
    packets, sizes = (dict(now.grafana.graph("peer", title)) for title in ("Packets", "Average packet"))
    rates = {}
    for side, way, sign in (("receive", "in", 1), ("transmit", "out", -1)):
        octets, count = (
            now.grown(f"wireguard_peer_{side}_{what}_total", VALUES["__rate_interval"], peer="near", interface=hub)
            for what in ("bytes", "packets")
        )
        rates[way] = count
        assert number(packets[f"near on {host} {way}"]) == pytest.approx(sign * count, rel=0.02)
        assert number(sizes[f"near on {host} {way}"]) == pytest.approx(sign * octets / count, rel=0.02)
    assert rates["in"] > 2 * rates["out"] > 0
    # 500 bytes of data, 28 of headers, and what WireGuard adds; probes between them are smaller, a few are larger.
    assert 300 < number(sizes[f"near on {host} in"]) < 700
    for title, way in (("Packets received", "in"), ("Packets sent", "out")):
        assert number(dict(now.grafana.graph("host", title))[f"near centre {hub}"]) == abs(
            number(packets[f"near on {host} {way}"])
        )
    # Nothing comes from a peer that is cut off, and nothing has no size.
    assert number(packets[f"far on {host} in"]) == 0
    assert f"far on {host} in" not in sizes


def test_fast_echoes_are_shown_beside_the_states_and_what_they_found_is_marked(scene: Scene) -> None:
    now, host = scene.moment(), f"127.0.0.1:{scene.exporter.port}"
    rows = table(now.grafana.table("host", "Peers"), "Peer")
    assert {name: rows[name]["Fast"] for name in ("near", "far")} == {"near": "up green", "far": "down orange"}
    shown = dict(now.grafana.timeline("peer", "State and reason"))
    assert (shown["near: fast echoes"], shown["far: fast echoes"]) == ("up green", "down orange")
    marks = [text for title, text, _ in now.grafana.events("peer") if title == "down by fast echoes"]
    assert marks == [f"far on {host}"]


def test_states_reasons_and_times_are_those_that_the_exporter_told(scene: Scene) -> None:
    now, shaken = eventually(lambda: _since_handshakes(scene), within=30, every=0.5)
    rows = table(now.grafana.table("host", "Peers"), "Peer")
    (reason,) = now.all("wireguard_peer_reason", peer="far", interface=scene.network.hub.name)
    assert (rows["far"]["State"], rows["near"]["State"]) == ("down red", "up green")
    assert (rows["far"]["Reason"], rows["near"]["Reason"]) == (reason[0]["reason"], "-")
    assert [name for name in rows if name in ("near", "far")] == ["far", "near"], "down first"
    keys = scene.network.keys
    for name in ("near", "far"):
        assert number(rows[name]["Handshake"]) == pytest.approx(now.time - shaken[keys[name].public], abs=1.1)
    since = table(now.grafana.table("fleet", "Broken now"), "Peer")["far"]["Since"]
    begun = now.one("wireguard_peer_state_last_change_timestamp_seconds", peer="far")
    assert number(since) == pytest.approx(now.time - begun, rel=0.001)


def test_loss_and_round_trips_are_those_of_the_probes(scene: Scene) -> None:
    now, host = scene.moment(), f"127.0.0.1:{scene.exporter.port}"
    rows = table(now.grafana.table("host", "Peers"), "Peer")
    for name in ("near", "far"):
        lost, sent = (now.grown(f"wireguard_probe_{what}_total", "5m", peer=name) for what in ("lost", "sent"))
        assert number(rows[name]["Loss"]) == pytest.approx(100 * lost / sent, abs=5)  # both began at 0
    total, count = (now.grown(f"wireguard_probe_rtt_seconds_{part}", "5m", peer="near") for part in ("sum", "count"))
    # Prometheus looks back to where each counter began, for half a second at most: of a minute, one of 100.
    assert number(rows["near"]["Round trip"]) == pytest.approx(total / count, rel=0.02)
    graph = dict(now.grafana.graph("host", "Loss"))
    assert graph[f"far centre {scene.network.hub.name}"] == "100 %"
    shortest = dict(now.grafana.graph("peer", "Round trip: median, 99 of 100, shortest"))[f"near on {host} shortest"]
    assert number(shortest) == pytest.approx(now.one("wireguard_probe_rtt_min_seconds", peer="near"), rel=0.001)
    jitter = dict(now.grafana.graph("peer", "Jitter"))[f"near on {host}"]
    assert number(jitter) == pytest.approx(now.one("wireguard_probe_jitter_seconds", peer="near"), rel=0.001)


def test_interfaces_are_as_wg_and_ip_tell_them(scene: Scene) -> None:
    rows = table(scene.moment().grafana.table("host", "Interfaces"), "Interface")
    for device in scene.network.hub, scene.network.near, scene.network.far:
        row, link, shown = rows[device.name], link_counters(device.namespace, device.name), dump(device)
        assert row["Up"] == ("up green" if link["up"] else "down red")
        assert (row["MTU"], row["Peers"]) == (str(link["mtu_bytes"]), str(len(shown.peers)))
        assert (row["Port"], row["Backend"]) == (shown.listen_port, "userspace")


def test_what_the_exporter_takes_is_shown_in_its_units(scene: Scene) -> None:
    now, host = scene.moment(), f"127.0.0.1:{scene.exporter.port}"
    memory = dict(now.grafana.graph("host", "Memory"))[host]
    assert number(memory) == pytest.approx(now.one("process_resident_memory_bytes", instance=host), rel=0.001)
    processor = dict(now.grafana.graph("host", "CPU"))[host]
    grown = now.grown("process_cpu_seconds_total", VALUES["__rate_interval"], instance=host)
    assert number(processor) == pytest.approx(100 * grown, rel=0.02, abs=0.1)
    read = {name: number(text) for name, text in now.grafana.graph("host", "Time to read")}
    told = now.all("wireguard_exporter_source_duration_seconds")
    names = {f"{labels['source']} {labels.get('netns', '')}".strip(): value for labels, value in told}
    assert read == pytest.approx(names, rel=0.001)


def _since_handshakes(scene: Scene) -> tuple[Moment, dict[str, int]] | None:
    """A moment, and when each peer of the hub had shaken hands by then; None where one may have done so since."""
    now, peers = scene.moment(), dump(scene.network.hub).peers
    shaken = {peer.public_key: peer.handshake for peer in peers}
    return (now, shaken) if max(shaken.values()) < now.time - 2 else None


# The last one, for it changes the scene.


def test_a_peer_that_gets_another_name_breaks_no_query(scene: Scene) -> None:
    scene.config.write_text(scene.text("renamed"))
    scene.exporter.reload()
    eventually(lambda: scrape(scene.exporter).all("wireguard_peer_state", peer="renamed"), within=30)
    both = 'count(count by (peer) (max_over_time(wireguard_peer_expected_up{peer=~"near|renamed"}[1m]))) == 2'
    eventually(lambda: scene.prometheus.now(both), within=30, every=0.3)
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
