"""What this process costs its host, by proc(5)."""

from __future__ import annotations

import os
import resource
import time
from math import inf
from pathlib import Path

from wg_exporter.model import Usage

FRESH = 30.0  # seconds for which an answer is given again: the kernel goes through all pages for it

_SELF = Path("/proc/self")
_PAGE = resource.getpagesize()


class Meter:
    """Reads it, at most once in `FRESH` seconds but for the CPU."""

    def __init__(self) -> None:
        self._usage = Usage()
        self._read_at = float("-inf")

    def read(self) -> Usage:
        """What this process has used; zeros where proc(5) does not say. Of memory that is shared with other processes
        only its part counts (PSS), for the processes of the exporter share a lot.
        """
        now = time.monotonic()
        if now >= self._read_at + FRESH:
            self._read_at = now
            self._usage = _read()
        return self._usage._replace(cpu=time.process_time())


def _read() -> Usage:
    try:
        fields = dict(line.split(":", 1) for line in (_SELF / "smaps_rollup").read_text().splitlines()[1:])
        virtual = int((_SELF / "statm").read_text().split()[0]) * _PAGE
        files = sum(1 for _ in (_SELF / "fd").iterdir())
        return Usage(0.0, int(fields["Pss"].split()[0]) * 1024, virtual, files)
    except (OSError, ValueError, KeyError):
        return Usage()


class Own:
    """What this process has used, as `process_*` metrics have it: all of its resident memory, shared or not."""

    def __init__(self) -> None:
        self._started = _started()

    def read(self) -> tuple[Usage | None, float | None, float]:
        """What it has used, None where proc(5) is out of reach; the wall clock's seconds when it began, None likewise;
        and how many files it may have open (infinity = no limit).
        """
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        try:
            pages = (_SELF / "statm").read_text().split()
            files = sum(1 for _ in (_SELF / "fd").iterdir())
            usage = Usage(time.process_time(), int(pages[1]) * _PAGE, int(pages[0]) * _PAGE, files)
        except (OSError, ValueError, IndexError):
            usage = None
        return usage, self._started, inf if most == resource.RLIM_INFINITY else float(most)


def _started() -> float | None:
    """By the boot's time and the process's ticks since, so that it does not move when the clock is set."""
    try:
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        ticks = (_SELF / "stat").read_text().rpartition(")")[2].split()[19]
        return int(boot.split()[1]) + int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return None
