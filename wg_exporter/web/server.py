"""The HTTP server: metrics, a landing page, an API and health checks. What it serves is handed in; WireGuard is unknown
here.

The same server answers on TCP and on a Unix socket. What only tells is answered on both, what acts on the second alone:
whoever reaches a port is anybody, while the socket belongs to one user.

A scrape runs in a worker thread, and everybody who asks for the same page meanwhile gets its bytes. So twenty scrapers
cost one read, and a stuck read is not started twice. Bodies stay in the chunks they came in, because at 10,000 peers a
copy has 21 MB. The limits of clients are in clients.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from functools import partial
from socket import AF_UNIX
from typing import TYPE_CHECKING, NamedTuple, Protocol

from wg_exporter.log import Log
from wg_exporter.web.acceptor import Acceptor
from wg_exporter.web.clients import Body, Clients, Limits, Response
from wg_exporter.web.compression import Compressor
from wg_exporter.web.landing import Landing, Page
from wg_exporter.web.listen import describe
from wg_exporter.web.negotiation import Format, accepts_gzip, choose_format
from wg_exporter.web.policy import OPEN, Policy, Refusal

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Mapping, Sequence

    from wg_exporter.status.document import Document
    from wg_exporter.web.http import Request
    from wg_exporter.web.landing import Asset

__all__ = ["Application", "Format", "Limits", "Page", "Server"]

_PAGE = "/"
STATUS_PATH = "/api/v1/status"
PAUSE_PATH = "/api/v1/pause"

WORKERS = 2  # one thread renders and one compresses; more would only wait for the interpreter's lock

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_Handler = Callable[["Request"], Awaitable[Response]]


class Audience(Enum):
    """For whom a page or a document is made. Exposition formats are for anybody."""

    ANYBODY = auto()
    OWNER = auto()  # who asks over the Unix socket


class Telling(NamedTuple):
    """A page or a document: for whom it is, and whether round trips of the last minutes are in it."""

    audience: Audience
    round_trips: bool = False


_Key = tuple[str, Format | Telling, bool]
"""A body that can be shared: its path, its format or for whom it is, and whether it is compressed."""


class Application(Protocol):
    """What is served. `daemon.serve` implements it."""

    def scrape(self, path: str, format: Format, /) -> Sequence[bytes]:  # noqa: A002
        """The chunks of one page. `path` is that of a Page. Called in a worker thread; may block for seconds."""

    def document(self, *, private: bool, round_trips: bool) -> Sequence[bytes]:
        """The chunks of the status document; `private`: for the Unix socket. As `scrape`, in a worker thread."""

    def pause(self, asked: Mapping[str, str]) -> str:
        """Act on a request to pause probes, of which these are the parameters. Empty if it was done, else one line that
        says why not. Called in the event loop, so it must not block.
        """

    def ready(self) -> str:
        """Empty when ready, else one line why not. Called in the event loop, so it must not block."""

    def allows_host(self, host: str) -> bool:
        """Whether a request over TCP with this header `Host` is answered. Called in the event loop."""

    def last(self) -> Document | None:
        """The status document as it was last known, with round trips, for the page; None before anything is known.
        Called in a worker thread; must not wait for a source.
        """


class Server:
    """`server = Server(app, pages)`, `await server.start(bind(listens))`, and in the end `await server.stop()`.

    `pages` are what `app.scrape` can answer: Page("", ...) at the telemetry path, Page("mdlayher", ...) below it.
    With the telemetry path `/` there is no landing page. A stopped server is not started again.
    """

    def __init__(
        self,
        app: Application,
        pages: Sequence[Page],
        telemetry_path: str = "/metrics",
        limits: Limits | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.addresses: tuple[str, ...] = ()  # where it really listens, known after start()
        self._app = app
        self._limits = limits or Limits()
        self._log = Log(__name__)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="scrape")
        # Bodies that are being made, by page, format and whether they are compressed.
        self._under_way: dict[_Key, asyncio.Task[Body | None]] = {}
        self._problems: dict[str, str] = {}  # the last failure of each page, while it lasts
        self._clients: Clients | None = None
        self._acceptor: Acceptor | None = None
        self._policy = policy or Policy(OPEN)
        self._hint = f"not found; metrics are at {telemetry_path}\n"
        self._page = Landing(telemetry_path, pages, STATUS_PATH)
        self._routes: dict[str, dict[str, _Handler]] = {
            "/": {"GET": self._landing},
            "/-/healthy": {"GET": self._healthy},
            "/-/ready": {"GET": self._ready},
            STATUS_PATH: {"GET": self._status},
            PAUSE_PATH: {"POST": self._pause},
        }
        self._routes |= {asset.path: {"GET": partial(_asset, asset)} for asset in self._page.assets}
        self._compressors = {page.path: Compressor() for page in pages}
        for page in pages:
            self._routes[page.url(telemetry_path)] = {"GET": self._scraper(page.path)}

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that are bound and listening already (listen.bind). The server closes them."""
        self._clients = Clients(self._serve, self._limits, self._may_come_in)
        self.addresses = tuple(describe(sock) for sock in sockets)
        self._acceptor = Acceptor(sockets, self._clients, self._encrypted)

    def use(self, policy: Policy) -> None:
        """Let this decide who may ask from now on. Connections that are there are asked again with each request."""
        before, self._policy = self._policy, policy
        before.close()

    @property
    def policy(self) -> Policy:
        """What decides who may ask."""
        return self._policy

    def _may_come_in(self, certificate: Mapping[str, object] | None) -> bool:
        return self._policy.may_come_in(certificate)

    def _encrypted(self, listening: socket.socket) -> ssl.SSLContext | None:
        return None if listening.family == AF_UNIX else self._policy.tls

    async def stop(self) -> None:
        """Accept nothing more, give what is being sent `Limits.stop` to finish, then close everything."""
        if self._acceptor is not None and self._clients is not None:
            self._acceptor.close()
            await self._clients.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # Requests

    async def _serve(self, request: Request) -> Response:
        if request.local:
            return await self._route(request)
        policy = self._policy
        try:
            await policy.admit(request.header("Authorization"))
        except Refusal as refusal:
            return _line(refusal.status, refusal.line, refusal.headers | policy.headers)
        if not self._app.allows_host(request.header("Host")):
            return _line(421, "this name is not in web.allowed_hosts of the configuration\n")
        response = await self._route(request)
        return response._replace(headers={**response.headers, **policy.headers}) if policy.headers else response

    async def _route(self, request: Request) -> Response:
        methods = self._routes.get(request.path)
        if methods is None:
            return _line(404, self._hint)
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(sorted(methods.keys() | ({"HEAD"} if "GET" in methods else set())))
            return _line(405, f"method not allowed; use {allowed}\n", {"Allow": allowed})
        return await handler(request)

    async def _landing(self, request: Request) -> Response:
        headers = {**self._page.headers, "Vary": "Accept-Encoding"}
        return await self._answer(request, _PAGE, Telling(Audience.ANYBODY), headers)

    def _html(self) -> tuple[bytes, ...]:
        return (self._page.html(self._app.last(), self._app.ready(), time.time()),)

    async def _healthy(self, _request: Request) -> Response:
        return _line(200, "wg-exporter is healthy.\n")

    async def _ready(self, _request: Request) -> Response:
        problem = self._app.ready()
        if problem:
            return _line(503, f"wg-exporter is not ready: {problem}\n")
        return _line(200, "wg-exporter is ready.\n")

    async def _status(self, request: Request) -> Response:
        problem = self._app.ready()
        if problem:
            return _line(503, f"{problem}\n")
        wish = request.query.get("round_trips", "false")
        if wish not in {"true", "false"}:
            return _line(400, "round_trips is true or false\n")
        told = Telling(Audience.OWNER if request.local else Audience.ANYBODY, wish == "true")
        return await self._answer(request, STATUS_PATH, told, {**_JSON, "Vary": "Accept-Encoding"})

    async def _pause(self, request: Request) -> Response:
        if not request.local:
            return _line(403, "this acts, so it is answered on the Unix socket alone\n")
        problem = self._app.pause(request.query)
        return _line(400 if problem else 200, f"{problem or 'done'}\n")

    def _scraper(self, path: str) -> _Handler:
        async def answer(request: Request) -> Response:
            wanted = choose_format(request.header("Accept"))
            headers = {"Content-Type": wanted.content_type, "Vary": "Accept, Accept-Encoding"}
            return await self._answer(request, path, wanted, headers)

        return answer

    # Bodies that take time

    async def _answer(self, request: Request, path: str, wanted: Format | Telling, headers: dict[str, str]) -> Response:
        gzip = accepts_gzip(request.header("Accept-Encoding"))
        try:
            async with asyncio.timeout(self._limits.scrape):
                body = await self._body((path, wanted, gzip))
        except TimeoutError:
            self._report("scrape does not end", path, None)
            return _line(503, "the scrape does not end; a source of the host is stuck\n")
        if body is None:
            return _line(500, "the scrape failed; the log of wg-exporter says why\n")
        if gzip:
            headers["Content-Encoding"] = "gzip"
        return Response(200, headers, body)

    async def _body(self, key: _Key) -> Body | None:
        """The body of a scrape, None if it failed. All who ask while it is made share it; any of them may leave."""
        making = self._under_way.get(key)
        if making is None:
            making = self._under_way[key] = asyncio.create_task(self._make(*key))
            making.add_done_callback(lambda _: self._under_way.pop(key))
        return await asyncio.shield(making)

    async def _make(self, path: str, wanted: Format | Telling, gzip: bool) -> Body | None:  # noqa: FBT001 - parts of a key
        loop = asyncio.get_running_loop()
        try:
            if gzip:
                plain = await self._body((path, wanted, False))
                if plain is None:
                    return None
                compressor = self._compressors.get(path) or Compressor()  # a document is another each time
                chunks = await loop.run_in_executor(self._pool, compressor.compress, plain.chunks)
            elif path == _PAGE:
                chunks = await asyncio.to_thread(self._html)  # not in the pool: scrapes of a stuck source may fill it
            elif isinstance(wanted, Format):
                chunks = tuple(await loop.run_in_executor(self._pool, self._app.scrape, path, wanted))
            else:
                private, trips = wanted.audience is Audience.OWNER, wanted.round_trips
                make = partial(self._app.document, private=private, round_trips=trips)
                chunks = tuple(await loop.run_in_executor(self._pool, make))
            body = Body(chunks, sum(map(len, chunks)))
        except Exception as error:  # noqa: BLE001 - whatever a scrape raises, the server goes on
            self._report("scrape failed", path, error)
            return None
        self._problems.pop(path, None)
        return body

    def _report(self, event: str, path: str, error: Exception | None) -> None:
        """Log a failure once, until a scrape of the page succeeds or fails in another way."""
        problem = f"{event}: {type(error).__name__}: {error}"
        if self._problems.get(path) != problem:
            self._problems[path] = problem
            self._log.error(event, exc=error, page=path)


async def _asset(asset: Asset, request: Request) -> Response:
    """A file of the page. Its name changes with what is in it, so it is never asked for again."""
    gzip = accepts_gzip(request.header("Accept-Encoding"))
    body = asset.compressed if gzip else asset.plain
    return Response(200, {**asset.headers, "Content-Encoding": "gzip"} if gzip else asset.headers, body)


def _line(status: int, line: str, headers: dict[str, str] | None = None) -> Response:
    text = line.encode()
    return Response(status, _TEXT | (headers or {}), Body((text,), len(text)))
