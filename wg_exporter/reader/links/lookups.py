"""Which way this host sends a packet: what is asked of the kernel, and what its answers mean. No socket here.

It is the question of `ip route get`. Probes are bound to their device and so pass where users' packets would not; so
the question is asked for a packet that is bound to nothing, in the VRF of the device.

Sources: rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, net/ipv4/route.c (inet_rtm_getroute), net/ipv6/route.c
(inet6_rtm_getroute), net/ipv4/fib_semantics.c (fib_props: which route type gives which error).
"""

from __future__ import annotations

import errno
import struct
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.linux.netlink import DecodeError, attribute, attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RTM_GETLINK, RTM_GETROUTE = 18, 26
RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x1000, 0x2000
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_MULTIPATH, RTA_TABLE = 1, 2, 4, 5, 7, 9, 15
RTA_MARK, RTA_VIA = 16, 18
RTN_LOCAL, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT = 2, 6, 7, 8
IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO = 3, 10, 18
IFLA_INFO_KIND, IFLA_INFO_SLAVE_KIND = 1, 4
MAIN_TABLE = 254

AF_INET, AF_INET6 = 2, 10

NO_ROUTE = frozenset({errno.ENETUNREACH})
REFUSED: Mapping[int, str] = MappingProxyType(
    {errno.EHOSTUNREACH: "unreachable", errno.EACCES: "prohibit", errno.EINVAL: "blackhole"}
)
_REFUSING: Mapping[int, str] = MappingProxyType(
    {RTN_UNREACHABLE: "unreachable", RTN_PROHIBIT: "prohibit", RTN_BLACKHOLE: "blackhole"}
)

RTMSG = struct.Struct("=BBBBBBBBI")  # family, lengths of both prefixes, TOS, table, protocol, scope, type, flags
_IFINFO = struct.Struct("=BxHiII")
_NEXT_HOP = struct.Struct("=HBBi")  # length, flags, weight, interface
_INT = struct.Struct("=i")
_UNSIGNED = struct.Struct("=I")


class Asked(NamedTuple):
    """A packet to `target`, packed: within a VRF or on one link (`master`, 0 = none), with a mark, from an address
    (empty = any).
    """

    target: bytes
    master: int = 0
    mark: int = 0
    source: bytes = b""

    def request(self, flags: int = 0) -> bytes:
        """The payload of RTM_GETROUTE."""
        bits, source_bits = len(self.target) * 8, len(self.source) * 8
        payload = RTMSG.pack(family(self.target), bits, source_bits, 0, 0, 0, 0, 0, RTM_F_LOOKUP_TABLE | flags)
        payload += attribute(RTA_DST, self.target)
        if self.source:
            payload += attribute(RTA_SRC, self.source)
        if self.master:
            payload += attribute(RTA_OIF, _INT.pack(self.master))
        if self.mark:
            payload += attribute(RTA_MARK, _UNSIGNED.pack(self.mark))
        return payload


class Route(NamedTuple):
    """Where a packet goes: `ifindices` are those of all next hops; `gateway` and `source` are packed, or empty."""

    kind: int
    ifindices: tuple[int, ...]
    gateway: bytes
    table: int
    source: bytes = b""


class LinkPlace(NamedTuple):
    """What matters of a link here: its name, its kind, and the VRF that it is in, 0 = none."""

    name: str
    kind: str
    vrf: int


def family(address: bytes) -> int:
    """AF_INET or AF_INET6, by the length of a packed address."""
    return AF_INET6 if len(address) == 16 else AF_INET


def decode_route(answer: bytes) -> Route:
    """An answer to RTM_GETROUTE. Raises DecodeError."""
    if len(answer) < RTMSG.size:
        raise DecodeError("route message cut short")
    _family, _dst, _src, _tos, table, _protocol, _scope, kind, _flags = RTMSG.unpack_from(answer)
    gateway, source, hops = b"", b"", []
    for found, start, end in attributes(answer, RTMSG.size, len(answer)):
        if found == RTA_OIF and end - start == 4:
            hops.append(_INT.unpack_from(answer, start)[0])
        elif found == RTA_GATEWAY:
            gateway = answer[start:end]
        elif found == RTA_PREFSRC:
            source = answer[start:end]
        elif found == RTA_VIA:  # a gateway of the other family: its number comes first
            gateway = answer[start + 2 : end]
        elif found == RTA_TABLE and end - start == 4:
            (table,) = _UNSIGNED.unpack_from(answer, start)
        elif found == RTA_MULTIPATH:
            hops += _next_hops(answer, start, end)
    return Route(kind, tuple(hops), gateway, table, source)


def _next_hops(answer: bytes, start: int, end: int) -> Iterator[int]:
    while start + _NEXT_HOP.size <= end:
        length, _flags, _weight, ifindex = _NEXT_HOP.unpack_from(answer, start)
        if length < _NEXT_HOP.size:
            raise DecodeError("next hop cut short")
        yield ifindex
        start += (length + 3) & ~3


def link_request(ifindex: int) -> bytes:
    """The payload of RTM_GETLINK for one link."""
    return _IFINFO.pack(0, 0, ifindex, 0, 0)


def decode_link(answer: bytes) -> LinkPlace:
    """An answer to RTM_GETLINK. Raises DecodeError."""
    if len(answer) < _IFINFO.size:
        raise DecodeError("link message cut short")
    name = kind = member_of = ""
    master = 0
    for found, start, end in attributes(answer, _IFINFO.size, len(answer)):
        if found == IFLA_IFNAME:
            name = _text(answer[start:end])
        elif found == IFLA_MASTER and end - start == 4:
            (master,) = _INT.unpack_from(answer, start)
        elif found == IFLA_LINKINFO:
            for nested, inner, stop in attributes(answer, start, end):
                if nested == IFLA_INFO_KIND:
                    kind = _text(answer[inner:stop])
                elif nested == IFLA_INFO_SLAVE_KIND:
                    member_of = _text(answer[inner:stop])
    return LinkPlace(name, kind, master if member_of == "vrf" else 0)


def refusal(answer: Route | int) -> str:
    """What stands in the way where no packet is sent at all, with {} for the target; empty where one is, or if it is
    not known.
    """
    if isinstance(answer, Route):
        if answer.kind == RTN_LOCAL:
            return "{} is an address of this host itself"
        kind = _REFUSING.get(answer.kind, "")
    elif answer in NO_ROUTE:
        return "this host has no route to {}"
    else:
        kind = REFUSED.get(answer, "")
    return f"a route or rule of this host refuses packets to {{}} ({kind})" if kind else ""


def detour(route: Route, device: str) -> str:
    """What stands in the way where packets go to another device, with {} for the target."""
    via = f", via {ip_address(route.gateway)}" if len(route.gateway) in (4, 16) else ""
    table = f", table {route.table}" if route.table not in (0, MAIN_TABLE) else ""
    return f"this host sends packets to {{}} out of {device}{via}{table}"


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")
