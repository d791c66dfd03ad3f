"""What the exporter tells its prober, and what it shows of it."""

from __future__ import annotations

from tests.probers import Unwatched
from tests.rigs import found, of, shaken
from tests.rows import device, key, link, peer
from wg_exporter.config import Config, Expected, ExpectRule, NamespaceConfig, ProbeSettings
from wg_exporter.model import Usage
from wg_exporter.probed import Probed, ProbeStats


class FakeProber(Unwatched):
    """Remembers what it was told, and knows what the test says."""

    def __init__(self):
        self.peers, self.read, self.known, self.configured, self.stopped = (), {}, {}, [], False
        self.delays, self.running = [0.25], []

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

    def usages(self):
        return self.running

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


def test_counters_that_could_not_be_read_again_are_not_told_as_just_read(rig):
    prober, exporter = probing(rig)
    rig.tick(exporter)
    assert prober.read == {("", "wg0", key(1)): (1001, 2001)}
    rig.tick(exporter, device(peer(1), fresh=False))
    assert [row.key for row in prober.peers] == [("", "wg0", key(1))]
    assert prober.read == {}


def test_the_prober_is_told_of_peers_of_all_devices_and_namespaces_apart(rig):
    rig.host.devices = [device(peer(1)), device(peer(1, rx_bytes=5), name="wg1"), device(peer(1), netns="blue")]
    prober, exporter = probing(rig, config=Config(namespaces=(NamespaceConfig("blue"),)))
    home = rig.host.links[0]
    rig.host.links = [home, home._replace(name="wg1", ifindex=8), home._replace(netns="blue")]
    rig.tick(exporter)
    assert {key_[:2] for key_ in prober.read} == {row.key[:2] for row in prober.peers}
    assert prober.read == {
        ("", "wg0", key(1)): (1001, 2001),
        ("", "wg1", key(1)): (5, 2001),
        ("blue", "wg0", key(1)): (1001, 2001),
    }


def test_what_the_prober_finds_decides_how_a_peer_is(rig):
    rig.host.devices = [device(shaken(1, -10))]
    prober, exporter = probing(rig)
    since = rig.time.monotonic
    for at in range(1, 13):
        lost = STATS._replace(up=False, sent=7 + 5 * at, lost=2 + 5 * at, silent_since=since)
        prober.known = {("", "wg0", key(1)): Probed("10.0.0.1", lost, None)}
        rig.tick(exporter)
    assert {dict(at)["state"] for at, value in found(exporter, "wireguard_peer_state").items() if value} == {"down"}


def test_without_a_prober_no_delay_is_told_and_before_the_first_tick_none_either(rig):
    delay = "wireguard_exporter_probe_scheduling_delay_seconds"
    alone = rig.exporter()
    rig.tick(alone)
    assert of(alone, delay) == []
    _prober, exporter = probing(rig)
    assert of(exporter, delay) == []
    rig.tick(exporter)
    assert of(exporter, delay) == [0.25]


def test_the_bounds_of_round_trips_are_those_of_the_configuration(rig):
    prober, exporter = probing(rig, config=Config(probe=ProbeSettings(rtt_buckets=(0.5, 1.0))))
    rig.tick(exporter)
    prober.known = {("", "wg0", key(1)): Probed("10.0.0.1", STATS._replace(buckets=(4, 1, 0)), None)}
    bounds = {dict(at)["le"] for at in found(exporter, "wireguard_probe_rtt_seconds_bucket")}
    assert bounds == {"0.5", "1.0", "+Inf"}


def test_the_process_of_the_prober_is_part_of_what_the_exporter_costs(rig):
    prober, exporter = probing(rig)
    (alone,) = of(exporter, "process_virtual_memory_bytes")
    prober.running = [Usage(virtual=1 << 44)]
    (together,) = of(exporter, "process_virtual_memory_bytes")
    assert 1 << 44 <= together < (1 << 44) + 2 * alone


def test_a_peer_that_should_be_probed_and_can_not_be_is_logged_where_there_is_a_prober(rig, caplog):
    rig.host.devices = [device(peer(1, endpoint=""))]
    alone = rig.exporter()
    rig.tick(alone)
    assert "not probed" not in caplog.text
    _prober, exporter = probing(rig)
    rig.tick(exporter)
    (line,) = (line for line in caplog.records if line.getMessage() == "not probed")
    assert line.fields["public_key"] == key(1)


def test_a_peer_that_is_probed_can_be_judged_though_it_sends_nothing_by_itself(rig, caplog):
    quiet = device(peer(1, persistent_keepalive=0))
    config = Config(expect=(ExpectRule(Expected.UP),))
    _prober, exporter = probing(rig, config=config)
    rig.tick(exporter, quiet)
    assert "peers can't be judged" not in caplog.text
    rig.tick(rig.exporter(config), quiet)
    assert "peers can't be judged" in caplog.text


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
