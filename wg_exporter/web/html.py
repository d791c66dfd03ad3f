r"""HTML from templates: text is escaped, unless it is marked as HTML, which only this package does.

A file of HTML has its parts in `<template>` elements, with `{names}` to fill in. The server fills them in here, and a
script in the browser clones the same elements. So a row of a table is written down once. A line of a template that ends
in a backslash goes on in the next.

jinja2 would do it too, but both sides need the bare parts, and then there is nothing left for it but `str.format`.
"""

from __future__ import annotations

import re
from string import Formatter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# `html.escape` does the same, but its module knows all names of HTML's entities: 0.4 MB that stay in memory.
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

_TEMPLATE = re.compile(r'(<template id="([a-z]+)">)(.*?)(</template>)', re.DOTALL)


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


class Templates:
    """A page and its parts, each by the `id` of its `<template>`."""

    def __init__(self, text: str) -> None:
        text = text.replace("\\\n", "")
        self._parts = {name: Html(part) for _, name, part, _ in _TEMPLATE.findall(text)}
        self._page = Html(_TEMPLATE.sub(lambda found: f"{found[1]}{_blank(found[3])}{found[4]}", text))

    def page(self, **texts: str) -> Html:
        """The page with these texts."""
        return fill(self._page, **texts)

    def part(self, name: str, /, **texts: str) -> Html:
        """A part with these texts."""
        return fill(self._parts[name], **texts)


def escape(text: str) -> str:
    """The text as HTML, also as the value of an attribute."""
    return text.translate(_ESCAPED)


def fill(template: Html, /, **texts: str) -> Html:
    """The template with these texts, escaped unless they are HTML. Unprintable characters become U+FFFD."""
    return Html(template.format(**{name: _safe(text) for name, text in texts.items()}))


def joined(parts: Iterable[Html]) -> Html:
    """One after the other."""
    return Html("".join(parts))


def with_code(line: str) -> Html:
    """The line with what stands between backquotes as code."""
    code, plain = Html("<code>{text}</code>"), Html("{text}")
    return joined(fill(code if index % 2 else plain, text=part) for index, part in enumerate(line.split("`")))


def _safe(text: str) -> str:
    if isinstance(text, Html):
        return text
    return escape(
        text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    )


def _blank(part: str) -> str:
    """The part with nothing filled in."""
    return "".join(text for text, *_ in Formatter().parse(part))
