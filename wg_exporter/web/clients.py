"""Who is connected to the HTTP server, what is being sent to whom, and who has to go.

A client has a deadline for its first request, and one for taking each response. The number of connections is limited,
and so are the bytes of bodies that wait for slow readers. Above a limit the client that was inactive longest is cut
off, not the newcomer: so a crowd of silent or slow clients never locks out the next scrape, as answers of 503 would.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

FIRST = 64 * 1024  # bytes of a body that go out with the head of the response
MOST_AT_ONCE = 64  # chunks for one system call, far below IOV_MAX (1,024)


@dataclass(frozen=True)
class Limits:
    """How long (seconds) and how much a client may keep the server busy."""

    scrape: float = 30.0  # the wait for a scrape, far above the deadline of the sources: after it, one is stuck
    write: float = 30.0  # for one whole response; Prometheus itself gives up after 10 by default
    first_request: float = 10.0  # from the connection to its first complete request head
    keepalive: float = 310.0  # longer than Prometheus keeps an idle connection (300), so none is closed under it
    connections: int = 256  # well below the usual 1,024 open files
    unsent_bytes: int = 64 * 1024 * 1024  # of all bodies that are being sent, each counted once
    stop: float = 2.0  # for what is being sent when the server stops


class Body(NamedTuple):
    """A finished response body in chunks, and its length in bytes."""

    chunks: tuple[bytes, ...]
    length: int


@dataclass
class _Client:
    transport: asyncio.Transport
    first_request: asyncio.TimerHandle
    sending: Body | None = None
    waiting: asyncio.Future[None] | None = None  # until the kernel takes more


class Clients(web.Server):
    """aiohttp's server of one handler, with the limits. Every response is written by `send`."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        limits: Limits,
        logger: logging.Logger,
    ) -> None:
        super().__init__(
            self._admit,
            access_log=None,
            keepalive_timeout=limits.keepalive,
            lingering_time=2.0,  # seconds for a request body, which nothing here reads
            logger=_ClientNoise(logger),
        )
        self._handle = handler
        self._limits = limits
        self._log = logger
        self._clients: dict[web.RequestHandler, _Client] = {}  # the longest inactive first

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        while len(self._clients) >= self._limits.connections:
            self._cut(self._clients.pop(next(iter(self._clients))), "too many connections")
        transport.set_write_buffer_limits(high=0)  # a write is done when the kernel has it all
        timer = asyncio.get_running_loop().call_later(self._limits.first_request, transport.abort)
        self._clients[handler] = _Client(transport, timer)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        client = self._clients.pop(handler, None)
        if client is not None:
            client.first_request.cancel()
            if client.waiting is not None and not client.waiting.done():
                client.waiting.set_exception(ConnectionResetError("the client is gone"))

    async def send(
        self, request: web.BaseRequest, status: int, headers: Mapping[str, str], body: Body
    ) -> web.StreamResponse:
        """Write a response as the client takes it, the body only if it is not a HEAD request.

        Raises nothing if the client is gone or cut off: aiohttp keeps exceptions in reference cycles, and their
        tracebacks would keep the body of each such client until the next full garbage collection.
        """
        response = web.StreamResponse(status=status, headers={**headers, "Server": "wg-exporter"})
        response.content_length = body.length
        client = self._clients.get(request.protocol)
        if client is None:  # cut off while the body was made
            return response
        client.sending = body
        self._shed()
        try:
            async with asyncio.timeout(self._limits.write):
                await response.prepare(request)
                views = deque([memoryview(chunk) for chunk in body.chunks if request.method != "HEAD"])
                first = _take(views, FIRST)
                if not views:
                    await response.write_eof(first)  # unlike write(), it waits until the kernel has it
                    return response
                await response.write(first)
                await _hand_over(client, views)
                await response.write_eof()
        except TimeoutError:
            self._cut(client, "too slow")
        except ConnectionError as error:
            error.__traceback__ = None
            client.transport.abort()
        finally:
            client.sending = None
        return response

    async def _admit(self, request: web.BaseRequest) -> web.StreamResponse:
        client = self._clients.pop(request.protocol, None)
        if client is None:
            raise ConnectionResetError("the client was cut off")
        client.first_request.cancel()
        self._clients[request.protocol] = client  # the most active is last
        return await self._handle(request)

    def _shed(self) -> None:
        """Cut off the clients that were inactive longest, of those that take a body, until the limit is kept."""
        while True:
            senders = [(client, client.sending) for client in self._clients.values() if client.sending is not None]
            unsent = {id(body): body.length for _, body in senders}
            if len(unsent) <= 1 or sum(unsent.values()) <= self._limits.unsent_bytes:
                return
            self._cut(senders[0][0], "too slow while others wait")

    def _cut(self, client: _Client, reason: str) -> None:
        client.first_request.cancel()
        client.sending = None
        address = client.transport.get_extra_info("peername") or ("unknown",)
        self._log.info("client cut off", extra={"fields": {"client": str(address[0]), "reason": reason}})
        # A reset: after an ordinary close the kernel would keep what is unsent, maybe megabytes (socket(7)).
        sock = client.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.transport.abort()


class _ClientNoise(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's logger. It logs at level debug and without tracebacks, as malformed requests are the client's fault."""

    def log(self, level: int, msg: object, *args: object, exc_info: object = None, **kwargs: Any) -> None:  # noqa: ARG002
        super().log(logging.DEBUG, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs


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


async def _hand_over(client: _Client, views: deque[memoryview]) -> None:
    """Give the kernel the rest of a body, as it takes it. Raises ConnectionError when the client is gone.

    It bypasses the transport, which has sent all that it was given. Up to Python 3.11 the transport copies what the
    kernel doesn't take at once, and makes a system call for every chunk: an eighth of the CPU time of a large body.
    """
    with socket.socket(fileno=os.dup(client.transport.get_extra_info("socket").fileno())) as own:
        while views:
            try:
                sent = own.sendmsg(list(islice(views, MOST_AT_ONCE)))
            except BlockingIOError:
                sent = 0
            if not sent:
                await _room(client, own)
            while views and sent >= len(views[0]):
                sent -= len(views.popleft())
            if sent:
                views[0] = views[0][sent:]


async def _room(client: _Client, sock: socket.socket) -> None:
    """Wait until the kernel takes more for this client. Raises ConnectionError when it is gone."""
    loop = asyncio.get_running_loop()
    client.waiting = ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(sock.fileno(), tell)
    try:
        await ready
    finally:
        loop.remove_writer(sock.fileno())
        client.waiting = None
