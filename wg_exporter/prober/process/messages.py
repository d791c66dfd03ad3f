"""What the exporter and its prober process say to each other, and how it goes over a socket.

A message is one of a closed set of typed rows, as msgpack with its length in front (4 bytes, big endian). The only
paths in them are those of namespaces in `Setup`, the first message; there are no commands and no code. Both sides check
the types of what they receive; what doesn't fit ends the connection. Peers are known by number (see `pending`).

Large sets are cut into portions, so that taking one does not delay probes.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from wg_exporter.config.probe import ProbeSettings  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.probed import MtuReport, ProbePeer, ProbeStats  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    import socket

PORTION = 500  # peers in a message
LONGEST = 4 << 20  # bytes of a message; one with `PORTION` peers has 200,000
READ_SIZE = 256 << 10  # bytes that are read at once

_LENGTH = struct.Struct("!I")


class _Message(msgspec.Struct, array_like=True, tag=True, forbid_unknown_fields=True):
    pass


class Setup(_Message):
    """The first message: how to probe, and the path of each network namespace by its name."""

    settings: ProbeSettings
    namespaces: dict[str, str]


class Peers(_Message):
    """New or changed peers by number, and the numbers of those that are not probed any more."""

    put: dict[int, ProbePeer]
    gone: tuple[int, ...]


class Counters(_Message):
    """The byte counters (rx, tx) of peers by number, which have just been read."""

    rows: dict[int, tuple[int, int]]


class Results(_Message):
    """What changed of some peers, by number (see `driver.Changes`).

    `delay` is the worst scheduling delay since the last message, in seconds.
    """

    echoes: dict[int, tuple[str, ProbeStats]]
    reports: dict[int, MtuReport | None]
    delay: float


ToProber = Setup | Peers | Counters
FromProber = Results

Incoming = TypeVar("Incoming")


class ConnectionEndedError(Exception):
    """The other side is gone, or sent something that is no message."""


class Connection(Generic[Incoming]):
    """One end of the socket. No call waits."""

    def __init__(self, sock: socket.socket, incoming: type[Incoming]) -> None:
        sock.settimeout(0)
        self._socket = sock
        self._decoder = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._in = bytearray()
        self._out: deque[memoryview] = deque()

    def fileno(self) -> int:
        """For `poll`."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    @property
    def idle(self) -> bool:
        """Whether all has been sent. Only then give more to `send`."""
        return not self._out

    def send(self, message: msgspec.Struct) -> None:
        """Send as much as goes now, and the rest with `flush`. Raises ConnectionEndedError."""
        data = self._encoder.encode(message)
        self._out.append(memoryview(_LENGTH.pack(len(data)) + data))
        self.flush()

    def flush(self) -> None:
        """Go on sending. Raises ConnectionEndedError."""
        while self._out:
            try:
                size = self._socket.send(self._out[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise ConnectionEndedError(str(error)) from None
            self._out[0] = self._out[0][size:]
            if not self._out[0]:
                self._out.popleft()

    def receive(self) -> Incoming | None:
        """The next message, None if it is not here yet. Raises ConnectionEndedError."""
        message = self._next()
        if message is not None:
            return message
        try:
            data = self._socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise ConnectionEndedError(str(error)) from None
        if not data:
            raise ConnectionEndedError("it closed the connection")
        self._in += data
        return self._next()

    def pending(self) -> bool:
        """Whether a whole message was read and waits here, which `poll` can't know."""
        return len(self._in) >= 4 and len(self._in) >= 4 + _LENGTH.unpack_from(self._in)[0]

    def _next(self) -> Incoming | None:
        if len(self._in) < 4:
            return None
        (length,) = _LENGTH.unpack_from(self._in)
        if length > LONGEST:
            raise ConnectionEndedError("a message is too long")
        if len(self._in) < 4 + length:
            return None
        with memoryview(self._in) as view:
            try:
                message = self._decoder.decode(view[4 : 4 + length])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:  # the second is for the name of a row
                raise ConnectionEndedError(f"a message is malformed: {error}") from None
        del self._in[: 4 + length]
        return message
