"""What `--since` takes: a time, or how long ago."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from wg_exporter.config.fields import seconds

FORMS = "a duration like 2h or 1d, a time of day like 22:00, a date like 2026-01-31, or both"

_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_DAYS = {"today": 0, "yesterday": 1}


def since(text: str, now: float) -> float | None:
    """The time that is meant, in seconds since the epoch; None if it is none. `now` is that of this moment. Without an
    offset it is the clock of this host; a time of day is the last one: `22:00` in the morning is that of last night.
    """
    length = seconds(text)
    if length is not None:
        return now - length
    here = datetime.fromtimestamp(now).astimezone()
    try:
        if text in _DAYS:
            day = here.date() - timedelta(days=_DAYS[text])
            return _local(datetime(day.year, day.month, day.day))
        if clock := _CLOCK.fullmatch(text):
            hour, minute, second = (int(part or 0) for part in clock.groups())
            then = datetime(here.year, here.month, here.day, hour, minute, second)
            return _local(then) if _local(then) <= now else _local(then - timedelta(days=1))
        return _local(datetime.fromisoformat(text))
    except (ValueError, OverflowError, OSError):
        return None


def _local(when: datetime) -> float:
    """By the clock of this host, unless it says by which."""
    return when.timestamp()
