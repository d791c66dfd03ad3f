"""Where `show` has its overviews from: the exporter that runs here or, where none can be asked, its own looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.cli import ask
from wg_exporter.cli.common import planned
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.plan.planner import Planner
from wg_exporter.reader.host import host_sources
from wg_exporter.status.rows import from_view

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.config import Config
    from wg_exporter.status.rows import Overview


class Looks:
    """One overview after the other. An exporter may come, go or hang in between, so it is asked each time."""

    def __init__(self, config: Config, config_file: Path | None, socket_path: str, *, again: bool) -> None:
        """`again`: there will be several looks, so that what goes unanswered can be seen by ourselves, too."""
        self._config = config
        self._config_file = config_file
        self._socket_path = socket_path
        self._again = again
        self._own: tuple[Exporter, Planner] | None = None

    def look(self) -> Overview:
        """How the host is now."""
        try:
            return ask.status(self._socket_path, self._config_file)
        except ask.NotAskedError as error:
            return self._look()._replace(unasked=str(error))

    def close(self) -> None:
        """End the threads of our own looks."""
        if self._own:
            self._own[0].stop()

    def _look(self) -> Overview:
        if self._own is None:
            self._own = Exporter(self._config, self._config_file, host_sources), Planner(self._config)
        exporter, planner = self._own
        snapshot, view, in_use = exporter.observe() if self._again else exporter.look()
        planned(planner, snapshot, view)
        return from_view(snapshot, view, in_use, planner.aims())
