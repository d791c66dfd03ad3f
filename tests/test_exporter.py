"""The exporter as one object: what a tick counts, what a scrape shows, what a reload swaps; with fake sources."""

from __future__ import annotations

import contextlib
import gc
import logging
import re
import threading
import time
import tracemalloc

import pytest

from tests.rows import SECOND, WALL, FakeHost, FakeTime, conf_file, declared, device, key, link, parsed, peer
from wg_exporter.config import Config, Expected, ExpectRule, Interfaces, Metrics, PeerConfig
from wg_exporter.config import Namespace as NamespaceConfig
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.model import Backend, ConfFile, FailedDevice, Probed, ProbeStats, SourceName
from wg_exporter.reader.reader import StoppedError

UP = "wireguard_interface_up"


def shaken(n, seconds, **changes):
    return peer(n, last_handshake_ns=int(WALL + seconds) * SECOND, **changes)


class Rig:
    """A fake host, a clock that stands still, and exporters that are stopped in the end."""

    def __init__(self):
        self.host, self.time = FakeHost(), FakeTime()
        self.host.devices, self.host.links = [device(peer(1), peer(2, persistent_keepalive=0))], [link()]
        self.made = []

    def exporter(self, config=None, path=None, **more):
        exporter = Exporter(config or Config(), path, self.time.clock, workers=self.host.workers, **more)
        self.made.append(exporter)
        return exporter

    def tick(self, exporter, *devices):
        self.host.devices = devices or self.host.devices
        self.time.advance(5)
        exporter.tick()


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    for event in rig.host.stuck.values():
        event.set()
    for exporter in rig.made:
        exporter.stop()


def found(exporter, name):
    """Values of a metric at a scrape, by its labels but the key."""
    values = parsed(exporter.scrape("", openmetrics=True), openmetrics=True)
    return {
        tuple(sorted((n, v) for n, v in at if n != "public_key")): value
        for metric, at, value in values
        if metric == name
    }


def of(exporter, name):
    return sorted(found(exporter, name).values())


def labelled(**labels):
    return tuple(sorted(labels.items()))


