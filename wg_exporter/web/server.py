"""The HTTP server: metrics, a landing page, an API and health checks. What it serves is handed in; WireGuard is unknown
here.

The same server answers on TCP and on a Unix socket: whoever reaches a port is anybody, while our own Unix socket
belongs to one user. `routes` says what is answered where; the table itself is `Server._table`.

A scrape runs in a worker thread, once for all who ask meanwhile: see bodies.py. The limits of clients are in
clients.py.
"""

from __future__ import annotations

import asyncio
import re
import time
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Protocol

from wg_exporter.log import Log
from wg_exporter.status.discovery import at_port
from wg_exporter.web import events, up
from wg_exporter.web.acceptor import Acceptor
from wg_exporter.web.bodies import Bodies, NotKnownError
from wg_exporter.web.clients import Clients, Limits
from wg_exporter.web.docs import MOVED, Docs
from wg_exporter.web.landing import MOST_EVENTS, Landing, Page
from wg_exporter.web.listen import describe
from wg_exporter.web.negotiation import Format, accepts_gzip, choose_format
from wg_exporter.web.passwords import ReplacedError
from wg_exporter.web.policy import OPEN, Policy, Refusal
from wg_exporter.web.response import Body, Response
from wg_exporter.web.routes import Route, Routes, Where, line

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Mapping, Sequence

    from wg_exporter.events import Event
    from wg_exporter.status.document import Document
    from wg_exporter.web.http import Request
    from wg_exporter.web.landing import Asset
    from wg_exporter.web.routes import Handler

__all__ = ["Application", "Format", "Limits", "NotKnownError", "Page", "RefusedError", "Server"]

_PAGE = "/"
STATUS_PATH = "/api/v1/status"
PAUSE_PATH = "/api/v1/pause"
RELOAD_PATH = "/-/reload"
TARGETS_PATH = "/sd"
QUIET_PATH = "/api/v1/quiet"

MOST_RELOADING = 8  # requests that wait for a reload: each is one of the answers that are given at a time

_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_VARIED_JSON = {**_JSON, "Vary": "Accept-Encoding"}


class Audience(Enum):
    """For whom a document is made. All else is for anybody."""

    ANYBODY = auto()
    OWNER = auto()  # who asks over the Unix socket


class RefusedError(Exception):
    """What a request asks for is not done. The message is one line that says why."""


