"""`/api/v1/peers/INTERFACE/KEY/up`: whether a peer is up by its fast echoes, in few bytes, at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from wg_exporter.web.routes import line

if TYPE_CHECKING:
    from wg_exporter.web.http import Request
    from wg_exporter.web.response import Response

PATH = "/api/v1/peers/"

_KEY = re.compile("[A-Za-z0-9+/]{43}=")


class Application(Protocol):
    """What is served, as far as it is fast echoes."""

    def up(self, netns: str, interface: str, public_key: str) -> tuple[bool | None, str] | None:
        """Whether a peer is up by its fast echoes, None = not known, and why it is not, which may be empty; or None if
        it has none. Called in the event loop, so it must not block.
        """

    def ready(self) -> str:
        """Empty when ready, else one line why not. Called in the event loop, so it must not block."""


async def answer(app: Application, request: Request) -> Response:
    """The response to a request for one peer."""
    asked = peer_asked(request.path.removeprefix(PATH))
    if asked is None:
        return line(404, f"ask for {PATH}INTERFACE/KEY/up, the key in base64 for URLs or with %2F for /\n")
    found = app.up(request.query.get("netns", ""), *asked)
    if found is None and (problem := app.ready()):  # nobody knows yet who is here
        found = None, problem
    if found is None:
        return line(404, "no such peer of this interface has fast echoes; give it `fast: {}` in the configuration\n")
    is_up, why = found
    state = "up" if is_up else "not known" if is_up is None else "down"
    return line(200 if is_up else 503, f"{state}: {why}\n" if why else f"{state}\n", {"Cache-Control": "no-store"})


def peer_asked(below: str) -> tuple[str, str] | None:
    """Interface and public key of `INTERFACE/KEY/up`, the key in either base64 (RFC 4648, 4 and 5), also without its
    `=`. None if it is something else.
    """
    interface, _, rest = below.partition("/")
    key, _, what = rest.rpartition("/")
    key = key.replace("-", "+").replace("_", "/")
    key += "=" * (len(key) == 43)
    return (interface, key) if interface and what == "up" and _KEY.fullmatch(key) else None
