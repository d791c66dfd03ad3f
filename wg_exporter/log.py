"""Structured logs on the standard library: one line per event, as logfmt or as JSON.

An event has a fixed text and typed fields, `log.warn("names file has problems", file=path)`, so that logs can be
searched by event. Fields are numbers and text. Anything else is shown as its type alone: bytes as read from a socket
can hold a private key, and no level, debug included, may print them. A line never breaks, whatever is in a value.
(structlog would do as well, but importing it costs the daemon 18 MB.)
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

ROOT = "wg_exporter"
FORMATS = ("logfmt", "json")
LEVELS = ("debug", "info", "warn", "error")  # as Prometheus names them; `warning` is understood too

MAX_TEXT = 2_000  # characters of one value: a log line is for reading, and what it quotes may come from outside
MAX_TRACEBACK = 16_000
MAX_KEYS = 10_000

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


def setup(level: str, format: str, stream: TextIO | None = None) -> None:  # noqa: A002 - the name of the flag
    """Send all logs of the process to `stream` (standard error when None). Replaces what an earlier call set up.

    Other libraries are heard from `warn` upwards only: what they print at debug may be the raw bytes they read.
    Raises ValueError for an unknown level or format, with those that exist.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown log format {format!r}; use one of {', '.join(FORMATS)}")
    number = _level_number(level)
    handler = _Handler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if format == "json" else LogfmtFormatter())
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger(ROOT).setLevel(number)


class LogfmtFormatter(logging.Formatter):
    """`ts=2026-05-01T12:00:00.000Z level=info msg="listening" address=[::]:9586`."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_logfmt(value)}" for key, value in _entries(self, record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object per line, in ASCII, so that it survives any locale."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_entries(self, record), separators=(",", ":"))


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """A full disk or a closed pipe must not cost more than the line."""


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
