"""How processes of the exporter talk: typed messages over a socket, of a closed set for each direction.

A message goes as msgpack with its length in front (4 bytes, big endian). There are no commands and no code in it. Both
sides check the types of what they receive; what doesn't fit ends the connection.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    import socket

LONGEST = 4 << 20  # bytes of a message, unless a channel says otherwise
CLOSED = "it closed the connection"

READ_SIZE = 256 << 10  # bytes that are read at once

_LENGTH = struct.Struct("!I")

Incoming = TypeVar("Incoming")


class Message(msgspec.Struct, array_like=True, tag=True, forbid_unknown_fields=True):
    """What all messages are made of."""


class ConnectionEndedError(Exception):
    """The other side is gone, or sent something that is no message."""


def why(error: OSError) -> str:
    """Why a connection ended, in words."""
    closed = isinstance(error, BrokenPipeError | ConnectionResetError)
    return CLOSED if closed else error.strerror or str(error)


class Connection(Generic[Incoming]):
    """One end of the socket. No call waits."""

    def __init__(self, sock: socket.socket, incoming: type[Incoming], longest: int = LONGEST) -> None:
        """`longest` is the most bytes that a message may have."""
        sock.settimeout(0)
        self._socket = sock
        self._decoder = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._longest = longest
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
                raise ConnectionEndedError(why(error)) from None
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
            raise ConnectionEndedError(why(error)) from None
        if not data:
            raise ConnectionEndedError(CLOSED)
        self._in += data
        return self._next()

    def pending(self) -> bool:
        """Whether a whole message was read and waits here, which `poll` can't know."""
        return len(self._in) >= 4 and len(self._in) >= 4 + _LENGTH.unpack_from(self._in)[0]

    def _next(self) -> Incoming | None:
        if len(self._in) < 4:
            return None
        (length,) = _LENGTH.unpack_from(self._in)
        if length > self._longest:
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
