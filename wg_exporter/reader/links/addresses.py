"""The addresses of interfaces over rtnetlink, of the network namespace of the calling thread.

An address is written with the prefix length of its subnet, `10.0.0.1/24`, as `ip addr` does. On a point-to-point
interface that length belongs to the *peer's* address: `10.0.0.1 peer 10.0.0.2/32` has no subnet of its own, and becomes
`10.0.0.1/32`. `10.0.0.1/24` for `10.0.0.1 peer 192.0.2.2/24` would invent neighbours. A prefix that holds both ends is
a subnet like any other.

Addresses that are tentative, deprecated or in use elsewhere are in the list too. They are this host's own, so no probe
may aim at them. A WireGuard device has none of these by itself: it has no neighbours to ask (IFF_NOARP).

Sources: rtnetlink(7), linux/if_addr.h, net/ipv4/devinet.c (inet_fill_ifaddr), net/ipv6/addrconf.c (inet6_fill_ifaddr).
"""

from __future__ import annotations

import socket
import struct
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.linux.netlink import (
    NETLINK_ROUTE,
    DecodeError,
    InterruptedDumpError,
    Netlink,
    attributes,
    open_socket,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

RTM_GETADDR = 22
IFA_ADDRESS = 1
IFA_LOCAL = 2

ATTEMPTS = 3

# family, prefix length, flags, scope, index of the interface
_IFADDR = struct.Struct("=BBBBI")
_INDEX_AT = 4
_SIZES = {socket.AF_INET: 4, socket.AF_INET6: 16}


class Address(NamedTuple):
    """One address of an interface: its own address and, after the slash, the length of the subnet's prefix."""

    ifindex: int
    cidr: str


class AddressReader:
    """Reads the addresses of given interfaces. Not thread-safe: one thread, one namespace."""

    def __init__(self, open_socket: Callable[[int], socket.socket] = open_socket) -> None:
        self._netlink = Netlink(NETLINK_ROUTE, open_socket)

    def close(self) -> None:
        """Close the socket, so that the next read opens it in the namespace of its thread."""
        self._netlink.close()

    def read(self, wanted: Collection[int]) -> Mapping[int, tuple[str, ...]]:
        """The addresses of the interfaces with these indices, IPv4 before IPv6, in the kernel's order.

        Those without an address are left out. Raises SourceError (NetlinkError, InterruptedDumpError, DecodeError) if
        the kernel gives none.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with closing(self._netlink.dump(RTM_GETADDR, _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0))) as answers:
                    found = list(_decoded(answers, wanted))
            except InterruptedDumpError:
                if attempt == ATTEMPTS:
                    raise
            else:
                return _by_interface(found)
        raise AssertionError("unreachable")


def _decoded(answers: Iterator[tuple[bytearray, int, int]], wanted: Collection[int]) -> Iterator[Address]:
    for data, start, end in answers:
        # Most addresses of a busy host are those of containers: the index is enough to skip them, undecoded.
        if end - start >= _IFADDR.size and struct.unpack_from("=I", data, start + _INDEX_AT)[0] in wanted:
            address = decode(data, start, end)
            if address is not None:
                yield address


def _by_interface(found: list[Address]) -> dict[int, tuple[str, ...]]:
    lists: dict[int, list[str]] = {}
    for ifindex, cidr in sorted(found, key=lambda address: ":" in address.cidr):
        lists.setdefault(ifindex, []).append(cidr)
    return {ifindex: tuple(cidrs) for ifindex, cidrs in lists.items()}


def decode(data: bytes | bytearray, start: int, end: int) -> Address | None:
    """One RTM_NEWADDR message, `data[start:end]` without its netlink header; None if it is neither IPv4 nor IPv6.

    Raises DecodeError.
    """
    if end - start < _IFADDR.size:
        raise DecodeError("address message cut short")
    family, length, _flags, _scope, ifindex = _IFADDR.unpack_from(data, start)
    size = _SIZES.get(family)
    if size is None:
        return None
    local = address = b""
    for kind, first, last in attributes(data, start + _IFADDR.size, end):
        if last - first == size:
            if kind == IFA_LOCAL:
                local = bytes(data[first:last])
            elif kind == IFA_ADDRESS:
                address = bytes(data[first:last])
    own = local or address
    if not own or length > size * 8:
        raise DecodeError("address message without an address")
    return Address(ifindex, _cidr(ip_address(own), _subnet(address or own, length)))


def _subnet(address: bytes, length: int) -> IPv4Network | IPv6Network:
    return ip_network((address, length), strict=False)


def _cidr(own: IPv4Address | IPv6Address, subnet: IPv4Network | IPv6Network) -> str:
    """The address in its subnet or, where the subnet is the other end's alone, as a host."""
    return f"{own}/{subnet.prefixlen if own in subnet else own.max_prefixlen}"
