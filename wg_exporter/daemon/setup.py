"""What a configuration decides, so that a reload builds a new one and swaps it. What survives a reload is elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.catalogue import NAMES
from wg_exporter.config import load
from wg_exporter.exposition.writer import Writer
from wg_exporter.names.table import Names
from wg_exporter.names.unmatched import Matching
from wg_exporter.plan.fast import FastPlanner
from wg_exporter.plan.planner import Planner
from wg_exporter.plan.routing import Routing

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.config import Config
    from wg_exporter.sources import Clock, OpenSources


class NoSourcesError(Exception):
    """The sources could not be started for lack of threads or files; the message is the kernel's."""


def from_file(path: Path) -> Config:
    """The configuration in a file. Raises ConfigError."""
    return load(path, NAMES)


class Setup:
    """Which sources are read, what peers are called, who is probed, what is written."""

    def __init__(self, config: Config, clock: Clock, sources: OpenSources) -> None:
        self.config = config
        self.names = Names(config)
        self.matching = Matching(config)
        self.planner = Planner(config)
        self.fast = FastPlanner(config)
        self.routing = Routing(config)
        # A writer keeps what it rendered of its page for the next scrape.
        self.writers = {"": Writer(lambda name: not config.metrics.excluded(name))}
        self.writers |= {"mindflavor": Writer(), "mdlayher": Writer()}
        self.reader = sources(config, clock)

    @classmethod
    def begun(cls, config: Config, clock: Clock, sources: OpenSources) -> Setup:
        """One whose sources are started. Raises NoSourcesError."""
        try:
            return cls(config, clock, sources)
        except (OSError, RuntimeError) as error:
            raise NoSourcesError(str(error)) from error
