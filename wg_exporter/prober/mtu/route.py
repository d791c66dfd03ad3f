"""The route to the endpoint (P0): what this host itself would do to a packet of the tunnel.

If the egress, or a PMTU exception that the kernel keeps for the endpoint, carries less than a full packet of the tunnel
needs, this host certainly fragments. The answer comes from this host, so it can't be lost. But a PMTU exception comes
from a packet-too-big, which anybody may have sent, even out of a tunnel: the kernel believes all that quote an echo
reply. So it is never taken for the path's MTU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.prober.mtu.probes import ProbeKind, Route, Want

if TYPE_CHECKING:
    from wg_exporter.prober.mtu.probes import Answer

ROUTE_INTERVAL = 60.0  # seconds


class RouteLookup:
    """P0. Read `route`, `changed`: the route or its MTU differs from the last answer, and `taught`: so does its PMTU
    exception; the reader resets both.

    `open`: an extra question waits to be asked. `answered`: there was an answer, which may be that there is no route.
    """

    def __init__(self, first: float) -> None:
        """Ask from `first` on."""
        self.route: Route | None = None
        self.changed = False
        self.taught = False
        self.open = False
        self.answered = False
        self._due = first

    def check(self, now: float) -> None:
        """Ask again now, as large packets may have taught the kernel a path MTU."""
        self._due = min(self._due, now)
        self.open = True

    def poll(self, now: float) -> list[Want]:
        """The question, if it is due."""
        if now < self._due:
            return []
        self._due = now + ROUTE_INTERVAL
        self.open = False  # this host answers at once
        return [Want(ProbeKind.ROUTE, 0)]

    def next_time(self) -> float:
        """When to ask again."""
        return self._due

    def handle(self, want: Want, answer: Answer, now: float) -> None:  # noqa: ARG002 - all machines have this shape
        """Take the route."""
        self.answered = True
        if isinstance(answer, Route) and answer != self.route:
            before, self.route = self.route, answer
            self.changed = before is None or answer.via != before.via or answer.egress != before.egress
            self.taught = answer.cached is not None and (before is None or answer.cached != before.cached)
