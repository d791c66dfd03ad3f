"""Units and ages in words, and text that is safe to show: what a person reads instead of the numbers of the metrics.

Numbers are cut, never rounded up: "2 minutes ago" is at least two minutes, and nothing reads "1024 KiB". Text from
outside (names from comments, endpoints from a socket, even the name of an interface) may hold escape sequences that
would control the reader's terminal, so `plain` spells out whatever is not printable.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wg_exporter.model import SOME_TIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NEVER = "never connected"
NOT_KNOWN_WHEN = "not known when"
FUTURE = "in the future (clock?)"

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_AGES = ((86400, "day"), (3600, "hour"), (60, "minute"))

# Longer than a pass takes. A snapshot has the wall time of the pass's begin, so a handshake may be later by this.
_READ_SECONDS = 3


def count(number: int, noun: str) -> str:
    """The number with its noun: `1 peer`, `10,000 peers`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def ago(seconds: int) -> str:
    """An age of whole seconds in words: `just now`, `90 seconds ago`, `2 minutes ago`, `47 hours ago`, `3 days ago`.

    A larger unit is used from two of it on, because "1 hour ago" for 119 minutes would hide too much. Negative ages
    down to -3 s are `just now`; smaller ones say that a clock must be wrong.
    """
    if seconds < -_READ_SECONDS:
        return FUTURE
    for length, unit in _AGES:
        if seconds >= 2 * length:
            return f"{count(seconds // length, unit)} ago"
    return f"{count(seconds, 'second')} ago" if seconds > 0 else "just now"


def until(wall: float, now: float) -> str:
    """When something ends, by the clock of this host, and in how long: `14:30:00 (2 hours)`, with the day if that is
    another: `2026-01-02 14:30:00 (3 days)`.
    """
    end, today = (datetime.fromtimestamp(when).astimezone() for when in (wall, now))
    day = "" if end.date() == today.date() else f"{end:%Y-%m-%d} "
    return f"{day}{end:%H:%M:%S} ({ago(max(int(wall - now), 1)).removesuffix(' ago')})"


def seen(wall: float, now: float) -> str:
    """When something was seen that is told as it was then: `seen 14:30:00 UTC, 5 minutes ago`, with the day if that is
    another.
    """
    then, today = (datetime.fromtimestamp(when, UTC) for when in (wall, now))
    day = "" if then.date() == today.date() else f"{then:%Y-%m-%d} "
    return f"seen {day}{then:%H:%M:%S} UTC, {ago(int(now - wall))}"


def handshake_age(last_handshake_ns: int, wall: float) -> int | None:
    """Whole seconds from a handshake (nanoseconds since the epoch) to `wall` (seconds), cut; None if there was none."""
    if last_handshake_ns <= 0:
        return None
    age_ns = int(wall * 1e9) - last_handshake_ns
    return age_ns // 10**9


def handshake(last_handshake_ns: int, wall: float) -> str:
    """When the latest handshake was, in words; `never connected` if there was none, `not known when` if that is so."""
    age = handshake_age(last_handshake_ns, wall)
    if age is None:
        return NOT_KNOWN_WHEN if last_handshake_ns == SOME_TIME else NEVER
    return ago(age)


def size(number: int) -> str:
    """Bytes in binary units with three digits, cut: `1023 B`, `1.00 KiB`, `45.6 MiB`."""
    if number < 0:
        return f"-{size(-number)}"
    power = min(max(number.bit_length() - 1, 0) // 10, len(_SIZES) - 1)
    whole = number >> 10 * power
    decimals = 0 if power == 0 or whole >= 100 else 1 if whole >= 10 else 2
    scaled = str(number * 10**decimals >> 10 * power)
    digits = f"{scaled[:-decimals]}.{scaled[-decimals:]}" if decimals else scaled
    return f"{digits} {_SIZES[power]}"


def milliseconds(seconds: float) -> str:
    """A round trip with three digits: `0.42 ms`, `12.3 ms`, `180 ms`, `4.10 s`."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    number = seconds * 1e3
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} ms"


def loss(ratio: float) -> str:
    """The part of probes that were lost, 0 to 1, in percent, with a decimal below a tenth: `0%`, `2.5%`, `40%`."""
    return f"{ratio:.1%}" if 0 < ratio < 0.1 else f"{ratio:.0%}"


def rate(before: int, after: int, seconds: float) -> str:
    """Bytes per second between two readings of a counter; `-` if it went back (a new device) or no time went by."""
    if seconds < 1e-3 or after < before:
        return "-"
    per_second = (after - before) / seconds
    return "<1 B/s" if 0 < per_second < 1 else f"{size(int(per_second))}/s"


def plain(text: str, encoding: str = "utf-8") -> str:
    r"""The text with everything that is not printable spelled out (`\x1b`, `\n`, `\u202e`, lone surrogates).

    "Printable" is Unicode's view: controls, formats (bidirectional overrides, zero-width ones), private and unassigned
    characters are not. What `encoding`, the terminal's, can't express is spelled out too.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    if text.isascii() or encoding == "utf-8":
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)


def some_of(items: Sequence[str], width: int) -> str:
    """As many items as fit into `width` characters, then how many more: `10.0.0.2/32, fd00::2/128 +3`.

    The first item is there however long it is.
    """
    shown = ""
    for index, item in enumerate(items):
        longer = f"{shown}, {item}" if shown else item
        rest = len(items) - index - 1
        tail = f" +{rest:,}" if rest else ""
        if shown and len(longer) + len(tail) > width:
            return f"{shown} +{rest + 1:,}"
        shown = longer
    return shown


def first_of(items: Iterable[str], limit: int = 10) -> str:
    """The first items, made plain, in one line: `a, b, c and 9 more`."""
    every = [plain(item) for item in items]
    more = len(every) - limit
    return ", ".join(every[:limit]) + (f" and {more:,} more" if more > 0 else "")
