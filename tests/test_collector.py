"""The collector in a registry of its own: the samples of /metrics, read when collected and not before."""

from __future__ import annotations

import threading
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from tests.rows import SECOND, WALL, FakeHost, conf_file, declared, device, key, link, parsed, peer
from wg_exporter.collector import WireGuardCollector
from wg_exporter.config import ConfigError, load
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.model import Backend, FailedDevice, SourceName

# What differs from one look to the next, or with the object that looks.
VOLATILE = (
    "wireguard_exporter_source_duration_seconds",
    "wireguard_exporter_config_last_reload_success_timestamp_seconds",
)

CONFIG = """
namespaces: [{name: blue}]
interfaces: {expect: [wg9]}
metrics: {endpoint: address, exclude: [wireguard_interface_*_errors_total]}
"""


@pytest.fixture
def host():
    host = FakeHost()
    host.devices = [
        device(peer(1, last_handshake_ns=int(WALL) * SECOND + 123_456_789), peer(2, rx_bytes=2**53), name="wg0"),
        device(peer(1), netns="blue"),
        device(name="empty"),
    ]
    host.links = [link(), link(netns="blue"), link("empty", up=False)]
    host.failed = [FailedDevice("", "dead", Backend.USERSPACE, "no answer")]
    host.conf = (conf_file("wg0", declared(1, 'quote " backslash \\ newline \n Zoë')),)
    return host


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def collector(host, config):
    collector = WireGuardCollector(config, sources=host.sources)
    yield collector
    collector.close()


def comparable(samples):
    """Samples without those of the process, and volatile ones without their values."""
    return sorted(
        (name, sorted(labels), None if name in VOLATILE else value)
        for name, labels, value in samples
        if not name.startswith("process_")
    )


def headers(text):
    return {line for line in text.decode().splitlines() if line.startswith("# TYPE") and " process_" not in line}


def test_a_registry_gives_the_samples_of_metrics(host, config, collector):
    registry = CollectorRegistry()
    registry.register(collector)
    exporter = Exporter(load(config), None, host.sources)
    try:
        exporter.tick()  # as the collector does when it starts
        assert collector._exporter.wait_until_ready(30)
        for generate, om in ((generate_latest, False), (openmetrics.generate_latest, True)):
            theirs, ours = generate(registry), b"".join(exporter.scrape("", openmetrics=om))
            assert comparable(parsed([theirs], openmetrics=om)) == comparable(parsed([ours], openmetrics=om))
            assert headers(theirs) == headers(ours)
        assert registry.get_sample_value("wireguard_interface_up", {"interface": "wg9"}) == 0
        where = {"interface": "wg0", "public_key": key(1), "peer": key(1)[:8], "netns": "blue"}
        assert registry.get_sample_value("wireguard_peer_transmit_bytes_total", where) is None, "wg0.conf names it"
        where["peer"] = host.conf[0].peers[0].name
        assert registry.get_sample_value("wireguard_peer_transmit_bytes_total", where) == 2001
    finally:
        exporter.stop()


def test_a_registry_does_not_read_the_host_to_learn_names(host, monkeypatch):
    collector = WireGuardCollector(sources=host.sources)
    monkeypatch.setattr(collector, "collect", lambda: pytest.fail("it reads"))
    try:
        CollectorRegistry().register(collector)
        assert collector.describe() == []
    finally:
        collector.close()


def test_each_collection_reads_anew_and_no_family_is_without_a_sample(host, collector):
    families = list(collector.collect())
    assert "wireguard_interface_up" in {family.name for family in families}
    assert [family.name for family in families if not family.samples] == []
    host.devices, host.links, host.failed = [], [], []
    names = [family.name for family in collector.collect()]
    assert "wireguard_peer_receive_bytes" not in names
    assert len(set(names)) == len(names)


def test_its_own_thread_counts_handshakes_and_close_ends_all_threads(host):
    before = set(threading.enumerate())
    collector = WireGuardCollector(sources=host.sources)
    end = time.monotonic() + 30
    while not host.reads[SourceName.KERNEL] and time.monotonic() < end:
        time.sleep(0.005)
    assert host.reads[SourceName.KERNEL]
    threads = set(threading.enumerate()) - before
    assert len(threads) == 4, "three sources and the tick"
    collector.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_bad_configuration_is_said_at_once(tmp_path, host):
    (path := tmp_path / "config.yml").write_text("metrics: {exclude: [wireguard_nothing]}")
    with pytest.raises(ConfigError, match="wireguard_nothing"):
        WireGuardCollector(str(path), sources=host.sources)
    assert host.started == []


def test_without_arguments_it_collects_from_this_host():
    registry = CollectorRegistry()
    collector = WireGuardCollector()
    registry.register(collector)
    try:
        assert registry.get_sample_value("wireguard_exporter_devices") is not None
        assert registry.get_sample_value("wireguard_exporter_source_success", {"source": "conf"}) is not None
    finally:
        collector.close()
