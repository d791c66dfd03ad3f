"""From the entries of a WireGuard dump to its peers, decoding only what moved.

Entries are what wgdump.py leaves of a dump: without secrets, cut where the kernel cut them. They are compared with
those of the dump before. A column in which nothing changed is the same object again, and where only counters moved,
only those are read.

The format is that of drivers/net/wireguard/netlink.c and linux/wireguard.h.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from itertools import chain, compress
from operator import eq, itemgetter, ne
from socket import AF_INET, AF_INET6, inet_ntop
from sys import byteorder
from typing import TYPE_CHECKING, TypeVar

from wg_exporter.model import Peer, Peers, differences
from wg_exporter.sources.netlink import ATTRIBUTE, DecodeError, attributes
from wg_exporter.sources.wgdump import KEY, WHOLE, Entries

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

# What the kernel writes behind the preshared key: last handshake, keepalive, tx and rx bytes; a header is one number.
_COUNTERS = struct.Struct("=IqqIHxxIQIQ")
_HEADERS = tuple(
    struct.unpack("=I", ATTRIBUTE.pack(length, kind))[0]
    for length, kind in (
        (20, WGPEER_A_LAST_HANDSHAKE_TIME),
        (6, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL),
        (12, WGPEER_A_TX_BYTES),
        (12, WGPEER_A_RX_BYTES),
    )
)
_behind_counters = itemgetter(slice(_COUNTERS.size, None))
# The columns of `Peers` that are made of them.
_COUNTED = slice(Peer._fields.index("persistent_keepalive"), None)

T = TypeVar("T")

_TIMESPEC = struct.Struct("=qq")
_SOCKADDR_IN = struct.Struct("=H2s4s")
_SOCKADDR_IN6 = struct.Struct("=H2sI16sI")


class PeerTable:
    """Turns the entries of a device's dumps into its peers, and keeps the columns of those that did not change."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._entries = Entries([], [])
        self._members: list[list[int]] = []  # for each peer the indices of its entries, of which it has few
        self._owners: list[int] = []  # for each entry the index of its peer
        self._parts: frozenset[int] = frozenset()  # the entries that are not a whole peer
        self._peers = Peers()
        self.lost: frozenset[str] = frozenset()  # keys of the peers of whom this dump says nothing else; see `_regroup`

    def update(self, entries: Entries) -> Peers:
        """The peers of this dump, in the device's order; the same object as before if nothing changed.

        Raises DecodeError, and then forgets the dump before: a failure must leave nothing half done.
        """
        try:
            if entries.heads != self._entries.heads:
                self._regroup(entries)
            else:
                moved = differences(self._entries.tails, entries.tails)
                if moved:
                    self._move(entries, moved)
        except DecodeError:
            self._forget()
            raise
        return self._peers

    def _move(self, entries: Entries, moved: list[int]) -> None:
        """Take in these entries. On a busy device this is most of the work: in C, one step for all peers at a time."""
        whole = [index for index in moved if index not in self._parts] if self._parts else moved
        before = list(map(self._entries.tails.__getitem__, whole))
        after = list(map(entries.tails.__getitem__, whole))
        peers, edited = self._peers, moved
        counted = _counters(after)
        if counted is not None:
            places = list(map(self._owners.__getitem__, whole))
            columns = zip(peers.columns()[_COUNTED], counted, strict=True)
            kept = (peers.public_key, peers.endpoint, peers.allowed_ips)
            peers = Peers(*kept, *(_put(column, places, values) for column, values in columns))
            edited = list(compress(whole, map(ne, map(_behind_counters, before), map(_behind_counters, after))))
            edited += [index for index in moved if index in self._parts] if self._parts else []
        if edited:
            places = sorted({self._owners[index] for index in edited})
            columns = zip(peers.columns(), zip(*self._decode(entries, places), strict=True), strict=True)
            peers = Peers(*(_put(column, places, values) for column, values in columns))
        self._entries, self._peers = entries, peers.sharing(self._peers)

    def _decode(self, entries: Entries, places: Iterable[int]) -> list[Peer]:
        """Decode the peers of these places from all of their entries."""
        heads, tails = entries
        rows: list[Peer] = []
        for place in places:
            members = self._members[place]
            if any(len(heads[index]) == WHOLE for index in members[1:]):
                raise DecodeError("a peer came twice")
            parts = [_peer(heads[index], tails[index]) for index in members]
            allowed_ips = tuple(chain.from_iterable(part.allowed_ips for part in parts))
            rows.append(parts[0]._replace(allowed_ips=allowed_ips))  # all but the allowed IPs stands in the first
        return rows

    def _regroup(self, entries: Entries) -> None:
        """Start anew, for peers came, went, or are cut into messages in another way.

        When a message is full to its last byte just before the allowed IPs of a peer, the kernel takes the whole peer
        back. By the source of 2019 to 2024 (get_peer, drivers/net/wireguard/netlink.c) it then remembers it as half
        written, and the next message has its public key and nothing else: its numbers are not 0 but unknown. Linux
        6.1.0-56 and 6.12.117 of Debian write it whole.
        """
        before = self._peers
        self._forget()
        positions: dict[bytes, int] = {}
        for index, head in enumerate(entries.heads):
            position = positions.setdefault(head[KEY], len(positions))
            if position == len(self._members):
                self._members.append([])
            self._members[position].append(index)
            self._owners.append(position)
        self._parts = frozenset(index for index, head in enumerate(entries.heads) if len(head) != WHOLE)
        self._peers = Peers.of(self._decode(entries, range(len(positions))), before)
        self._entries = entries
        self.lost = frozenset(
            key
            for key, members in zip(self._peers.public_key, self._members, strict=True)
            if members[0] in self._parts and not entries.tails[members[0]]
        )


