"""What the prober's process has told, over all of its lives."""

from __future__ import annotations

import pytest

from tests.probers import STATS
from wg_exporter.probed import MtuReport, Probed, ProbeStats, SendError, Verdict
from wg_exporter.remote.prober.known import Known, added

KEY = ("", "wg0", "k")
REPORT = MtuReport(Verdict.OK, 1420, 1420, None, 0, 1480, 1420, None, "", 0.0)


def known(since: ProbeStats | None = None, target: str = "t") -> Known:
    """`STATS` and `REPORT` were told by an earlier process, `since` by the one of now."""
    found = Known()
    found.take({KEY: ("t", STATS)}, {KEY: REPORT})
    found.begin()
    if since:
        found.take({KEY: (target, since)}, {})
    return found


def test_a_new_process_adds_to_what_was_counted():
    new = ProbeStats(False, 2, 2, 1, 1, ((SendError.NO_ROUTE, 1),), (0, 0), 0.0, None, None, None)
    told = known(new)[KEY].stats
    assert (told.up, told.sent, told.lost, told.duplicates, told.late) == (False, 5, 3, 1, 1)
    assert (told.rtt_sum, told.rtt_min, told.rtt_last, told.jitter) == (0.5, 0.1, 0.2, 0.01)
    assert told.errors == ((SendError.NO_KEY, 2), (SendError.NO_ROUTE, 1))
    assert told.buckets == (1, 1)


def test_what_is_told_twice_by_one_process_is_added_once():
    twice = known(STATS)
    twice.take({KEY: ("t", STATS._replace(sent=4))}, {})
    assert twice[KEY].stats.sent == STATS.sent + 4


def test_before_a_new_process_tells_anything_everything_is_as_it_was():
    assert known()[KEY] == Probed("t", STATS, REPORT)


def test_a_silence_is_that_which_the_new_process_heard():
    new = ProbeStats(False, 2, 2, 0, 0, (), (0, 0), 0.0, None, None, None, 70.0)
    found = Known()
    found.take({KEY: ("t", STATS._replace(silent_since=10.0))}, {})
    found.begin()
    found.take({KEY: ("t", new)}, {})
    assert found[KEY].stats.silent_since == 70.0
    found.take({KEY: ("t", new._replace(silent_since=None))}, {})
    assert found[KEY].stats.silent_since is None


def test_another_target_is_counted_from_nothing_and_has_no_report():
    assert known(STATS, target="u")[KEY] == Probed("u", STATS, None)


def test_counters_go_on_where_the_histogram_has_other_bounds():
    found = known(STATS._replace(buckets=(1, 2, 3), rtt_sum=0.25))[KEY].stats
    assert (found.sent, found.lost) == (2 * STATS.sent, 2 * STATS.lost)
    assert (found.buckets, found.rtt_sum) == ((1, 2, 3), 0.25)


def test_a_report_of_an_earlier_life_is_not_brought_back():
    """An endpoint that roams begins afresh; what held before the last start must not return then."""
    one, other = known(), REPORT._replace(verdict=Verdict.FRAGMENTED_PATH)
    found = []
    for echoes, reports in (
        ({KEY: ("t", STATS)}, {}),
        ({}, {KEY: other}),
        ({KEY: ("t", STATS)}, {KEY: None}),
        ({KEY: ("t", STATS)}, {}),
    ):
        one.take(echoes, reports)
        found.append(one[KEY].mtu)
    assert found == [REPORT, other, None, None]


def test_what_is_told_by_device_is_the_same_object_until_something_changes_and_does_not_change_itself():
    one = known()
    given = one.by_device()
    assert one.by_device() is given
    for change in (
        lambda: one.take({KEY: ("t", STATS)}, {}),
        lambda: one.empty_histograms(3),
        lambda: one.forget([KEY]),
    ):
        before = one.by_device()
        held = {device: dict(peers) for device, peers in before.items()}
        change()
        assert one.by_device() is not before
        assert before == held
    assert given == {KEY[:2]: {KEY[2]: Probed("t", STATS, REPORT)}}
    assert one.by_device() == {}


EMPTY = STATS._replace(
    sent=0, lost=0, duplicates=0, late=0, errors=(), buckets=(0,) * len(STATS.buckets), rtt_sum=0.0, rtt_min=None,
    rtt_last=None, jitter=None,
)  # fmt: skip


@pytest.mark.parametrize("name", ["sent", "lost", "duplicates", "late", "rtt_sum"])
def test_what_was_counted_before_is_added_to_what_is_counted_since(name):
    before, since = STATS._replace(**{name: 40}), STATS._replace(**{name: 2})
    assert getattr(added(before, since), name) == 42


@pytest.mark.parametrize("name", ["duplicates", "late"])
def test_an_answer_to_a_probe_of_long_ago_is_counted_though_nothing_was_sent_since(name):
    since = EMPTY._replace(**{name: 1})
    assert getattr(added(STATS, since), name) == getattr(STATS, name) + 1
