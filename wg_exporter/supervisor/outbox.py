"""What the supervisor still has to tell the exporter, while that takes nothing: it is stopped, or very busy.

That a process has ended, and who may ask from now on, is never lost: without the first nothing is read any more, and
without the second a password that was changed goes on to be taken. What a later message says anew replaces it, so what
waits is bounded by the processes that there are, and by `full`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.messages.packets import FullError, close_all
from wg_exporter.messages.supervisor import Cost, Reload, ResolverEnded, WebMaterial

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    import msgspec

    class Sender(Protocol):
        """Sends, as `messages.packets.Packets` does."""

        def send(self, message: msgspec.Struct, files: Sequence[int] = ()) -> None:
            """Raises ConnectionEndedError, as FullError if it may be sent later."""


MOST = 32  # messages, above which nothing is answered any more
RETRY = 1.0  # seconds, where it is not room in the socket that is lacking
_LATEST_ALONE = (Reload, Cost, ResolverEnded, WebMaterial)


class _Waiting(NamedTuple):
    message: msgspec.Struct
    files: tuple[int, ...]


class Outbox:
    """Messages in their order, with the files that go along, which it closes once they are sent. For one thread."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._waiting: list[_Waiting] = []
        self.again = inf
        """When to `flush`, monotonic, at the latest; the past: as soon as there is room."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether whoever does not listen must not be answered for now."""
        return len(self._waiting) >= MOST

    @property
    def wants_room(self) -> bool:
        """Whether to `flush` when the socket takes something again."""
        return bool(self._waiting) and self.again == -inf

    def files(self) -> list[int]:
        """The open files that wait, which are nobody else's to have."""
        return [file for one in self._waiting for file in one.files]

    def put(self, message: msgspec.Struct, files: Sequence[int] = ()) -> None:
        """To be sent after what waits; in place of one that says the same and waits too."""
        if isinstance(message, _LATEST_ALONE):
            same = [one for one in self._waiting if type(one.message) is type(message)]
            for one in same:
                close_all(one.files)
            self._waiting = [one for one in self._waiting if one not in same]
        self._waiting.append(_Waiting(message, tuple(files)))

    def flush(self, now: float) -> None:
        """Send what the other side takes. Raises ConnectionEndedError."""
        while self._waiting:
            one = self._waiting[0]
            try:
                self._sender.send(one.message, one.files)
            except FullError as error:
                self.again = -inf if error.room else now + RETRY
                return
            del self._waiting[0]
            close_all(one.files)
        self.again = inf

    def close(self) -> None:
        """Nothing more is sent."""
        for one in self._waiting:
            close_all(one.files)
        self._waiting.clear()
        self.again = inf
