"""Where a thread is that a test has started: what it waits for may come only once it waits, and it can't say so."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from typing import TYPE_CHECKING

from tests.lab import eventually

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable


def inside(thread: threading.Thread, *functions: Callable[..., object]) -> bool:
    """Whether it is in all of these at the moment, each called by the one before or by what that called."""
    frame = sys._current_frames().get(thread.ident or 0)
    callers = []
    while frame is not None:
        callers.append(frame.f_code)
        frame = frame.f_back
    return all(function.__code__ in callers for function in functions)


def all_wait(threads: Iterable[threading.Thread], function: Callable[..., object]) -> None:
    """Wait until each of them waits in this function for the result of a future."""
    eventually(lambda: all(inside(thread, function, Future.result) for thread in threads), within=30, every=0.002)
