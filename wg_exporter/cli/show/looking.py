"""Where `show` has its overviews from: the exporter that runs here or, where none can be asked, its own looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.cli import ask
from wg_exporter.cli.common import planned
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.history.devices import changes
from wg_exporter.plan.fast import FastPlanner
from wg_exporter.plan.planner import Planner
from wg_exporter.probed import FastFound
from wg_exporter.reader.host import host_sources
from wg_exporter.status.rows import from_view

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wg_exporter.config import Config
    from wg_exporter.model import DeviceKey
    from wg_exporter.plan.fast import FastPlan
    from wg_exporter.status.rows import Overview


class Looks:
    """One overview after the other. An exporter may come, go or hang in between, so it is asked each time."""

    def __init__(self, config: Config, config_file: Path | None, socket_path: str, *, again: bool) -> None:
        """`again`: there will be several looks, so that what goes unanswered can be seen by ourselves, too."""
        self._config = config
        self._config_file = config_file
        self._socket_path = socket_path
        self._again = again
        self._own: tuple[Exporter, Planner, FastPlanner] | None = None

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
            exporter = Exporter(self._config, self._config_file, host_sources)
            self._own = exporter, Planner(self._config), FastPlanner(self._config)
        exporter, planner, fast = self._own
        snapshot, view, in_use = exporter.observe() if self._again else exporter.look()
        planned(planner, snapshot, view)
        view = view._replace(fast=_unasked(fast.plan(changes({}, snapshot), snapshot)))
        return from_view(snapshot, view, in_use, planner.aims())


def _unasked(plan: FastPlan) -> Mapping[DeviceKey, Mapping[str, FastFound]]:
    """The peers that an exporter would send no fast echoes to. Of the others nobody knows how they are."""
    found: dict[DeviceKey, dict[str, FastFound]] = {}
    for (netns, interface, public_key), row in plan.unasked.items():
        fast = FastFound(row.target, False if row.down else None, row.why)
        found.setdefault((netns, interface), {})[public_key] = fast
    return found
