"""What the rest of the field makes of our pages: prometheus_client's parsers, promtool, and a real Prometheus."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, keypair, servers, start_exporter
from tests.lab.exporting import OPENMETRICS, Metrics, lab_or_skip, scrape, star
from wg_exporter.names.tunnel import tunnel_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab import Exporter
    from tests.lab.exporting import Star
    from tests.lab.servers import Server

pytestmark = pytest.mark.lab

# What Prometheus 2.42 asks with.
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PATHS = ("/metrics", "/metrics/mindflavor", "/metrics/mdlayher")
AWKWARD = 'Büro "Nord" \\ 東京'


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    with lab_or_skip(tmp_path_factory.mktemp("prometheus") / "lab") as lab:
        network = star(lab)
        network.ping()
        # Two peers of one name, and one peer on two devices: what makes duplicate series of careless labels.
        near, far = network.keys["near"].public, network.keys["far"].public
        twin = f"[Interface]\nPrivateKey = {keypair().private}\n[Peer]\nPublicKey = {near}\n[Peer]\nPublicKey = {far}\n"
        lab.wireguard(network.hub.namespace, "twin", twin)
        yield network


@pytest.fixture(scope="module")
def exporter(network: Star, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    peers = "".join(
        f"  - {{public_key: {json.dumps(network.keys[spoke].public)}, name: {json.dumps(AWKWARD)}}}\n"
        for spoke in ("near", "far")
    )
    config = network.config(f"names: []\npeers:\n{peers}")
    with start_exporter(directory=tmp_path_factory.mktemp("exporter"), config=config) as exporter:
        yield exporter


# Formats


@pytest.mark.parametrize("path", PATHS)
def test_both_formats_parse_and_give_the_same_samples(exporter: Exporter, path: str) -> None:
    def look() -> bool:
        text, other = exporter.get(path), exporter.get(path, OPENMETRICS)
        assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert other.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        plain, openmetrics = Metrics(text.text), Metrics(other.text, openmetrics=True)
        assert plain.all("wireguard_peer_info") or path == PATHS[1]
        return plain.lasting() == openmetrics.lasting() and plain.names() == openmetrics.names()

    # A keepalive may pass between the two scrapes, the age of a handshake may grow, and a probe find something out:
    # once they must be equal.
    eventually(look, within=30)


def test_what_prometheus_asks_for_it_gets(exporter: Exporter) -> None:
    assert (
        exporter.get("/metrics", {"Accept": PROMETHEUS_ACCEPT})
        .headers["content-type"]
        .startswith("application/openmetrics-text")
    )
    for accept in ("text/plain", "*/*", "text/html,*/*;q=0.8"):
        assert exporter.get("/metrics", {"Accept": accept}).headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("accept", [{}, OPENMETRICS])
def test_gzip_is_the_same_page(exporter: Exporter, path: str, accept: dict[str, str]) -> None:
    strict = bool(accept)

    def look() -> bool:
        packed = exporter.get(path, {**accept, "Accept-Encoding": "gzip"})
        plain = exporter.get(path, accept)
        assert packed.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        unpacked = gzip.decompress(packed.body).decode()
        assert len(packed.body) < len(unpacked)
        ours, theirs = (Metrics(text, openmetrics=strict).lasting() for text in (unpacked, plain.text))
        return ours == theirs

    eventually(look, within=30)


def test_awkward_names_survive_both_formats(network: Star, exporter: Exporter) -> None:
    pages = scrape(exporter), Metrics(exporter.get("/metrics", OPENMETRICS).text, openmetrics=True)
    for metrics in pages:
        of_the_hub = metrics.all("wireguard_peer_info", interface=network.hub.name, peer=AWKWARD)
        assert {labels["public_key"] for labels, _ in of_the_hub} == {
            network.keys["near"].public,
            network.keys["far"].public,
        }


# promtool


@pytest.mark.prometheus
def test_promtool_has_nothing_to_say_about_our_page(exporter: Exporter) -> None:
    done = promtool(exporter.get("/metrics").body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.prometheus
@pytest.mark.parametrize("path", PATHS[1:])
def test_promtool_can_read_the_pages_of_the_other_exporters(exporter: Exporter, path: str) -> None:
    """Their names are as they are, so lint (exit code 3) is not ours to mend; a page that can't be parsed (1) is."""
    done = promtool(exporter.get(path).body)
    print(done.stdout, done.stderr)
    assert done.returncode in (0, 3), done.stderr
    assert "error while linting" not in done.stderr


def promtool(page: bytes) -> subprocess.CompletedProcess[str]:
    needs("promtool")
    return subprocess.run(
        ["promtool", "check", "metrics"], input=page.decode(), capture_output=True, text=True, timeout=30, check=False
    )


def needs(tool: str) -> None:
    if not shutil.which(tool):
        pytest.skip(f"{tool}: no such command; apt-get install prometheus")


# Prometheus


