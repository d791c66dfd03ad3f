"""Who pages nobody for a while, because somebody works on it; kept in a file across restarts.

Requests come in threads of the server, ticks in theirs, and both may come at once. The file is written by a thread of
its own: a disk that hangs must not keep anybody from being judged. Whoever asks waits for it a moment, to be told
whether what he asked for will survive a restart.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

from wg_exporter.daemon.kept import KeptFile
from wg_exporter.events import Kind, event
from wg_exporter.linux.storage import Storage, StorageError, WrongFileError
from wg_exporter.log import Log
from wg_exporter.quiet import MOST, Quiet, plain
from wg_exporter.quiet.asked import Answer, AskedError, begin, end
from wg_exporter.quiet.book import WRITE_EVERY, Book, Moment
from wg_exporter.quiet.file import LONGEST_FILE, NAME, FileError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wg_exporter.events import Event
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.model import PeerKey
    from wg_exporter.quiet import QuietNow
    from wg_exporter.sources import Clock

PATIENCE = 3.0  # seconds for the file

_EVENTS = {"quiet begins": "begun", "quiet ends": "ended"}  # lines of the log that are events


class Quiets:
    """All quiets of the host. Thread-safe."""

    def __init__(
        self,
        clock: Clock,
        storage: Storage | None = None,
        tell: Callable[[Iterable[Event]], object] = lambda _events: None,
    ) -> None:
        """Goes on with what the file has. Never fails: without a usable file it begins with nothing. `tell` is told
        what begins and ends.
        """
        self._clock = clock
        self._tell = tell
        self._storage = storage or Storage()
        self._log = Log(__name__)
        self._file = KeptFile(self._storage, NAME, "quiet is", self._log)
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="quiet")
        self._writing: Future[str] | None = None
        self._write_at = inf  # monotonic
        self._book = Book(self._moment())
        self._load()

    def now(self) -> QuietNow:
        """What is quiet at this moment; the same object as before while nothing changed."""
        with self._lock:
            return self._book.now(self._moment())

    def begin(self, parameters: Mapping[str, str], name_of: Callable[[PeerKey], str | None]) -> Answer:
        """Do as a request says. `name_of` gives the name of a peer, and of an interface an empty one; None for what
        there is not. Waits for the disk. Raises AskedError.
        """
        asked = begin(parameters)
        name = name_of(asked.key)
        if name is None:
            what = "peer with this interface and public_key" if asked.public_key else "interface of this name"
            raise AskedError(f"there is no {what} here")
        with self._lock:
            moment = self._moment()
            self._follow(moment)
            if len(self._book) >= MOST and asked.key not in self._book:
                raise AskedError(f"{MOST:,} are quiet already")
            quiet = Quiet(*asked.key, plain(name), moment.wall, moment.wall + asked.seconds, asked.reason)
            self._book.begin(quiet, moment)
            writing = self._write(moment)
        self._say("quiet begins", quiet)
        return self._answer(quiet, writing)

    def end(self, parameters: Mapping[str, str]) -> Answer:
        """Do as a request to end one says. Waits for the disk. Raises AskedError."""
        asked = end(parameters)
        with self._lock:
            moment = self._moment()
            self._follow(moment)
            quiet = self._book.end(asked.key)
            if quiet is None:
                raise AskedError("it is not quiet")
            writing = self._write(moment)
        self._say("quiet ends", quiet, why="by hand")
        return self._answer(quiet._replace(until=moment.wall), writing)

    def follow(self, devices: Iterable[DeviceChange] = ()) -> None:
        """For the tick: forget those that are over, and write down how much is left of the others. Does not wait."""
        with self._lock:
            moment = self._moment()
            moved = [self._book.move(one.was, one.key) for one in devices if one.was and one.renamed]
            self._follow(moment)
            if any(moved) or moment.monotonic >= self._write_at:
                self._write_later(moment)

    def stop(self) -> None:
        """Write nothing more."""
        self._writer.shutdown(wait=False)

    def _moment(self) -> Moment:
        return Moment(self._clock.wall(), self._clock.monotonic())

    def _follow(self, moment: Moment) -> None:
        over = self._book.follow(moment)
        for quiet in over:
            self._say("quiet ends", quiet, why="its time is over")
        if over:
            self._write_later(moment)

    # --- the file -----------------------------------------------------------------------------------------------------

    def _write(self, moment: Moment) -> Future[str] | None:
        """Begin to write down what there is. With the lock. The future has the problem, or nothing."""
        if self._storage.problem:
            return None
        self._write_at = moment.monotonic + WRITE_EVERY if len(self._book) else inf
        data = encode(self._book.kept(moment))
        try:
            self._writing = self._writer.submit(self._put, data)
        except RuntimeError:  # it was stopped
            return None
        return self._writing

    def _write_later(self, moment: Moment) -> None:
        """Write if the disk is not busy with the last time, else at a later tick. With the lock."""
        if self._writing is not None and not self._writing.done():
            self._write_at = moment.monotonic
        else:
            self._write(moment)

    def _put(self, data: bytes) -> str:
        problem = self._file.write(data)
        if problem:
            with self._lock:  # also where nothing is quiet: the file has still what was ended by hand
                self._write_at = min(self._write_at, self._clock.monotonic() + WRITE_EVERY)
        return problem

    def _answer(self, quiet: Quiet, writing: Future[str] | None) -> Answer:
        problem = self._storage.problem
        if writing is not None:
            try:
                problem = writing.result(PATIENCE)
            except NotYetError:
                problem = f"{self._storage.path} takes longer than {PATIENCE:g} s to write"
        return Answer(
            netns=quiet.netns,
            interface=quiet.interface,
            public_key=quiet.public_key or None,
            name=quiet.name or None,
            since=quiet.since,
            until=quiet.until,
            reason=quiet.reason or None,
            problem=problem or None,
        )

    def _load(self) -> None:
        storage = self._storage
        if storage.problem:
            return
        try:
            data = storage.read(NAME, LONGEST_FILE)
            kept = [] if data is None else decode(data)
        except FileError as error:
            self._set_aside(f"{storage.path}: {NAME}: {error}")
            return
        except WrongFileError as error:
            self._set_aside(str(error))
            return
        except StorageError as error:  # of the disk, or who may read it: it can be a good file
            self._log.warn("quiet is forgotten, its file can't be read", problem=str(error))
            self._file.spare()
            return
        moment = self._moment()
        for quiet in self._book.restore(kept, moment):
            self._say("quiet ends", quiet, why="its time was over when the exporter started")
        for quiet in self._book.now(moment).all:
            self._say("quiet goes on", quiet)
        self._write(moment)

    def _set_aside(self, problem: str) -> None:
        try:
            aside = self._storage.set_aside(NAME)
        except StorageError as error:
            self._log.warn("quiet is forgotten, its file can't be used", problem=problem, left=str(error))
        else:
            self._log.warn("quiet is forgotten, its file can't be used", problem=problem, set_aside=aside)

    def _say(self, said: str, quiet: Quiet, **more: str) -> None:
        self._log.info(
            said,
            interface=quiet.interface,
            netns=quiet.netns,
            peer=quiet.name,
            public_key=quiet.public_key,
            until=rfc3339(quiet.until),
            reason=quiet.reason,
            **more,
        )
        if said in _EVENTS:
            self._tell([_event(quiet, _EVENTS[said], more.get("why") or quiet.reason, self._clock.wall())])


def _event(quiet: Quiet, after: str, why: str, wall: float) -> Event:
    return event(
        Kind.QUIET,
        wall,
        quiet.device,
        public_key=quiet.public_key,
        name=quiet.name,
        after=after,
        until=quiet.until,
        evidence=why,
    )


def rfc3339(wall: float) -> str:
    """A time in seconds since the epoch as the log writes times, to the second."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
