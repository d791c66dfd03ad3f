"""From the entries of a WireGuard dump to its peers, decoding only what moved.

Entries are what wgdump.py leaves of a dump: without secrets, cut where the kernel cut them. They are compared with
those of the dump before. A peer that is as it was is the same `Peer` object again, and where only counters moved, only
those are read.

The format is that of drivers/net/wireguard/netlink.c and linux/wireguard.h.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from itertools import chain, compress, count
from operator import ne
from socket import AF_INET, AF_INET6, inet_ntop
from sys import byteorder
from typing import TYPE_CHECKING

from wg_exporter.model import Peer
from wg_exporter.sources.netlink import ATTRIBUTE, DecodeError, attributes
from wg_exporter.sources.wgdump import COUNTERS, KEY_LENGTH, Entries

if TYPE_CHECKING:
    from collections.abc import Iterable

WGPEER_A_ENDPOINT = 4
WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL = 5
WGPEER_A_LAST_HANDSHAKE_TIME = 6
WGPEER_A_RX_BYTES = 7
WGPEER_A_TX_BYTES = 8
WGPEER_A_ALLOWEDIPS = 9

WGALLOWEDIP_A_FAMILY = 1
WGALLOWEDIP_A_IPADDR = 2
WGALLOWEDIP_A_CIDR_MASK = 3

_COUNTER_HEADERS = tuple(
    struct.unpack("=I", ATTRIBUTE.pack(length, kind))[0]
    for length, kind in (
        (20, WGPEER_A_LAST_HANDSHAKE_TIME),
        (6, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL),
        (12, WGPEER_A_TX_BYTES),
        (12, WGPEER_A_RX_BYTES),
    )
)

_TIMESPEC = struct.Struct("=qq")
_SOCKADDR_IN = struct.Struct("=H2s4s")
_SOCKADDR_IN6 = struct.Struct("=H2sI16sI")


class PeerTable:
    """Turns the entries of a device's dumps into its peers, and keeps the objects of those that did not change."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._entries = Entries([], [], [])
        self._members: list[list[int]] = []  # for each peer the indices of its entries, of which it has few
        self._owners: list[int] = []  # for each entry the index of its peer
        self._peers: list[Peer] = []
        self._result: tuple[Peer, ...] = ()
        self.keys: tuple[str, ...] = ()  # of the peers; the same object while the list of peers is the same
        self.lost: frozenset[str] = frozenset()  # keys of the peers of whom this dump says nothing else; see `_regroup`

    def update(self, entries: Entries) -> tuple[Peer, ...]:
        """The peers of this dump, in the device's order; the same object as before if nothing changed.

        Raises DecodeError, and then forgets the dump before: a failure must leave nothing half done.
        """
        try:
            if entries.heads != self._entries.heads:
                self._regroup(entries)
                return self._result
            moved = list(compress(count(), map(ne, entries.counters, self._entries.counters)))
            edited = list(compress(count(), map(ne, entries.rests, self._entries.rests)))
            if moved or edited:
                unusual = self._count(entries.counters, moved)
                self._decode(entries, {self._owners[index] for index in chain(edited, unusual)})
                self._entries = entries
                self._result = tuple(self._peers)
        except DecodeError:
            self._forget()
            raise
        return self._result

    def _count(self, counters: list[bytes], moved: list[int]) -> list[int]:
        """Read the counters of these entries. On a busy device this loop is most of the work.

        Those that are laid out in another way are left alone and returned. Machines that align 64-bit numbers have
        such: they put an empty attribute of type 0 before them (net/netlink.h, nla_put_u64_64bit).
        """
        unusual: list[int] = []
        peers, owners = self._peers, self._owners
        expected, new = _COUNTER_HEADERS, tuple.__new__
        try:
            for index, values in zip(moved, map(COUNTERS.unpack, map(counters.__getitem__, moved)), strict=True):
                h0, seconds, nanoseconds, h1, keepalive, h2, tx_bytes, h3, rx_bytes = values
                if (h0, h1, h2, h3) != expected:
                    unusual.append(index)
                    continue
                owner = owners[index]
                old = peers[owner]
                handshake = seconds * 1_000_000_000 + nanoseconds
                # Half the price of Peer(...); the order is that of its fields.
                peers[owner] = new(Peer, (old[0], old[1], old[2], keepalive, handshake, rx_bytes, tx_bytes))
        except struct.error:  # shorter than they were ever seen
            return moved
        return unusual

    def _decode(self, entries: Entries, peers: Iterable[int]) -> None:
        """Decode these peers from all of their entries."""
        heads, counters, rests = entries
        for position in peers:
            members = self._members[position]
            if any(counters[index] for index in members[1:]):
                raise DecodeError("a peer came twice")
            parts = [_peer(heads[index], counters[index] + rests[index]) for index in members]
            first = parts[0]
            if len(parts) > 1:  # all but the allowed IPs stands in the first
                first = first._replace(allowed_ips=tuple(chain.from_iterable(part.allowed_ips for part in parts)))
            if first != self._peers[position]:
                self._peers[position] = first

    def _regroup(self, entries: Entries) -> None:
        """Start anew, for peers came, went, or are cut into messages in another way. Equal peers keep their object.

        When a message is full to its last byte just before the allowed IPs of a peer, the kernel takes the whole peer
        back. By the source of 2019 to 2024 (get_peer, drivers/net/wireguard/netlink.c) it then remembers it as half
        written, and the next message has its public key and nothing else: its numbers are not 0 but unknown. Linux
        6.1.0-56 and 6.12.117 of Debian write it whole.
        """
        before = dict(zip(self.keys, self._peers, strict=True))
        keys, result = self.keys, self._result
        self._forget()
        positions: dict[bytes, int] = {}
        for index, head in enumerate(entries.heads):
            position = positions.setdefault(head[-KEY_LENGTH:], len(positions))
            if position == len(self._members):
                self._members.append([])
            self._members[position].append(index)
            self._owners.append(position)
        fresh = tuple(b64encode(key).decode() for key in positions)
        self.keys = keys if fresh == keys else fresh
        self._peers = [before.get(key, _NOBODY) for key in fresh]
        self._decode(entries, range(len(fresh)))
        self._entries = entries
        firsts = [indices[0] for indices in self._members]
        self.lost = frozenset(
            key
            for key, index in zip(fresh, firsts, strict=True)
            if not entries.counters[index] and not entries.rests[index]
        )
        self._result = tuple(self._peers)
        if self._result == result:
            self._result = result


