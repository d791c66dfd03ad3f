"""WireGuard's netlink dump: from messages to peers, keeping no secret, and decoding only what moved.

The work is split in two, at the line that secrets must not cross:

1. `Extractor` cuts each message into *entries*, leaving the preshared keys out. An entry is a `head` (the public key in
   its headers), `counters` (last handshake, keepalive, bytes) and a `rest` (endpoint, allowed IPs).
2. `PeerTable` turns entries into peers. It compares them with those of the dump before, gives the same `Peer` object
   again where they are equal, and reads only the counters where only those moved.

A dump of a large device is thousands of small entries, so both steps work on whole messages in C: the layout of a
message (where each entry begins) hardly ever changes, so the extractor keeps it as one `struct.Struct` that takes all
entries at once, and checks the heads afterwards.

The format is that of drivers/net/wireguard/netlink.c and linux/wireguard.h. A peer that does not fit in a message comes
again in the next one, with its public key and the rest of its allowed IPs only.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from itertools import chain, compress, count
from operator import ne
from socket import AF_INET, AF_INET6, inet_ntop
from sys import byteorder
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.model import Peer
from wg_exporter.sources.netlink import ATTRIBUTE, ATTRIBUTE_TYPE_MASK, DecodeError, attributes

if TYPE_CHECKING:
    from collections.abc import Iterable

WGDEVICE_A_IFINDEX = 1
WGDEVICE_A_IFNAME = 2
WGDEVICE_A_PUBLIC_KEY = 4
WGDEVICE_A_LISTEN_PORT = 6
WGDEVICE_A_FWMARK = 7
WGDEVICE_A_PEERS = 8

WGPEER_A_PUBLIC_KEY = 1
WGPEER_A_PRESHARED_KEY = 2
WGPEER_A_ENDPOINT = 4
WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL = 5
WGPEER_A_LAST_HANDSHAKE_TIME = 6
WGPEER_A_RX_BYTES = 7
WGPEER_A_TX_BYTES = 8
WGPEER_A_ALLOWEDIPS = 9

WGALLOWEDIP_A_FAMILY = 1
WGALLOWEDIP_A_IPADDR = 2
WGALLOWEDIP_A_CIDR_MASK = 3

KEY_LENGTH = 32
IFNAMSIZ = 16

_HEAD = struct.Struct("=HHHH32s")
# What the kernel writes behind the preshared key: last handshake, keepalive, tx and rx bytes; a header is one number.
_COUNTERS = struct.Struct("=IqqIHxxIQIQ")
_COUNTER_HEADERS = tuple(
    struct.unpack("=I", ATTRIBUTE.pack(length, kind))[0]
    for length, kind in (
        (20, WGPEER_A_LAST_HANDSHAKE_TIME),
        (6, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL),
        (12, WGPEER_A_TX_BYTES),
        (12, WGPEER_A_RX_BYTES),
    )
)
_PRESHARED_KEY_HEADER = ATTRIBUTE.pack(4 + KEY_LENGTH, WGPEER_A_PRESHARED_KEY)
_PRESHARED_KEY_LENGTH = len(_PRESHARED_KEY_HEADER) + KEY_LENGTH

# Layouts of messages kept per device; a device that splits into more still works, entry by entry.
_MAX_LAYOUTS = 4096

_TIMESPEC = struct.Struct("=qq")
_SOCKADDR_IN = struct.Struct("=H2s4s")
_SOCKADDR_IN6 = struct.Struct("=H2sI16sI")


class Entries(NamedTuple):
    """The entries of one dump, flat: the lists run in parallel. No secret is in them."""

    heads: list[bytes]
    counters: list[bytes]
    rests: list[bytes]


class DeviceFacts(NamedTuple):
    """What a dump says of the device itself."""

    ifindex: int
    name: str
    public_key: str
    listen_port: int
    fwmark: int


class _Layout(NamedTuple):
    """How the peers of one message were laid out last time: one struct that reads them all, and what must be equal."""

    length: int
    reader: struct.Struct
    heads: tuple[bytes, ...]
    psk_headers: tuple[bytes, ...]
    bare: tuple[int, ...]  # indices of the entries without a preshared key


class Extractor:
    """Cuts the messages of a dump into entries. One for each device; `begin` starts the next dump."""

    def __init__(self) -> None:
        self._layouts: list[_Layout] = []
        self.begin()

    def begin(self) -> None:
        """Forget the entries of the dump before; keep its layouts, as guesses."""
        self._message = 0
        self._facts: DeviceFacts | None = None
        self._entries = Entries([], [], [])

    def feed(self, data: bytes | bytearray, start: int, end: int) -> None:
        """Take one message's attributes, `data[start:end]`. Raises DecodeError."""
        peers: list[tuple[int, int]] = []
        device: dict[int, bytes] = {}
        for kind, first, last in attributes(data, start, end):
            if kind == WGDEVICE_A_PEERS:
                peers.append((first, last))
            elif kind in _DEVICE_LENGTHS:
                device[kind] = bytes(data[first:last])
        if WGDEVICE_A_IFNAME in device and self._facts is None:
            self._facts = _device_facts(device)
        for first, last in peers:
            self._feed_peers(data, first, last)

    def finish(self) -> tuple[DeviceFacts, Entries]:
        """What all messages together said. Raises DecodeError if no message named the device."""
        if self._facts is None:
            raise DecodeError("the dump names no device")
        del self._layouts[self._message :]
        return self._facts, self._entries

    def _feed_peers(self, data: bytes | bytearray, start: int, end: int) -> None:
        index = self._message
        self._message += 1
        layout = self._layouts[index] if index < len(self._layouts) else None
        values = None if layout is None else _read(layout, data, start, end)
        if layout is None or values is None:
            layout, values = _learn(data, start, end)
            if index < _MAX_LAYOUTS:
                self._layouts[index : index + 1] = [layout]
        heads, counters, rests = self._entries
        heads.extend(layout.heads)
        counters.extend(values[2::4])
        rests.extend(values[3::4])


