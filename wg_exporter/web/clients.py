"""Who is connected to the HTTP server, what is being sent to whom, and who has to go.

A client is idle while it is waited for, until its request is whole; then it is queued, and answered when it is its
turn. There is a deadline for the head of a request, and one for taking each response. What is limited: connections, in
all and of each address; how many are answered at a time; and the bytes of bodies that wait for slow readers.

Where there is no room for a newcomer somebody else goes: one that has asked nothing for a while; one that asks on and
on; one that takes nothing of its response; and then one that has come, and not asked, before the newcomer. So crowds of
silent, slow or greedy clients never lock out the next scrape, as answers of 503 would.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
from collections import Counter, deque
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.log import Log, place
from wg_exporter.web.http import BadRequestError, Exchange, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

MOST_AT_ONCE = 64  # chunks for one system call, far below IOV_MAX (1,024)
READ_SIZE = 16 * 1024  # bytes that are read at once, and so the most that a client can make us keep
TLS_PIECE = 64 * 1024  # bytes that are encrypted at once
LINGER = 1.0  # seconds for a client that was refused to read why, while it still sends
LINGER_BYTES = 256 * 1024  # of what it sends meanwhile, which is not looked at
FRESH = 0.5  # seconds for a newcomer to ask, before it counts as one that waits for nothing
STALLED = 1.0  # seconds without taking anything of a response, after which a client can be spared
STOP_LOOK = 0.02  # seconds between two looks at whether all is sent
SPARE_FILES = 40  # open files that are left for everything else
SAY_EVERY = 60.0  # seconds between two lines about clients that were cut off


@dataclass(frozen=True)
class Limits:
    """How long (seconds) and how much a client may keep the server busy."""

    scrape: float = 30.0  # the wait for a scrape, far above the deadline of the sources: after it, one is stuck
    write: float = 30.0  # for one whole response; Prometheus itself gives up after 10 by default
    head: float = 10.0  # from the connection, or the first byte of a later request, to the end of its head
    keepalive: float = 310.0  # longer than Prometheus keeps an idle connection (300), so none is closed under it
    connections: int = 256  # fewer where the process may not open as many files
    connections_each: int = 192  # of one address
    answers: int = 64  # at a time
    unsent_bytes: int = 64 * 1024 * 1024  # of all bodies that are being sent, each counted once
    stop: float = 2.0  # for what is being sent when the server stops

    def within(self, files: int) -> Limits:
        """The same, for a process that may open so many files."""
        most = min(self.connections, max(8, files - SPARE_FILES))
        each, answers = min(self.connections_each, most), min(self.answers, max(4, most // 2))
        return replace(self, connections=most, connections_each=each, answers=answers)


def file_limit() -> int:
    """How many files this process may open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


class Body(NamedTuple):
    """A finished response body in chunks, and its length in bytes."""

    chunks: tuple[bytes, ...]
    length: int


class Response(NamedTuple):
    """What a client is answered with."""

    status: int
    headers: Mapping[str, str]
    body: Body


