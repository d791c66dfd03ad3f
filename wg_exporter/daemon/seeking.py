"""The search for causes as the tick drives it: all that is known of peers and host by then, handed to `causes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from wg_exporter.daemon.causes import SEARCH_SECONDS
from wg_exporter.daemon.facts import Look, Places

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from wg_exporter.daemon.causes import Causes, Found
    from wg_exporter.daemon.host import HostHistory
    from wg_exporter.daemon.probing import Probes
    from wg_exporter.daemon.setup import Setup
    from wg_exporter.daemon.watching import Watched
    from wg_exporter.model import PeerKey, Snapshot
    from wg_exporter.plan.planner import Plan

T = TypeVar("T")


class Seeking(NamedTuple):
    """`lock` is that for the history, which scrapes ask meanwhile too. `places` are its own."""

    causes: Causes
    history: HostHistory
    lock: threading.Lock
    probes: Probes
    watched: Watched
    places: Places

    def go_on(self, setup: Setup, snapshot: Snapshot, plan: Plan) -> list[Found]:
        """Go on seeking the causes of peers that are down or degraded. Returns what is new. Without the lock."""
        self.places.take(snapshot)
        look = Look(
            snapshot,
            self.history.health,
            plan,
            setup.config,
            self.probes.results(),
            self.watched.sightings(),
            self.watched.callers(),
            setup.planner.underlays(),
            self.places,
            lambda device: self._locked(lambda: self.history.endpoint_names(device, snapshot)),
            lambda: self._locked(lambda: self.history.drifts(snapshot)),
        )
        return self.causes.follow(look, setup.reader, lambda keys: self._watch(keys, setup, snapshot))

    def _locked(self, ask: Callable[[], T]) -> T:
        with self.lock:
            return ask()

    def _watch(self, keys: list[PeerKey], setup: Setup, snapshot: Snapshot) -> None:
        """Have peers watched whose cause is sought."""
        if setup.config.probe.watch:
            self.watched.open(keys, snapshot, setup, SEARCH_SECONDS)
