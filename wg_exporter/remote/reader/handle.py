"""The reader's process, as the exporter sees it: asked for a pass, it answers with a snapshot.

It is the only process that is root and sees secrets. When it dies it is started again, after a pause that doubles each
time; until then every pass says that nothing could be read. What was counted of the peers is the exporter's own.
"""

from __future__ import annotations

import select
import socket
import threading
import warnings
from collections import deque
from typing import TYPE_CHECKING

from wg_exporter.messages.channel import Connection, ConnectionEndedError
from wg_exporter.messages.reader import LONGEST, MOST_INSPECTED, Ask, FromReader, Inspect, Inspections, Read, Unwell
from wg_exporter.messages.snapshots import Unpacker, UnpackError
from wg_exporter.model import FailedDevice, Failure, Outcome, Snapshot, SourceName
from wg_exporter.remote.process import ended, overslept
from wg_exporter.sources import OnePass, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wg_exporter import sources
    from wg_exporter.inspected import Inspected
    from wg_exporter.model import PeerKey, Usage
    from wg_exporter.remote.process import Process
    from wg_exporter.sources import Clock, Questions

DEADLINE = 3.5  # seconds for a pass: the reader's own is 2.5
SILENCE = 30.0  # seconds for a pass after which the process hangs, and is killed
LATE = 15.0  # seconds: an answer that came later than its pass is given to the next one, if it is not older
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds from a death to the next start
LONG_LIFE = 60.0  # seconds: after a longer life the pause begins at `FIRST_PAUSE` again
ALWAYS = (SourceName.KERNEL, SourceName.LINKS, SourceName.USERSPACE, SourceName.CONF)  # sources of every host
STOP_TIMEOUT = 2.0  # seconds for the process to end before it is killed


class _DiedError(Exception):
    """It is gone; the message says how."""


class _LateError(Exception):
    """It has not answered in time, and may still."""


class _Life:
    """One process, from its start to its end."""

    def __init__(self, process: Process, sock: socket.socket, clock: Callable[[], float]) -> None:
        self.process = process
        self.begun = clock()
        self.usage: Usage | None = None
        self.inspected: deque[Inspected] = deque(maxlen=MOST_INSPECTED)
        self._connection: Connection[FromReader] = Connection(sock, FromReader, LONGEST)  # type: ignore[arg-type]
        self._unpacker = Unpacker()
        self._clock = clock
        self._asked: float | None = None  # when a pass was asked for that was not answered yet

    def ask(self, questions: Questions) -> None:
        """Tell which routes to look at. Raises _DiedError."""
        try:
            self._connection.send(Ask(dict(questions)))
        except ConnectionEndedError as error:
            raise _DiedError(str(error)) from None

    def inspect(self, keys: tuple[PeerKey, ...]) -> None:
        """Have it look at the host for these peers. Raises _DiedError."""
        try:
            self._connection.send(Inspect(keys))
        except ConnectionEndedError as error:
            raise _DiedError(str(error)) from None

    def unwell(self, peers: sources.Unwell) -> None:
        """Tell which peers are not well. Raises _DiedError."""
        try:
            self._connection.send(Unwell(peers))
        except ConnectionEndedError as error:
            raise _DiedError(str(error)) from None

    def read(self) -> Snapshot:
        """A pass. Raises _DiedError or _LateError."""
        now = self._clock()
        try:
            if self._asked is None:
                self._connection.send(Read())
                self._asked = now
            snapshot = self._wait(now + DEADLINE)
            if self._clock() - self._asked >= LATE:  # it is the answer to a pass of long ago
                self._connection.send(Read())
                self._asked = self._clock()
                snapshot = self._wait(now + DEADLINE)
        except ConnectionEndedError as error:
            raise _DiedError(str(error)) from None
        except UnpackError as error:
            raise _DiedError(f"a message is malformed: {error}") from None
        self._asked = None
        return snapshot

    def _wait(self, deadline: float) -> Snapshot:
        poll = select.poll()
        while True:
            message = self._connection.receive()
            if isinstance(message, Inspections):
                self.inspected.extend(message.rows)
                continue
            if message is not None:
                self.usage = message.usage
                return self._unpacker.unpack(message)
            if overslept(deadline, now := self._clock()):
                self._asked, deadline = now, now + DEADLINE
            left = deadline - now
            if left <= 0:
                assert self._asked is not None  # noqa: S101 - for the type checker
                if now - self._asked > SILENCE:
                    raise _DiedError(f"said nothing for {SILENCE:g} s")
                raise _LateError(f"no answer within {DEADLINE:g} s")
            poll.register(self._connection, select.POLLIN | (0 if self._connection.idle else select.POLLOUT))
            poll.poll(left * 1000)
            self._connection.flush()

    def end(self, why: str) -> str:
        """Close the socket and wait for the process, which is killed if it does not end. Returns how it ended."""
        self._connection.close()
        return ended(self.process, STOP_TIMEOUT, why)


