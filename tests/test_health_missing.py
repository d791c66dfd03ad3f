"""Peers that should be on a device and are not: who is missed, when, and how it ends."""

from __future__ import annotations

import pytest

from tests.rows import SECOND, WALL, device, key, link, peer, snapshot
from tests.tunnels import KEEPALIVE, LIMITS, LINKS_READ, Judge
from wg_exporter.health.missing import ROLLOUT_SECONDS, described
from wg_exporter.health.states import Reason, State
from wg_exporter.model import ConfFile, ConfPeer
from wg_exporter.names.identity import PeerMeta

PATH = "/etc/wireguard/wg0.conf"


def file(*numbers, path=PATH, interface="wg0", **changes):
    peers = tuple(ConfPeer(key(n), f"peer{n}", "192.0.2.1:51820", (), 25) for n in numbers)
    return ConfFile(path, interface, peers, **changes)


class Host:
    """A device with peers, all of them heard, and files that describe it; looked at every 5 s. Peers below 10 are
    expected up.
    """

    def __init__(self, *numbers, files=(), others=()):
        self.health, self.now, self.received = Judge(), 0.0, 1000
        self.numbers, self.files, self.there = list(numbers), tuple(files), True
        self.others = {"wg0": {key(n): ConfPeer(key(n)) for n in others}} if others else {}
        self.changes = []
        self.go(5)

    def go(self, seconds):
        for _ in range(int(seconds / 5)):
            self.now, self.received = self.now + 5, self.received + KEEPALIVE
            stamp = int((WALL - 10) * SECOND)
            rows = [peer(n, rx_bytes=self.received, last_handshake_ns=stamp) for n in self.numbers]
            shown = (device(*rows),) if self.there else ()
            links = (link(),) if self.there else ()
            found = snapshot(*shown, at=self.now, links=links, outcomes=(LINKS_READ,), conf=self.files)
            metas = lambda one: tuple(self.meta(("", "wg0"), row) for row in one.peers)  # noqa: E731
            self.health.look(found, metas, {}, {("", "wg0")}, LIMITS)
            devices = self.health.found
            self.changes += self.health.miss(devices, found, self.others, self.meta, LIMITS)
        return self

    def meta(self, _device, row):
        number = next(n for n in range(100) if key(n) == row.public_key)
        return PeerMeta(f"peer{number}", True, number < 10)

    @property
    def missed(self):
        """State, reason and whether it is expected up, by number, of those that the device lacks."""
        found = {}
        for gone in self.health.lacking():
            for public_key, meta, row in zip(gone.public_key, gone.metas, gone.rows, strict=True):
                assert meta.name == f"peer{next(n for n in range(100) if key(n) == public_key)}"
                found[int(meta.name.removeprefix("peer"))] = (row.state, row.reason, meta.expected_up)
        return found


def test_a_peer_that_left_its_device_while_its_file_describes_it_is_down_after_25_seconds():
    host = Host(1, 2, files=[file(1, 2)])
    host.numbers.remove(2)
    host.go(25)
    assert host.missed == {}
    host.go(5)
    assert host.missed == {2: (State.DOWN, Reason.MISSING, True)}
    (change,) = host.changes
    assert (change.before, change.after, change.name) == (None, State.DOWN, "peer2")
    assert change.evidence == f"it left the device 25 s ago, and {PATH} describes it"
    assert host.health.count(State.DOWN) == 1
    host.go(600)
    ((row,),) = (gone.rows for gone in host.health.lacking())
    assert (row.changes, row.down_seconds, row.changed_at) == (1, 600, WALL + 35)


def test_one_that_nobody_expects_up_is_degraded():
    host = Host(1, 12, files=[file(1, 12)])
    host.numbers.remove(12)
    assert host.go(30).missed == {12: (State.DEGRADED, Reason.MISSING, False)}


def test_one_that_comes_back_is_missed_no_more():
    host = Host(1, 2, files=[file(1, 2)])
    host.numbers.remove(2)
    host.go(60)
    host.numbers.append(2)
    assert host.go(5).missed == {}
    assert [row.state for row in host.health.of(device(peer(1), peer(2)))] == [State.UP, None]


