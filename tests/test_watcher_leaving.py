"""When what leaves is looked at: always on a quiet host, in turns on a busy one."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from wg_exporter.prober.watcher.leaving import BUSY, CHECK, EVERY, FIRST_CHECK, FIRST_TURN, TURN, Leaving
from wg_exporter.sighted import Sighting


class Host:
    """Sends `rate` packets a second, and is asked whenever the socket wants to know."""

    def __init__(self, rate):
        self.rate, self.now, self.packets = rate, 100.0, 5_000
        self.leaving = Leaving(self.now, self.packets)
        self.looked = []

    def go(self, seconds):
        """Returns from when to when it was looked at, in seconds since the socket opened."""
        end = self.now + seconds
        while self.leaving.due <= end:
            passed, self.now = self.leaving.due - self.now, self.leaving.due
            self.packets += int(passed * self.rate)
            if self.leaving.follow(self.packets, self.now):
                self.looked.append(round(self.now - 100, 3))
        return self.looked


def test_where_little_leaves_it_is_looked_at_from_the_first_moment_on():
    host = Host(BUSY - 100)
    assert host.go(200) == [FIRST_CHECK]
    assert (host.leaving.since, host.leaving.until) == (100 + FIRST_CHECK, inf)


def test_where_much_leaves_it_is_looked_at_in_turns_that_are_long_enough_for_two_tries():
    begins, ends, *later = Host(40 * BUSY).go(40)
    assert FIRST_TURN <= begins < FIRST_TURN + CHECK
    assert ends - begins >= 2 * 5.34 + 1
    assert later[0] - begins == EVERY


def test_on_a_busy_host_it_is_looked_at_less_than_half_of_the_time():
    assert TURN + CHECK < EVERY / 2


def test_when_a_host_becomes_busy_the_time_until_then_still_counts():
    host = Host(0)
    host.go(3)
    host.rate = 10 * BUSY
    host.go(2)
    assert not host.leaving.looking
    assert (host.leaving.since, host.leaving.until) == (100 + FIRST_CHECK, 100 + FIRST_CHECK + 3)


def test_and_when_it_is_quiet_again_it_is_looked_at_at_once():
    host = Host(10 * BUSY)
    host.go(20)
    assert not host.leaving.looking
    host.rate = 0
    host.go(CHECK)
    assert host.leaving.looking


@given(st.lists(st.tuples(st.floats(0.01, 5), st.integers(-(10**6), 10**7)), max_size=30))
def test_fuzz_whatever_the_counters_say_it_is_looked_at_in_times_that_follow_each_other(steps):
    leaving, now, packets = Leaving(0.0, 0), 0.0, 0
    for seconds, more in steps:
        now, packets = now + seconds, packets + more
        changed = leaving.follow(packets, now)
        assert leaving.due > now
        assert leaving.looking == (leaving.until == inf and leaving.since is not None)
        if changed:
            assert now == (leaving.since if leaving.looking else leaving.until)


def test_a_row_says_nothing_of_the_times_where_all_of_the_window_was_looked_at():
    assert (Sighting(1.0, 2.0).out_from, Sighting(1.0, 2.0).out_to) == (-inf, inf)
