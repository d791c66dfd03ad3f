"""Quiets as a file: written whole, read with suspicion, as anybody may have written there.

A file that is not exactly what `encode` writes is refused as a whole: half of it would be a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from wg_exporter.quiet import LONGEST, LONGEST_NAME, LONGEST_REASON, MOST, Quiet, is_plain
from wg_exporter.quiet.book import Kept

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "quiet.json"
VERSION: Final = 1
LONGEST_FILE = 4 << 20  # bytes; 1,000 entries at their longest

_ROUNDED = 0.001  # seconds: what the sums of floats may be off by
_Time = Annotated[float, Meta(ge=0, le=2.0**40)]


class FileError(ValueError):
    """This is no file of quiets. The message is one line that says why, and quotes nothing."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    interface: Annotated[str, Meta(min_length=1, max_length=15)]
    netns: Annotated[str, Meta(max_length=255)]
    public_key: Annotated[str, Meta(pattern="^([A-Za-z0-9+/]{43}=)?\\Z", max_length=44)]
    name: Annotated[str, Meta(max_length=LONGEST_NAME)]
    since: _Time
    until: _Time
    left: Annotated[float, Meta(ge=0, le=LONGEST + _ROUNDED)]
    reason: Annotated[str, Meta(max_length=LONGEST_REASON)]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    quiet: Annotated[list[_Entry], Meta(max_length=MOST)]


def encode(kept: Iterable[Kept]) -> bytes:
    """The file, without what it may not hold: an interface can get any name while it is quiet."""
    entries = [_Entry(**quiet._asdict(), left=left) for quiet, left in kept if all(map(is_plain, quiet.device))]
    return msgspec.json.format(msgspec.json.encode(_File(VERSION, entries)), indent=1) + b"\n"


def decode(data: bytes) -> list[Kept]:
    """What was written down. Raises FileError."""
    try:
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FileError(f"not a file of version {VERSION}: {_plain(str(error))}") from None
    kept = [Kept(_quiet(entry), entry.left) for entry in found.quiet]
    if len({one.quiet.key for one in kept}) < len(kept):
        raise FileError("an entry is there twice")
    return kept


def _quiet(entry: _Entry) -> Quiet:
    if not 0 < entry.until - entry.since <= LONGEST + _ROUNDED:
        raise FileError("an entry lasts longer than is possible")
    if not all(is_plain(text) for text in (entry.netns, entry.interface, entry.name, entry.reason)):
        raise FileError("an entry holds what can't be printed")
    return Quiet(entry.netns, entry.interface, entry.public_key, entry.name, entry.since, entry.until, entry.reason)


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:200]
