"""When the exporter looks at its host, and what a tick counts of devices that are gone."""

from __future__ import annotations

import logging
import time

import pytest

from tests.rows import SECOND, WALL, FakeHost, FakeTime, device, link, peer
from wg_exporter.config import Config
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.model import USERSPACE_KIND, Backend, FailedDevice, Failure, SourceName


class Rig:
    """A host with one peer that never came though it should, whose ticks take as long as the test says."""

    def __init__(self, **more):
        self.host, self.time = FakeHost(), FakeTime()
        self.host.devices, self.host.links = [device(peer(1))], [link()]
        self.exporter = Exporter(Config(), None, self.host.sources, self.time.clock, **more)

    def tick(self, took=0.0):
        self.time.advance(5)
        self.host.during = lambda: self.time.work(took)
        self.exporter.tick()
        return self.exporter.pause


@pytest.fixture
def rigs():
    made = []

    def make(**more):
        made.append(Rig(**more))
        return made[-1]

    yield make
    for rig in made:
        rig.exporter.stop()


@pytest.mark.parametrize(
    ("took", "pause"), [(0.0, 1.0), (0.05, 1.0), (0.125, 2.5), (0.25, 5.0), (1.0, 5.0)], ids=lambda value: f"{value:g}s"
)
def test_closer_looks_take_a_twentieth_of_the_hosts_time_at_most(rigs, took, pause):
    assert rigs().tick(took) == pytest.approx(pause)


def test_waiting_for_a_source_that_hangs_does_not_delay_the_next_look(rigs):
    rig = rigs()
    rig.time.advance(5)
    rig.host.during = lambda: rig.time.advance(2.0)
    rig.exporter.tick()
    assert rig.exporter.pause == 1.0


def test_ticks_a_minute_apart_come_closer_too_and_as_sparingly(rigs):
    assert rigs(every=60.0).tick(1.0) == pytest.approx(20.0)


def test_where_nothing_is_overdue_the_next_tick_comes_at_its_time(rigs):
    rig = rigs()
    rig.host.devices = [device(peer(1, last_handshake_ns=int(WALL) * SECOND))]
    for _ in range(8):
        rig.tick()
    assert rig.tick() == 5.0


def test_an_overdue_answer_is_looked_for_long_before_the_next_tick_would_come(rigs):
    rig = rigs(every=3600.0)
    rig.exporter.start()
    end = time.monotonic() + 60
    while rig.host.reads[SourceName.KERNEL] < 2:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_peers_expected_up_are_counted_while_their_device_is_gone_and_others_are_not(rigs, caplog):
    caplog.set_level(logging.INFO, "wg_exporter")
    rig = rigs()
    rig.host.devices = [device(peer(1), peer(2), peer(3, persistent_keepalive=0)), device(peer(4), name="wg1")]
    rig.host.links = [link(), link("wg1", ifindex=8)]
    rig.tick()
    rig.host.devices, rig.host.links = rig.host.devices[1:], rig.host.links[1:]
    rig.tick()
    rig.tick()
    told = [record.fields for record in caplog.records if record.getMessage() == "peers"]
    assert [(row["devices"], row["expected_up"], row["not_expected_up"]) for row in told] == [(2, 3, 1), (1, 3, 0)]


@pytest.mark.parametrize("how", ["killed", "hangs", "unreadable"])
def test_whatever_happens_to_a_daemon_no_number_of_peers_is_negative_or_forgotten(rigs, caplog, how):
    caplog.set_level(logging.INFO, "wg_exporter")
    rig = rigs()
    rows = [peer(n) for n in (1, 2, 3)]
    rig.host.devices = [device(*rows, peer(4, persistent_keepalive=0), backend=Backend.USERSPACE)]
    rig.host.links = [link(kind=USERSPACE_KIND)]
    rig.tick()
    rig.host.devices = []
    if how == "killed":
        rig.host.links = []
    elif how == "hangs":
        rig.host.failed = [FailedDevice("", "wg0", Backend.USERSPACE, "no answer", Failure.UNANSWERED)]
    for _ in range(10):
        rig.tick()
    told = [record.fields for record in caplog.records if record.getMessage() == "peers"]
    others = 0 if how == "killed" else 1
    assert [(row["devices"], row["expected_up"], row["not_expected_up"]) for row in told] == [(1, 3, 1), (0, 3, others)]
    assert rig.exporter.status().others == others
