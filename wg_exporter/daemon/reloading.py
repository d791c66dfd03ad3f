"""One reload: the configuration is read again and taken into use, or nothing changes, and it is told how that ended."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wg_exporter.config import ConfigError
from wg_exporter.daemon.setup import NoSourcesError
from wg_exporter.log import Log, place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wg_exporter.config import Config
    from wg_exporter.daemon.about import About
    from wg_exporter.daemon.journal import Journal


class Reloading:
    """Reads the configuration again, as often as it is asked to. Thread-safe."""

    def __init__(self, path: Path | None, read: Callable[[Path], Config], about: About, journal: Journal) -> None:
        """`read` raises ConfigError if the file can't be used."""
        self._path = path
        self._read = read
        self._about = about
        self._journal = journal
        self._log = Log(__name__)
        self._lock = threading.Lock()  # so that of two reloads the later one wins

    def reload(self, use: Callable[[Config], object]) -> str:
        """Have what is read now be taken into use. Returns its problems, one a line; then nothing has changed. Empty =
        in use. Raises nothing: `use` raises NoSourcesError where it can't.
        """
        if self._path is None:
            problem = "no configuration file was given, so there is none to read again"
            self._log.warn("configuration not reloaded", problem=problem)
            self._journal.reloaded([problem])
            return problem
        with self._lock:
            try:
                use(self._read(self._path))
            except ConfigError as error:
                problems = [str(found) for found in error.problems]
            except NoSourcesError as error:
                problems = [str(error)]
            except Exception as error:  # noqa: BLE001 - a bug must be logged, and the old configuration stay in use
                problems = [f"unexpected {type(error).__name__} in {place(error)}"]
            else:
                self._log.info("configuration reloaded", file=self._path)
                self._journal.reloaded()
                return ""
            self._about.refused()
            for problem in problems:
                self._log.error("configuration not reloaded", problem=problem)
            self._journal.reloaded(problems)
            return "\n".join(problems)
