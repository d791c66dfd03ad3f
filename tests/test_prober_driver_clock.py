"""Many peers over one engine, by a clock that the test moves: what is sent when, and what is told of it."""

from __future__ import annotations

import contextlib
import errno
import os
from itertools import pairwise
from pathlib import Path

import pytest

from tests.hands import TICK, Moved, answering
from tests.lab import Lab, lab_prefix
from tests.probers import peer as other_peer
from tests.rows import WALL
from wg_exporter.model import SendError, Verdict
from wg_exporter.prober import carrier
from wg_exporter.prober.lane import open_here
from wg_exporter.prober.pmtu import LARGEST_FOR_SEARCH
from wg_exporter.prober.probes import Layer
from wg_exporter.prober.settings import ProbeSettings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: raw sockets and network namespaces")

SELDOM = ProbeSettings(timeout=0.5, inner_interval=3600.0, outer_interval=3600.0)


def peer(number=1, **fields):
    return other_peer(number, **({"interval": 0.2} | fields))


def inside(number=1, **fields):
    """A peer that is probed in the namespace `n`."""
    return peer(number, key=("n", "lo", f"k{number}"), underlay="n", endpoint="", target=f"127.0.1.{number}", **fields)


@pytest.fixture
def moved(monkeypatch):
    moved = Moved(monkeypatch)
    with contextlib.closing(moved.prober):
        yield moved


@pytest.fixture
def place(tmp_path):
    with Lab(lab_prefix(), tmp_path / "lab") as lab:
        yield lab.namespace("n")


@pytest.fixture
def there(monkeypatch, place):
    """Where peers can be made to answer or not; full-size packets go out at the start, after a change, or on demand."""
    moved = Moved(monkeypatch, SELDOM, namespaces={"n": f"/run/netns/{place.name}"})
    with contextlib.closing(moved.prober):
        yield moved


# --- sockets ----------------------------------------------------------------------------------------------------------


def test_a_socket_that_could_not_be_opened_once_is_tried_again(monkeypatch):
    asked = []

    def opener(*what):
        asked.append(what)
        if len(asked) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return open_here(*what)

    moved = Moved(monkeypatch, open_socket=opener)
    with contextlib.closing(moved.prober):
        moved.prober.set_peers([peer(endpoint="")])
        moved.run(1.5)
        assert len(asked) == 1, "a host without files is not asked at each probe"
        assert dict(moved.told[peer().key].stats.errors)[SendError.OTHER] > 1
        moved.until(lambda: moved.up(peer()), within=1.5)
        assert len(asked) == 2


def test_in_the_end_all_sockets_are_closed(monkeypatch):
    opened = []
    moved = Moved(monkeypatch, open_socket=lambda *what: opened.append(open_here(*what)) or opened[-1])
    moved.prober.set_peers([peer(), peer(2, fwmark=51)])
    moved.run(1)
    assert len(opened) >= 2
    moved.prober.close()
    assert [one.fileno() for one in opened] == [-1] * len(opened)


def test_namespaces_are_looked_at_every_5_s(moved, monkeypatch):
    looks = []
    monkeypatch.setattr(carrier.Carrier, "follow_namespaces", lambda _self: looks.append(moved.clock.now))
    moved.run(21)
    assert len(looks) == 5
    assert [later - sooner for sooner, later in pairwise(looks)] == pytest.approx([5.0] * 4, abs=2 * TICK)


# --- when -------------------------------------------------------------------------------------------------------------


def test_full_size_packets_go_out_at_the_intervals_that_are_configured(monkeypatch):
    moved = Moved(monkeypatch, ProbeSettings(timeout=0.5, inner_interval=7.0, outer_interval=11.0))
    with contextlib.closing(moved.prober):
        moved.prober.set_peers([peer()])
        moved.run(60)
    inner = [when for when, _ in moved.full()]
    outer = [when for when, _ in moved.full(Layer.OUTER, LARGEST_FOR_SEARCH)]
    assert [round(b - a) for a, b in pairwise(inner)] == [7] * 8
    assert [round(b - a) for a, b in pairwise(outer)] == [11] * 5


