"""What a reload swaps, what outlives it, and what it does to those who read meanwhile; with fake sources."""

from __future__ import annotations

import json
import re
import threading

import pytest

from tests.rigs import UP, found, labelled, of
from tests.rows import WALL, conf_file, declared, device, key, link, parsed, peer
from tests.serving import eventually
from tests.test_exporter_probing import FakeProber
from tests.threads import inside
from wg_exporter.catalogue import NAMES
from wg_exporter.config import Config, NamespaceConfig, load
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.reader.host import reader_of

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


def test_a_reload_is_logged_with_its_file(rig, tmp_path, caplog):
    caplog.set_level("INFO", "wg_exporter")
    named(path := tmp_path / "config.yml", "anna")
    exporter = rig.exporter(path=path)
    exporter.reload()
    assert [(line.getMessage(), line.fields) for line in caplog.records] == [("configuration reloaded", {"file": path})]


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
    assert [(line.getMessage(), line.fields["problem"]) for line in caplog.records] == [
        ("configuration not reloaded", problem) for problem in problems.splitlines()
    ]
    assert labelled(interface="wg0", peer="anna") in found(exporter, "wireguard_peer_allowed_ips")
    assert (of(exporter, RELOADED), of(exporter, RELOADED_AT)) == ([0], [WALL])
    said = "the configuration on disk was refused, and an older one is in use: `wg-exporter check` says why"
    assert said in json.loads(exporter.document(private=False))["problems"]
    named(path, "berta")
    assert exporter.reload() == ""
    assert (of(exporter, RELOADED), of(exporter, RELOADED_AT)) == ([1], [WALL + 60])
    assert said not in json.loads(exporter.document(private=False))["problems"]


def test_without_a_file_there_is_nothing_to_reload_and_that_is_no_failure(rig, caplog):
    exporter = rig.exporter()
    problem = exporter.reload()
    assert "no configuration file" in problem
    assert of(exporter, RELOADED) == [1]
    assert [(line.getMessage(), line.fields) for line in caplog.records] == [
        ("configuration not reloaded", {"problem": problem})
    ]


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


def test_a_reload_while_an_interface_is_gone_keeps_what_the_files_said_of_its_peers(rig, tmp_path):
    """Names and expectations: the new configuration is asked of peers that are gone before it has read any file."""
    rules = "expect: [{name: carla, state: up}]"
    (path := tmp_path / "config.yml").write_text(rules)
    called, caller = declared(1, "anna", endpoint="vpn.example:51820"), declared(2, "berta")
    rig.host.conf = (conf_file("wg0", called, caller, declared(3, "carla")),)
    rig.host.devices = [device(peer(1), peer(2), peer(3, persistent_keepalive=0))]
    exporter = rig.exporter(load(path, NAMES), path)
    rig.tick(exporter)
    rig.host.devices = rig.host.links = []
    for _ in range(8):
        rig.tick(exporter)

    def known():
        return [sample for sample in parsed(exporter.scrape(""), openmetrics=False) if "peer" in dict(sample[1])]

    before = known()
    assert {dict(labels)["peer"] for _, labels, _ in before} == {"anna", "carla"}
    assert of(exporter, "wireguard_peer_expected_up") == [1, 1]
    assert exporter.reload() == ""
    assert known() == before
    rig.tick(exporter)
    assert exporter.status().summary.expected == 2


def test_an_interface_that_is_gone_is_missed_no_longer_once_it_is_excluded(rig, tmp_path):
    (path := tmp_path / "config.yml").write_text("{}")
    exporter = rig.exporter(path=path)
    rig.tick(exporter)
    rig.host.devices = rig.host.links = []
    rig.tick(exporter)
    path.write_text("interfaces: {exclude: [wg0]}")
    assert of(exporter, UP) == [0]
    assert exporter.reload() == ""
    assert of(exporter, UP) == []


@pytest.mark.parametrize("error", [OSError("too many open files"), RuntimeError("can't start new thread")])
def test_sources_that_can_not_be_started_leave_the_old_ones_in_use_and_no_thread_behind(rig, tmp_path, error, caplog):
    named(path := tmp_path / "config.yml", "anna")
    short = False

    def workers(config, clock):
        made = rig.host.workers(config, clock)
        yield next(made)
        yield next(made)
        if short:
            raise error
        yield from made

    def sources(config, clock):
        return reader_of(workers(config, clock), clock)

    exporter = Exporter(load(path, NAMES), path, sources, rig.time.clock)
    rig.made.append(exporter)
    short, threads = True, set(threading.enumerate())
    named(path, "berta")
    assert exporter.reload() == str(error)
    assert (of(exporter, RELOADED), of(exporter, RELOADED_AT)) == ([0], [WALL])
    assert [(line.getMessage(), line.fields["problem"]) for line in caplog.records] == [
        ("configuration not reloaded", str(error))
    ]
    assert labelled(interface="wg0", peer="anna") in found(exporter, "wireguard_peer_allowed_ips")
    eventually(lambda: set(threading.enumerate()) <= threads)  # those of earlier tests may end meanwhile


