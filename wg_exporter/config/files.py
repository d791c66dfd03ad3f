"""A configuration file: what it is called in messages, its text, and the error with all that is wrong with it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from wg_exporter.config.text import CONTROL, MAX_BYTES
from wg_exporter.config.tree import Problem

if TYPE_CHECKING:
    import pathlib


class ConfigError(Exception):
    """A configuration that can't be used: everything that is wrong with it, one line each."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def place(path: pathlib.Path) -> str:
    """The name of a file, for messages."""
    return CONTROL.sub("?", str(path))


def read(path: pathlib.Path, without: str = ", or run without a configuration") -> str:
    """The text of a configuration file of at most 1 MiB. Raises `ConfigError` if it can't be read; `without` says what
    running without the file would mean.
    """
    where = place(path)
    try:
        # Not blocking: a pipe without a writer would hold up a reload for ever.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("not a regular file")  # noqa: TRY301  as clear a place as any
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode() if len(raw) <= MAX_BYTES else ""
    except UnicodeDecodeError as error:
        problem = Problem(where, f"is not UTF-8 text (line {raw.count(10, 0, error.start) + 1})", "save it as UTF-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        problem = Problem(where, f"can't be read: {why}", f"correct the path{without}")
    else:
        if len(raw) <= MAX_BYTES:
            return text
        problem = Problem(where, f"is larger than {MAX_BYTES >> 20} MiB", "check that this is the configuration file")
    # Out here, so that no exception carries the decoder's, and with it the file, as its context.
    raise ConfigError((problem,))
