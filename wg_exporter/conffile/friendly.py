"""What a `friendly_json` comment holds: the name of a peer, and labels as prometheus_wireguard_exporter makes them.

That exporter makes a label of each key, whatever it is, so that one bad key spoils a whole scrape. Here what can't be a
label, or could be a key of WireGuard's, is left out.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from decimal import Decimal

from wg_exporter.conffile.comments import UnusableNameError, clean

_LABEL = re.compile("(?!__)[A-Za-z_][A-Za-z0-9_]{0,63}")
_MOST_LABELS = 32


def name_from_json(text: str) -> str:
    """The `name` in the value of a `friendly_json` comment, empty if it has none (it may be there for other labels).

    Raises UnusableNameError if it is no JSON object or its name is no text.
    """
    value = _read(text)
    if value is None:
        raise UnusableNameError('is not a JSON object; write {"name": "..."}')
    name = value.get("name", "")
    if not isinstance(name, str):
        raise UnusableNameError('has a name that is not text; write {"name": "..."}')
    return clean(name)


def labels_from_json(text: str) -> tuple[tuple[str, str], ...]:
    """Its keys and values that can be labels, by key. Lists, objects and null can't."""
    found: list[tuple[str, str]] = []
    for key, value in sorted((_read(text) or {}).items()):
        if not _LABEL.fullmatch(key) or not isinstance(value, str | int | float) or len(found) == _MOST_LABELS:
            continue
        with suppress(UnusableNameError, OverflowError):
            found.append((clean(key), clean(_shown(value))))
    return tuple(found)


def _read(text: str) -> dict[str, object] | None:
    value = None
    # Nothing is raised from within: the error of the decoder carries the whole text, and would be chained.
    with suppress(ValueError, RecursionError):
        value = json.loads(text, parse_constant=_refuse)
    return value if isinstance(value, dict) else None


def _refuse(_word: str) -> object:
    """NaN and Infinity are no JSON."""
    raise ValueError


def _shown(value: str | float) -> str:
    """As the original writes it (Rust's serde_json). Raises OverflowError for a number that is too large."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return str(value)
    digits, exponent, power = repr(float(value)).partition("e")
    if not exponent:
        return digits
    return f"{Decimal(repr(value)):f}" if int(power) == -5 else f"{digits}e{int(power)}"
