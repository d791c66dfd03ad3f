"""Reloads as they are asked for, by a signal or over HTTP: one at a time, and each who asks learns how it ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDING = "the exporter is ending"


class Reloads:
    """Used in the event loop alone."""

    def __init__(self, reload: Callable[[], str]) -> None:
        """`reload` is called in a thread. It raises nothing, and returns why nothing has changed, or nothing."""
        self._reload = reload
        self._stopped = False
        self._now: asyncio.Future[str] | None = None
        self._next: asyncio.Future[str] | None = None

    def ask(self) -> asyncio.Future[str]:
        """Reload now or, where one is under way that may have read the file before it was changed, after it. However
        many ask meanwhile, it is one more. All who ask share the future: don't cancel it.
        """
        if self._stopped:
            never = asyncio.get_running_loop().create_future()
            never.set_result(_ENDING)
            return never
        if self._now is None:
            self._now = asyncio.get_running_loop().create_future()
            self._begin()
            return self._now
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    def stop(self) -> None:
        """Begin none any more: whoever would do it ends with the event loop."""
        self._stopped = True

    def _begin(self) -> None:
        asyncio.get_running_loop().run_in_executor(None, self._reload).add_done_callback(self._ended)

    def _ended(self, reloading: asyncio.Future[str]) -> None:
        ended, self._now, self._next = self._now, self._next, None
        if ended is not None and not ended.done():
            ended.set_result(_ENDING if reloading.cancelled() else reloading.result())
        if self._now is not None and self._stopped:
            self._now.set_result(_ENDING)
        elif self._now is not None:
            self._begin()
