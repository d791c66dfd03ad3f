"""`serve` in one process, beside the prober's: without root, where root is the only user, or because somebody wants it.

Mistakes of the user are found before the first socket is opened. Then the sockets are bound, all of them or none, and
then the devices are read.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from wg_exporter.config.web import WebConfigError
from wg_exporter.daemon.doors import open_doors, open_track
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.daemon.journal import Journal
from wg_exporter.daemon.policies import Policies
from wg_exporter.daemon.prober import Probing
from wg_exporter.daemon.serve import Hooks, serve
from wg_exporter.events import Process
from wg_exporter.linux import signals
from wg_exporter.linux.scarcity import be_frugal
from wg_exporter.linux.storage import open_storage
from wg_exporter.reader.host import host_sources
from wg_exporter.remote.resolver import OwnResolver
from wg_exporter.sources import SYSTEM_CLOCK
from wg_exporter.web.docs import Docs
from wg_exporter.web.files import LOOK_EVERY, WebFiles
from wg_exporter.web.listen import parse_telemetry_path

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.daemon.doors import Asked, Doors


def run(asked: Asked) -> int:
    """Serve until a signal comes, in this process but for the prober. Returns the exit code.

    Raises ListenError if an address or the path can't be served; nothing is left open then. Raises PassedSocketsError.
    """
    signals.hold()
    be_frugal()
    parse_telemetry_path(asked.telemetry_path)
    watched = None if asked.web_file is None else _Watched(asked.web_file)
    doors = open_doors(asked)
    doors.storage = open_storage(asked.storage_path)
    doors.track_files = open_track(asked)
    sources = partial(host_sources, resolver=OwnResolver(), serving=True)
    journal = Journal(SYSTEM_CLOCK, doors.storage)
    exporter = Exporter(
        asked.config,
        asked.config_file,
        sources,
        prober=Probing(asked.config, tell=partial(journal.process, Process.PROBER)),
        storage=doors.storage,
        journal=journal,
        track_files=doors.track_files,
    )
    try:
        return asyncio.run(_serve(exporter, doors, asked, watched))
    finally:
        doors.remove()


class _Watched:
    """The files of the web configuration, looked at by this process itself."""

    def __init__(self, path: Path) -> None:
        """Raises WebConfigError."""
        self._files = WebFiles(path)
        self.policies = Policies(self._files.where)
        self.policies.first(*self._files.read())

    async def follow(self) -> None:
        """Look at them again and again."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await asyncio.to_thread(self._look)

    def _look(self) -> None:
        if self._files.changed():
            try:
                material = self._files.read()
            except WebConfigError as error:
                self.policies.fail(error.problems)
            else:
                self.policies.take(*material)


async def _serve(exporter: Exporter, doors: Doors, asked: Asked, watched: _Watched | None) -> int:
    if watched is None:
        return await serve(exporter, doors, asked, Hooks(), docs=Docs())
    following = asyncio.create_task(watched.follow())
    try:
        return await serve(exporter, doors, asked, Hooks(), watched.policies, docs=Docs())
    finally:
        following.cancel()
