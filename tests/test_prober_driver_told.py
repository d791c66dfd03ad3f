"""What many peers over one engine are found to be, by a clock that the test moves, and what is kept of them."""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path as File

import pytest

from tests.hands import TICK, Moved
from tests.probers import peer as other_peer
from tests.rows import WALL
from wg_exporter.config import MtuProbe, ProbeSettings
from wg_exporter.probed import Verdict
from wg_exporter.prober.path import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: raw sockets")


def peer(number=1, **fields):
    return other_peer(number, **({"interval": 0.2} | fields))


@pytest.fixture
def moved(monkeypatch):
    moved = Moved(monkeypatch)
    with contextlib.closing(moved.prober):
        yield moved


# --- byte counters ----------------------------------------------------------------------------------------------------


def test_a_silent_peer_is_unreachable_after_25_s_in_which_nothing_was_received_and_filtered_after_a_byte(moved):
    one = peer(target="192.0.2.1", endpoint="")
    moved.prober.set_peers([one])
    received = 100

    def read():
        if round(moved.clock.now / TICK) % 250 == 0:  # every 5 s, as the exporter does
            moved.prober.counters({one.key: (received, 100), peer(7).key: (1, 1)})

    moved.until(lambda: moved.verdict(one) is Verdict.INCONCLUSIVE, within=8, each=read)
    took = moved.until(lambda: moved.verdict(one) is Verdict.UNREACHABLE, within=60, each=read)
    assert 20 <= took <= 36
    received += 32
    moved.until(lambda: moved.verdict(one) is Verdict.FILTERED, within=6, each=read)


def test_without_byte_counters_nobody_says_that_nothing_was_received(moved):
    one = peer(target="192.0.2.1", endpoint="")
    moved.prober.set_peers([one])
    moved.run(90)
    assert moved.verdict(one) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("learned", ["received", "another endpoint", "another target"])
def test_a_peer_that_was_silent_for_long_is_probed_soon_after_something_new_is_known_of_it(moved, learned):
    one = peer(target="192.0.2.1", endpoint="", interval=5.0)
    moved.prober.set_peers([one])
    moved.prober.counters({one.key: (1000, 1000)})
    moved.run(300)
    moved.prober.counters({one.key: (1000, 2000)})
    before = len(moved.echoes())
    moved.run(60)
    assert len(moved.echoes()) - before <= 3, "it is asked rarely, and what was sent to it tells nothing"
    before = len(moved.echoes())
    if learned == "received":
        moved.prober.counters({one.key: (1092, 2000)})
    elif learned == "another endpoint":
        moved.prober.set_peers([one._replace(endpoint="127.0.0.1")])
    else:
        moved.prober.set_peers([one._replace(target="192.0.2.2")])
    moved.run(11)
    assert len(moved.echoes()) - before >= 2


def test_while_the_byte_counters_are_asked_no_small_echo_is_sent_and_after_it_they_go_on(moved):
    one = peer(target="192.0.2.1", endpoint="", interval=1.0)
    moved.prober.set_peers([one])
    moved.run(10)
    moved.packets.clear()
    moved.prober.ask_silent(one.key)
    assert moved.prober.busy(one.key)

    def read():
        if round(moved.clock.now / TICK) % 25 == 0:
            moved.prober.counters({one.key: (100, 100)})

    moved.run(20, each=read)
    assert moved.echoes() == []
    moved.until(moved.echoes, within=300, each=read)
    assert not moved.prober.busy(one.key)


def test_a_full_packet_to_a_silent_peer_leaves_right_after_its_keepalive(moved):
    """A keepalive of the peer that came 10 s after the packet would look like an answer in the byte counters."""
    one = peer(target="192.0.2.1", endpoint="")
    moved.prober.set_peers([one])
    moved.run(10)
    moved.packets.clear()
    moved.prober.ask_silent(one.key)
    begun, keepalives = moved.clock.now, []

    def read():
        if moved.clock.now >= begun + 20 + 25 * len(keepalives):
            keepalives.append(moved.clock.now)
        if round(moved.clock.now / TICK) % 25 == 0:
            moved.prober.counters({one.key: (100 + 32 * len(keepalives), 100)})

    moved.until(moved.full, within=100, each=read)
    assert 0.5 <= moved.clock.now - keepalives[-1] <= 1.2


# --- what is told -----------------------------------------------------------------------------------------------------


def test_of_what_changed_the_longest_ago_is_told_first_and_no_more_than_is_asked_for(moved):
    crowd = [peer(n, target=f"127.0.2.{n}", endpoint="", interval=3600.0) for n in range(1, 7)]
    for one in crowd:
        moved.prober.update({one.key: one})
    moved.run(1)  # their first checks
    assert moved.prober.changed == 0
    moved.told = None
    for one in crowd:  # a first probe each, in this order
        moved.prober.update({one.key: one._replace(interval=0.1)})
        for _ in range(10):
            moved.clock.now += TICK
            moved.prober.step(0.0)
        moved.prober.update({one.key: one})
    assert moved.prober.changed == 6
    assert moved.prober.changes(0) == ({}, {})
    first, rest = moved.prober.changes(2), moved.prober.changes(10)
    assert [*first.echoes, *rest.echoes] == [one.key for one in crowd]
    assert len(first.echoes) == 2
    assert moved.prober.changed == 0
    assert moved.prober.changes(10) == ({}, {})


