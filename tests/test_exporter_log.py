"""What the exporter logs of its host: a line when something changes, none while it stays as it is."""

from __future__ import annotations

import contextlib
import logging

import pytest

from tests.rows import device, link, peer
from tests.serving import eventually
from wg_exporter.config import Config, Expected, ExpectRule
from wg_exporter.model import Backend, ConfFile, FailedDevice, SourceName
from wg_exporter.sources import StoppedError


@pytest.fixture
def lines(caplog):
    """Events since the last call, with the fields that a test asks for."""
    caplog.set_level(logging.INFO, "wg_exporter")

    def since(*names):
        # How peers are, and why, is another story: causes are sought in the background.
        others = {"peer changed", "peers expected up", "cause found"}
        told = [r for r in caplog.records if r.getMessage() not in others]
        found = [(r.getMessage(), *(str(r.fields[name]) for name in names if name in r.fields)) for r in told]
        caplog.clear()
        return found

    return since


def test_how_many_peers_are_expected_up_is_logged_when_it_changes(rig, lines):
    exporter = rig.exporter()
    for _ in range(3):
        rig.tick(exporter)
    assert lines("devices", "expected_up", "not_expected_up") == [("peers", "1", "1", "1")]
    rig.tick(exporter, device(peer(1), peer(2), peer(3, persistent_keepalive=0)))
    assert lines("devices", "expected_up", "not_expected_up") == [("peers", "1", "2", "1")]


def test_peers_of_a_device_that_is_gone_go_on_being_expected_up_and_counted_as_down(rig, caplog):
    caplog.set_level(logging.INFO, "wg_exporter")
    rig.host.devices = [device(peer(1), peer(2), peer(3, persistent_keepalive=0)), device(peer(4), name="wg1")]
    rig.host.links = [link(), link("wg1", ifindex=8)]
    exporter = rig.exporter()
    for _ in range(8):
        rig.tick(exporter)
    rig.host.devices, rig.host.links = rig.host.devices[:1], rig.host.links[:1]
    for _ in range(8):
        rig.tick(exporter)
    told = [line.fields["not_up"] for line in caplog.records if line.getMessage() == "peers expected up"]
    assert told == [3], "the third is down all the same when its device is gone"
    counted = [line.fields for line in caplog.records if line.getMessage() == "peers"]
    assert [(line["devices"], line["expected_up"]) for line in counted] == [(2, 3), (1, 3)]


def test_a_source_that_fails_is_logged_once_and_once_more_when_it_works_again(rig, lines):
    exporter = rig.exporter()
    rig.tick(exporter)
    lines()
    rig.host.problems[SourceName.LINKS] = "no answer"
    for _ in range(3):
        rig.tick(exporter)
    assert lines("source", "problem") == [("source failed", "links", "no answer")]
    del rig.host.problems[SourceName.LINKS]
    for _ in range(3):
        rig.tick(exporter)
    assert lines("source") == [("source works again", "links")]


def test_a_device_that_fails_is_logged_each_time_it_begins_and_ends(rig, lines):
    exporter = rig.exporter()
    row = device(peer(1))
    rig.tick(exporter, row)
    lines()
    for _ in range(2):
        rig.host.failed = [FailedDevice("", "wg0", Backend.USERSPACE, "no answer")]
        rig.host.devices = []
        rig.tick(exporter)
        rig.tick(exporter)
        assert ("device not read", "wg0", "no answer") in lines("interface", "problem")
        rig.host.failed = []
        rig.tick(exporter, row)
        rig.tick(exporter, row)
        assert [line for line in lines("interface") if line[0] != "peers"] == [("device read again", "wg0")]


def test_a_problem_in_a_names_file_is_logged_once_per_change(rig, lines):
    exporter = rig.exporter()
    bad = ConfFile("/etc/wireguard/wg0.conf", "wg0", (), ("wg0.conf:3: no such key",))
    for problems, events in ((bad.problems, 1), (bad.problems, 0), ((), 0), (bad.problems, 1), (("a", "b"), 2)):
        rig.host.conf = (bad._replace(problems=problems),)
        rig.tick(exporter)
        assert [event for (event,) in lines()].count("names file has a problem") == events


def test_a_tick_that_breaks_is_logged_and_the_next_one_counts_on(rig, lines, caplog):
    exporter = rig.exporter(every=0.01)
    good = rig.host.devices
    rig.host.devices = [device(peer(1))._replace(peers=7)]
    exporter.start()
    eventually(lambda: caplog.records)
    rig.host.devices = good
    eventually(lambda: ("peers",) in [(record.getMessage(),) for record in caplog.records])
    assert caplog.records[0].getMessage() == "tick failed"
    assert caplog.records[0].exc_info
    assert exporter.wait_until_ready(30)


def test_nothing_secret_is_logged_when_a_source_breaks_with_a_key_in_its_message(rig, lines, caplog):
    exporter = rig.exporter()
    rig.host.problems[SourceName.KERNEL] = ValueError("private_key=SECRET")
    with contextlib.suppress(StoppedError):
        rig.tick(exporter)
    assert "source failed" in caplog.text
    assert "SECRET" not in caplog.text + str([record.__dict__ for record in caplog.records])


def test_peers_that_nobody_can_tell_idle_from_dead_are_named_at_the_start(rig, lines):
    rig.host.devices = [device(peer(1, persistent_keepalive=0), peer(2), peer(3, persistent_keepalive=0))]
    exporter = rig.exporter(Config(expect=(ExpectRule(Expected.UP),)))
    for _ in range(3):
        rig.tick(exporter)
    found = [line for line in lines("peers") if line[0] == "peers can't be judged"]
    assert found == [("peers can't be judged", "2")]
    rig.tick(exporter, device(peer(1), peer(2), peer(3)))
    assert "peers can't be judged" not in {line[0] for line in lines("peers")}, "none is no warning"
