"""`/api/v1/events`: what happened, a line of JSON each; and with `follow=true` what happens, as it does.

Whoever follows is answered for as long as he stays. So he holds none of the places in which scrapes are answered, only
a few may follow at a time, and what he takes too slowly is not kept for him: each time he gets what the journal has.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

from wg_exporter.events.asked import Asked, AskedError, asked
from wg_exporter.web.response import Response, Stream
from wg_exporter.web.routes import line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from wg_exporter.web.bodies import Bodies
    from wg_exporter.web.clients import Clients
    from wg_exporter.web.http import Request

PATH = "/api/v1/events"
BEAT = 15.0  # seconds without an event, after which an empty line says that the exporter lives; proxies give up at 60

_HEADERS = {
    "Content-Type": "application/x-ndjson",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",  # nginx would collect lines before it passes them on
}


class Application(Protocol):
    """What is served, as far as it is events."""

    def events(self, asked: Asked, *, private: bool) -> tuple[bytes, int]:
        """The lines that are asked for, and the number up to which was looked; `private`: for the Unix socket. Called
        in a worker thread; must wait for nothing.
        """

    def allows_host(self, host: str) -> bool:
        """Whether a request over TCP with this header `Host` is answered. Called in the event loop."""


class Events:
    """Answers for the journal. Used in the event loop alone."""

    def __init__(self, app: Application, bodies: Bodies) -> None:
        self._app = app
        self._bodies = bodies
        self._waiting: set[asyncio.Event] = set()
        self._ending = False
        self._beats = 0  # how often all followers were sent a line at once

    def happened(self) -> None:
        """There are new events."""
        for one in self._waiting:
            one.set()

    def end(self) -> None:
        """Nobody follows any longer."""
        self._ending = True
        self.happened()

    async def answer(self, request: Request, clients: Clients) -> Response:
        """The response to a request for events."""
        try:
            wish = asked(request.query)
        except AskedError as error:
            return line(400, f"{error}\n")
        if not wish.follow or request.method == "HEAD":
            make = partial(self._bodies.in_pool, lambda: (self._app.events(wish, private=request.local)[0],))
            variant = (request.local, wish._replace(follow=False))
            return await self._bodies.answer(request, PATH, variant, make, {**_HEADERS, "Vary": "Accept-Encoding"})
        if not clients.may_follow(local=request.local):
            self._beats += 1  # by what is sent to them now those are noticed that have left
            self.happened()
            return line(429, "too many follow the events; try again later, or ask without follow\n")
        return Response(200, dict(_HEADERS), Stream(self._follow(request, wish)))

    async def _follow(self, request: Request, wish: Asked) -> AsyncGenerator[bytes, None]:
        news = asyncio.Event()
        self._waiting.add(news)
        beats = self._beats
        try:
            while not self._ending and (request.local or self._app.allows_host(request.header("Host"))):
                news.clear()
                lines, number = await self._bodies.in_pool(partial(self._app.events, wish, private=request.local))
                # From then on all that comes, however many were wanted at first.
                wish = Asked(after=number)
                if lines or beats != self._beats:
                    yield lines or b"\n"
                beats = self._beats
                try:
                    async with asyncio.timeout(BEAT):
                        await news.wait()
                except TimeoutError:
                    yield b"\n"
        finally:
            self._waiting.discard(news)
