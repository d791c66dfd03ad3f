"""The sockets for one network namespace, address family and firewall mark, which all devices share.

A host may have hundreds of WireGuard devices, and the filter of every raw socket runs on every packet that arrives. So
one raw socket serves all devices, and each packet says which device it leaves by (IP_PKTINFO, IPV6_PKTINFO).

- IPv4: IP_HDRINCL, and IP_PMTUDISC_INTERFACE, so that packets with DF that meet a smaller MTU leave no trace in the
  route's PMTU cache, from where they would make the host's own traffic fragment. IPv6 always learns.
- No IP_RECVERR: it makes an error about one target fail the next send to another. The socket gets the same errors as
  ICMP messages, through its filter.
- IP_PKTINFO and IPV6_RECVPKTINFO: the kernel says by which device a packet came. No error about an outer probe is
  believed that came out of a tunnel (`transport`).
- SO_TIMESTAMPNS: the kernel says when a packet arrived, so it may be read later.

Only this module and `engine` send and receive packets.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.probed import SendError
from wg_exporter.prober.wire import bpf, packet

if TYPE_CHECKING:
    from collections.abc import Callable

    Opener = Callable[[str, int, int, int], socket.socket]
    """Opens a socket in a network namespace: (its name, family, type, protocol). Raises OSError."""

# Python 3.13 and older lack most of these: linux/in.h, linux/in6.h, asm-generic/socket.h.
SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_TIMESTAMPNS, SO_MARK = 26, 33, 35, 36
IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVFRAGSIZE = 8, 10, 25
IPV6_MTU_DISCOVER, IPV6_RECVPKTINFO, IPV6_PKTINFO, IPV6_HOPLIMIT = 23, 49, 50, 52
IPV6_DONTFRAG, IPV6_RECVFRAGSIZE = 62, 77
PMTUDISC_INTERFACE = 4

RECEIVE_BUFFER = 4 << 20  # bytes: an answer takes 768 of them, so this holds 5,000
CONTROL = 128  # bytes for what the kernel tells of a packet: a stamp, its device and the size of its fragments
MOST_AT_ONCE = 4096  # packets read in a row, so that a flood does not keep probes from being sent

Ancillary = list[tuple[int, int, bytes]]

_STAMP = struct.Struct("@ll")  # struct timespec
_INT = struct.Struct("@i")
_PKTINFO_V4 = struct.Struct("@i4s4s")  # struct in_pktinfo
_PKTINFO_V6 = struct.Struct("@16sI")  # struct in6_pktinfo

_REASONS = {
    errno.ENODEV: SendError.NO_DEVICE,
    errno.ENXIO: SendError.NO_DEVICE,
    errno.ENETDOWN: SendError.NO_DEVICE,
    errno.ENETUNREACH: SendError.NO_ROUTE,
    errno.EHOSTUNREACH: SendError.NO_ROUTE,
    errno.EDESTADDRREQ: SendError.NO_ROUTE,
    errno.ENOKEY: SendError.NO_KEY,
    errno.EPERM: SendError.NO_PERMISSION,
    errno.EACCES: SendError.NO_PERMISSION,
    errno.ENOBUFS: SendError.NO_BUFFER,
    errno.EAGAIN: SendError.NO_BUFFER,
    errno.ENOMEM: SendError.NO_BUFFER,
    errno.EMSGSIZE: SendError.TOO_BIG,
}


def reason(error: OSError) -> SendError:
    """The SendError for what a send or the opening of a socket raised."""
    return _REASONS.get(error.errno or 0, SendError.OTHER)


class SocketKey(NamedTuple):
    """What packets have to share to leave through one socket. `mark` is the firewall mark, 0 = none."""

    netns: str
    ipv6: bool
    mark: int = 0


class Arrival(NamedTuple):
    """An answer. `stamp` is when the kernel got it (wall clock, seconds; None = it didn't say), `ifindex` the device by
    which it came.

    `data` is what was received: an IPv4 packet, or an ICMPv6 message without IPv6 header. Valid until the next one.
    """

    answer: packet.IcmpAnswer
    stamp: float | None
    data: memoryview
    ifindex: int = 0


class ProbeSocket:
    """A raw socket for echoes and ICMP errors, and for IPv6 a UDP socket once one is needed.

    All echoes carry `tag`; small ones have an even ident, all others an odd one. `port` is the source port of UDP:
    over IPv6, where datagrams need a socket of their own, the kernel chooses it.
    """

    def __init__(self, key: SocketKey, tag: int, port: int, open_socket: Opener) -> None:
        """Raises OSError where there is no permission (CAP_NET_RAW) or no such namespace."""
        self.key = key
        self.tag = tag
        self.port = port
        self._open_socket = open_socket
        self._udp: socket.socket | None = None
        self._buffer = bytearray(packet.LARGEST)
        self._view = memoryview(self._buffer)
        protocol = socket.IPPROTO_ICMPV6 if key.ipv6 else socket.IPPROTO_ICMP
        self._raw = open_socket(key.netns, self._family, socket.SOCK_RAW, protocol)
        try:
            self._attach()
            self._set_options()
        except OSError:
            self._raw.close()
            raise

    def fileno(self) -> int:
        """For `epoll`: readable when an answer is there."""
        return self._raw.fileno()

    def asked(self, answer: packet.IcmpAnswer) -> bool:
        """Whether it may answer an order that left here. Packets from before the filter was attached come here too."""
        return answer.ident == self.port if answer.protocol == packet.UDP else bool(answer.ident & 1)

    def close(self) -> None:
        """Close the sockets."""
        self._raw.close()
        if self._udp is not None:
            self._udp.close()

    def send(self, message: bytes | bytearray, ancillary: Ancillary, address: tuple[str | int, ...]) -> None:
        """Send a whole IPv4 packet or an ICMPv6 message. Raises OSError: see `reason`."""
        self._raw.sendmsg((message,), ancillary, 0, address)

    def send_udp_v6(self, payload: bytearray, ancillary: Ancillary, address: tuple[str | int, ...]) -> None:
        """Send a UDP datagram over IPv6. What is sent back to its port is dropped unseen. Raises OSError."""
        if self._udp is None:
            udp = self._open_socket(self.key.netns, self._family, socket.SOCK_DGRAM, 0)
            udp.settimeout(0)
            attach_filter(udp, bpf.DROP_ALL)
            self._set_v6(udp)
            udp.bind(("::", 0))
            self.port = udp.getsockname()[1]
            self._attach()
            self._udp = udp
        self._udp.sendmsg((payload,), ancillary, 0, address)

    def receive(self) -> Arrival | None:
        """The next answer, None if there is no more. Anything else that was received is skipped."""
        for _ in range(MOST_AT_ONCE):
            try:
                size, ancillary, _, sender = self._raw.recvmsg_into((self._buffer,), CONTROL)
            except OSError:  # nothing there, mostly
                return None
            data = self._view[:size]
            if self.key.ipv6:
                answer = packet.parse_v6(data, socket.inet_pton(socket.AF_INET6, sender[0].partition("%")[0]))
            else:
                answer = packet.parse_v4(data)
            if answer is not None:
                return self._arrival(answer, ancillary, data)
        return None

    def _arrival(self, answer: packet.IcmpAnswer, ancillary: Ancillary, data: memoryview) -> Arrival:
        stamp = None
        ifindex = 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = _STAMP.unpack_from(value)
                stamp = seconds + nanoseconds * 1e-9
            elif level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                (ifindex,) = _INT.unpack_from(value)
            elif level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
                (ifindex,) = _INT.unpack_from(value, 16)
            elif (level, kind) in ((socket.IPPROTO_IP, IP_RECVFRAGSIZE), (socket.IPPROTO_IPV6, IPV6_RECVFRAGSIZE)):
                answer = answer._replace(fragment=_INT.unpack_from(value)[0])
        return Arrival(answer, stamp, data, ifindex)

    @property
    def _family(self) -> int:
        return socket.AF_INET6 if self.key.ipv6 else socket.AF_INET

    def _attach(self) -> None:
        make = bpf.filter_v6 if self.key.ipv6 else bpf.filter_v4
        attach_filter(self._raw, make(self.tag, self.port))

    def _set_options(self) -> None:
        raw = self._raw
        raw.settimeout(0)
        raw.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)  # up to net.core.rmem_max
        with contextlib.suppress(PermissionError):  # beyond it, with CAP_NET_ADMIN
            raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        if self.key.ipv6:
            self._set_v6(raw)
            raw.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVFRAGSIZE, 1)
            raw.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
            return
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        raw.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_INTERFACE)
        raw.setsockopt(socket.IPPROTO_IP, IP_RECVFRAGSIZE, 1)
        raw.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._set_mark(raw)

    def _set_v6(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_INTERFACE)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)  # send refuses what is too big
        self._set_mark(sock)

    def _set_mark(self, sock: socket.socket) -> None:
        if self.key.mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self.key.mark)


def leave_by(ifindex: int, *, ipv6: bool, ttl: int = 0) -> Ancillary:
    """Ancillary data for the device to leave by (0 = as routed) and, for IPv6, the hop limit (0 = the default)."""
    ancillary: Ancillary = []
    if ifindex and ipv6:
        ancillary.append((socket.IPPROTO_IPV6, IPV6_PKTINFO, _PKTINFO_V6.pack(bytes(16), ifindex)))
    elif ifindex:
        ancillary.append((socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO_V4.pack(ifindex, bytes(4), bytes(4))))
    if ttl and ipv6:
        ancillary.append((socket.IPPROTO_IPV6, IPV6_HOPLIMIT, _INT.pack(ttl)))
    return ancillary


def address_for(packed: bytes, ifindex: int, port: int = 0) -> tuple[str | int, ...]:
    """An address for the socket module. A link-local one needs its device."""
    if len(packed) == 4:
        return (socket.inet_ntop(socket.AF_INET, packed), port)
    scope = ifindex if packed[0] == 0xFE and packed[1] & 0xC0 == 0x80 else 0
    return (socket.inet_ntop(socket.AF_INET6, packed), port, 0, scope)


def open_here(netns: str, family: int, kind: int, protocol: int) -> socket.socket:
    """An `Opener` for hosts whose devices are all in our own network namespace. Raises OSError."""
    if netns:
        raise OSError(errno.ENODEV, f"no way into the namespace {netns}")
    return socket.socket(family, kind, protocol)


def attach_filter(sock: socket.socket, program: bytes) -> None:
    """Let the kernel run a program of `bpf` on what this socket would get. Raises OSError."""
    code = ctypes.create_string_buffer(program, len(program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
