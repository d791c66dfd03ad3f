"""Which paths there are, by which methods, and who may ask for each. A new path is a `Route` in `Server`'s table.

What only tells is answered to whoever may ask at all. What acts is answered on the Unix socket, which belongs to one
user, and over TCP only where that was switched on. A browser can be lured to send a request to us from another site's
page, with the rights of its user: so what acts is refused where the browser says that it came from elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from wg_exporter.web.response import Body, Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wg_exporter.web.http import Request

Handler = Callable[["Request"], Awaitable[Response]]

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_SAFE = {"GET", "HEAD"}  # they change nothing (RFC 9110, 9.2.1)


class Where(Enum):
    """Where a path is answered; elsewhere the answer is 403."""

    ANYWHERE = auto()
    OWNER = auto()  # on the Unix socket alone
    LIFECYCLE = auto()  # on the Unix socket, and over TCP with --web.enable-lifecycle


class Route(NamedTuple):
    """A path, what answers it, by which methods (`GET` is `HEAD` too), and where. `below`: it ends with a slash, and
    all that is below it is answered so, unless it has a route of its own.
    """

    path: str
    answer: Handler
    methods: tuple[str, ...] = ("GET",)
    where: Where = Where.ANYWHERE
    below: bool = False


def line(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """A response of one line, which ends with a newline."""
    body = text.encode()
    return Response(status, {**_TEXT, **(headers or {})}, Body((body,), len(body)))


class Routes:
    """Finds what answers a request, and asks it."""

    def __init__(self, table: Iterable[Route], hint: str, *, lifecycle: bool = False) -> None:
        """Of two routes of one path the later counts. `hint` is the line for all other paths; `lifecycle`: what is
        `Where.LIFECYCLE` is answered over TCP too.
        """
        self._table = {route.path: route for route in table}
        self._below = [route for route in self._table.values() if route.below]
        self._hint = hint
        self._lifecycle = lifecycle

    async def answer(self, request: Request) -> Response:
        """The response, whatever was asked."""
        route = self._table.get(request.path)
        if route is None:
            route = next((one for one in self._below if request.path.startswith(one.path)), None)
        if route is None:
            return line(404, self._hint)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in route.methods:
            allowed = ", ".join(sorted({*route.methods, *(["HEAD"] if "GET" in route.methods else [])}))
            return line(405, f"method not allowed; use {allowed}\n", {"Allow": allowed})
        refusal = self._refusal(route, request)
        return line(403, refusal) if refusal else await route.answer(request)

    def _refusal(self, route: Route, request: Request) -> str:
        if not request.local and route.where is Where.OWNER:
            return "this acts, so it is answered on the Unix socket alone\n"
        if not request.local and route.where is Where.LIFECYCLE and not self._lifecycle:
            return "Lifecycle API is not enabled: start with --web.enable-lifecycle, or ask on the Unix socket\n"
        if request.method not in _SAFE and from_elsewhere(request):
            return "this acts, and another site's page asked for it\n"
        return ""


def from_elsewhere(request: Request) -> bool:
    """Whether a browser sent this request for a page of another site. What is no browser sends neither header
    (https://www.w3.org/TR/fetch-metadata, RFC 6454).
    """
    site = request.header("Sec-Fetch-Site")
    if site:
        return site not in {"same-origin", "none"}
    origin = request.header("Origin")
    if not origin:
        return False
    try:
        return urlsplit(origin).netloc.lower() != request.header("Host").lower()
    except ValueError:
        return True
