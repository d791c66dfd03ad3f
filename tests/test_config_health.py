"""What may be said of when a peer is down or degraded."""

from __future__ import annotations

import pytest

from wg_exporter.config import ConfigError, parse


@pytest.mark.parametrize(
    ("setting", "value", "good"),
    [
        ("down_after", "5s", False),
        ("down_after", "14999ms", False),
        ("down_after", "15s", True),
        ("down_after", "10m", True),
        ("down_after", "601s", False),
        ("window", "59s", False),
        ("window", "1m", True),
        ("window", "1h", True),
        ("window", "3601s", False),
        ("loss", "0.009", False),
        ("loss", "0.01", True),
        ("loss", "1", True),
        ("loss", "1.01", False),
        ("slow_factor", "1.4", False),
        ("slow_factor", "1.5", True),
        ("slow_factor", "100", True),
        ("slow_factor", "101", False),
    ],
)
def test_a_limit_is_refused_where_it_would_be_a_guess_or_never_hold(setting, value, good):
    text = f"health: {{{setting}: {value}}}"
    if good:
        parse(text, "f.yml")
    else:
        with pytest.raises(ConfigError) as caught:
            parse(text, "f.yml")
        assert [problem.where for problem in caught.value.problems] == [f"f.yml:1: health.{setting}"]


def test_limits_are_read_as_they_are_meant():
    limits = parse("health: {down_after: 1m, window: 10m, loss: 0.2, slow_factor: 4}", "f.yml").health
    assert (limits.down_after, limits.window, limits.loss, limits.slow_factor) == (60.0, 600.0, 0.2, 4.0)


def test_a_number_without_a_unit_is_met_with_one_that_may_stand_there():
    with pytest.raises(ConfigError, match=r'window: is not a duration \("10"\); write 10m'):
        parse("health: {window: 10}", "f.yml")