class Broken:
    """A step of a reload that fails in a way that nobody foresaw, once it is told to."""

    def __init__(self, rig, path):
        self.rig, self.path, self.step = rig, path, ""

    def fail(self, step):
        if step == self.step:
            raise KeyError("secret of the file")

    def __fspath__(self):
        self.fail("load")
        return str(self.path)

    def workers(self, config, clock):
        made = self.rig.host.workers(config, clock)
        yield next(made)
        self.fail("workers")
        yield from made

    def sources(self, config, clock):
        return reader_of(self.workers(config, clock), clock)


class FailingProber(FakeProber):
    def __init__(self, broken):
        super().__init__()
        self.broken = broken

    def configure(self, config):
        self.broken.fail("prober")
        super().configure(config)


BY_NETWORK = "expect: [{allowed_ip: 10.0.0.0/8, state: up}]"


@pytest.mark.parametrize("step", ["load", "workers", "prober", "the tracker's question", "the health's question"])
def test_a_reload_that_fails_in_a_way_nobody_foresaw_leaves_everything_as_it_was_and_one_line(
    rig, tmp_path, step, caplog
):
    """Two devices are gone, and missed. The new file would forget one of them, and ask for the networks of the other's
    peers: the kernel gave one that is none. The tracker asks only until a peer is expected, the health of peers always.
    """
    path = tmp_path / "config.yml"
    path.write_text(f"namespaces: [{{name: blue}}]\npeers: [{{public_key: '{key(1)}', name: anna}}]")
    broken = Broken(rig, path)
    prober = FailingProber(broken)
    rows = peer(1), peer(2, allowed_ips=("no network",) if "question" in step else ("10.0.0.2/32",))
    rig.host.devices = [device(*(rows if "health" in step else rows[::-1])), device(peer(3), netns="blue")]
    rig.host.links = [link(), link(netns="blue")]
    exporter = Exporter(load(path, NAMES), broken, broken.sources, rig.time.clock, prober=prober)
    rig.made.append(exporter)
    rig.tick(exporter)
    rig.host.devices, rig.host.links = [], []
    rig.tick(exporter)
    before, threads = parsed(exporter.scrape(""), openmetrics=False), set(threading.enumerate())
    assert sorted(dict(labels).get("netns", "") for name, labels, _ in before if name == UP) == ["", "blue"]

    path.write_text(BY_NETWORK)
    broken.step, prober.configured = step, []
    problem = exporter.reload()
    assert re.fullmatch(r"unexpected (KeyError|ValueError) in \w+\.py:\d+", problem)
    assert [(line.getMessage(), line.fields) for line in caplog.records if line.levelname == "ERROR"] == [
        ("configuration not reloaded", {"problem": problem})
    ]
    assert of(exporter, RELOADED) == [0]
    eventually(lambda: set(threading.enumerate()) <= threads)  # those of earlier tests may end meanwhile

    def steady(samples):
        return [row for row in samples if not row[0].startswith(("process_", "wireguard_exporter_", "python_"))]

    assert steady(parsed(exporter.scrape(""), openmetrics=False)) == steady(before)
    assert prober.configured == []
    rig.host.devices = [device(peer(1))]
    rig.tick(exporter)
    assert labelled(interface="wg0", peer="anna") in found(exporter, "wireguard_peer_allowed_ips")


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
        thread.join(30)
    assert failures == []
    assert len(bodies) >= 4
    assert all(body.count(b'\nwireguard_peer_allowed_ips{interface="wg0"') == 2 for body in bodies)
    assert all(body.count(b'peer="name-') in {11, 16} for body in bodies)
    # The three sources of the last configuration live on; of the 28 in between nothing does.
    eventually(lambda: len(set(threading.enumerate()) - before) == 3)


def test_of_two_reloads_at_once_the_later_file_wins(tmp_path):
    file, calls, gate = tmp_path / "config.yml", [], threading.Event()

    def sources(config, clock):
        calls.append(config)
        if len(calls) == 2:
            gate.wait(30)
        return reader_of([], clock)

    exporter = Exporter(Config(), file, sources)
    reloads = []
    for name in ("early", "late"):
        file.write_text(f"interfaces: {{expect: [{name}]}}\n")
        reloads.append(threading.Thread(target=exporter.reload))
        reloads[-1].start()
        eventually(lambda: len(calls) == 2 and inside(reloads[-1], Exporter.reload))
    gate.set()
    for reload in reloads:
        reload.join(30)
    assert exporter.look()[2].interfaces.expect == ("late",)


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
