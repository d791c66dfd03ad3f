"""When fast echoes say that a peer is up or down, with a played clock.

A `World` is one network: for each echo of a peer `way` says after how many seconds its answer is there, None = never,
or that it can't be sent.
"""

from __future__ import annotations

import heapq
import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wg_exporter.prober.fast.book import NEVER, TICK, FastBook
from wg_exporter.prober.fast.track import KEPT, LONGEST_WAIT, RENEW_AFTER, FastTarget, FastTrack

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.prober.fast.book import FastEcho

    Way = Callable[[int], "float | str | None"]

START = 1000.0
GRAIN = TICK + 0.001  # seconds by which what is due may be late


def peer(number: int = 1, **fields: object) -> FastTarget:
    return FastTarget(number, "", 7, f"10.0.0.{number}", 0.1, 6)._replace(**fields)


class World:
    def __init__(self, way: Way, *targets: FastTarget, seed: int = 1) -> None:
        self.book = FastBook(random.Random(seed).randbytes)
        self.way = way
        self.now = START
        self.told: dict[int, list[tuple[float, bool | None]]] = {}
        self.sent: list[tuple[float, FastEcho]] = []
        self.numbers: dict[int, int] = {}
        self.flying: list[tuple[float, int, FastEcho]] = []
        for target in targets or (peer(),):
            self.book.put(target, self.now)

    def run(self, seconds: float) -> World:
        end = self.now + seconds
        while True:
            self._round()
            event = min(self.book.next_event(), self.flying[0][0] if self.flying else NEVER)
            if event > end:
                self.now = end
                return self
            self.now = max(event, self.now + 1e-6)

    def stand_still(self, seconds: float) -> World:
        """The host stops; the network does not."""
        self.now += seconds
        return self

    def _round(self) -> None:
        while self.flying and self.flying[0][0] <= self.now:
            arrived, _, echo = heapq.heappop(self.flying)
            self.book.answer(echo.track.address, echo.ident, echo.token, arrived)
        self.book.look(self.now)
        for echo in self.book.due(self.now):
            self._send(echo)
        for name, up in self.book.changes().items():
            self.told.setdefault(name, []).append((self.now - START, up))

    def _send(self, echo: FastEcho) -> None:
        name = echo.track.target.id
        number = self.numbers[name] = self.numbers.get(name, -1) + 1
        self.sent.append((self.now, echo))
        fate = self.way(number)
        if fate == "no socket":
            self.book.impossible(echo)
        elif isinstance(fate, str):
            self.book.failed(echo)
        elif fate is not None:
            heapq.heappush(self.flying, (self.now + fate, len(self.sent), echo))

    def states(self, name: int = 1) -> list[bool | None]:
        return [up for _, up in self.told[name]]

    def when(self, number: int, name: int = 1) -> float:
        """Seconds from the start until this echo left."""
        return [when - START for when, echo in self.sent if echo.track.target.id == name][number]


def cut_after(number: int, delay: float = 0.01) -> Way:
    return lambda n: delay if n < number else None


def test_a_peer_is_up_with_the_sixth_answer_in_a_row_and_nothing_is_known_before():
    world = World(lambda _n: 0.01).run(3)
    assert world.states() == [None, True]
    assert world.told[1][1][0] == pytest.approx(world.when(5) + 0.01)


def test_a_peer_that_never_answers_is_down_after_six_intervals():
    world = World(lambda _n: None).run(3)
    assert world.states() == [None, False]
    assert world.told[1][1][0] == pytest.approx(0.6, abs=GRAIN)


@pytest.mark.parametrize(("interval", "multiplier"), [(0.1, 6), (0.05, 3), (0.3, 2), (1.0, 4)])
def test_a_cut_is_told_when_that_many_intervals_have_gone_by_without_an_answer(interval, multiplier):
    world = World(cut_after(20), peer(interval=interval, multiplier=multiplier)).run(20 * interval + 10 * interval)
    assert world.states() == [None, True, False]
    told, first_lost = world.told[1][-1][0], world.when(20)
    assert told - first_lost == pytest.approx(multiplier * interval, abs=GRAIN)
    assert told - world.when(19) <= (multiplier + 1) * interval + GRAIN


def test_a_peer_comes_back_with_the_sixth_answer_in_a_row():
    world = World(lambda n: None if 20 <= n < 40 or n == 45 else 0.01).run(8)
    assert world.states() == [None, True, False, True]
    assert world.told[1][-1][0] == pytest.approx(world.when(51) + 0.01)  # 40 to 44 were five, then one was lost


