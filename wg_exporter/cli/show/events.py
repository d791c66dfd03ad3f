"""The last events of the one peer that `wg-exporter show` shows: what it was told to be is half of the story."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from wg_exporter.cli import ask
from wg_exporter.events import Level
from wg_exporter.events.words import what
from wg_exporter.status import words
from wg_exporter.status.rows import whose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wg_exporter.events import Event
    from wg_exporter.status.rows import Overview

MOST = 5
_STYLES = {Level.WARN: "yellow", Level.ERROR: "red"}


def last_events(path: str, overview: Overview) -> Sequence[Event]:
    """The last events of the only peer of an overview, the oldest first, as the exporter at this socket says them. None
    where there are several peers, where no exporter said who they are, or where this one knows no events.
    """
    peers = [(*whose(device), row.peer.public_key) for device in overview.devices for row in device.peers]
    if len(peers) != 1 or overview.teller is None:
        return ()
    try:
        found = ask.events(path, {})
    except (ask.NotAskedError, ask.RefusedError):  # an older one, or it ends at this moment
        return ()
    return of_peer(found, *peers[0])


def of_peer(events: Sequence[Event], netns: str, interface: str, public_key: str) -> Sequence[Event]:
    """The last of these events that happened to the peer, or to the whole of its interface."""
    place = (netns, interface)
    return [one for one in events if (one.netns, one.interface) == place and one.public_key in ("", public_key)][-MOST:]


def lines(events: Sequence[Event], interface: str, name: str, encoding: str) -> Iterator[Text]:
    """They and how to see more, by the clock of this host."""
    if not events:
        return
    yield Text(words.plain(f"  last of `wg-exporter events {shlex.join((interface, name))}`:", encoding), "dim")
    for one in events:
        moment = datetime.fromtimestamp(one.time).astimezone()
        said = f"    {moment:%Y-%m-%d %H:%M:%S}  {what(one)}"
        yield Text(words.plain(said, encoding), _STYLES.get(one.level, ""))