# The length of each attribute of a device that is kept; the private key is not one of them.
_DEVICE_LENGTHS = {
    WGDEVICE_A_IFINDEX: 4,
    WGDEVICE_A_IFNAME: None,
    WGDEVICE_A_PUBLIC_KEY: KEY_LENGTH,
    WGDEVICE_A_LISTEN_PORT: 2,
    WGDEVICE_A_FWMARK: 4,
}


def _device_facts(device: dict[int, bytes]) -> DeviceFacts:
    for kind, value in device.items():
        if _DEVICE_LENGTHS[kind] not in (None, len(value)) or (kind == WGDEVICE_A_IFNAME and len(value) > IFNAMSIZ):
            raise DecodeError(f"device attribute {kind} has {len(value)} bytes")

    def number(kind: int) -> int:
        return int.from_bytes(device.get(kind, b""), byteorder)

    name = device[WGDEVICE_A_IFNAME].rstrip(b"\0").decode(errors="replace")
    key = device.get(WGDEVICE_A_PUBLIC_KEY)
    return DeviceFacts(
        ifindex=number(WGDEVICE_A_IFINDEX),
        name=name,
        public_key="" if key is None else b64encode(key).decode(),
        listen_port=number(WGDEVICE_A_LISTEN_PORT),
        fwmark=number(WGDEVICE_A_FWMARK),
    )


def _read(layout: _Layout, data: bytes | bytearray, start: int, end: int) -> tuple[bytes, ...] | None:
    """What the peers in `data[start:end]` say if they are laid out as last time, else None."""
    if layout.length != end - start:
        return None
    values = layout.reader.unpack_from(data, start)
    if values[0::4] != layout.heads or values[1::4] != layout.psk_headers:
        return None
    # The rest of a peer can be as long as the whole of it was, and where the rest goes on, the whole has its secret.
    if any(_holds_preshared_key(rest, 0, len(rest)) for rest in (values[4 * index + 3] for index in layout.bare)):
        return None
    return values


def _holds_preshared_key(data: bytes | bytearray, start: int, end: int) -> bool:
    return any(kind == WGPEER_A_PRESHARED_KEY for kind, _, _ in attributes(data, start, end))


def _learn(data: bytes | bytearray, start: int, end: int) -> tuple[_Layout, tuple[bytes, ...]]:
    """The layout of the peers in `data[start:end]`, found by walking them one by one, and what it reads there."""
    pieces: list[str] = ["="]
    bare: list[int] = []
    offset = start
    entry = 0
    while offset + 4 <= end:
        length, _kind = ATTRIBUTE.unpack_from(data, offset)
        stop = offset + length
        if length < _HEAD.size or stop > end:
            raise DecodeError("peer length out of range")
        _, _, key_length, key_kind, _ = _HEAD.unpack_from(data, offset)
        if key_length != 4 + KEY_LENGTH or key_kind & ATTRIBUTE_TYPE_MASK != WGPEER_A_PUBLIC_KEY:
            raise DecodeError("a peer does not begin with its public key")
        secret = offset + _HEAD.size
        if data[secret : secret + 4] == _PRESHARED_KEY_HEADER and secret + _PRESHARED_KEY_LENGTH <= stop:
            behind = stop - secret - _PRESHARED_KEY_LENGTH
            counters = min(_COUNTERS.size, behind)
            pieces.append(f"{_HEAD.size}s4s{KEY_LENGTH}x{counters}s{behind - counters}s")
        else:
            # The rest of a peer that began in the message before. Should the kernel ever move the preshared key
            # elsewhere, refuse the dump: an entry that holds one must not be kept.
            if _holds_preshared_key(data, secret, stop):
                raise DecodeError("the preshared key is not where it was expected")
            bare.append(entry)
            pieces.append(f"{_HEAD.size}s0s0s{stop - secret}s")
        pieces.append(f"{-length % 4}x")
        offset += (length + 3) & ~3
        entry += 1
    if offset < end:
        raise DecodeError("stray bytes after the last peer")
    if offset > end:
        raise DecodeError("the last peer is not padded")
    reader = struct.Struct("".join(pieces))
    values = reader.unpack_from(data, start)
    return _Layout(end - start, reader, values[0::4], values[1::4], tuple(bare)), values


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
            for index, values in zip(moved, map(_COUNTERS.unpack, map(counters.__getitem__, moved)), strict=True):
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
