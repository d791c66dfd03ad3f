"""When small echoes are sent and what their answers and silences say, with a fake clock.

A `World` is a network of made-up peers: each has a function from (time, number of the probe) to the delays of its
answers.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sys
import tracemalloc
from ipaddress import ip_address
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wg_exporter.config import ProbeSettings
from wg_exporter.config.probe import RTT_BUCKETS
from wg_exporter.probed import SendError
from wg_exporter.prober.echo.book import RENEW_AFTER, RING, TICK, EchoBook, Reading
from wg_exporter.prober.echo.track import EchoTarget, Track

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.probed import ProbeStats

    Peer = Callable[[float, int], list[float] | SendError]

WALL = 1_700_000_000.0  # what the wall clock shows when the monotonic one shows 0
START = 1000.0


def answers_after(delay: float) -> Peer:
    return lambda _when, _number: [delay]


def silent(_when: float, _number: int) -> list[float]:
    return []


class World:
    def __init__(self, config: ProbeSettings = ProbeSettings(), seed: int = 1) -> None:  # noqa: B008 - immutable
        self.told: dict[str, ProbeStats] = {}  # as they were when it was last said that they have changed
        self.book = EchoBook(config, random.Random(seed).randbytes, self._tell)
        self.now = START
        self.peers: dict[str, Peer] = {}
        self.log: list[tuple[float, str]] = []
        self.flying: list[tuple[float, str, tuple[int, int], int]] = []
        self.idents: dict[str, list[int]] = {}  # of all probes to a peer, in their order

    def probe(self, **peers: Peer) -> World:
        """Targets by name, at 1 to 255 in their order, every 5 s and 1 s under suspicion."""
        self.peers = peers
        aim(self.book, [target(name, n + 1) for n, name in enumerate(peers)], self.now)
        return self

    def run(self, seconds: float) -> World:
        end = self.now + seconds
        while True:
            self._receive()
            self.book.expire(self.now)
            for probe in self.book.due(self.now):
                self._send(probe)
            event = self.book.next_event(self.now)
            if self.flying:
                event = min(event, self.flying[0][0])
            if event > end:
                self.now = end
                return self
            self.now = max(event, self.now) + 1e-6

    def _tell(self, track: Track) -> None:
        self.told[track.target.id] = track.stats()

    def _send(self, probe) -> None:
        name = probe.track.target.id
        self.log.append((self.now, name))
        self.idents.setdefault(name, []).append(probe.ident)
        fate = self.peers[name](self.now, sum(1 for _, one in self.log if one == name))
        if isinstance(fate, SendError):
            self.book.failed(probe.place, fate)
            return
        self.book.sent(probe.place, Reading(WALL + self.now, self.now))
        for delay in fate:
            heapq.heappush(self.flying, (self.now + delay, name, (probe.ident, probe.sequence), probe.token))

    def _receive(self) -> None:
        while self.flying and self.flying[0][0] <= self.now:
            when, name, wire, token = heapq.heappop(self.flying)
            number = list(self.peers).index(name) + 1
            place = self.book.place(*wire)
            assert self.book.answer(packed(number), place, token, WALL + when, Reading(WALL + self.now, self.now))

    def times(self, name: str) -> list[float]:
        return [when for when, one in self.log if one == name]

    def __getitem__(self, name: str) -> ProbeStats:
        return self.book.stats()[name]


def packed(number: int) -> bytes:
    return ip_address(f"10.0.{number >> 8}.{number & 255}").packed


def target(name: str, number: int = 1, **fields: object) -> EchoTarget:
    return EchoTarget(name, "", 7, f"10.0.{number >> 8}.{number & 255}")._replace(**fields)


def aim(book: EchoBook, targets: list[EchoTarget], now: float) -> list[Track]:
    """Exactly these from now on; the tracks of those that are new or changed."""
    before = {track.target.id: track.target for track in book.tracks()}
    for name in before.keys() - {one.id for one in targets}:
        book.remove(name)
    return [book.put(one, now) for one in targets if before.get(one.id) != one]


def gaps(times: list[float]) -> list[float]:
    return [later - sooner for sooner, later in pairwise(times)]


def test_nothing_is_known_of_a_new_target():
    stats = World().probe(a=silent)["a"]
    assert stats == (False, 0, 0, 0, 0, (), (0,) * 16, 0.0, None, None, None, None, 0, 0, 0.0, None)


def test_a_probe_counts_only_when_its_fate_is_known():
    world = World().probe(a=silent)
    world.run(5)
    assert (len(world.log), world["a"].sent, world["a"].lost) == (1, 0, 0)
    world.run(3)
    assert (world["a"].sent, world["a"].lost) == (1, 1)


def test_an_answered_target_is_up_and_probed_every_interval():
    world = World().probe(a=answers_after(0.02)).run(101)
    stats = world["a"]
    assert (stats.up, stats.sent, stats.lost) == (True, len(world.log), 0)
    assert gaps(world.times("a")) == pytest.approx([5.0] * 19, abs=1e-3)
    assert stats.rtt_min == stats.rtt_last == pytest.approx(0.02, abs=1e-6)
    assert stats.rtt_sum == pytest.approx(0.02 * stats.sent, abs=1e-4)
    assert stats.jitter == pytest.approx(0, abs=1e-6)


def test_jitter_is_that_of_rfc_3550():
    delays = [0.010, 0.030, 0.012, 0.012]
    world = World().probe(a=lambda _, n: [delays[n - 1]])
    expected = 0.0
    world.run(5.1)
    assert world["a"].jitter is None
    for before, delay in pairwise(delays):
        world.run(5)
        expected += (abs(delay - before) - expected) / 16
        assert world["a"].jitter == pytest.approx(expected, abs=1e-6)


def test_every_round_trip_falls_into_the_bucket_at_or_below_whose_bound_it_is():
    assert RTT_BUCKETS[0] == 0.00025
    assert RTT_BUCKETS[-1] == 4.096
    world = World(ProbeSettings(rtt_buckets=(0.125, 0.5))).probe(a=lambda _, n: [[0.1, 0.2, 0.4, 0.6][n - 1]]).run(22)
    assert world["a"].buckets == (1, 2, 1)
    book = EchoBook(ProbeSettings(rtt_buckets=(0.125, 0.5)), random.Random(1).randbytes)
    aim(book, [target("a")], START)
    (probe,) = launched(book, 1)
    book.sent(probe.place, Reading(512.0, 512.0))
    book.answer(packed(1), probe.place, probe.token, 512.125, Reading(512.125, 512.125))
    assert book.stats()["a"].buckets == (1, 0, 0)


def test_a_late_answer_is_counted_as_late_and_stays_lost():
    world = World().probe(a=lambda _, n: [3.5] if n == 1 else [0.01]).run(9.9)
    stats = world["a"]
    assert (stats.late, stats.lost, stats.duplicates) == (1, 1, 0)
    assert stats.sent == stats.lost + sum(stats.buckets)


def test_an_answer_that_was_in_time_is_not_lost_because_it_was_read_late():
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    aim(book, [target("a")], START)
    (probe,) = launched(book, 1)
    book.sent(probe.place, Reading(WALL, 2000.0))
    read = Reading(WALL + 4, 2004.0)
    assert book.answer(packed(1), probe.place, probe.token, WALL + 2.5, read)
    book.expire(2004.0)
    assert (book.stats()["a"].lost, book.stats()["a"].rtt_last) == (0, 2.5)


def test_an_answer_read_before_its_loss_was_noticed_is_late_all_the_same():
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    aim(book, [target("a")], START)
    (probe,) = launched(book, 1)
    book.sent(probe.place, Reading(WALL, 2000.0))
    assert book.answer(packed(1), probe.place, probe.token, WALL + 3.5, Reading(WALL + 4, 2004.0))
    book.expire(2004.0)
    stats = book.stats()["a"]
    assert (stats.sent, stats.lost, stats.late, sum(stats.buckets)) == (1, 1, 1, 0)


def test_a_target_whose_answers_all_come_late_is_up_and_slow_and_loses_nothing():
    """A satellite line full of buffers."""
    world = World().probe(a=answers_after(4.0)).run(300)
    stats = world["a"]
    assert stats.up
    assert stats.silent_since is None or stats.silent_since > START + 290
    assert stats.sent - 1 <= stats.lost <= stats.late + 1
    assert stats.rtt_last == pytest.approx(4.0, abs=0.01)
    assert stats.late_sum == pytest.approx(4.0 * stats.late, rel=0.01)
    assert (sum(stats.buckets), stats.rtt_sum) == (0, 0.0)


def test_answers_that_come_twice_are_duplicates_and_nothing_else():
    world = World().probe(a=answers_after(0.01), b=lambda *_: [0.01, 0.02, 2.0]).run(10.1)
    assert world["a"].duplicates == 0
    stats = world["b"]
    assert (stats.sent, stats.duplicates, stats.late) == (len(world.times("b")), 2 * stats.sent, 0)
    assert stats.rtt_last == pytest.approx(0.01, abs=1e-5)


def test_a_second_late_answer_is_a_duplicate():
    world = World().probe(a=lambda _, n: [3.5, 3.6] if n == 1 else []).run(9.9)
    assert (world["a"].late, world["a"].duplicates) == (1, 1)


def test_up_means_that_one_of_the_last_five_probes_was_answered():
    world = World().probe(a=lambda _, n: [0.01] if n == 1 else [])
    world.run(5.1)
    while known(world["a"]) < 5:
        world.run(0.5)
        assert world["a"].up
    while known(world["a"]) < 6:
        assert world["a"].up
        world.run(0.5)
    assert not world["a"].up


def known(stats):
    """Of how many probes the fate is known."""
    return stats.sent + stats.extra_sent


def test_a_probe_that_cannot_be_sent_is_an_error_and_a_miss_and_neither_sent_nor_lost():
    world = World().probe(a=lambda _, n: [0.01] if n == 1 else [SendError.NO_ROUTE, SendError.NO_KEY][n % 2])
    world.run(5.1)
    assert world["a"].up
    world.run(30)
    stats = world["a"]
    assert (stats.up, stats.sent, stats.lost) == (False, 1, 0)
    assert dict(stats.errors).keys() == {SendError.NO_ROUTE, SendError.NO_KEY}
    assert sum(dict(stats.errors).values()) == len(world.log) - 1


def test_silence_begins_with_the_oldest_probe_after_the_last_answer_and_ends_with_the_next_answer():
    world = World().probe(a=lambda when, _: [] if START + 20 < when < START + 60 else [0.01]).run(20)
    assert world["a"].silent_since is None
    world.run(7.9)
    first = next(when for when in world.times("a") if when > START + 20)
    assert world["a"].silent_since == first
    world.run(32)
    assert world["a"].silent_since == first
    world.run(6)
    assert world["a"].silent_since is None


def test_a_peer_that_never_answered_is_silent_since_its_first_probe():
    world = World().probe(a=silent).run(40)
    assert world["a"].silent_since == world.times("a")[0]


def test_a_loss_that_becomes_known_after_a_later_probe_was_answered_is_no_silence():
    world = World()
    world.peers = {"a": lambda _, n: [] if n == 3 else [0.01]}
    aim(world.book, [target("a", interval=1.0)], START)
    while world["a"].lost == 0:
        world.run(0.01)
        assert world["a"].silent_since is None
    assert world["a"].silent_since is None


@pytest.mark.parametrize(("answers", "field"), [([3.5], "late"), ([0.01, 9.0], "duplicates")])
def test_an_answer_that_is_late_or_comes_twice_ends_a_silence_and_what_was_sent_before_it_begins_none(answers, field):
    world = World()
    world.peers = {"a": lambda _, n: answers if n == 1 else []}
    aim(world.book, [target("a", interval=1.0)], START)
    while not getattr(world["a"], field):
        world.run(0.01)
    came = world.now
    while (since := world["a"].silent_since) is None:
        world.run(0.01)
    assert since == min(when for when in world.times("a") if when > came - 0.01)


def test_what_cannot_be_sent_is_no_silence():
    world = World().probe(a=lambda _, n: [0.01] if n == 1 else SendError.NO_ROUTE).run(60)
    assert world["a"].errors
    assert world["a"].silent_since is None


def test_while_a_target_is_paused_and_for_what_was_sent_before_there_is_no_silence():
    world = World().probe(a=silent).run(12)
    assert world["a"].silent_since is not None
    aim(world.book, [target("a", paused=True)], world.now)
    assert world.told["a"].silent_since is None
    world.run(100)
    assert world["a"].silent_since is None
    resumed = world.now
    aim(world.book, [target("a")], world.now)
    world.run(10)
    assert world["a"].silent_since == next(when for when in world.times("a") if when > resumed)


def test_one_loss_brings_suspicion_until_five_answers_in_a_row():
    world = World().probe(a=lambda _, n: [] if n == 4 else [0.01]).run(60)
    assert [round(gap, 1) for gap in gaps(world.times("a"))][:3] == [5.0, 5.0, 5.0]
    assert [round(gap) for gap in gaps(world.times("a"))].count(1) in (3, 4, 5)
    assert round(gaps(world.times("a"))[-1], 1) == 5.0


def test_probes_sent_in_between_because_an_answer_is_missing_are_in_no_figure_of_loss_or_round_trips():
    """A gap of 22 s of 300: what is sent every 5 s is what loss is judged by."""
    world = World().probe(a=lambda when, _: [] if START + 100 < when < START + 122 else [0.01]).run(300)
    stats = world["a"]
    assert stats.sent in {59, 60}
    assert stats.lost in {4, 5}
    assert stats.extra_lost >= 12
    assert stats.extra_sent > stats.extra_lost, "also until five in a row were answered"
    assert len(world.log) - 1 <= known(stats) <= len(world.log)
    assert stats.sent == stats.lost + sum(stats.buckets)
    assert stats.rtt_sum == pytest.approx(0.01 * (stats.sent - stats.lost), rel=0.01)


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_loss_is_sampled_evenly_however_often_a_target_is_asked(loss):
    chance = random.Random(7)
    world = World().probe(a=lambda *_: [] if chance.random() < loss else [0.03]).run(8000)
    stats = world["a"]
    assert stats.extra_sent > 100
    assert abs(stats.sent - 1600) <= 2
    assert abs(stats.lost - loss * stats.sent) < 4 * (stats.sent * loss * (1 - loss)) ** 0.5


def test_a_probe_in_each_interval_counts_whatever_happens_to_the_interval():
    world = World().probe(a=silent)
    for interval in (5.0, 0.2, 30.0, 1.0):
        before, times = world["a"].sent, len(world.log)
        aim(world.book, [target("a", interval=interval)], world.now)
        world.run(300)
        assert world["a"].sent - before >= (len(world.log) - times) - 4 / interval - 2
    assert world["a"].extra_sent <= 4


def test_what_this_host_refuses_three_times_in_a_row_is_told_until_a_probe_goes_out_again():
    refused = [SendError.NO_PERMISSION] * 3
    world = World().probe(a=lambda _, n: refused[0] if 2 <= n <= 4 else [0.01])
    told = []
    while len(world.log) < 7:
        world.run(0.5)
        told.append(world["a"].refused)
    first, last = told.index(SendError.NO_PERMISSION), len(told) - told[::-1].index(SendError.NO_PERMISSION)
    assert set(told[first:last]) == {SendError.NO_PERMISSION}
    assert set(told[:first]) | set(told[last:]) == {None}
    world = World().probe(a=lambda _, n: SendError.NO_ROUTE if n % 3 else [0.01]).run(100)
    assert world["a"].refused is None


def test_suspicion_begins_when_the_loss_is_known_however_long_the_interval():
    world = World()
    world.peers = {"a": lambda when, _: [0.01] if when < START + 60 else []}
    aim(world.book, [target("a", interval=60.0)], START)
    world.run(60)
    assert len(world.log) == 1
    world.run(60)
    first, second = world.times("a")[1:3]
    assert 3.0 <= second - first <= 4.6


def test_a_peer_that_never_answered_is_not_suspected_and_in_the_end_rarely_probed():
    world = World().probe(a=silent).run(2000)
    waits = gaps(world.times("a"))
    assert min(waits) >= 4.99
    assert waits[-1] == pytest.approx(30, abs=0.01)
    assert all(later > 0.7 * sooner for sooner, later in pairwise(waits))


def test_a_peer_that_comes_back_after_long_silence_is_looked_at_closely_at_once():
    world = World().probe(a=lambda when, _: [] if START + 20 < when < START + 1500 else [0.01]).run(1500)
    assert gaps(world.times("a"))[-1] == pytest.approx(30, abs=0.01)
    assert not world["a"].up
    world.run(45)
    back = [when for when in world.times("a") if when > START + 1500]
    assert max(gaps(back)) <= 5.01
    assert gaps(back)[0] <= 1.51
    assert world["a"].up


@pytest.mark.parametrize("heard", [0, 20])
@pytest.mark.parametrize("interval", [1.0, 5.0])
def test_no_peer_is_probed_more_rarely_than_usual_before_it_was_silent_for_half_a_minute(heard, interval):
    world = World()
    world.peers = {"a": lambda when, _: [0.01] if when < START + heard else []}
    aim(world.book, [target("a", interval=interval)], START)
    world.run(heard + 40)
    first = next(when for when in world.times("a") if when >= START + heard)
    waits = gaps([when for when in world.times("a") if first <= when <= first + 30])
    assert max(waits) <= 1.5 * interval + TICK


@pytest.mark.parametrize("number", range(1, 8))
def test_a_silent_peer_from_which_something_is_received_is_probed_at_its_interval_again(number):
    world = World()
    world.peers = {"a": silent, **{str(n): silent for n in range(1, number)}}
    aim(world.book, [target(name, n + 1) for n, name in enumerate(reversed(world.peers))], START)
    world.run(600)
    assert gaps(world.times("a"))[-1] == pytest.approx(30, abs=0.01)
    world.book.resume("a", world.now)
    world.run(30)
    soon = [when for when in world.times("a") if when > START + 600]
    assert soon[0] <= START + 600 + 1.5 * 5 + TICK
    assert max(gaps(soon)) <= 5 + TICK
    world.run(300)
    assert gaps(world.times("a"))[-1] == pytest.approx(30, abs=0.01)


def test_a_silent_peer_whose_device_comes_back_is_probed_at_its_interval_again():
    world = World().probe(a=silent).run(600)
    aim(world.book, [target("a", paused=True)], world.now)
    world.run(100)
    aim(world.book, [target("a", ifindex=9)], world.now)
    world.run(7.6)
    assert world.times("a")[-1] > START + 700


def test_what_is_received_from_a_peer_that_answers_changes_nothing():
    one, other = (World().probe(a=answers_after(0.01)) for _ in range(2))
    for _ in range(20):
        for world in (one, other):
            world.run(1.0)
        one.book.resume("a", one.now)
        one.book.resume("nobody", one.now)
    assert one.log == other.log


def launched(book: EchoBook, number: int, now: float = START + 5.0) -> list:
    """The probes of one whole interval, in steps small enough not to look like a stall."""
    probes, step = [], now - 5.0
    while step < now:
        step += 0.1
        probes += book.due(step)
    assert len(probes) == number
    return probes


@pytest.mark.parametrize("number", [2, 5, 40, 1000])
def test_probes_are_spread_evenly_over_the_interval(number):
    world = World()
    aim(world.book, [target(str(n), n) for n in range(number)], START)
    due = sorted(probe.due % 5 for probe in launched(world.book, number))
    between = [*gaps(due), due[0] + 5 - due[-1]]
    assert max(between) <= 2.7 * 5 / number + TICK


def test_an_outage_of_all_leaves_no_burst_behind():
    world = World()
    names = [str(n) for n in range(200)]
    world.probe(**dict.fromkeys(names, lambda when, _: [] if START + 20 < when < START + 60 else [0.01]))
    world.run(150)
    late = [when for when, _ in world.log if when > START + 100]
    assert len(late) == pytest.approx(2000, abs=20)
    busiest = max(sum(1 for when in late if start <= when < start + 0.25) for start in late[::7])
    assert busiest <= 16  # 10 would be perfect


def test_a_stall_makes_no_burst_and_the_delay_is_told():
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    aim(book, [target(str(n), n) for n in range(1000)], START)
    launched(book, 1000)
    late = book.due(START + 105.0)
    assert 1 <= len(late) < 10
    assert START + 105.0 - late[0].due > 99
    soon = book.due(START + 105.1)
    assert 10 <= len(soon) <= 30
    assert START + 105.1 - soon[-1].due < 0.1


def test_the_same_targets_have_the_same_places():
    first, second = World(), World(seed=2)
    for world in (first, second):
        world.probe(**{str(n): silent for n in range(20)}).run(10)
    assert first.log == second.log


def test_targets_come_and_go_and_those_that_stay_keep_their_statistics():
    world = World().probe(a=answers_after(0.01), b=answers_after(0.01)).run(10.5)
    world.peers["c"] = answers_after(0.01)
    kept = world["b"].sent
    fresh = aim(world.book, [target("b", 2), target("c", 3)], world.now)
    assert [track.target.id for track in fresh] == ["c"]
    assert set(world.book.stats()) == {"b", "c"}
    gone_at = world.now
    world.run(10)
    assert world["b"].sent == kept + 2
    assert world["c"].sent == 2
    assert max(world.times("a")) < gone_at


def test_a_target_whose_address_changed_starts_anew_and_one_whose_device_changed_does_not():
    world = World().probe(a=answers_after(0.01)).run(10.5)
    sent = world["a"].sent
    (track,) = aim(world.book, [target("a", ifindex=9)], world.now)
    assert (track.target.ifindex, world["a"].sent) == (9, sent)
    aim(world.book, [target("a", 2)], world.now)
    assert world["a"].sent == 0
    aim(world.book, [target("a", 2, netns="blue")], world.now)
    assert world["a"].sent == 0


def test_an_answer_to_a_target_that_is_gone_changes_nothing_of_its_successor():
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    aim(book, [target("a")], START)
    (probe,) = launched(book, 1)
    book.sent(probe.place, Reading(WALL, 2000.0))
    aim(book, [target("a", netns="blue")], START)
    before = book.stats()
    book.answer(packed(1), probe.place, probe.token, WALL + 1, Reading(WALL + 1, 2001.0))
    assert book.stats() == before


@pytest.mark.parametrize("first", ["next_event", "due"])
def test_on_a_host_that_has_run_for_a_century_nothing_takes_long_before_there_are_targets(first):
    """Steps through all that time would take hours."""
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    now = 100 * 365 * 86400.0
    assert getattr(book, first)(now) in ([], pytest.approx(now + 1, abs=2 * TICK))
    aim(book, [target("a")], now)
    assert len(launched(book, 1, now + 5)) == 1


def test_a_new_interval_holds_at_once():
    world = World()
    world.peers = {"a": answers_after(0.01)}
    aim(world.book, [target("a", interval=600.0)], START)
    world.run(1)
    aim(world.book, [target("a", interval=2.0)], world.now)
    world.run(10)
    assert len(world.log) == 5


def test_a_paused_target_is_left_alone_and_keeps_its_statistics():
    world = World().probe(a=answers_after(0.01)).run(10.1)
    sent = world["a"].sent
    aim(world.book, [target("a", paused=True)], world.now)
    world.run(30)
    assert (world["a"].sent, len(world.log)) == (sent, sent)
    aim(world.book, [target("a")], world.now)
    world.run(10.1)
    assert world["a"].sent == sent + 2


def test_every_change_of_the_statistics_is_told_once_it_has_happened():
    world = World().probe(a=answers_after(0.01), b=silent, c=lambda *_: SendError.NO_KEY, d=answers_after(4))
    assert world.told == {}
    for _ in range(80):
        world.run(0.5)
        assert world.told == {name: stats for name, stats in world.book.stats().items() if stats.sent or stats.errors}
    assert len(world.told) == 4
    aim(world.book, [target("a"), target("b", 2, paused=True)], world.now)
    assert world.told["b"] == world["b"]


def test_an_address_that_is_none_is_refused_and_nothing_changes():
    world = World().probe(a=answers_after(0.01)).run(12)
    before = world["a"]
    with pytest.raises(ValueError, match="nonsense"):
        world.book.put(target("c", address="nonsense"), world.now)
    with pytest.raises(ValueError, match="nonsense"):
        world.book.put(target("a", address="nonsense"), world.now)
    assert world.book.stats() == {"a": before}
    assert world.run(10)["a"].sent == before.sent + 2


def test_who_probes_little_does_not_pay_for_the_whole_ring():
    tracemalloc.start()
    try:
        book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
        aim(book, [target("a")], START)
        (probe,) = launched(book, 1)
        assert tracemalloc.get_traced_memory()[0] < 300_000  # bytes
    finally:
        tracemalloc.stop()
    book.sent(probe.place, Reading(WALL, 2000.0))
    assert not book.answer(packed(1), RING - 1, probe.token, None, Reading(WALL + 1, 2001.0))
    assert book.answer(packed(1), probe.place, probe.token, None, Reading(WALL + 1, 2001.0))


@given(st.binary(max_size=16), st.integers(0, RING - 1), st.integers(0, 2**64 - 1))
def test_an_answer_that_is_not_ours_changes_nothing(sender, place, token):
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    aim(book, [target("a"), target("b", 2)], START)
    one, two = launched(book, 2)
    for probe in (one, two):
        book.sent(probe.place, Reading(WALL, 2000.0))
    before, read = book.stats(), Reading(WALL + 1, 2001.0)
    assert not book.answer(sender, place, token, WALL + 1, read)
    assert not book.answer(one.track.address, one.place, token, WALL + 1, read)
    assert not book.answer(one.track.address, (one.place + 1 + place % (RING - 2)) % RING, one.token, WALL + 1, read)
    assert not book.answer(two.track.address, one.place, one.token, WALL + 1, read)
    assert book.stats() == before


def stuck_after(end: float, world: World, name: str = "a") -> Peer:
    """What a connection tracker does that got a wrong entry before `end`: no echo with an ident of then is answered."""
    poisoned: set[int] = set()

    def peer(when: float, _number: int) -> list[float]:
        ident = world.idents[name][-1]
        if when < end:
            poisoned.add(ident)
        return [] if ident in poisoned else [0.02]

    return peer


def test_an_ident_that_is_stuck_to_a_dead_entry_is_given_up_after_a_few_losses():
    """The way is good again after 12 s, but not for the idents that were used until then."""
    world = World()
    world.probe(a=stuck_after(12.0 + START, world)).run(12)
    assert world["a"].up is False
    world.run(30)
    assert world["a"].up
    assert world["a"].rtt_last == pytest.approx(0.02, abs=1e-6)


def test_a_target_keeps_its_ident_while_it_answers_and_gets_another_one_at_every_third_loss_in_a_row():
    world = World().probe(a=answers_after(0.02)).run(100)
    assert len(set(world.idents["a"])) == 1
    world.peers["a"] = silent
    world.run(200)
    runs = [len(list(group)) for _, group in itertools.groupby(world.idents["a"])]
    assert len(runs) > 4
    assert set(runs[1:-1]) <= set(range(RENEW_AFTER, RENEW_AFTER + 4))  # one leaves every second, until the timeout
    world.peers["a"] = answers_after(0.02)
    kept = len(world.run(40).idents["a"])
    assert len(set(world.run(100).idents["a"][kept:])) == 1


def test_losses_between_answers_are_no_reason_for_another_ident():
    world = World().probe(a=lambda _, number: [0.02] if number % 3 == 0 else []).run(300)
    assert world["a"].lost > 20
    assert len(set(world.idents["a"])) == 1


def test_answers_that_come_late_keep_the_ident_and_one_to_an_earlier_ident_still_counts():
    """4 s on the way: three are lost before the first answer is there."""
    world = World(ProbeSettings(timeout=0.5)).probe(a=answers_after(4.0)).run(300)
    assert world["a"].late == world["a"].lost > 50
    assert len(set(world.idents["a"])) <= 2
    world = World(ProbeSettings(timeout=0.5)).probe(a=lambda _, number: [22.0] if number == 1 else []).run(21)
    assert len(set(world.idents["a"])) == 2
    assert world.run(7)["a"].late == 1


def test_idents_are_random_and_even_and_neither_they_nor_sequence_numbers_tell_of_those_of_others():
    """Half of all pairs of neighbours would be counted up if one ring served all as it is."""
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    aim(book, [target(str(n), n) for n in range(1000)], START)
    probes = [probe for n in range(1, 501) for probe in book.due(START + n * TICK)]
    assert len(probes) == 1000
    assert all(probe.ident % 2 == 0 for probe in probes)
    assert len({probe.ident for probe in probes}) > 970  # of 32,768, by the birthday paradox
    steps = [(later.sequence - sooner.sequence) % RING for sooner, later in pairwise(probes)]
    assert len(set(steps)) > 980
    assert [probe.place for probe in probes] == [book.place(probe.ident, probe.sequence) for probe in probes]


@pytest.mark.parametrize("step", [-3600.0, -0.01, 0.01, 3600.0])
def test_when_the_wall_clock_is_set_meanwhile_the_monotonic_clock_tells_the_time(step):
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    aim(book, [target("a")], START)
    (probe,) = launched(book, 1)
    book.sent(probe.place, Reading(WALL, 2000.0))
    book.answer(packed(1), probe.place, probe.token, WALL + step + 0.04, Reading(WALL + step + 0.05, 2000.05))
    assert book.stats()["a"].rtt_last == pytest.approx(0.05, abs=1e-6)


def test_without_a_step_the_kernel_stamp_tells_the_time_however_late_it_is_read():
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    aim(book, [target("a")], START)
    (probe,) = launched(book, 1)
    book.sent(probe.place, Reading(WALL, 2000.0))
    book.answer(packed(1), probe.place, probe.token, WALL + 0.04, Reading(WALL + 0.2501, 2000.25))
    assert book.stats()["a"].rtt_last == pytest.approx(0.04, abs=1e-6)


@pytest.mark.parametrize("stamp", [None, WALL - 5, WALL + 5])
def test_a_stamp_that_cannot_be_is_not_believed(stamp):
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    aim(book, [target("a")], START)
    (probe,) = launched(book, 1)
    book.sent(probe.place, Reading(WALL, 2000.0))
    book.answer(packed(1), probe.place, probe.token, stamp, Reading(WALL + 0.05, 2000.05))
    assert book.stats()["a"].rtt_last == pytest.approx(0.05, abs=1e-6)


def test_when_all_places_are_taken_no_more_probes_are_sent_until_some_are_lost():
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes)
    aim(book, [target(str(n), n, interval=0.01) for n in range(1000)], START)
    probes = [probe for n in range(1, 70) for probe in book.due(START + n * TICK)]
    assert len(probes) == RING - 1 == len({probe.place for probe in probes})
    refused = sum(dict(stats.errors).get(SendError.NO_BUFFER, 0) for stats in book.stats().values())
    assert refused == pytest.approx(69_000 - len(probes), abs=1000)
    book.expire(START + 5)
    assert len(book.due(START + 0.70)) == 1000
    assert sum(stats.lost for stats in book.stats().values()) == RING - 1


def test_probes_after_the_last_place_are_lost_like_any_other():
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes, longest_interval=0.0)
    aim(book, [target(str(n), n, interval=0.01) for n in range(1000)], START)
    for wave in range(1, 67):
        now = START + wave * TICK
        probes = book.due(now)
        for probe in probes:
            book.sent(probe.place, Reading(WALL + now, now))
        if wave < 66:
            book.expire(now + 3)
    before = [probe for probe in probes if probe.place > RING // 2]
    for probe in before:
        assert book.answer(probe.track.address, probe.place, probe.token, WALL + now, Reading(WALL + now, now))
    assert book.next_event(now) == pytest.approx(now + TICK)
    book.expire(now + 3)
    assert 0 < len(before) < len(probes)
    assert sum(stats.lost for stats in book.stats().values()) == 66_000 - len(before)


def test_suspicion_never_postpones_a_probe():
    chance = random.Random(3)
    world = World(ProbeSettings(suspect_interval=4.0))
    world.peers = {str(n): lambda *_: [] if chance.random() < 0.2 else [0.01] for n in range(30)}
    aim(world.book, [target(name, n + 1) for n, name in enumerate(world.peers)], START)
    world.run(200)
    assert max(max(gaps(world.times(name))) for name in world.peers) <= 1.5 * 5 + TICK


def test_a_silent_peer_is_never_probed_more_often_than_its_interval():
    world = World()
    world.peers = {"a": silent}
    aim(world.book, [target("a", interval=600.0)], START)
    world.run(20_000)
    assert min(gaps(world.times("a"))) >= 599.9


def test_places_that_became_free_are_taken_again():
    world = World()
    aim(world.book, [target(str(n), n) for n in range(40)], START)
    aim(world.book, [target(str(n), n) for n in range(20, 60)], START)
    due = sorted(probe.due % 5 for probe in launched(world.book, 40))
    assert max([*gaps(due), due[0] + 5 - due[-1]]) <= 2.7 * 5 / 40 + TICK


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.05, 0.5]))
def test_what_was_sent_is_what_was_answered_or_lost(seed, loss):
    chance = random.Random(seed)

    def peer(_when: float, _number: int) -> list[float]:
        return [] if chance.random() < loss else [chance.expovariate(1) for _ in range(chance.choice([1, 1, 2]))]

    world = World().probe(a=peer, b=peer).run(100)
    world.peers = dict.fromkeys(world.peers, silent)
    world.run(3.1)
    for name in world.peers:
        stats = world[name]
        assert stats.sent == stats.lost + sum(stats.buckets)
        assert len(world.times(name)) - 4 <= known(stats) <= len(world.times(name))


def test_loss_is_measured_within_the_binomial_error():
    chance = random.Random(5)
    world = World().probe(a=lambda *_: [] if chance.random() < 0.05 else [0.03]).run(8000)
    stats = world["a"]
    assert abs(stats.lost - 0.05 * stats.sent) < 4 * (stats.sent * 0.05 * 0.95) ** 0.5


def test_a_thousand_peers_that_never_answer_for_ten_thousand_rounds_need_no_more_memory_than_at_first():
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes, longest_interval=5 * 32)
    aim(book, [target(str(n), n) for n in range(1000)], START)
    now, sent, blocks = START, 0, 0
    for rounds in range(20):
        while now < START + (rounds + 1) * 2500:
            now += 0.25
            book.expire(now)
            probes = book.due(now)
            sent += len(probes)
            for probe in probes:
                book.sent(probe.place, Reading(WALL + now, now))
        if rounds == 9:
            blocks, sent_by_then = sys.getallocatedblocks(), sent
    assert sys.getallocatedblocks() < blocks + 10_000  # 10 for each target, whose counters outgrow the small numbers
    assert sent - sent_by_then > 2 * RING
    assert sum(stats.sent for stats in book.stats().values()) == pytest.approx(sent, abs=1000)
