"""The open sockets: each is opened when something first leaves by it, and closed when nobody holds it any more.

Otherwise the sockets of a fwmark or namespace that is no longer configured would stay open until the process ends.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING

from wg_exporter.probed import SendError
from wg_exporter.prober.wire.sockets import ProbeSocket, SocketKey, reason

if TYPE_CHECKING:
    from select import epoll

    from wg_exporter.prober.wire.sockets import Opener

REOPEN_AFTER = 2.0  # seconds until a socket that couldn't be opened is tried again
FIRST_PORT, PORTS = 49_152, 16_384  # those that nobody is registered for (RFC 6335, 6)
EPOLLIN = 0x001  # sys/epoll.h


class SocketPool:
    """Sockets by `SocketKey`. Each is registered with `epoll`, to wait for answers.

    `tag` is in all echoes that leave by them, so that their filters know the answers.
    """

    def __init__(self, open_socket: Opener, epoll: epoll) -> None:
        self._open_socket = open_socket
        self._epoll = epoll
        self._open: dict[SocketKey, ProbeSocket] = {}
        self._by_fd: dict[int, ProbeSocket] = {}
        self._failed: dict[SocketKey, tuple[float, SendError]] = {}  # when to try again, and why it failed
        self._holders: Counter[SocketKey] = Counter()
        self.tag = _sixteen_bits()

    def __len__(self) -> int:
        return len(self._open)

    def hold(self, key: SocketKey) -> None:
        """Somebody may send by this socket. It is not opened before that happens."""
        self._holders[key] += 1

    def release(self, key: SocketKey) -> None:
        """One holder less. The socket is closed after the last."""
        self._holders[key] -= 1
        if self._holders[key] <= 0:
            del self._holders[key]
            self._close(key)

    def get(self, key: SocketKey) -> ProbeSocket | SendError:
        """The socket, opened if need be; or why it can't be opened, which is not tried again for `REOPEN_AFTER`."""
        known = self._open.get(key)
        if known is not None:
            return known
        retry_at, failure = self._failed.get(key, (0.0, SendError.OTHER))
        if time.monotonic() < retry_at:
            return failure
        try:
            opened = ProbeSocket(key, self.tag, FIRST_PORT + _sixteen_bits() % PORTS, self._open_socket)
        except OSError as error:
            failure = reason(error)
            self._failed[key] = time.monotonic() + REOPEN_AFTER, failure
            return failure
        self._failed.pop(key, None)
        self._open[key] = self._by_fd[opened.fileno()] = opened
        self._epoll.register(opened.fileno(), EPOLLIN)
        return opened

    def by_fd(self, fd: int) -> ProbeSocket | None:
        """The socket with this file descriptor, if it is one of these."""
        return self._by_fd.get(fd)

    def forget(self, netns: str) -> None:
        """Close the sockets in this namespace, which is gone or was replaced."""
        for key in [key for key in (*self._open, *self._failed) if key.netns == netns]:
            self._close(key)

    def close(self) -> None:
        """Close all."""
        for key in list(self._open):
            self._close(key)

    def _close(self, key: SocketKey) -> None:
        self._failed.pop(key, None)
        known = self._open.pop(key, None)
        if known is not None:
            del self._by_fd[known.fileno()]
            self._epoll.unregister(known.fileno())
            known.close()


def _sixteen_bits() -> int:
    """That nobody can guess. `secrets` would do, but brings `random`, whose state is made anew in each process."""
    return int.from_bytes(os.urandom(2))
