"""Starts processes, tells the exporter how they end, and ends all when the exporter ends.

There is one thread, so that a process can be forked at any time. It waits for a message of the exporter, a signal or
the end of a child, and never for anything else.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol

from wg_exporter.config import ConfigError, parse, place, read
from wg_exporter.linux import signals
from wg_exporter.linux.systemd import notify
from wg_exporter.linux.usage import Meter
from wg_exporter.log import Log
from wg_exporter.messages.channel import CLOSED, ConnectionEndedError
from wg_exporter.messages.packets import Packets, close_all
from wg_exporter.messages.supervisor import (
    Cost,
    Ended,
    Kill,
    Load,
    Loaded,
    Ready,
    Reload,
    ResolverEnded,
    Role,
    Start,
    Started,
    ToSupervisor,
)
from wg_exporter.supervisor.copies import MOST_PROBLEMS, holding, web_material
from wg_exporter.supervisor.forks import HEEDED, fork, name, prepare
from wg_exporter.supervisor.outbox import Outbox
from wg_exporter.supervisor.resolvers import Resolvers
from wg_exporter.web.files import LOOK_EVERY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    import msgspec

    from wg_exporter.config import Config
    from wg_exporter.web.files import WebFiles

Body = "Callable[[socket.socket], None]"
"""What a process does with its end of a socket."""

COST_EVERY = 15.0  # seconds
STOP_TIMEOUT = 8.0  # seconds for the exporter to end after SIGTERM before it is killed
END_TIMEOUT = 2.0  # seconds for the others, once the exporter has ended
NEVER = inf
KEPT = 16  # configurations
MOST_CHILDREN = 16  # in all: an exporter that was taken over could use up all processes of the service
LEAST_PAUSE = 0.2  # seconds between two starts of one role for one configuration


class Closable(Protocol):
    """Something open."""

    def close(self) -> None:
        """Close it."""


class _Child(NamedTuple):
    role: Role
    configuration: int


class Parent:
    """Runs the exporter as a child, and starts the others as it asks. For one use."""

    def __init__(
        self,
        config: Config,
        config_file: Path | None,
        roles: Mapping[Role, Callable[[Config], Callable[[socket.socket], None]]],
        metric_names: Collection[str] = (),
        web_files: WebFiles | None = None,
        *,
        resolvers: Resolvers | None = None,
    ) -> None:
        """`roles` makes what each process does from the configuration. `web_files` are those of the web configuration,
        if there is one. `resolvers` connects readers with the processes that look host names up, if there are any.
        """
        self._configurations = {0: config}
        self._config_file = config_file
        self._roles = roles
        self._metric_names = metric_names
        self._web_files = web_files
        self._resolvers = resolvers or Resolvers(lambda _sock: None)
        self._resolvers.told = lambda pause: self._tell(ResolverEnded(pause))
        self._children: dict[int, _Child] = {}
        self._started: dict[_Child, float] = {}
        self._poll = select.poll()
        self._web = 0
        self._code: int | None = None  # how the exporter ended
        self._log = Log(__name__)
        self._meter = Meter()
        self._hung_up = False  # the exporter, or we because of what it said
        self._wanted = False  # whether somebody asked the service to end
        self._told_to_end = False  # whether the exporter was told
        self._stop_by: float | None = None  # when the exporter is killed

    def run(self, exporter: Callable[[socket.socket], int], handed_over: Sequence[Closable] = ()) -> int:
        """Serve until the exporter ends; its exit code, or 1 if it ended with 0 and nobody wanted that. Everything that
        was started has ended then. Signals are heeded meanwhile, and held back afterwards (`linux.signals`).

        What is `handed_over` to the exporter, its sockets and its storage, is nobody else's: it is closed here.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._packets: Packets[ToSupervisor] = Packets(ours, ToSupervisor)  # type: ignore[arg-type]
        self._wake, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._outbox = Outbox(self._packets)
        signal.set_wakeup_fd(wakes)
        before = {number: signal.signal(number, lambda *_: None) for number in HEEDED}
        self._open = (ours.fileno(), self._wake, wakes)
        prepare()
        try:
            self._web = self._fork(lambda: exporter(theirs), ignore=False)
            for one in (theirs, *handed_over):
                one.close()
            signals.release()
            self._loop()
        finally:
            signals.hold()  # who says it twice still wants an exit code of 0
            self._end_all()
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            close_all((self._wake, wakes))
            self._outbox.close()
            ours.close()
        return 1 if self._code is None else self._code

    def _loop(self) -> None:
        poll = self._poll
        poll.register(self._wake, select.POLLIN)
        cost_at = time.monotonic() + COST_EVERY
        look_at = NEVER if self._web_files is None else 0.0
        while self._code is None:
            now = time.monotonic()
            stop_by = NEVER if self._stop_by is None else self._stop_by
            again = NEVER if self._outbox.wants_room else self._outbox.again
            until = min(cost_at, look_at, self._resolvers.watch(poll, now), stop_by, again)
            self._watch_exporter()
            ready = dict(poll.poll(None if until == NEVER else max(0.0, until - now) * 1000 + 1))
            self._heed_signals()
            self._reap()
            self._resolvers.start(ready, time.monotonic(), partial(self._fork, ignore=True))
            now = time.monotonic()
            if not self._hung_up and (self._packets.fileno() in ready or now >= self._outbox.again):
                self._talk(now)
            if self._stop_by is not None and now >= self._stop_by:
                self._log.error("the exporter does not end, and is killed", seconds=STOP_TIMEOUT)
                self._told_to_end = True
                self._kill(self._web)
                self._stop_by = now + STOP_TIMEOUT
            if now >= look_at:
                look_at = now + LOOK_EVERY
                self._look_at_web_files()
            if now >= cost_at:
                cost_at = now + COST_EVERY
                self._tell(Cost(self._meter.read()))

    def _watch_exporter(self) -> None:
        """One that does not take its answers gets no more of them; what it is told besides is bounded (`outbox`)."""
        if not self._hung_up:
            events = 0 if self._outbox.full else select.POLLIN
            self._poll.register(self._packets, events | (select.POLLOUT if self._outbox.wants_room else 0))

    def _talk(self, now: float) -> None:
        try:
            self._outbox.flush(now)
            while not self._outbox.full and (found := self._packets.receive()) is not None:
                self._answer(*found)
        except ConnectionEndedError as error:  # it is ending; or it says what it must not
            self._hang_up(str(error))

    def _hang_up(self, why: str) -> None:
        self._hung_up = True
        self._poll.unregister(self._packets)
        self._outbox.close()
        self._stop_web(why)

    # --- signals and ends ---------------------------------------------------------------------------------------------

    def _heed_signals(self) -> None:
        try:
            numbers = os.read(self._wake, 4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number == signal.SIGHUP:
                self._tell(Reload())
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._wanted = True
                notify("STOPPING=1")
                self._stop_web()

    def _stop_web(self, why: str = "") -> None:
        """Have it end; `why` is what it did wrong. One that has closed the connection is ending by itself."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + STOP_TIMEOUT
        if why != CLOSED and not self._told_to_end:
            self._told_to_end = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._web, signal.SIGTERM)
            if why:
                self._log.error("the exporter is ended", problem=why)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid == self._web:
                self._code = self._outcome(code)
                continue
            self._resolvers.ended(pid, time.monotonic(), self._poll)
            if self._children.pop(pid, None) is not None:
                self._tell(Ended(pid, code))

    def _outcome(self, code: int) -> int:
        """The exit code of the service, from how the exporter ended."""
        if self._wanted and code in (0, -signal.SIGTERM, -signal.SIGINT):  # by these before it had begun to heed them
            return 0
        if code < 0 and not self._told_to_end:
            self._log.error("the exporter was killed", signal=name(-code))
        elif code == 0 and not self._told_to_end:
            self._log.error("the exporter ended, and nobody had asked for that")
        return 128 - code if code < 0 else code or 1

    def _end_all(self) -> None:
        """The others end because the exporter has closed their sockets; who does not is killed."""
        if self._code is None and self._web:
            self._kill(self._web)
        deadline = time.monotonic() + END_TIMEOUT
        while self._children or self._resolvers.running or (self._code is None and self._web):
            self._reap()
            if time.monotonic() > deadline:
                for pid in (*self._children, *self._resolvers.running):
                    self._kill(pid)
            time.sleep(0.005)

    @staticmethod
    def _kill(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    # --- messages -----------------------------------------------------------------------------------------------------

    def _tell(self, message: msgspec.Struct, files: Sequence[int] = ()) -> None:
        """`files` are closed once it was sent."""
        if self._hung_up:
            close_all(files)
            return
        self._outbox.put(message, files)
        with contextlib.suppress(ConnectionEndedError):  # the loop notices
            self._outbox.flush(time.monotonic())

    def _answer(self, message: ToSupervisor, files: list[int]) -> None:
        try:
            if isinstance(message, Start):
                self._tell(self._start(message, files))
            elif isinstance(message, Kill):
                if message.pid in self._children:
                    self._kill(message.pid)
            elif isinstance(message, Load):
                self._load(message.request)
            elif isinstance(message, Ready):
                notify("READY=1")
        finally:
            close_all(files)

    def _start(self, asked: Start, files: list[int]) -> Started:
        child = _Child(asked.role, asked.configuration)
        config = self._configurations.get(asked.configuration)
        now = time.monotonic()
        problem = ""
        if config is None or len(files) != 1:
            problem = "there is no such configuration" if config is None else "no socket came with it"
        elif child in self._children.values():
            problem = f"a {asked.role} for this configuration runs already"
        elif len(self._children) >= MOST_CHILDREN:
            problem = f"{MOST_CHILDREN} processes run already"
        elif now < self._started.get(child, float("-inf")) + LEAST_PAUSE:
            problem = f"a {asked.role} was started a moment ago"
        if problem or config is None:
            return Started(asked.request, 0, problem)
        self._started[child] = now
        pid = 0
        try:
            body = self._roles[asked.role](config)
            with socket.socket(fileno=os.dup(files[0])) as sock:
                pid = self._fork(lambda: body(sock), ignore=True)
        except OSError as error:
            return Started(asked.request, 0, error.strerror or str(error))
        finally:
            self._resolvers.begun(pid)
        self._children[pid] = child
        return Started(asked.request, pid)

    def _load(self, request: int) -> None:
        if self._config_file is None:
            self._tell(Loaded(request, 0))
            return
        number = max(self._configurations) + 1
        try:
            text = read(self._config_file)
            config = parse(text, place(self._config_file), self._metric_names)
        except ConfigError as error:
            self._tell(Loaded(request, 0, error.problems[:MOST_PROBLEMS]))
            return
        self._configurations[number] = config
        for old in sorted(self._configurations)[:-KEPT]:
            del self._configurations[old]
        known = self._configurations
        self._started = {child: at for child, at in self._started.items() if child.configuration in known}
        self._tell(Loaded(request, number), (holding(text.encode()),))

    def _look_at_web_files(self) -> None:
        """Hand the files of the web configuration over, if they have changed."""
        if self._web_files is not None and self._web_files.changed():
            self._tell(*web_material(self._web_files))

    def _fork(self, body: Callable[[], int | None], *, ignore: bool) -> int:
        return fork(body, (*self._open, *self._resolvers.files(), *self._outbox.files()), ignore=ignore)
