"""Which events are about an interface, or about a peer: by what they are called now, and by what they were called then.

What happened to the interface of a peer happened to the peer, too. A peer may be gone, or have another name by now: the
journal itself knows both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.cli.show.overview import NothingSelected, select
from wg_exporter.status.rows import whose

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from wg_exporter.events import Event
    from wg_exporter.status.rows import Overview

_SHORTEST_KEY = 4  # characters, of the start of a key


class Choice(NamedTuple):
    """What is asked for. Nothing at all: everything. `netns`, None = any. `peers` are places and keys of peers, None =
    whole interfaces; `interfaces`, empty = all.
    """

    netns: str | None = None
    interfaces: frozenset[str] = frozenset()
    peers: frozenset[tuple[str, str, str]] | None = None

    def takes(self, event: Event) -> bool:
        """Whether it is asked for."""
        if self.netns is not None and event.netns != self.netns:
            return False
        if self.peers is not None:
            places = {key[:2] for key in self.peers}
            whole = not event.public_key and (event.netns, event.interface) in places
            return whole or (event.netns, event.interface, event.public_key) in self.peers
        return not self.interfaces or event.interface in self.interfaces


def choose(
    interface: str | None, peer: str | None, netns: str | None, events: Sequence[Event], overview: Overview | None
) -> Choice | None:
    """What is meant, by what is on the host (None = not known) and what the events name; None if there is no such
    thing. A single word is an interface or, if there is none of that name, a peer.
    """
    if interface is None:
        return Choice(netns)
    there = {whose(row)[1] for row in overview.devices} if overview else set()
    there |= {one.interface for one in events if one.interface}
    if peer is None and interface in there:
        return Choice(netns, frozenset({interface}))
    wanted, within = (interface, there) if peer is None else (peer, {interface})
    keys = _named(wanted, within, events) | _there(wanted, None if peer is None else interface, overview)
    return Choice(netns, peers=frozenset(keys)) if keys else None


def _named(wanted: str, within: Collection[str], events: Sequence[Event]) -> set[tuple[str, str, str]]:
    rows = [one for one in events if one.public_key and one.interface in within]
    exact = {_key(one) for one in rows if wanted in (one.name, one.public_key)}
    if exact or len(wanted) < _SHORTEST_KEY:
        return exact
    return {_key(one) for one in rows if one.public_key.startswith(wanted)}


def _there(wanted: str, interface: str | None, overview: Overview | None) -> set[tuple[str, str, str]]:
    if overview is None:
        return set()
    try:
        found = select(overview, interface or wanted, wanted if interface else None, shortest_key=_SHORTEST_KEY)
    except NothingSelected:
        return set()
    return {(*whose(row), one.peer.public_key) for row in found.devices for one in row.peers}


def _key(event: Event) -> tuple[str, str, str]:
    return event.netns, event.interface, event.public_key
