"""`--pcap`: what was really on the wire, probes and answers, in a file that Wireshark opens.

Packets are taken from packet sockets (packet(7)), not from what the prober meant to send: so addresses, checksums and
fragments are the kernel's, and so are the times. One socket listens at all interfaces of a namespace. A filter in the
kernel leaves only what can be a probe or its answer, and of these only what carries (or quotes, or is a later fragment
of what carries) the token of one of our probes is written.

The file is pcapng with the link type of `tcpdump -i any` (LINKTYPE_LINUX_SLL): tunnels have no Ethernet headers, and of
raw IP packets (LINKTYPE_RAW) libpcap 1.10.3 reads no more than one interface. Each interface there is a real one and
says on which side of the encryption it is: `wg0 (inner)`, `eth0 (outer)`. scapy writes it, and is imported only here:
that takes half a second.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.cli.mtu.frames import FRAGMENT, ICMP, ICMPV6, UDP, Fragments
from wg_exporter.cli.mtu.results import CheckError
from wg_exporter.prober.mtu.probes import Layer
from wg_exporter.prober.wire.in_flight import FIRST_PORT, PORTS
from wg_exporter.prober.wire.sockets import SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_TIMESTAMPNS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path
    from typing import Any

    from wg_exporter.prober.wire.sockets import Opener

LINKTYPE_LINUX_SLL = 113
ETH_P_ALL = 0x0003  # what leaves, too
SOL_PACKET, PACKET_STATISTICS, PACKET_OUTGOING = 263, 6, 4
BUFFER = 16 << 20  # bytes for each socket: what comes between two calls of `drain`
LARGEST = 65_536
MOST_AT_ONCE = 8_192  # packets read in a row from one socket

_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_STAMP = struct.Struct("@ll")
_DROPS = struct.Struct("@II")  # struct tpacket_stats
_COOKED = struct.Struct("!HHH8sH")  # the header of LINKTYPE_LINUX_SLL, which has the fields of struct sockaddr_ll
_INBOUND, _OUTBOUND = 1, 2  # directions (pcapng, epb_flags)


class CaptureError(CheckError):
    """The capture can't be made. The message is one line."""


class Caught(NamedTuple):
    """One packet, from its IP header on; `stamp` is wall-clock seconds, `header` what a capture file has before it."""

    stamp: float
    interface: str
    layer: Layer
    outgoing: bool
    data: bytes
    header: bytes


class _Frame(bytes):
    """A packet as scapy's writer takes it: bytes with what else is to be written."""

    time: float
    sniffed_on: str
    direction: int


class Capture:
    """A capture file and the sockets that feed it. `listen`, then `drain` many times a second, then `close`."""

    def __init__(self, path: Path, open_socket: Opener) -> None:
        """Create or empty the file. Raises CaptureError where it is no regular file, or can't be written."""
        self._path = path
        self._open_socket = open_socket
        self._sockets: list[tuple[socket.socket, frozenset[str]]] = []
        self._fragments = Fragments()
        self.packets = self.dropped = 0  # written, and lost because nobody read them in time
        self._writer = _writer(path)

    def listen(self, netns: str, tunnels: Collection[str]) -> None:
        """Take packets in this namespace; what passes an interface of `tunnels` is inside. Raises CaptureError."""
        try:
            sock = self._open_socket(netns, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        except OSError as error:
            raise CaptureError(f"cannot capture: {error.strerror or error}; this needs CAP_NET_RAW") from None
        self._sockets.append((sock, frozenset(tunnels)))
        try:
            _prepare(sock)
        except OSError as error:
            raise CaptureError(f"cannot capture: {error.strerror or error}") from None

    def drain(self, ours: Callable[[int], bool]) -> None:
        """Write what has come since the last call and is ours, in the order of time. Raises CaptureError.

        `ours` tells whether a token (64 bits) is that of one of our probes.
        """
        caught = [one for sock, tunnels in self._sockets for one in _read(sock, tunnels)]
        for one in sorted(caught):
            if self._fragments.belong(one.data, ours):
                self._write(one)

    def close(self) -> None:
        """Finish the file. Raises CaptureError where the disk is full."""
        for sock, _tunnels in self._sockets:
            self.dropped += _DROPS.unpack(sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, _DROPS.size))[1]
            sock.close()
        self._sockets.clear()
        try:
            self._writer.close()
        except OSError as error:
            raise self._unwritten(error) from None

    def _write(self, one: Caught) -> None:
        frame = _Frame(one.header + one.data)
        frame.time = one.stamp
        frame.sniffed_on = f"{one.interface} ({one.layer.value})"
        frame.direction = _OUTBOUND if one.outgoing else _INBOUND
        try:
            self._writer.write_packet(frame)
        except OSError as error:
            raise self._unwritten(error) from None
        self.packets += 1

    def _unwritten(self, error: OSError) -> CaptureError:
        return CaptureError(f"{self._path}: cannot write the capture: {error.strerror}")


