"""The exporter as one object: what a tick counts and what a scrape shows; with fake sources."""

from __future__ import annotations

import gc
import re
import threading
import tracemalloc

import pytest

from tests.rigs import UP, found, labelled, of, shaken
from tests.rows import WALL, conf_file, declared, device, key, link, parsed, peer
from tests.serving import eventually
from wg_exporter.config import Config, Expected, ExpectRule, Interfaces, Metrics, NamespaceConfig, PeerConfig
from wg_exporter.daemon.exporter import Status
from wg_exporter.health.states import State
from wg_exporter.health.summary import Summary
from wg_exporter.model import Backend, FailedDevice, SourceName
from wg_exporter.sources import StoppedError

# --- drift -----------------------------------------------------------------------------------------------------------


def test_a_scrape_and_the_document_say_how_a_device_differs_from_its_file_at_once_and_without_a_tick(rig):
    exporter = rig.exporter()
    rig.host.links = [link()]
    rig.host.devices = [device(peer(1))]
    rig.host.conf = (conf_file("wg0", declared(1, "anna", allowed_ips=("10.0.0.1/32",), persistent_keepalive=7)),)
    differing = {dict(labels)["kind"]: number for labels, number in found(exporter, "wireguard_config_drift").items()}
    assert {kind: number for kind, number in differing.items() if number} == {"keepalive": 1}
    (row,) = exporter.overview().devices
    assert [(one.kind, one.file, one.device) for one in row.drift.differences] == [("keepalive", "7", "25")]
    rig.host.conf = ()
    assert found(exporter, "wireguard_config_drift") == {}
    assert exporter.overview().devices[0].drift is None


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


def test_a_status_names_fifty_peers_and_twenty_problems_at_most(rig):
    rig.host.devices = [device(*(peer(n) for n in range(60)))]
    expect = tuple(f"gone{n:02}" for n in range(30))
    exporter = rig.exporter(Config(Interfaces(expect=expect)))
    for _ in range(8):
        rig.tick(exporter)
    status = exporter.status()
    assert (status.summary.expected, status.summary.down, len(status.summary.unhealthy)) == (60, 60, 50)
    assert status.problems == tuple(f"{name} is gone" for name in expect[:20])
    assert status.wall == WALL + 40


def test_before_the_first_tick_the_status_is_that_of_a_host_without_peers(rig):
    assert rig.exporter().status() == Status(WALL, Summary(), ())


def test_who_looks_again_and_again_without_a_tick_sees_counts_and_states_too(rig):
    exporter = rig.exporter()
    exporter.observe()
    rig.time.advance(5)
    rig.host.devices = [device(shaken(1, 5, rx_bytes=peer(1).rx_bytes + 124), peer(2, persistent_keepalive=0))]
    snapshot, view, config = exporter.observe()
    assert snapshot.devices == tuple(rig.host.devices)
    assert [counts.handshakes for counts in view.devices[0].counts] == [1, 0]
    assert [health.state for health in view.devices[0].health] == [State.UP, State.NEVER]
    assert config == Config()


# --- ready ------------------------------------------------------------------------------------------------------------


def test_ready_after_the_first_look_and_not_before(rig):
    rig.host.stuck[SourceName.KERNEL] = threading.Event()
    exporter = rig.exporter()
    assert "not been read yet" in exporter.ready()
    exporter.start()
    assert not exporter.wait_until_ready(0.05)
    assert exporter.ready()
    rig.host.stuck.pop(SourceName.KERNEL).set()
    assert exporter.wait_until_ready(30)
    assert exporter.ready() == ""


def test_a_host_that_can_not_be_read_does_not_keep_the_exporter_from_saying_so(rig):
    rig.host.problems = dict.fromkeys((SourceName.KERNEL, SourceName.LINKS, SourceName.CONF), "no permission")
    exporter = rig.exporter()
    exporter.start()
    assert exporter.wait_until_ready(30)
    assert of(exporter, "wireguard_exporter_source_success") == [0, 0, 0]


def test_a_stopped_exporter_neither_ticks_nor_answers(rig):
    before = set(threading.enumerate())
    exporter = rig.exporter(every=0.01)
    exporter.start()
    exporter.wait_until_ready(30)
    threads = set(threading.enumerate()) - before
    assert len(threads) == 4
    exporter.stop()
    with pytest.raises(StoppedError):
        exporter.scrape("")
    for thread in threads:
        thread.join(30)
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
    assert b"wireguard_interface_mtu" not in body


def test_the_age_in_mindflavors_exposition_is_by_the_clock_of_the_scrape(rig):
    rig.host.devices = [device(shaken(1, -60))]
    rig.time.advance(30)
    page = b"".join(rig.exporter().scrape("mindflavor"))
    assert re.search(rb"^wireguard_latest_handshake_delay_seconds\{.*\} 90$", page, re.MULTILINE)


@pytest.mark.parametrize("page", ["mindflavor", "mdlayher"])
def test_a_failed_source_is_told_on_the_pages_of_the_other_exporters_too(rig, page):
    rig.host.problems[SourceName.KERNEL] = "no permission"
    chunks = rig.exporter().scrape(page)
    ours = {name for name, _, _ in parsed(chunks, openmetrics=False) if name.startswith("wireguard_exporter_")}
    assert ours == {"wireguard_exporter_source_success"}
    assert b'wireguard_exporter_source_success{source="kernel"} 0\n' in b"".join(chunks)


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