def test_a_probe_is_lost_after_the_timeout_that_is_configured(monkeypatch):
    moved = Moved(monkeypatch, ProbeSettings(timeout=2.0, suspect_interval=0.5))
    lost = peer(target="192.0.2.1", endpoint="", interval=10.0)
    with contextlib.closing(moved.prober):
        moved.prober.set_peers([lost])
        moved.until(moved.echoes, within=11)
        assert moved.until(lambda: lost.key in moved.told, within=3) == pytest.approx(2.0, abs=0.2)


def test_the_first_new_peer_is_checked_at_once_and_many_20_a_second(moved):
    crowd = [peer(n, target=f"127.0.2.{n}", interval=60.0, endpoint="") for n in range(1, 201)]
    moved.prober.set_peers(crowd[:1])
    moved.run(2 * TICK)
    assert len(moved.full()) == 1
    begun = moved.clock.now
    moved.prober.set_peers(crowd)
    moved.run(12)
    first = {}
    for when, target in moved.full():
        first.setdefault(target, when - begun)
    assert len(first) == 200
    # Number n waits at most n/20 s, at a place of its own within that: so many are checked by then on average.
    for seconds, share in ((1, 66), (2.5, 119), (5, 169)):
        assert sum(when < seconds for when in first.values()) == pytest.approx(share, abs=8)
    assert 8 < max(first.values()) <= 10


def test_peers_that_come_one_by_one_do_not_wait_for_those_that_were_checked_long_ago(moved):
    for number in range(1, 41):
        moved.prober.update([peer(number, target=f"127.0.2.{number}", interval=60.0, endpoint="")], [])
        moved.run(1.0)
        assert len({target for _, target in moved.full()}) == number


def test_the_first_checks_of_a_great_many_are_spread_over_the_inner_interval_and_no_longer(monkeypatch):
    moved = Moved(monkeypatch, ProbeSettings(timeout=0.5, inner_interval=3.0))
    with contextlib.closing(moved.prober):
        moved.prober.set_peers(
            [peer(n, target=f"127.0.{n // 250}.{n % 250 + 1}", interval=60.0, endpoint="") for n in range(600)]
        )
        checked = []
        for _ in range(6):
            moved.run(0.5)
            checked.append(len({target for _, target in moved.full()}))
    steps = [b - a for a, b in pairwise([0, *checked])]
    assert all(80 <= step <= 130 for step in steps), steps  # 100 each


def test_all_mtu_probing_together_keeps_to_one_pace(monkeypatch):
    moved = Moved(monkeypatch, ProbeSettings(timeout=0.5, inner_interval=0.2))
    with contextlib.closing(moved.prober):
        begun = moved.clock.now
        moved.prober.set_peers([peer(n, interval=60.0, target=f"127.0.2.{n}") for n in range(1, 201)])
        moved.run(2, tick=0.002)
        sent = [(when, len(data)) for when, _, data in moved.packets if len(data) > 64]
    volume = 0
    for when, size in sent:
        volume += size
        assert volume <= carrier.RATE * (when - begun) + 30_000
    assert volume > carrier.RATE * 1.5, "there was more to send than the pace allows"


def test_small_echoes_go_out_while_large_ones_wait_for_their_turn(monkeypatch):
    moved = Moved(monkeypatch, ProbeSettings(timeout=0.5, inner_interval=0.2))
    with contextlib.closing(moved.prober):
        moved.prober.set_peers([peer(n, target=f"127.0.2.{n}") for n in range(1, 201)])
        moved.run(2)
    assert len(moved.echoes()) == pytest.approx(200 * 2 / 0.2, rel=0.12)
    assert moved.prober.scheduling_delay() < 2 * TICK


