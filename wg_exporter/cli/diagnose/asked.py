"""What the exporter that runs on this host knows of the peer, as far as a diagnosis needs it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.cli import ask
from wg_exporter.cli.diagnose.gather import Around
from wg_exporter.status.rows import from_view, whose

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.cli.diagnose.choice import Chosen
    from wg_exporter.config import Config
    from wg_exporter.exposition.view import View
    from wg_exporter.model import Snapshot
    from wg_exporter.status.rows import Overview

SECONDS = 2.5  # for its answer, of the twenty


class Serving(NamedTuple):
    """An exporter that was asked, or none: then `note` says why. `config_file` is its own, empty if there is none."""

    told: Overview | None
    note: str = ""
    config_file: str = ""


def ask_exporter(socket_path: str, config_file: Path | None, within: float = SECONDS) -> Serving:
    """The exporter at this socket, if there is one that answers within so many seconds."""
    try:
        told = ask.status(socket_path, config_file, within)
    except ask.NotAskedError as error:
        return Serving(None, str(error))
    theirs = told.teller.config_file if told.teller else ""
    readable = bool(theirs) and config_file is None and os.access(theirs, os.R_OK)
    return Serving(told, "", theirs if readable else "")


def says(serving: Serving, chosen: Chosen) -> str:
    """What it says of the peer, in one line."""
    health = chosen.health
    if serving.told is None:
        return f"looks for itself, so the peer's state is not known: {serving.note}"
    if not chosen.told or not health.state:
        return "the exporter that runs here does not know yet how the peer is"
    said = ", ".join(filter(None, (health.state, health.reason)))
    said += f": {health.evidence}" if health.evidence else ""
    cause = f"; the cause that it found: {chosen.found.cause}, {chosen.found.confidence}" if chosen.found else ""
    return f"the exporter that runs here says: {said}{cause}"


def around(seen: tuple[Snapshot, View, Config], chosen: Chosen) -> Around:
    """The other peers of the device."""
    rows = [row for row in from_view(*seen).devices if whose(row) == chosen.key[:2]]
    peers = [one for row in rows for one in row.peers]
    mine = chosen.key[2]
    return Around(
        {one.peer.public_key: one.name for one in peers},
        sum(one.expected_up for one in peers if one.peer.public_key != mine),
    )
