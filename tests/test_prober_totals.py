"""Counters that go on when the process that counted starts anew."""

from __future__ import annotations

import pytest

from tests.rows import STATS, probed
from wg_exporter.prober.process.totals import continued

EMPTY = STATS._replace(
    sent=0, lost=0, duplicates=0, late=0, errors=(), buckets=(0,) * len(STATS.buckets), rtt_sum=0.0, rtt_min=None,
    rtt_last=None, jitter=None,
)  # fmt: skip


@pytest.mark.parametrize("name", ["sent", "lost", "duplicates", "late", "rtt_sum"])
def test_what_was_counted_before_is_added_to_what_is_counted_since(name):
    before, since = probed(**{name: 40}), probed(**{name: 2})
    assert getattr(continued(before, since).stats, name) == 42


@pytest.mark.parametrize("name", ["duplicates", "late"])
def test_an_answer_to_a_probe_of_long_ago_is_counted_though_nothing_was_sent_since(name):
    since = probed()._replace(stats=EMPTY._replace(**{name: 1}))
    assert getattr(continued(probed(), since).stats, name) == getattr(STATS, name) + 1
