"""What a scrape and a status show of one look: all that is known by then, side by side. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.names.unmatched import told
from wg_exporter.status.rows import Overview, from_view

if TYPE_CHECKING:
    from wg_exporter.daemon.about import About
    from wg_exporter.daemon.causes import Causes
    from wg_exporter.daemon.fast import FastPeers
    from wg_exporter.daemon.host import HostHistory
    from wg_exporter.daemon.probing import Probes
    from wg_exporter.daemon.quiets import Quiets
    from wg_exporter.daemon.setup import Setup
    from wg_exporter.exposition.view import View
    from wg_exporter.model import Snapshot


class Views(NamedTuple):
    """Whoever has one holds the lock for the history."""

    history: HostHistory
    probes: Probes
    quiets: Quiets
    causes: Causes
    fast: FastPeers
    about: About

    def metrics(self, setup: Setup, snapshot: Snapshot) -> View:
        """What `/metrics` shows."""
        facts = self.about.facts(snapshot.capabilities, self.history.clock_steps)
        seen = self.history.view(setup.config, setup.names, snapshot, facts)
        return seen._replace(
            probes=self.probes.results(),
            scheduling_delay=self.probes.delay,
            quiet=self.quiets.now(),
            causes=self.causes.now(),
            fast=self.fast.now(),
        )

    def all(self, setup: Setup, snapshot: Snapshot) -> View:
        """The same, and which entries of the configuration match nothing, which is no metric."""
        unmatched = told(setup.matching.look(snapshot, setup.names.metas))
        return self.metrics(setup, snapshot)._replace(unmatched=tuple(unmatched))

    def overview(self, setup: Setup, snapshot: Snapshot, *, lines: bool) -> Overview:
        """How the host is; `lines`: with the round trips of the last ten minutes."""
        return from_view(
            snapshot,
            self.all(setup, snapshot),
            setup.config,
            setup.planner.aims(),
            windows=self.history.health.windows(),
            lines=self.history.lines(snapshot) if lines else {},
            teller=self.about.teller(setup.config),
        )
