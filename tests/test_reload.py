"""SIGHUP: build, validate, swap. A good file is in use a moment later, a bad one changes nothing and says why."""

from __future__ import annotations

import os
import threading
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

SUCCESSFUL = "wireguard_exporter_config_last_reload_successful"
TIMESTAMP = "wireguard_exporter_config_last_reload_success_timestamp_seconds"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    with lab_or_skip(tmp_path_factory.mktemp("reload") / "lab") as lab:
        network = star(lab)
        network.ping()
        yield network


@pytest.fixture
def config(network: Star, tmp_path: Path) -> Path:
    """The configuration file of `exporter`, in which it calls the hub's peer `near` near."""
    path = tmp_path / "config.yml"
    path.write_text(network.config())
    return path


@pytest.fixture
def exporter(config: Path, tmp_path: Path) -> Iterator[Exporter]:
    with start_exporter(directory=tmp_path, config=config) as exporter:
        yield exporter


def named(network: Star, name: str, more: str = "") -> str:
    """A configuration that gives a name to the peer `near`."""
    peers = f'names: []\npeers: [{{public_key: "{network.keys["near"].public}", name: "{name}"}}]\n'
    return network.config(peers + more)


def near(network: Star, metrics: Metrics) -> str:
    key = network.keys["near"].public
    return metrics.labels("wireguard_peer_info", interface=network.hub.name, public_key=key)["peer"]


def test_a_good_change_is_in_use_and_the_timestamp_moves(network: Star, config: Path, exporter: Exporter) -> None:
    first = scrape(exporter)
    assert (first.one(SUCCESSFUL), near(network, first)) == (1, "near")
    excluded = "metrics: {exclude: ['*_mtu_bytes']}\n"
    config.write_text(named(network, "renamed", excluded).replace("name: centre", "name: middle"))
    exporter.reload()
    eventually(lambda: scrape(exporter).one(TIMESTAMP) > first.one(TIMESTAMP), within=30)
    metrics = scrape(exporter)
    assert (metrics.one(SUCCESSFUL), near(network, metrics)) == (1, "renamed")
    assert metrics.labels("wireguard_interface_up", interface=network.hub.name)["netns"] == "middle"
    assert "wireguard_interface_mtu_bytes" not in metrics.names()
    assert exporter.logged("configuration reloaded")
    key = network.keys["near"].public
    counted = {"interface": network.hub.name, "public_key": key}
    for side in ("receive", "transmit"):
        name = f"wireguard_peer_{side}_bytes_total"
        assert metrics.one(name, **counted) >= first.one(name, **counted) > 0


def test_a_bad_file_changes_nothing_and_the_log_names_each_problem(
    network: Star, config: Path, exporter: Exporter
) -> None:
    first = scrape(exporter)
    config.write_text(named(network, "renamed", "metrics: {endpoint: sometimes}\ninterfacez: {}\n"))
    exporter.reload()
    metrics = until(exporter, SUCCESSFUL, 0)
    assert metrics.one(TIMESTAMP) == first.one(TIMESTAMP)
    assert metrics.lasting().keys() == first.lasting().keys()
    assert near(network, metrics) == "near"
    for word in ("metrics.endpoint", "interfacez"):
        assert exporter.logged("configuration not reloaded", word)
    assert len(exporter.logged("configuration not reloaded")) == 2

    config.unlink()
    exporter.reload()
    eventually(lambda: "can't be read" in exporter.log(), within=30)
    assert scrape(exporter).one(SUCCESSFUL) == 0

    config.write_text(named(network, "renamed"))
    exporter.reload()
    until(exporter, SUCCESSFUL, 1)
    metrics = scrape(exporter)  # the one before may have begun with the configuration before
    assert near(network, metrics) == "renamed"
    assert metrics.one(TIMESTAMP) > first.one(TIMESTAMP)


def test_an_exporter_without_a_file_survives_sighup(network: Star, tmp_path: Path) -> None:
    with start_exporter(directory=tmp_path) as exporter:
        before = scrape(exporter).one(TIMESTAMP)
        exporter.reload()
        exporter.reload()
        metrics = scrape(exporter)
        assert (metrics.one(SUCCESSFUL), metrics.one(TIMESTAMP)) == (1, before)
        assert exporter.process.poll() is None


def test_scrapes_during_twenty_reloads_never_fail_and_the_last_file_wins(
    network: Star, config: Path, exporter: Exporter
) -> None:
    before = {what: held(exporter, what) for what in ("task", "fd")}
    done = threading.Event()
    wrong: list[str] = []
    scrapes = [0, 0, 0]

    def scraper(index: int) -> None:
        while not done.is_set():
            answer = exporter.get("/metrics")
            metrics = Metrics(answer.text)
            if answer.status != 200 or len(metrics.all("wireguard_peer_receive_bytes_total")) != 4:
                wrong.append(f"{answer.status}: {answer.text}")
            scrapes[index] += 1

    threads = [threading.Thread(target=scraper, args=(index,)) for index in range(len(scrapes))]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(20):
            # Moved into place, so that no reload can see a half of it.
            new = config.with_suffix(".new")
            new.write_text(named(network, f"round {round_}"))
            new.rename(config)
            exporter.reload()
            done.wait(0.05)
        eventually(lambda: near(network, scrape(exporter)) == "round 19", within=30)
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert wrong == []
    assert min(scrapes) > 5
    assert scrape(exporter).one(SUCCESSFUL) == 1
    assert "Traceback" not in exporter.log()
    # Neither the threads nor the sockets of the sources that were replaced stay behind; a few are the pools' own.
    for what, count in before.items():
        eventually(lambda what=what, count=count: held(exporter, what) <= count + 10, within=30)


def test_a_pipe_in_place_of_the_file_is_refused_and_holds_up_neither_a_reload_nor_the_end(
    network: Star, config: Path, exporter: Exporter
) -> None:
    config.unlink()
    os.mkfifo(config)
    exporter.reload()
    eventually(lambda: "not a regular file" in exporter.log(), within=30)
    until(exporter, SUCCESSFUL, 0)
    config.unlink()
    config.write_text(named(network, "later"))
    exporter.reload()
    eventually(lambda: near(network, scrape(exporter)) == "later", within=30)


def held(exporter: Exporter, what: str) -> int:
    """How many threads (`task`) or open files (`fd`) its process has."""
    return len(list(Path(f"/proc/{exporter.serving}/{what}").iterdir()))
