"""`wg-exporter show --watch` on a host of fake sources: what one look can't tell is told by several."""

from __future__ import annotations

import pytest

from tests.rows import SECOND, WALL, FakeHost, FakeTime, device, key, link, peer
from wg_exporter.config import Config
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.status.rows import from_view

INITIATION = 148


class Watch:
    """A host with one peer that should be up and was heard ten seconds ago, looked at every two seconds."""

    def __init__(self):
        self.host, self.time = FakeHost(), FakeTime()
        self.row = peer(1, last_handshake_ns=int((WALL - 10) * SECOND))
        self.host.devices, self.host.links = [device(self.row)], [link()]
        self.exporter = Exporter(Config(), None, self.host.sources, self.time.clock)

    def look(self):
        return from_view(*self.exporter.observe())

    def go(self, seconds, *, unanswered=False):
        """What is shown after so many seconds; with `unanswered`, an initiation goes out every six."""
        for second in range(0, seconds, 2):
            if unanswered and second % 6 == 0:
                self.row = self.row._replace(tx_bytes=self.row.tx_bytes + INITIATION)
                self.host.devices = [device(self.row)]
            self.time.advance(2)
            overview = self.look()
        return overview


@pytest.fixture
def watch():
    watch = Watch()
    yield watch
    watch.exporter.stop()


def told(overview):
    [row] = overview.devices
    [found] = row.peers
    return found.health.state, found.health.reason


def test_what_goes_unanswered_is_down_once_it_was_watched_for_long_enough(watch):
    assert told(watch.look()) == (None, None)
    assert told(watch.go(10, unanswered=True)) == (None, None)
    overview = watch.go(60, unanswered=True)
    assert told(overview) == ("down", "handshake_unanswered")
    assert "handshake initiations unanswered for" in overview.devices[0].peers[0].health.evidence


def test_a_peer_that_is_well_is_called_up_once_it_was_watched_for_long_enough_and_nothing_else_before(watch):
    found = [told(watch.go(2))[0] for _ in range(30)]
    assert found == [None] * found.count(None) + ["up"] * found.count("up")
    assert found[-1] == "up"


def test_the_peers_of_an_interface_that_vanishes_while_one_watches_are_down_and_stay_on_the_screen(watch):
    watch.go(6)
    watch.host.devices, watch.host.links = [], []
    overview = watch.go(40)
    assert told(overview) == ("down", "interface_gone")
    [gone] = overview.devices
    assert gone.gone == ("", "wg0")
    assert gone.peers[0].peer.public_key == key(1)
    assert overview.problems == ("wg0 is gone",)
    watch.host.devices, watch.host.links = [device(watch.row)], [link()]
    assert watch.go(2).devices[0].device is not None


def test_looks_without_watching_remember_nothing(watch):
    for _ in range(40):
        watch.time.advance(2)
        watch.row = watch.row._replace(tx_bytes=watch.row.tx_bytes + INITIATION)
        watch.host.devices = [device(watch.row)]
        assert told(from_view(*watch.exporter.look())) == (None, None)
