"""Structured logs on the standard library: one line per event, as logfmt or as JSON.

An event has a fixed text and typed fields, `log.warn("names file has problems", file=path)`, so that logs can be
searched by event. Fields are numbers and text. Anything else is shown as its type alone: bytes as read from a socket
can hold a private key, and no level, debug included, may print them. A line never breaks, whatever is in a value.
(structlog would do as well, but importing it costs the daemon 18 MB.)
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import select
import socket
import stat
import sys
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable, Mapping

ROOT = "wg_exporter"
FORMATS = ("logfmt", "json")
LEVELS = ("debug", "info", "warn", "error")  # as Prometheus names them; `warning` is understood too

MAX_TEXT = 2_000  # characters of one value: a log line is for reading, and what it quotes may come from outside
MAX_TRACEBACK = 16_000
MAX_KEYS = 10_000
MOMENT_MS = 50  # for the rest of a line of which some was taken

_PLAIN = re.compile(r"[^\s=\"\\]+")
_NOT_A_KEY = re.compile(r"[^A-Za-z0-9_.-]")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LEVEL_NAMES = {"WARNING": "warn", "CRITICAL": "error"}
_RESERVED = ("ts", "level", "msg", "exc")

Scalar = str | int | float | bool | None


class Log:
    """The logger of one module: `Log(__name__)`. Fields are keywords; see the module for what is printed of them."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, **fields: object) -> None:
        self._log(logging.DEBUG, event, None, fields)

    def info(self, event: str, /, **fields: object) -> None:
        self._log(logging.INFO, event, None, fields)

    def warn(self, event: str, /, **fields: object) -> None:
        self._log(logging.WARNING, event, None, fields)

    def error(self, event: str, /, *, exc: BaseException | None = None, **fields: object) -> None:
        """`exc` adds its traceback: for faults of the program, not of its surroundings."""
        self._log(logging.ERROR, event, exc, fields)

    def _log(self, level: int, event: str, exc: BaseException | None, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            # The event is an argument: a percent sign in it means nothing.
            self._logger.log(level, "%s", event, exc_info=exc, extra={"fields": fields})


class OnChange:
    """Says whether a value has changed, so that what stays wrong is logged once and not at every read.

    A key never seen counts as having had the empty value ("", (), None): `if seen.changed(path, problems)` is quiet
    about what is fine from the start, and speaks again when a problem goes away. Safe in threads.
    """

    def __init__(self) -> None:
        self._last: dict[Hashable, object] = {}
        self._lock = threading.Lock()

    def changed(self, key: Hashable, value: object) -> bool:
        """Whether `value` differs from the last one of `key`. Keys beyond MAX_KEYS push out the oldest."""
        with self._lock:
            before = self._last.pop(key, None)
            if value:
                self._last[key] = value
            if len(self._last) > MAX_KEYS:
                del self._last[next(iter(self._last))]
            return (before or None) != (value or None)


def place(error: BaseException) -> str:
    """File and line where an error was raised. Its message is left out, for it could quote what was read."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"


def catch_threads() -> None:
    """A thread that fails is one line in the log from now on, and no traceback: that could quote what was read."""

    def tell(failed: threading.ExceptHookArgs) -> None:
        error = failed.exc_value
        where = place(error) if error is not None else "?"
        name = failed.thread.name if failed.thread else "?"
        Log(__name__).error("a thread failed", thread=name, problem=f"unexpected {failed.exc_type.__name__} in {where}")

    threading.excepthook = tell


def catch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """What fails inside an event loop is one line in the log from now on: asyncio's own has a traceback, with what was
    read in it.
    """

    def tell(_loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        error = context.get("exception")
        problem = f"unexpected {type(error).__name__} in {place(error)}" if isinstance(error, BaseException) else "?"
        Log(__name__).error("the event loop caught a failure", problem=problem)

    loop.set_exception_handler(tell)


def setup(level: str, format: str, stream: TextIO | None = None) -> None:  # noqa: A002 - the name of the flag
    """Send all logs of the process to `stream` (standard error when None). Replaces what an earlier call set up.

    Other libraries are heard from `warn` upwards only: what they print at debug may be the raw bytes they read.
    Raises ValueError for an unknown level or format, with those that exist.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown log format {format!r}; use one of {', '.join(FORMATS)}")
    number = _level_number(level)
    handler: _Handler = _on_stderr() if stream is None else _StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if format == "json" else LogfmtFormatter())
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger(ROOT).setLevel(number)