# --- what small echoes bring ------------------------------------------------------------------------------------------


def test_a_peer_that_goes_or_comes_back_is_looked_at_closely_at_once(there, place):
    one = inside()
    there.prober.set_peers([one])
    there.until(lambda: there.verdict(one) is Verdict.OK and there.up(one), within=5)
    there.run(60)
    assert len(there.full()) == 1, "there is nothing to look at"
    answering(place, yes=False)
    there.until(lambda: there.up(one) is False, within=10)
    begun = len(there.full())
    there.run(0.3)
    assert len(there.full()) > begun - 1
    there.until(lambda: there.prober.evidence(one.key).quiet, within=10)
    there.run(60)
    begun = len(there.full())
    answering(place, yes=True)
    there.until(lambda: there.up(one), within=35)
    there.run(0.3)
    assert len(there.full()) > begun
    assert not there.prober.evidence(one.key).quiet
    there.until(lambda: there.verdict(one) is Verdict.OK, within=10)


def test_at_the_start_who_is_heard_for_the_first_time_waits_for_its_place(there):
    crowd = [inside(n) for n in range(1, 101)]
    there.prober.set_peers(crowd)
    there.run(1.5)
    assert all(there.up(one) for one in crowd if one.key in there.told)
    assert len(there.told) == 100
    assert len({target for _, target in there.full()}) < 80


def test_who_answered_a_full_packet_and_then_no_echo_is_looked_at_closely(there, place):
    one = inside(interval=10.0)
    there.prober.set_peers([one])
    there.until(there.full, within=1)
    there.run(2 * TICK)
    answering(place, yes=False)
    assert there.told == {}
    there.until(lambda: there.up(one) is False, within=12)
    there.run(0.2)
    assert len(there.full()) > 1


def test_who_has_never_answered_anything_waits_for_its_place_too(there, place):
    answering(place, yes=False)
    crowd = [inside(n) for n in range(1, 101)]
    there.prober.set_peers(crowd)
    there.run(1.5)
    assert len(there.told) == 100
    assert len({target for _, target in there.full()}) < 80


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


@pytest.mark.parametrize("news", ["received", "another endpoint", "another target"])
def test_a_peer_that_was_silent_for_long_is_probed_soon_after_something_new_is_known_of_it(moved, news):
    one = peer(target="192.0.2.1", endpoint="", interval=5.0)
    moved.prober.set_peers([one])
    moved.prober.counters({one.key: (1000, 1000)})
    moved.run(300)
    moved.prober.counters({one.key: (1000, 2000)})
    before = len(moved.echoes())
    moved.run(60)
    assert len(moved.echoes()) - before <= 3, "it is asked rarely, and what was sent to it is no news"
    before = len(moved.echoes())
    if news == "received":
        moved.prober.counters({one.key: (1092, 2000)})
    elif news == "another endpoint":
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


# --- what is told -----------------------------------------------------------------------------------------------------


def test_of_what_changed_the_longest_ago_is_told_first_and_no_more_than_is_asked_for(moved):
    crowd = [peer(n, target=f"127.0.2.{n}", endpoint="", interval=3600.0) for n in range(1, 7)]
    for one in crowd:
        moved.prober.update([one], [])
    assert moved.prober.news == 0
    moved.told = None
    for one in crowd:  # a first probe each, in this order
        moved.prober.update([one._replace(interval=0.1)], [])
        for _ in range(10):
            moved.clock.now += TICK
            moved.prober.step(0.0)
        moved.prober.update([one], [])
    assert moved.prober.news == 6
    assert moved.prober.changes(0) == {}
    first, rest = moved.prober.changes(2), moved.prober.changes(10)
    assert [*first, *rest] == [one.key for one in crowd]
    assert len(first) == 2
    assert moved.prober.news == 0
    assert moved.prober.changes(10) == {}