class ReaderProcess:
    """The sources of the host in another process, as `sources.Sources`. Thread-safe.

    `start` starts a process, which gets its end of the socket as a file descriptor; it raises OSError. `log` is told in
    a line why nothing can be read (one died, hangs or can't be started), with an empty one that it can be again, and
    the sources that this concerns.
    """

    def __init__(self, start: Callable[[int], Process], clock: Clock, log: Callable[[str, str], None]) -> None:
        self._start = start
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._passes = OnePass(self._whole_pass)
        self._passing = False
        self._stopped = False
        self._life: _Life | None = None
        self._problem = ""
        self._pause = FIRST_PAUSE
        self._not_before = float("-inf")
        self._last = Snapshot(0.0, 0.0, (), (), {}, (), ())
        self._questions: Questions = {}
        self._told: Questions | None = {}  # what the process was asked last
        self._to_inspect: tuple[PeerKey, ...] = ()
        self._unwell: sources.Unwell = frozenset()
        self._told_unwell: sources.Unwell = frozenset()

    def __del__(self) -> None:
        if not getattr(self, "_stopped", True):
            warnings.warn(f"{self!r} was dropped and not stopped", ResourceWarning, source=self, stacklevel=2)
            self.stop()

    @property
    def problem(self) -> str:
        """Why nothing can be read at the moment, in one line; empty if it can."""
        return self._problem

    @property
    def usage(self) -> Usage | None:
        """What the process has cost its host, None while there is none."""
        life = self._life
        return life.usage if life else None

    def ask(self, questions: Questions) -> None:
        """As `sources.Sources`: told with the next pass."""
        self._questions = questions

    def inspect(self, keys: Sequence[PeerKey]) -> None:
        """As `sources.Sources`: asked for with the next pass."""
        self._to_inspect = tuple(keys)[:MOST_INSPECTED]

    def inspected(self) -> tuple[Inspected, ...]:
        """As `sources.Sources`."""
        life, found = self._life, []
        while life is not None and life.inspected:
            found.append(life.inspected.popleft())
        return tuple(found)

    def unwell(self, peers: sources.Unwell) -> None:
        """As `sources.Sources`: told with the next pass."""
        self._unwell = peers

    def stop(self) -> None:
        """End the process. Does not wait: a pass that is under way ends by its deadline, and then the process."""
        with self._lock:
            self._stopped = True
            life, self._life = (None, self._life) if self._passing else (self._life, None)
        if life is not None:
            threading.Thread(target=life.end, args=("stopped",), name="reader ends", daemon=True).start()

    def read(self) -> Snapshot:
        """As `sources.Sources`."""
        if self._stopped:
            raise StoppedError
        return self._passes.read()

    def _whole_pass(self) -> Snapshot:
        """A pass, and the end of the process if somebody asked for it meanwhile."""
        with self._lock:
            if self._stopped:
                raise StoppedError
            self._passing = True
        try:
            return self._pass()
        finally:
            with self._lock:
                self._passing = False
                life, self._life = (self._life, None) if self._stopped else (None, self._life)
            if life is not None:
                life.end("stopped")

    def _pass(self) -> Snapshot:
        """Called by one thread at a time."""
        life = self._life or self._begin()
        if life is None:
            return self._nothing(self._problem)
        try:
            if self._questions != self._told:
                self._told = self._questions
                life.ask(self._questions)
            keys, self._to_inspect = self._to_inspect, ()
            if keys:
                life.inspect(keys)
            if self._unwell != self._told_unwell:
                self._told_unwell = self._unwell
                life.unwell(self._unwell)
            snapshot = life.read()
        except _LateError as error:
            problem, before = f"the reader gave {error}", self._problem
            self._problem = problem
            if problem != before:
                self._log(problem, self._sources())
            return self._nothing(problem)
        except _DiedError as error:
            self._life = None
            self._died(life.end(str(error)), self._clock.monotonic() - life.begun)
            return self._nothing(self._problem)
        before, self._problem = self._problem, ""
        self._last = snapshot
        if before:
            self._log("", self._sources())
        return snapshot

    def _begin(self) -> _Life | None:
        if self._clock.monotonic() < self._not_before:
            return None
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    process = self._start(theirs.fileno())
                except OSError:
                    ours.close()
                    raise
        except OSError as error:
            self._died(f"could not be started: {error}", 0.0)
            return None
        self._told, self._told_unwell = {}, frozenset()
        self._life = _Life(process, ours, self._clock.monotonic)
        return self._life

    def _died(self, how: str, lived: float) -> None:
        if lived >= LONG_LIFE:
            self._pause = FIRST_PAUSE
        self._problem = f"the reader {how}; it is started again in {self._pause:g} s"
        self._log(self._problem, self._sources())
        self._not_before = self._clock.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _outcomes(self, problem: str) -> tuple[Outcome, ...]:
        """Of all sources, that they failed for this reason."""
        known = [(one.source, one.netns) for one in self._last.outcomes] or [(name, "") for name in ALWAYS]
        return tuple(Outcome(*one, success=False, duration=0.0, problem=problem) for one in known)

    def _sources(self) -> str:
        return ", ".join(f"{one.source} in {one.netns}" if one.netns else one.source for one in self._outcomes(""))

    def _nothing(self, problem: str) -> Snapshot:
        """A pass that read nothing. What was there may still be: a device is not gone because nobody can look."""
        last, outcomes = self._last, self._outcomes(problem)
        there = [(device.netns, device.name, device.backend) for device in last.devices]
        there += [(device.netns, device.name, device.backend) for device in last.failed]
        return Snapshot(
            self._clock.wall(),
            self._clock.monotonic(),
            (),
            tuple(FailedDevice(*device, problem, Failure.OTHER) for device in there),
            {},
            last.conf,
            outcomes,
            left_out=last.left_out,
            idle_patterns=last.idle_patterns,
            unread=True,
            host_names=last.host_names,
        )
