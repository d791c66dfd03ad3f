"""An outage on a schedule, so that an alert is seen to fire and to resolve."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from wg_exporter.cli.netlab import LabError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_AFTER = 60.0  # seconds: time to look at a network that is well
LASTS = 90.0  # seconds: the peer is down after 25 s, and the alert fires at a later scrape
EVERY = 420.0  # seconds: the alert resolves well before the next outage


class Outages:
    """Cuts and heals in a thread of its own, from `start` to `stop`."""

    def __init__(self, cut: Callable[[], None], heal: Callable[[], None], tell: Callable[[str], None]) -> None:
        self._cut, self._heal, self._tell = cut, heal, tell
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outages", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread. What is cut stays cut."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause = FIRST_AFTER
        try:
            while not self._stopping.wait(pause):
                self._cut()
                self._say(f"{_clock()} the office is cut off: WireGuardPeerDown fires within a minute")
                if self._stopping.wait(LASTS):
                    return
                self._heal()
                self._say(f"{_clock()} the office is connected again: the alert resolves within three minutes")
                pause = EVERY - LASTS
        except LabError:  # the network is being taken down
            return

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the reader has left; the cable is connected again all the same
            self._tell(line)


def _clock() -> str:
    return time.strftime("%H:%M:%S")
