"""The page at `/`: how the host is, and every peer in words, worst first.

It is for a person who was just woken and holds a phone: what is wrong comes first, with what to do about it. The server
makes a plain table that needs no script. The script (static/page.js) asks `/api/v1/status` for the same again and
again, sorts and filters, and says so when no answer comes.

The page loads its own script and its own style and nothing else, and no script may make HTML of text: its policy says
so to the browser. These files are read when this module is imported: a process that gave up its rights may not be able
to read them any more.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter import __version__
from wg_exporter.events import Level
from wg_exporter.events.words import sentence
from wg_exporter.health.states import State
from wg_exporter.status import words
from wg_exporter.web import peers
from wg_exporter.web.html import Html, Templates, fill, joined, with_code
from wg_exporter.web.response import Body

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.events import Event
    from wg_exporter.status.document import Document

STALE_SECONDS = 30.0
"""The page says that it is old if the devices were last looked at longer ago than this."""

MOST_PROBLEMS = 20
MOST_EVENTS = 20
MOST_OPEN = 10  # peers of which what is wrong stands below them at once; that of others is folded

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_GZIP = 31  # the format of gzip(1), without a time (zlib.h, deflateInit2)
_KEPT = "max-age=31536000, immutable"

_LEVELS = {Level.INFO: "dull", Level.WARN: "odd", Level.ERROR: "bad"}

# The states, as tiles that count them.
_TILES = (
    ("down", "bad"), ("degraded", "odd"), (peers.NOT_KNOWN, "odd"), ("idle", "dull"), ("never", "dull"), ("up", "good"),
)  # fmt: skip

_NOBODY_WAITS = (
    "by default a peer is expected up if it has a persistent keepalive and its file names an endpoint, so a hub whose "
    "branches call in expects nobody; say under `expect` in the configuration whom you wait for"
)
_LINK = Html('<li><a href="{url}">{title}</a> {description}</li>\n')


@dataclass(frozen=True)
class Page:
    """Something to scrape. `path` is relative to the telemetry path, empty for the telemetry path itself."""

    path: str
    title: str
    description: str

    def url(self, telemetry_path: str) -> str:
        """The absolute path under which the page is served."""
        return f"{telemetry_path.rstrip('/')}/{self.path}" if self.path else telemetry_path


class Asset(NamedTuple):
    """A file that the page loads, with the path that it is served at."""

    path: str
    headers: Mapping[str, str]
    plain: Body
    compressed: Body


class Headline(NamedTuple):
    """How the host is in one line; `title` is shorter. `kind` as that of a row."""

    text: str
    title: str
    kind: str


def _read(name: str) -> bytes:
    return (Path(__file__).parent / "static" / name).read_bytes()


def _asset(name: str, content_type: str) -> Asset:
    data = _read(name)
    stem, _, ending = name.partition(".")
    headers = {
        "Content-Type": content_type,
        "Cache-Control": _KEPT,
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    plain, compressed = (Body((body,), len(body)) for body in (data, zlib.compress(data, wbits=_GZIP)))
    return Asset(f"/static/{stem}.{hashlib.sha256(data).hexdigest()[:12]}.{ending}", headers, plain, compressed)


_TEMPLATES = Templates(_read("page.html").decode())
_JS = _asset("page.js", "text/javascript; charset=utf-8")
_CSS = _asset("page.css", "text/css; charset=utf-8")
_ICON = _asset("icon.svg", "image/svg+xml")


class Landing:
    """The page of one server. Its links are made once, the rest for each request. They are relative, for proxies."""

    assets = (_JS, _CSS, _ICON)
    headers: Mapping[str, str] = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": _POLICY,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    def __init__(
        self,
        telemetry_path: str,
        pages: Sequence[Page],
        status_path: str,
        *,
        events_path: str = "/api/v1/events",
        docs: bool = False,
    ) -> None:
        """`docs`: there are some below /docs/."""
        links = [(page.url(telemetry_path), page.title, page.description) for page in pages]
        links.append((status_path, "Status", "all that this page says and more, as JSON"))
        links.append((events_path, "Events", "the last 1,000, as lines of JSON"))
        if docs:
            links.append(("/docs/", "Docs", "each alert, each reason, all settings, of this version"))
        links.append(("/-/healthy", "Healthy", "answers 200 while the process serves"))
        links.append(("/-/ready", "Ready", "answers 200 once the devices were looked at, 503 before that"))
        self._links = joined(
            fill(_LINK, url=f".{url}", title=title, description=description) for url, title, description in links
        )
        self._fixed = {
            "js": f".{_JS.path}",
            "css": f".{_CSS.path}",
            "icon": f".{_ICON.path}",
            "api": f".{status_path}?round_trips=true",
            "journal": f".{events_path}?last={MOST_EVENTS}",
            "version": __version__,
        }

    def html(self, document: Document | None, unready: str, now: float, events: Sequence[Event] = ()) -> bytes:
        """The page. `unready` says in one line why nothing is known, or is empty. `now`: wall clock, seconds. `events`
        are the last ones, the oldest first.
        """
        headline, as_of, texts = Headline(unready or "nothing is known yet", "not ready", "odd"), "", _nothing()
        host = "this host"
        if document and not unready:
            headline, as_of = headline_of(document), f"as of {peers.moment(document.time)}"
            texts = _texts(document, now)
        if document and document.exporter:
            host = document.exporter.host
        page = _TEMPLATES.page(
            title=f"{host}: {headline.title} - wg-exporter",
            host=host,
            as_of=as_of,
            headline=headline.text,
            kind=headline.kind,
            links=self._links,
            events=joined(_event(one) for one in reversed(events[-MOST_EVENTS:])),
            **self._fixed,
            **texts,
        )
        return page.encode()


def headline_of(document: Document) -> Headline:
    """How many of those that should be up are, and what is wrong with the others."""
    every = [peer for device in document.devices for peer in device.peers]
    awaited = Counter(peer.state for peer in every if peer.expected_up)
    states = Counter(peer.state for peer in every if not peer.quiet)
    quiet = sum(1 for peer in every if peer.quiet)
    expected, others = awaited.total(), len(every) - awaited.total()
    down, degraded = states[State.DOWN], states[State.DEGRADED]
    idle, unknown = awaited[State.IDLE], awaited[None]
    ratio = f"{expected - awaited[State.DOWN] - unknown - idle:,} of {expected:,} up"
    if not expected:
        whom = f"of {words.count(others, 'peer')} none is expected up" if others else "no WireGuard peer was found"
        ratio = f"nothing here can page: {whom}"
    more = [f"{down:,} down"] * bool(down)
    more += [f"{degraded:,} degraded"] * bool(degraded)
    more += [f"{idle:,} idle or dead"] * bool(idle)
    more += [f"{unknown:,} not judged yet"] * bool(unknown)
    more += [f"{quiet:,} quiet"] * bool(quiet)
    odd = quiet or degraded or idle or unknown or not expected or any(peers.problems_of(document))
    kind = "bad" if down else "odd" if odd else "good"
    return Headline("; ".join([ratio, *more]), f"{down:,} down" if down else ratio, kind)


def problems_of(document: Document, age: float) -> list[str]:
    """What else has to be said at the top, a line each, of a document that is `age` seconds old."""
    lines = [*peers.problems_of(document)]
    every = [peer for device in document.devices for peer in device.peers]
    if every and not any(peer.expected_up for peer in every):
        lines.append(_NOBODY_WAITS)
    if age > STALE_SECONDS:
        lines.insert(0, f"this page is old: the devices were last looked at {words.ago(int(age))}")
    rest = len(lines) - MOST_PROBLEMS
    return [*lines[:MOST_PROBLEMS], f"and {rest:,} more"] if rest > 0 else lines


def _nothing() -> dict[str, Html]:
    return dict.fromkeys(("problems", "tiles", "peers", "devices"), Html())


def _texts(document: Document, now: float) -> dict[str, Html]:
    age = max(now - document.time, 0.0)
    states = Counter(peer.state or peers.NOT_KNOWN for device in document.devices for peer in device.peers)
    part = _TEMPLATES.part
    twice = {(device.netns, device.interface): peers.names_twice(device) for device in document.devices}
    return {
        "problems": joined(part("problem", text=with_code(line)) for line in problems_of(document, age)),
        "tiles": joined(
            part("tile", state=state, kind=kind if states[state] else "none", number=f"{states[state]:,}")
            for state, kind in _TILES
            if states[state] or state != peers.NOT_KNOWN
        ),
        "peers": joined(
            _peer(
                peers.row_of(peer, device, now, age, twice[device.netns, device.interface]),
                unfolded=at < MOST_OPEN and peer.reason is not None,
            )
            for at, (device, peer) in enumerate(peers.worst_first(document))
        ),
        "devices": joined(
            part("device", kind=kind, place=place, facts=facts)
            for kind, place, facts in map(peers.device_of, document.devices)
        ),
    }


def _event(one: Event) -> Html:
    return _TEMPLATES.part("event", level=_LEVELS[one.level], time=peers.moment(one.time), text=sentence(one))


def _peer(row: peers.Row, *, unfolded: bool) -> Html:
    line, more = Html(), Html()
    if row.line:
        line = _TEMPLATES.part("line", **row.line._asdict())
    if row.summary:
        lines = joined(fill(Html("<p>{line}</p>"), line=with_code(text)) for text in row.lines)
        more = _TEMPLATES.part("more", open=Html(" open" if unfolded else ""), summary=row.summary, lines=lines)
    texts = {name: text for name, text in row._asdict().items() if isinstance(text, str)}
    return _TEMPLATES.part("peer", **texts | {"line": line, "more": more})
