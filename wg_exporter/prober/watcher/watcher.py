"""Opens a packet socket in a namespace when somebody there is to be watched, and closes it after the last.

All watched peers of a namespace, 10,000 perhaps, share one socket. Nothing is read between two looks (`LOOK`), and only
so much at each (`MOST_READ`), so that no flood keeps probes from being sent: the kernel drops the rest and counts it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.prober.watcher.book import Book
from wg_exporter.prober.watcher.leaving import Leaving
from wg_exporter.prober.watcher.sockets import WatchSocket, why
from wg_exporter.prober.wire.kinds import TUNNELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wg_exporter.prober.wire.routes import Routes
    from wg_exporter.prober.wire.sockets import Opener
    from wg_exporter.sighted import Callers, Sighting, WatchPeer

LOOK = 0.1  # seconds between two looks at a socket: its usual buffer holds 470 messages
LOOK_AGAIN = 0.02  # and after a look that had to leave something
MOST_READ = 256  # packets at each: 4 ms
LONGEST = 600.0  # seconds that a window may be asked for: should the exporter hang, nothing stays open for longer
MOST_PEERS = 65_536
MOST_PORT = 65_535
MOST_ASKED = 256  # addresses and interfaces of which the kernel is asked for one socket: strangers make them up


class Looked(NamedTuple):
    """What changed since the last call: sightings by number, callers of devices."""

    rows: dict[int, Sighting]
    callers: tuple[Callers, ...]


class Host(NamedTuple):
    """What is wanted of this host, in a namespace: sockets, routes, and how many packets have left there so far."""

    open_socket: Opener
    routes: Callable[[str], Routes]
    packets_left: Callable[[str], int]


class Watcher:
    """Watches until the windows are over. Peers are known by the caller's numbers. Times are monotonic seconds."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._places: dict[str, _Place] = {}
        self._where: dict[int, str] = {}
        self._told: dict[int, Sighting] = {}  # of places that are closed
        self.problem = ""
        """Why the last window could not be opened, one line; empty if it could."""

    @property
    def open(self) -> bool:
        """Whether anybody is watched."""
        return bool(self._places)

    @property
    def _watched(self) -> int:
        return sum(len(place.book) for place in self._places.values())

    @property
    def changed(self) -> bool:
        """Whether there is anything for `changes`."""
        return bool(self._told) or any(place.book.changed for place in self._places.values())

    def watch(self, put: Mapping[int, tuple[WatchPeer, float]], now: float, *, all_along: bool = False) -> None:
        """Watch for these peers, each for so many seconds from now on, `LONGEST` at most, or longer if that was said
        before. What makes no sense is left out. `all_along`: look at what leaves from
        the first moment on, whatever that costs, as a person waits.
        """
        for number, (peer, seconds) in put.items():
            if not (seconds > 0 and 0 < peer.port <= MOST_PORT) or self._watched >= MOST_PEERS:
                continue
            before = self._where.get(number)
            if before is not None and before != peer.underlay and before in self._places:
                self._places[before].book.drop(number)
            place = self._places.get(peer.underlay)
            if place is None:
                place = self._places[peer.underlay] = _Place(peer.underlay, self._host, all_along=all_along)
            self._where[number] = peer.underlay
            place.book.watch(number, peer, now + min(seconds, LONGEST), now)
        for netns in list(self._places):
            self._follow(netns, now)

    def poll(self, now: float) -> float:
        """Look at what came, and end what is over. Returns when to look again."""
        due = inf
        for netns, place in list(self._places.items()):
            due = min(due, place.look(now))
            self._follow(netns, now)
        return due if self._places else inf

    def changes(self, most: int, now: float) -> Looked:
        """What changed of at most `most` peers."""
        rows: dict[int, Sighting] = {}
        for number in list(self._told)[:most]:
            rows[number] = self._told.pop(number)
        callers: tuple[Callers, ...] = ()
        for place in self._places.values():
            rows |= place.book.rows(most - len(rows), now)
            callers += place.book.callers()
        return Looked(rows, callers)

    def forget(self, netns: str, now: float) -> None:
        """Close the socket in this namespace, which is gone or was replaced."""
        place = self._places.get(netns)
        if place is not None:
            place.book.end(now)
            self._close(netns, now)

    def close(self) -> None:
        """Close all sockets."""
        for netns in list(self._places):
            self._places.pop(netns).close()

    def _follow(self, netns: str, now: float) -> None:
        """Have the socket that the book needs, or none."""
        place = self._places[netns]
        try:
            if place.book:
                place.listen(now)
                self.problem = ""
        except OSError as error:
            self.problem = why(error, netns)
            self._places.pop(netns).close()  # what was not watched is not told
            return
        if not place.book:
            self._close(netns, now)

    def _close(self, netns: str, now: float) -> None:
        place = self._places.pop(netns)
        place.close()
        self._told |= place.book.rows(place.book.changed, now)
        self._where = {number: where for number, where in self._where.items() if where != netns}


class _Place:
    """One namespace, with its socket once there is one."""

    def __init__(self, netns: str, host: Host, *, all_along: bool) -> None:
        self._netns, self._host, self._all_along = netns, host, all_along
        self._socket: WatchSocket | None = None
        self._leaving: Leaving | None = None
        self._due = 0.0
        self._tunnels: dict[str, bool] = {}
        self._locals: dict[bytes, bool] = {}
        self.book = Book(self._tunnel, self._local)

    def listen(self, now: float) -> None:
        """Open the socket, or make it take other ports. Raises OSError."""
        if self._socket is None:
            self._socket = WatchSocket(self._netns, self.book.ports, self._host.open_socket)
            if self._all_along:
                self._socket.look_at_leaving(look=True)
            elif self._socket.choosy:
                self._leaving = Leaving(now, self._host.packets_left(self._netns))
                self.book.look_at_leaving(inf, inf)  # not yet
        else:
            self._socket.listen_to(self.book.ports)

    def look(self, now: float) -> float:
        """Take in what came. Returns when to look again."""
        if self._socket is None or now < self._due:
            return self._due
        if self._leaving is not None and now >= self._leaving.due:
            self._follow_leaving(self._socket, self._leaving, now)
        count = 0
        for captured in self._socket.read(MOST_READ):
            self.book.take(captured, now)
            count += 1
        if self._socket.lost():
            self.book.miss()
        self.book.expire(now)
        self._due = now + (LOOK_AGAIN if count == MOST_READ else LOOK)
        return self._due

    def _follow_leaving(self, sock: WatchSocket, leaving: Leaving, now: float) -> None:
        try:
            packets = self._host.packets_left(self._netns)
        except OSError:  # the namespace is gone, which is found out soon
            return
        if leaving.follow(packets, now):
            sock.look_at_leaving(look=leaving.looking)
            self.book.look_at_leaving(now if leaving.since is None else leaving.since, leaving.until)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()

    def _tunnel(self, interface: str) -> bool:
        """Whether peers send packets into this device. What can't be told counts as one."""
        known = self._tunnels.get(interface)
        if known is None:
            if self._socket is None or len(self._tunnels) >= MOST_ASKED:
                return True
            try:
                known = self._host.routes(self._netns).kind(self._socket.index(interface)) in TUNNELS
            except OSError:
                known = True
            self._tunnels[interface] = known
        return known

    def _local(self, address: bytes) -> bool:
        """Whether this host has the address. What can't be told is not its own."""
        known = self._locals.get(address)
        if known is None:
            if len(self._locals) >= MOST_ASKED:
                return False
            try:
                known = self._host.routes(self._netns).is_local(address)
            except OSError:
                known = False
            self._locals[address] = known
        return known
