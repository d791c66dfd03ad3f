"""Network interfaces and their counters over rtnetlink, of the network namespace of the calling thread.

Only links that can be WireGuard devices are taken apart. The kernel can filter a dump by kind, but by one alone, and
only if that kind's module is loaded.

Sources: rtnetlink(7), linux/if_link.h (struct rtnl_link_stats64), net/core/rtnetlink.c (rtnl_dump_ifinfo).
"""

from __future__ import annotations

import struct
from contextlib import closing
from typing import TYPE_CHECKING

from wg_exporter.linux.netlink import (
    NETLINK_ROUTE,
    DecodeError,
    InterruptedDumpError,
    Netlink,
    attribute,
    attributes,
    open_socket,
)
from wg_exporter.model import KERNEL_KINDS, USERSPACE_KIND, Link

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

RTM_NEWLINK = 16
RTM_GETLINK = 18
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINKINFO = 18
IFLA_STATS64 = 23
IFLA_INFO_KIND = 1
IFF_UP = 1

# Userspace WireGuard (wireguard-go, boringtun, amneziawg-go) drives a tun device.
WIREGUARD_KINDS = (*KERNEL_KINDS, USERSPACE_KIND)

ATTEMPTS = 3

_IFINFO = struct.Struct("=BxHiII")
# rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped; newer fields follow.
_STATS64 = struct.Struct("=8Q")


class LinkReader:
    """Reads the links of the given kinds. Not thread-safe: one thread, one namespace."""

    def __init__(
        self, kinds: Sequence[str] = WIREGUARD_KINDS, open_socket: Callable[[int], socket.socket] = open_socket
    ) -> None:
        self._kinds = kinds
        self._names = [kind.encode() + b"\0" for kind in kinds]
        self._netlink = Netlink(NETLINK_ROUTE, open_socket)

    def close(self) -> None:
        """Close the socket, so that the next read opens it in the namespace of its thread."""
        self._netlink.close()

    def read(self) -> list[Link]:
        """All links of the wanted kinds, by index. Link.netns is left empty.

        Raises SourceError (NetlinkError, InterruptedDumpError) if the kernel gives none.
        """
        request = _IFINFO.pack(0, 0, 0, 0, 0)
        if len(self._kinds) == 1:
            request += attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, self._kinds[0].encode()))
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with closing(self._netlink.dump(RTM_GETLINK, request)) as answers:
                    links = list(self._wanted(answers))
            except InterruptedDumpError:
                if attempt == ATTEMPTS:
                    raise
            else:
                return sorted(links, key=lambda link: link.ifindex)
        raise AssertionError("unreachable")

    def _wanted(self, answers: Iterator[tuple[bytearray, int, int]]) -> Iterator[Link]:
        for data, start, end in answers:
            # Most links of a busy host are veths of containers: without a kind of ours in them they are not decoded.
            if any(data.find(kind, start, end) >= 0 for kind in self._names):
                link = decode(data, start, end)
                if link.kind in self._kinds:
                    yield link


def decode(data: bytes | bytearray, start: int, end: int) -> Link:
    """One RTM_NEWLINK message, `data[start:end]` without its netlink header. Raises DecodeError."""
    if end - start < _IFINFO.size:
        raise DecodeError("link message cut short")
    _family, _type, ifindex, flags, _change = _IFINFO.unpack_from(data, start)
    name = kind = ""
    mtu = 0
    stats: tuple[int, ...] = (0,) * 8
    for attr, first, last in attributes(data, start + _IFINFO.size, end):
        if attr == IFLA_IFNAME:
            name = _text(data[first:last])
        elif attr == IFLA_MTU and last - first == 4:
            (mtu,) = struct.unpack_from("=I", data, first)
        elif attr == IFLA_STATS64 and last - first >= _STATS64.size:
            stats = _STATS64.unpack_from(data, first)
        elif attr == IFLA_LINKINFO:
            for nested, inner, stop in attributes(data, first, last):
                if nested == IFLA_INFO_KIND:
                    kind = _text(data[inner:stop])
    return Link._make(("", name, ifindex, kind, bool(flags & IFF_UP), mtu, *stats, ()))


def _text(data: bytes | bytearray) -> str:
    return bytes(data).rstrip(b"\0").decode(errors="replace")
