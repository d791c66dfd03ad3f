"""The journal: what happened on this host, in memory and in a file, for all who ask what happened last night.

Events come from the tick, from reloads, from requests and from threads that keep processes alive, and are read by
threads of the server. Adding one waits for nobody: the file is written by a thread that is there only while there is
something to write, and all that comes within `PACE` is one write and one fsync. So a crash of the host loses a second,
a crash of the exporter the line that was being written, and a disk that hangs neither a tick nor a scrape.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wg_exporter.daemon.kept import KeptFile
from wg_exporter.events import MOST, NOT_STOPPED, Event, Kind, Level, Life, Process, event
from wg_exporter.events.book import Book
from wg_exporter.events.file import LONGEST_FILE, MOST_LINES, NAME, decode, encode
from wg_exporter.linux.storage import Storage, StorageError, WrongFileError
from wg_exporter.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wg_exporter.sources import Clock

PACE = 1.0  # seconds from one write to the next, at least
PATIENCE = 2.0  # seconds for the last write


class Journal:
    """All events. Thread-safe; never fails: without a usable file it begins with nothing."""

    def __init__(self, clock: Clock, storage: Storage | None = None) -> None:
        """Goes on with what the file has. Writes nothing before `add`."""
        self._clock = clock
        self._storage = storage or Storage()
        self._log = Log(__name__)
        self._file = KeptFile(self._storage, NAME, "events are", self._log)
        self._lock = threading.Lock()
        self._book = Book()
        self._listeners: list[Callable[[], object]] = []
        self._unwritten: list[Event] = []
        self._written = 0  # lines of the file
        self._anew = True  # the file is to be written whole, as nobody knows how it ends
        self._writer: threading.Thread | None = None
        self._stopping = threading.Event()
        self._started = False
        self._load()

    def read(self, after: int = 0) -> tuple[Sequence[Event], int]:
        """The events with a higher number, the oldest first; and the number up to which was looked."""
        with self._lock:
            return self._book.after(after), self._book.last

    def problem(self) -> str:
        """Why events do not survive the exporter; empty if they do, and where nobody asked for it."""
        return self._storage.problem or self._file.failed if self._storage.path else ""

    def listen(self, call: Callable[[], object]) -> None:
        """Have this called whenever there are new events, in the thread that adds them. It must not wait."""
        self._listeners.append(call)

    def add(self, events: Iterable[Event]) -> None:
        """Take in what happened. Does not wait."""
        with self._lock:
            added = self._book.add(events)
            if not added:
                return
            # Whoever has more to write than is kept writes all that is kept.
            self._unwritten = (self._unwritten + added)[-MOST:]
            self._write_later()
        for call in self._listeners:
            call()

    # --- what the exporter says of itself -----------------------------------------------------------------------------

    def start(self, version: str) -> None:
        """The exporter begins to look at the host."""
        last = next((one for one in reversed(self._book.all) if one.process is Process.EXPORTER), None)
        killed = last is not None and last.after != Life.STOPPED
        self._started = True
        self.add(
            [
                event(
                    Kind.PROCESS,
                    self._clock.wall(),
                    process=Process.EXPORTER,
                    level=Level.WARN if killed else Level.INFO,
                    after=Life.STARTED,
                    reason=NOT_STOPPED if killed else "",
                    evidence=f"version {version}",
                )
            ]
        )

    def process(self, process: Process, life: Life, how: str = "") -> None:
        """A process of the exporter failed, or works again; `how`, in a line."""
        level = Level.ERROR if life is Life.FAILED else Level.INFO
        self.add([event(Kind.PROCESS, self._clock.wall(), process=process, level=level, after=life, evidence=how)])

    def reloaded(self, problems: Sequence[str] = ()) -> None:
        """The configuration was read again, or could not be, for these reasons."""
        rest = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
        self.add(
            [
                event(
                    Kind.RELOAD,
                    self._clock.wall(),
                    level=Level.ERROR if problems else Level.INFO,
                    after="failure" if problems else "success",
                    evidence=f"{problems[0]}{rest}" if problems else "",
                )
            ]
        )

    def stop(self) -> None:
        """The exporter ends. Waits a moment for the last line to be written."""
        if self._started:
            self._started = False
            now = self._clock.wall()
            self.add([event(Kind.PROCESS, now, process=Process.EXPORTER, after=Life.STOPPED)])
        self._stopping.set()
        writer = self._writer
        if writer is not None:
            writer.join(PATIENCE)

    # --- the file -----------------------------------------------------------------------------------------------------

    def _write_later(self) -> None:
        """Have a thread write. With the lock."""
        if self._storage.problem or self._writer is not None:
            return
        writer = threading.Thread(target=self._write, name="journal", daemon=True)
        try:
            writer.start()
        except RuntimeError:  # no thread can be had now; the next event tries again
            return
        self._writer = writer

    def _write(self) -> None:
        """Write until there is nothing left to write."""
        while True:
            with self._lock:
                lines, self._unwritten = self._unwritten, []
                if not lines:
                    self._writer = None
                    return
                anew = self._anew or self._written + len(lines) > MOST_LINES
                if anew:
                    lines = list(self._book.all)
            problem = self._file.write(encode(lines), append=not anew)
            with self._lock:
                self._anew = bool(problem)
                self._written = len(lines) if anew else self._written + len(lines)
                if problem:  # the next event tries again, with all that is kept
                    self._writer = None
                    return
            self._stopping.wait(PACE)

    def _load(self) -> None:
        storage = self._storage
        if storage.problem:
            return
        try:
            data = storage.read(NAME, LONGEST_FILE)
        except WrongFileError as error:
            self._set_aside(str(error))
            return
        except StorageError as error:  # of the disk, or who may read it: it can be a good file
            self._log.warn("events of before are not known, their file can't be read", problem=str(error))
            self._file.spare()
            return
        if data is None:
            return
        found = decode(data)
        if found.torn:
            self._log.info("the last event was written in part, and is lost", file=f"{storage.path}: {NAME}")
        if found.bad:
            self._set_aside(f"{storage.path}: {NAME}: {found.bad:,} lines are no events")
        self._book.restore(found.events)
        # A file that ends as it should is added to.
        self._written = len(found.events)
        self._anew = found.torn or bool(found.bad) or not data.endswith(b"\n")

    def _set_aside(self, problem: str) -> None:
        try:
            aside = self._storage.set_aside(NAME)
        except StorageError as error:
            self._log.warn("events of before are lost", problem=problem, left=str(error))
        else:
            self._log.warn("events of before are lost in part", problem=problem, set_aside=aside)
