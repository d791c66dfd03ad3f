"""The exporter that runs on this host, as far as `wg-exporter mtu` needs it: its configuration, how each peer is, and
that it keeps quiet while byte counters are watched.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from wg_exporter.cli import ask
from wg_exporter.status.rows import whose

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wg_exporter.health.states import PeerHealth
    from wg_exporter.model import PeerKey

_NOBODY: Mapping[PeerKey, PeerHealth] = MappingProxyType({})


class Quiet:
    """Asks for pauses in a thread, as the probes of others must not wait for an answer. What was paused goes on at the
    end; if that is not heard, the pause ends by itself.
    """

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._paused: set[PeerKey] = set()
        self._deaf = False  # the exporter did not answer
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pause")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._paused):
            self.end(key)
        self._pool.shutdown()  # each request has a deadline, and after one that was not answered there are no more

    def begin(self, key: PeerKey, seconds: float) -> None:
        """No probes of the exporter to this peer for so long at most."""
        if self._path:
            self._paused.add(key)
            self._pool.submit(self._ask, key, seconds)

    def end(self, key: PeerKey) -> None:
        """The exporter may go on."""
        if key in self._paused:
            self._paused.discard(key)
            self._pool.submit(self._ask, key, 0.0)

    def _ask(self, key: PeerKey, seconds: float) -> None:
        if self._deaf:
            return
        began = time.monotonic()
        ask.pause(self._path, key, seconds)
        self._deaf = time.monotonic() - began >= ask.PAUSE_SECONDS


class Serving:
    """An exporter that was asked; or none, which has no states and is always quiet. `note` says in one line which."""

    def __init__(
        self, note: str, path: str = "", config_file: str = "", states: Mapping[PeerKey, PeerHealth] = _NOBODY
    ) -> None:
        self.note = note
        self.config_file = config_file
        self.states = states
        self._path = path

    @property
    def quiet(self) -> Quiet:
        """A new set of pauses."""
        return Quiet(self._path)


def find(socket_path: str, config_file: Path | None) -> Serving:
    """The exporter at this socket, if there is one."""
    try:
        found = ask.status(socket_path, config_file)
    except ask.NotAskedError as error:
        return Serving(f"looked for itself, so no peer's state is known: {error}")
    states = {(*whose(row), peer.peer.public_key): peer.health for row in found.devices for peer in row.peers}
    theirs = found.teller.config_file if found.teller else ""
    if theirs and config_file is None and not os.access(theirs, os.R_OK):
        note = f"states are those of the exporter that runs here; its configuration can't be read: {theirs}"
        return Serving(note, socket_path, "", states)
    what = f", with {theirs}" if theirs else ""
    return Serving(f"as the exporter that runs here sees it{what}", socket_path, theirs, states)