def _on_stderr() -> _Handler:
    try:
        return _FileHandler(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # it is no file, as in some tests
        return _StreamHandler(sys.stderr)


class LogfmtFormatter(logging.Formatter):
    """`ts=2026-05-01T12:00:00.000Z level=info msg="listening" address=[::]:9586`."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_logfmt(value)}" for key, value in _entries(self, record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object per line, in ASCII, so that it survives any locale."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_entries(self, record), separators=(",", ":"))


class _Handler(logging.Handler):
    """What all handlers of ours have in common."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """A full disk or a closed pipe must not cost more than the line."""


class _StreamHandler(logging.StreamHandler[TextIO], _Handler):
    """Writes to a stream, for as long as that takes."""


class _FileHandler(_Handler):
    """Writes to an open file, and never waits: what is not taken at once, by a pipe that nobody reads or a terminal
    that was stopped, is dropped and counted. The next line that goes through is preceded by one with the number.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._write = _writer(fd)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record."""
        try:
            line = self.format(record)
            if self._dropped:
                fields = {"number": self._dropped}
                note = logging.LogRecord(ROOT, logging.WARNING, "", 0, "log lines dropped", None, None)
                note.fields = fields
                line = f"{self.format(note)}\n{line}"
            if self._write(f"{line}\n".encode("utf-8", "backslashreplace")):
                self._dropped = 0
            else:
                self._dropped += 1
        except Exception:  # noqa: BLE001 - as the standard library's handlers
            self.handleError(record)


def _writer(fd: int) -> Callable[[bytes], bool]:
    """What writes to an open file without waiting; it returns whether all was taken.

    Whether a write waits belongs to the open file, which the shell may share with us. So it is opened anew, where that
    is possible: pipes and terminals are, sockets can be told with each send.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=os.dup(fd))
        return lambda data: _all(data, lambda rest: sock.send(rest, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), fd)
    own = fd
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with contextlib.suppress(OSError):
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    return lambda data: _all(data, partial(os.write, own), own)


def _all(data: bytes, write: Callable[[bytes], int], fd: int) -> bool:
    """Write all of it, or nothing if nothing is taken now. A line that was begun is given a moment to be finished."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    sent = 0
    while sent < len(data):
        if not poll.poll(MOMENT_MS if sent else 0):
            return False
        try:
            # A pipe that says it is ready takes this much at once (pipe(7), PIPE_BUF).
            sent += write(data[sent : sent + select.PIPE_BUF])
        except BlockingIOError:
            if not sent:
                return False
        except OSError:
            return False
    return True


def _entries(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Scalar]:
    entries: dict[str, Scalar] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": _LEVEL_NAMES.get(record.levelname, record.levelname.lower()),
        "msg": _shorten(record.getMessage(), MAX_TEXT),
    }
    if record.name.partition(".")[0] != ROOT:
        entries["logger"] = record.name
    for name, value in getattr(record, "fields", {}).items():
        key = _NOT_A_KEY.sub("_", name) or "_"
        entries[key + "_" if key in _RESERVED else key] = _scalar(value)
    if record.exc_info:
        entries["exc"] = _shorten(formatter.formatException(record.exc_info), MAX_TRACEBACK)
    return entries


def _scalar(value: object) -> Scalar:
    if isinstance(value, str):
        return _shorten(str(value), MAX_TEXT)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no NaN
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, PurePath):
        return _shorten(str(value), MAX_TEXT)
    if isinstance(value, BaseException):
        return _shorten(f"{type(value).__name__}: {value}", MAX_TEXT)
    if isinstance(value, (tuple, list, set, frozenset)):
        return _shorten(",".join(str(_scalar(item)) for item in value), MAX_TEXT)
    return f"<{type(value).__name__}>"


def _logfmt(value: Scalar) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = str(value)
    if _PLAIN.fullmatch(text) and text.isprintable():
        return text
    return '"' + "".join(c if c.isprintable() and c not in '\\"' else _escape(c) for c in text) + '"'


def _escape(character: str) -> str:
    """As in JSON. Everything unprintable goes this way: terminal escapes, bidirectional marks, broken surrogates."""
    if character in _ESCAPES:
        return _ESCAPES[character]
    return "".join(f"\\u{unit:04x}" for unit in _utf16(character))


def _utf16(character: str) -> tuple[int, ...]:
    raw = character.encode("utf-16-be", "surrogatepass")
    return tuple(int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2))


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def _level_number(level: str) -> int:
    name = {"warning": "warn"}.get(level.lower(), level.lower())
    if name not in LEVELS:
        raise ValueError(f"unknown log level {level!r}; use one of {', '.join(LEVELS)}")
    return {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}[name]