@pytest.fixture(scope="module")
def prometheus(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prometheus that has scraped each of our pages at least twice."""
    needs("prometheus")
    targets = [{"targets": [f"127.0.0.1:{exporter.port}"]}]
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {"job_name": path.rpartition("/")[2], "metrics_path": path, "static_configs": targets} for path in PATHS
        ],
    }
    with servers.prometheus(tmp_path_factory.mktemp("server"), settings) as server:
        twice = [2] * len(PATHS)
        eventually(
            lambda: [min(value, 2) for _, value in server.query("count_over_time(up[1m])")] == twice,
            within=30,
            every=0.2,
        )
        yield server


@pytest.mark.prometheus
def test_prometheus_finds_every_page_up_and_keeps_every_sample(exporter: Exporter, prometheus: Server) -> None:
    up = {"metrics": 1, "mindflavor": 1, "mdlayher": 1}
    # One scrape may take longer than its second.
    eventually(lambda: {labels["job"]: value for labels, value in prometheus.query("up")} == up, within=30, every=0.3)

    def well() -> bool:
        targets = prometheus.api("targets")["activeTargets"]
        return {(target["health"], target["lastError"]) for target in targets} == {("up", "")}

    eventually(well, within=30, every=0.3)
    for path in PATHS:
        job = f'{{job="{path.rpartition("/")[2]}"}}'
        for count in ("scrape_samples_scraped", "scrape_samples_post_metric_relabeling"):
            # A page grows as long as probes find things out: the next scrape has what ours had.
            eventually(
                lambda path=path, query=count + job: (
                    [value for _, value in prometheus.query(query)] == [len(scrape(exporter, path).series)]
                ),
                within=30,
                every=0.5,
            )
    assert "level=warn" not in prometheus.log()
    assert "level=error" not in prometheus.log()


@pytest.mark.prometheus
def test_prometheus_returns_the_series_that_we_serve(network: Star, exporter: Exporter, prometheus: Server) -> None:
    name = "wireguard_peer_receive_bytes_total"
    job = '{job="metrics"}'

    def agree() -> bool:
        theirs = {
            frozenset(
                (key, value) for key, value in labels.items() if key not in ("__name__", "job", "instance")
            ): value
            for labels, value in prometheus.query(name + job)
        }
        ours = {frozenset(labels.items()): value for labels, value in scrape(exporter).all(name)}
        return theirs == ours

    eventually(agree, within=30, every=0.3)
    (near,) = prometheus.query(
        f'{name}{{job="metrics",interface="{network.hub.name}",public_key="{network.keys["near"].public}"}}'
    )
    assert near[0]["peer"] == AWKWARD
    assert near[0]["netns"] == "centre"
    assert near[1] > 0


@pytest.mark.prometheus
def test_prometheus_knows_types_and_units_of_our_metrics(prometheus: Server) -> None:
    metadata = prometheus.api("metadata")
    # Prometheus has asked for OpenMetrics, in which the family of a counter has no `_total`.
    assert {row["type"] for row in metadata["wireguard_peer_receive_bytes"]} == {"counter"}
    assert {row["unit"] for row in metadata["wireguard_peer_receive_bytes"]} >= {"bytes"}
    assert {row["type"] for row in metadata["wireguard_interface_up"]} == {"gauge"}


@pytest.mark.prometheus
def test_prometheus_finds_the_peers_behind_the_tunnels(
    network: Star, exporter: Exporter, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By http_sd, and with names. What it scrapes is our own page, as nothing here may leave the machine."""
    needs("prometheus")
    ours = f"127.0.0.1:{exporter.port}"
    relabelling = [
        {"source_labels": [f"__meta_wireguard_{name}"], "target_label": name}
        for name in ("peer", "interface", "netns", "public_key", "expected_up", "tunnel")
    ]
    relabelling += [
        {"source_labels": ["__address__"], "target_label": "instance"},
        {"target_label": "__address__", "replacement": ours},
    ]
    discovery = {"url": f"http://{ours}/sd?port=9100", "refresh_interval": "1s"}
    job = {"job_name": "behind", "http_sd_configs": [discovery], "relabel_configs": relabelling}
    settings = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}
    with servers.prometheus(tmp_path_factory.mktemp("discovering"), settings) as server:
        hub = f'up{{job="behind", interface="{network.hub.name}"}} == 1'
        # Each is scraped when it is its turn.
        both = eventually(lambda: len(now := server.query(hub)) >= 2 and now, within=30, every=0.2)
        of_hub = {labels["instance"]: labels for labels, _ in both}
        assert set(of_hub) == {"10.0.0.2:9100", "10.0.0.3:9100"}
        found = server.query('up{job="behind"}')
        near = of_hub["10.0.0.2:9100"]
        assert (near["peer"], near["netns"]) == (AWKWARD, "centre")
        assert near["public_key"] == network.keys["near"].public
        assert near["tunnel"] == tunnel_name(network.keys["hub"].public, network.keys["near"].public)
        assert of_hub["10.0.0.3:9100"]["expected_up"] == "true"
        # The peers of the device that is called twin have no allowed IPs.
        assert not [labels for labels, _ in found if labels["interface"].endswith("twin")]
        discovered = server.api("targets")["activeTargets"][0]["discoveredLabels"]
        told = {name for name in discovered if name.startswith("__meta_wireguard_")}
        assert told | {
            "__meta_wireguard_state"
        } == {  # Prometheus drops what is empty, as a state that is not known yet
            f"__meta_wireguard_{name}"
            for name in ("interface", "netns", "public_key", "peer", "tunnel", "expected_up", "state")
        }
        assert "level=error" not in server.log()


def test_while_a_daemon_is_dead_there_is_no_list_of_targets(tmp_path: Path) -> None:
    with lab_or_skip(tmp_path / "lab") as lab:
        dying = star(lab)
        with start_exporter(directory=tmp_path, config=dying.config()) as exporter:
            answer = exporter.get("/sd?port=9100")
            assert answer.status == 200
            assert {one["targets"][0] for one in json.loads(answer.body)} >= {"10.0.0.2:9100", "10.0.0.3:9100"}
            assert dying.far.process
            os.kill(dying.far.process.pid, signal.SIGSTOP)
            try:
                answer = exporter.get("/sd?port=9100")
                assert answer.status == 503
                assert answer.text.startswith(f"{dying.far.name}")
                assert "can't be read" in answer.text
            finally:
                os.kill(dying.far.process.pid, signal.SIGCONT)
            eventually(lambda: exporter.get("/sd?port=9100").status == 200, within=30)
