"""Says in a network namespace that somebody counts on an interface, for as long as he lives.

A filter does not tell whether its exporter was killed or is another one that runs. A name among the abstract Unix
sockets does: each network namespace has its own, and the kernel takes a name back with the process (unix(7)).
"""

from __future__ import annotations

import errno
import socket


class Seat:
    """That of one interface, in the network namespace of the calling thread. Not thread-safe."""

    def __init__(self, ifindex: int) -> None:
        self._name = f"\0wg-exporter/accounting/{ifindex}"
        self._socket: socket.socket | None = None

    def take(self) -> bool:
        """Have it from now on. False: somebody else has it. Where no such name can be had, nobody has one."""
        if self._socket is not None:
            return True
        try:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        except OSError:
            return True
        try:
            made.bind(self._name)
        except OSError as error:
            made.close()
            return error.errno != errno.EADDRINUSE
        self._socket = made
        return True

    def leave(self) -> None:
        """Leave it to others."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
