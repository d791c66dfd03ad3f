"""A tunnel with an exporter at each end: one cut is one page, which names both; and a test page that arrives.

Everything is real, as in test_paging.py.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import eventually, start_exporter
from tests.lab.exporting import lab_or_skip, scrape
from tests.lab.hub import HubDevice, Plan, exporter_config
from tests.lab.paging import alertmanager, inbox, prometheus
from tests.promtool import PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.paging import Inbox

pytestmark = [pytest.mark.lab, pytest.mark.prometheus]


class Story(NamedTuple):
    """What was received of one cut, and the two targets that saw it."""

    pager: Inbox
    hub: str
    far: str
    tunnels: set[str]
    both_down: bool


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    for tool in ("prometheus", "prometheus-alertmanager", "amtool"):
        if not shutil.which(tool):
            pytest.skip(f"{tool}: no such command; apt-get install prometheus prometheus-alertmanager")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("ends")
    with lab_or_skip(directory / "lab") as lab:
        hub = lab.namespace("hub")
        main = HubDevice(lab, hub, "main", 0, [Plan("branch"), Plan("well"), Plan("fine")])
        branch = main.sites["branch"]
        far_config = (
            f"interfaces: {{include: [{branch.device.name}]}}\nexpect: [{{state: up}}]\n"
            f"namespaces: [{{name: far, netns: {branch.namespace.name}}}]\n"
            f"peers: [{{public_key: '{main.keys.public}', target: 10.77.0.1}}]\n"
        )
        with (
            start_exporter(directory=directory, config=exporter_config(lab, hub, [main])) as near,
            start_exporter(directory=directory, config=far_config) as far,
            inbox() as pager,
            alertmanager(directory, pager, impatient=True) as manager,
            prometheus(directory, [near.port, far.port], manager, interval=2, impatient=True) as server,
        ):

            def states(state: str) -> list[str]:
                found = [pair for end in (near, far) for pair in scrape(end).all("wireguard_peer_state", state=state)]
                return [labels["interface"] for labels, value in found if value]

            eventually(lambda: len(states("up")) == 4, within=60, every=0.5)
            pager.wait("Watchdog", within=60)
            tunnels = {
                labels["tunnel"]
                for end, key in ((near, branch.keys.public), (far, main.keys.public))
                for labels, _ in scrape(end).all("wireguard_peer_info", public_key=key)
            }
            branch.firewall()
            pager.wait("WireGuardPeerDown", within=90)
            both = eventually(lambda: len(states("down")) == 2, within=60, every=0.5)
            time.sleep(15)  # for what should not come
            branch.open()
            pager.wait("WireGuardPeerDown", "resolved", within=120)
            time.sleep(8)
            assert "level=error" not in server.log()
            yield Story(pager, f"127.0.0.1:{near.port}", f"127.0.0.1:{far.port}", tunnels, bool(both))


def test_both_ends_name_the_tunnel_alike(story: Story) -> None:
    (tunnel,) = story.tunnels
    assert re.fullmatch("[0-9a-f]{12}", tunnel)


def test_a_cut_that_both_ends_see_is_one_notification(story: Story) -> None:
    assert story.both_down
    firing = [
        group for receiver, status, group in story.pager.notifications if (receiver, status) == ("pager", "firing")
    ]
    assert firing == [{"job": "wireguard", "tunnel": next(iter(story.tunnels))}]
    assert len(story.pager.pages("WireGuardPeerDown")) == 1


def test_the_page_names_both_hosts_the_endpoint_what_the_reason_means_and_where_to_look(story: Story) -> None:
    (page,) = story.pager.pages("WireGuardPeerDown")
    text = page.annotations["description"]
    assert story.hub in text
    assert story.far in text
    assert re.search(r"Its endpoint is 198\.18\.0\.\d+:51820\.", text)
    assert re.search(r"is down: (\w+)\. [A-Z][^.]+\.", text)
    assert f"http://{page.labels['instance']}/" in text
    assert f"wg-exporter show {page.labels['interface']} {page.labels['public_key']}" in text


def test_when_it_ends_it_is_said_for_how_long_it_was_down(story: Story) -> None:
    ends = [event["payload"]["summary"] for event in story.pager.incidents if event["event_action"] == "resolve"]
    assert len(ends) == 1
    assert re.match(r"\S+ is up again\. It was down for about -?\w+\.", ends[0])


def test_a_test_page_as_it_is_documented_reaches_the_pager(tmp_path: Path) -> None:
    (line,) = re.findall(r"^    wg-exporter (check --page=.+)$", (PAGES / "README.md").read_text(), re.MULTILINE)
    with inbox() as pager, alertmanager(tmp_path, pager) as manager:
        words = shlex.split(line.replace("http://localhost:9093", f"http://127.0.0.1:{manager.port}"))
        command = [sys.executable, "-m", "wg_exporter.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
        page = pager.wait("WireGuardTestPage", within=60)
    assert page.receiver == "pager"
    assert page.annotations["description"]
