"""Netlink, as little of it as dumps need: sockets, requests, message and attribute headers, families by name.

pyroute2 enters namespaces for this program, and the tests compare with it. It reads no dumps here: it costs 10 MB and
75 ms at import, 150 µs for each link and 200 µs for each peer at each tick, and it decodes all that a message holds,
private keys included. Here datagrams are received into one buffer, which is wiped after each dump.

Sources: RFC 3549, linux/netlink.h, linux/genetlink.h, net/netlink/af_netlink.c (netlink_dump).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING

from wg_exporter.linux.errors import SourceError
from wg_exporter.model import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

NETLINK_ROUTE = 0
NETLINK_GENERIC = 16

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_MIN_TYPE = 16  # below are the messages of netlink itself
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400

# Attribute types carry two flag bits, "nested" and "network byte order" (linux/netlink.h, NLA_TYPE_MASK).
ATTRIBUTE_TYPE_MASK = 0x3FFF

GENL_ID_CTRL = 16
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID = 1
CTRL_ATTR_FAMILY_NAME = 2

# The kernel fills dump messages up to 32 KiB for a reader whose buffer takes as much. Twice that never cuts one off.
RECEIVE_BUFFER = 64 * 1024

# Sizes that make the kernel cut a dump at other places, tried from the largest down; see `Netlink.cut_differently`.
MOST_ROOM = 31 * 1024
LEAST_ROOM = 20 * 1024

# A dump that the kernel does not answer within this many seconds is given up, so that a socket can't block for ever.
RECEIVE_TIMEOUT = 2

# How many questions are sent at a time: their answers fit into the socket's usual buffer of 208 KiB several times over.
QUESTIONS_AT_ONCE = 32

# How many datagrams of other processes one dump passes over. None is expected; a flood must not hold a read for ever.
MAX_STRAY = 1000

MESSAGE = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
GENERIC = struct.Struct("=BBH")


class DecodeError(SourceError, ValueError):
    """Bytes that are not what the kernel documents. The message never quotes them: they may hold keys."""


class NetlinkError(SourceError):
    """The kernel refused a request; `errno` says why."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number
        if number in (errno.EPERM, errno.EACCES):
            self.failure = Failure.DENIED


