"""What counters can't tell and the wire does, in real tunnels that an exporter watches as shipped.

A filter at the device drops what leaves after WireGuard counted it, as on kernel devices the output filter does. And
a site that hears nothing sends bulk data all the while, which hides its handshakes in the counters.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults import BULK, Story, Watch
from tests.lab import eventually, start_exporter
from tests.lab.exporting import lab_or_skip
from tests.lab.hub import HubDevice, Plan, exporter_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab import Lab

pytestmark = pytest.mark.lab

SITES = ("sunk", "deaf", "cut", "berlin")
BROKEN_FOR = 45.0  # seconds
LATEST = 40.0  # to be named in; on a machine with nothing else to do it is 30


def told(lab: Lab, directory: Path) -> Story:
    hub = lab.namespace("hub")
    main = HubDevice(lab, hub, "main", 0, [Plan(name) for name in SITES])
    deaf = main.sites["deaf"]
    config = exporter_config(lab, hub, [main])
    with start_exporter("--log.level=debug", directory=directory, config=config) as exporter:
        watch = Watch(exporter)
        try:
            eventually(lambda: all(watch.now(name) == "up" for name in SITES), within=60, every=0.5)
            lab.start([sys.executable, "-c", BULK, "10.77.0.1"], log="bulk", namespace=deaf.namespace)
            time.sleep(2)
            broke = time.monotonic()
            _nft(hub, "netdev", "egress device to-sunk", "meta l4proto udp drop")
            _nft(deaf.namespace, "inet", "input", f"iifname != {deaf.device.name} meta l4proto udp drop")
            main.sites["cut"].cut()
            time.sleep(BROKEN_FOR)
        finally:
            watch.stop()
        return Story(watch.seen, dict.fromkeys(SITES, broke), time.monotonic(), exporter.log())


def _nft(namespace, family, hook, rule):
    name = hook.split()[0]
    script = f"add table {family} fault\nadd chain {family} fault {name} {{ type filter hook {hook} priority 0; }}\n"
    namespace.run(["nft", "-f", "-"], stdin=f"{script}add rule {family} fault {name} {rule}\n")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("wire")
    with lab_or_skip(directory / "lab") as lab:
        yield told(lab, directory)


@pytest.mark.parametrize(("peer", "reason"), [("sunk", "not_sent"), ("deaf", "one_way")])
def test_what_only_the_wire_tells_is_named_in_time(story: Story, peer: str, reason: str) -> None:
    rows = story.while_broken(peer)
    at = next(row.at for row in rows if (row.state, row.reason) == ("down", reason))
    assert at <= LATEST
    assert rows[-1].reason == reason


def test_what_left_and_was_not_answered_is_not_taken_for_unsent(story: Story) -> None:
    reasons = {row.reason for row in story.while_broken("cut") if row.state == "down"}
    assert reasons
    assert reasons <= {"handshake_unanswered", "data_unanswered"}


def test_a_tunnel_that_works_stays_up(story: Story) -> None:
    assert [row.state for row in story.while_broken("berlin")] == ["up"]


def test_the_evidence_says_what_was_seen_on_the_wire(story: Story) -> None:
    assert "nothing was seen leaving this host" in story.log
    assert "seen leaving this host" in story.log.replace("nothing was seen leaving this host", "")
