"""What the comments of a WireGuard configuration file say a peer is called.

WireGuard has no field for a name, so people and their tools write it into comments. The same files hold private and
preshared keys, now and then in comments too. So the idea here is: a comment has to look like a name to become one, and
whatever could be a key is refused, whoever wrote it. Nothing in this module returns text that holds a run of 43
base64 characters, which is what a WireGuard key is made of.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME_CHARACTERS = 128
# Longer comments are prose, or an attempt to keep us busy.
COMMENT_CHARACTERS = 4096

_KEY_RUN = re.compile(r"[A-Za-z0-9+/]{43}")
# `wg` ignores blanks inside a key, so a key may be written in groups. Without its closing `=` that could be any prose.
_SPACED_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# These turn around the text that follows them on a page or a terminal.
_BIDI = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")

# wg(8), wg-quick(8), systemd.netdev(5); `psk` is what people write for the one that is secret.
_KEY_WORD = re.compile(
    "(?:privatekey|listenport|fwmark|publickey|presharedkey|psk|allowedips|endpoint|persistentkeepalive"
    "|address|dns|mtu|table|preup|postup|predown|postdown|saveconfig"
    "|privatekeyfile|publickeyfile|presharedkeyfile|firewallmark|routetable|routemetric)(?![a-z])",
    re.IGNORECASE,
)
_SPLIT_KEY_WORDS = ("privatekey", "publickey", "presharedkey")

_FRIENDLY = re.compile(r"(friendly_name|friendly_json)\s*=(.*)", re.IGNORECASE | re.DOTALL)
# wireguard-install: `### Client X`. pivpn: `### begin X ###`. wireguard-install's Debian cousin: `# BEGIN_PEER X`.
_HASHED = re.compile(r"#{3,}\s*(?:client|begin)\s+(.*)", re.IGNORECASE)
_BEGIN_PEER = re.compile(r"#+\s*BEGIN_PEER\s+(.*)")
_END = re.compile(r"#+\s*END_PEER\b|#{3,}\s*end\s.*#{3,}", re.IGNORECASE)
# pivpn puts `#[disabled] ` before every line of a peer that it switches off.
_OFF = re.compile(r"\[disabled\]|\[\s*(?:peer|wireguardpeer|interface|wireguard|netdev)\s*\]", re.IGNORECASE)
# wg-easy: `# Client: X (id)`. wireguard-ui: `# Name:   X`. wg-portal: `# -WGP- Display name: X` among other fields.
_LABELLED = re.compile(r"#+\s*(?:client|peer|name|-WGP-\s+display name)\s*:(.*)", re.IGNORECASE)
_PORTAL_FIELD = re.compile(r"#+\s*-WGP-\s", re.IGNORECASE)


class CommentKind(Enum):
    """What a comment is, as far as names go."""

    FRIENDLY_NAME = "friendly_name"
    FRIENDLY_JSON = "friendly_json"
    BARE = "bare"
    # A manager's mark at the end of a peer.
    END = "end"
    # The header of a section that is commented out: what follows describes a peer that is switched off.
    OFF = "off"


class UnusableNameError(ValueError):
    """The name that somebody asked for cannot be shown. The message says why and never holds the value."""


def kind_of(comment: str) -> tuple[CommentKind, str]:
    """Sort one comment, given with its `#`: what it is, and its value if it is `friendly_name` or `friendly_json`."""
    text = comment.lstrip("#; \t")
    if _OFF.match(text):
        return CommentKind.OFF, ""
    if _END.match(comment):
        return CommentKind.END, ""
    friendly = _FRIENDLY.match(text)
    if friendly is not None:
        return CommentKind(friendly[1].lower()), friendly[2].strip()
    return CommentKind.BARE, ""


def clean(text: str) -> str:
    """Text as a label may hold it: any language, one line, no control characters, at most NAME_CHARACTERS long.

    Raises UnusableNameError if it holds what could be a key.
    """
    text = _SURROGATE.sub("\ufffd", _BIDI.sub("", _CONTROL.sub(" ", text)))
    words = text.split()
    if looks_like_key(text) or _SPACED_KEY.search("".join(words)):
        raise UnusableNameError("holds what could be a key, so it is not shown")
    name = " ".join(words)
    return name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"


def looks_like_key(text: str) -> bool:
    """Whether a run of 43 base64 characters is in the text, invisible characters left out."""
    return _KEY_RUN.search(_INVISIBLE.sub("", text)) is not None


def name_from_json(text: str) -> str:
    """The `name` in the value of a `friendly_json` comment, empty if it has none (it may be there for other labels).

    Raises UnusableNameError if it is no JSON object or its name is no text.
    """
    value = None
    # Nothing is raised from within: the error of the decoder carries the whole text, and would be chained.
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
    if not isinstance(value, dict):
        raise UnusableNameError('is not a JSON object; write {"name": "..."}')
    name = value.get("name", "")
    if not isinstance(name, str):
        raise UnusableNameError('has a name that is not text; write {"name": "..."}')
    return clean(name)


def bare_name(over: Iterable[str], under: Iterable[str]) -> str:
    """The name in the comments directly over and under `[Peer]`, each given nearest line first; empty if there is none.

    A line in the form of a known manager beats free text, because it was written to name the peer. Then under beats
    over, because what is inside the section cannot belong to the peer above. Then the nearest line counts that can be
    a name. A manager's line with an empty name means that the peer has none.
    """
    sides = (tuple(under), tuple(over))
    for side in sides:
        managed = list(_managed_names(side))
        if managed:
            return next(filter(None, map(_usable, managed)), "")
    return next(filter(None, (_free_name(line) for side in sides for line in side)), "")


def _managed_names(comments: Iterable[str]) -> Iterator[str]:
    for comment in comments:
        if (mark := _HASHED.match(comment)) or (mark := _BEGIN_PEER.match(comment)):
            yield mark[1].rstrip("# \t")
        elif mark := _LABELLED.match(comment):
            yield _without_id(mark[1].strip())
        elif _PORTAL_FIELD.match(comment):
            yield ""
        elif " / Updated:" in comment and " / Created:" in comment:
            # wg-gen-web: `# Name / mail address / Updated: date / Created: date`
            yield comment.lstrip("# ").split(" / ")[0]


def _without_id(text: str) -> str:
    name, bracket, rest = text.rpartition("(")
    is_id = bracket and rest.endswith(")") and name[-1:].isspace() and not any(map(str.isspace, rest))
    return name.rstrip() if is_id else text


def _free_name(comment: str) -> str:
    text = comment.strip("#; \t")
    squeezed = re.sub(r"[\s_-]", "", text[:80]).lower()
    if squeezed.startswith(_SPLIT_KEY_WORDS) or _KEY_WORD.match(text):
        return ""
    return _usable(text)


def _usable(text: str) -> str:
    """The text as a name, or nothing: a comment that is no name is no fault, so nobody is told."""
    if "=" in text:
        return ""
    try:
        name = clean(text)
    except UnusableNameError:
        return ""
    # Lines of dashes and the like are decoration.
    return name if any(map(str.isalnum, name)) else ""
