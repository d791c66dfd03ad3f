"""Finds and stops the processes of a lab by a mark in their environment, whoever started them and when.

A file of process ids may be half written when its writer is killed, and ids are used again. A process has the mark from
its first instruction to its last, and no other process has it by accident.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = "WG_EXPORTER_LAB"  # environment variable of every process of a lab; its value is the lab's prefix
STOP_TIMEOUT = 2.0  # seconds from SIGTERM to SIGKILL, and from there to giving up


def stop_marked(prefix: str) -> None:
    """Stops every process that carries this lab prefix: SIGTERM, and SIGKILL for those that stay.

    Signals go through a pidfd that is opened before the mark is read, so a reused pid does no harm.
    """
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    pidfds = [fd for pid in pids if (fd := _open_if_marked(pid, prefix)) is not None]
    try:
        living = pidfds
        for number in (signal.SIGTERM, signal.SIGKILL):
            for fd in living:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)
            living = _still_living(living, STOP_TIMEOUT)
    finally:
        for fd in pidfds:
            os.close(fd)


def _still_living(pidfds: Sequence[int], timeout: float) -> list[int]:
    """Waits at most `timeout` seconds for all to end, and returns those that have not."""
    living = list(pidfds)
    deadline = time.monotonic() + timeout
    while living and (left := deadline - time.monotonic()) > 0:
        poll = select.poll()
        for fd in living:
            poll.register(fd, select.POLLIN)
        ended = {fd for fd, _ in poll.poll(left * 1000)}
        living = [fd for fd in living if fd not in ended]
    return living


def _open_if_marked(pid: int, prefix: str) -> int | None:
    if pid == os.getpid():
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        marked = f"{MARK}={prefix}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        marked = False
    if marked:
        return fd
    os.close(fd)
    return None
