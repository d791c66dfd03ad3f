"""The supervisor, as the exporter sees it: asked for processes and for the configuration.

The exporter has no right of its own, so it can't start a process that reads devices, nor open root's files. It is told
when a process ends, when somebody wants a reload, and what the supervisor costs.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config import Config, ConfigError, parse
from wg_exporter.config.tree import Problem
from wg_exporter.log import Log
from wg_exporter.messages.channel import ConnectionEndedError
from wg_exporter.messages.packets import FullError, Packets, close_all
from wg_exporter.messages.supervisor import (
    Cost,
    Ended,
    FromSupervisor,
    Kill,
    Load,
    Loaded,
    Ready,
    Reload,
    ResolverEnded,
    Role,
    Start,
    Started,
    WebMaterial,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection

    import msgspec

    from wg_exporter.model import Usage

PATIENCE = 10.0  # seconds for an answer; the supervisor has nothing else to do
LONGEST_TEXT = 16 << 20  # bytes of a configuration
KEPT = 8  # configurations: those in use, and those that turned out to be of no use


class Child:
    """A process that the supervisor started, with what is wanted of `subprocess.Popen`."""

    def __init__(self, pid: int, kill: Callable[[int], None]) -> None:
        self.pid = pid
        self._kill = kill
        self._ended = threading.Event()
        self._code = 0

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the number of the signal that ended it. Raises subprocess.TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("a process of wg-exporter", timeout or 0.0)
        return self._code

    def kill(self) -> None:
        """End it at once."""
        self._kill(self.pid)

    def end(self, code: int) -> None:
        """It has ended."""
        self._code = code
        self._ended.set()


class _Answer(NamedTuple):
    """The answer to a request, with the files that came with it, and the process that was started."""

    message: Started | Loaded
    files: list[int]
    child: Child | None


class SupervisorGoneError(Exception):
    """Nobody answers any more: this process has to end."""


class Supervisor:
    """Asks, and listens in a thread until `close`. Thread-safe. An answer is waited for, for at most `PATIENCE`."""

    def __init__(
        self,
        sock: socket.socket,
        config: Config,
        config_file: str,
        metric_names: Collection[str] = (),
        on_web: Callable[[WebMaterial, list[int]], object] | None = None,
        *,
        on_resolver: Callable[[float], object] = lambda _pause: None,
    ) -> None:
        """`config` is the configuration to begin with, number 0. The next two are as for `config.parse`.

        `on_web` is called by the thread with the web configuration; the open files are its to close. `on_resolver` when
        a resolver of host names has ended, with the seconds until it is started again.
        """
        self._packets: Packets[FromSupervisor] = Packets(sock, FromSupervisor)  # type: ignore[arg-type]
        self._where, self._metric_names = config_file, metric_names
        self._log = Log(__name__)
        self._lock = threading.Lock()
        self._configurations = [(0, config)]
        self._requests = 0
        self._answers: dict[int, Future[_Answer]] = {}
        self._children: dict[int, Child] = {}
        self._gone = self._lost = False  # the former: and everybody was told
        self.usage: Usage | None = None
        """What it has cost the host, None until it says so."""
        self._on_web = on_web or _unwanted
        self._on_resolver = on_resolver
        self._on_reload: Callable[[], object] | None = None
        self._on_end: Callable[[], object] | None = None
        self._wanted = False  # a reload, before anybody listened
        self._to_kill: set[int] = set()  # processes that the supervisor could not be told of
        self._thread = threading.Thread(target=self._listen, name="supervisor", daemon=True)
        self._thread.start()

    def listen(self, on_reload: Callable[[], object], on_end: Callable[[], object]) -> None:
        """What to call when somebody wants a reload, and when the supervisor is gone: by the thread, or now if that
        was before. Once.
        """
        with self._lock:
            self._on_reload, self._on_end = on_reload, on_end
            wanted, gone = self._wanted, self._gone
        if wanted:
            on_reload()
        if gone:
            on_end()

    def start(self, role: Role, config: Config, fd: int) -> Child:
        """Start a process with this end of a socket. Raises OSError with the reason if there is none."""
        with self._lock:
            numbers = [number for number, one in self._configurations if one is config]
        if not numbers:
            raise OSError("its configuration is not known")
        self._kill_all()
        answer = self._ask(lambda request: Start(request, role, numbers[0]), (fd,))
        if answer.child is None:
            raise OSError(getattr(answer.message, "problem", "") or "the supervisor does not say why")
        return answer.child

    def load(self) -> Config:
        """The configuration as its file is now. Raises ConfigError."""
        try:
            message, files, _child = self._ask(Load, ())
        except OSError as error:
            raise ConfigError((Problem(self._where, f"can't be read: {error.strerror or error}"),)) from None
        try:
            if not isinstance(message, Loaded) or message.problems or not files:
                raise ConfigError(getattr(message, "problems", ()) or (Problem(self._where, "can't be read"),))
            text = os.pread(files[0], LONGEST_TEXT, 0).decode()
        finally:
            close_all(files)
        config = parse(text, self._where, self._metric_names)
        with self._lock:
            self._configurations = [*self._configurations[-KEPT + 1 :], (message.configuration, config)]
        return config

    @property
    def gone(self) -> bool:
        """Whether nobody answers any more."""
        return self._gone or self._lost

    def ready(self) -> None:
        """Say that requests are answered from now on. A supervisor that is gone wants to hear nothing."""
        with contextlib.suppress(SupervisorGoneError):
            self._send(Ready())

    def close(self) -> None:
        """Listen no more."""
        self._gone = True
        self._packets.shut()
        self._thread.join(PATIENCE)

    def _ask(self, message: Callable[[int], msgspec.Struct], files: tuple[int, ...]) -> _Answer:
        """Raises OSError if there is no answer."""
        with self._lock:
            self._requests += 1
            request = self._requests
            future = self._answers[request] = Future()
        try:
            self._send(message(request), files)
            return future.result(PATIENCE)
        except (TimeoutError, SupervisorGoneError) as error:
            raise OSError(str(error) or "the supervisor does not answer") from None
        finally:
            with self._lock:
                self._answers.pop(request, None)

    def _send(self, message: msgspec.Struct, files: tuple[int, ...] = ()) -> None:
        try:
            self._packets.send(message, files)
        except FullError:
            raise SupervisorGoneError("the supervisor does not answer") from None
        except ConnectionEndedError as error:
            self._lost = True
            raise SupervisorGoneError(f"the supervisor is gone: {error}") from None

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._packets, select.POLLIN)
        try:
            while not self._gone:
                poll.poll()
                while (found := self._packets.receive()) is not None:
                    self._take(*found)
        except (ConnectionEndedError, ValueError):  # the second: it was closed
            pass
        with self._lock:
            waiting = list(self._answers.values())
            children, self._children = self._children, {}
        for child in children.values():
            child.end(0)  # nobody will tell: they end when they see that their connection is closed
        for future in waiting:
            future.set_exception(SupervisorGoneError("the supervisor is gone"))
        with self._lock:
            closed, self._gone = self._gone, True
            on_end = self._on_end
        if not closed:
            self._log.error("the supervisor is gone, so this process ends")
            if on_end is not None:
                on_end()

    def _take(self, message: FromSupervisor, files: list[int]) -> None:
        if isinstance(message, Started | Loaded):
            child = None
            with self._lock:
                if isinstance(message, Started) and message.pid:
                    child = self._children[message.pid] = Child(message.pid, self._kill)
                future = self._answers.pop(message.request, None)
            if future is None:
                close_all(files)
            else:
                future.set_result(_Answer(message, files, child))
            return
        if isinstance(message, WebMaterial):
            self._on_web(message, files)
            return
        close_all(files)
        if isinstance(message, Ended):
            with self._lock:
                child = self._children.pop(message.pid, None)
                self._to_kill.discard(message.pid)
            if child is not None:
                child.end(message.code)
        elif isinstance(message, Reload):
            with self._lock:
                self._wanted = self._on_reload is None
                on_reload = self._on_reload
            if on_reload is not None:
                on_reload()
        elif isinstance(message, ResolverEnded):
            self._on_resolver(message.again_in_seconds)
        elif isinstance(message, Cost):
            self.usage = message.usage

    def _kill(self, pid: int) -> None:
        """Raises OSError if it can't be said now; it is said before the next process is started."""
        with self._lock:
            if pid in self._children:
                self._to_kill.add(pid)
        self._kill_all()

    def _kill_all(self) -> None:
        with self._lock:
            pids = list(self._to_kill)
        for pid in pids:
            try:
                self._send(Kill(pid))
            except SupervisorGoneError as error:
                raise OSError(str(error)) from None
            with self._lock:
                self._to_kill.discard(pid)


def _unwanted(_message: WebMaterial, files: list[int]) -> None:
    close_all(files)
