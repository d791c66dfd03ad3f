"""Handshakes of real peers: counted by the tick, so that it makes no difference who scrapes, or whether anyone does."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, start_exporter
from tests.lab.exporting import Metrics, dump, scrape, star
from wg_exporter.daemon.exporter import TICK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab import Exporter, Lab
    from tests.lab.exporting import PeerDump, Star

pytestmark = pytest.mark.lab

SCRAPERS = (0, 1, 4)


def test_handshakes_and_roaming_are_the_same_with_none_one_and_several_scrapers_and_survive_a_reload(
    lab: Lab, tmp_path: Path
) -> None:
    network = star(lab)
    network.ping()  # a handshake before the exporters start is not theirs
    with ExitStack() as stack:
        exporters = [stack.enter_context(start_exporter(directory=tmp_path, config=network.config())) for _ in SCRAPERS]
        with ExitStack() as scrapers:
            for exporter, number in zip(exporters, SCRAPERS, strict=True):
                for _ in range(number):
                    scrapers.enter_context(scraping(exporter))
            time.sleep(3)  # two handshakes that are nearer to each other than any can be are taken for one
            seen = [near_by_wg(network)]
            for _ in range(2):
                # Every tick sees one handshake at most, so that each counts.
                network.shake(network.near)
                seen.append(near_by_wg(network))
                time.sleep(TICK_SECONDS + 3)  # it may come late
                seen.append(near_by_wg(network))
        assert len({row.endpoint for row in seen}) == 3, "a spoke that is set up anew takes another port"
        made = len({row.handshake for row in seen}) - 1
        assert made >= 2  # on a busy machine WireGuard itself makes more
        for exporter in exporters:
            metrics = scrape(exporter)
            assert handshakes(metrics, network.hub.name, "near") == made
            assert handshakes(metrics, network.hub.name, "far") == 0
            assert handshakes(metrics, network.near.name, "hub") == made
            assert metrics.one("wireguard_peer_endpoint_changes_total", interface=network.hub.name, peer="near") == 2
            assert metrics.one("wireguard_peer_endpoint_changes_total", interface=network.near.name, peer="hub") == 0

        exporter = exporters[0]
        exporter.reload()
        eventually(lambda: "configuration reloaded" in exporter.log(), within=30)
        metrics = scrape(exporter)
        assert handshakes(metrics, network.hub.name, "near") == made
        assert metrics.one("wireguard_peer_endpoint_changes_total", interface=network.hub.name, peer="near") == 2


def near_by_wg(network: Star) -> PeerDump:
    """The spoke as `wg` on the hub tells of it."""
    key = network.keys["near"].public
    (row,) = (peer for peer in dump(network.hub).peers if peer.public_key == key)
    return row


def handshakes(metrics: Metrics, interface: str, peer: str) -> float:
    return metrics.one("wireguard_peer_handshakes_total", interface=interface, peer=peer)


@contextmanager
def scraping(exporter: Exporter) -> Iterator[None]:
    """While inside, somebody scrapes it five times a second."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(0.2):
            exporter.get("/metrics")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(30)
