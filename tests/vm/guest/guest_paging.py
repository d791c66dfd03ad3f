"""From a cut cable to a page and back with the kernel's own WireGuard: a shorter telling of tests/test_paging.py."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import eventually, start_exporter
from tests.lab.exporting import scrape
from tests.lab.hub import HubDevice, Plan, exporter_config
from tests.lab.paging import alertmanager, inbox, prometheus
from tests.vm.guest.build import sh
from wg_exporter.cli.netlab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.paging import Inbox

PATIENCE = 400.0  # seconds; everything is slow here, and slower beside other tests


class Story(NamedTuple):
    """What was received, and when the cut and the healing were; `backend` is that of the devices."""

    pager: Inbox
    cut: float
    healed: float
    reason: str
    backend: str


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    sh("modprobe wireguard; modprobe veth; modprobe nf_tables; ip link set lo up")
    directory = tmp_path_factory.mktemp("paging")
    with Lab("wgp-", directory / "lab", kernel=True) as lab:
        hub = lab.namespace("hub")
        main = HubDevice(lab, hub, "main", 0, [Plan("north"), Plan("south"), Plan("east")])
        gone = HubDevice(lab, hub, "gone", 1, [Plan("lone")])
        config = exporter_config(lab, hub, [main, gone])
        with (
            start_exporter(directory=directory, config=config, patience=PATIENCE) as exporter,
            inbox() as pager,
            alertmanager(directory, pager, impatient=True) as manager,
            prometheus(directory, [exporter.port], manager, interval=5, impatient=True),
        ):

            def states(state: str) -> set[str]:
                found = scrape(exporter).all("wireguard_peer_state", state=state)
                return {labels["peer"] for labels, value in found if value}

            eventually(lambda: {"north", "south", "east", "lone"} <= states("up"), within=PATIENCE, every=1)
            pager.wait("Watchdog", within=PATIENCE)
            backend = scrape(exporter).labels("wireguard_interface_info", interface=main.name)["backend"]
            cut = time.monotonic()
            hub.ip("link", "set", "to-north", "down")
            gone.kill()
            pager.wait("WireGuardPeerDown", within=PATIENCE, peer="north")
            pager.wait("WireGuardInterfaceDown", within=PATIENCE, interface=gone.name)
            reason = next(
                labels["reason"]
                for labels, _ in scrape(exporter).all("wireguard_peer_reason", state="down")
                if labels["peer"] == "north"
            )
            healed = time.monotonic()
            hub.ip("link", "set", "to-north", "up")
            gone.revive()
            pager.wait("WireGuardPeerDown", "resolved", within=PATIENCE, peer="north")
            pager.wait("WireGuardInterfaceDown", "resolved", within=PATIENCE, interface=gone.name)
            yield Story(pager, cut, healed, reason, backend)


def test_a_cut_tunnel_of_the_kernel_pages_with_its_reason_and_resolves(story: Story) -> None:
    (first, *_) = story.pager.pages("WireGuardPeerDown", peer="north")
    (resolved, *_) = story.pager.pages("WireGuardPeerDown", "resolved", peer="north")
    assert story.backend == "kernel"
    assert story.cut + 25 < first.at < story.healed < resolved.at
    assert story.reason in {"not_sent", "handshake_unanswered", "data_unanswered"}
    assert story.reason in first.annotations["description"]


def test_a_deleted_interface_pages_and_its_peer_does_not(story: Story) -> None:
    assert story.pager.pages("WireGuardInterfaceDown")
    assert story.pager.pages("WireGuardPeerDown", peer="lone") == []


def test_nobody_else_pages(story: Story) -> None:
    assert {page.labels.get("peer") for page in story.pager.pages("WireGuardPeerDown")} == {"north"}
    assert story.pager.names(severity="critical") == {"WireGuardPeerDown", "WireGuardInterfaceDown"}