def test_a_row_that_changed_may_change_what_is_told(moved):
    one = peer(interval=3600.0, endpoint="")
    moved.prober.set_peers([one, peer(2, interval=3600.0)])
    moved.run(1)
    moved.prober.changes(10)
    moved.prober.update({one.key: one._replace(mtu=1400)})
    assert moved.prober.changed == 1


def test_what_an_echo_brings_is_to_be_told_as_soon_as_it_was_read(monkeypatch):
    moved = Moved(monkeypatch, ProbeSettings(timeout=0.5, mtu=MtuProbe(inner_interval=3600.0)))
    with contextlib.closing(moved.prober):
        moved.prober.set_peers([peer(interval=2.0, endpoint="")])
        moved.wake(9.0)
        moved.prober.changes(10)
        begun = len(moved.echoes())
        while not moved.prober.changed:
            moved.prober.step(1.0)
        assert len(moved.echoes()) == begun + 1
        assert moved.clock.now - moved.echoes()[-1] < 0.01


def test_when_a_path_was_checked_is_told_by_the_wall_clock(moved):
    moved.prober.set_peers([peer(endpoint="", interval=1.0)])
    moved.until(lambda: moved.verdict(peer()) is Verdict.OK, within=3)
    checked = moved.full()[0][0]
    moved.run(20)
    assert moved.told[peer().key].mtu.checked == pytest.approx(WALL + checked, abs=2 * TICK)


def test_a_peer_with_another_target_is_another_one_of_which_nothing_is_known_yet(moved):
    one = peer(endpoint="", interval=0.2)
    moved.prober.set_peers([one])
    moved.until(lambda: moved.up(one) and moved.told[one.key].stats.sent > 5, within=5)
    moved.told.clear()
    lost = one._replace(target="192.0.2.1")
    moved.prober.set_peers([lost])
    assert moved.prober.changes(10) == ({}, {})
    moved.run(0.1)
    assert moved.told == {}
    moved.until(lambda: one.key in moved.told, within=2)
    assert (moved.up(lost), moved.told[one.key].target, moved.told[one.key].stats.sent) == (False, "192.0.2.1", 1)


def test_a_peer_whose_address_becomes_unusable_is_left_out(moved):
    moved.prober.set_peers([peer(), peer(2)])
    moved.until(lambda: moved.up(peer()) and moved.up(peer(2)), within=3)
    moved.prober.set_peers([peer(target="nonsense"), peer(2)])
    with pytest.raises(KeyError):
        moved.prober.findings(peer().key)
    moved.told.clear()
    moved.run(1)
    assert set(moved.told) == {peer(2).key}


def test_a_peer_that_loses_its_device_is_left_alone_and_is_not_scheduled(moved):
    one = peer(interval=0.2)
    moved.prober.set_peers([one])
    moved.until(lambda: moved.up(one), within=3)
    moved.prober.search(one.key)
    moved.prober.set_peers([one._replace(ifindex=0)])
    moved.packets.clear()
    moved.run(90)
    assert moved.packets == []
    moved.prober.set_peers([one])
    moved.until(lambda: moved.verdict(one) is Verdict.OK and moved.echoes(), within=3)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_silence_costs_no_memory_however_long_it_lasts(moved):
    """Peers that answer nothing, inside and outside, of which probe after probe is forgotten."""
    moved.prober.set_peers([peer(n, target="192.0.2.1", endpoint="192.0.2.1", interval=0.05) for n in range(20)])

    def resident():
        moved.packets.clear()
        return int(File("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    moved.run(8, each=moved.packets.clear)
    before = resident()
    moved.run(24, each=moved.packets.clear)
    assert resident() - before < 1 << 20
    assert {moved.up(peer(n)) for n in range(20)} == {False}
    assert moved.told[peer(0).key].stats.lost > 200


def test_of_peers_that_are_gone_nothing_is_kept(moved):
    stays = peer(999, interval=1.0)
    moved.prober.set_peers([stays])
    for turn in range(3):
        crowd = [peer(n, target="192.0.2.1", endpoint="") for n in range(20 * turn, 20 * turn + 20)]
        moved.prober.set_peers([stays, *crowd])
        moved.run(8)
        for one in crowd:
            moved.prober.search(one.key)
        moved.run(0.5)
        moved.prober.counters({one.key: (1, 1) for one in crowd})
        moved.prober.set_peers([stays])
    moved.run(130)  # in which the schedule and the packets of those that are gone have had their time
    gc.collect()
    ours = [path.peer.key for path in gc.get_objects() if isinstance(path, Path) and path.peer.key[:2] == stays.key[:2]]
    assert set(ours) == {stays.key}
