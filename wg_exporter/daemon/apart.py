"""The exporter in the process that has no right: HTTP, history, health and rendering.

What it knows of devices comes from the reader's process, and of probes from the prober's; both are started by the
supervisor, which also reads the configuration for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

from wg_exporter.catalogue import NAMES
from wg_exporter.config import place
from wg_exporter.config.web import WebConfigError
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.daemon.journal import Journal
from wg_exporter.daemon.policies import Policies
from wg_exporter.daemon.prober import Probing
from wg_exporter.daemon.serve import Hooks, serve
from wg_exporter.events import Life
from wg_exporter.events import Process as Ours
from wg_exporter.log import Log
from wg_exporter.messages.packets import close_all
from wg_exporter.messages.supervisor import Role, WebMaterial
from wg_exporter.remote.reader.handle import ReaderProcess
from wg_exporter.remote.supervisor import PATIENCE, Supervisor
from wg_exporter.sources import SYSTEM_CLOCK

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from wg_exporter.config import Config
    from wg_exporter.config.tree import Problem
    from wg_exporter.daemon.doors import Asked, Doors
    from wg_exporter.remote.process import Process
    from wg_exporter.sources import Clock
    from wg_exporter.web.docs import Docs


class _Hooks(Hooks):
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def ready(self) -> None:
        self._supervisor.ready()

    def stopping(self) -> None:
        """The supervisor knows: it was asked first."""

    def listen(self, reload: Callable[[], None], stop: Callable[[], None]) -> None:
        self._supervisor.listen(reload, stop)
        # A signal for the whole group is the supervisor's, which tells us of it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def run(sock: socket.socket, doors: Doors, asked: Asked, docs: Docs, *, net_raw: bool | None) -> int:
    """Serve until the supervisor ends it. `sock` leads to it. Returns the exit code."""
    policies = None if asked.web_file is None else _Handed(place(asked.web_file))
    where = place(asked.config_file) if asked.config_file else ""
    journal = Journal(SYSTEM_CLOCK, doors.storage)
    on_web = policies.hand_over if policies else None
    supervisor = Supervisor(sock, asked.config, where, NAMES, on_web, on_resolver=partial(_tell_of_resolver, journal))
    if policies and (problem := policies.wait()):
        print(problem, file=sys.stderr)
        supervisor.close()
        return 2
    exporter = Exporter(
        asked.config,
        asked.config_file,
        _Readers(supervisor, partial(journal.process, Ours.READER)).open,
        prober=Probing(asked.config, partial(_start, supervisor, Role.PROBER), partial(journal.process, Ours.PROBER)),
        net_raw=net_raw,
        read_config=lambda _file: supervisor.load(),
        costs=lambda: [supervisor.usage] if supervisor.usage else [],
        storage=doors.storage,
        journal=journal,
        track_files=doors.track_files,
    )
    try:
        return asyncio.run(serve(exporter, doors, asked, _Hooks(supervisor), policies, docs=docs))
    finally:
        supervisor.close()


def _start(supervisor: Supervisor, role: Role, config: Config, fd: int) -> Process:
    return supervisor.start(role, config, fd)


class _Readers:
    """A reader's process for each configuration, as `sources.OpenSources`."""

    def __init__(self, supervisor: Supervisor, tell: Callable[[Life, str], object]) -> None:
        """`tell` is told when nothing can be read, and when it can be again."""
        self._supervisor = supervisor
        self._happened = tell
        self._first = True

    def open(self, config: Config, clock: Clock) -> ReaderProcess:
        """One that has read everything once, so that nobody waits for it after a reload: the one before serves
        meanwhile. The very first is waited for by nobody either, as nothing is served yet.
        """
        reader = ReaderProcess(partial(_start, self._supervisor, Role.READER, config), clock, self._tell)
        if not self._first:
            reader.read()
        self._first = False
        return reader

    def _tell(self, problem: str, sources: str) -> None:
        log = Log(__name__)
        if not problem:
            log.info("the reader reads again", sources=sources)
            self._happened(Life.RECOVERED, "")
        elif not self._supervisor.gone:  # that is told once, and nothing is started again
            log.error("nothing can be read", problem=problem, sources=sources)
            self._happened(Life.FAILED, problem.removeprefix("the reader "))


def _tell_of_resolver(journal: Journal, pause: float) -> None:
    journal.process(Ours.RESOLVER, Life.FAILED, f"ended; it is started again in {pause:g} s, once a name is looked up")


class _Handed(Policies):
    """Policies that are made of what the supervisor hands over."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._told = threading.Event()
        self._problem = ""

    def wait(self) -> str:
        """Until the first is there. Why it can't be used; empty if it can."""
        if not self._told.wait(PATIENCE):
            return "the web configuration was not handed over"
        return self._problem

    def hand_over(self, message: WebMaterial, files: list[int]) -> None:
        """Take what the supervisor hands over, and close the files."""
        try:
            if len(files) != len(message.names) + 1:
                self._begin_or(message.problems, lambda: self.fail(message.problems))
                return
            text = os.pread(files[0], os.fstat(files[0]).st_size, 0).decode()
            if message.problems:
                self._begin_or(message.problems, lambda: self.lack(text, message.problems))
                return
            paths = {name: f"/proc/self/fd/{file}" for name, file in zip(message.names, files[1:], strict=True)}
            if self._told.is_set():
                self.take(text, paths)
                return
            try:
                self.first(text, paths)
            except WebConfigError as error:
                self._problem = str(error)
            self._told.set()
        finally:
            close_all(files)

    def _begin_or(self, problems: tuple[Problem, ...], otherwise: Callable[[], None]) -> None:
        if self._told.is_set():
            otherwise()
            return
        self._problem = str(WebConfigError(problems)) or "the web configuration was not handed over whole"
        self._told.set()
