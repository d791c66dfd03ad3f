"""The thread that has names looked up and sets endpoints. A pass only hands in what it read, and takes what is known.

The resolver's process is asked for when there is a first name. When it is gone, it is asked for again, after a pause
that doubles each time. A lookup that hangs holds up nobody: not the pass, not a scrape, and of the names only itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING

from wg_exporter.conffile.endpoints import host_names
from wg_exporter.hostnames import HostName, LookupFailure
from wg_exporter.linux.errors import SourceError
from wg_exporter.log import Log, place
from wg_exporter.messages.channel import ConnectionEndedError
from wg_exporter.messages.packets import Packets, close_all
from wg_exporter.messages.resolver import FromResolver, Question
from wg_exporter.model import Usage
from wg_exporter.reader.dns.reresolve import Order, Reresolve
from wg_exporter.reader.dns.schedule import MOST_NAMES, Schedule

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from wg_exporter.messages.resolver import Answer
    from wg_exporter.model import Backend, ConfFile, Device
    from wg_exporter.reader.dns.reresolve import Who
    from wg_exporter.sources import Clock, Unwell

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds from the end of a resolver to the next one


class HostNames:
    """What is known of the host names in the files of this host. Thread-safe.

    `connect` gives the socket of a resolver, which is started with the first question; it raises OSError.
    `set_endpoint` sets one, and raises SourceError; None = nothing is ever set. Both are called by the thread alone.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        clock: Clock,
        set_endpoint: Callable[[str, Backend, str, str], None] | None = None,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._set_endpoint = set_endpoint
        self._log = Log(__name__)
        self._schedule = Schedule()
        self._reresolve = Reresolve(clock.monotonic())
        self._lock = threading.Lock()
        self._devices: Sequence[Device] = ()
        self._names: dict[Who, str] = {}
        self._made_of: tuple[object, frozenset[str]] = (None, frozenset())
        self._told: Unwell = frozenset()
        self._looked = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._wake = -1
        self._packets: Packets[FromResolver] | None = None
        self._pause = FIRST_PAUSE
        self._not_before = -inf
        self._counts: dict[Who, int] = {}
        self._spent = (0.0, 0.0)  # processor time in seconds: of earlier resolvers, and of this one
        self._too_many = False
        self.rows: tuple[HostName, ...] = ()
        """What is known of each name; the same object while nothing changed."""
        self.reresolved: tuple[tuple[str, str, int], ...] | None = None if set_endpoint is None else ()
        """How many endpoints were set, by interface and public key; None = nothing is ever set."""
        self.usage: Usage | None = None
        """What the resolvers have cost; None before the first. Their processor time never goes back."""

    def look(self, devices: Sequence[Device], files: tuple[ConfFile, ...]) -> None:
        """Take in what a pass has read. Does not wait."""
        here = frozenset(device.name for device in devices if not device.netns) | self._made_of[1]
        with self._lock:
            if self._made_of[0] is not files or self._made_of[1] != here:
                found = host_names(files)
                self._names = {who: endpoint for who, endpoint in found.items() if who[0] in here}
                self._made_of = files, here
            self._devices, self._looked = devices, True
            if self._thread is None and self._names and not self._stopping:
                self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                self._thread = threading.Thread(target=self._run, name="host names", daemon=True)
                self._thread.start()
            self._rouse()

    def unwell(self, peers: Unwell) -> None:
        """The exporter says which peers are down or degraded; those that no file gives a name are dropped."""
        with self._lock:
            self._told = peers
            self._rouse()

    def stop(self) -> None:
        """Let the thread end, and the resolver with it. Does not wait."""
        with self._lock:
            self._stopping = True
            self._rouse()

    def _rouse(self) -> None:
        """With the lock: once closed, the descriptor may be another file's."""
        if self._wake >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self._wake, 1)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    self._step()
                except Exception as error:  # noqa: BLE001 - a bug in here must not end it
                    self._log.error("host names", problem=f"unexpected {type(error).__name__} in {place(error)}")
                    self._let_go()
                    time.sleep(FIRST_PAUSE)
        finally:
            self._let_go()
            with self._lock:
                os.close(self._wake)
                self._wake = -1

    def _step(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            names, told, looked = self._names, self._told, self._looked
            devices, self._looked = self._devices, False
        if len(set(names.values())) > MOST_NAMES and not self._too_many:
            self._too_many = True
            self._log.warn("too many host names", looked_up=MOST_NAMES, names=len(set(names.values())))
        unwell = {(interface, key) for interface, key, _down in told} & names.keys()
        self._schedule.use(names.values(), now)
        self._schedule.unwell(frozenset(names[who] for who in unwell), now)
        self._schedule.expire(now, self._clock.wall())
        self._ask(now)
        if self._set_endpoint is not None:
            if looked:
                self._reresolve.look(devices, names, now)
            down = [(interface, key) for interface, key, down in told if down]
            for order in self._reresolve.orders(down, names, lambda name: self._schedule.known(name, now), now):
                self._obey(order)
        self.rows = self._schedule.rows
        self._wait(now)

    def _wait(self, now: float) -> None:
        """Until there is something to do; then take the answers that are here."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        until = max(self._schedule.next_time(), self._not_before)
        if self._packets is not None:
            poll.register(self._packets, select.POLLIN)
        poll.poll(None if until == inf else max(0.0, until - now) * 1000 + 1)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        try:
            while self._packets is not None and (found := self._packets.receive()) is not None:
                close_all(found[1])
                self._take(found[0])
        except ConnectionEndedError as error:
            self._ended(str(error))

    def _take(self, answer: Answer) -> None:
        addresses: tuple[str, ...] = ()
        failure = answer.failure
        if failure is None:
            try:
                addresses = tuple(dict.fromkeys(_endpoint(*one) for one in answer.addresses))
            except ValueError:
                failure = LookupFailure.UNUSABLE
            else:
                failure = None if addresses else LookupFailure.UNUSABLE
        self._schedule.answer(answer.number, addresses, failure, self._clock.monotonic(), self._clock.wall())
        if answer.usage.cpu < self._spent[1]:  # another process, as the supervisor has started one in its place
            self._spent = (sum(self._spent), 0.0)
        self._spent = (self._spent[0], answer.usage.cpu)
        self.usage = answer.usage._replace(cpu=sum(self._spent))
        self._pause = FIRST_PAUSE

    def _ask(self, now: float) -> None:
        """Ask what is due; while the resolver can't be reached, nothing is."""
        if now < self._not_before:
            return
        try:
            for number, endpoint in self._schedule.take(now):
                if self._packets is None:
                    self._packets = Packets(self._connect(), FromResolver)
                host, _, port = endpoint.rpartition(":")
                self._packets.send(Question(number, host, port))
        except (OSError, ConnectionEndedError) as error:
            self._ended(str(error))

    def _ended(self, why: str) -> None:
        now = self._clock.monotonic()
        if self._pause == FIRST_PAUSE:  # once, until there was an answer again
            self._log.warn("the resolver of host names ended", problem=why)
        self._let_go()
        self._schedule.lost(now, self._clock.wall())
        self._not_before = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _let_go(self) -> None:
        if self._packets is not None:
            self._packets.close()
        self._packets = None
        self._spent = (sum(self._spent), 0.0)
        self.usage = self.usage and Usage(cpu=sum(self._spent))

    def _obey(self, order: Order) -> None:
        assert self._set_endpoint is not None  # noqa: S101 - for the type checker
        who = {"interface": order.interface, "public_key": order.public_key, "host_name": order.name}
        try:
            self._set_endpoint(order.interface, order.backend, order.public_key, order.after)
        except SourceError as error:
            self._log.warn("endpoint not set", **who, before=order.before, after=order.after, problem=str(error))
            return
        self._log.info("endpoint set", **who, before=order.before, after=order.after)
        self._counts[order[:2]] = self._counts.get(order[:2], 0) + 1
        self.reresolved = tuple((*peer, count) for peer, count in self._counts.items())


def _endpoint(address: str, port: int) -> str:
    """`address:port` as WireGuard writes it. Raises ValueError if it is none."""
    if not 0 <= port <= 65535:
        raise ValueError(port)
    found = ip_address(address)
    return f"[{found}]:{port}" if found.version == 6 else f"{found}:{port}"
