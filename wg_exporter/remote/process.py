"""What is wanted of a process that was started, whoever started it. `subprocess.Popen` has it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import Protocol

_TO_DIE = 5.0  # seconds for a process that was killed
_OVERSLEPT = 1.0  # seconds: no scheduler is that late


class Process(Protocol):
    """A process that was started. `pid` is for people, and for tests."""

    pid: int

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the number of the signal that ended it. Raises subprocess.TimeoutExpired."""

    def kill(self) -> None:
        """End it at once. Raises PermissionError where that is not permitted."""


def ended(process: Process, timeout: float, why: str) -> str:
    """Wait for the end of a process whose connection is closed, and kill it if it does not end in time. Returns how it
    ended, in words; `why` is what was seen of it before.
    """
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):  # it became another user, and we may not; it ends without us too
            process.kill()
        silent = why.startswith("said nothing")
        how = why if silent else f"did not end ({why})"
        try:
            process.wait(_TO_DIE)
        except subprocess.TimeoutExpired:  # it hangs in the kernel, or nobody is there to kill it or to tell of its end
            return f"{how}, and could not be killed"
        return f"{how}, and was killed"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended ({why}, exit code {code})"


def overslept(until: float, now: float) -> bool:
    """Whether a wait that was to end at `until` ended so late that nobody can have run: then it begins anew.

    A host that is paused, or a group of processes that is stopped, stops the other process too, which must not be taken
    for one that hangs. Both are seconds of one clock.
    """
    return now - until > _OVERSLEPT