@given(
    st.lists(st.booleans(), min_size=1, max_size=300),
    st.integers(2, 8),
    st.sampled_from([0.05, 0.1, 0.35]),
    st.floats(0.0, 0.3),
)
@settings(max_examples=200)
def test_whatever_is_lost_only_so_many_in_a_row_change_the_state(answered, multiplier, interval, part):
    """`part` of an interval is what an answer takes, little enough that none is waited for longer.

    What is expected is read off the losses themselves.
    """
    expected: list[bool | None] = [None]
    run, before = 0, None
    for one in answered:
        run = run + 1 if one is before else 1
        before = one
        if run == multiplier and expected[-1] is not one:
            expected.append(one)
    delay = part * interval
    world = World(
        lambda n: delay if (answered[n] if n < len(answered) else answered[-1]) else None,
        peer(interval=interval, multiplier=multiplier),
    )
    world.run(interval * (len(answered) + 2 * multiplier + 2))
    if [answered[-1]] != expected[-1:]:
        expected.append(answered[-1])  # what came last goes on
    assert world.states() == expected


def test_one_echo_less_than_the_multiplier_may_be_lost_again_and_again():
    assert World(lambda n: None if n % 6 else 0.01).run(60).told == {1: [(0.0, None)]}
    world = World(lambda n: 0.01 if n < 6 or n % 6 == 0 else None).run(60)
    assert world.states() == [None, True]


@pytest.mark.parametrize("delay", [0.15, 0.35, 0.7, 0.95])
def test_a_long_way_is_no_outage_and_a_cut_of_it_is_found_as_soon_as_an_answer_could_have_come(delay):
    world = World(cut_after(100, delay)).run(14)
    assert world.states()[-1] is False
    assert True in world.states()
    steady = [up for when, up in world.told[1] if when > 5]
    assert steady == [False]  # it is up all the time from when the way is known to the cut
    assert world.told[1][-1][0] - world.when(100) <= 0.5 + max(LONGEST_WAIT, delay) + GRAIN


def test_answers_that_wander_by_half_an_interval_and_overtake_each_other_are_answers():
    draw = random.Random(7)
    world = World(lambda _n: draw.uniform(0.05, 0.25)).run(120)
    assert world.states() == [None, True]


