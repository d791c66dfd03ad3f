"""Signals before anybody is there to heed them.

Until a program has set its handlers a signal ends it: a reload that comes a second after the start ended the service.
So `serve` holds back what it will heed, as the first thing that it does. The kernel keeps such a signal (signal(7),
"pending"), and delivers it once the handlers are there: nothing is lost, and there is nothing to remember.
"""

from __future__ import annotations

import signal
from typing import Final

HEEDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""To end, to end, and to read the configuration again."""

_MEANT_FOR_OTHERS: Final = (signal.SIGUSR1, signal.SIGUSR2)  # "open your logs again", to most daemons; it ends us


def hold() -> None:
    """Hold back what is heeded, in this thread and in those that it starts; ignore what means nothing to us."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    for number in _MEANT_FOR_OTHERS:
        signal.signal(number, signal.SIG_IGN)


def release() -> None:
    """There are handlers: deliver what came meanwhile, and what will come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
