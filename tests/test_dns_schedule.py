"""When host names are looked up: a fake clock, and answers of the test's own."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from wg_exporter.hostnames import LookupFailure
from wg_exporter.messages.resolver import MOST_AT_ONCE
from wg_exporter.reader.dns.schedule import INTERVAL, LEAST, MOST_NAMES, PACE, PATIENCE, SOON, Schedule

WALL = 1_700_000_000.0
FOUND = ("192.0.2.1:51820",)


class Play:
    """A schedule, the time, and what was asked when."""

    def __init__(self, *names: str) -> None:
        self.schedule = Schedule()
        self.now = 1000.0
        self.schedule.use(names, self.now)
        self.asked: list[tuple[float, str]] = []
        self.answers: dict[str, tuple[tuple[str, ...], LookupFailure | None] | None] = {}

    def pass_by(self, seconds: float) -> None:
        """Let time go by. Each question is answered at once, as `answers` says; None = never."""
        end = self.now + seconds
        while True:
            self.schedule.expire(self.now, WALL + self.now)
            for number, name in list(self.schedule.take(self.now)):
                self.asked.append((self.now, name))
                answer = self.answers.get(name, (FOUND, None))
                if answer is not None:
                    self.schedule.answer(number, *answer, self.now, WALL + self.now)
            until = self.schedule.next_time()
            assert until > self.now, "it would run without end"
            if until > end:
                self.now = end
                return
            self.now = until

    def times(self, name: str) -> list[float]:
        return [at for at, asked in self.asked if asked == name]

    def gaps(self, name: str) -> list[float]:
        times = self.times(name)
        return [later - before for before, later in itertools.pairwise(times)]

    def row(self, name: str):
        return next(row for row in self.schedule.rows if row.endpoint == name)


def test_a_name_is_looked_up_at_once_and_then_every_five_minutes():
    play = Play("a.example:51820")
    play.pass_by(3000)
    first, *later = play.gaps("a.example:51820")
    assert play.times("a.example:51820")[0] == 1000.0
    assert INTERVAL / 2 <= first <= INTERVAL * 1.5
    assert later
    assert all(abs(gap - INTERVAL) < 1 for gap in later)


def test_many_names_are_spread_over_the_interval():
    names = [f"h{number}.example:51820" for number in range(300)]
    play = Play(*names)
    play.pass_by(3600)
    late = [at for at, _ in play.asked if at > 2000]
    busiest = max(sum(at <= other < at + 10 for other in late) for at in late)
    assert busiest < 40, "300 names are 10 in 10 s, if they are spread"
    first = [at for at, _ in play.asked[:300]]
    assert all(later - before >= PACE - 1e-9 for before, later in itertools.pairwise(first))


def test_a_name_of_a_peer_that_is_not_well_is_asked_for_sooner_but_never_twice_in_half_a_minute():
    name = "a.example:51820"
    play = Play(name)
    play.pass_by(5)
    play.schedule.unwell(frozenset({name}), play.now)
    play.pass_by(300)
    first, *later = play.gaps(name)
    assert first == LEAST
    assert later
    assert set(later) == {SOON}
    # Whatever is said of it, and however often.
    before = len(play.asked)
    for _ in range(600):
        play.schedule.unwell(frozenset(), play.now)
        play.schedule.unwell(frozenset({name}), play.now)
        play.pass_by(0.1)
    assert len(play.asked) - before <= 60 / LEAST + 1


def test_of_names_that_wait_those_of_peers_that_are_not_well_come_first():
    names = [f"h{number}.example:51820" for number in range(100)]
    play = Play(*names)
    play.schedule.unwell(frozenset({names[90]}), play.now)
    play.pass_by(0.01)
    assert play.asked[0][1] == names[90]


def test_a_failure_is_tried_again_before_its_time_and_more_and_more_rarely():
    name = "a.example:51820"
    play = Play(name)
    play.answers[name] = ((), LookupFailure.NOT_FOUND)
    play.pass_by(2000)
    assert play.gaps(name)[:4] == [60.0, 120.0, 240.0, 300.0]
    assert set(play.gaps(name)[3:]) == {INTERVAL}


def test_a_failure_says_since_when_and_a_success_ends_it():
    name = "a.example:51820"
    play = Play(name)
    play.pass_by(1)
    found = play.row(name)
    assert (found.addresses, found.at, found.failure, found.failed_since) == (FOUND, WALL + 1000, None, 0.0)
    play.answers[name] = ((), LookupFailure.NO_ANSWER)
    play.pass_by(1000)
    failed = play.row(name)
    assert failed.addresses == (), "what it was before is not known to be so"
    assert failed.failure is LookupFailure.NO_ANSWER
    assert failed.at == WALL + 1000
    assert failed.failed_since == WALL + play.times(name)[1]
    del play.answers[name]
    play.pass_by(400)
    assert play.row(name).failure is None
    assert play.row(name).failed_since == 0.0


def test_a_name_that_nobody_answers_is_late_and_holds_up_no_other():
    play = Play("slow.example:1", *(f"h{number}.example:1" for number in range(20)))
    play.answers["slow.example:1"] = None
    play.pass_by(10)
    assert len({name for _, name in play.asked}) == 21, "all others were asked for meanwhile"
    assert all(row.endpoint != "slow.example:1" for row in play.schedule.rows), "nothing is known of it"
    play.pass_by(PATIENCE)
    assert play.row("slow.example:1").failure is LookupFailure.LATE


def test_at_most_a_few_questions_are_open():
    play = Play(*(f"h{number}.example:1" for number in range(50)))
    play.answers = dict.fromkeys((f"h{number}.example:1" for number in range(50)), None)
    play.pass_by(10)
    assert len(play.asked) == MOST_AT_ONCE
    play.pass_by(PATIENCE * 50)
    assert len({name for _, name in play.asked}) == 50, "each had its turn"


def test_nor_are_more_if_it_is_asked_again_and_again():
    schedule = Schedule()
    schedule.use((f"h{number}.example:1" for number in range(50)), 0.0)
    assert sum(len(list(schedule.take(second / 10))) for second in range(1, 200)) == MOST_AT_ONCE


def test_an_answer_that_nobody_waits_for_is_dropped():
    play = Play("a.example:1")
    number, _name = next(play.schedule.take(play.now))
    play.schedule.answer(number + 7, ("192.0.2.66:1",), None, play.now, WALL)
    assert play.schedule.rows == ()
    play.schedule.expire(play.now + PATIENCE, WALL)
    play.schedule.answer(number, ("192.0.2.66:1",), None, play.now, WALL)
    assert play.row("a.example:1").failure is LookupFailure.LATE
    play.schedule.use((), play.now)
    assert play.schedule.rows == ()


def test_a_resolver_that_is_gone_is_no_answer_to_all_that_was_asked():
    play = Play("a.example:1", "b.example:1")
    play.answers = dict.fromkeys(("a.example:1", "b.example:1"), None)
    play.pass_by(1)
    play.schedule.lost(play.now, WALL)
    assert [row.failure for row in play.schedule.rows] == [LookupFailure.UNUSABLE] * 2


def test_of_too_many_names_only_the_first_are_looked_up():
    play = Play(*(f"h{number}.example:1" for number in range(MOST_NAMES + 50)))
    play.pass_by(INTERVAL)
    assert len({name for _, name in play.asked}) == MOST_NAMES


def test_names_that_stay_keep_what_is_known_of_them_and_rows_are_the_same_object_while_nothing_changes():
    play = Play("a.example:1", "b.example:1")
    play.pass_by(1)
    rows = play.schedule.rows
    assert play.schedule.rows is rows
    play.schedule.use(("a.example:1", "b.example:1"), play.now)
    assert play.schedule.rows is rows
    play.schedule.use(("b.example:1", "c.example:1"), play.now)
    assert [row.endpoint for row in play.schedule.rows] == ["b.example:1"]
    play.pass_by(1)
    assert play.times("c.example:1") == [1001.0]
    assert len(play.times("b.example:1")) == 1


NAMES = st.sampled_from([f"h{number}.example:1" for number in range(12)])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("use"), st.lists(NAMES, max_size=12)),
            st.tuples(st.just("unwell"), st.frozensets(NAMES)),
            st.tuples(st.just("pass"), st.floats(0.01, 400)),
            st.tuples(st.just("fail"), NAMES),
            st.tuples(st.just("hang"), NAMES),
        ),
        max_size=25,
    )
)
def test_whatever_is_said_no_name_is_asked_for_more_often_than_is_fair(steps):
    play = Play()
    for what, value in steps:
        if what == "use":
            play.schedule.use(value, play.now)
        elif what == "unwell":
            play.schedule.unwell(value, play.now)
        elif what == "pass":
            play.pass_by(value)
        else:
            play.answers[value] = ((), LookupFailure.NOT_FOUND) if what == "fail" else None
    moments = sorted(at for at, _ in play.asked)
    assert all(later - before >= PACE - 1e-6 for before, later in itertools.pairwise(moments))
    forgotten = any(what == "use" for what, _ in steps)
    for name in {name for _, name in play.asked}:
        assert forgotten or min(play.gaps(name), default=LEAST) >= LEAST - 1e-6
