"""A real server on a free loopback port, in a thread of its own, with something to serve: help for the HTTP tests."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wg_exporter.events.book import Book
from wg_exporter.events.told import lines
from wg_exporter.web.listen import bind, parse_listen
from wg_exporter.web.server import Format, Limits, NotKnownError, Page, RefusedError, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wg_exporter.events import Event
    from wg_exporter.events.asked import Asked
    from wg_exporter.status.document import Document
    from wg_exporter.web.docs import Docs
    from wg_exporter.web.policy import Policy
    from wg_exporter.web.unix import UnixSocket

PAGES = (
    Page("", "Metrics", "every tunnel"),
    Page("mindflavor", "MindFlavor", "the names of <another> exporter"),
    Page("mdlayher", "mdlayher", "and of a third"),
)


class App:
    """Serves what it was given. `gate` holds a scrape until it is set, `calls` are the scrapes that were made."""

    def __init__(self, body: Callable[[str, Format], Sequence[bytes]] | None = None) -> None:
        self.body = body or (lambda path, wanted: [f"{path or 'native'} ".encode(), wanted.value.encode(), b"\n"])
        self.calls: list[tuple[str, Format]] = []
        self.problem = ""
        self.found: Document | None = None
        self.paused: list[dict[str, str]] = []
        self.quieted: list[tuple[dict[str, str], bool]] = []
        self.refusal = ""
        self.fast: dict[tuple[str, str, str], tuple[bool | None, str]] = {}
        self.unknown = ""
        self.reloads = 0
        self.host = ""
        self.round_trips = False
        self.journal = Book()
        self.lists = 0
        self.list_gate = threading.Event()
        self.list_gate.set()
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()

    def scrape(self, path: str, wanted: Format) -> Sequence[bytes]:
        self.calls.append((path, wanted))
        self.begun.set()
        assert self.gate.wait(30)
        return self.body(path, wanted)

    def document(self, *, private: bool, round_trips: bool) -> Sequence[bytes]:
        self.begun.set()
        assert self.gate.wait(30)
        self.round_trips = round_trips
        return [b'{"private":', b"true}" if private else b"false}"]

    def targets(self) -> bytes:
        self.lists += 1
        self.begun.set()
        assert self.list_gate.wait(30)
        if self.unknown:
            raise NotKnownError(self.unknown)
        return b'[{"targets":["10.0.0.2:0"]}]'

    def up(self, netns: str, interface: str, public_key: str) -> tuple[bool | None, str] | None:
        return self.fast.get((netns, interface, public_key))

    def pause(self, asked: Mapping[str, str]) -> str:
        self.paused.append(dict(asked))
        return self.refusal

    async def reload(self) -> str:
        self.reloads += 1
        await self.reloaded()
        return self.refusal

    async def reloaded(self) -> None:
        """How long a reload takes."""

    def quiet(self, asked: Mapping[str, str], *, end: bool) -> bytes:
        self.quieted.append((dict(asked), end))
        if self.refusal:
            raise RefusedError(self.refusal)
        return b'{"done":true}'

    def events(self, asked: Asked, *, private: bool) -> tuple[bytes, int]:
        return lines(asked.of(self.journal.after(asked.after))), self.journal.last

    def recent(self, most: int) -> Sequence[Event]:
        return self.journal.all[-most:]

    def ready(self) -> str:
        return self.problem

    def allows_host(self, host: str) -> bool:
        return self.host in {"", host}

    def last(self) -> Document | None:
        return self.found


@contextmanager
def running(
    app: App | None = None,
    listen: str = "127.0.0.1:0",
    telemetry_path: str = "/metrics",
    limits: Limits | None = None,
    unix: UnixSocket | None = None,
    *,
    lifecycle: bool = False,
    policy: Policy | None = None,
    docs: Docs | None = None,
) -> Iterator[Running]:
    """A started server, stopped at the end. It fails if that takes long."""
    sockets = [*bind([parse_listen(listen)]), *([unix.socket] if unix else [])]
    app = app or App()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Server:
        server = Server(app, PAGES, telemetry_path, limits, policy, lifecycle=lifecycle, docs=docs)
        await server.start(sockets, unix.socket if unix else None)
        return server

    try:
        server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        try:
            yield Running(app, server, sockets[0].getsockname()[1], loop)
        finally:
            app.gate.set()
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


async def _end_tasks() -> None:
    """As asyncio.run does: what is left of clients that have gone would be complained of in the log of a later test."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class Running:
    def __init__(self, app: App, server: Server, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.app, self.server, self.port, self._loop = app, server, port, loop

    def happen(self, *events: Event) -> None:
        """Add events to the journal, and tell those who follow it."""
        self.app.journal.add(events)
        self._loop.call_soon_threadsafe(self.server.happened)

    def use(self, policy: Policy) -> None:
        """Let another policy decide from now on."""
        self._loop.call_soon_threadsafe(self.server.use, policy)

    def get(self, path: str = "/metrics", method: str = "GET", host: str = "127.0.0.1", **headers: str) -> Answer:
        """One request on a connection of its own. `Accept_Encoding` stands for Accept-Encoding."""
        connection = http.client.HTTPConnection(host, self.port, timeout=30)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        sock = socket.socket()
        sock.settimeout(30)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", self.port))
        return sock

    def ask(self, request: bytes) -> bytes:
        """Send raw bytes and return all that comes back until the server closes."""
        with self.connect() as sock:
            sock.sendall(request)
            return read_all(sock)


class Answer:
    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self.body = status, dict(headers), body


def read_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while True:
        try:
            part = sock.recv(1 << 20)
        except (ConnectionResetError, BrokenPipeError):
            # The second: asyncio does not end TLS once a FIN has come. OpenSSL 3.5 wants to tell the server so, which a
            # client that has sent its FIN can't.
            return bytes(data)
        if not part:
            return bytes(data)
        data += part


def eventually(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