def test_the_same_rows_again_are_no_news_and_another_row_is(moved):
    one = peer(interval=3600.0, endpoint="")
    moved.prober.set_peers([one, peer(2, interval=3600.0)])
    moved.run(1)
    moved.prober.changes(10)
    moved.prober.set_peers([one, peer(2, interval=3600.0)])
    assert moved.prober.news == 0
    moved.prober.set_peers([one._replace(mtu=1400), peer(2, interval=3600.0)])
    assert moved.prober.news == 1


def test_what_small_echoes_bring_is_taken_within_a_tenth_of_a_second(moved):
    moved.prober.set_peers([peer(interval=0.02, endpoint="")])
    moved.run(1)
    moved.prober.changes(10)
    seen = []
    for _ in range(20):
        moved.clock.now += TICK
        moved.prober.step(0.0)
        seen.append(moved.prober.news)
        if seen[-1]:
            moved.prober._changed.clear()
    assert 3 <= seen.count(1) <= 5


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
    moved.run(0.1)
    assert moved.told == {}
    moved.until(lambda: one.key in moved.told, within=2)
    assert (moved.up(lost), moved.told[one.key].target, moved.told[one.key].stats.sent) == (False, "192.0.2.1", 1)


def test_a_peer_whose_address_becomes_unusable_is_left_out(moved):
    moved.prober.set_peers([peer(), peer(2)])
    moved.until(lambda: moved.up(peer()) and moved.up(peer(2)), within=3)
    moved.prober.set_peers([peer(target="nonsense"), peer(2)])
    with pytest.raises(KeyError):
        moved.prober.evidence(peer().key)
    moved.told.clear()
    moved.run(1)
    assert set(moved.told) == {peer(2).key}


def test_a_peer_that_loses_its_device_is_left_alone_and_takes_no_turn(moved):
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


# --- searches ---------------------------------------------------------------------------------------------------------


def searched(moved):
    """The targets to which sizes were sent that only a search sends."""
    return {
        data[16:20] for _, layer, data in moved.packets if layer is Layer.INNER and len(data) not in (48, 100, 1420)
    }


def test_two_searches_run_at_once_and_who_leaves_makes_room_for_the_next(there, place):
    crowd = [inside(n) for n in range(1, 5)]
    there.prober.set_peers(crowd)
    there.until(lambda: all(there.verdict(one) is Verdict.OK for one in crowd), within=5)
    answering(place, yes=False)
    there.run(1)
    there.packets.clear()
    for one in crowd:
        there.prober.search(one.key)
    there.run(0.5)
    assert len(searched(there)) == 2
    running = [one for one in crowd if bytes(map(int, one.target.split("."))) in searched(there)]
    there.prober.update([running[1]._replace(ifindex=0)], [running[0].key])
    there.run(0.5)
    assert len(searched(there)) == 4


def test_a_search_that_has_ended_makes_room_for_the_next(there, place):
    crowd = [inside(n) for n in range(1, 7)]
    there.prober.set_peers(crowd)
    there.until(lambda: all(there.verdict(one) is Verdict.OK for one in crowd), within=5)
    answering(place, yes=False)
    there.run(1)
    for one in crowd:
        there.prober.search(one.key)
    there.until(lambda: not any(there.prober.busy(one.key) for one in crowd), within=120)
    assert len(searched(there)) == 6


# --- memory -----------------------------------------------------------------------------------------------------------


def test_silence_costs_no_memory_however_long_it_lasts(moved):
    """Peers that answer nothing, inside and outside, of which probe after probe is forgotten."""
    moved.prober.set_peers([peer(n, target="192.0.2.1", endpoint="192.0.2.1", interval=0.05) for n in range(20)])

    def resident():
        moved.packets.clear()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    moved.run(8, each=moved.packets.clear)
    before = resident()
    moved.run(24, each=moved.packets.clear)
    assert resident() - before < 1 << 20
    assert {moved.up(peer(n)) for n in range(20)} == {False}
    assert moved.told[peer(0).key].stats.lost > 200
