"""When a quiet ends, whatever the clocks do; and its file, whatever is in it."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.rows import WALL, key
from wg_exporter.quiet import LONGEST, MOST, NOBODY, Quiet, QuietNow, plain
from wg_exporter.quiet.asked import AskedError, begin, end
from wg_exporter.quiet.book import LEAP, WRITE_EVERY, Book, Kept, Moment
from wg_exporter.quiet.file import FileError, decode, encode

YEARS = 40 * 365 * 86400.0
HOUR = 3600.0


def quiet(n: int = 1, seconds: float = 2 * HOUR, since: float = WALL, **changes: object) -> Quiet:
    row = Quiet("", "wg0", key(n) if n else "", f"peer {n}" if n else "", since, since + seconds, "new router")
    return row._replace(**changes)


class Clocks:
    """Two clocks that a test moves, and a book that follows them."""

    def __init__(self, wall: float = WALL) -> None:
        self.now = Moment(wall, 500.0)
        self.book = Book(self.now)

    def begin(self, seconds: float = 2 * HOUR) -> None:
        self.book.begin(quiet(seconds=seconds, since=self.now.wall), self.now)

    def go(self, seconds: float, jump: float = 0.0) -> None:
        self.now = Moment(self.now.wall + seconds + jump, self.now.monotonic + seconds)

    def restart(self, away: float = 0.0, wall: float | None = None) -> list[Quiet]:
        """Another process, by what was written down, and with a monotonic clock that begins anew."""
        kept = decode(encode(self.book.kept(self.now)))
        self.now = Moment(self.now.wall + away if wall is None else wall, 3.0)
        self.book = Book(self.now)
        return self.book.restore(kept, self.now)

    def is_quiet(self) -> bool:
        seen = bool(self.book.now(self.now))
        self.book.follow(self.now)
        assert bool(self.book.now(self.now)) is seen  # a tick changes nothing that one sees
        return seen

    def left(self) -> float:
        (found,) = self.book.now(self.now).all
        return found.until - self.now.wall


@pytest.fixture
def clocks():
    return Clocks()


# --- the end ----------------------------------------------------------------------------------------------------------


def test_it_ends_after_the_time_that_was_asked_for_and_says_so_once(clocks):
    clocks.begin()
    clocks.go(2 * HOUR - 1)
    assert clocks.is_quiet()
    clocks.go(1)
    assert not clocks.book.now(clocks.now)
    assert [one.name for one in clocks.book.follow(clocks.now)] == ["peer 1"]
    assert clocks.book.follow(clocks.now) == []


def test_it_ends_also_if_no_tick_comes_any_more(clocks):
    clocks.begin()
    clocks.go(2 * HOUR)
    assert clocks.book.now(clocks.now) is NOBODY or not clocks.book.now(clocks.now)


def test_while_nothing_changes_what_is_quiet_is_the_same_object(clocks):
    clocks.begin()
    first = clocks.book.now(clocks.now)
    clocks.go(60, jump=0.3)
    assert clocks.book.now(clocks.now) is first


def test_begun_again_it_lasts_as_long_as_was_asked_for_last(clocks):
    clocks.begin()
    clocks.go(HOUR)
    clocks.begin(600)
    assert clocks.left() == 600
    clocks.begin(5 * HOUR)
    assert clocks.left() == 5 * HOUR
    assert len(clocks.book) == 1


def test_a_clock_that_jumps_back_makes_nothing_longer(clocks):
    clocks.begin()
    clocks.go(HOUR, jump=-YEARS)
    assert clocks.is_quiet()
    assert clocks.left() == pytest.approx(HOUR)
    clocks.go(HOUR)
    assert not clocks.is_quiet()


def test_a_clock_that_jumps_back_by_minutes_makes_nothing_longer_and_the_end_is_told_by_the_new_time(clocks):
    clocks.begin()
    clocks.go(HOUR, jump=-1800)
    assert clocks.left() == pytest.approx(HOUR)
    clocks.go(HOUR)
    assert not clocks.is_quiet()


def test_a_host_that_slept_past_the_end_is_quiet_no_more(clocks):
    clocks.begin()
    clocks.go(60, jump=2 * HOUR)
    assert not clocks.is_quiet()


def test_a_clock_that_is_set_right_after_the_boot_by_decades_leaves_what_was_begun_before_as_long_as_asked_for():
    clocks = Clocks(wall=100.0)
    clocks.begin()
    clocks.go(60)
    assert clocks.is_quiet()
    clocks.go(5, jump=WALL)
    assert clocks.is_quiet()
    assert clocks.left() == pytest.approx(2 * HOUR - 65)
    clocks.go(2 * HOUR - 65)
    assert not clocks.is_quiet()


# --- restarts ---------------------------------------------------------------------------------------------------------


def test_a_restart_changes_nothing_and_time_goes_by_meanwhile(clocks):
    clocks.begin()
    clocks.go(HOUR)
    assert clocks.restart(away=600) == []
    assert clocks.left() == pytest.approx(HOUR - 600)
    assert clocks.book.now(clocks.now).all == (quiet(),)


def test_what_ended_while_nobody_ran_is_over_and_told(clocks):
    clocks.begin()
    assert [one.name for one in clocks.restart(away=2 * HOUR)] == ["peer 1"]
    assert not clocks.is_quiet()


def test_at_a_start_with_a_clock_that_is_behind_what_was_left_counts_less_what_may_be_missing(clocks):
    clocks.begin()
    clocks.go(HOUR)
    clocks.restart(wall=0.0)
    assert clocks.left() == pytest.approx(HOUR - WRITE_EVERY)
    clocks.go(30, jump=WALL + HOUR + 60)  # it is set right
    assert clocks.left() == pytest.approx(HOUR - 90)


def test_a_host_that_starts_again_and_again_with_such_a_clock_is_not_quiet_for_ever(clocks):
    clocks.begin()
    spent = 0
    while clocks.is_quiet():
        clocks.restart(wall=0.0)
        clocks.go(5)
        spent += 5
        assert spent <= 2 * HOUR


def test_at_a_start_with_a_clock_that_went_back_a_little_no_more_is_left_than_was_written_down(clocks):
    clocks.begin()
    clocks.go(HOUR)
    clocks.restart(away=-1800)
    assert clocks.left() == pytest.approx(HOUR)


STEPS = st.one_of(
    st.tuples(st.just("go"), st.floats(0, HOUR)),
    st.tuples(st.just("jump"), st.floats(-YEARS, YEARS)),
    st.tuples(st.just("jump"), st.floats(-2 * HOUR, 2 * HOUR)),
    st.tuples(st.just("restart"), st.floats(-YEARS, YEARS)),
    st.tuples(st.just("restart"), st.just(0.0)),
)


@given(st.lists(STEPS, max_size=30), st.floats(1.0, 4 * HOUR))
@example([("jump", -YEARS), ("jump", YEARS), ("go", HOUR), ("restart", -YEARS), ("jump", YEARS)], 2 * HOUR)
@example([("jump", LEAP + 1), ("restart", 0.0), ("go", HOUR)], HOUR)
def test_whatever_clocks_and_restarts_do_it_is_quiet_for_no_longer_than_was_asked_for(steps, seconds):
    """Counted while it runs: nobody can know how long it did not."""
    clocks = Clocks()
    clocks.begin(seconds)
    ran = 0.0
    for what, amount in steps:
        if what == "go":
            before = clocks.is_quiet()
            clocks.go(amount)
            ran += amount
            assert before or not clocks.is_quiet(), "it began by itself"
        elif what == "jump":
            clocks.go(0.0, jump=amount)
        else:
            clocks.restart(away=amount)
        assert not (clocks.is_quiet() and ran >= seconds + 1e-3)
        for one in clocks.book.now(clocks.now).all:
            assert one.until - clocks.now.wall <= seconds - ran + 1.1
            assert one.since < one.until


# --- who --------------------------------------------------------------------------------------------------------------


def test_a_peer_is_quiet_by_itself_or_with_its_interface_whichever_lasts_longer():
    own, whole, other = quiet(1), quiet(0, HOUR), quiet(2, interface="wg1")
    now = QuietNow([own, whole, other])
    assert now.peer(("", "wg0"), key(1)) == own
    assert now.peer(("", "wg0"), key(2)) == whole
    assert QuietNow([own, quiet(0, 3 * HOUR)]).peer(("", "wg0"), key(1)).until == WALL + 3 * HOUR
    assert now.peer(("", "wg1"), key(1)) is None
    assert now.peer(("blue", "wg0"), key(1)) is None
    assert now.interface(("", "wg1")) is None
    assert now.named(("", "wg0")) == {key(1)}


def test_a_device_that_is_renamed_takes_it_along(clocks):
    clocks.book.begin(quiet(1), clocks.now)
    clocks.book.begin(quiet(0), clocks.now)
    assert clocks.book.move(("", "wg0"), ("", "wan0"))
    assert not clocks.book.move(("", "wg0"), ("", "wan0"))
    assert {one.key for one in clocks.book.now(clocks.now).all} == {("", "wan0", key(1)), ("", "wan0", "")}


# --- the file ---------------------------------------------------------------------------------------------------------

KEPT = [Kept(quiet(1), 100.0), Kept(quiet(0, netns="blue", reason="größer"), 7200.0)]


def test_what_is_written_is_read_again():
    assert decode(encode(KEPT)) == KEPT
    assert decode(encode([])) == []


def changed(**changes: object) -> bytes:
    found = json.loads(encode(KEPT))
    found["quiet"][0] |= changes
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(encode(KEPT)[:-20], id="torn"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'{"version":2,"quiet":[]}', id="later"),
        pytest.param(b'{"version":1,"quiet":[],"more":1}', id="unknown field"),
        pytest.param(changed(more=1), id="unknown field of an entry"),
        pytest.param(changed(until=WALL + LONGEST + 10), id="too long"),
        pytest.param(changed(until=WALL - 1), id="ends before it begins"),
        pytest.param(changed(left=LONGEST + 1), id="too much left"),
        pytest.param(changed(left=-1), id="less than nothing left"),
        pytest.param(changed(since=1e300, until=1e300), id="no time"),
        pytest.param(changed(reason="a\x1b[2J"), id="control"),
        pytest.param(changed(name="a\nb"), id="line break"),
        pytest.param(changed(reason="x" * 201), id="long reason"),
        pytest.param(changed(interface=""), id="no interface"),
        pytest.param(changed(public_key="\n"), id="no key"),
        pytest.param(changed(public_key="x" * 44), id="wrong key"),
        pytest.param(encode([KEPT[0], KEPT[0]]), id="twice"),
        pytest.param(b'{"version":1,"quiet":' + b"[" * 100_000, id="deep"),
        pytest.param(b"\xff\xfe", id="bytes"),
        pytest.param(changed().replace(b"100.0", b"1e999"), id="infinite"),
        pytest.param(changed().replace(b"100.0", b"NaN"), id="not a number"),
    ],
)
def test_a_file_that_is_not_what_we_write_is_refused_in_one_line(data):
    with pytest.raises(FileError) as refused:
        decode(data)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


def test_of_too_many_entries_none_is_read():
    many = [Kept(quiet(1, interface=f"wg{n}"), 1.0) for n in range(MOST + 1)]
    assert len(decode(encode(many[:-1]))) == MOST
    with pytest.raises(FileError):
        decode(encode(many))


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.integers(0, len(encode(KEPT))).map(lambda at: encode(KEPT)[:at]),
        st.tuples(st.integers(0, len(encode(KEPT)) - 1), st.binary(max_size=3)).map(
            lambda cut: encode(KEPT)[: cut[0]] + cut[1] + encode(KEPT)[cut[0] + 1 :]
        ),
        st.dictionaries(st.sampled_from(list(json.loads(encode(KEPT))["quiet"][0])), _JSON).map(
            lambda changes: changed(**changes)
        ),
    )
)
def test_fuzz_a_file_is_read_or_refused_and_what_is_read_ends_within_the_longest_time(data):
    try:
        kept = decode(data)
    except FileError:
        return
    for wall in (0.0, WALL, WALL + YEARS, 2.0**41):
        now = Moment(wall, 3.0)
        book = Book(now)
        book.restore(kept, now)
        assert not book.now(Moment(wall, 3.0 + LONGEST))
        assert all(0 < one.until - wall <= LONGEST + 2 for one in book.now(now).all)


# --- requests ---------------------------------------------------------------------------------------------------------

ASK = {"interface": "wg0", "public_key": key(1), "seconds": "60"}


def test_a_request_is_a_peer_or_an_interface_and_a_time():
    assert begin(ASK | {"reason": "new router"}).key == ("", "wg0", key(1))
    assert begin({"interface": "wg0", "netns": "blue", "seconds": "1e3"}).seconds == 1000
    assert end({"interface": "wg0"}).key == ("", "wg0", "")
    assert (
        begin(ASK | {"public_key": "a+" * 21 + "a="}).public_key
        == begin(ASK | {"public_key": ("a+" * 21 + "a=").replace("+", " ")}).public_key
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seconds": "5"}, "interface is missing"),
        ({"interface": "wg0"}, "seconds is missing"),
        (ASK | {"seconds": "0"}, "seconds must be a number from 1 to 2592000"),
        (ASK | {"seconds": "2592001"}, "seconds must be a number from 1 to 2592000"),
        (ASK | {"seconds": "nan"}, "seconds must be a number"),
        (ASK | {"seconds": "inf"}, "seconds must be a number"),
        (ASK | {"seconds": "2h"}, "seconds must be a number"),
        (ASK | {"public_key": "x"}, "public_key must be"),
        pytest.param(ASK | {"public_key": ""}, "public_key is empty; without it, the whole", id="a variable not set"),
        (ASK | {"interface": "a" * 16}, "interface must be"),
        (ASK | {"reason": "x" * 201}, "reason has at most 200"),
        (ASK | {"reason": "a\x1b"}, "the reason must be one line"),
        (ASK | {"reason": "a\u202eb"}, "the reason must be one line"),
        (ASK | {"interface": "wg\x01"}, "interface holds what can't be printed"),
        (ASK | {"netns": "blue\n"}, "netns holds what can't be printed"),
        (ASK | {"until": "5"}, "a parameter that is not known"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_request_that_is_not_right_is_refused_with_a_line_that_says_why(asked, said):
    with pytest.raises(AskedError, match=said):
        begin(asked)


@pytest.mark.parametrize(
    "reason", ["\U0001f469\u200d\U0001f4bb is on it", "neuer\u00a0Router", "\u672c\u793e\u3000\u30eb"]
)
def test_a_reason_may_be_any_text_also_what_python_does_not_call_printable(reason):
    assert begin(ASK | {"reason": reason}).reason == reason


_ODD = st.characters() | st.sampled_from("\u00a0\u200d\u3000\u202e\u2028\ud800\x1b\U0001f469")
_TEXT = st.text(_ODD, max_size=300)


@given(
    st.fixed_dictionaries(
        {"interface": st.just("wg0") | st.text(_ODD, min_size=1, max_size=15)},
        optional={"netns": _TEXT, "reason": _TEXT, "public_key": st.just(key(1))},
    ),
    st.floats(1.0, LONGEST),
    _TEXT,
    st.floats(0.0, 2.0**40 - LONGEST),
)
@example({"interface": "wg0", "public_key": key(1)}, LONGEST, "B\u00fcro\u00a0Wien", 100.3)
@example({"interface": "wg0", "public_key": key(1)}, LONGEST, "\U0001f469\u200d\U0001f4bb", 2.0**31 - 5.3)
@example({"interface": "wg\x01"}, 60.0, "", WALL)
def test_what_is_taken_is_written_down_and_read_again_whole(parameters, seconds, name, wall):
    try:
        asked = begin(parameters | {"seconds": repr(seconds)})
    except AskedError:
        return
    found = Quiet(*asked.key, plain(name), wall, wall + asked.seconds, asked.reason)
    now = Moment(wall, 3.0)
    book = Book(now)
    book.begin(found, now)
    (kept,) = decode(encode(book.kept(now)))
    assert kept.quiet == found


@given(st.dictionaries(st.sampled_from([*ASK, "netns", "reason", "x"]), st.text(max_size=60)))
def test_fuzz_a_request_is_taken_or_refused_and_nothing_of_it_is_quoted(asked):
    said = ""
    try:
        begin(ASK | asked)
    except AskedError as error:
        said = str(error)
    assert said.isascii()
    assert len(said) < 100
