"""Who is watched on the wire, and for how long."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.probers import Unwatched
from tests.rows import WALL, FakeHost, FakeTime, conf_file, declared, device, key, link, peer, snapshot
from wg_exporter.config import Config
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.daemon.watching import AGAIN_EVERY, AGAIN_SECONDS, OPEN_SECONDS, TOGETHER, Watching
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.model import Backend, FailedDevice
from wg_exporter.sighted import WatchPeer

WG0 = ("", "wg0")
SUSPECTED = PeerHealth(State.UP)
DOWN = PeerHealth(State.DOWN, Reason.HANDSHAKE_UNANSWERED)


class Host:
    """Peers on wg0, of which those in `doubts` are in doubt, and what is opened for them."""

    def __init__(self, *numbers, **changes):
        self.watching = Watching()
        self.device = device(*map(peer, numbers or (1,)), **changes)
        self.underlays = {WG0: ""}
        self.doubts = {}
        self.failed = ()

    def at(self, now):
        """The windows that open at this second: who, and for how long."""
        shown = () if self.failed else (self.device,)
        found = [(WG0, key(number), health) for number, health in self.doubts.items()]
        windows = self.watching.follow(found, snapshot(*shown, at=now, failed=self.failed), self.underlays, now)
        return [(sorted(one.key[2] for one in window.peers), window.seconds) for window in windows]


def keys(*numbers):
    return sorted(map(key, numbers))


def test_nobody_is_watched_while_nobody_is_in_doubt():
    host = Host()
    assert [host.at(second) for second in range(0, 2000, 5)] == [[]] * 400


def test_a_peer_that_comes_under_suspicion_is_watched_once_for_half_a_minute():
    host = Host(1, 2)
    host.doubts = {1: SUSPECTED}
    assert host.at(10) == [(keys(1), OPEN_SECONDS)]
    assert [host.at(second) for second in range(11, 40)] == [[]] * 29


def test_it_is_watched_again_when_it_goes_down_and_when_the_reason_or_the_endpoint_changes():
    host = Host()
    host.doubts = {1: SUSPECTED}
    host.at(10)
    host.doubts = {1: DOWN}
    assert host.at(25) == [(keys(1), OPEN_SECONDS)]
    host.doubts = {1: DOWN._replace(down_seconds=9.0, evidence="another")}
    assert host.at(26) == []
    host.doubts = {1: DOWN._replace(reason=Reason.ONE_WAY)}
    assert host.at(27) == [(keys(1), OPEN_SECONDS)]
    host.device = device(peer(1, endpoint="203.0.113.9:9"))
    assert host.at(28) == [(keys(1), OPEN_SECONDS)]


def test_while_it_stays_so_it_is_watched_every_ten_minutes_for_a_shorter_time():
    host = Host()
    host.doubts = {1: DOWN}
    opened = [(second, seconds) for second in range(3000) for _, seconds in host.at(second)]
    rounds = AGAIN_EVERY + AGAIN_SECONDS
    first = OPEN_SECONDS + AGAIN_EVERY
    assert opened == [(0, OPEN_SECONDS), *((first + rounds * n, AGAIN_SECONDS) for n in range(4))]


def test_a_peer_that_recovers_and_comes_under_suspicion_again_is_watched_at_once():
    host = Host()
    host.doubts = {1: SUSPECTED}
    host.at(0)
    host.doubts = {}
    host.at(50)
    host.doubts = {1: SUSPECTED}
    assert host.at(51) == [(keys(1), OPEN_SECONDS)]


def test_those_that_stay_down_are_watched_together_so_that_the_socket_is_closed_most_of_the_time():
    host = Host(1, 2, 3)
    host.doubts = {1: DOWN}
    host.at(0)
    host.doubts = {1: DOWN, 2: DOWN}
    host.at(200)
    host.doubts = {1: DOWN, 2: DOWN, 3: DOWN}
    host.at(OPEN_SECONDS + AGAIN_EVERY - TOGETHER + 1)
    assert host.at(OPEN_SECONDS + AGAIN_EVERY) == [(keys(1, 2), AGAIN_SECONDS)]


def test_a_device_that_can_not_be_read_for_a_moment_brings_no_new_window():
    host = Host()
    host.doubts = {1: DOWN}
    host.at(0)
    host.failed, host.doubts = (FailedDevice("", "wg0", Backend.KERNEL, "busy"),), {2: DOWN}
    assert host.at(5) == []
    host.failed, host.doubts = (), {1: DOWN}
    assert host.at(10) == []


@pytest.mark.parametrize(
    "changes",
    [{"backend": Backend.AMNEZIAWG}, {"listen_port": 0}, {"public_key": ""}],
    ids=["AmneziaWG", "no port", "no key"],
)
def test_what_can_not_be_watched_is_not(changes):
    host = Host(**changes)
    host.doubts = {1: DOWN}
    assert host.at(0) == []


def test_nor_is_a_device_whose_socket_is_in_no_namespace_that_is_known():
    host = Host()
    host.doubts, host.underlays = {1: DOWN}, {WG0: None}
    assert host.at(0) == []


def test_ten_thousand_suspects_are_one_window():
    host = Host(*range(10_000))
    host.doubts = dict.fromkeys(range(10_000), DOWN)
    ((found, seconds),) = host.at(0)
    assert (len(found), seconds) == (10_000, OPEN_SECONDS)


# --- in the exporter --------------------------------------------------------------------------------------------------


class _Prober(Unwatched):
    def results(self):
        return {}

    def set_peers(self, peers): ...
    def configure(self, config): ...
    def counters(self, rows): ...
    def scheduling_delay(self): ...
    def stop(self): ...
    def usages(self):
        return ()


def test_the_tick_has_a_peer_watched_whose_initiations_go_unanswered():
    exporter, prober = _with_a_dead_peer(Config())
    assert prober.windows[0] == (
        (WatchPeer(("", "wg0", key(1)), "", peer(1).endpoint, 51820, key(999)),),
        OPEN_SECONDS,
    )
    exporter.stop()


def test_nobody_is_watched_where_the_configuration_says_so():
    exporter, prober = _with_a_dead_peer(Config(probe=replace(Config().probe, watch=False)))
    assert not hasattr(prober, "windows")
    exporter.stop()


def _with_a_dead_peer(config):
    host, time, prober = FakeHost(), FakeTime(), _Prober()
    exporter = Exporter(config, None, host.sources, time.clock, prober=prober)
    host.links = [link()]
    sent = 0
    for _ in range(12):
        sent += 148
        stamp = int((WALL - 10) * 1e9)
        host.devices = [device(peer(1, tx_bytes=sent, last_handshake_ns=stamp))]
        host.conf = (conf_file("wg0", declared(1, "berlin", peer(1).endpoint, persistent_keepalive=25)),)
        time.advance(5)
        exporter.tick()
    return exporter, prober


def test_whoever_is_looked_into_is_watched_though_nothing_is_in_doubt():
    config = Config()
    host, time, prober = FakeHost(), FakeTime(), _Prober()
    host.links, host.devices = [link()], [device(peer(1), peer(2))]
    exporter = Exporter(config, None, host.sources, time.clock, prober=prober)
    exporter.tick()
    snapshot, _, _ = exporter.look()
    one, nobody = ("", "wg0", key(1)), ("", "wg0", key(7))
    assert exporter.watched.open([one], snapshot, exporter._setup, 20.0)
    assert not exporter.watched.open([nobody], snapshot, exporter._setup, 20.0)
    assert [([row.key for row in rows], seconds) for rows, seconds in prober.windows] == [([one], 20.0)]
    exporter.stop()
