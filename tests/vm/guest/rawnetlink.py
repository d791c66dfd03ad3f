"""Just enough netlink, in raw bytes, to record what the kernel answers and to change a device very quickly."""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NETLINK_GENERIC, NETLINK_ROUTE = 16, 0
RTM_GETLINK, REQUEST, REQUEST_ACK, REQUEST_DUMP = 18, 0x1, 0x5, 0x301
ERROR, DONE, DUMP_INTR = 2, 3, 0x10


class Netlink:
    """Just enough netlink to ask for a dump and keep the raw answer."""

    def __init__(self, protocol: int) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self.socket.settimeout(10)

    def family(self, name: str) -> int:
        """The number of a generic netlink family (CTRL_CMD_GETFAMILY)."""
        label = name.encode() + b"\0"
        request = (
            struct.pack("BBH", 3, 1, 0)
            + struct.pack("HH", 4 + len(label), 2)
            + label.ljust(-len(label) % 4 + len(label), b"\0")
        )
        self._send(16, 1, request)
        answer = self.socket.recv(65536)
        at = 20
        while at < len(answer):
            size, kind = struct.unpack_from("HH", answer, at)
            if kind == 1:
                return struct.unpack_from("H", answer, at + 4)[0]
            at += (size + 3) & ~3
        raise LookupError(name)

    def device(self, family: int, name: str, between: Callable[[int], object] = lambda _: None) -> list[bytes]:
        """WG_CMD_GET_DEVICE by name; `between` is called after each datagram."""
        return self.dump(family, struct.pack("BBH", 0, 1, 0) + _string(2, name), between)

    def dump(self, kind: int, body: bytes, between: Callable[[int], object] = lambda _: None) -> list[bytes]:
        """Every datagram of the answer up to DONE or an error."""
        self._send(kind, REQUEST_DUMP, body)
        datagrams: list[bytes] = []
        while True:
            datagrams.append(self.socket.recv(65536))
            if any(message in (ERROR, DONE) for message, _ in headers(datagrams[-1])):
                return datagrams
            between(len(datagrams))

    def stir(self, family: int, name: str, seconds: float) -> int:
        """Change nothing of a device, again and again (WG_CMD_SET_DEVICE): each time its generation grows, and a dump
        that is under way is marked as interrupted. How many times.
        """
        deadline, count = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            self._send(family, REQUEST_ACK, struct.pack("BBH", 1, 1, 0) + _string(2, name))
            self.socket.recv(65536)
            count += 1
        return count

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        body = body.ljust(-len(body) % 4 + len(body), b"\0")
        self.socket.send(struct.pack("IHHII", 16 + len(body), kind, flags, 1, 0) + body)


def _string(kind: int, text: str) -> bytes:
    """A netlink attribute that holds a string."""
    return struct.pack("HH", 5 + len(text), kind) + text.encode() + b"\0"


def headers(datagram: bytes) -> list[tuple[int, int]]:
    """Type and flags of every message in a datagram."""
    found, at = [], 0
    while at < len(datagram):
        size, kind, flags = struct.unpack_from("IHH", datagram, at)
        found.append((kind, flags))
        at += (size + 3) & ~3
    return found
