"""How a process is forked off the supervisor, whose signals and open files it must not keep."""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING, Final

import msgspec

from wg_exporter.linux.scarcity import give_back, scarce
from wg_exporter.log import Log, place
from wg_exporter.messages.packets import close_all
from wg_exporter.messages.prober import FromProber, ToProber
from wg_exporter.messages.reader import FromReader, ToReader
from wg_exporter.messages.resolver import FromResolver, ToResolver
from wg_exporter.messages.supervisor import FromSupervisor, ToSupervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HEEDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""The signals for which the supervisor has handlers."""

_MESSAGES: Final = (
    *(ToSupervisor, FromSupervisor, ToReader, FromReader),
    *(ToProber, FromProber, ToResolver, FromResolver),
)


def prepare() -> None:
    """Make what all processes need before the first of them is forked: what is there by then, they share."""
    for messages in _MESSAGES:
        msgspec.msgpack.Decoder(messages)  # what it finds out about a type it keeps with the type
    gc.collect()
    give_back()
    gc.freeze()  # a collection in a child would write to what all of them share


def fork(body: Callable[[], int | None], private: Iterable[int], *, ignore: bool) -> int:
    """Run `body` in a new process, which never returns from here, and has none of the `private` open files. Returns its
    process id. Raises OSError. `ignore`: no signal ends it but SIGKILL; a reload ends nobody.

    Signals that come while it still has our handlers wait: the handlers would eat them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if pid:
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in HEEDED:
            ignored = number == signal.SIGHUP or (ignore and number != signal.SIGCHLD)
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
        close_all(tuple(private))
        code = body() or 0
    except BaseException as error:  # noqa: BLE001 - a traceback would go on in the parent's code
        problem = scarce(error) or f"unexpected {type(error).__name__} in {place(error)}"
        Log(__name__).error("a process failed", problem=problem)
    finally:
        os._exit(code)


def name(number: int) -> str:
    """What a signal is called."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"
