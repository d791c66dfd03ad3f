"""Packets from packet sockets (packet(7)), and a file of them that Wireshark opens: what `mtu` and `diagnose` share.

Packets are not what the prober meant to send: addresses, checksums, fragments and times are the kernel's. One socket
listens at all interfaces of a namespace, behind a filter that the caller gives.

The file is pcapng with the link type of `tcpdump -i any` (LINKTYPE_LINUX_SLL): tunnels have no Ethernet headers, and
libpcap 1.10.3 reads files with raw IP packets (LINKTYPE_RAW) only if they have a single interface. The names of
interfaces in the file say on which side of the encryption they are: `wg0 (inner)`, `eth0 (outer)`. scapy writes the
file, and is imported only here, as that takes half a second.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.prober.mtu.probes import Layer
from wg_exporter.prober.wire.sockets import SO_RCVBUFFORCE, SO_TIMESTAMPNS, attach_filter

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path
    from typing import Any

    from wg_exporter.prober.wire.sockets import Opener

LINKTYPE_LINUX_SLL = 113
ETH_P_ALL = 0x0003  # all protocols, and packets that leave too
SOL_PACKET, PACKET_STATISTICS, PACKET_OUTGOING = 263, 6, 4
PACKET_TYPE = 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PKTTYPE (linux/filter.h): where a filter loads the packet type from
BUFFER = 16 << 20  # bytes for each socket, for what comes between two calls of `caught`
LARGEST = 65_536  # bytes of a packet
MOST_AT_ONCE = 8_192  # packets read in a row from one socket

_STAMP = struct.Struct("@ll")
_DROPS = struct.Struct("@II")  # struct tpacket_stats
_COOKED = struct.Struct("!HHH8sH")  # the header of LINKTYPE_LINUX_SLL, which has the fields of struct sockaddr_ll
_INBOUND, _OUTBOUND = 1, 2  # directions (pcapng, epb_flags)


class CaptureError(Exception):
    """The capture can't be made. The message is one line."""


class Caught(NamedTuple):
    """One packet. `data` begins with its IP header, `header` precedes it in the file; `stamp` is wall-clock seconds."""

    stamp: float
    interface: str
    layer: Layer
    outgoing: bool
    data: bytes
    header: bytes


class _Frame(bytes):
    """A packet as scapy's writer takes it: bytes with attributes."""

    time: float
    sniffed_on: str
    direction: int


class Capture:
    """The sockets, and the file if there is one. `listen`, then `caught` many times a second, then `close`."""

    def __init__(self, path: Path | None, open_socket: Opener) -> None:
        """Create or empty the file. Raises CaptureError where it is no regular file, or can't be written."""
        self._path = path
        self._open_socket = open_socket
        self._sockets: list[tuple[socket.socket, frozenset[str]]] = []
        self.packets = self.dropped = 0  # written, and lost because nobody read them in time
        self._writer = _writer(path) if path else None

    def listen(self, netns: str, tunnels: Collection[str], program: bytes) -> None:
        """Capture in this namespace what the filter passes; packets on the interfaces of `tunnels` are inner ones.

        Raises CaptureError.
        """
        try:
            sock = self._open_socket(netns, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        except OSError as error:
            raise CaptureError(f"cannot capture: {error.strerror or error}; this needs CAP_NET_RAW") from None
        self._sockets.append((sock, frozenset(tunnels)))
        try:
            _prepare(sock, program)
        except OSError as error:
            raise CaptureError(f"cannot capture: {error.strerror or error}") from None

    def caught(self) -> list[Caught]:
        """What has come since the last call, in order of time."""
        return sorted(one for sock, tunnels in self._sockets for one in _read(sock, tunnels))

    def write(self, one: Caught) -> None:
        """Write a packet to the file, if there is one. Raises CaptureError."""
        if self._writer is None:
            return
        frame = _Frame(one.header + one.data)
        frame.time = one.stamp
        frame.sniffed_on = f"{one.interface} ({one.layer.value})"
        frame.direction = _OUTBOUND if one.outgoing else _INBOUND
        try:
            self._writer.write_packet(frame)
        except OSError as error:
            raise self._unwritten(error) from None
        self.packets += 1

    def close(self) -> None:
        """Finish the file. Raises CaptureError where the disk is full."""
        for sock, _tunnels in self._sockets:
            self.dropped += _DROPS.unpack(sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, _DROPS.size))[1]
            sock.close()
        self._sockets.clear()
        if self._writer is None:
            return
        try:
            self._writer.close()
        except OSError as error:
            raise self._unwritten(error) from None

    def _unwritten(self, error: OSError) -> CaptureError:
        return CaptureError(f"{self._path}: cannot write the capture: {error.strerror}")


def _writer(path: Path) -> Any:
    """scapy's writer on a regular file. Raises CaptureError for a file of another kind, which might block."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = "not a regular file" if error.errno in (errno.ENXIO, errno.EISDIR) else error.strerror
        raise CaptureError(f"{path}: cannot write a capture there: {reason}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise CaptureError(f"{path}: cannot write a capture there: not a regular file")
    os.ftruncate(handle, 0)
    from scapy.utils import PcapNgWriter  # noqa: PLC0415 - see above

    writer = PcapNgWriter(handle)  # type: ignore[arg-type] # it calls `open`, which takes both
    writer.linktype = LINKTYPE_LINUX_SLL
    writer.write_header(None)
    return writer


# --- the sockets ----------------------------------------------------------------------------------------------------


def _prepare(sock: socket.socket, program: bytes) -> None:
    attach_filter(sock, program)
    sock.settimeout(0)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)  # up to net.core.rmem_max
    with suppress(PermissionError):  # beyond it, with CAP_NET_ADMIN
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)


def _read(sock: socket.socket, tunnels: frozenset[str]) -> list[Caught]:
    """Read what is there, at most `MOST_AT_ONCE` packets."""
    caught: list[Caught] = []
    while len(caught) < MOST_AT_ONCE:
        try:
            data, ancillary, _flags, address = sock.recvmsg(LARGEST, 64)
        except BlockingIOError:
            break
        except OSError:  # the interface went down or away
            continue
        interface, protocol, kind, hardware, sender = address
        if kind == PACKET_OUTGOING and interface == "lo":  # it is captured again as received
            continue
        layer = Layer.INNER if interface in tunnels else Layer.OUTER
        header = _COOKED.pack(kind, hardware, len(sender), sender[:8], protocol)
        caught.append(Caught(_stamp(ancillary), interface, layer, kind == PACKET_OUTGOING, data, header))
    return caught


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _STAMP.unpack_from(data)
            return float(seconds + nanoseconds * 1e-9)
    return time.time()
