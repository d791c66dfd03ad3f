"""Links of a page, for places where not all that they lead to is there, or has another name.

The pages are written for the checkout. Wherever else they are put, each link to a file has to lead to what stands there
for that file, or has to become plain text.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def relinked(text: str, page: str, place: Callable[[str], str]) -> str:
    """The Markdown of `page` with links that lead to `place(name)`. A link becomes its text, and a picture what it
    shows, where that is empty. Links to other hosts, and to headings of the same page, stay as they are.
    """

    def one(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        path, hash_, anchor = target.partition("#")
        if _ELSEWHERE.match(target) or not path:
            return link[0]
        there = place(posixpath.normpath(posixpath.join(posixpath.dirname(page), path)))
        if there and not picture:
            return f"[{words}]({there}{hash_}{anchor})"
        return f"*Picture: {words}*" if picture else words

    return _LINK.sub(one, text)
