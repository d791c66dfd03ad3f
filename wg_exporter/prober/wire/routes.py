"""Asks the kernel which way a packet would take, and how large it may be there: `ip route get`, without the process.

An answer mixes two things that have to be told apart: the MTU that is configured for the route or device (`egress`),
and what the kernel learned from a packet-too-big and will forget (`cached`, a PMTU exception). Over IPv4 an exception
is an MTU with an expiry; over IPv6 it is a route of its own, a clone. An exception hides the MTU of the route that it
was made from, so then the route itself is asked for too (RTM_F_FIB_MATCH).

Over IPv6 a device may have a second, smaller MTU, from router advertisements (RFC 4861, 4.6.4).

Sources: rtnetlink(7), linux/rtnetlink.h, net/ipv4/route.c (rt_fill_info), net/ipv6/route.c (rt6_fill_node),
net/ipv6/addrconf.c (ipv6_store_devconf).
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.netlink import (
    NETLINK_ROUTE,
    NLMSG_MIN_TYPE,
    Netlink,
    NetlinkError,
    attribute,
    attributes,
    open_socket,
)

if TYPE_CHECKING:
    from collections.abc import Callable

RTM_GETLINK, RTM_GETROUTE = 18, 26
NLM_F_ACK = 0x4
RTM_F_CLONED, RTM_F_FIB_MATCH = 0x200, 0x2000
RTN_LOCAL = 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_METRICS, RTA_CACHEINFO, RTA_MARK, RTA_VIA = 1, 4, 5, 8, 12, 16, 18
RTAX_MTU = 2
IFLA_MTU, IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_AF_SPEC, IFLA_INET6_CONF = 4, 18, 1, 26, 2
DEVCONF_MTU6 = 2  # place in the array of 32-bit numbers

_RTMSG = struct.Struct("=BBBBBBBBI")  # family, lengths of both prefixes, TOS, table, protocol, scope, type, flags
_IFINFO = struct.Struct("=BxHiII")
_INT = struct.Struct("=i")
_EXPIRES = struct.Struct("=8xi")  # struct rta_cacheinfo: the third number


class RouteAnswer(NamedTuple):
    """The way to an address. `egress` is the MTU in bytes of the route or of its device, whichever is smaller.

    `cached` is the MTU of a PMTU exception, None without one. `gateway` is packed, empty if the address is on the link.
    """

    ifindex: int
    gateway: bytes
    egress: int
    cached: int | None

    @property
    def size(self) -> int:
        """The largest packet that this host would send this way in one piece, in bytes."""
        return min(self.egress, self.cached or self.egress)

    @property
    def via(self) -> str:
        """Device and gateway as one text, to compare with."""
        family = socket.AF_INET6 if len(self.gateway) == 16 else socket.AF_INET
        return f"{self.ifindex} {socket.inet_ntop(family, self.gateway) if len(self.gateway) in (4, 16) else ''}"


class _Found(NamedTuple):
    """One answer to RTM_GETROUTE. `mtu` 0 = the route has none of its own."""

    ifindex: int
    gateway: bytes
    mtu: int
    exception: bool


class Routes(Netlink):
    """Asks for routes in one network namespace. Not thread-safe; after an error it opens a new socket."""

    def __init__(self, open_socket: Callable[[int], socket.socket] = open_socket) -> None:
        super().__init__(NETLINK_ROUTE, open_socket)

    def look_up(self, address: bytes, mark: int = 0, ifindex: int = 0) -> RouteAnswer:
        """The way to a packed address for packets with this firewall mark; by this device only, if one is given.

        Raises OSError with the reason: ENETUNREACH where there is no route.
        """
        try:
            found = self._route(address, mark, ifindex, 0)
            base = self._route(address, mark, ifindex, RTM_F_FIB_MATCH) if found.exception else found
            device = self._device_mtu(found.ifindex, ipv6=len(address) == 16)
        except NetlinkError as error:
            raise OSError(error.errno, str(error)) from None
        except SourceError as error:
            raise OSError(errno.EIO, str(error)) from None
        egress = min(base.mtu or device, device)
        return RouteAnswer(found.ifindex, found.gateway, egress, found.mtu if found.exception else None)

    def is_local(self, address: bytes) -> bool:
        """Whether packets to a packed address are for this host itself. Raises OSError."""
        family = socket.AF_INET6 if len(address) == 16 else socket.AF_INET
        request = _RTMSG.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, 0) + attribute(RTA_DST, address)
        try:
            answer = self._ask(RTM_GETROUTE, request)
        except NetlinkError as error:
            raise OSError(error.errno, str(error)) from None
        except SourceError as error:
            raise OSError(errno.EIO, str(error)) from None
        return len(answer) >= _RTMSG.size and _RTMSG.unpack_from(answer)[7] == RTN_LOCAL

    def kind(self, ifindex: int) -> str:
        """The kind of a device as `ip -d link` has it: "wireguard", "tun"; empty = it has none. Raises OSError."""
        try:
            answer = self._ask(RTM_GETLINK, _IFINFO.pack(0, 0, ifindex, 0, 0))
        except SourceError as error:
            raise OSError(errno.ENODEV, str(error)) from None
        for kind, start, end in attributes(answer, _IFINFO.size, len(answer)):
            if kind == IFLA_LINKINFO:
                for inner, first, last in attributes(answer, start, end):
                    if inner == IFLA_INFO_KIND:
                        return answer[first:last].rstrip(b"\0").decode(errors="replace")
        return ""

    def _route(self, address: bytes, mark: int, ifindex: int, flags: int) -> _Found:
        family = socket.AF_INET6 if len(address) == 16 else socket.AF_INET
        request = _RTMSG.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, flags) + attribute(RTA_DST, address)
        if mark:
            request += attribute(RTA_MARK, struct.pack("=I", mark))
        if ifindex:
            request += attribute(RTA_OIF, _INT.pack(ifindex))
        return _found(self._ask(RTM_GETROUTE, request), ipv6=len(address) == 16)

    def _device_mtu(self, ifindex: int, *, ipv6: bool) -> int:
        answer = self._ask(RTM_GETLINK, _IFINFO.pack(0, 0, ifindex, 0, 0))
        mtu, mtu6 = 0, 0
        for kind, start, end in attributes(answer, _IFINFO.size, len(answer)):
            if kind == IFLA_MTU and end - start == 4:
                (mtu,) = _INT.unpack_from(answer, start)
            elif kind == IFLA_AF_SPEC and ipv6:
                mtu6 = _ipv6_mtu(answer, start, end)
        return min(mtu, mtu6) if mtu6 else mtu

    def _ask(self, message_type: int, payload: bytes) -> bytes:
        """The payload of the one answer to a question that isn't a dump. Raises SourceError."""
        answer = b""
        try:
            for kind, _flags, start, end in self._answers(self._send(message_type, NLM_F_ACK, payload)):
                if kind >= NLMSG_MIN_TYPE:
                    answer = bytes(self._buffer[start:end])
        except NetlinkError as error:
            if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH):  # a normal answer: the socket is fine
                self.close()
            raise
        except BaseException:
            self.close()
            raise
        return answer


