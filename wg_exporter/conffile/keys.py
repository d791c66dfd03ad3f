"""What could be a WireGuard key in a text that somebody wants to show, however the key is written.

A key is 32 bytes, and the text of a secret one looks no different from that of a public one. 43 base64 characters in a
row are told at once. People and tools also write keys in base64url, in hex, and split into groups by blanks, dots,
dashes or colons. A group of a key is told from a word by its inside: words are lower case, Capitalized, CAPITALS or
digits, and "q6Ur" is none of these.
"""

from __future__ import annotations

import re

# 32 bytes: 43 base64 digits and a `=`, or 64 hex digits.
_CHARACTERS = 43
_RUN = re.compile(r"[A-Za-z0-9+/]{43}")
_CLOSED_RUN = re.compile(r"[A-Za-z0-9+/]{43}=")
_HEX_RUN = re.compile(r"[0-9A-Fa-f]{64}")
# In 43 characters of ordinary words there are hardly ever more than four; in a random key there are about 20, and in
# one that is split into twos and threes about 13.
_BREAKS = 6
# A name is cut long before; no key that begins in the part that is shown is longer, with a mark after each digit.
_LOOKED_AT = 400

_INVISIBLE = re.compile(r"[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_GROUP_MARK = re.compile(r"[\s.:_-]")
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_NOT_HEX = re.compile(r"0[xX]|[^0-9A-Za-z]")
# Letters of other scripts end what could be a key.
_OTHER_LETTERS = re.compile(r"[^\W\x00-\x7f]+")
_GROUP = re.compile(r"[A-Za-z0-9+/_]+")
_PIECE = re.compile(r"[A-Za-z0-9]+|[+/_-]")
# What is in a base64 key, and neither in a row of short words nor in the addresses of network cards.
_NO_WORDS = re.compile(r"[A-Z+/]|[0-9].*[g-z]|[g-z].*[0-9]")
_PLAIN_WORD = re.compile(r"[A-Z]?[a-z]+")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


def has_key_run(text: str) -> bool:
    """Whether 43 base64 characters in a row are in the text, invisible characters left out."""
    return _RUN.search(_INVISIBLE.sub("", text)) is not None


def could_hold_key(text: str) -> bool:
    """Whether a part of the text could be a key in any of the usual ways to write one."""
    text = _INVISIBLE.sub("", text)
    if _RUN.search(text):
        return True
    if len(text) < _CHARACTERS:
        return False
    hexadecimal = _HEX_RUN.search(_NOT_HEX.sub("", text))
    # Words can be made of the letters from a to f, but not keys of these alone.
    if _CLOSED_RUN.search(_GROUP_MARK.sub("", text)) or (hexadecimal and not hexadecimal[0].isalpha()):
        return True
    parts = _OTHER_LETTERS.split(_UUID.sub(" ", text)[:_LOOKED_AT])
    return any(_has_equal_groups(part) or _is_unlike_words(part) for part in parts)


def _has_equal_groups(text: str) -> bool:
    """Whether groups of one length, the last one perhaps shorter, add up to a key. No sentence is like that."""
    row = ""
    length = 0
    for group in _GROUP.findall(text):
        joined = row + group
        if len(row) > length >= len(group) and len(joined) >= _CHARACTERS and _NO_WORDS.search(joined):
            return True
        row = joined if len(group) == length else group
        length = len(group)
    return False


def _is_unlike_words(text: str) -> bool:
    """Whether pieces in a row that add up to a key change between kinds of characters within, as random ones do."""
    pieces = [(piece, len(_WORD.findall(piece)) - 1 if piece.isalnum() else 0) for piece in _PIECE.findall(text)]
    begin = total = breaks = 0
    for end, (piece, inner) in enumerate(pieces):
        total += len(piece)
        breaks += inner
        while total - len(pieces[begin][0]) >= _CHARACTERS:
            total -= len(pieces[begin][0])
            breaks -= pieces[begin][1]
            begin += 1
        if total < _CHARACTERS:
            continue
        row = [part for part, _ in pieces[begin : end + 1] if part.isalnum()]
        # Ids and names of hosts in the cloud are of small letters and digits.
        if breaks >= _BREAKS and (joined := "".join(row)) not in (joined.lower(), joined.upper()):
            return True
        # A key of few different bytes has few breaks, but no two words are so long.
        if len(row) <= 2 and any(_NO_WORDS.search(part) and not _PLAIN_WORD.fullmatch(part) for part in row):
            return True
    return False
