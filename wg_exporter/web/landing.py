"""The page at `/`: what there is to see and where. Static, without scripts or assets from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from wg_exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;"
    "color:#222;background:#fff}h1{font-size:1.5rem}small{color:#666;font-weight:normal}"
    "dt{margin-top:1rem}dd{margin:0;color:#555}a{color:#0b5cad}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}"
    "dd,small{color:#999}a{color:#7ab8f5}}"
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>wg-exporter</title>
<style>{style}</style>
</head>
<body>
<h1>wg-exporter <small>{version}</small></h1>
<p>Prometheus exporter for WireGuard.</p>
<dl>
{entries}</dl>
</body>
</html>
"""


@dataclass(frozen=True)
class Page:
    """Something to scrape. `path` is relative to the telemetry path, empty for the telemetry path itself."""

    path: str
    title: str
    description: str

    def url(self, telemetry_path: str) -> str:
        """The absolute path under which the page is served."""
        return f"{telemetry_path.rstrip('/')}/{self.path}" if self.path else telemetry_path


def landing_page(telemetry_path: str, pages: Sequence[Page]) -> tuple[bytes, dict[str, str]]:
    """The HTML and its headers. The policy allows the page's own style by its hash, and nothing else."""
    links = [(page.url(telemetry_path), page.title, page.description) for page in pages]
    links.append(("/-/healthy", "Healthy", "answers 200 while the process serves"))
    links.append(("/-/ready", "Ready", "answers 200 once the devices were looked at, 503 before that"))
    entries = "".join(
        f'<dt><a href="{escape(url)}">{escape(title)}</a></dt><dd>{escape(description)}</dd>\n'
        for url, title, description in links
    )
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return _PAGE.format(style=_STYLE, version=escape(__version__), entries=entries).encode(), headers