class InterruptedDumpError(SourceError):
    """What was dumped changed during the dump, so that the answer is not of one moment; ask again."""


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(data: bytes | bytearray | memoryview, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Walk attributes in `data[start:end]`: (type without flags, start of its payload, end of its payload).

    Raises DecodeError when a length points outside. Type 0 is padding on some machines, and an element of an array.
    """
    while start + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            raise DecodeError("attribute length out of range")
        yield kind & ATTRIBUTE_TYPE_MASK, start + 4, start + length
        start += (length + 3) & ~3
    if start < end:
        raise DecodeError("stray bytes after the last attribute")


def messages(data: bytearray | memoryview, size: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Walk the messages of one datagram: (type, flags, sequence, start of its payload, end of its payload)."""
    start = 0
    while start < size:
        if start + 16 > size:
            raise DecodeError("message header cut short")
        length, kind, flags, sequence, _port = MESSAGE.unpack_from(data, start)
        if length < 16 or start + length > size:
            raise DecodeError("message length out of range")
        yield kind, flags, sequence, start + 16, start + length
        start += (length + 3) & ~3


def open_socket(protocol: int) -> socket.socket:
    """A netlink socket in the network namespace of the calling thread. Raises OSError."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", RECEIVE_TIMEOUT, 0))
    opened.bind((0, 0))
    return opened


class Netlink:
    """A netlink socket for dumps, in the network namespace of the thread that first uses it.

    Not thread-safe. After any error the socket is closed and the next request opens a new one, so that the rest of
    an abandoned dump can never be taken for an answer.
    """

    def __init__(self, protocol: int, open_socket: Callable[[int], socket.socket] = open_socket) -> None:
        self._protocol = protocol
        self._open_socket = open_socket
        self._socket: socket.socket | None = None
        self._sequence = 0
        self._buffer = bytearray()  # there is one while somebody asks
        self._room = RECEIVE_BUFFER

    def close(self) -> None:
        """Close the socket; the next request opens a new one in the namespace of its thread."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def cut_differently(self) -> None:
        """Have the kernel cut its next dumps into messages at other places.

        It fills messages up to the size of the largest buffer that the socket was read with, below 32 KiB.
        """
        self.close()
        self._room = self._room - 1012 if LEAST_ROOM < self._room <= MOST_ROOM else MOST_ROOM

    def dump(self, message_type: int, payload: bytes) -> Generator[tuple[bytearray, int, int]]:
        """Send a dump request and yield (buffer, start, end) of each answer's payload, valid until the next step.

        Raises NetlinkError if the kernel refuses, InterruptedDumpError at the end if the dump was not of one moment,
        SourceError if nothing comes in time, DecodeError if an answer is malformed.
        """
        interrupted = False
        try:
            sequence = self._send(message_type, NLM_F_DUMP, payload)
            for kind, flags, start, end in self._answers(sequence):
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if kind >= NLMSG_MIN_TYPE:
                    yield self._buffer, start, end
        except BaseException:
            self.close()
            raise
        finally:
            self._let_go()
        if interrupted:
            raise InterruptedDumpError("changed while it was read")

    def ask(self, message_type: int, payloads: Sequence[bytes]) -> list[bytes | int]:
        """Ask many questions that have one answer each; in their order, each answer's payload or its error number.

        They are sent many at a time. Raises SourceError if answers don't come.
        """
        found: list[bytes | int] = []
        try:
            for start in range(0, len(payloads), QUESTIONS_AT_ONCE):
                found += self._ask_some(message_type, payloads[start : start + QUESTIONS_AT_ONCE])
        except BaseException:
            self.close()
            raise
        finally:
            self._let_go()
        return found

    def command(self, message_type: int, payload: bytes, flags: int = 0) -> None:
        """Have the kernel do something, and wait until it has. Raises NetlinkError if it refuses, SourceError."""
        try:
            sequence = self._send(message_type, NLM_F_ACK | flags, payload)
            for _answer in self._answers(sequence):
                pass
        except BaseException:
            self.close()
            raise
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Wipe the buffer, which may hold keys, and have none: it is wanted for a moment every few seconds."""
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer = bytearray()

    def _ask_some(self, message_type: int, payloads: Sequence[bytes]) -> list[bytes | int]:
        first = self._sequence + 1
        parts = []
        for at, payload in enumerate(payloads):
            header = MESSAGE.pack(16 + len(payload), message_type, NLM_F_REQUEST, (first + at) & 0xFFFFFFFF, 0)
            parts.append(header + payload + bytes(-len(payload) % 4))
        self._sequence = (self._sequence + len(payloads)) & 0xFFFFFFFF
        self._transmit(b"".join(parts))
        answers: dict[int, bytes | int] = {}
        received = 0
        while len(answers) < len(payloads):
            received += 1
            if received > MAX_STRAY:
                raise SourceError("other processes flood the socket")
            for kind, _flags, sequence, start, end in self._datagram():
                place = (sequence - first) & 0xFFFFFFFF
                if place < len(payloads):
                    error = kind == NLMSG_ERROR
                    answers[place] = self._error(start, end) if error else bytes(self._buffer[start:end])
        return [answers[place] for place in range(len(payloads))]

    def _send(self, message_type: int, flags: int, payload: bytes) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        header = MESSAGE.pack(16 + len(payload), message_type, NLM_F_REQUEST | flags, self._sequence, 0)
        self._transmit(header + payload)
        return self._sequence

    def _transmit(self, datagram: bytes) -> None:
        if not self._buffer:
            self._buffer = bytearray(RECEIVE_BUFFER)
        try:
            if self._socket is None:
                self._socket = self._open_socket(self._protocol)
            self._socket.send(datagram)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO) from None

    def _answers(self, sequence: int) -> Iterator[tuple[int, int, int, int]]:
        """The messages that answer `sequence`, to NLMSG_DONE or an acknowledgement, included."""
        stray = 0
        while stray <= MAX_STRAY:
            stray += 1
            for kind, message_flags, answered, start, end in self._datagram():
                stray = 0
                if answered != sequence:
                    continue
                if kind in (NLMSG_ERROR, NLMSG_DONE) and (number := self._error(start, end)):
                    raise NetlinkError(number)
                yield kind, message_flags, start, end
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    return
        raise SourceError("other processes flood the socket")

    def _datagram(self) -> Iterator[tuple[int, int, int, int, int]]:
        """The messages of the next datagram; none if another process has sent it."""
        assert self._socket is not None  # noqa: S101 - _transmit has opened it
        try:
            size, _ancillary, flags, sender = self._socket.recvmsg_into([memoryview(self._buffer)[: self._room]])
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ETIMEDOUT):
                raise SourceError(f"the kernel did not answer within {RECEIVE_TIMEOUT} s") from None
            if error.errno == errno.ENOBUFS:
                raise InterruptedDumpError("the receive buffer overran") from None
            raise NetlinkError(error.errno or errno.EIO) from None
        if sender[0] != 0:
            return iter(())  # any process may send us a datagram; only port 0 is the kernel
        if flags & socket.MSG_TRUNC:
            raise DecodeError("message larger than the kernel's limit")
        return messages(self._buffer, size)

    def _error(self, start: int, end: int) -> int:
        """NLMSG_ERROR and NLMSG_DONE both start with an error number, negative when something failed. 0 = nothing."""
        if end - start < 4:
            return 0
        (number,) = struct.unpack_from("=i", self._buffer, start)
        return max(-int(number), 0)


class Families:
    """Generic netlink families by name, asked for by a dump of all of them.

    A question for one name makes the kernel run modprobe, each time, if it does not know that name. An exporter must
    load no modules, and running modprobe costs 200 times as much as the question.
    """

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def get(self, name: str) -> int | None:
        """The id of a family, or None where the kernel has no such family, which is normal."""
        request = GENERIC.pack(CTRL_CMD_GETFAMILY, 1, 0)
        wanted = name.encode() + b"\0"
        found = None
        with closing(self._netlink.dump(GENL_ID_CTRL, request)) as answers:
            for data, start, end in answers:
                if data.find(wanted, start, end) < 0:
                    continue
                values = {
                    kind: bytes(data[first:last]) for kind, first, last in attributes(data, start + GENERIC.size, end)
                }
                if values.get(CTRL_ATTR_FAMILY_NAME) == wanted and len(values.get(CTRL_ATTR_FAMILY_ID, b"")) == 2:
                    (found,) = struct.unpack("=H", values[CTRL_ATTR_FAMILY_ID])
        return found
