"""Units and ages in words: exact where one unit ends and the next begins, and never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_exporter.status import words

NOW = 1_760_000_000


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "just now"),
        (1, "1 second ago"),
        (119, "119 seconds ago"),
        (120, "2 minutes ago"),
        (7199, "119 minutes ago"),
        (7200, "2 hours ago"),
        (172_799, "47 hours ago"),
        (172_800, "2 days ago"),
        (1_000 * 86_400, "1,000 days ago"),
    ],
)
def test_an_age_changes_its_unit_at_two_of_the_next(seconds, said):
    assert words.ago(seconds) == said


def test_a_handshake_during_the_read_is_just_now_and_not_a_fault_of_the_clock():
    assert words.handshake((NOW + 3) * 10**9, NOW) == "just now"


def test_a_handshake_beyond_the_longest_read_is_in_the_future():
    assert words.handshake((NOW + 3) * 10**9 + 1, NOW) == "in the future (clock?)"


def test_a_peer_without_a_handshake_never_connected_and_is_not_56_years_old():
    assert words.handshake(0, NOW) == "never connected"
    assert words.handshake_age(0, NOW) is None


@given(st.integers(), st.integers())
def test_of_two_ages_the_longer_one_never_reads_shorter(one, other):
    shorter, longer = sorted((one, other))
    assert _seconds_said(words.ago(shorter)) <= _seconds_said(words.ago(longer))


@given(st.integers(min_value=0, max_value=2**40))
def test_an_age_in_words_hides_less_than_half_of_it(seconds):
    said = _seconds_said(words.ago(seconds))
    assert said <= seconds < max(1.5 * said, 1)


def _seconds_said(text: str) -> int:
    if text in ("just now", words.FUTURE):
        return {"just now": 0, words.FUTURE: -1}[text]
    number, unit, _ = text.split()
    return int(number.replace(",", "")) * {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}[unit.rstrip("s")]


@given(st.integers(min_value=0, max_value=2**63), st.floats(min_value=0, max_value=2**40))
def test_any_handshake_against_any_clock_can_be_said(handshake_ns, wall):
    assert words.handshake(handshake_ns, wall)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1024 + 10, "1.00 KiB"),
        (1024 + 11, "1.01 KiB"),
        (10 * 1024 - 1, "9.99 KiB"),
        (10 * 1024, "10.0 KiB"),
        (100 * 1024 - 1, "99.9 KiB"),
        (100 * 1024, "100 KiB"),
        (1024**2 - 1, "1023 KiB"),
        (1024**2, "1.00 MiB"),
        (1024**3, "1.00 GiB"),
        (2**64 - 1, "15.9 EiB"),
        (-2048, "-2.00 KiB"),
    ],
)
def test_bytes_have_three_digits_and_are_cut_at_the_unit_boundary(number, said):
    assert words.size(number) == said


@given(st.integers(min_value=0, max_value=2**64), st.integers(min_value=0, max_value=2**64))
def test_of_two_byte_counts_the_larger_one_never_reads_smaller(one, other):
    smaller, larger = sorted((one, other))
    assert _bytes_said(words.size(smaller)) <= _bytes_said(words.size(larger))


@given(st.integers(min_value=0, max_value=2**64))
def test_bytes_in_words_never_claim_more_than_arrived_and_fit_their_column(number):
    said = words.size(number)
    assert 0.99 * number - 0.01 <= _bytes_said(said) <= number * (1 + 1e-12)
    assert len(said) <= 8


def _bytes_said(text: str) -> float:
    number, unit = text.split()
    return float(number) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].index(unit)


@given(st.integers())
def test_any_number_of_bytes_can_be_said(number):
    assert words.size(number)


def test_a_rate_is_bytes_over_the_seconds_between_two_readings():
    assert words.rate(1000, 1000 + 4 * 1024, 2.0) == "2.00 KiB/s"
    assert words.rate(5, 5, 2.0) == "0 B/s"
    assert words.rate(5, 6, 2.0) == "<1 B/s"


def test_a_counter_that_went_back_has_no_rate():
    assert words.rate(1000, 10, 2.0) == "-"


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_without_time_between_two_readings_there_is_no_rate(seconds):
    assert words.rate(0, 1000, seconds) == "-"


@given(st.integers(0, 2**64), st.integers(0, 2**64), st.floats(allow_nan=False, allow_infinity=False))
def test_any_two_readings_give_a_rate_or_none(before, after, seconds):
    assert words.rate(before, after, seconds)


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("two\nlines", r"two\nlines"),
        ("\x9b31m", r"\x9b31m"),
        ("bell\x07", r"bell\x07"),
        ("user\u202egnp.exe", r"user\u202egnp.exe"),
        ("a\u200bb", r"a\u200bb"),
        ("half \ud83d", r"half \ud83d"),
        ("日本語 ü 🎉", "日本語 ü 🎉"),
        ("[red]", "[red]"),
    ],
)
def test_what_could_drive_a_terminal_is_spelled_out(hostile, shown):
    assert words.plain(hostile) == shown


def test_what_the_terminal_cannot_express_is_spelled_out():
    assert words.plain("Zürich 東", "latin-1") == r"Zürich \u6771"
    assert words.plain("Zürich", "ascii") == r"Z\xfcrich"


@given(st.text(alphabet=st.characters(exclude_categories=[])), st.sampled_from(["utf-8", "ascii", "latin-1"]))
def test_plain_text_is_printable_and_can_always_be_written(text, encoding):
    shown = words.plain(text, encoding)
    assert shown.isprintable()
    shown.encode(encoding)


def test_items_that_do_not_fit_are_counted():
    ips = ["10.0.0.2/32", "10.0.0.3/32", "10.0.0.4/32", "10.0.0.5/32"]
    assert words.some_of(ips, 100) == "10.0.0.2/32, 10.0.0.3/32, 10.0.0.4/32, 10.0.0.5/32"
    assert words.some_of(ips, 27) == "10.0.0.2/32, 10.0.0.3/32 +2"
    assert words.some_of(ips, 26) == "10.0.0.2/32 +3"
    assert words.some_of(ips, 1) == "10.0.0.2/32 +3"
    assert words.some_of([], 20) == ""


@given(st.lists(st.from_regex(r"[0-9a-f./:]{1,20}", fullmatch=True)), st.integers(25, 80))
def test_no_item_is_lost_between_those_shown_and_those_counted(items, width):
    shown, _, more = words.some_of(items, width).partition(" +")
    assert len(shown.split(", ") if shown else []) + int(more or 0) == len(items)
    assert len(words.some_of(items, width)) <= width


def test_a_long_list_in_a_sentence_ends_in_how_many_more():
    assert words.first_of(["a", "b\n"], 2) == r"a, b\n"
    assert words.first_of("abcde", 2) == "a, b and 3 more"