def test_a_way_that_is_now_short_and_now_long_is_waited_for_as_long_as_it_varies():
    world = World(lambda n: 0.05 if n // 10 % 2 else 0.32, peer(multiplier=2)).run(60)
    assert [up for when, up in world.told[1] if when > 5] == []


def test_an_answer_that_was_overtaken_does_not_make_its_peer_look_older():
    world = World(lambda n: (0.01 if n % 2 == 0 else 0.15) if n < 101 else None).run(15)
    assert world.states() == [None, True, False]
    sixth = world.when(106)  # of those that are lost
    assert world.told[1][-1][0] - sixth == pytest.approx(world.book.track(1).wait, abs=GRAIN)


def test_after_an_answer_that_was_read_late_a_cut_is_soon_found_as_fast_as_before():
    track = FastTrack(peer(), 0, 0)
    for n in range(40):
        track.answer(track.send(n * 0.1), n * 0.1 + (60.0 if n == 9 else 0.01))
        assert track.wait <= LONGEST_WAIT
    assert track.wait == 0.1


def test_what_was_answered_before_a_long_outage_does_not_count_after_it():
    world = World(lambda n: None if 300 <= n < 450 else 0.01).run(50)
    assert world.states() == [None, True, False, True]
    assert world.told[1][-1][0] == pytest.approx(world.when(455) + 0.01)


@pytest.mark.parametrize("seconds", [0.5, 0.9, 5.0, 3600.0])
def test_a_host_that_stands_still_finds_nobody_down_and_sends_no_burst(seconds):
    world = World(lambda _n: 0.01).run(2)
    before = len(world.sent)
    world.stand_still(seconds).run(2)
    assert world.states() == [None, True]
    assert len(world.sent) - before <= 22


def test_what_can_not_be_sent_is_not_answered():
    world = World(lambda n: 0.01 if n < 10 else "no device").run(3)
    assert world.states() == [None, True, False]


def test_while_this_host_has_no_socket_to_send_by_nothing_is_known():
    assert World(lambda _n: "no socket").run(5).told == {1: [(0.0, None)]}
    world = World(lambda n: "no socket" if 20 <= n < 40 else 0.01).run(6)
    assert world.states() == [None, True, None, True]
    assert world.told[1][-1][0] == pytest.approx(world.when(45) + 0.01)


def test_echoes_of_many_peers_are_spread_and_keep_their_pace():
    world = World(lambda _n: 0.01, *(peer(n) for n in range(1, 65))).run(10)
    times = [when for when, _ in world.sent]
    assert len(times) == pytest.approx(6400, abs=64)
    assert max(sum(1 for other in times if 0 <= other - when < TICK) for when in times[:640]) <= 16
    own = [when for when, echo in world.sent if echo.track.target.id == 5]
    assert all(0.1 - GRAIN <= later - when <= 0.1 + GRAIN for when, later in pairwise(own))
    assert all(world.states(n) == [None, True] for n in range(1, 65))


def test_only_the_token_of_an_echo_that_waits_from_its_own_address_is_an_answer():
    world = World(lambda _n: None).run(0.35)
    _, echo = world.sent[-1]
    book, address = world.book, echo.track.address
    assert not book.answer(b"\x0a\0\0\x02", echo.ident, echo.token, world.now)
    assert not book.answer(address, echo.ident, echo.token ^ 1, world.now)
    assert not book.answer(address, echo.ident | 1, echo.token, world.now)
    assert book.answer(address, echo.ident, echo.token, world.now)
    assert not book.answer(address, echo.ident, echo.token, world.now)  # twice
    assert echo.track.last_answered == len(world.sent) - 1


def test_an_answer_that_takes_more_than_a_second_is_none():
    assert World(lambda _n: LONGEST_WAIT + 0.01).run(10).states() == [None, False]


def test_a_peer_with_another_address_is_unknown_until_it_has_answered_itself():
    world = World(lambda _n: 0.01).run(2)
    world.book.put(peer(address="10.0.0.9"), world.now)
    world.run(2)
    assert world.states() == [None, True, None, True]


def test_a_new_pace_or_device_changes_no_state():
    world = World(cut_after(60)).run(2)
    track = world.book.track(1)
    assert world.book.put(peer(ifindex=9, interval=1.0, multiplier=3), world.now) is track
    world.book.put(peer(interval=0.05, multiplier=3), world.now)
    world.run(4)
    assert world.states() == [None, True, False]
    assert world.told[1][-1][0] - world.when(60) == pytest.approx(0.15, abs=GRAIN)


def test_a_shorter_interval_begins_at_once():
    world = World(lambda _n: 0.01, peer(interval=10.0)).run(1)
    world.book.put(peer(interval=0.1), world.now)
    world.run(1)
    assert len(world.sent) == pytest.approx(11, abs=1)


def test_a_peer_that_is_removed_is_asked_no_more_and_its_late_answers_tell_nothing():
    world = World(lambda _n: 0.08).run(0.55)
    sent = len(world.sent)
    world.book.remove(1)
    world.run(1)  # the sixth answer comes
    assert (len(world.sent), len(world.book), world.states()) == (sent, 0, [None])
    assert world.book.next_event() == NEVER


def test_a_silent_peer_gets_a_new_ident_now_and_then_and_one_that_answers_keeps_its_own():
    world = World(cut_after(30)).run(10)
    idents = [echo.ident for _, echo in world.sent]
    assert len(set(idents[:30])) == 1
    assert len(set(idents[30:])) == pytest.approx((len(idents) - 30) / RENEW_AFTER, abs=2)
    assert not any(ident & 1 for ident in idents)
    assert [echo.sequence for _, echo in world.sent[:3]] == [(world.sent[0][1].sequence + n) & 0xFFFF for n in range(3)]


def test_silence_and_floods_take_no_memory():
    world = World(lambda _n: None, *(peer(n, interval=0.05) for n in range(1, 5))).run(120)
    assert len(world.book._waiting) <= 4 * (LONGEST_WAIT / 0.05 + 1)
    assert len(world.book._sent) <= 4 * (LONGEST_WAIT / 0.05 + 1)


def test_more_echoes_are_remembered_than_can_be_of_use():
    assert KEPT >= 2 * (LONGEST_WAIT / 0.05 + 50)


def test_all_states_can_be_asked_for():
    world = World(lambda _n: 0.01, peer(1), peer(2)).run(1)
    assert world.book.states() == {1: True, 2: True}
    assert not world.book.changed
