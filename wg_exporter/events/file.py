"""Events as a file: a line of JSON each, added at the end, and read with suspicion, as anybody may have written there.

A line that is not exactly what `encode` writes is left out, and the others count. So of a write that was cut short, by
a crash or a full disk, nothing is lost but the line that it was cut in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from wg_exporter.events import MOST, Event
from wg_exporter.quiet import is_plain

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "events.jsonl"
MOST_LINES = 2 * MOST  # in the file; then it is written anew, with the last `MOST`
LONGEST_FILE = 32 << 20  # bytes; 2,000 lines at their longest are 20 MB, in practice 0.5 MB
MOST_READ = 2 * MOST_LINES  # lines, the last of a file: 32 MB of nothing but line ends would take 15 s

_TEXTS = ("interface", "netns", "name", "before", "after", "reason", "cause", "confidence", "evidence")


class Found(NamedTuple):
    """What a file holds: the events in order, whether its last line is `torn`, and how many others are none of ours."""

    events: list[Event]
    torn: bool
    bad: int


def encode(events: Iterable[Event]) -> bytes:
    """The lines of these events."""
    return b"".join(msgspec.json.encode(one) + b"\n" for one in events)


def decode(data: bytes) -> Found:
    """All that can be read. A line whose end alone is missing is whole. What comes before the last `MOST_READ` lines is
    taken for one line.
    """
    *lines, rest = data.rsplit(b"\n", MOST_READ)
    found: list[Event] = []
    bad = 0
    for line in lines:
        one = _event(line, found[-1].number if found else 0)
        if one is None:
            bad += 1
        else:
            found.append(one)
    last = _event(rest, found[-1].number if found else 0) if rest else None
    if last is not None:
        found.append(last)
    return Found(found, torn=bool(rest) and last is None, bad=bad)


def _event(line: bytes, before: int) -> Event | None:
    """The event of a line; None if it is none, or its number does not follow the one before."""
    try:
        one = msgspec.json.decode(line, type=Event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    good = one.number > before and all(is_plain(getattr(one, name)) for name in _TEXTS)
    return one if good else None
