"""The exporter in the process that has no right: HTTP, history, health and rendering.

What it knows of devices comes from the reader's process, and of probes from the prober's; both are started by the
supervisor, which also reads the configuration for it.
"""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import TYPE_CHECKING

from wg_exporter.catalogue import NAMES
from wg_exporter.config import place
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.daemon.prober import Probing
from wg_exporter.daemon.serve import Hooks, serve
from wg_exporter.log import Log
from wg_exporter.messages.supervisor import Role
from wg_exporter.remote.reader.handle import ReaderProcess
from wg_exporter.remote.supervisor import Supervisor

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from wg_exporter.config import Config
    from wg_exporter.daemon.doors import Doors
    from wg_exporter.remote.process import Process
    from wg_exporter.sources import Clock


class _Hooks(Hooks):
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def ready(self) -> None:
        self._supervisor.ready()

    def stopping(self) -> None:
        """The supervisor knows: it was asked first."""

    def listen(self, reload: Callable[[], None], stop: Callable[[], None]) -> None:
        self._supervisor.on_reload = reload
        self._supervisor.on_end = stop
        # A signal for the whole group is the supervisor's, which tells us of it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def run(
    sock: socket.socket, doors: Doors, path: str, config: Config, config_file: Path | None, *, net_raw: bool | None
) -> int:
    """Serve until the supervisor ends it. `sock` leads to it. Returns the exit code."""
    supervisor = Supervisor(sock, config, place(config_file) if config_file else "", NAMES)
    exporter = Exporter(
        config,
        config_file,
        _Readers(supervisor).open,
        prober=Probing(config, partial(_start, supervisor, Role.PROBER)),
        net_raw=net_raw,
        read_config=lambda _file: supervisor.load(),
        costs=lambda: [supervisor.usage] if supervisor.usage else [],
    )
    try:
        return asyncio.run(serve(exporter, doors, path, _Hooks(supervisor)))
    finally:
        supervisor.close()


def _start(supervisor: Supervisor, role: Role, config: Config, fd: int) -> Process:
    return supervisor.start(role, config, fd)


class _Readers:
    """A reader's process for each configuration, as `sources.OpenSources`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._first = True

    def open(self, config: Config, clock: Clock) -> ReaderProcess:
        """One that has read everything once, so that nobody waits for it after a reload: the one before serves
        meanwhile. The very first is waited for by nobody either, as nothing is served yet.
        """
        reader = ReaderProcess(partial(_start, self._supervisor, Role.READER, config), clock, _warn)
        if not self._first:
            reader.read()
        self._first = False
        return reader


def _warn(problem: str) -> None:
    Log(__name__).warn("reading", problem=problem)
