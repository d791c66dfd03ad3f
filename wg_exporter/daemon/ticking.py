"""The thread in which an exporter ticks. It holds no reference to it, which would keep a dropped exporter alive."""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

from wg_exporter.log import Log
from wg_exporter.sources import StoppedError


class Ticking(Protocol):
    """What ticks."""

    def tick(self) -> None:
        """One tick. It may raise anything: that is logged, and the ticks go on."""

    @property
    def pause(self) -> float:
        """Seconds until the next."""


class Ticker:
    """Has something tick again and again, from `start` to `stop`."""

    def __init__(self, ticking: Ticking) -> None:
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._ticked = threading.Event()
        run = (weakref.ref(ticking), self._stopping, self._hurry, self._ticked)
        self._thread = threading.Thread(target=_run, args=run, name="tick", daemon=True)

    @property
    def ticked(self) -> bool:
        """Whether there was a tick that did not fail."""
        return self._ticked.is_set()

    @property
    def stopping(self) -> bool:
        """Whether no more ticks are wanted."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Tick from now on."""
        self._thread.start()

    def stop(self) -> None:
        """No more ticks. One that is under way goes on."""
        self._stopping.set()
        self._hurry.set()

    def hurry(self) -> None:
        """Let the next tick come at once."""
        self._hurry.set()

    def wait(self, timeout: float) -> bool:
        """Wait for the first tick, for at most `timeout` seconds. Returns whether there was one."""
        return self._ticked.wait(timeout)


def _run(
    reference: weakref.ref[Ticking], stopping: threading.Event, hurry: threading.Event, ticked: threading.Event
) -> None:
    while not stopping.is_set():
        ticking = reference()
        if ticking is None:
            return
        hurry.clear()
        try:
            ticking.tick()
            ticked.set()
        except StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - the ticks must go on
            Log(__name__).error("tick failed", exc=error)
        pause = ticking.pause
        del ticking
        if not stopping.is_set():
            hurry.wait(pause)
