"""Whether a file of WireGuard holds secret keys, and which files it names for them: for who may read these files.

No value of a key is looked at but for its first character: an @ names a credential of systemd, which holds the key
(systemd.netdev(5)). As everywhere here, case and blanks inside the names of settings don't matter.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SECRET = re.compile(r"^[ \t]*(?:private|preshared)[ \t]*key[ \t]*=[ \t]*[^\s#@]", re.IGNORECASE | re.MULTILINE)
_FILES = re.compile(
    r"^[ \t]*(?:private|preshared)keyfile[ \t]*=[ \t]*(/[^\r\n]*?)[ \t\r]*$", re.IGNORECASE | re.MULTILINE
)
_MOST = 100  # files of keys that one file can name


class Secrets(NamedTuple):
    """`inside`: the file holds a private or preshared key. `files` are those that it names for such keys."""

    inside: bool
    files: tuple[str, ...]


def secrets_in(text: str) -> Secrets:
    """What a wg-quick or systemd-networkd file, or a drop-in of one, holds."""
    return Secrets(_SECRET.search(text) is not None, tuple(dict.fromkeys(_FILES.findall(text)))[:_MOST])
