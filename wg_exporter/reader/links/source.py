"""The links of a network namespace with their addresses, the UDP ports that are bound there, and routes to targets.

Counters move with every packet and are read at every scrape. Addresses and ports of WireGuard hardly ever change, so
they are read again after ADDRESS_SECONDS, or when an interface came or went. They only aim the probes: where they can't
be read, the last ones known are used. Routes have times of their own (routes.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.netlink import open_socket
from wg_exporter.reader.links.addresses import AddressReader
from wg_exporter.reader.links.links import LinkReader
from wg_exporter.reader.links.routes import NO_ANSWERS, RouteReader
from wg_exporter.reader.links.sockets import udp_ports

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from wg_exporter.model import Link
    from wg_exporter.reader.links.routes import Answers, Question

# Less than the tick of 5 s, so that each tick has addresses of its own, and scrapes in between cost nothing.
ADDRESS_SECONDS = 4.0


class InterfaceSource:
    """Reads links with their addresses. `monotonic` gives seconds. Not thread-safe: one thread, one namespace.

    After a read, `ports` are the UDP ports bound here, None if nobody knows, `routes` the answers to what was asked,
    and `notes` one-line remarks.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        open_socket: Callable[[int], socket.socket] = open_socket,
        udp_ports: Callable[[], frozenset[int]] = udp_ports,
    ) -> None:
        self._monotonic = monotonic
        self._udp_ports = udp_ports
        self._links = LinkReader(open_socket=open_socket)
        self._addresses = AddressReader(open_socket)
        self._routes = RouteReader(monotonic, open_socket)
        self._known: Mapping[int, tuple[str, ...]] = {}
        self._asked_for: list[int] = []
        self._asked_at: float | None = None
        self._address_notes: tuple[str, ...] = ()
        self.ports: frozenset[int] | None = None
        self.routes: Answers = NO_ANSWERS
        self.notes: tuple[str, ...] = ()

    def ask(self, questions: tuple[Question, ...]) -> None:
        """Which targets to look for a route to, from the next read on. Any thread may ask."""
        self._routes.ask(questions)

    def close(self) -> None:
        """Close the sockets and forget: what comes next is read in the namespace that the thread is in then."""
        self._links.close()
        self._addresses.close()
        self._routes.close()
        self._known, self._asked_at, self.ports = {}, None, None

    def read(self) -> list[Link]:
        """All links that can be WireGuard devices, by index. Link.netns is left empty.

        Raises SourceError if links can't be read; where addresses can't, a note says so.
        """
        links = self._links.read()
        self._refresh([link.ifindex for link in links])
        self._look_at_routes()
        known = self._known
        return [link._replace(addresses=known[link.ifindex]) if link.ifindex in known else link for link in links]

    def _refresh(self, indices: list[int]) -> None:
        now = self._monotonic()
        due = self._asked_at is None or now - self._asked_at >= ADDRESS_SECONDS
        if not due and indices == self._asked_for:
            return
        self._asked_for, self._asked_at = indices, now
        notes = []
        try:
            read = self._addresses.read(set(indices)) if indices else {}
        except SourceError as error:
            notes.append(f"addresses of interfaces: {error}")
            read = {index: known for index, known in self._known.items() if index in indices}
        # Unchanged addresses stay the same object, so that later steps can compare with `is`.
        known = self._known
        self._known = {index: known[index] if known.get(index) == new else new for index, new in read.items()}
        try:
            # Also where there is no interface: one that was moved away has left its socket here.
            self.ports = self._udp_ports()
        except SourceError as error:
            notes.append(f"UDP ports in use: {error}")
        self._address_notes = tuple(notes)

    def _look_at_routes(self) -> None:
        """Where routes can't be looked at, nothing is known of them: a fault that was known may be mended."""
        try:
            self.routes = self._routes.read()
            self.notes = self._address_notes
        except SourceError as error:
            self.routes = NO_ANSWERS
            self.notes = (*self._address_notes, f"routes to targets: {error}")
