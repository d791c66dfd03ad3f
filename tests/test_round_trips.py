"""The round trips of the last ten minutes: what is in a step, and that only the tick adds one."""

from __future__ import annotations

import json
import sys
import time

import pytest

from tests.probers import Unwatched
from tests.rows import SECOND, STATS, WALL, FakeHost, FakeTime, device, key, link, peer
from wg_exporter.config import Config
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.history.round_trips import STEP_SECONDS, STEPS, RoundTrips
from wg_exporter.probed import Probed

WG0 = ("", "wg0")


class Target:
    """One probed peer, whose counters grow as told. A step begins at every multiple of 15 s."""

    def __init__(self) -> None:
        self.trips, self.now = RoundTrips(), 0.0
        self.stats = STATS._replace(sent=0, lost=0, late=0, rtt_sum=0.0, late_sum=0.0)
        self.address = "10.0.0.2"
        self.look()

    def look(self) -> None:
        self.trips.take({WG0: {"A": Probed(self.address, self.stats, None)}}, self.now)

    def step(self, *rtts: float, lost: int = 0, late: float | None = None, seconds: float = STEP_SECONDS) -> None:
        """A step passes, in which answers with these round trips came, and probes were lost."""
        self.stats = self.stats._replace(
            sent=self.stats.sent + len(rtts) + lost,
            lost=self.stats.lost + lost,
            rtt_sum=self.stats.rtt_sum + sum(rtts),
            late=self.stats.late + (late is not None),
            late_sum=self.stats.late_sum + (late or 0.0),
        )
        self.now += seconds
        self.look()

    def line(self):
        [(where, public_key, found)] = self.trips.lines(self.now, WALL + self.now)
        assert (where, public_key) == (WG0, "A")
        return found

    def last(self, number: int = 1):
        found = self.line()
        return list(zip(found.means, found.lost, strict=True))[-number:]


@pytest.fixture
def target() -> Target:
    return Target()


def test_a_step_has_the_mean_of_its_answers_and_what_was_lost_in_it(target):
    target.step(0.01, 0.03)
    target.step(0.05, lost=2)
    assert target.last(3) == [(None, 0), (0.02, 0), (0.05, 2)]
    assert (len(target.line().means), len(target.line().lost)) == (STEPS, STEPS)


def test_a_step_without_answers_has_no_mean_and_one_without_probes_has_nothing(target):
    target.step(lost=3)
    target.step()
    assert target.last(2) == [(None, 3), (None, 0)]


def test_an_answer_that_came_late_is_a_long_round_trip_and_no_loss(target):
    target.step(lost=3)
    target.step(0.02, late=1.02)
    assert target.last(2) == [(None, 3), (0.52, 0)]


def test_nothing_is_drawn_of_a_peer_before_its_first_step_is_over(target):
    assert list(target.trips.lines(target.now, WALL)) == []
    target.step(0.01, seconds=STEP_SECONDS - 1)
    assert list(target.trips.lines(target.now, WALL)) == []


def test_looks_within_a_step_add_nothing(target):
    target.step(0.01)
    before = target.last(2)
    for _ in range(14):
        target.step(0.5, seconds=1)
        assert target.last(2) == before
    target.step(0.5, seconds=1)
    assert target.last(2) == [(0.01, 0), (0.5, 0)]


def test_after_ten_minutes_the_oldest_step_goes(target):
    for number in range(STEPS + 5):
        target.step(number / 1000 + 0.001)
    assert target.line().means == [pytest.approx(n / 1000 + 0.001, abs=1e-6) for n in range(5, STEPS + 5)]


def test_what_happened_while_nobody_looked_is_not_spread_over_steps(target):
    target.step(0.01)
    target.step(0.03, 0.05, lost=4, seconds=3 * STEP_SECONDS)
    assert target.last(4) == [(0.01, 0), (None, 0), (None, 0), (0.04, 4)]
    target.step(0.02, seconds=10_000 * STEP_SECONDS)
    assert target.last(2) == [(None, 0), (0.02, 0)]
    assert set(target.line().means[:-1]) == {None}


def test_counters_that_begin_anew_and_another_target_begin_another_line(target):
    target.step(0.01)
    target.stats = STATS._replace(sent=0, lost=0, late=0, rtt_sum=0.0, late_sum=0.0)
    target.step()
    assert list(target.trips.lines(target.now, WALL)) == []
    target.step(0.02)
    assert target.last(2) == [(None, 0), (0.02, 0)]
    target.address = "10.0.0.3"
    target.step(0.02)
    assert list(target.trips.lines(target.now, WALL)) == []


def test_a_line_ends_where_the_last_step_did_by_the_wall_clock(target):
    target.step(0.01, seconds=STEP_SECONDS + 4)
    assert target.line().until == WALL + STEP_SECONDS


def test_a_peer_that_is_not_probed_any_more_is_forgotten(target):
    target.step(0.01)
    target.trips.take({}, target.now + STEP_SECONDS)
    assert list(target.trips.lines(target.now, WALL)) == []


def test_ten_thousand_probed_peers_cost_little_memory_and_time():
    def probes(number):
        stats = STATS._replace(sent=5 * number, lost=0, late=0, rtt_sum=0.1 * number)
        return {WG0: {f"{n:043d}=": Probed("10.0.0.2", stats, None) for n in range(10_000)}}

    trips = RoundTrips()
    for number in range(3):
        found = probes(number)
        begun = time.process_time()
        trips.take(found, number * STEP_SECONDS)
        assert time.process_time() - begun < 1
    [peers] = trips._peers.values()
    one = next(iter(peers.values()))
    assert sys.getsizeof(one) + sum(sys.getsizeof(getattr(one, name)) for name in one.__slots__) < 1000


class _Prober(Unwatched):
    def __init__(self):
        self.known = {}

    def results(self):
        return {WG0: dict(self.known)}

    def set_peers(self, peers): ...
    def configure(self, config): ...
    def counters(self, rows): ...
    def scheduling_delay(self): ...
    def stop(self): ...
    def usages(self):
        return ()


def test_the_document_has_them_only_for_whom_asks_and_a_scrape_advances_nothing():
    host, clock, prober = FakeHost(), FakeTime(), _Prober()
    exporter = Exporter(Config(), None, host.sources, clock.clock, prober=prober)
    rows = [peer(number, last_handshake_ns=int((WALL - 10) * SECOND)) for number in (1, 2)]
    host.devices, host.links = [device(*rows)], [link()]

    def trips(**wish):
        found = json.loads(exporter.document(private=False, **wish))
        return [one["probe"] and one["probe"]["round_trips"] for one in found["devices"][0]["peers"]]

    try:
        for second in range(5, 65, 5):
            clock.advance(5)
            stats = STATS._replace(sent=second, lost=0, late=0, rtt_sum=second * 0.02)
            prober.known = {key(1): Probed("10.0.0.2", stats, None)}
            exporter.tick()
            for _ in range(3):
                exporter.scrape("")
        assert trips() == [None, None]
        one, other = trips(round_trips=True)
        assert other is None
        assert (one["step_seconds"], one["until"] <= clock.wall, len(one["lost"])) == (15, True, STEPS)
        assert [mean for mean in one["mean_seconds"] if mean] == [0.02] * 3
        last = exporter.last().devices[0].peers[0].probe.round_trips
        assert last.mean_seconds == one["mean_seconds"]
        clock.advance(60)
        for _ in range(5):  # looks that are no ticks
            exporter.scrape("")
        assert trips(round_trips=True)[0]["mean_seconds"] == one["mean_seconds"]
    finally:
        exporter.stop()
