"""What this process costs its host, by proc(5)."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from wg_exporter.model import Usage

FRESH = 30.0  # seconds for which an answer is given again: the kernel goes through all pages for it


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
    directory = Path("/proc/self")
    try:
        fields = dict(line.split(":", 1) for line in (directory / "smaps_rollup").read_text().splitlines()[1:])
        virtual = int((directory / "statm").read_text().split()[0]) * _PAGE
        files = sum(1 for _ in (directory / "fd").iterdir())
        return Usage(0.0, int(fields["Pss"].split()[0]) * 1024, virtual, files)
    except (OSError, ValueError, KeyError):
        return Usage()