def test_one_that_a_scrape_is_the_first_to_find_back_is_not_shown_twice():
    host = Host(1, 2, 3, files=[file(1, 2, 3)])
    host.numbers = [1]
    host.go(60)
    (both,) = host.health.lacking([device(peer(1))])
    assert both.public_key == (key(2), key(3))
    (one,) = host.health.lacking([device(peer(1), peer(2))])
    assert (one.public_key, one.metas, one.rows) == (both.public_key[1:], both.metas[1:], both.rows[1:])
    assert host.health.lacking([device(peer(1), peer(2), peer(3))]) == ()


def test_one_that_is_removed_from_device_and_file_is_gone_without_a_word():
    host = Host(1, 2, files=[file(1, 2)])
    host.numbers.remove(2)
    host.go(15)
    host.files = (file(1),)
    assert host.go(1200).missed == {}
    assert host.changes == []


def test_one_that_was_missed_and_is_removed_from_the_file_is_missed_no_more():
    host = Host(1, 2, files=[file(1, 2)])
    host.numbers.remove(2)
    host.go(60)
    host.files = (file(1),)
    assert host.go(5).missed == {}


def test_one_that_was_never_loaded_is_degraded_after_ten_minutes_in_which_the_file_did_not_change():
    """Rollouts write the file first."""
    host = Host(1, files=[file(1, 2)])
    host.go(300)
    host.files = (file(1, 2, 13),)
    host.go(ROLLOUT_SECONDS - 5)
    assert host.missed == {}
    host.go(10)
    assert host.missed == {2: (State.DEGRADED, Reason.MISSING, True), 13: (State.DEGRADED, Reason.MISSING, False)}
    assert host.changes[0].evidence == f"it was never on the device, and {PATH} describes it"
    assert [change.after for change in host.changes] == [State.DEGRADED, State.DEGRADED]


def test_one_for_which_our_own_configuration_waits_is_down_after_25_seconds_wherever_it_was():
    host = Host(1, others=[2])
    host.go(20)
    assert host.missed == {}
    assert host.go(5).missed == {2: (State.DOWN, Reason.MISSING, True)}
    assert "the configuration of wg-exporter expects it up" in host.changes[0].evidence


def test_while_the_device_is_gone_or_can_not_be_read_nobody_is_missed_anew():
    host = Host(1, 2, files=[file(1, 2)])
    host.there = False
    host.go(60)
    host.there = True
    host.numbers.remove(2)
    host.go(20)
    assert host.missed == {}


def test_the_same_columns_are_shown_while_nothing_changes():
    host = Host(1, 12, files=[file(1, 12)])
    host.numbers.remove(12)
    host.go(30)
    (before,) = host.health.lacking()
    host.go(30)
    (after,) = host.health.lacking()
    assert all(old is new for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param([file(1, 2)], {1, 2}, id="its-own-file"),
        pytest.param(
            [file(1, 2), file(1, 9, path="/etc/wireguard/old.conf", interface="old")], {1, 2}, id="not-a-copy"
        ),
        pytest.param([file(1, 9, path="/srv/all.conf", interface="all")], {1, 9}, id="one-that-shares-a-peer"),
        pytest.param([file(8, 9, path="/srv/all.conf", interface="all")], set(), id="not-one-of-another-device"),
        pytest.param([file(1, 2, saved=True)], set(), id="not-what-wg-quick-saves-itself"),
        pytest.param([file(1), file(2, path="/etc/systemd/network/wg0.netdev")], {1, 2}, id="two-files-of-it"),
    ],
)
def test_who_should_be_on_a_device_is_said_by_the_files_that_would_be_loaded_for_it(files, found):
    assert described(device(peer(1)), files, {}).keys() == {key(n) for n in found}


def test_files_describe_no_device_of_another_namespace():
    assert described(device(peer(1))._replace(netns="blue"), [file(1, 2)], {}) == {}
