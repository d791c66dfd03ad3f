"""What a scrape says of peers whose device is not there to be read: gone, unreadable, or no longer wanted."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.rows import FakeHost, FakeTime, device, link, parsed, peer
from wg_exporter.catalogue import NAMES
from wg_exporter.config import Config, load
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.model import USERSPACE_KIND, SourceName
from wg_exporter.status.rows import from_view

STATE = "wireguard_peer_state"


class Rig:
    """An exporter whose one peer is never heard, so that it is down after half a minute."""

    def __init__(self, config=None, path=None, netns=""):
        self.host, self.time = FakeHost(), FakeTime()
        self.there = ([device(peer(1), netns=netns)], [link(netns=netns)])
        self.come()
        self.exporter = Exporter(config or Config(), path, self.host.sources, self.time.clock)
        self.tick(8)
        assert self.states() == {"down"}

    def come(self):
        self.host.devices, self.host.links = self.there

    def go(self):
        self.host.devices, self.host.links = [], []

    def tick(self, times=1):
        for _ in range(times):
            self.time.advance(5)
            self.exporter.tick()

    def scrape(self):
        return parsed(self.exporter.scrape(""), openmetrics=False)

    def states(self):
        return {dict(labels)["state"] for name, labels, value in self.scrape() if name == STATE and value}

    def missed(self):
        return {labels for name, labels, value in self.scrape() if name == "wireguard_interface_up" and not value}

    def unread(self):
        name = "wireguard_interface_read_success"
        return {labels for found, labels, value in self.scrape() if found == name and not value}


@pytest.fixture
def rigs():
    made = []

    def make(*args, **more):
        made.append(Rig(*args, **more))
        return made[-1]

    yield make
    for rig in made:
        rig.exporter.stop()


def test_a_device_that_comes_back_between_two_ticks_is_shown_once(rigs):
    rig = rigs()
    rig.go()
    rig.tick()
    rig.come()
    twice = [at for at, times in Counter((name, labels) for name, labels, _ in rig.scrape()).items() if times > 1]
    assert twice == []
    samples = Counter((sample.metric.name, sample.labels) for sample in rig.exporter.samples() if not sample.suffix)
    assert max(samples.values()) == 1
    assert rig.states() == {"down"}


def test_a_page_that_fires_survives_a_scrape_right_after_its_interface_was_deleted(rigs):
    rig = rigs()
    rig.go()
    assert rig.states() == {"down"}, "no tick has seen yet that it is gone"


def test_a_page_that_fires_survives_that_the_device_can_not_be_read(rigs):
    rig = rigs()
    rig.host.devices = []
    rig.host.problems[SourceName.KERNEL] = "no permission"
    for _ in range(20):
        assert rig.states() == {"down"}
        rig.tick()
    assert rig.exporter.status().summary.down == 1


@pytest.mark.parametrize("gone", [True, False])
def test_a_reload_without_a_namespace_ends_what_was_said_of_its_peers(rigs, tmp_path, gone):
    path = tmp_path / "config.yml"
    path.write_text("namespaces: [{name: blue, netns: blue}]\n")

    rig = rigs(load(path, NAMES), path, "blue")
    if gone:
        rig.go()
        rig.tick(8)
        assert rig.states() == {"down"}
    path.write_text("{}\n")
    assert rig.exporter.reload() == ""
    rig.tick()
    assert rig.states() == set()
    assert rig.exporter.status().summary.down == 0


@pytest.mark.parametrize("gone", [True, False])
def test_a_reload_that_excludes_an_interface_ends_what_was_said_of_its_peers(rigs, tmp_path, gone):
    path = tmp_path / "config.yml"
    path.write_text("interfaces: {exclude: [wg0]}\n")
    rig = rigs(None, path)
    if gone:
        rig.go()
        rig.tick(8)
        assert rig.states() == {"down"}
    assert rig.exporter.reload() == ""
    assert rig.missed() == set()
    rig.host.devices = []  # a source leaves out what is not wanted; its link is there all the same
    rig.tick()
    assert rig.states() == set()
    assert rig.exporter.status().summary.down == 0


def test_an_excluded_userspace_interface_is_not_one_whose_daemon_is_gone(rigs, tmp_path):
    """It had a peer expected up, and its link stays: nobody looks for its socket any more."""
    path = tmp_path / "config.yml"
    path.write_text("interfaces: {exclude: [wg0]}\n")
    rig = rigs(None, path)
    rig.host.links = [link(kind=USERSPACE_KIND)]
    rig.tick()
    assert rig.exporter.reload() == ""
    rig.host.devices = []  # a source leaves out what is not wanted
    for _ in range(2):
        rig.tick()
        assert rig.unread() == set()
        assert rig.exporter.status().problems == ()


def test_an_interface_of_which_nothing_can_be_read_is_not_shown_as_gone(rigs):
    rig = rigs()
    rig.host.devices = []
    rig.host.problems = dict.fromkeys((SourceName.KERNEL, SourceName.LINKS), "no permission")
    snapshot, view, config = rig.exporter.look()
    assert rig.states() == {"down"}
    assert from_view(snapshot, view, config).devices == ()
    rig.host.problems = {}
    rig.go()
    rig.tick(8)
    (row,) = from_view(*rig.exporter.look()).devices
    assert row.gone == ("", "wg0")
