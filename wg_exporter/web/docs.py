"""The docs of this version, below /docs/: a runbook that is there at night, without Internet, and fits the program.

What an alert says leads to /docs/alerts/NAME, and every link from there leads to a page that is served too; what is no
page, such as the alert rules, is below /docs/files/. The texts are read at the start: an upgrade replaces the files
under a program that runs on. They are kept compressed, 180 kB, and made HTML when somebody asks, once each.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import posixpath
import re
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter import __version__, shipped
from wg_exporter.log import Log
from wg_exporter.shipped.links import relinked
from wg_exporter.web.html import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wg_exporter.web.markdown import Renderer

ROOT = "/docs/"
ALERTS = "/docs/alerts/"

MOVED = {"/docs": "docs/", "/docs/alerts": "alerts/"}
"""Paths that somebody may type, and where they lead to, seen from there."""

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:1rem auto 3rem;padding:0 1rem;"
    "color:#222;background:#fff;overflow-wrap:anywhere}h1{font-size:1.4rem}h2{font-size:1.15rem;margin-top:2rem}"
    "h3{font-size:1rem}nav,footer{color:#666;font-size:.9rem}nav a{margin-right:1rem}a{color:#0b5cad}"
    ".wide{overflow-x:auto}pre{background:#f3f3f3;padding:.75rem;white-space:pre-wrap}"
    "code{font-size:.9em}table{border-collapse:collapse;overflow-wrap:normal}"
    "th,td{border:1px solid #ccc;padding:.25rem .5rem;text-align:left;vertical-align:top}li{margin:.25rem 0}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}pre{background:#242424}"
    "nav,footer{color:#999}a{color:#7ab8f5}th,td{border-color:#444}}"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title} - wg-exporter</title>
<style>{style}</style>
</head>
<body>
<nav><a href="{host}">This host</a><a href="{docs}">Docs</a><a href="{alerts}">Alerts</a></nav>
{body}<footer>wg-exporter {version}</footer>
</body>
</html>
"""


class Docs:
    """All pages, by their paths. May be asked by several threads."""

    def __init__(self) -> None:
        """Reads all files, so it has to be made before the rights to do that are given up."""
        self._texts: dict[str, bytes] = {}
        self._titles: dict[str, str] = {}
        self._made: dict[str, bytes] = {}  # compressed
        self._renderer: Renderer | None = None
        self._lock = threading.Lock()
        try:
            for name in (*shipped.pages(), *shipped.FILES):
                self._read(name)
        except shipped.MissingError as error:  # tunnels are watched without docs, too
            Log(__name__).warn("docs are missing", problem=str(error))
        self._paths = {path(name): name for name in self._texts}
        self.paths = frozenset({ROOT, *self._paths})  # everything that is answered, but for MOVED

    def _read(self, name: str) -> None:
        text = shipped.read(name)
        self._texts[name] = zlib.compress(text.encode(), 6)
        if name.endswith(".md"):
            title = re.search(r"^# (.+)$", text, re.MULTILINE)
            self._titles[name] = title[1] if title else name

    @staticmethod
    def needs() -> tuple[Path, ...]:
        """The files of modules that are imported when the first page is asked for."""
        found = importlib.util.find_spec("markdown_it")
        library = [Path(found.origin)] if found and found.origin else []
        return Path(__file__), *library

    def prepare(self) -> Renderer:
        """Import them now, as they can't be read later. Takes 0.1 s and 1 MB."""
        from wg_exporter.web.markdown import Renderer  # noqa: PLC0415 - most processes never need it

        if self._renderer is None:
            self._renderer = Renderer()
        return self._renderer

    def body(self, path: str) -> bytes:
        """What is at one of the `paths`. May take a tenth of a second, the first time."""
        name = self._paths.get(path, "")
        if name and not name.endswith(".md"):
            return zlib.decompress(self._texts[name])
        with self._lock:
            if path not in self._made:
                self._made[path] = zlib.compress(self._page(path, name).encode(), 6)
            return zlib.decompress(self._made[path])

    @staticmethod
    def headers(path: str) -> Mapping[str, str]:
        """The headers of what is there. The policy allows the page's own style, by its hash, and nothing else."""
        text = path.startswith(f"{ROOT}files/")
        digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
        return {
            "Content-Type": f"text/{'plain' if text else 'html'}; charset=utf-8",
            "Content-Security-Policy": (
                f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
                "frame-ancestors 'none'"
            ),
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }

    def _page(self, here: str, name: str) -> str:
        def place(target: str) -> str:
            return _way(here, path(target)) if target in self._texts else ""

        text = zlib.decompress(self._texts[name]).decode() if name else self._index()
        return _PAGE.format(
            title=escape(self._titles.get(name, "Docs")),
            style=_STYLE,
            host=_way(here, "/"),
            docs=_way(here, ROOT),
            alerts=_way(here, ALERTS),
            body=self.prepare().render(relinked(text, name or "docs/README.md", place)),
            version=escape(__version__),
        )

    def _index(self) -> str:
        """The first page, as Markdown."""
        alerts = [name for name in self._titles if name.startswith("docs/alerts/") and name != "docs/alerts/README.md"]
        pages = [name for name in self._titles if not name.startswith("docs/alerts/")]
        files = [name for name in shipped.FILES if name in self._texts]
        lines = [f"# wg-exporter {__version__}", "The docs of the program that runs here.", "## Alerts"]
        lines.append("[All alerts](alerts/README.md): what they are, and how they are set up.")
        lines.append("\n".join(f"- [{self._titles[name]}]({posixpath.relpath(name, 'docs')})" for name in alerts))
        lines.append("## Pages")
        lines.append("\n".join(f"- [{self._titles[name]}]({posixpath.relpath(name, 'docs')})" for name in pages))
        lines.append("## Files of this version")
        lines.append("\n".join(f"- [{name}]({posixpath.relpath(name, 'docs')})" for name in files))
        return "\n\n".join(lines)


def path(name: str) -> str:
    """Where a file is served."""
    if not name.endswith(".md"):
        return f"{ROOT}files/{name}"
    return f"/{name.removesuffix('.md').removesuffix('README')}"


def _way(here: str, there: str) -> str:
    """The link from one path to another, without the host: so it stays right behind a proxy that adds to the path."""
    way = posixpath.relpath(there, posixpath.dirname(here))
    return f"{way}/" if there.endswith("/") else way