class Application(events.Application, up.Application, Protocol):
    """What is served. `daemon.serve` implements it."""

    def scrape(self, path: str, format: Format, /) -> Sequence[bytes]:  # noqa: A002
        """The chunks of one page. `path` is that of a Page. Called in a worker thread; may block for seconds."""

    def document(self, *, private: bool, round_trips: bool) -> Sequence[bytes]:
        """The chunks of the status document; `private`: for the Unix socket. As `scrape`, in a worker thread."""

    def targets(self) -> bytes:
        """The list of targets for Prometheus, at port 0 (status.discovery.at_port). As `scrape`, in a worker thread.
        Raises NotKnownError.
        """

    def pause(self, asked: Mapping[str, str]) -> str:
        """Act on a request to pause probes, of which these are the parameters. Empty if it was done, else one line that
        says why not. Called in the event loop, so it must not block.
        """

    async def reload(self) -> str:
        """Read the configuration again. Returns why nothing has changed, its problems a line each; empty if it is in
        use. Called in the event loop, so it must not block; it may be cancelled.
        """

    def quiet(self, asked: Mapping[str, str], *, end: bool) -> bytes:
        """Begin or end the quiet of a peer or interface, as these parameters say. Returns what was done, as JSON.
        Called in a thread; may wait for the disk. Raises RefusedError.
        """

    def recent(self, most: int) -> Sequence[Event]:
        """The last events as strangers may see them, the oldest first, for the page. As `last`."""

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
        *,
        lifecycle: bool = False,
        docs: Docs | None = None,
    ) -> None:
        """`lifecycle`: a reload may be asked for over TCP too. `docs` are what is below /docs/."""
        self.addresses: tuple[str, ...] = ()  # where it really listens, known after start()
        self._app = app
        self._limits = limits or Limits()
        self._log = Log(__name__)
        self._bodies = Bodies([page.path for page in pages], self._limits.scrape)
        self._lists = Bodies((), self._limits.scrape, workers=1)  # so that they are not in the way of scrapes
        self._journal = Bodies((), self._limits.scrape, workers=1)  # and these wait for nothing, not even for lists
        self._events = events.Events(app, self._journal)
        self._reloading = 0
        self._clients: Clients | None = None
        self._owner: socket.socket | None = None
        self._acceptor: Acceptor | None = None
        self._policy = policy or Policy(OPEN)
        self._page = Landing(telemetry_path, pages, STATUS_PATH, events_path=events.PATH, docs=docs is not None)
        self._docs = docs
        scrapes = [Route(page.url(telemetry_path), self._scraper(page.path)) for page in pages]
        hint = f"not found; metrics are at {telemetry_path}\n"
        pages_of_docs = [Route(address, self._doc) for address in ((*docs.paths, *MOVED) if docs else ())]
        files = [Route(asset.path, partial(_asset, asset)) for asset in self._page.assets]
        self._routes = Routes([*self._table(), *files, *pages_of_docs, *scrapes], hint, lifecycle=lifecycle)

    def _table(self) -> tuple[Route, ...]:
        """All paths but those of the metrics."""
        return (
            Route("/", self._landing),
            Route("/-/healthy", self._healthy),
            Route("/-/ready", self._ready),
            Route(RELOAD_PATH, self._reload, ("POST", "PUT"), Where.LIFECYCLE),
            Route(STATUS_PATH, self._status),
            Route(events.PATH, self._happened),
            Route(TARGETS_PATH, self._targets),
            Route(up.PATH, partial(up.answer, self._app), below=True),
            Route(PAUSE_PATH, self._pause, ("POST",), Where.OWNER),
            Route(QUIET_PATH, self._quiet, ("POST", "DELETE"), Where.OWNER),
        )

    async def start(self, sockets: Sequence[socket.socket], owner: socket.socket | None = None) -> None:
        """Serve on sockets that are bound and listening already (listen.bind). The server closes them.

        `owner` is the one of them that only the user of this process can reach: who comes by it is asked for nothing.
        A Unix socket that somebody else made, with a mode that we don't know, is like any other.
        """
        self._owner = owner
        self._clients = Clients(self._serve, self._limits, self._may_come_in)
        self.addresses = tuple(describe(sock) for sock in sockets)
        self._acceptor = Acceptor(sockets, self._clients, self._encrypted, owner)

    def use(self, policy: Policy) -> None:
        """Let this decide who may ask from now on. With each request passwords are asked for again; where it is
        encrypted in another way, who is connected has to connect anew.
        """
        before, self._policy = self._policy, policy
        if policy is not before:
            policy.follow(before)
            if self._clients is not None:
                self._clients.end_followers()
        if self._clients is not None and policy.tls is not before.tls:
            at_once = None in {policy.tls, before.tls} or policy.asks_who_comes or before.asks_who_comes
            self._clients.let_go(at_once=at_once)

    def happened(self) -> None:
        """There are new events, for those who follow them. In the event loop."""
        self._events.happened()

    @property
    def policy(self) -> Policy:
        """What decides who may ask."""
        return self._policy

    def _may_come_in(self, certificate: Mapping[str, object] | None) -> bool:
        return self._policy.may_come_in(certificate)

    def _encrypted(self, listening: socket.socket) -> ssl.SSLContext | None:
        return None if listening is self._owner else self._policy.tls

    async def stop(self) -> None:
        """Accept nothing more, give what is being sent `Limits.stop` to finish, then close everything."""
        self._events.end()
        if self._acceptor is not None and self._clients is not None:
            await self._acceptor.close()
            await self._clients.stop()
        self._bodies.close()
        self._lists.close()
        self._journal.close()

    # Requests

    async def _serve(self, request: Request) -> Response:
        if request.local:
            return await self._routes.answer(request)
        policy = self._policy
        try:
            await policy.admit(request.header("Authorization"), request.address)
        except Refusal as refusal:
            return line(refusal.status, refusal.line, refusal.headers | policy.headers)
        except ReplacedError:
            return await self._serve(request)
        if not self._app.allows_host(request.header("Host")):
            return line(421, "this name is not in web.allowed_hosts of the configuration\n")
        response = await self._routes.answer(request)
        return response._replace(headers={**response.headers, **policy.headers}) if policy.headers else response

    async def _landing(self, request: Request) -> Response:
        headers = {**self._page.headers, "Vary": "Accept-Encoding"}
        # Not in the pool: scrapes of a stuck source may fill it.
        return await self._bodies.answer(request, _PAGE, None, lambda: asyncio.to_thread(self._html), headers)

    def _html(self) -> tuple[bytes, ...]:
        recent = self._app.recent(MOST_EVENTS)
        return (self._page.html(self._app.last(), self._app.ready(), time.time(), recent),)

    async def _healthy(self, _request: Request) -> Response:
        return line(200, "wg-exporter is healthy.\n")

    async def _ready(self, _request: Request) -> Response:
        problem = self._app.ready()
        if problem:
            return line(503, f"wg-exporter is not ready: {problem}\n")
        return line(200, "wg-exporter is ready.\n")

    async def _status(self, request: Request) -> Response:
        problem = self._app.ready()
        if problem:
            return line(503, f"{problem}\n")
        wish = request.query.get("round_trips", "false")
        if wish not in {"true", "false"}:
            return line(400, "round_trips is true or false\n")
        audience = Audience.OWNER if request.local else Audience.ANYBODY
        make = partial(self._app.document, private=request.local, round_trips=wish == "true")
        return await self._bodies.answer(
            request, STATUS_PATH, (audience, wish), partial(self._bodies.in_pool, make), _VARIED_JSON
        )

    async def _happened(self, request: Request) -> Response:
        assert self._clients is not None  # noqa: S101 - for the type checker
        return await self._events.answer(request, self._clients)

    async def _targets(self, request: Request) -> Response:
        port = request.query.get("port", "")
        if not (re.fullmatch("[0-9]{1,5}", port) and 1 <= int(port) <= 65535):
            return line(
                400, f"say at which port the peers are to be scraped, from 1 to 65535: {TARGETS_PATH}?port=9100\n"
            )
        return await self._lists.answer(
            request, TARGETS_PATH, int(port), partial(self._at_port, int(port)), _VARIED_JSON
        )

    async def _at_port(self, port: int) -> Sequence[bytes]:
        """There are more ports than anybody can make lists: who asks at once shares one, whatever the port."""

        async def make() -> Sequence[bytes]:
            return await self._lists.in_pool(lambda: (self._app.targets(),))

        found = await self._lists.share(TARGETS_PATH, make)
        return await self._lists.in_pool(lambda: (at_port(found, port),))

    async def _pause(self, request: Request) -> Response:
        problem = self._app.pause(request.query)
        return line(400 if problem else 200, f"{problem or 'done'}\n")

    async def _reload(self, _request: Request) -> Response:
        if self._reloading >= MOST_RELOADING:
            return line(429, "too many wait for a reload\n")
        self._reloading += 1
        try:
            async with asyncio.timeout(self._limits.reload):
                problem = await self._app.reload()
        except TimeoutError:
            return line(503, "the reload has not ended yet; the log of wg-exporter will say how it does\n")
        finally:
            self._reloading -= 1
        if not problem:
            return line(200, "configuration reloaded\n")
        first, *others = problem.split("\n")
        more = f" (and {len(others)} more; the log of wg-exporter has all)" if others else ""
        return line(500, f"configuration not reloaded: {first}{more}\n")

    async def _doc(self, request: Request) -> Response:
        if request.path in MOVED:
            return line(301, "moved\n", {"Location": MOVED[request.path]})
        assert self._docs is not None  # noqa: S101 - for the type checker
        body = partial(self._docs.body, request.path)
        make = partial(asyncio.to_thread, lambda: (body(),))
        headers = {**Docs.headers(request.path), "Vary": "Accept-Encoding"}
        return await self._bodies.answer(request, request.path, Audience.ANYBODY, make, headers)

    async def _quiet(self, request: Request) -> Response:
        try:
            # Not in the pool, which scrapes of a stuck source may fill.
            done = await asyncio.to_thread(self._app.quiet, request.query, end=request.method == "DELETE")
        except RefusedError as error:
            return line(400, f"{error}\n")
        return Response(200, dict(_JSON), Body((done,), len(done)))

    def _scraper(self, path: str) -> Handler:
        async def answer(request: Request) -> Response:
            wanted = choose_format(request.header("Accept"))
            headers = {"Content-Type": wanted.content_type, "Vary": "Accept, Accept-Encoding"}
            make = partial(self._bodies.in_pool, partial(self._app.scrape, path, wanted))
            return await self._bodies.answer(request, path, wanted, make, headers)

        return answer


async def _asset(asset: Asset, request: Request) -> Response:
    """A file of the page. Its name changes with what is in it, so it is never asked for again."""
    gzip = accepts_gzip(request.header("Accept-Encoding"))
    body = asset.compressed if gzip else asset.plain
    return Response(200, {**asset.headers, "Content-Encoding": "gzip"} if gzip else asset.headers, body)
