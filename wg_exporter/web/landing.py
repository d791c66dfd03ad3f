"""The page at `/`: who is down or degraded, why and since when, and all others, folded. Without scripts.

It is for a person who was just woken and holds a phone: what is wrong comes first, with a block for each peer, and what
to do about it. All text that is put into it is escaped, unless it is marked as HTML, which only this file does.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass
from html import escape
from time import gmtime, strftime
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STALE_SECONDS = 30.0
"""The page says that it is old if the devices were last looked at longer ago than this."""

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;"
    "color:#222;background:#fff;overflow-wrap:anywhere}h1{font-size:1.25rem}h2{font-size:1.1rem;margin-top:2rem}"
    "small,.more{color:#666;font-weight:normal}.sum{font-size:1.5rem;font-weight:bold;margin:1rem 0 0}"
    ".bad{color:#b00020}.odd{color:#8a5a00}.good{color:#1b6e2c}ul{list-style:none;padding:0}"
    "li{border-left:4px solid;padding:0 .75rem;margin:1rem 0}li>div{color:#222}li .more{color:#666}"
    "table{border-spacing:0}td{padding:.1rem .75rem .1rem 0}summary{margin-top:.5rem}.todo{margin-top:.5rem}"
    "dt{margin-top:1rem}dd{margin:0;color:#555}a{color:#0b5cad}code{font-size:.95em}"
    "@media(prefers-color-scheme:dark){body,li>div{color:#ddd}body{background:#161616}"
    "dd,small,.more,li .more{color:#999}a{color:#7ab8f5}.bad{color:#ff6b6b}.odd{color:#e8b339}.good{color:#6fcf7f}}"
)


@dataclass(frozen=True)
class Page:
    """Something to scrape. `path` is relative to the telemetry path, empty for the telemetry path itself."""

    path: str
    title: str
    description: str

    def url(self, telemetry_path: str) -> str:
        """The absolute path under which the page is served."""
        return f"{telemetry_path.rstrip('/')}/{self.path}" if self.path else telemetry_path


class UnhealthyRow(NamedTuple):
    """A peer that is down (`bad`) or degraded, in words. `since` is in seconds since the epoch, 0 = not known.

    `evidence` is what was seen at `seen` (seconds since the epoch), when the reason was found; it may be later than the
    state. `found` is more evidence, of now. `advice` says what to do, with commands for this peer.
    """

    peer: str
    place: str
    state: str
    reason: str
    evidence: str
    advice: str
    since: float
    bad: bool
    seen: float = 0.0
    found: str = ""


class PeerRow(NamedTuple):
    """One peer in the list of all: `state` is a word, `facts` what else is known, such as its round trip."""

    peer: str
    state: str
    facts: str = ""


class Group(NamedTuple):
    """All peers of one interface."""

    place: str
    peers: tuple[PeerRow, ...]


class Status(NamedTuple):
    """What the page says of the host. `at` is when it was looked at, in seconds since the epoch.

    `expected`, `down`, `degraded` and `open` are numbers of peers; the open ones have no state yet. `unhealthy` names
    the first of those that are down or degraded. `problems` are lines about what could not be read, or matches nothing.
    `groups` has all peers, `others` is the number of those that are not expected up. Of those that are, `idle` ones are
    quiet: nobody knows whether they are dead.
    """

    at: float
    expected: int = 0
    down: int = 0
    degraded: int = 0
    open: int = 0
    unhealthy: tuple[UnhealthyRow, ...] = ()
    problems: tuple[str, ...] = ()
    host: str = ""
    groups: tuple[Group, ...] = ()
    others: int = 0
    idle: int = 0


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ()


_PAGE = _Html("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{host} <small>wg-exporter {version}</small></h1>
{status}<h2>Pages</h2>
<dl>
{entries}</dl>
</body>
</html>
""")
_UNHEALTHY = _Html("""<li class="{style}"><div><b>{peer}</b> on {place}: <b class="{style}">{state}</b>, \
<code>{reason}</code></div><div class="more">{since}</div><div>{evidence}</div>{found}{advice}</li>
""")
_GROUP = _Html("""<details><summary>{place}: {total}</summary>
<table>
{rows}</table>
</details>
""")
_ROW = _Html("<tr><td>{peer}</td><td>{state}</td><td>{facts}</td></tr>\n")


_NOBODY_WAITS = (
    "by default a peer is expected up if it has a persistent keepalive and its file names an endpoint, so a hub whose "
    "branches call in expects nobody; say under `expect` in the configuration whom you wait for"
)


class Landing:
    """The page of one server. Its links are made once, the rest for each request."""

    def __init__(self, telemetry_path: str, pages: Sequence[Page]) -> None:
        links = [(page.url(telemetry_path), page.title, page.description) for page in pages]
        links.append(("/-/healthy", "Healthy", "answers 200 while the process serves"))
        links.append(("/-/ready", "Ready", "answers 200 once the devices were looked at, 503 before that"))
        entry = _Html('<dt><a href="{url}">{title}</a></dt><dd>{description}</dd>\n')
        self._entries = _joined(
            _fill(entry, url=url, title=title, description=description) for url, title, description in links
        )

    def html(self, status: Status, unready: str, now: float) -> bytes:
        """The page. `unready` says in one line why nothing is known yet, or is empty. `now`: wall clock, seconds."""
        said = _fill(_Html('<p class="sum">{text}</p>\n'), text=unready) if unready else _status(status, now)
        host = status.host or "this host"
        title = f"{host}: {'not ready' if unready else _headline(status)} - wg-exporter"
        texts = {"title": title, "host": host, "version": __version__}
        page = _fill(_PAGE, style=_Html(_STYLE), status=said, entries=self._entries, **texts)
        return page.encode()


