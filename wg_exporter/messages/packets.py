"""How the exporter talks to the supervisor: one typed message in each packet, and open files beside it (unix(7)).

As in `channel`, the messages of each direction are a closed set, and what is none of them ends the connection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from wg_exporter.messages.channel import CLOSED, ConnectionEndedError, why

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 64 << 10  # bytes of a message; what may be longer goes as an open file
MOST_FILES = 4

Incoming = TypeVar("Incoming")

_LACKING = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)  # of memory, or of files that may be on their way


class FullError(ConnectionEndedError):
    """The other side takes nothing at the moment. `room`: it is room in the socket that is lacking (POLLOUT)."""

    def __init__(self, why: str, *, room: bool) -> None:
        super().__init__(why)
        self.room = room


class Packets(Generic[Incoming]):
    """One end of a SOCK_SEQPACKET pair. No call waits."""

    def __init__(self, sock: socket.socket, incoming: type[Incoming]) -> None:
        sock.settimeout(0)
        self._socket = sock
        self._decoder = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()

    def fileno(self) -> int:
        """For `poll`."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def shut(self) -> None:
        """End the connection for both sides, also for a thread that waits for it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, message: msgspec.Struct, files: Sequence[int] = ()) -> None:
        """Send it, with copies of these open files. Raises ConnectionEndedError; FullError if the other side takes
        nothing at the moment: there is room for a hundred, and it takes them at once unless it hangs.
        """
        try:
            socket.send_fds(self._socket, [self._encoder.encode(message)], list(files))
        except BlockingIOError:
            raise FullError("it does not listen", room=True) from None
        except OSError as error:
            if error.errno in _LACKING:
                raise FullError(why(error), room=False) from None
            raise ConnectionEndedError(why(error)) from None

    def receive(self) -> tuple[Incoming, list[int]] | None:
        """The next message and the files with it, which are the caller's to close; None if it is not here yet.

        Raises ConnectionEndedError.
        """
        try:
            data, files, flags, _address = socket.recv_fds(self._socket, LONGEST, MOST_FILES, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise ConnectionEndedError(why(error)) from None
        wrong = "a message is too long" if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) else ""
        if not data:
            wrong = CLOSED
        if not wrong:
            try:
                return self._decoder.decode(data), files
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                wrong = f"a message is malformed: {error}"
        close_all(files)
        raise ConnectionEndedError(wrong)


def close_all(files: Sequence[int]) -> None:
    """Close these, whatever became of them."""
    for file in files:
        with contextlib.suppress(OSError):
            os.close(file)
