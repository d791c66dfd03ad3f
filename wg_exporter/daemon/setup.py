"""What a configuration decides, so that a reload builds a new one and swaps it. What survives a reload is elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from wg_exporter.exposition.writer import Writer
from wg_exporter.names.table import Names
from wg_exporter.names.unmatched import Matching
from wg_exporter.plan.planner import Planner
from wg_exporter.plan.routing import Routing
from wg_exporter.reader.reader import Clock, Reader, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wg_exporter.config import Config

Workers: TypeAlias = "Callable[[Config, Clock], Iterable[Worker]]"
"""Makes the sources that a configuration asks for."""


class Setup:
    """Which sources are read, what peers are called, who is probed, what is written."""

    def __init__(self, config: Config, clock: Clock, workers: Workers) -> None:
        self.config = config
        self.names = Names(config)
        self.matching = Matching(config)
        self.planner = Planner(config)
        self.routing = Routing(config)
        # A writer keeps what it rendered of its page for the next scrape.
        self.writers = {"": Writer(lambda name: not config.metrics.excluded(name))}
        self.writers |= {"mindflavor": Writer(), "mdlayher": Writer()}
        made: list[Worker] = []
        try:
            made.extend(workers(config, clock))
        except BaseException:
            for worker in made:
                worker.stop()
            raise
        self.reader = Reader(made, clock)