Handler = "Callable[[Request], Awaitable[Response]]"


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
        self._idle: dict[str, dict[Connection, None]] = {}  # by address, the longest inactive first
        self._queued: dict[Connection, None] = {}  # the longest first, as in the next
        self._busy: dict[Connection, None] = {}
        self._each: Counter[str] = Counter()
        self._retry: asyncio.TimerHandle | None = None
        self._log = Log(__name__)
        self._cut_off: Counter[str] = Counter()
        self._say_again = 0.0

    def __len__(self) -> int:
        return self._each.total()

    def admit(self, connection: Connection) -> bool:
        """Take in a new connection, which is idle. False: there is no room for it."""
        address = connection.address
        if self._each[address] >= self.limits.connections_each and not self._make_room(address):
            return False
        if len(self) >= self.limits.connections and not self.make_room():
            return False
        self._each[address] += 1
        self._idle.setdefault(address, {})[connection] = None
        return True

    def make_room(self) -> bool:
        """Cut off the client that can be spared most easily. False if there is none."""
        addresses = [*self._idle, *(one.address for one in self._queued), *(one.address for one in self._busy)]
        return bool(addresses) and self._make_room(max(set(addresses), key=self._each.__getitem__))

    def _make_room(self, address: str) -> bool:
        """The same, among those of one address."""
        idle = self._idle.get(address, {})
        oldest = next(iter(idle), None)
        if oldest is not None and asyncio.get_running_loop().time() - oldest.active_at >= FRESH:
            self.cut(oldest, "too many connections")
        elif greedy := next((one for one in self._queued if one.address == address and one.answered), None):
            self.cut(greedy, "asks on and on while others wait")
        elif not self._cut_stalled(one for one in self._busy if one.address == address):
            if oldest is None:
                return False
            self.cut(oldest, "too many connections")
        return True

    def _cut_stalled(self, among: Iterable[Connection]) -> bool:
        """Cut off who has taken nothing of a response for the longest time."""
        before = asyncio.get_running_loop().time() - STALLED
        stalled = [(one.stalled_at, one) for one in among if one.stalled_at is not None and one.stalled_at < before]
        if not stalled:
            return False
        self.cut(min(stalled, key=lambda found: found[0])[1], "too slow while others wait")
        return True

    def queue(self, connection: Connection) -> None:
        """Its request is whole: `go` is called when it is its turn."""
        if self._forget(connection):
            self._queued[connection] = None
            self._go_on()

    def idle(self, connection: Connection) -> None:
        """It was answered, and is waited for again."""
        if self._forget(connection):
            connection.active_at = asyncio.get_running_loop().time()
            self._idle.setdefault(connection.address, {})[connection] = None
            self._go_on()

    def leave(self, connection: Connection) -> None:
        """It is closed."""
        if self._forget(connection):
            self._each[connection.address] -= 1
            if not self._each[connection.address]:
                del self._each[connection.address]
            self._go_on()

    def _go_on(self) -> None:
        """Answer those whose turn it is."""
        while self._queued and len(self._busy) < self.limits.answers:
            connection = next(iter(self._queued))
            del self._queued[connection]
            self._busy[connection] = None
            connection.go()
        if self._queued and self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(STALLED, self._spare_the_stalled)

    def _spare_the_stalled(self) -> None:
        self._retry = None
        if self._queued:
            self._cut_stalled(self._busy)
            self._go_on()

    def _forget(self, connection: Connection) -> bool:
        for known in (self._busy, self._queued):
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

    def cut(self, connection: Connection, reason: str) -> None:
        """End a connection, and say so now and then: a crowd must not fill the log."""
        self._cut_off[reason] += 1
        self._tell(connection.address, reason)
        connection.reset()
        self.leave(connection)

    def failed(self, error: BaseException) -> None:
        """A request could not be answered, for a reason that nobody foresaw."""
        self._log.error("request failed", problem=f"unexpected {type(error).__name__} in {place(error)}")

    def _tell(self, address: str, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._say_again:
            return
        self._say_again = now + SAY_EVERY
        self._log.info("client cut off", client=address, reason=reason, number=self._cut_off.total())
        self._cut_off.clear()

    async def stop(self) -> None:
        """End all connections; those that are being answered have `Limits.stop` to finish."""
        self.stopping = True
        for connection in [one for idle in self._idle.values() for one in idle]:
            connection.close()
        deadline = asyncio.get_running_loop().time() + self.limits.stop
        while (self._busy or self._queued) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(STOP_LOOK)
        if self._retry is not None:
            self._retry.cancel()
        for connection in [*self._queued, *self._busy]:
            connection.reset()
            self.leave(connection)


class Connection(asyncio.BufferedProtocol):
    """One connection: reads a request, has it answered, writes the response, and only then reads the next."""

    def __init__(self, clients: Clients, *, tls: bool = False) -> None:
        self.address = ""  # of the client, empty for the Unix socket
        self.sending: Body | None = None
        self.active_at = 0.0  # when it came, or its last response was sent (the loop's seconds)
        self.answered = False  # once at least
        self.stalled_at: float | None = None  # since when the client takes nothing of what is sent
        self.task: asyncio.Task[None] | None = None
        self._work: Callable[[], Coroutine[None, None, None]] | None = None  # what is done when it is our turn
        self._clients = clients
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._room: asyncio.Future[None] | None = None  # until the kernel takes more
        self._ended = False  # the client sends nothing more
        self._unread: int | None = None  # bytes that a refused client may still send; None: it was not refused

    # --- what asyncio calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self.active_at = self._loop.time()
        local = transport.get_extra_info("socket").family == socket.AF_UNIX
        self.address = "" if local else str((transport.get_extra_info("peername") or ("unknown",))[0])
        self._exchange = Exchange(local=local)
        transport.set_write_buffer_limits(high=0)  # a write is done when the kernel has it all
        self._wait(self._clients.limits.head)
        stranger = self._tls and not self._clients.may_come_in(transport.get_extra_info("peercert"))
        if stranger or self._clients.stopping or not self._clients.admit(self):
            self.reset()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """The client is gone, or was cut off."""
        self._transport = self._work = None
        self._stop_waiting()
        self._clients.leave(self)
        self.resume_writing()  # an exception in a future would be in a cycle with what waits, and keep its body alive

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        """Where to put what arrives."""
        return self._clients.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have arrived."""
        if self._unread is not None:
            self._unread -= nbytes
            if self._unread < 0:
                self.reset()
            return
        begun = self._exchange.begun
        self._exchange.receive(bytes(self._clients.buffer[:nbytes]))
        if self._exchange.begun and not begun:
            self._wait(self._clients.limits.head)
        self._advance()

    def eof_received(self) -> bool:
        """The client sends nothing more; it may still wait for an answer."""
        self._ended = True
        if self._unread is not None:
            self.close()
            return False
        self._exchange.receive(b"")
        self._advance()
        return not self._tls

    def pause_writing(self) -> None:
        """Of a transport whose buffer is not empty."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Of a transport whose buffer is empty again."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # --- ends ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End it once all is sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """End it now. A reset: after an ordinary close the kernel would keep what is unsent, maybe megabytes
        (socket(7)).
        """
        self._stop_waiting()
        self.sending = self._work = None
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self._loop.call_later(seconds, self.reset)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- a request and its response -----------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Answer the next request, if it is whole."""
        if self.task is not None or self._work is not None or self._transport is None:
            return
        try:
            request = self._exchange.next()
        except BadRequestError as error:
            self._begin(partial(self._refuse, error.status))
        except EOFError:
            self.close()
        else:
            if request is not None:
                self._begin(partial(self._answer, request))

    def _begin(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Have this done when it is our turn. Nothing is read until then."""
        assert self._transport is not None  # noqa: S101 - for the type checker
        self._stop_waiting()
        self._work = work
        if not self._ended:
            self._transport.pause_reading()
        self._clients.queue(self)

    def go(self) -> None:
        """It is our turn."""
        work, self._work = self._work, None
        if work is not None:
            self.task = asyncio.ensure_future(work())
            self.task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.task = None
        self.sending = None
        self.answered = True
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a bug: whatever it was, the server goes on
            self._clients.failed(error)
            self.reset()
        if self._transport is None or self._transport.is_closing():
            return
        self._clients.idle(self)
        if self._unread is not None:
            self._wait(LINGER)
            self._transport.resume_reading()
            return
        self._wait(self._clients.limits.head if self._exchange.begun else self._clients.limits.keepalive)
        if not self._ended:
            self._transport.resume_reading()
        self._advance()

    async def _answer(self, request: Request) -> None:
        response = await self._clients.handler(request)
        await self._send(response, bare=request.method == "HEAD")

    async def _refuse(self, status: int) -> None:
        text = f"{HTTPStatus(status).phrase.lower()}\n".encode()
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        await self._send(Response(status, headers, Body((text,), len(text))), last=True)

    async def _send(self, response: Response, *, bare: bool = False, last: bool = False) -> None:
        """Write it as the client takes it, without its body if it is `bare`. Raises nothing if the client is gone."""
        if self._transport is None:
            return
        body = response.body
        head = self._exchange.head(
            response.status, response.headers, body.length, close=last or self._clients.stopping or self._ended
        )
        views = deque([memoryview(head)])
        if not bare:
            for chunk in body.chunks:
                self._exchange.body(chunk)
                views.append(memoryview(chunk))
        self.sending = body
        self._clients.shed()
        try:
            async with asyncio.timeout(self._clients.limits.write):
                await (self._encrypt(views) if self._tls else self._hand_over(views))
        except TimeoutError:
            self._clients.cut(self, "too slow")
            return
        except OSError:
            self.reset()
            return
        if last and not self._ended and not self._tls and self._transport is not None:
            # An ordinary close would reset the connection because of what is unread, and the client not see the answer.
            self._unread = LINGER_BYTES
            self._transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        elif not self._exchange.end() or last:
            self.close()

    async def _hand_over(self, views: deque[memoryview]) -> None:
        """Give the kernel all of this, as it takes it. Raises OSError when the client is gone.

        It bypasses the transport, which is never given anything. Up to Python 3.11 the transport copies what the kernel
        doesn't take at once, and makes a system call for every chunk: an eighth of the CPU time of a large body.
        """
        while views:
            if self._transport is None or self._transport.is_closing():
                raise ConnectionResetError("the client is gone")
            fd = self._transport.get_extra_info("socket").fileno()
            try:
                sent = os.writev(fd, list(islice(views, MOST_AT_ONCE)))
            except BlockingIOError:
                await self._until_room(fd)
                continue
            while views and sent >= len(views[0]):
                sent -= len(views.popleft())
            if sent:
                views[0] = views[0][sent:]

    async def _until_room(self, fd: int) -> None:
        """Wait until the kernel takes more. Raises ConnectionError when the client is gone."""
        self._room = ready = self._loop.create_future()
        self.stalled_at = self._loop.time()
        own = os.dup(fd)  # the loop keeps the other for the transport

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        try:
            self._loop.add_writer(own, tell)
            try:
                await ready
            finally:
                self._loop.remove_writer(own)
        finally:
            self._room = self.stalled_at = None
            os.close(own)

    async def _encrypt(self, views: deque[memoryview]) -> None:
        """The same over TLS, where the transport has to do it."""
        while views:
            if self._transport is None or self._transport.is_closing():
                raise ConnectionResetError("the client is gone")
            self._transport.write(_take(views, TLS_PIECE))
            if self._room is not None:
                await self._room


def _take(views: deque[memoryview], most: int) -> bytes:
    """Take up to `most` bytes from the front."""
    taken = []
    while views and most:
        view = views.popleft()
        if len(view) > most:
            views.appendleft(view[most:])
        taken.append(view[:most])
        most -= len(taken[-1])
    return b"".join(taken)
