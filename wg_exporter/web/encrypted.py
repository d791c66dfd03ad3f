"""TLS of one connection, by asyncio's own protocol, without what that leaves to strangers.

Its connections count only after the handshake, each holds 256 KiB, and as much again of what is sent while it is
answered; one that failed stays until the garbage collector comes. And a FIN that arrives while reading is paused ends
the way out, so nothing that is written leaves, and nothing tells that the connection is over.
"""

from __future__ import annotations

import asyncio
from asyncio import sslproto
from typing import TYPE_CHECKING

from wg_exporter.web.clients import READ_SIZE

if TYPE_CHECKING:
    import ssl

    from wg_exporter.web.connection import Connection

HANDSHAKE = 10  # seconds
_HTTP = (b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO", b"DELET")
_NOT_TLS = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)


class Encrypted(sslproto.SSLProtocol):
    """Between the transport of a socket and a Connection, which is told of its client before the handshake."""

    max_size = READ_SIZE  # bytes, in place of 256 KiB

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            connection,
            context,
            None,  # type: ignore[arg-type] # nobody waits for the end of the handshake
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE,
        )
        self._set_read_buffer_limits(high=READ_SIZE)  # type: ignore[attr-defined] # above it nothing is read
        self._connection = connection
        self._raw: asyncio.Transport | None = None
        self._begun = False
        self._finished = False  # a FIN has come, of which asyncio's protocol does not know yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, where there is room."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._raw = transport
        if self._connection.come(transport, self.answered):
            super().connection_made(transport)

    def buffer_updated(self, nbytes: int) -> None:
        """Something came. A client that speaks no TLS is told what it did wrong, in the words of Go's server."""
        first, self._begun = not self._begun, True
        start = bytes(self._ssl_buffer_view[: min(nbytes, 5)]) if first else b""  # type: ignore[attr-defined]
        if self._raw is not None and start.startswith(_HTTP):
            self._raw.write(_NOT_TLS)
            self._raw.close()
            return
        super().buffer_updated(nbytes)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone, whether the handshake has ended or not."""
        super().connection_lost(exc)
        self._raw = None
        self._connection.connection_lost(None)
        if exc is not None:
            exc.__traceback__ = None  # of a handshake that failed: it is in a cycle with this

    def eof_received(self) -> bool | None:  # type: ignore[override] # as of any protocol
        """A FIN. Where an answer is being made it waits for that, which could not be written any more."""
        if self._connection.answering:
            self._finished = True
            return True
        return super().eof_received()

    def answered(self) -> None:
        """Reading goes on, or the connection is closing: let a FIN take effect that has waited for this."""
        if not self._finished or self._raw is None:
            return
        self._finished = False
        if not super().eof_received():
            self._raw.close()