_NOBODY = Peer("", "", (), 0, 0, 0, 0)


def _peer(head: bytes, rest: bytes) -> Peer:
    public_key = b64encode(head[-KEY_LENGTH:]).decode()
    endpoint = ""
    allowed_ips: list[str] = []
    keepalive = handshake = rx_bytes = tx_bytes = 0
    for kind, start, end in attributes(rest, 0, len(rest)):
        if kind == WGPEER_A_LAST_HANDSHAKE_TIME:
            seconds, nanoseconds = _TIMESPEC.unpack(_exactly(rest, start, end, 16))
            handshake = seconds * 1_000_000_000 + nanoseconds
        elif kind == WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL:
            keepalive = int.from_bytes(_exactly(rest, start, end, 2), byteorder)
        elif kind == WGPEER_A_TX_BYTES:
            tx_bytes = int.from_bytes(_exactly(rest, start, end, 8), byteorder)
        elif kind == WGPEER_A_RX_BYTES:
            rx_bytes = int.from_bytes(_exactly(rest, start, end, 8), byteorder)
        elif kind == WGPEER_A_ENDPOINT:
            endpoint = _endpoint(rest[start:end])
        elif kind == WGPEER_A_ALLOWEDIPS:
            allowed_ips.extend(_allowed_ip(rest, first, last) for _, first, last in attributes(rest, start, end))
    return Peer(public_key, endpoint, tuple(allowed_ips), keepalive, handshake, rx_bytes, tx_bytes)


def _exactly(data: bytes, start: int, end: int, length: int) -> bytes:
    if end - start != length:
        raise DecodeError(f"an attribute has {end - start} bytes instead of {length}")
    return data[start:end]


def _endpoint(sockaddr: bytes) -> str:
    """`address:port`, IPv6 in brackets, from a struct sockaddr_in or sockaddr_in6 (ip(7), ipv6(7))."""
    family = int.from_bytes(sockaddr[:2], byteorder)
    if family == AF_INET and len(sockaddr) >= _SOCKADDR_IN.size:
        _, port, address = _SOCKADDR_IN.unpack_from(sockaddr)
        return f"{inet_ntop(AF_INET, address)}:{int.from_bytes(port, 'big')}"
    if family == AF_INET6 and len(sockaddr) >= _SOCKADDR_IN6.size:
        _, port, _, address, scope = _SOCKADDR_IN6.unpack_from(sockaddr)
        zone = f"%{scope}" if scope else ""
        return f"[{inet_ntop(AF_INET6, address)}{zone}]:{int.from_bytes(port, 'big')}"
    raise DecodeError(f"an endpoint of {len(sockaddr)} bytes and address family {family}")


def _allowed_ip(data: bytes, start: int, end: int) -> str:
    family = mask = None
    address = b""
    for kind, first, last in attributes(data, start, end):
        if kind == WGALLOWEDIP_A_FAMILY:
            family = int.from_bytes(data[first:last], byteorder)
        elif kind == WGALLOWEDIP_A_IPADDR:
            address = data[first:last]
        elif kind == WGALLOWEDIP_A_CIDR_MASK:
            mask = _exactly(data, first, last, 1)[0]
    if (family, len(address)) not in ((AF_INET, 4), (AF_INET6, 16)) or mask is None or mask > 8 * len(address):
        raise DecodeError("an allowed IP that is neither IPv4 nor IPv6")
    return f"{inet_ntop(AF_INET if family == AF_INET else AF_INET6, address)}/{mask}"