def _writer(path: Path) -> Any:
    """scapy's writer, on a file that is surely a regular one: no opening that blocks, nothing written to a device."""
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


def _prepare(sock: socket.socket) -> None:
    program = capture_filter()
    code = ctypes.create_string_buffer(program, len(program))
    where = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, where)
    sock.settimeout(0)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)  # up to net.core.rmem_max
    with suppress(PermissionError):  # beyond it, with CAP_NET_ADMIN
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)


def capture_filter() -> bytes:
    """A filter in classic BPF: ICMP, ICMPv6 and their fragments, and what is sent by UDP to the ports of probes.

    A busy tunnel carries much UDP: it must not wake us. Packets begin with their IP header.
    """
    ld_byte, ld_half_x, ld_word, x_header, x_const, jump = 0x30, 0x48, 0x20, 0xB1, 0x01, 0x05
    mask, equal, at_least, give = 0x54, 0x15, 0x35, 0x06
    packet_type = 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PKTTYPE (linux/filter.h)
    keep, drop = 20, 21  # places in the program
    steps: tuple[tuple[int, int, int, int], ...] = (  # code, constant, where to go if true, where else
        (ld_byte, 0, 0, 0),
        (mask, 0xF0, 0, 0),
        (equal, 0x40, 3, 7),
        (ld_byte, 9, 0, 0),  # the protocol of IPv4
        (equal, ICMP, keep, 5),
        (x_header, 0, 0, 0),
        (equal, UDP, 15, drop),
        (equal, 0x60, 8, drop),
        (ld_byte, 6, 0, 0),  # the next header of IPv6
        (equal, FRAGMENT, 10, 11),
        (ld_byte, 40, 0, 0),  # that of a fragment
        (equal, ICMPV6, keep, 12),
        (equal, UDP, 13, drop),
        (x_const, 40, 0, 0),  # where the UDP header begins
        (jump, 0, 0, 0),  # to the next
        (ld_half_x, 2, 0, 0),  # the destination port
        (at_least, FIRST_PORT, 17, drop),
        (at_least, FIRST_PORT + PORTS, drop, 18),
        (ld_word, packet_type, 0, 0),
        (equal, PACKET_OUTGOING, keep, drop),
        (give, 0x40000, 0, 0),
        (give, 0, 0, 0),
    )
    return b"".join(
        _INSTRUCTION.pack(code, then - here - 1, other - here - 1, constant)
        if code in (equal, at_least)
        else _INSTRUCTION.pack(code, 0, 0, constant)
        for here, (code, constant, then, other) in enumerate(steps)
    )


def _read(sock: socket.socket, tunnels: frozenset[str]) -> list[Caught]:
    """What is there to be read."""
    caught: list[Caught] = []
    while len(caught) < MOST_AT_ONCE:
        try:
            data, ancillary, _flags, address = sock.recvmsg(LARGEST, 64)
        except BlockingIOError:
            break
        except OSError:  # the interface went down or away
            continue
        interface, protocol, kind, hardware, sender = address
        if kind == PACKET_OUTGOING and interface == "lo":  # it comes a second time, as received
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
