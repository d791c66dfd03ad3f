"""The resolver's process where all else is one process: started with the first question, and again when it is gone.

In several processes the supervisor starts it (`supervisor.resolvers`).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])


class OwnResolver:
    """Starts a resolver each time it is called; the one before has ended, or does as nobody holds its socket."""

    def __init__(self) -> None:
        self._before: list[subprocess.Popen[bytes]] = []

    def __call__(self) -> socket.socket:
        """Our end of its socket. It finds modules only where this process does (-P). Raises OSError."""
        self._before = [process for process in self._before if process.poll() is None]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        try:
            with theirs:
                started = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, "-P", "-m", "wg_exporter.resolver", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, "PYTHONPATH": path},
                    start_new_session=True,  # Ctrl-C at the terminal is for us
                )
        except BaseException:
            ours.close()
            raise
        self._before.append(started)
        return ours
