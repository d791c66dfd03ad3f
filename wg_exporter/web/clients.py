"""Who is connected to the HTTP server, what is being sent to whom, and who has to go.

A client is idle while it is waited for, until its request is whole; then it is queued, and answered when it is its
turn. There is a deadline for the head of a request, and one for taking each response. What is limited: connections, in
all and of each address; how many are answered at a time; and the bytes of bodies that wait for slow readers. Who
follows events is answered all the time, but is not one of those: he has a place of his own, of which there are few.

Where there is no room for a newcomer somebody else goes: one that has asked nothing for a while; one that asks on and
on; one that takes nothing of its response; one that follows events; and then one that has come, and not asked, before
the newcomer. So crowds of silent, slow or greedy clients never lock out the next scrape, as answers of 503 would. And
who waits for an answer while none is being sent to its address goes before those that wait for one more.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from wg_exporter.log import Log, place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from wg_exporter.web.http import Request
    from wg_exporter.web.response import Body, Response

READ_SIZE = 16 * 1024  # bytes that are read at once, and so the most that a client can make us keep
FRESH = 0.5  # seconds for a newcomer to ask, before it counts as one that waits for nothing
STALLED = 1.0  # seconds without taking anything of a response, after which a client can be spared
STALLED_LOOK = 0.2  # seconds between two looks for those, while others wait: at 1 s it took two looks, so twice as long
STOP_LOOK = 0.02  # seconds between two looks at whether all is sent
SPARE_FILES = 40  # open files that are left for everything else
SAY_EVERY = 60.0  # seconds between two lines about clients that were cut off


@dataclass(frozen=True)
class Limits:
    """How long (seconds) and how much a client may keep the server busy."""

    scrape: float = 30.0  # the wait for a scrape, far above the deadline of the sources: after it, one is stuck
    reload: float = 30.0  # the wait for a reload, which takes seconds where a source is stuck
    write: float = 30.0  # for one whole response; Prometheus itself gives up after 10 by default
    head: float = 10.0  # from the connection, or the first byte of a later request, to the end of its head
    keepalive: float = 310.0  # longer than Prometheus keeps an idle connection (300), so none is closed under it
    connections: int = 256  # fewer where the process may not open as many files
    connections_each: int = 192  # of one address
    answers: int = 64  # at a time
    followers: int = 16  # over TCP, and as many over the Unix socket
    unsent_bytes: int = 64 * 1024 * 1024  # of all bodies that are being sent, each counted once
    stop: float = 2.0  # for what is being sent when the server stops

    def within(self, files: int) -> Limits:
        """The same, for a process that may open so many files."""
        most = min(self.connections, max(8, files - SPARE_FILES))
        each, answers = min(self.connections_each, most), min(self.answers, max(4, most // 2))
        followers = min(self.followers, max(1, most // 8))
        return replace(self, connections=most, connections_each=each, answers=answers, followers=followers)


def file_limit() -> int:
    """How many files this process may open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


class Client(Protocol):
    """A connection, as far as it matters who has to go. Times are the event loop's seconds."""

    address: str  # empty for the Unix socket of our own user
    sending: Body | None
    answered: bool  # once at least
    leaving: bool  # its next answer is the last
    shaking: bool  # its TLS handshake has not ended; it counts as idle
    active_at: float  # when it came, or its last response was sent
    stalled_at: float | None  # since when it takes nothing of what is sent

    def go(self) -> None:
        """It is its turn to be answered."""

    def close(self) -> None:
        """End it once all is sent."""

    def reset(self) -> None:
        """End it now."""


