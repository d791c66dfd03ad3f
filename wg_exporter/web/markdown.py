"""From the Markdown of our docs to HTML: by markdown-it, with what a page on a phone needs around tables and headings.

The text is ours. Even so nothing of it gets through as HTML that it did not make: tags in it are left out, and so are
styles, which the policy of the page would forbid anyway.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token


class Renderer:
    """Renders pages. Not for two threads at once."""

    def __init__(self) -> None:
        self._markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
        for rule in ("html_block", "html_inline"):
            self._markdown.add_render_rule(rule, _nothing)

    def render(self, text: str) -> str:
        """The HTML of a page, without what belongs around it. Headings have the ids that GitHub gives them."""
        tokens = self._markdown.parse(text)
        ids: set[str] = set()
        for token, following in zip(tokens, [*tokens[1:], None], strict=True):
            if token.type == "heading_open" and following is not None:
                token.attrSet("id", _unique(anchor(following.content), ids))
            elif token.type in {"th_open", "td_open"}:
                token.attrs.pop("style", None)
        html: str = self._markdown.renderer.render(tokens, self._markdown.options, {})
        # A table that is wider than a phone moves by itself, not the page.
        return html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def anchor(heading: str) -> str:
    """The id by which links find a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _unique(name: str, taken: set[str]) -> str:
    number, found = 0, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found


def _nothing(_self: object, _tokens: Sequence[Token], _at: int, _options: object, _env: object) -> str:
    return ""
