"""One connection of the HTTP server: reads a request, has it answered, writes the response, and only then reads on.

When it is answered, and whether it has to go, is decided in `clients`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from contextlib import aclosing, suppress
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING

from wg_exporter.web.http import BadRequestError, Exchange
from wg_exporter.web.response import Body, Response, Stream, take

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from wg_exporter.web.clients import Clients
    from wg_exporter.web.http import Request

MOST_AT_ONCE = 64  # chunks for one system call, far below IOV_MAX (1,024)
TLS_PIECE = 64 * 1024  # bytes that are encrypted at once
LINGER_BYTES = 256 * 1024  # of what it sends meanwhile, which is not looked at
LINGER = 1.0  # seconds for a client that was refused to read why, while it still sends


class Connection(asyncio.BufferedProtocol):
    """One connection: reads a request, has it answered, writes the response, and only then reads the next."""

    def __init__(self, clients: Clients, *, tls: bool = False, local: bool = False) -> None:
        """`local`: it came over the socket of the user of this process."""
        self.address = ""  # of the client, empty if it is local
        self._local = local
        self.sending: Body | None = None
        self.active_at = 0.0  # when it came, or its last response was sent (the loop's seconds)
        self.answered = False  # once at least
        self.leaving = False  # its next answer is the last
        self.shaking = False  # its TLS handshake has not ended
        self.stalled_at: float | None = None  # since when the client takes nothing of what is sent
        self.task: asyncio.Task[None] | None = None
        self._work: Callable[[], Coroutine[None, None, None]] | None = None  # what is done when it is our turn
        self._clients = clients
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        self._raw: asyncio.Transport | None = None  # below TLS
        self._was_answered: Callable[[], None] | None = None  # what TLS has to know
        self._timer: asyncio.TimerHandle | None = None
        self._room: asyncio.Future[None] | None = None  # until the kernel takes more
        self._ended = False  # the client sends nothing more
        self._unread: int | None = None  # bytes that a refused client may still send; None: it was not refused

    # --- what asyncio calls -------------------------------------------------------------------------------------------

    def come(self, raw: asyncio.Transport, answered: Callable[[], None]) -> bool:
        """A client is there, whose TLS handshake begins; `connection_made` comes after it. False: it has to go.
        `answered` is called whenever it was, and the next request does not wait already.
        """
        self._raw, self._was_answered, self.shaking = raw, answered, True
        return self._arrive(raw)

    def _arrive(self, transport: asyncio.Transport) -> bool:
        self._loop = asyncio.get_running_loop()
        self.active_at = self._loop.time()
        if not self._local:
            unix = transport.get_extra_info("socket").family == socket.AF_UNIX
            self.address = "unix" if unix else str((transport.get_extra_info("peername") or ("unknown",))[0])
        if self._clients.stopping or not self._clients.admit(self):
            self.reset()
            return False
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        # A write is done when the kernel has it all. Not 0: asyncio's TLS pauses at this size, so at 0 it would pause
        # with nothing in its buffer, and nothing would end that.
        transport.set_write_buffer_limits(high=1)
        if not self._tls and not self._arrive(transport):
            return
        self._exchange = Exchange(local=self._local, address=self.address)
        if self._tls:
            self.shaking = False
            self._clients.idle(self)
            if not self._clients.may_come_in(transport.get_extra_info("peercert")):
                self._clients.cut(self, "its certificate has none of client_allowed_sans")
                return
        self._wait(self._clients.limits.head)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """The client is gone, or was cut off. May come twice over TLS."""
        self._transport = self._raw = self._was_answered = self._work = None
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

    @property
    def answering(self) -> bool:
        """Whether a request waits for its answer, or that is being sent: nothing is read meanwhile."""
        return self._transport is not None and not self._transport.is_closing() and not self._transport.is_reading()

    # --- ends ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End it once all is sent."""
        if self._transport is None:
            self.reset()  # in its handshake, or gone
        elif not self._transport.is_closing():  # asyncio's TLS can't be asked twice: after it, all it says is an error
            self._transport.close()

    def reset(self) -> None:
        """End it now. A reset: after an ordinary close the kernel would keep what is unsent, maybe megabytes
        (socket(7)).
        """
        self._stop_waiting()
        self.sending = self._work = None
        transport = self._transport or self._raw
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

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
        if self.task is not None or self._work is not None or self._transport is None or self._transport.is_closing():
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
        if self._transport is None:
            return
        self._clients.idle(self)  # also where it is closing, which over TLS the client has a hand in
        if self._unread is not None:
            self._wait(LINGER)
            self._transport.resume_reading()
        elif self._transport.is_closing():
            self._wait(self._clients.limits.write)
        else:
            self._wait(self._clients.limits.head if self._exchange.begun else self._clients.limits.keepalive)
            if not self._ended:
                self._transport.resume_reading()
            self._advance()
        if self._was_answered is not None and self.task is None and self._work is None:
            self._was_answered()

    async def _answer(self, request: Request) -> None:
        await self._send(await self._clients.handler(request))

    async def _refuse(self, status: int) -> None:
        text = f"{HTTPStatus(status).phrase.lower()}\n".encode()
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        await self._send(Response(status, headers, Body((text,), len(text))), last=True)

    async def _send(self, response: Response, *, last: bool = False) -> None:
        """Write it as the client takes it. Raises nothing if the client is gone."""
        if self._transport is None:
            return
        body = response.body
        if isinstance(body, Stream):
            await self._stream(response, body)
            return
        close = last or self.leaving or self._clients.stopping or self._ended
        head = self._exchange.head(response.status, response.headers, body.length, close=close)
        chunks = () if self._exchange.bare else body.chunks
        for chunk in chunks:
            self._exchange.body(chunk)
        self.sending = body
        self._clients.shed()
        if not await self._write(head, *chunks):
            return
        if last and not self._ended and not self._tls and self._transport is not None:
            # An ordinary close would reset the connection because of what is unread, and the client not see the answer.
            self._unread = LINGER_BYTES
            with suppress(OSError):  # it is gone: that is read next
                self._transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        elif not self._exchange.end() or last:
            self.close()

    async def _stream(self, response: Response, stream: Stream) -> None:
        """Write it as it comes, and end the connection with it. Who has to connect anew gets none of it."""
        self._clients.follow(self)
        if not await self._write(self._exchange.head(response.status, response.headers, None, close=True)):
            return
        async with aclosing(stream.parts) as parts:
            while not self.leaving and (part := await anext(parts, None)) is not None:
                if not await self._write(self._exchange.part(part)):
                    return
        if await self._write(self._exchange.last()):
            self.close()

    async def _write(self, *chunks: bytes) -> bool:
        """Write this in the time that there is. Returns whether it was; else the connection was ended."""
        views = deque(memoryview(chunk) for chunk in chunks)
        try:
            async with asyncio.timeout(self._clients.limits.write):
                await (self._encrypt(views) if self._tls else self._hand_over(views))
        except TimeoutError:
            self._clients.cut(self, "too slow")
        except OSError:
            self.reset()
        else:
            return True
        return False

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
        try:
            await self._watch(fd, ready, self.resume_writing)
        finally:
            self._room = None

    async def _watch(self, fd: int, ready: asyncio.Future[None], taken: Callable[[], object]) -> None:
        """Wait for `ready`; `taken` is called whenever the kernel has room, as the client has taken something."""
        self.stalled_at = self._loop.time()
        own = os.dup(fd)  # the loop keeps the other for the transport
        try:
            self._loop.add_writer(own, taken)
            try:
                await ready
            finally:
                self._loop.remove_writer(own)
        finally:
            self.stalled_at = None
            os.close(own)

    async def _encrypt(self, views: deque[memoryview]) -> None:
        """The same over TLS, where the transport has to do it."""
        while views:
            if self._transport is None or self._transport.is_closing() or self._raw is None or self._raw.is_closing():
                raise ConnectionResetError("the client is gone")  # asyncio would log each write to it
            self._transport.write(take(views, TLS_PIECE))
            if self._room is not None:
                await self._watch(self._transport.get_extra_info("socket").fileno(), self._room, self._not_stalled)

    def _not_stalled(self) -> None:
        """The kernel has room. Where it has all that we gave it, too, OpenSSL keeps something back until the client has
        finished a message of the handshake, which nobody has to wait for (RFC 8446, 4.6.3).
        """
        self.stalled_at = self._loop.time()
        if self._room is not None and self._raw is not None and not self._raw.get_write_buffer_size():
            self.reset()
