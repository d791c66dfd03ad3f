"""Texts as the status document has them: nothing that is no character, and of endpoints what may be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def endpoint(text_: str, wish: str) -> str | None:
    """An endpoint, by what may be told of it: `full`, `address` (without the port) or `off`. None = nothing."""
    if not text_ or wish == "off":
        return None
    return text(text_.rpartition(":")[0].strip("[]") if wish == "address" else text_)


def texts(some: Iterable[str]) -> list[str]:
    """Each of them."""
    return [text(one) for one in some]


def text(some: str) -> str:
    """The text without what is no character (lone surrogates, from names of files), as not every reader takes that."""
    return some if some.isascii() else some.encode("utf-8", "replace").decode()
