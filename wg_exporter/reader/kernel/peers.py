"""From the entries of a WireGuard dump to its peers, decoding only what moved.

Entries are what dump.py leaves of a dump: without secrets, cut where the kernel cut them. They are compared with
those of the dump before. A column in which nothing changed is the same object again, and where only counters moved,
only those are read.

The format is that of drivers/net/wireguard/netlink.c and linux/wireguard.h.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from itertools import chain
from socket import AF_INET, AF_INET6, inet_ntop
from sys import byteorder
from typing import TYPE_CHECKING, TypeVar

from wg_exporter.linux.netlink import ATTRIBUTE, DecodeError, attributes
from wg_exporter.model import Peer, Peers, differences
from wg_exporter.reader.kernel.dump import NO_ENTRIES, WGPEER_A_PRESHARED_KEY, Entries, is_whole, public_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WGPEER_A_ENDPOINT = 4
WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL = 5
WGPEER_A_LAST_HANDSHAKE_TIME = 6
WGPEER_A_RX_BYTES = 7
WGPEER_A_TX_BYTES = 8
WGPEER_A_ALLOWEDIPS = 9

WGALLOWEDIP_A_FAMILY = 1
WGALLOWEDIP_A_IPADDR = 2
WGALLOWEDIP_A_CIDR_MASK = 3

# The usual layout of `Entries.times` and of `Entries.counters`. A header is read as one number.
_TIMES, _COUNTERS = "IqqIHxxI", "QIQ"
_HEADERS = tuple(
    struct.unpack("=I", ATTRIBUTE.pack(length, kind))[0]
    for length, kind in (
        (20, WGPEER_A_LAST_HANDSHAKE_TIME),
        (6, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL),
        (12, WGPEER_A_TX_BYTES),
        (12, WGPEER_A_RX_BYTES),
    )
)

T = TypeVar("T")
Column = tuple[int, ...]

_TIMESPEC = struct.Struct("=qq")
_SOCKADDR_IN = struct.Struct("=H2s4s")
_SOCKADDR_IN6 = struct.Struct("=H2sI16sI")


class PeerTable:
    """Turns the entries of a device's dumps into its peers, and keeps the columns of those that did not change."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._entries = NO_ENTRIES
        self._members: list[list[int]] = []  # for each peer the indices of its entries, of which it has few
        self._owners: list[int] = []  # for each entry the index of its peer
        self._uniform = False  # whether times and counters stand where they belong, in each peer's first entry alone
        self._peers = Peers()
        self.lost: frozenset[str] = frozenset()  # keys of the peers of whom this dump says nothing else; see `_regroup`

    def update(self, entries: Entries) -> Peers:
        """The peers of this dump, in the device's order; the same object as before if nothing changed.

        Raises DecodeError, and then forgets the dump before: a failure must leave nothing half done.
        """
        try:
            if entries.heads != self._entries.heads:
                self._regroup(entries)
            elif self._uniform:
                self._move(entries)
            else:
                columns = zip(self._entries, entries, strict=True)
                self._edit(entries, {index for before, after in columns for index in differences(before, after)})
        except DecodeError:
            self._forget()
            raise
        return self._peers

    def _move(self, entries: Entries) -> None:
        """Take in what moved. On a busy device this is most of the work: in C, one step for all peers at a time."""
        before, peers = self._entries, self._peers
        timed, counted = differences(before.times, entries.times), differences(before.counters, entries.counters)
        times = _times(map(entries.times.__getitem__, timed))
        counters = _counters(map(entries.counters.__getitem__, counted))
        if times is None or counters is None:
            self._regroup(entries)
            return
        at_times, at_counters = (list(map(self._owners.__getitem__, indices)) for indices in (timed, counted))
        self._peers = Peers(
            peers.public_key,
            peers.endpoint,
            peers.allowed_ips,
            _put(peers.persistent_keepalive, at_times, times[0]),
            _put(peers.last_handshake_ns, at_times, times[1]),
            _put(peers.rx_bytes, at_counters, counters[0]),
            _put(peers.tx_bytes, at_counters, counters[1]),
        )
        self._edit(entries, differences(before.rests, entries.rests))
        self._peers = self._peers.sharing(peers)

    def _edit(self, entries: Entries, edited: Iterable[int]) -> None:
        """Decode again the peers whose entries these are."""
        places = sorted({self._owners[index] for index in edited})
        if places:
            columns = zip(self._peers.columns(), zip(*self._decode(entries, places), strict=True), strict=True)
            self._peers = Peers(*(_put(column, places, values) for column, values in columns)).sharing(self._peers)
        self._entries = entries

    def _decode(self, entries: Entries, places: Iterable[int]) -> list[Peer]:
        """Decode the peers of these places from all of their entries."""
        heads = entries.heads
        rows: list[Peer] = []
        for place in places:
            members = self._members[place]
            if any(is_whole(heads[index]) for index in members[1:]):
                raise DecodeError("a peer came twice")
            parts = [_peer(heads[index], b"".join(piece[index] for piece in entries[1:])) for index in members]
            allowed_ips = tuple(chain.from_iterable(part.allowed_ips for part in parts))
            rows.append(parts[0]._replace(allowed_ips=allowed_ips))  # all but the allowed IPs stands in the first
        return rows

    def _regroup(self, entries: Entries) -> None:
        """Start anew: peers came, went, or are cut into messages in another way.

        When a message is full just before the allowed IPs of a peer, the kernel takes the whole peer back. By its
        source of 2019 to 2024 (get_peer, drivers/net/wireguard/netlink.c) it then takes the peer for half written, and
        the next message has its public key alone: its numbers are unknown, not 0. Debian's Linux 6.1.0-56 and 6.12.117
        write it whole.
        """
        before = self._peers
        self._forget()
        positions: dict[bytes, int] = {}
        for index, head in enumerate(entries.heads):
            position = positions.setdefault(public_key(head), len(positions))
            if position == len(self._members):
                self._members.append([])
            self._members[position].append(index)
            self._owners.append(position)
        firsts = [members[0] for members in self._members]
        known = [index for index, times in enumerate(entries.times) if times]
        self._uniform = known == firsts and None not in {_times(entries.times), _counters(entries.counters)}
        self._peers = Peers.of(self._decode(entries, range(len(positions))), before)
        if len(before) == len(self._peers):  # mostly the same ones: what did not change stays the same object
            columns = zip(before.columns(), self._peers.columns(), strict=True)
            self._peers = Peers(*(_put(old, range(len(new)), new) for old, new in columns)).sharing(before)
        self._entries = entries
        self.lost = frozenset(
            key
            for key, first in zip(self._peers.public_key, firsts, strict=True)
            if not is_whole(entries.heads[first]) and not entries.rests[first]
        )


