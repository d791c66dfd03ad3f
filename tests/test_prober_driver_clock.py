"""Many peers over one engine, by a clock that the test moves: what is sent when, and what is told of it."""

from __future__ import annotations

import contextlib
import errno
import os
from itertools import pairwise
from math import inf

import pytest

from tests.hands import ADDRESS, TICK, Moved, answering
from tests.lab import Lab, lab_prefix
from tests.probers import peer as other_peer
from wg_exporter.config import MtuProbe, ProbeSettings
from wg_exporter.probed import SendError, Verdict
from wg_exporter.prober import transport
from wg_exporter.prober.mtu.outer import LARGEST
from wg_exporter.prober.mtu.probes import Layer
from wg_exporter.prober.wire.sockets import open_here

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: raw sockets and network namespaces")

SELDOM = ProbeSettings(timeout=0.5, mtu=MtuProbe(inner_interval=3600.0, outer_interval=3600.0))


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
    monkeypatch.setattr(transport.Transport, "follow_namespaces", lambda _self: looks.append(moved.clock.now) or ())
    moved.run(21)
    assert len(looks) == 5
    assert [later - sooner for sooner, later in pairwise(looks)] == pytest.approx([5.0] * 4, abs=2 * TICK)


def test_who_reads_a_file_is_called_whenever_it_can_be_read(moved):
    heard = []
    file = os.eventfd(1)
    moved.prober.add_reader(file, lambda: heard.append(os.eventfd_read(file)))
    moved.run(0.1)
    os.eventfd_write(file, 2)
    moved.run(0.1)
    os.close(file)
    assert heard == [1, 2]


# --- when -------------------------------------------------------------------------------------------------------------


def test_full_size_packets_go_out_at_the_intervals_that_are_configured(monkeypatch):
    moved = Moved(monkeypatch, ProbeSettings(timeout=0.5, mtu=MtuProbe(inner_interval=7.0, outer_interval=11.0)))
    with contextlib.closing(moved.prober):
        moved.prober.set_peers([peer()])
        moved.run(60)
    inner = [when for when, _ in moved.full()]
    outer = [when for when, _ in moved.full(Layer.OUTER, LARGEST)]
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
        one = peer(number, target=f"127.0.2.{number}", interval=60.0, endpoint="")
        moved.prober.update({one.key: one})
        moved.run(1.0)
        assert len({target for _, target in moved.full()}) == number


def test_the_first_checks_of_a_great_many_are_spread_over_the_inner_interval_and_no_longer(monkeypatch):
    moved = Moved(monkeypatch, ProbeSettings(timeout=0.5, mtu=MtuProbe(inner_interval=3.0)))
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
    moved = Moved(monkeypatch, ProbeSettings(timeout=0.5, mtu=MtuProbe(inner_interval=0.2)))
    with contextlib.closing(moved.prober):
        begun = moved.clock.now
        moved.prober.set_peers([peer(n, interval=60.0, target=f"127.0.2.{n}") for n in range(1, 201)])
        moved.wake(2)
        sent = [(when, len(data)) for when, _, data in moved.packets if len(data) > 64]
    volume = 0
    for when, size in sent:
        volume += size
        assert volume <= transport.RATE * (when - begun) + 30_000
    assert volume > transport.RATE * 1.5, "there was more to send than the pace allows"


def test_small_echoes_go_out_while_large_ones_wait_for_their_turn(monkeypatch):
    moved = Moved(monkeypatch, ProbeSettings(timeout=0.5, mtu=MtuProbe(inner_interval=0.2)))
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
    there.run(0.3)
    assert len(there.full()) > 1
    there.until(lambda: there.prober.findings(one.key).quiet, within=10)
    there.run(60)
    begun = len(there.full())
    answering(place, yes=True)
    there.until(lambda: there.up(one), within=35)
    there.run(0.3)
    assert len(there.full()) > begun
    assert not there.prober.findings(one.key).quiet
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


def test_a_peer_that_is_removed_is_sent_nothing_any_more_and_nothing_is_told_of_it(moved):
    """Not even of the answers that are under way at that moment."""
    moved.prober.set_peers([peer(), peer(2, target="127.0.0.2")])
    moved.run(2)
    moved.prober.search(peer().key)
    moved.prober.step(0.0)
    moved.prober.update({}, [peer().key])
    moved.packets.clear()
    moved.told.clear()
    moved.run(2)
    assert set(moved.told) == {peer(2).key}
    assert {data[ADDRESS][-1] for _, layer, data in moved.packets if layer is Layer.INNER} == {2}


def test_an_answer_for_a_peer_that_was_removed_meanwhile_is_dropped(moved):
    one, other = peer(interval=3600.0, endpoint=""), peer(2, interval=3600.0, endpoint="")
    moved.prober.set_peers([one, other])
    moved.run(1)
    moved.clock.deaf = True
    moved.prober.set_peers([one._replace(mtu=1400), other])
    moved.prober.step(0.0)
    assert moved.full(size=1400), "it is on its way"
    moved.prober.update({}, [one.key])
    moved.prober.changes(10)
    moved.clock.deaf = False
    moved.prober.step(0.0)
    assert moved.prober.changed == 0


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
    there.prober.update({running[1].key: running[1]._replace(ifindex=0)}, [running[0].key])
    there.run(0.5)
    assert len(searched(there)) == 4


def test_a_search_that_has_ended_makes_room_for_the_next(there):
    """Nothing else is to be done for those that wait for it."""
    crowd = [inside(n) for n in range(1, 7)]
    there.prober.set_peers(crowd)
    there.until(lambda: all(there.verdict(one) is Verdict.OK for one in crowd), within=5)
    there.run(5)
    for one in crowd:
        there.prober.search(one.key)
    there.until(lambda: not any(there.prober.busy(one.key) for one in crowd), within=10)
    assert len(searched(there)) == 6


class Searching:
    """A machine that wants to search since its last answer, and nothing else for hours."""

    heavy, silent, pause_echoes, answered = True, False, False, True

    def __init__(self):
        self.asked = []

    def handle(self, _answer, _now):
        pass

    def next_time(self, *, heavy=True):
        return 0.0 if heavy else inf

    def poll(self, _now, *, heavy):
        self.asked.append(heavy)
        return []


def test_who_wants_to_search_since_an_answer_gets_its_place_at_once_whatever_else_is_due(moved):
    moved.prober.set_peers([peer(endpoint="")])
    moved.run(1)
    path = moved.prober._paths[peer().key]
    path.machine = machine = Searching()
    moved.prober._arrived(path, None)
    for _ in range(3):
        moved.clock.now += TICK
        moved.prober.step(0.0)
    assert machine.asked[:2] == [False, True]
