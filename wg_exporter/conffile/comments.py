"""What one comment of a WireGuard configuration file says a peer is called; which peer it is said of is in `layout.py`.

WireGuard has no field for a name, so people and their tools write it into comments. The same files hold private and
preshared keys, now and then in comments too. So the idea here is: a comment has to look like a name to become one, and
whatever could be a key (`keys.py`) is refused, whoever wrote it.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from wg_exporter.conffile.keys import could_hold_key

NAME_CHARACTERS = 128
# Longer comments are prose, or an attempt to keep us busy.
COMMENT_CHARACTERS = 4096

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# These turn around the text that follows them on a page or a terminal, or shape it otherwise.
_DIRECTION = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]")

# wg(8), wg-quick(8), systemd.netdev(5); `psk` is what people write for the one that is secret.
_KEY_WORD = re.compile(
    "(?:privatekey|listenport|fwmark|publickey|presharedkey|psk|allowedips|endpoint|persistentkeepalive"
    "|address|dns|mtu|table|preup|postup|predown|postdown|saveconfig"
    "|privatekeyfile|publickeyfile|presharedkeyfile|firewallmark|routetable|routemetric)(?![a-z])",
    re.IGNORECASE,
)
_SPLIT_KEY_WORDS = ("privatekey", "publickey", "presharedkey")

_FRIENDLY = re.compile(r"friendly[ _-]?(name|json)\s*[:=](.*)", re.IGNORECASE | re.DOTALL)
# wireguard-install: `### Client X`. pivpn: `### begin X ###`. wireguard-install's Debian cousin: `# BEGIN_PEER X`.
_HASHED = re.compile(r"#{3,}\s*(?:client|begin)\s+(.*)", re.IGNORECASE)
_BEGIN_PEER = re.compile(r"#+\s*BEGIN_PEER\s+(.*)")
_END = re.compile(r"#+\s*END_PEER\b|#{3,}\s*end\s.*#{3,}", re.IGNORECASE)
# pivpn puts `#[disabled] ` before every line of a peer that it switches off.
_OFF = re.compile(r"\[disabled\]|\[\s*(?:peer|wireguardpeer|interface|wireguard|netdev)\s*\]", re.IGNORECASE)
# wireguard-ui: `# Name:   X`. WGDashboard: `#Name# = X`. wg-portal: `# -WGP- Display name: X` among other fields.
_LABELLED = re.compile(
    r"(client|peer|alias|label|(?:(?:client|peer|user|device|host|display)[ _-]?)?name|-WGP-\s+display name)"
    r"[ \t]*#*[ \t]*[:=](.*)",
    re.IGNORECASE,
)
_PORTAL_FIELD = re.compile(r"-WGP-\s", re.IGNORECASE)
# wg-easy writes `# Client: X (id)`, and the id is a UUID or a number. Other brackets belong to the name.
_CLIENT_ID = re.compile(r"\s\((?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]{1,20})\)$", re.IGNORECASE)
# Words before what describes a peer without naming it: it is as good as a comment without them.
_DESCRIBED = re.compile(r"(?:desc|description|device|host|owner|user)[ \t]*#*[ \t]*[:=][ \t]*", re.IGNORECASE)
# easy-wg-quick: `# 10: X > wgclient_X.conf`.
_NUMBERED = re.compile(r"[0-9]{1,9}:\s")
_MANAGED_BLOCK = re.compile(r"ansible managed block\s*", re.IGNORECASE)


class CommentKind(Enum):
    """What a comment is, as far as names go."""

    FRIENDLY_NAME = "friendly_name"
    FRIENDLY_JSON = "friendly_json"
    # A line in the form of a known manager, or `Name = ...`: written to name a peer.
    LABEL = "label"
    # A label that opens what a manager writes of a peer: the peer is below.
    OPENING = "opening"
    BARE = "bare"
    # A manager's mark at the end of a peer.
    END = "end"
    # The header of a section that is commented out: what follows describes a peer that is switched off.
    OFF = "off"


class Comment(NamedTuple):
    """One comment: its kind and, as it was written, the part that names a peer.

    `opens` and `closes`: what would be the name if the file has both lines of a pair (`# alice start`, `# alice end`).
    `labels` are those of a `friendly_json` comment.
    """

    kind: CommentKind
    text: str = ""
    opens: str = ""
    closes: str = ""
    labels: tuple[tuple[str, str], ...] = ()


class UnusableNameError(ValueError):
    """The name that somebody asked for cannot be shown. The message says why and never holds the value."""


def read_comment(comment: str) -> Comment:
    """Sort one comment, given with its `#`."""
    comment = _DIRECTION.sub("", comment)
    text = comment.lstrip("#; \t")
    if _OFF.match(text):
        return Comment(CommentKind.OFF)
    if _END.match(comment):
        return Comment(CommentKind.END)
    if friendly := _FRIENDLY.match(text):
        return Comment(CommentKind(f"friendly_{friendly[1].lower()}"), friendly[2].strip())
    if mark := _HASHED.match(comment) or _BEGIN_PEER.match(comment):
        return Comment(CommentKind.OPENING, mark[1].rstrip("# \t"))
    if label := _LABELLED.match(text):
        name = label[2].strip()
        return Comment(CommentKind.LABEL, _CLIENT_ID.sub("", name) if label[1].lower() == "client" else name)
    if _PORTAL_FIELD.match(text):
        return Comment(CommentKind.LABEL)
    opened = _listed_name(text)
    if opened is not None:
        return Comment(CommentKind.OPENING, opened)
    return _half_of_pair(comment, text.rstrip("# \t"))


def clean(text: str) -> str:
    """Text as a label may hold it: any language, one line, no control characters, at most NAME_CHARACTERS long.

    Raises UnusableNameError if it holds what could be a key.
    """
    text = _SURROGATE.sub("\ufffd", _DIRECTION.sub("", _CONTROL.sub(" ", text)))
    name = " ".join(text.split())
    if could_hold_key(name):
        raise UnusableNameError("holds what could be a key, so it is not shown")
    return name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"


def bare_name(text: str) -> str:
    """A bare comment as a name, empty if it is none: a setting that is switched off, a key or decoration."""
    text = text.strip("#; \t")
    squeezed = re.sub(r"[\s_-]", "", text[:80]).lower()
    if squeezed.startswith(_SPLIT_KEY_WORDS) or _KEY_WORD.match(text):
        return ""
    described = _DESCRIBED.match(text)
    return usable(text[described.end() :] if described else text)


def usable(text: str) -> str:
    """The text as a name, or nothing: a comment that is no name is no fault, so nobody is told."""
    if "=" in text:
        return ""
    try:
        name = clean(text)
    except UnusableNameError:
        return ""
    # Lines of dashes and the like are decoration.
    return name if any(map(str.isalnum, name)) else ""


def _listed_name(text: str) -> str | None:
    """The name in a line that lists more of a peer than its name, None if this is no such line."""
    head, updated, dates = text.rpartition(" / Updated:")
    if updated and " / Created:" in dates:
        # wg-gen-web: `# name / mail address / Updated: date / Created: date`. The name may hold ` / `, and the address
        # may be empty; others leave it out.
        name, slash, address = head.rpartition(" / ")
        return name if slash and ("@" in address or not address.strip()) else head
    name, arrow, _ = text.partition(" > ")
    if arrow and _NUMBERED.match(name):
        return name.partition(":")[2].strip()
    return None


def _half_of_pair(comment: str, text: str) -> Comment:
    """A comment of `# X start` and `# X end`, or `# BEGIN X` and `# END X`, or any other one."""
    words = text.split()
    first, last = (words[0].lower(), words[-1].lower()) if len(words) > 1 else ("", "")
    if last == "end":
        return Comment(CommentKind.BARE, text, closes=text[: -len(last)].rstrip("- \t"))
    if last == "start":
        name = text[: -len(last)].rstrip("- \t")
        # One word before it: nothing but a mark. More may be the name of a place, if no `end` follows.
        if len(words) == 2 or comment.startswith("###"):
            return Comment(CommentKind.OPENING, name, opens=name)
        return Comment(CommentKind.BARE, text, opens=name)
    if first in ("begin", "start", "end"):
        name = text[len(first) :].strip("- \t")
        if managed := _MANAGED_BLOCK.match(name):
            name = name[managed.end() :]
            return (
                Comment(CommentKind.END)
                if first == "end"
                else Comment(CommentKind.OPENING if name else CommentKind.BARE, name)
            )
        return (
            Comment(CommentKind.BARE, text, closes=name)
            if first == "end"
            else Comment(CommentKind.BARE, text, opens=name)
        )
    return Comment(CommentKind.BARE, text)
