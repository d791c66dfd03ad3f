"""What a request is answered with: a body that is there as a whole, or one that comes as it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import AsyncGenerator, Mapping


class Body(NamedTuple):
    """A finished response body in chunks, and its length in bytes."""

    chunks: tuple[bytes, ...]
    length: int


class Stream(NamedTuple):
    """A body that comes bit by bit, and with which the connection ends."""

    parts: AsyncGenerator[bytes, None]


class Response(NamedTuple):
    """What a client is answered with."""

    status: int
    headers: Mapping[str, str]
    body: Body | Stream


def take(views: deque[memoryview], most: int) -> bytes:
    """Take up to `most` bytes from the front."""
    taken = []
    while views and most:
        view = views.popleft()
        if len(view) > most:
            views.appendleft(view[most:])
        taken.append(view[:most])
        most -= len(taken[-1])
    return b"".join(taken)
