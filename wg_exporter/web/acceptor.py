"""Takes connections from listening sockets. A host that is out of files or memory must not make it spin, or fill the
log: it makes room, waits a moment, and says so once a minute.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from wg_exporter.log import Log
from wg_exporter.web.clients import FRESH
from wg_exporter.web.connection import Connection
from wg_exporter.web.encrypted import Encrypted
from wg_exporter.web.listen import BACKLOG

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence

    from wg_exporter.web.clients import Clients

AT_ONCE = 32  # connections, between which others are served
LAST = 2 * BACKLOG  # connections that are taken at the end
BREATH = 0.2  # seconds without taking any, where there is no room
SAY_EVERY = 60.0  # seconds

_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """Takes connections for `clients` from when it is made until `close`. Call it in the event loop."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        clients: Clients,
        tls: Callable[[socket.socket], ssl.SSLContext | None] = lambda _sock: None,
        owner: socket.socket | None = None,
    ) -> None:
        """`tls` says for each listening socket with what its connections are encrypted, if they are. `owner` is the
        one that belongs to the user of this process.
        """
        self._loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        self._clients = clients
        self._tls = tls
        self._owner = owner
        self._log = Log(__name__)
        self._say_again = float("-inf")
        self._opening: set[asyncio.Task[object]] = set()
        for sock in self._sockets:
            sock.settimeout(0)
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    async def close(self) -> None:
        """Take those who have connected already, and no more; then close the sockets."""
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            for _ in range(LAST // AT_ONCE):
                self._accept(sock)
            sock.close()  # whoever is still in its queue gets a reset
        self._sockets.clear()
        if self._opening:
            await asyncio.wait(self._opening, timeout=FRESH)

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _address = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._pause(sock, error)
                return
            connection.settimeout(0)
            task = self._loop.create_task(self._open(sock, connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, listening: socket.socket, connection: socket.socket) -> None:
        context = self._tls(listening)

        def made() -> asyncio.BaseProtocol:
            client = Connection(self._clients, tls=context is not None, local=listening is self._owner)
            return client if context is None else Encrypted(client, context)

        try:
            await self._loop.connect_accepted_socket(made, connection)
        except OSError:  # the client is gone
            connection.close()

    def _pause(self, sock: socket.socket, error: OSError) -> None:
        now = self._loop.time()
        if now >= self._say_again:
            self._say_again = now + SAY_EVERY
            self._log.warn(
                "no room for a connection",
                problem=error.strerror,
                clients=len(self._clients),
                fix="raise the limit of open files (LimitNOFILE of the unit)",
            )
        self._clients.make_room()
        self._loop.remove_reader(sock.fileno())
        self._loop.call_later(BREATH, self._go_on, sock)

    def _go_on(self, sock: socket.socket) -> None:
        if sock in self._sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock)
