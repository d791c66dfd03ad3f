"""Who is connected to the HTTP server, what is being sent to whom, and who has to go.

A client gets a deadline for its first request and one for taking each response. On top of that there is a limit to
how many connect and to how many bytes of different bodies wait for slow readers; above it the oldest goes, not the
newcomer. So a crowd of silent or slow clients never locks out the next scrape, which a limit answered with 503 would.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping

PIECE = 1024 * 1024  # bytes: what the transport copies for a client that does not read (Python 3.11)


@dataclass(frozen=True)
class Limits:
    """How long (seconds) and how much a client may keep the server busy."""

    scrape: float = 30.0  # the wait for a scrape: the deadline of every source is far below, so one is stuck
    write: float = 30.0  # for one whole response; Prometheus itself gives up after 10 by default
    first_request: float = 10.0  # from the connection to its first complete request head
    keepalive: float = 310.0  # longer than Prometheus keeps an idle connection (300), so none is closed under it
    connections: int = 256  # well below the usual 1,024 open files
    unsent_bytes: int = 64 * 1024 * 1024  # of all different bodies that are being sent at one time
    stop: float = 2.0  # what is being sent when the server stops may finish for this long


class Body(NamedTuple):
    """A finished response body in chunks, and its length in bytes."""

    chunks: tuple[bytes, ...]
    length: int


@dataclass
class _Client:
    transport: asyncio.Transport
    first_request: asyncio.TimerHandle
    sending: Body | None = None


class Clients(web.Server):
    """aiohttp's server of one handler, which keeps the limits. `send` writes every response."""

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

    async def send(
        self, request: web.BaseRequest, status: int, headers: Mapping[str, str], body: Body
    ) -> web.StreamResponse:
        """Write a response, piece by piece as the client takes it, the body only if it is not a HEAD request.

        A client that is gone, or has to go, raises nothing: aiohttp has exceptions in reference cycles, and their
        tracebacks would keep the body of every such client until the next full garbage collection.
        """
        response = web.StreamResponse(status=status, headers={**headers, "Server": "wg-exporter"})
        response.content_length = body.length
        client = self._clients.get(request.protocol)
        if client is None:  # cut off while the body was made; aiohttp finds the transport closed
            return response
        client.sending = body
        self._shed()
        try:
            async with asyncio.timeout(self._limits.write):
                await response.prepare(request)
                last: bytes | memoryview = b""
                for piece in _pieces(body) if request.method != "HEAD" else ():
                    if last:
                        await response.write(last)
                    last = piece
                await response.write_eof(bytes(last))  # unlike write(), it waits for a small piece too
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
        """Cut off those who have been taking their body the longest until all that is unsent fits the limit."""
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
        # A reset: after an ordinary close the kernel keeps megabytes for a reader who may never come (socket(7)).
        sock = client.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.transport.abort()


class _ClientNoise(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's logger: a malformed request is the client's fault and worth one debug line, not a traceback each."""

    def log(self, level: int, msg: object, *args: object, exc_info: object = None, **kwargs: Any) -> None:  # noqa: ARG002
        super().log(logging.DEBUG, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs


def _pieces(body: Body) -> Iterator[memoryview]:
    for chunk in body.chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), PIECE):
            yield view[start : start + PIECE]