def eventually(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "did not come about within 5 s"
        time.sleep(0.005)


# --- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "mindflavor", "mdlayher"])
def test_none_one_and_ten_scrapes_between_two_ticks_give_the_same_counts(rig, path):
    exporters = {number: rig.exporter() for number in (0, 1, 10)}

    def between(*devices):
        rig.host.devices = devices
        for number, exporter in exporters.items():
            for _ in range(number):
                exporter.scrape(path)
                exporter.samples()

    def tick(*devices):
        rig.host.devices = devices
        rig.time.advance(5)
        for exporter in exporters.values():
            exporter.tick()

    between(device(shaken(1, -9), peer(2)))  # before the first tick too
    tick(device(shaken(1, -9), peer(2)))
    between(device(shaken(1, 6, endpoint="x:1"), peer(2)))  # only seen by scrapes
    tick(device(shaken(1, 9, endpoint="x:2"), peer(2)))
    between(device(shaken(1, 9, endpoint="x:2"), shaken(2, 11)))
    between()  # gone for a moment, between two ticks
    tick(device(shaken(2, 11), shaken(1, 9, endpoint="x:2")))
    between(device(shaken(1, 16, endpoint="x:3"), shaken(3, 16)))
    tick(device(shaken(1, 16, endpoint="x:3"), shaken(3, 16)))
    for exporter in exporters.values():
        assert list(found(exporter, "wireguard_peer_handshakes_total").values()) == [2, 1]
        assert list(found(exporter, "wireguard_peer_endpoint_changes_total").values()) == [2, 0]
        assert of(exporter, "wireguard_exporter_clock_steps_total") == [0]


def test_none_one_and_ten_scrapes_give_the_same_states(rig):
    """A peer that is heard, one that nobody waits for, one whose calls go unanswered, and an interface that goes."""
    exporters = {number: rig.exporter() for number in (0, 1, 10)}
    for exporter in exporters.values():
        exporter.tick()
    for n in range(1, 16):
        calling = peer(3, tx_bytes=2000 + 148 * n)
        rows = (shaken(1, -9, rx_bytes=1000 + 32 * n), peer(2, persistent_keepalive=0), calling)
        rig.host.devices = [device(*rows), *([device(peer(4), name="wg1")] if n < 6 else [])]
        rig.host.links = [link(), *([link("wg1", ifindex=8)] if n < 6 else [])]
        rig.time.advance(5)
        for number, exporter in exporters.items():
            exporter.tick()
            for _ in range(number):
                exporter.scrape("")
                exporter.samples()
    names = ("wireguard_peer_state", "wireguard_peer_reason", "wireguard_peer_down_seconds_total")
    states = {name: found(exporter, name) for name in names}
    assert all(states == {name: found(one, name) for name in states} for one in exporters.values())
    holding = {
        (dict(labels)["interface"], dict(labels)["state"])
        for labels, value in states["wireguard_peer_state"].items()
        if value
    }
    assert holding == {("wg0", "up"), ("wg0", "never"), ("wg0", "down"), ("wg1", "down")}
    reasons = {dict(labels)["reason"] for labels in states["wireguard_peer_reason"]}
    assert reasons == {"handshake_unanswered", "interface_gone"}
    assert found(exporter, UP)[labelled(interface="wg1")] == 0


def test_counts_go_on_while_nobody_scrapes_and_over_a_reload(rig, tmp_path):
    (config := tmp_path / "config.yml").write_text("{}")
    exporter = rig.exporter(path=config)
    rig.tick(exporter, device(peer(1)))
    rig.tick(exporter, device(shaken(1, 9)))
    assert exporter.reload() == ""
    assert of(exporter, "wireguard_peer_handshakes_total") == [1]
    rig.tick(exporter, device(shaken(1, 14)))
    assert of(exporter, "wireguard_peer_handshakes_total") == [2]


def test_a_scrape_is_live_and_does_not_show_the_devices_of_the_last_tick(rig):
    exporter = rig.exporter()
    rig.tick(exporter)
    rig.host.devices = [device(peer(3, rx_bytes=77))]
    assert of(exporter, "wireguard_peer_receive_bytes_total") == [77]


def test_the_tick_goes_on_by_itself(rig):
    exporter = rig.exporter(every=0.01)
    exporter.start()
    eventually(lambda: rig.host.reads[SourceName.KERNEL] >= 3)


def test_memory_stays_where_it_was_while_devices_come_and_go(rig):
    exporter = rig.exporter(Config(metrics=Metrics(exclude=("wireguard_*",))))

    def rounds(first, last):
        for n in range(first, last):
            peers = (peer(p, persistent_keepalive=0, rx_bytes=n << 32 | p) for p in range(20))
            rig.tick(exporter, device(*peers, name=f"wg{n}"))
            rig.time.advance(4000)  # the tracker remembers for an hour, and is allowed to
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = rounds(0, 5)
        assert rounds(5, 85) - before < 100_000, "a device takes 8 kB here"
    finally:
        tracemalloc.stop()


# --- ready ------------------------------------------------------------------------------------------------------------


def test_ready_after_the_first_look_and_not_before(rig):
    rig.host.stuck[SourceName.KERNEL] = threading.Event()
    exporter = rig.exporter()
    assert "not been read yet" in exporter.ready()
    exporter.start()
    assert not exporter.wait_until_ready(0.05)
    assert exporter.ready()
    rig.host.stuck.pop(SourceName.KERNEL).set()
    assert exporter.wait_until_ready(5)
    assert exporter.ready() == ""


def test_a_host_that_can_not_be_read_does_not_keep_the_exporter_from_saying_so(rig):
    rig.host.problems = dict.fromkeys((SourceName.KERNEL, SourceName.LINKS, SourceName.CONF), "no permission")
    exporter = rig.exporter()
    exporter.start()
    assert exporter.wait_until_ready(5)
    assert of(exporter, "wireguard_exporter_source_success") == [0, 0, 0]


def test_a_stopped_exporter_neither_ticks_nor_answers(rig):
    before = set(threading.enumerate())
    exporter = rig.exporter(every=0.01)
    exporter.start()
    exporter.wait_until_ready(5)
    threads = set(threading.enumerate()) - before
    assert len(threads) == 4
    exporter.stop()
    with pytest.raises(StoppedError):
        exporter.scrape("")
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


# --- interfaces that are expected -------------------------------------------------------------------------------------


def test_an_interface_named_in_expect_is_there_from_the_start_at_zero_until_it_exists(rig):
    rig.host.devices = rig.host.links = []
    config = Config(Interfaces(expect=("wg0", "blue/wg0")), (NamespaceConfig("blue"),))
    exporter = rig.exporter(config)
    assert found(exporter, UP) == {labelled(interface="wg0"): 0, labelled(interface="wg0", netns="blue"): 0}
    rig.host.devices, rig.host.links = [device(peer(1))], [link()]
    assert found(exporter, UP) == {labelled(interface="wg0"): 1, labelled(interface="wg0", netns="blue"): 0}


def test_an_interface_that_had_a_peer_expected_up_is_missed_when_gone_and_one_without_is_not(rig):
    exporter = rig.exporter()
    rig.host.links = [link(), link("wg1", ifindex=8)]
    rig.tick(exporter, device(peer(1)), device(peer(2, persistent_keepalive=0), name="wg1"))
    rig.host.devices = rig.host.links = []
    for _ in range(2):
        assert found(exporter, UP) == {labelled(interface="wg0"): 0}
        rig.tick(exporter)
    assert of(exporter, "wireguard_interface_read_success") == []


def test_nothing_is_missed_where_links_can_not_be_read(rig):
    exporter = rig.exporter(Config(Interfaces(expect=("wg0", "blue/wg0")), (NamespaceConfig("blue"),)))
    rig.tick(exporter)
    rig.host.devices = rig.host.links = []
    rig.host.problems[SourceName.LINKS] = "no answer"
    assert found(exporter, UP) == {}
    del rig.host.problems[SourceName.LINKS]
    assert of(exporter, UP) == [0, 0]


def test_a_device_that_can_not_be_read_is_not_missing_while_its_link_is_there(rig):
    exporter = rig.exporter()
    rig.tick(exporter)
    rig.host.devices, rig.host.failed = [], [FailedDevice("", "wg0", Backend.KERNEL, "interrupted")]
    rig.tick(exporter)
    assert of(exporter, UP) == [1]
    assert of(exporter, "wireguard_interface_read_success") == [0]
    assert of(exporter, "wireguard_interface_mtu_bytes") == [1420]
    rig.host.links = []
    assert of(exporter, UP) == [0]


def test_a_renamed_interface_is_not_missed_under_its_old_name(rig):
    exporter = rig.exporter()
    rig.tick(exporter, device(peer(1)))
    rig.host.links = [link("office")]
    rig.tick(exporter, device(peer(1), name="office"))
    assert found(exporter, UP) == {labelled(interface="office"): 1}


# --- configuration ----------------------------------------------------------------------------------------------------


def test_names_and_expectations_of_the_configuration_and_of_files_reach_the_labels(rig):
    config = Config(peers=(PeerConfig(key(1), name="anna"),), expect=(ExpectRule(Expected.ANY, name="anna"),))
    rig.host.conf = (conf_file("wg0", declared(2, "bert")),)
    assert found(rig.exporter(config), "wireguard_peer_expected_up") == {
        labelled(interface="wg0", peer="anna"): 0,
        labelled(interface="wg0", peer="bert"): 0,
    }


def test_names_in_files_that_change_show_at_the_next_scrape(rig):
    exporter = rig.exporter()
    assert labelled(interface="wg0", peer=key(1)[:8]) in found(exporter, "wireguard_peer_allowed_ips")
    rig.host.conf = (conf_file("wg0", declared(1, "anna")),)
    assert labelled(interface="wg0", peer="anna") in found(exporter, "wireguard_peer_allowed_ips")


def test_excluded_families_are_left_out_of_the_exposition_and_of_the_samples(rig):
    exporter = rig.exporter(Config(metrics=Metrics(exclude=("wireguard_peer_*", "process_*", "*_total"))))
    names = {name for name, _, _ in parsed(exporter.scrape(""), openmetrics=False)}
    assert names == {sample.metric.name for sample in exporter.samples()}
    assert not [name for name in names if name.startswith(("wireguard_peer_", "process_")) or name.endswith("_total")]
    assert "wireguard_interface_up" in names


def test_the_endpoint_mode_holds_on_every_path(rig):
    exporter = rig.exporter(Config(metrics=Metrics(endpoint="off")))
    for path in ("", "mindflavor", "mdlayher"):
        assert b"192.0.0.1" not in b"".join(exporter.scrape(path))


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_path_is_sound_in_both_formats_and_ours_has_the_process_too(rig, openmetrics):
    exporter = rig.exporter()
    for path, name in (
        ("", "process_resident_memory_bytes"),
        ("mindflavor", "wireguard_latest_handshake_delay_seconds"),
        ("mdlayher", "wireguard_device_info"),
    ):
        read = parsed(exporter.scrape(path, openmetrics=openmetrics), openmetrics=openmetrics)
        assert name in {metric for metric, _, _ in read}
        assert len({sample[:2] for sample in read}) == len(read)
    body = b"".join(exporter.scrape("mindflavor"))
    assert b"wireguard_interface" not in body


def test_the_age_in_mindflavors_exposition_is_by_the_clock_of_the_scrape(rig):
    rig.host.devices = [device(shaken(1, -60))]
    rig.time.advance(30)
    page = b"".join(rig.exporter().scrape("mindflavor"))
    assert re.search(rb"^wireguard_latest_handshake_delay_seconds\{.*\} 90$", page, re.MULTILINE)


@pytest.mark.parametrize("page", ["mindflavor", "mdlayher"])
def test_a_failed_source_is_told_on_the_pages_of_the_other_exporters_too(rig, page):
    rig.host.problems[SourceName.KERNEL] = "no permission"
    assert b'wireguard_exporter_source_success{source="kernel"} 0\n' in b"".join(rig.exporter().scrape(page))


def test_a_readable_device_is_not_called_gone_when_its_link_moves_out_of_sight(rig):
    exporter = rig.exporter()
    rig.tick(exporter)
    assert of(exporter, UP) == [1]
    rig.host.links = []
    rig.tick(exporter)
    assert of(exporter, UP) == []


def test_capabilities_tell_what_sources_found(rig):
    exporter = rig.exporter()
    names = {dict(at)["name"]: value for at, value in found(exporter, "wireguard_exporter_capability").items()}
    assert set(names) == {"net_admin", "net_raw", "uapi", "conf_read", "netns"}
    assert (names["conf_read"], names["uapi"]) == (1, 0), "this host has no source for userspace devices"
    rig.host.problems[SourceName.CONF] = "no permission"
    assert found(exporter, "wireguard_exporter_capability")[labelled(name="conf_read")] == 0


def test_a_step_of_the_clock_is_counted_by_the_tick(rig):
    exporter = rig.exporter()
    rig.tick(exporter)
    rig.time.wall += 3600
    exporter.scrape("")
    rig.tick(exporter)
    assert of(exporter, "wireguard_exporter_clock_steps_total") == [1]


# --- reload -----------------------------------------------------------------------------------------------------------

RELOADED = "wireguard_exporter_config_last_reload_successful"
RELOADED_AT = "wireguard_exporter_config_last_reload_success_timestamp_seconds"


def named(path, name):
    path.write_text(f"peers: [{{public_key: '{key(1)}', name: {name}}}]")


def test_a_reload_puts_the_file_into_use_and_says_when(rig, tmp_path):
    named(path := tmp_path / "config.yml", "anna")
    exporter = rig.exporter(path=path)
    assert (of(exporter, RELOADED), of(exporter, RELOADED_AT)) == ([1], [WALL])
    rig.time.advance(60)
    assert exporter.reload() == ""
    assert labelled(interface="wg0", peer="anna") in found(exporter, "wireguard_peer_allowed_ips")
    assert (of(exporter, RELOADED), of(exporter, RELOADED_AT)) == ([1], [WALL + 60])


def test_a_bad_file_changes_nothing_and_says_so_until_a_good_one_comes(rig, tmp_path, caplog):
    named(path := tmp_path / "config.yml", "anna")
    exporter = rig.exporter(path=path)
    exporter.reload()
    rig.time.advance(60)
    path.write_text("peers: 7\nmetrics: {exclude: [wireguard_nothing]}")
    started = len(rig.host.started)
    problems = exporter.reload()
    assert len(rig.host.started) == started, "no source was started for a configuration that is not used"
    assert "peers" in problems
    assert [record.getMessage() for record in caplog.records] == ["configuration not reloaded"] * len(
        problems.splitlines()
    )
    assert labelled(interface="wg0", peer="anna") in found(exporter, "wireguard_peer_allowed_ips")
    assert (of(exporter, RELOADED), of(exporter, RELOADED_AT)) == ([0], [WALL])
    named(path, "berta")
    assert exporter.reload() == ""
    assert (of(exporter, RELOADED), of(exporter, RELOADED_AT)) == ([1], [WALL + 60])


def test_without_a_file_there_is_nothing_to_reload_and_that_is_no_failure(rig):
    exporter = rig.exporter()
    assert "no configuration file" in exporter.reload()
    assert of(exporter, RELOADED) == [1]


def test_an_interface_missed_in_a_namespace_is_forgotten_with_the_namespace(rig, tmp_path):
    path = tmp_path / "config.yml"
    path.write_text("{}")
    exporter = rig.exporter(Config(namespaces=(NamespaceConfig("blue"),)), path)
    rig.host.links = [link(netns="blue")]
    rig.tick(exporter, device(peer(1), netns="blue"))
    rig.host.devices = rig.host.links = []
    assert found(exporter, UP) == {labelled(interface="wg0", netns="blue"): 0}
    exporter.reload()
    assert found(exporter, UP) == {}
    path.write_text("namespaces: [{name: blue}]")
    exporter.reload()
    assert found(exporter, UP) == {}


def test_a_scrape_that_comes_to_sources_just_stopped_by_a_reload_goes_to_the_new_ones(rig, tmp_path):
    named(path := tmp_path / "config.yml", "anna")
    wall, armed = rig.time.clock.wall, []

    def reload_first():
        if armed:
            armed.pop()()
        return wall()

    rig.time.clock = rig.time.clock._replace(wall=reload_first)
    exporter = rig.exporter(path=path)
    armed.append(exporter.reload)
    assert labelled(interface="wg0", peer="anna") in found(exporter, "wireguard_peer_allowed_ips")
    assert not armed


def test_a_tick_that_a_reload_overtakes_counts_nothing_by_the_old_configuration(rig, tmp_path):
    (path := tmp_path / "config.yml").write_text("{}")
    exporter = rig.exporter(Config(namespaces=(NamespaceConfig("blue"),)), path)
    rig.host.during = exporter.reload
    rig.host.links = [link(netns="blue")]
    rig.tick(exporter, device(peer(1), netns="blue"))
    assert rig.host.during is None
    path.write_text("namespaces: [{name: blue}]")
    exporter.reload()
    rig.host.devices = rig.host.links = []
    assert found(exporter, UP) == {}, "the device of a namespace that was taken out is not missed"


def test_scrapes_and_ticks_never_fail_while_configurations_are_swapped_under_them(rig, tmp_path):
    named(path := tmp_path / "config.yml", "name-0")
    exporter = rig.exporter(path=path, every=0.001)
    exporter.start()
    exporter.reload()
    failures, bodies, done = [], [], threading.Event()

    def scraper():
        try:
            while not done.is_set():
                bodies.append(b"".join(exporter.scrape("")))
                exporter.samples()
        except Exception as error:  # noqa: BLE001 - any is a failure, and a thread's own would be lost
            failures.append(error)

    threads = [threading.Thread(target=scraper) for _ in range(4)]
    before = set(threading.enumerate())
    for thread in threads:
        thread.start()
    for n in range(1, 30):
        named(path, f"name-{n}")
        assert exporter.reload() == ""
        assert f'peer="name-{n}"'.encode() in b"".join(exporter.scrape("")), (
            "a scrape after a reload is by the new file"
        )
    done.set()
    for thread in threads:
        thread.join(10)
    assert failures == []
    assert len(bodies) >= 4
    assert all(body.count(b'\nwireguard_peer_allowed_ips{interface="wg0"') == 2 for body in bodies)
    assert all(body.count(b'peer="name-') in {11, 16} for body in bodies)
    # The three sources of the last configuration live on; of the 28 in between nothing does.
    eventually(lambda: len(set(threading.enumerate()) - before) == 3)


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(caplog):
    """Events since the last call, with the fields that a test asks for."""
    caplog.set_level(logging.INFO, "wg_exporter")

    def since(*names):
        # How peers are is another story.
        told = [r for r in caplog.records if r.getMessage() not in {"peer changed", "peers expected up"}]
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
    assert exporter.ready() == ""


def test_nothing_secret_is_logged_when_a_source_breaks_with_a_key_in_its_message(rig, lines, caplog):
    exporter = rig.exporter()
    rig.host.problems[SourceName.KERNEL] = ValueError("private_key=SECRET")
    with contextlib.suppress(StoppedError):
        rig.tick(exporter)
    assert "source failed" in caplog.text
    assert "SECRET" not in caplog.text + str([record.__dict__ for record in caplog.records])


def test_of_two_reloads_at_once_the_later_file_wins(tmp_path):
    file, calls, gate = tmp_path / "config.yml", [], threading.Event()

    def workers(config, _clock):
        calls.append(config)
        if len(calls) == 2:
            gate.wait(5)
        return []

    exporter = Exporter(Config(), file, workers=workers)
    reloads = []
    for name in ("early", "late"):
        file.write_text(f"interfaces: {{expect: [{name}]}}\n")
        reloads.append(threading.Thread(target=exporter.reload))
        reloads[-1].start()
        time.sleep(0.1)
    gate.set()
    for reload in reloads:
        reload.join(5)
    assert exporter.look()[2].interfaces.expect == ("late",)


# --- the prober -------------------------------------------------------------------------------------------------------


class FakeProber:
    """Remembers what it was told, and knows what the test says."""

    def __init__(self):
        self.peers, self.read, self.known, self.configured, self.stopped = (), {}, {}, [], False
        self.delays = [0.25]

    def configure(self, config):
        self.configured.append(config.probe.interval)

    def set_peers(self, peers):
        self.peers = peers

    def counters(self, rows):
        self.read = rows

    def results(self):
        found = {}
        for (netns, name, public_key), probed in self.known.items():
            found.setdefault((netns, name), {})[public_key] = probed
        return found

    def scheduling_delay(self):
        return self.delays.pop() if self.delays else 0.0

    def pids(self):
        return []

    def stop(self):
        self.stopped = True


STATS = ProbeStats(True, 7, 2, 0, 1, (), (0,) * 14 + (5, 0), 0.5, 0.1, 0.1, 0.0)


def probing(rig, **more):
    rig.host.links = [link()._replace(addresses=("10.0.0.254/8",))]
    prober = FakeProber()
    return prober, rig.exporter(prober=prober, **more)


def test_a_tick_tells_the_prober_of_the_peers_that_should_be_up_and_of_their_bytes(rig):
    prober, exporter = probing(rig)
    exporter.tick()
    (row,) = prober.peers
    assert (row.key, row.target, row.endpoint) == (("", "wg0", key(1)), "10.0.0.1", "192.0.0.1")
    assert prober.read == {row.key: (1001, 2001)}
    told = prober.peers
    rig.tick(exporter, device(peer(1, rx_bytes=5), peer(2, persistent_keepalive=0)))
    assert prober.peers is told
    assert prober.read == {row.key: (5, 2001)}


def test_a_scrape_shows_what_the_prober_knows_and_takes_nothing_from_it(rig):
    prober, exporter = probing(rig)
    exporter.tick()
    prober.known = {("", "wg0", key(1)): Probed("10.0.0.1", STATS, None)}
    for _ in range(2):
        assert of(exporter, "wireguard_probe_sent_total") == [7]
        assert of(exporter, "wireguard_exporter_probe_scheduling_delay_seconds") == [0.25]
    rig.tick(exporter)
    assert of(exporter, "wireguard_exporter_probe_scheduling_delay_seconds") == [0.0]


def test_a_reload_tells_the_prober_and_a_bad_one_does_not(rig, tmp_path):
    path = tmp_path / "config.yml"
    prober, exporter = probing(rig, path=path)
    path.write_text("probe: {interval: 9s}")
    assert exporter.reload() == ""
    path.write_text("probe: {interval: 0s}")
    assert exporter.reload() != ""
    assert prober.configured == [9.0]


def test_the_prober_is_stopped_with_the_exporter(rig):
    prober, exporter = probing(rig)
    exporter.stop()
    assert prober.stopped


def test_peers_that_nobody_can_tell_idle_from_dead_are_named_at_the_start(rig, lines):
    rig.host.devices = [device(peer(1, persistent_keepalive=0), peer(2), peer(3, persistent_keepalive=0))]
    exporter = rig.exporter(Config(expect=(ExpectRule(Expected.UP),)))
    for _ in range(3):
        rig.tick(exporter)
    found = [line for line in lines("peers") if line[0] == "peers can't be judged"]
    assert found == [("peers can't be judged", "2")]
    rig.tick(exporter, device(peer(1), peer(2), peer(3)))
    assert "peers can't be judged" not in {line[0] for line in lines("peers")}, "none is no warning"


def test_a_reload_that_expects_nobody_any_more_lets_go_of_a_device_that_is_gone(rig, tmp_path):
    path = tmp_path / "config.yml"
    path.write_text("{}")
    rig.host.devices = [device(peer(1), peer(2), name="wg1")]
    rig.host.links = [link("wg1", ifindex=8)]
    exporter = rig.exporter(path=path)
    rig.tick(exporter)
    rig.host.devices, rig.host.links = [], []
    for _ in range(7):
        rig.tick(exporter)
    assert of(exporter, "wireguard_peer_reason") == [1, 1]
    path.write_text(f"expect: [{{public_key: {key(1)}, state: any}}]")
    assert exporter.reload() == ""
    rig.tick(exporter)
    assert of(exporter, "wireguard_peer_reason") == [1], "the other one is still waited for"
    path.write_text("expect: [{state: any}]")
    assert exporter.reload() == ""
    rig.tick(exporter)
    assert of(exporter, "wireguard_peer_reason") == []
    assert found(exporter, UP) == {}
