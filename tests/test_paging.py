"""From a cut cable to a page and back, with everything real: WireGuard, the exporter, Prometheus, Alertmanager.

One story, told once: a hub with three devices, on each of which something breaks in its own way while others stay well.
What was received by whom is then looked at. Scrapes are faster than in life and alerts resolve sooner; what decides,
the 25 s in the exporter and the rules, is as shipped.
"""

from __future__ import annotations

import re
import shutil
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import eventually, start_exporter
from tests.lab.exporting import lab_or_skip, scrape
from tests.lab.hub import HubDevice, Plan, exporter_config
from tests.lab.paging import alertmanager, inbox, prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.paging import Inbox
    from tests.lab.servers import Server

pytestmark = [pytest.mark.lab, pytest.mark.prometheus]

PAGER = "pager"
WELL = ("berlin", "lisbon", "oslo", "riga")  # more than half, or it would be a fault of the interface


class Story(NamedTuple):
    """What was received while all was well, while things were broken, and after they were mended."""

    pager: Inbox
    server: Server
    well_until: float
    broken_until: float
    broken: dict[str, str]  # peer -> reason, by /metrics while broken
    log: str


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    for tool in ("prometheus", "prometheus-alertmanager"):
        if not shutil.which(tool):
            pytest.skip(f"{tool}: no such command; apt-get install prometheus prometheus-alertmanager")
    directory = tmp_path_factory.mktemp("paging")
    with lab_or_skip(directory / "lab") as lab:
        hub = lab.namespace("hub")
        main = HubDevice(
            lab,
            hub,
            "main",
            0,
            [*map(Plan, ("north", "south", "west", *WELL)), Plan("phone", expected=False)],
        )
        lost, idle = HubDevice(lab, hub, "lost", 1, [Plan("lone")]), HubDevice(lab, hub, "off", 2, [Plan("quiet")])
        devices = [main, lost, idle]
        main.sites["phone"].namespace.run(["ping", "-c", "1", "-W", "3", "10.77.0.1"])
        config = exporter_config(lab, hub, devices)
        with (
            start_exporter(directory=directory, config=config) as exporter,
            inbox() as pager,
            alertmanager(directory, pager, impatient=True) as manager,
            prometheus(directory, [exporter.port], manager, interval=2, impatient=True) as server,
        ):

            def states(state: str) -> set[str]:
                found = scrape(exporter).all("wireguard_peer_state", state=state)
                return {labels["peer"] for labels, value in found if value}

            eventually(lambda: {"north", "south", "west", "lone", "quiet", *WELL} <= states("up"), within=40, every=0.5)
            pager.wait("Watchdog", within=60)
            well = time.monotonic()

            main.sites["north"].firewall()
            main.sites["south"].change_key()
            main.sites["west"].kill()
            lost.kill()
            idle.set("down")
            for peer in ("north", "south", "west"):
                pager.wait("WireGuardPeerDown", within=75, peer=peer)
            for device in (lost, idle):
                pager.wait("WireGuardInterfaceDown", within=75, interface=device.name)
            time.sleep(6)  # for what should not come
            reasons = scrape(exporter).all("wireguard_peer_reason", state="down")
            broken = time.monotonic()

            main.sites["north"].open()
            main.sites["south"].restore_key()
            main.sites["west"].revive(lab)
            lost.revive()
            idle.set("up")
            for peer in ("north", "south", "west"):
                pager.wait("WireGuardPeerDown", "resolved", within=90, peer=peer)
            for device in (lost, idle):
                pager.wait("WireGuardInterfaceDown", "resolved", within=90, interface=device.name)
            eventually(lambda: not states("down"), within=60, every=0.5)
            yield Story(
                pager, server, well, broken, {labels["peer"]: labels["reason"] for labels, _ in reasons}, exporter.log()
            )


def test_while_all_is_well_nobody_is_paged_and_the_dead_man_switch_is_fed(story: Story) -> None:
    before = [page for page in story.pager.received if page.at < story.well_until]
    assert {page.labels["alertname"] for page in before} == {"Watchdog"}


@pytest.mark.parametrize("peer", ["north", "south", "west"])
def test_a_peer_that_is_cut_off_pages_once_and_resolves(story: Story, peer: str) -> None:
    (receiver,) = {page.receiver for page in story.pager.pages("WireGuardPeerDown", peer=peer)}
    (first, *_), (resolved, *_) = (
        story.pager.pages("WireGuardPeerDown", status, peer=peer) for status in ("firing", "resolved")
    )
    assert receiver == PAGER
    assert first.labels["severity"] == "critical"
    assert first.at < story.broken_until < resolved.at
    assert peer in first.annotations["description"]


def test_the_page_carries_the_reason(story: Story) -> None:
    assert story.broken == {
        "north": "one_way",  # its calls still leave; the answers do not reach it
        "south": "handshake_unanswered",
        "west": "handshake_unanswered",
        "lone": "interface_gone",
        "quiet": "interface_down",
    }
    for peer in ("north", "south", "west"):
        (page, *_) = story.pager.pages("WireGuardPeerDown", peer=peer)
        # That of when it was sent: whose probes were silent before its handshakes is called so at first.
        reasons = {story.broken[peer], *re.findall(rf"peer={peer} .*after=down reason=(\w+)", story.log)}
        assert any(f"is down: {reason}." in page.annotations["description"] for reason in reasons)


@pytest.mark.parametrize(("device", "peer"), [("lost", "lone"), ("off", "quiet")])
def test_an_interface_that_goes_is_one_page_and_its_peers_none(story: Story, device: str, peer: str) -> None:
    pages = story.pager.pages("WireGuardInterfaceDown")
    assert any(page.labels["interface"].endswith(device) for page in pages)
    assert story.pager.pages("WireGuardPeerDown", peer=peer) == []


def test_a_killed_daemon_pages_although_its_series_are_gone(story: Story) -> None:
    lost = [page for page in story.pager.pages("WireGuardInterfaceDown") if page.labels["interface"].endswith("lost")]
    resolved = [
        page
        for page in story.pager.pages("WireGuardInterfaceDown", "resolved")
        if page.labels["interface"].endswith("lost")
    ]
    assert lost
    assert all(page.at > story.broken_until for page in resolved)


@pytest.mark.parametrize("peer", [*WELL, "phone"])
def test_who_is_well_or_asleep_never_pages(story: Story, peer: str) -> None:
    assert story.pager.pages(peer=peer) == []


def test_all_critical_alerts_were_expected(story: Story) -> None:
    assert story.pager.names(severity="critical") == {"WireGuardPeerDown", "WireGuardInterfaceDown"}


def test_no_rule_ever_failed(story: Story) -> None:
    groups = story.server.api("rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    assert "level=error" not in story.server.log()
    assert "level=warn" not in story.server.log()


def test_each_change_is_one_line_of_the_log(story: Story) -> None:
    downs = [line for line in story.log.splitlines() if "peer changed" in line and "after=down" in line]
    assert sorted(line.split("peer=")[1].split()[0] for line in downs) == ["lone", "north", "quiet", "south", "west"]