def _times(pieces: Iterable[bytes]) -> tuple[Column, Column] | None:
    """Keepalive intervals (seconds) and last handshakes (nanoseconds) in those of these pieces that are not empty.

    None if a piece is laid out in another way: machines that align 64-bit numbers put an empty attribute of type 0
    before each (net/netlink.h, nla_put_u64_64bit).
    """
    h0, seconds, nanoseconds, h1, keepalives, h2 = _columns(_TIMES, b"".join(pieces))
    if not all(map(_all_are, (h0, h1, h2), _HEADERS)):
        return None
    return keepalives, tuple([s * 1_000_000_000 + n for s, n in zip(seconds, nanoseconds, strict=True)])


def _counters(pieces: Iterable[bytes]) -> tuple[Column, Column] | None:
    """rx_bytes and tx_bytes, likewise."""
    tx_bytes, h3, rx_bytes = _columns(_COUNTERS, b"".join(pieces))
    return (rx_bytes, tx_bytes) if _all_are(h3, _HEADERS[-1]) else None


def _columns(row: str, data: bytes) -> list[Column]:
    """The columns of a table that is laid out by rows."""
    number = len(data) // struct.calcsize(f"={row}")
    values = struct.Struct("=" + row * number).unpack(data)
    width = sum(code != "x" for code in row)
    return [values[at::width] for at in range(width)]


def _all_are(column: Column, value: int) -> bool:
    return column.count(value) == len(column)


def _put(column: tuple[T, ...], places: Sequence[int], values: tuple[T, ...]) -> tuple[T, ...]:
    """The column with these values in these places, which are in order. What is equal stays the same object."""
    before = column if len(places) == len(column) else tuple(map(column.__getitem__, places))
    moved = differences(before, values)
    if len(moved) == len(column):
        return values
    if not moved:
        return column
    changed = list(column)
    for at in moved:
        changed[places[at]] = values[at]
    return tuple(changed)


def _peer(head: bytes, tail: bytes) -> Peer:
    endpoint = ""
    allowed_ips: list[str] = []
    keepalive = handshake = rx_bytes = tx_bytes = 0
    for kind, start, end in attributes(tail, 0, len(tail)):
        if kind == WGPEER_A_LAST_HANDSHAKE_TIME:
            seconds, nanoseconds = _TIMESPEC.unpack(_exactly(tail, start, end, 16))
            handshake = seconds * 1_000_000_000 + nanoseconds
        elif kind == WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL:
            keepalive = _keepalive(tail[start:end])
        elif kind == WGPEER_A_TX_BYTES:
            tx_bytes = int.from_bytes(_exactly(tail, start, end, 8), byteorder)
        elif kind == WGPEER_A_RX_BYTES:
            rx_bytes = int.from_bytes(_exactly(tail, start, end, 8), byteorder)
        elif kind == WGPEER_A_ENDPOINT:
            endpoint = _endpoint(tail[start:end])
        elif kind == WGPEER_A_ALLOWEDIPS:
            allowed_ips.extend(_allowed_ip(tail, first, last) for _, first, last in attributes(tail, start, end))
        elif kind == WGPEER_A_PRESHARED_KEY:  # a second one: nothing of this dump may be kept
            raise DecodeError("the preshared key is not where it was expected")
    return Peer(
        b64encode(public_key(head)).decode(), endpoint, tuple(allowed_ips), keepalive, handshake, rx_bytes, tx_bytes
    )


def _keepalive(value: bytes) -> int:
    """The interval in seconds. AmneziaWG's is a range, the longer one in the upper half (u16_range_t of its module)."""
    if len(value) not in {2, 4}:
        raise DecodeError(f"an attribute has {len(value)} bytes instead of 2")
    number = int.from_bytes(value, byteorder)
    return max(number >> 16, number & 0xFFFF)


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