def _counters(tails: list[bytes]) -> tuple[tuple[int, ...], ...] | None:
    """The columns that the counters in these tails make, in the order of `Peer`; None if one is laid out otherwise.

    Machines that align 64-bit numbers put an empty attribute of type 0 before each (net/netlink.h, nla_put_u64_64bit).
    """
    try:
        h0, seconds, nanoseconds, h1, keepalives, h2, tx_bytes, h3, rx_bytes = zip(
            *map(_COUNTERS.unpack_from, tails), strict=True
        )
    except (struct.error, ValueError):  # one is shorter than they were ever seen, or there is none
        return None
    if any(found.count(wanted) != len(tails) for found, wanted in zip((h0, h1, h2, h3), _HEADERS, strict=True)):
        return None
    handshakes = tuple([s * 1_000_000_000 + n for s, n in zip(seconds, nanoseconds, strict=True)])
    return keepalives, handshakes, rx_bytes, tx_bytes


def _put(column: tuple[T, ...], places: list[int], values: tuple[T, ...]) -> tuple[T, ...]:
    """The column with these values in these places, which are in order; the same column if it has them already."""
    if len(places) == len(column):
        return column if column == values else values
    if all(map(eq, map(column.__getitem__, places), values)):
        return column
    changed = list(column)
    for place, value in zip(places, values, strict=True):
        changed[place] = value
    return tuple(changed)


def _peer(head: bytes, tail: bytes) -> Peer:
    public_key = b64encode(head[KEY]).decode()
    endpoint = ""
    allowed_ips: list[str] = []
    keepalive = handshake = rx_bytes = tx_bytes = 0
    for kind, start, end in attributes(tail, 0, len(tail)):
        if kind == WGPEER_A_LAST_HANDSHAKE_TIME:
            seconds, nanoseconds = _TIMESPEC.unpack(_exactly(tail, start, end, 16))
            handshake = seconds * 1_000_000_000 + nanoseconds
        elif kind == WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL:
            keepalive = int.from_bytes(_exactly(tail, start, end, 2), byteorder)
        elif kind == WGPEER_A_TX_BYTES:
            tx_bytes = int.from_bytes(_exactly(tail, start, end, 8), byteorder)
        elif kind == WGPEER_A_RX_BYTES:
            rx_bytes = int.from_bytes(_exactly(tail, start, end, 8), byteorder)
        elif kind == WGPEER_A_ENDPOINT:
            endpoint = _endpoint(tail[start:end])
        elif kind == WGPEER_A_ALLOWEDIPS:
            allowed_ips.extend(_allowed_ip(tail, first, last) for _, first, last in attributes(tail, start, end))
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
