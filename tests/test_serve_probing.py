"""The running program probes: who is probed, what is served of it, and what a reload, a death and a stop do to it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, start_exporter
from tests.lab.exporting import Metrics, lab_or_skip, scrape, star, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Exporter
    from tests.lab.exporting import Star

pytestmark = pytest.mark.lab

FAST = "probe: {interval: 200ms, suspect_interval: 200ms, timeout: 500ms}\n"
EXPECT = "expect: [{state: up, name: near}, {state: any}]\n"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    with lab_or_skip(tmp_path_factory.mktemp("probing") / "lab") as lab:
        network = star(lab)
        network.ping()
        yield network


@pytest.fixture
def config(network: Star, tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(text(network, FAST))
    return path


@pytest.fixture
def exporter(config: Path, tmp_path: Path) -> Iterator[Exporter]:
    with start_exporter(directory=tmp_path, config=config) as exporter:
        yield exporter


def text(network: Star, more: str) -> str:
    return network.config(f'names: ["{network.lab.directory}/*.conf"]\n{EXPECT}{more}')


def probers(exporter: Exporter) -> list[int]:
    """The processes that probe."""
    return [pid for name, pid in exporter.processes().items() if name == "wg-probe"]


def sent(exporter: Exporter) -> float:
    """Probes of the only probed peer, 0 while there is none."""
    return sum(value for _, value in scrape(exporter).all("wireguard_probe_sent_total"))


def reload(exporter: Exporter, config: Path, more: str) -> None:
    config.write_text(more)
    exporter.process.send_signal(signal.SIGHUP)
    eventually(lambda: "configuration reloaded" in exporter.log(), within=30)


def test_the_peer_that_should_be_up_is_probed_and_no_other(network: Star, exporter: Exporter) -> None:
    metrics = until(exporter, "wireguard_probe_up", 1.0, within=30)
    labels = metrics.labels("wireguard_probe_up")
    assert (labels["peer"], labels["target"], labels["interface"]) == ("near", "10.0.0.2", network.hub.name)
    metrics = until(exporter, "wireguard_mtu_verdict", 1.0, within=30, verdict="ok")
    assert metrics.one("wireguard_mtu_path_bytes", layer="inner") == metrics.one(
        "wireguard_interface_mtu_bytes", interface=network.hub.name
    )
    assert 0 < metrics.one("wireguard_probe_last_rtt_seconds") < 1
    assert sum(value for _, value in metrics.all("wireguard_mtu_verdict")) == 1
    delay = eventually(lambda: scrape(exporter).all("wireguard_exporter_probe_scheduling_delay_seconds"), within=30)
    assert 0 <= delay[0][1] < 1


def test_every_scrape_adds_up_and_its_count_is_that_of_the_histogram(exporter: Exporter) -> None:
    until(exporter, "wireguard_probe_up", 1.0, within=30)
    for _ in range(5):
        metrics = scrape(exporter)
        sent, lost = metrics.one("wireguard_probe_sent_total"), metrics.one("wireguard_probe_lost_total")
        assert sent - lost == metrics.one("wireguard_probe_rtt_seconds_count")
        assert metrics.one("wireguard_probe_rtt_seconds_bucket", le="+Inf") == sent - lost


def test_a_prober_that_is_killed_comes_back_and_its_counters_go_on(exporter: Exporter) -> None:
    eventually(lambda: sent(exporter) >= 10, within=30)
    (pid,) = probers(exporter)
    before = sent(exporter)
    os.kill(pid, signal.SIGKILL)
    last = before

    def goes_on() -> bool:
        nonlocal last
        now = sent(exporter)
        assert now >= last
        last = now
        return now > before + 5

    eventually(goes_on, within=30)
    assert probers(exporter) not in ([], [pid])
    assert exporter.logged("the prober was killed by SIGKILL")


def test_a_reload_keeps_the_counters_and_other_bounds_begin_anew(
    network: Star, config: Path, exporter: Exporter
) -> None:
    eventually(lambda: sent(exporter) >= 10, within=30)
    reload(exporter, config, text(network, FAST.replace("}", ", rtt_buckets: [0.001, 1]}")))

    def begun() -> Metrics | None:
        metrics = scrape(exporter)
        # Nothing is there if the first pass of the new reader was late.
        assert all(value >= 10 for _, value in metrics.all("wireguard_probe_sent_total"))
        bounds = {labels["le"] for labels, _ in metrics.all("wireguard_probe_rtt_seconds_bucket")}
        return metrics if bounds == {"0.001", "1.0", "+Inf"} else None

    metrics = eventually(begun, within=30)
    count = metrics.one("wireguard_probe_rtt_seconds_count")
    assert count < metrics.one("wireguard_probe_sent_total")
    eventually(lambda: scrape(exporter).one("wireguard_probe_rtt_seconds_count") > count, within=30)


def test_with_probing_turned_off_nothing_is_served_and_no_process_is_started(
    network: Star, config: Path, tmp_path: Path
) -> None:
    config.write_text(text(network, "probe: {enabled: false}\n"))
    with start_exporter(directory=tmp_path, config=config) as exporter:
        assert not [name for name in scrape(exporter).names() if name.startswith(("wireguard_probe", "wireguard_mtu"))]
        assert probers(exporter) == []


def test_turned_off_by_a_reload_its_series_end(network: Star, config: Path, exporter: Exporter) -> None:
    until(exporter, "wireguard_probe_up", 1.0, within=30)
    reload(exporter, config, text(network, "probe: {enabled: false}\n"))
    eventually(lambda: not scrape(exporter).all("wireguard_probe_up"), within=30)


def test_the_prober_ends_with_the_exporter_however_that_ends(config: Path, tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with start_exporter(directory=tmp_path, config=config) as exporter:
            (pid,) = eventually(lambda exporter=exporter: probers(exporter), within=30)
            exporter.process.send_signal(number)
            eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists(), within=30)


def test_its_memory_and_cpu_are_in_the_process_metrics(exporter: Exporter) -> None:
    (pid,) = eventually(lambda: probers(exporter), within=30)
    until(exporter, "wireguard_probe_up", 1.0, within=30)
    own = int(Path(f"/proc/{exporter.serving}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024
    part = int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0]) * 1024
    assert scrape(exporter).one("process_resident_memory_bytes") > own + part // 2


def test_a_wanted_peer_that_cannot_be_probed_is_told_with_the_reason_and_once(
    network: Star, config: Path, tmp_path: Path
) -> None:
    config.write_text(
        network.config(
            f'names: []\npeers: [{{public_key: "{network.keys["far"].public}", probe: true, target: 10.0.0.2}}]\n'
            "probe: {enabled: false}\n"
        )
    )
    with start_exporter(directory=tmp_path, config=config) as exporter:
        eventually(lambda: "not probed" in exporter.log(), within=30)
        line = next(line for line in exporter.log().splitlines() if "not probed" in line)
        assert "10.0.0.2" in line
        assert network.keys["far"].public in line