class Clients:
    """All connections. Used in the event loop alone."""

    def __init__(
        self,
        handler: Callable[[Request], Awaitable[Response]],
        limits: Limits,
        may_come_in: Callable[[Mapping[str, object] | None], bool] = lambda _certificate: True,
    ) -> None:
        """`may_come_in` is asked with the verified certificate of each client that came over TLS."""
        self.handler = handler
        self.may_come_in = may_come_in
        self.limits = limits.within(file_limit())
        self.buffer = memoryview(bytearray(READ_SIZE))  # what is read is taken out at once, so one does for all
        self.stopping = False
        self._idle: dict[str, dict[Client, None]] = {}  # by address, the longest inactive first
        self._queued: dict[Client, None] = {}  # the longest first, as in the next
        self._busy: dict[Client, None] = {}
        self._following: dict[Client, None] = {}  # the longest first
        self._each: Counter[str] = Counter()
        self._retry: asyncio.TimerHandle | None = None
        self._log = Log(__name__)
        self._cut_off: Counter[str] = Counter()
        self._say_again: dict[str, float] = {}  # by what is said

    def __len__(self) -> int:
        return self._each.total()

    def admit(self, connection: Client) -> bool:
        """Take in a new connection, which is idle. False: there is no room for it."""
        address = connection.address
        if connection.shaking:
            self._limit_handshakes(address)
        if self._each[address] >= self.limits.connections_each and not self._make_room(address):
            return False
        if len(self) >= self.limits.connections and not self.make_room():
            return False
        self._each[address] += 1
        self._idle.setdefault(address, {})[connection] = None
        return True

    def make_room(self) -> bool:
        """Cut off the client that can be spared most easily. False if there is none."""
        asking = (*self._queued, *self._busy, *self._following)
        addresses = [*self._idle, *(one.address for one in asking)]
        return bool(addresses) and self._make_room(max(set(addresses), key=self._each.__getitem__))

    def _make_room(self, address: str) -> bool:
        """The same, among those of one address."""
        idle = self._idle.get(address, {})
        oldest = next(iter(idle), None)
        before = asyncio.get_running_loop().time() - FRESH
        waiting = [one for one in idle if one.active_at <= before]
        if waiting:
            self.cut(next((one for one in waiting if one.shaking), waiting[0]), "too many connections")
        elif greedy := next((one for one in self._queued if one.address == address and one.answered), None):
            self.cut(greedy, "asks on and on while others wait")
        elif self._cut_stalled(one for one in self._busy if one.address == address):
            pass
        elif following := next((one for one in self._following if one.address == address), None):
            self.cut(following, "follows events while others wait")
        elif oldest is None:
            return False
        else:
            self.cut(oldest, "too many connections")
        return True

    def _limit_handshakes(self, address: str) -> None:
        """Cut off the oldest handshake where they fill half of the places, of this address or in all: whoever asks
        nothing must not cost the connections of those who do.
        """
        shaking = [one for idle in self._idle.values() for one in idle if one.shaking]
        of_address = [one for one in shaking if one.address == address]
        if len(of_address) >= self.limits.connections_each // 2:
            self.cut(of_address[0], "too many handshakes")
        elif len(shaking) >= self.limits.connections // 2:
            most = Counter(one.address for one in shaking).most_common(1)[0][0]
            self.cut(next(one for one in shaking if one.address == most), "too many handshakes")

    def _cut_stalled(self, among: Iterable[Client]) -> bool:
        """Cut off who has taken nothing of a response for the longest time."""
        before = asyncio.get_running_loop().time() - STALLED
        stalled = [(one.stalled_at, one) for one in among if one.stalled_at is not None and one.stalled_at < before]
        if not stalled:
            return False
        self.cut(min(stalled, key=lambda found: found[0])[1], "too slow while others wait")
        return True

    def queue(self, connection: Client) -> None:
        """Its request is whole: `go` is called when it is its turn."""
        if self._forget(connection):
            self._queued[connection] = None
            if len(self._busy) >= self.limits.answers and not self._answering()[connection.address]:
                self._cut_stalled(self._busy)
            self._go_on()

    def may_follow(self, *, local: bool) -> bool:
        """Whether there is a place for one more who follows events."""
        return sum((one.address == "") is local for one in self._following) < self.limits.followers

    def follow(self, connection: Client) -> None:
        """It is answered from now on for as long as it stays, and is in nobody's way."""
        if self._forget(connection):
            self._following[connection] = None
            self._go_on()

    def end_followers(self) -> None:
        """End those who follow over TCP: who may has changed, so they have to ask again."""
        for connection in [one for one in self._following if one.address]:
            connection.reset()
            self.leave(connection)

    def idle(self, connection: Client) -> None:
        """It was answered, and is waited for again."""
        if self._forget(connection):
            connection.active_at = asyncio.get_running_loop().time()
            self._idle.setdefault(connection.address, {})[connection] = None
            self._go_on()

    def leave(self, connection: Client) -> None:
        """It is closed."""
        if self._forget(connection):
            self._each[connection.address] -= 1
            if not self._each[connection.address]:
                del self._each[connection.address]
            self._go_on()

    def _go_on(self) -> None:
        """Answer those whose turn it is."""
        while self._queued and len(self._busy) < self.limits.answers:
            answering = self._answering()
            connection = min(self._queued, key=lambda one: answering[one.address])
            del self._queued[connection]
            self._busy[connection] = None
            connection.go()
        if self._queued and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(STALLED_LOOK, self._spare_the_stalled)

    def _spare_the_stalled(self) -> None:
        self._retry = None
        for _ in range(len(self._queued)):
            if not self._cut_stalled(self._busy):
                break
        self._go_on()

    def _answering(self) -> Counter[str]:
        """How many of each address are being answered."""
        return Counter(one.address for one in self._busy)

    def _forget(self, connection: Client) -> bool:
        for known in (self._busy, self._queued, self._following):
            if connection in known:
                del known[connection]
                return True
        idle = self._idle.get(connection.address, {})
        if connection not in idle:
            return False
        del idle[connection]
        if not idle:
            del self._idle[connection.address]
        return True

    def shed(self) -> None:
        """Cut off those that take a body, the longest first, until the limit of unsent bytes is kept."""
        while True:
            senders = [(one, one.sending) for one in self._busy if one.sending is not None]
            unsent = {id(body): body.length for _, body in senders}
            if len(unsent) <= 1 or sum(unsent.values()) <= self.limits.unsent_bytes:
                return
            self.cut(senders[0][0], "too slow while others wait")

    def let_go(self, *, at_once: bool) -> None:
        """All but those of our own user have to connect anew: after their next answer, or `at_once` where they wait for
        none.
        """
        idle = [one for ones in self._idle.values() for one in ones if one.address]
        for connection in (*idle, *self._queued, *self._busy):
            connection.leaving = connection.leaving or bool(connection.address)
        for connection in idle if at_once else ():
            connection.close()

    def cut(self, connection: Client, reason: str) -> None:
        """End a connection, and say so now and then: a crowd must not fill the log."""
        self._cut_off[reason] += 1
        self._tell(connection.address, reason)
        connection.reset()
        self.leave(connection)

    def failed(self, error: BaseException) -> None:
        """A request could not be answered, for a reason that nobody foresaw."""
        problem = f"unexpected {type(error).__name__} in {place(error)}"
        if self._may_say(problem):
            self._log.error("request failed", problem=problem)

    def _tell(self, address: str, reason: str) -> None:
        if self._may_say(reason):
            self._log.info("client cut off", client=address, reason=reason, number=self._cut_off.pop(reason))

    def _may_say(self, reason: str) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._say_again.get(reason, 0.0):
            return False
        self._say_again[reason] = now + SAY_EVERY
        return True

    async def stop(self) -> None:
        """End all connections; those that are being answered have `Limits.stop` to finish, and who has just come has a
        moment to ask.
        """
        self.stopping = True
        now = asyncio.get_running_loop().time
        deadline = now() + self.limits.stop
        await asyncio.sleep(STOP_LOOK)  # requests that are here already are read: to close on them would be a reset
        while now() < deadline:
            waiting = [one for idle in self._idle.values() for one in idle]
            fresh = [one for one in waiting if not one.answered and now() - one.active_at < FRESH]
            for connection in waiting:
                if connection not in fresh:
                    connection.close()
            if not (fresh or self._busy or self._queued or self._following):
                break
            await asyncio.sleep(STOP_LOOK)
        if self._retry is not None:
            self._retry.cancel()
        idle = [one for them in self._idle.values() for one in them]
        for connection in [*self._queued, *self._busy, *self._following, *idle]:
            connection.reset()
            self.leave(connection)
