"""The path outside the tunnel: does it carry a full packet in one piece? P5, which becomes P6 where it does not.

Every `outer_interval` three probes go to the endpoint: one of the full size, a small one, and one as large as the route
carries. If they don't all pass, the search goes on for the exact size. The first look waits for the route (P0), which
says how large a probe may be. A thorough search, after a suspicion or on demand, begins with sizes of all kinds.

Many endpoints drop large echoes while everything else of that size passes. So a large probe that is lost says nothing;
a packet-too-big with a size does, once a second probe has brought it too, in this look or in the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.prober.mtu.probes import NEVER, SMALL, Layer
from wg_exporter.prober.mtu.search import Search

if TYPE_CHECKING:
    from wg_exporter.config.probe import ProbeSettings
    from wg_exporter.prober.mtu.probes import Patience, Route
    from wg_exporter.prober.mtu.search import Found, Pace
    from wg_exporter.prober.mtu.verdict import Tunnel

LOOKS = 3  # in a row that come soon; a claim that is another one each time is not worth more
AGAIN = 5.0  # seconds until the next look, where a packet-too-big came once: some routers send few of them
LARGEST = 9216  # bytes of a probe: the loopback's route carries 65536, but no path to a peer is that wide


class OuterPath:
    """The outer probes of one tunnel. `search` is the latest search, `found` what the latest that is done found."""

    def __init__(self, tunnel: Tunnel, settings: ProbeSettings, patience: Patience, pace: Pace) -> None:
        self.search: Search | None = None
        self.found: Found | None = None
        self._tunnel = tunnel
        self._settings = settings
        self._patience = patience
        self._pace = pace
        self._due = NEVER
        self._before: int | None = None  # what a packet-too-big claimed in the look before
        self._counted: Search | None = None  # the last one that is in:
        self._unbelieved = 0  # looks in a row whose claim nothing repeated
        self._asked = False  # a thorough search was asked for, and waits for the route

    @property
    def idle(self) -> bool:
        """Whether no search is under way."""
        return self.search is None or self.search.done

    @property
    def doubtful(self) -> bool:
        """Whether the next look, which comes soon, has to repeat what a packet-too-big claimed."""
        return self._unbelieved < LOOKS and not self._believed()

    def check(self, now: float) -> None:
        """Look at the path now, as the route changed or what was found is out of date."""
        self._due = now

    def ask(self) -> None:
        """Search thoroughly as soon as the route is known."""
        self._asked = True

    def due(self, now: float) -> bool:
        """Whether the next look is due."""
        return self.idle and now >= self._due

    def next_time(self) -> float:
        """When the next look is due, `NEVER` during a search."""
        return self._due if self.idle else NEVER

    def start(self, route: Route | None, now: float, *, thorough: bool) -> None:
        """Begin a look in place of one that is under way; none without an endpoint."""
        if not self._tunnel.endpoint:
            self._due = NEVER
            return
        self._due = now + self._settings.mtu.outer_interval
        self._before = self.found.claim if self.found else None
        needed = self._tunnel.needed
        top = max(needed, min(route.egress if route else 0, LARGEST))
        first = () if thorough else (SMALL, needed, top)
        self.search = Search(Layer.OUTER, top, self._patience, self._pace, first)

    def learn(self, route: Route | None, now: float, *, known: bool) -> None:
        """Take what the search has found, and begin the one that was asked for once the route is `known`."""
        if self._asked and known:
            self._asked = False
            self.start(route, now, thorough=True)
        if self.search is not None and self.search.done:
            self.found = self.search.found()
            if self._counted is not self.search:
                self._counted = self.search
                self._unbelieved = 0 if self._believed() else self._unbelieved + 1
            if self.doubtful:
                self._due = min(self._due, now + AGAIN)

    def carries_full(self) -> bool | None:
        """Whether the path carries a full packet of the tunnel in one piece. None where outer probes can't tell."""
        found = self.found
        if found is None or found.path is None:
            return None
        if found.path >= self._tunnel.needed:
            return True
        return False if found.claim is not None and found.reporter and self._believed() else None

    def _believed(self) -> bool:
        """Whether what a packet-too-big claims was claimed twice, if anything is."""
        found = self.found
        return found is None or found.claim is None or found.repeats or found.claim == self._before