def _found(answer: bytes, *, ipv6: bool) -> _Found:
    if len(answer) < _RTMSG.size:
        raise SourceError("route message cut short")
    flags = _RTMSG.unpack_from(answer)[-1]
    ifindex = mtu = expires = 0
    gateway = b""
    for kind, start, end in attributes(answer, _RTMSG.size, len(answer)):
        if kind == RTA_OIF and end - start == 4:
            (ifindex,) = _INT.unpack_from(answer, start)
        elif kind == RTA_GATEWAY:
            gateway = answer[start:end]
        elif kind == RTA_VIA:  # a gateway of the other family: its number comes first
            gateway = answer[start + 2 : end]
        elif kind == RTA_METRICS:
            mtu = _mtu_metric(answer, start, end)
        elif kind == RTA_CACHEINFO and end - start >= _EXPIRES.size:
            (expires,) = _EXPIRES.unpack_from(answer, start)
    exception = bool(mtu and (flags & RTM_F_CLONED if ipv6 else expires > 0))
    return _Found(ifindex, gateway, mtu, exception)


def _mtu_metric(answer: bytes, first: int, last: int) -> int:
    for kind, start, end in attributes(answer, first, last):
        if kind == RTAX_MTU and end - start == 4:
            return int(struct.unpack_from("=I", answer, start)[0])
    return 0


def _ipv6_mtu(answer: bytes, first: int, last: int) -> int:
    for family, start, end in attributes(answer, first, last):
        if family == socket.AF_INET6:
            for kind, inner, stop in attributes(answer, start, end):
                if kind == IFLA_INET6_CONF and stop - inner >= 12:
                    return int(_INT.unpack_from(answer, inner + 4 * DEVCONF_MTU6)[0])
    return 0
