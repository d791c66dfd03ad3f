"""What the exporter tells its prober, and what it shows of it."""

from __future__ import annotations

from tests.rigs import of
from tests.rows import device, key, link, peer
from wg_exporter.model import Probed, ProbeStats


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
        return self.known

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
