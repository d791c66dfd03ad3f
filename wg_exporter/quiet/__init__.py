"""Peers and interfaces that page nobody for a while, because somebody works on them.

A quiet peer keeps its true state. Only the alert rules leave it alone, as one gauge tells them to; and whoever looks
sees since when, until when and why. Each quiet ends by itself. This file has the rows, `book` decides when they end,
`file` writes them down and reads them again, `asked` has what may be asked for.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wg_exporter.model import DeviceKey, PeerKey

LONGEST = 30 * 86400.0  # seconds of one quiet
SHORTEST = 1.0
MOST = 1000  # at a time
LONGEST_REASON = 200  # characters

LONGEST_NAME = 255  # characters

# Line breaks, escape codes, surrogates, and marks that turn the direction of writing: what no label and no terminal may
# get (`config.text` has the same). Any other character is text, also those that Python does not call printable: a blank
# that does not break, or the joiner within an emoji.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]")

_NONE: frozenset[str] = frozenset()


def is_plain(text: str) -> bool:
    """Whether it is one line of text that may be shown, written down and read again."""
    return not _CONTROL.search(text)


def plain(text: str, longest: int = LONGEST_NAME) -> str:
    """What there is, made such a line, and no longer than a name may be, or than so many characters."""
    return _CONTROL.sub("?", text[:longest])


class Quiet(NamedTuple):
    """One peer or, without a `public_key`, one interface with all of its peers, from `since` until `until` (seconds
    since the epoch). `name` is what the peer was called when it began; `reason` is for a person, and may be empty.
    """

    netns: str
    interface: str
    public_key: str
    name: str
    since: float
    until: float
    reason: str

    @property
    def key(self) -> PeerKey:
        """What is quiet."""
        return self.netns, self.interface, self.public_key

    @property
    def device(self) -> DeviceKey:
        """Where it is."""
        return self.netns, self.interface


class QuietNow:
    """All that is quiet at one time. Never changes, and is the same object as before while nothing changed."""

    def __init__(self, quiets: Iterable[Quiet] = ()) -> None:
        self.all: tuple[Quiet, ...] = tuple(quiets)
        """Each of them, the first to end first."""
        self._by_key = {quiet.key: quiet for quiet in self.all}
        named: dict[DeviceKey, set[str]] = {}
        for quiet in self.all:
            named.setdefault(quiet.device, set()).update([quiet.public_key] if quiet.public_key else [])
        self.devices: Mapping[DeviceKey, frozenset[str]] = MappingProxyType(
            {device: frozenset(keys) for device, keys in named.items()}
        )
        """The devices of which anything is quiet, each with the public keys of those peers that are quiet by name."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuietNow) and self.all == other.all

    def __hash__(self) -> int:
        return hash(self.all)

    def __bool__(self) -> bool:
        return bool(self.all)

    def named(self, device: DeviceKey) -> frozenset[str]:
        """The public keys of the peers of this device that are quiet by name."""
        return self.devices.get(device, _NONE)

    def interface(self, device: DeviceKey) -> Quiet | None:
        """The quiet of a whole interface."""
        return self._by_key.get((*device, ""))

    def peer(self, device: DeviceKey, public_key: str) -> Quiet | None:
        """The quiet that holds for a peer: its own or that of its interface, whichever lasts longer."""
        own, whole = self._by_key.get((*device, public_key)), self.interface(device)
        if own is None or whole is None:
            return own or whole
        return own if own.until >= whole.until else whole


NOBODY = QuietNow()