def headers() -> Mapping[str, str]:
    """The headers of the page. Its policy allows the page's own style, by its hash, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        ),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def _status(status: Status, now: float) -> _Html:
    odd = status.degraded or status.problems or status.idle or not status.expected
    style = "bad" if status.down else "odd" if odd else "good"
    more = [f"{status.down:,} down"] * bool(status.down)
    more += [f"{status.degraded:,} degraded"] * bool(status.degraded)
    more += [f"{status.idle:,} quiet: idle or dead"] * bool(status.idle)
    more += [f"{status.open:,} not judged yet"] * bool(status.open)
    problems = [*status.problems, *([_NOBODY_WAITS] if status.others and not status.expected else [])]
    if now - status.at > STALE_SECONDS:
        problems.insert(0, f"this page is old: the devices were last looked at {_span(now - status.at)} ago")
    left = status.down + status.degraded - len(status.unhealthy)
    parts = [
        _fill(_Html('<p class="sum {style}">{text}</p>\n'), style=style, text="; ".join([_ratio(status), *more])),
        _fill(_Html('<p class="more">{text}; reload for the present state</p>\n'), text=f"At {_moment(status.at)}"),
        *(_fill(_Html('<p class="odd">{text}</p>\n'), text=problem) for problem in problems),
        _Html("<ul>\n") if status.unhealthy else _Html(),
        *(_unhealthy(peer, now) for peer in status.unhealthy),
        _Html("</ul>\n") if status.unhealthy else _Html(),
        _fill(_Html("<p>and {text} more</p>\n"), text=f"{left:,}") if left else _Html(),
        _Html("<h2>All peers</h2>\n") if status.groups else _Html(),
        *map(_group, status.groups),
    ]
    return _joined(parts)


def _headline(status: Status) -> str:
    return f"{status.down:,} down" if status.down else _ratio(status)


def _ratio(status: Status) -> str:
    """How many of those that should be up are."""
    if not status.expected:
        return _idle(status)
    return f"{status.expected - status.down - status.open - status.idle:,} of {status.expected:,} up"


def _group(group: Group) -> _Html:
    """The peers of an interface, folded."""
    numbers = Counter(peer.state for peer in group.peers)
    total = ", ".join(f"{number:,} {state}" for state, number in numbers.most_common())
    rows = _joined(_fill(_ROW, peer=one.peer, state=one.state, facts=one.facts) for one in group.peers)
    return _fill(_GROUP, place=group.place, total=total or "no peers", rows=rows)


def _idle(status: Status) -> str:
    """The headline of a host on which nobody waits for any peer, so that all of them may die unnoticed."""
    whom = "no WireGuard peer was found"
    if status.others:
        whom = f"of {status.others:,} peer{'s' * (status.others != 1)} none is expected up"
    return f"nothing here can page: {whom}"


def _unhealthy(peer: UnhealthyRow, now: float) -> _Html:
    since = (
        f"since {_moment(peer.since)}, {_span(now - peer.since)} ago"
        if peer.since
        else "since before wg-exporter was started"
    )
    seen = (
        f"{_moment(peer.seen)}, {_span(now - peer.seen)} ago" if peer.since and peer.seen > peer.since + 1 else "then"
    )
    return _fill(
        _UNHEALTHY,
        style="bad" if peer.bad else "odd",
        peer=peer.peer,
        place=peer.place,
        state=peer.state,
        reason=peer.reason,
        evidence=peer.evidence,
        since=f"{since}; seen {seen}:",
        found=_fill(_Html("<div>{line}</div>"), line=_with_code(peer.found)) if peer.found else _Html(),
        advice=_fill(_Html('<div class="todo">{line}</div>'), line=_with_code(peer.advice)) if peer.advice else _Html(),
    )


def _with_code(line: str) -> _Html:
    """The line with what stands between backquotes as code."""
    code, plain = _Html("<code>{text}</code>"), _Html("{text}")
    return _joined(_fill(code if index % 2 else plain, text=part) for index, part in enumerate(line.split("`")))


def _fill(template: _Html, **texts: str) -> _Html:
    """The template with these texts, escaped unless they are HTML. Unprintable characters become U+FFFD."""
    return _Html(template.format(**{name: _safe(text) for name, text in texts.items()}))


def _safe(text: str) -> str:
    if isinstance(text, _Html):
        return text
    return escape(
        text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    )


def _joined(parts: Iterable[_Html]) -> _Html:
    return _Html("".join(parts))


def _moment(wall: float) -> str:
    return strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(wall))


def _span(seconds: float) -> str:
    """Seconds in whole units, cut. A larger unit is used from two of it on; a clock that went back gives `0 s`."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
