"""WireGuard's netlink dump: from messages to peers, without ever keeping a secret, and without decoding what did not move.

The work is split in two, at the line that secrets must not cross:

1. `Extractor` cuts each message into *entries*, leaving the preshared keys out. An entry is a `head` (the public key in
   its headers) and a `rest` (everything behind the preshared key: times, counters, endpoint, allowed IPs).
2. `PeerTable` turns entries into peers. It compares each `rest` with that of the dump before and gives the same `Peer`
   object again where they are equal; where only the counters moved it reads only those.

A dump of a large device is thousands of small entries, so both steps work on whole messages in C: the layout of a message (where
each entry begins) hardly ever changes, so the extractor keeps it as one `struct.Struct` and checks the heads afterwards.

The format is that of drivers/net/wireguard/netlink.c and linux/wireguard.h. A peer that does not fit in a message comes again in the next
one, with its public key and the rest of its allowed IPs only.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from itertools import compress, count
from operator import ne
from socket import AF_INET, AF_INET6, inet_ntop
from typing import NamedTuple

from wg_exporter.model import Peer
from wg_exporter.sources.netlink import ATTRIBUTE, ATTRIBUTE_TYPE_MASK, DecodeError, attributes

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

_HEAD = struct.Struct("=HHHH32s")
# What the kernel writes behind the preshared key, headers as one number each: last handshake, keepalive, tx and rx bytes.
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
    """The entries of one dump, flat: `heads[i]` and `rests[i]` belong together. No secret is in them."""

    heads: list[bytes]
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


class Extractor:
    """Cuts the messages of a dump into entries. One for each device; `begin` starts the next dump."""

    def __init__(self) -> None:
        self._layouts: list[_Layout] = []
        self.begin()

    def begin(self) -> None:
        """Forget the entries of the dump before; keep its layouts, as guesses."""
        self._message = 0
        self._facts: DeviceFacts | None = None
        self._entries = Entries([], [])

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
        heads, rests = self._entries
        if index < len(self._layouts):
            layout = self._layouts[index]
            if layout.length == end - start:
                values = layout.reader.unpack_from(data, start)
                if values[0::3] == layout.heads and values[1::3] == layout.psk_headers:
                    heads.extend(layout.heads)
                    rests.extend(values[2::3])
                    return
        layout = _learn(data, start, end)
        if index < len(self._layouts):
            self._layouts[index] = layout
        elif index < _MAX_LAYOUTS:
            self._layouts.append(layout)
        values = layout.reader.unpack_from(data, start)
        heads.extend(values[0::3])
        rests.extend(values[2::3])


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
        if _DEVICE_LENGTHS[kind] not in (None, len(value)):
            raise DecodeError(f"device attribute {kind} has {len(value)} bytes")

    def number(kind: int) -> int:
        return int.from_bytes(device.get(kind, b""), _BYTE_ORDER)

    name = device[WGDEVICE_A_IFNAME].rstrip(b"\0").decode(errors="replace")
    key = device.get(WGDEVICE_A_PUBLIC_KEY)
    return DeviceFacts(
        ifindex=number(WGDEVICE_A_IFINDEX),
        name=name,
        public_key="" if key is None else b64encode(key).decode(),
        listen_port=number(WGDEVICE_A_LISTEN_PORT),
        fwmark=number(WGDEVICE_A_FWMARK),
    )


_BYTE_ORDER = "little" if struct.pack("=H", 1) == b"\1\0" else "big"


def _learn(data: bytes | bytearray, start: int, end: int) -> _Layout:
    """The layout of the peers in `data[start:end]`, found by walking them one by one."""
    pieces: list[str] = ["="]
    offset = start
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
            pieces.append(f"{_HEAD.size}s4s{KEY_LENGTH}x{stop - secret - _PRESHARED_KEY_LENGTH}s")
        else:
            # The rest of a peer that began in the message before. Should the kernel ever move the preshared key elsewhere,
            # refuse the dump: an entry that holds one must not be kept.
            if any(kind == WGPEER_A_PRESHARED_KEY for kind, _, _ in attributes(data, offset + 4, stop)):
                raise DecodeError("the preshared key is not where it was expected")
            pieces.append(f"{_HEAD.size}s0s{stop - secret}s")
        pieces.append(f"{-length % 4}x")
        offset += (length + 3) & ~3
    if offset < end:
        raise DecodeError("stray bytes after the last peer")
    if offset > end:
        raise DecodeError("the last peer is not padded")
    reader = struct.Struct("".join(pieces))
    values = reader.unpack_from(data, start)
    return _Layout(end - start, reader, values[0::3], values[1::3])


class PeerTable:
    """Turns the entries of a device's dumps into its peers, and keeps the objects of those that did not change."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._heads: list[bytes] = []
        self._rests: list[bytes] = []
        self._owners: list[int] = []  # the peer that each entry belongs to, as its index in `_peers`
        self._peers: list[Peer] = []
        self._result: tuple[Peer, ...] = ()

    def update(self, entries: Entries) -> tuple[Peer, ...]:
        """The peers of this dump, in the device's order. Raises DecodeError, and then forgets the dump before."""
        heads, rests = entries
        if heads != self._heads:
            return self._rebuild(heads, rests)
        changed = list(compress(count(), map(ne, rests, self._rests)))
        if not changed:
            return self._result
        for index in changed:
            owner = self._owners[index]
            moved = _counters_moved(self._peers[owner], self._rests[index], rests[index])
            if moved is None:
                return self._rebuild(heads, rests)
            self._peers[owner] = moved
        self._rests = rests
        self._result = tuple(self._peers)
        return self._result

    def _rebuild(self, heads: list[bytes], rests: list[bytes]) -> tuple[Peer, ...]:
        before = {peer.public_key: peer for peer in self._peers}
        self._forget()  # a failure below must leave nothing half done
        positions: dict[str, int] = {}
        peers: list[Peer] = []
        owners: list[int] = []
        for head, rest in zip(heads, rests, strict=True):
            peer = _peer(b64encode(head[-KEY_LENGTH:]).decode(), rest)
            position = positions.get(peer.public_key)
            if position is None:
                position = positions[peer.public_key] = len(peers)
                peers.append(peer)
            else:
                peers[position] = _merge(peers[position], peer)
            owners.append(position)
        # Equal peers keep their object, so that a change of one peer's allowed IPs does not make all others look new.
        peers = [old if (old := before.get(peer.public_key)) == peer and old is not None else peer for peer in peers]
        self._heads, self._rests, self._owners, self._peers = heads, rests, owners, peers
        self._result = tuple(peers)
        return self._result


def _counters_moved(peer: Peer, before: bytes, after: bytes) -> Peer | None:
    """`peer` with the counters of `after`, or None if anything else has changed too."""
    if len(after) < _COUNTERS.size or after[_COUNTERS.size :] != before[_COUNTERS.size :]:
        return None
    h0, seconds, nanoseconds, h1, keepalive, h2, tx_bytes, h3, rx_bytes = _COUNTERS.unpack_from(after)
    if (h0, h1, h2, h3) != _COUNTER_HEADERS:
        return None
    return Peer(
        peer.public_key,
        peer.endpoint,
        peer.allowed_ips,
        keepalive,
        seconds * 1_000_000_000 + nanoseconds,
        rx_bytes,
        tx_bytes,
    )


def _merge(first: Peer, more: Peer) -> Peer:
    """A peer that came in two messages: all but the allowed IPs stands in the first."""
    return first._replace(allowed_ips=first.allowed_ips + more.allowed_ips)


def _peer(public_key: str, rest: bytes) -> Peer:
    endpoint = ""
    allowed_ips: list[str] = []
    keepalive = handshake = rx_bytes = tx_bytes = 0
    for kind, start, end in attributes(rest, 0, len(rest)):
        if kind == WGPEER_A_LAST_HANDSHAKE_TIME:
            seconds, nanoseconds = _TIMESPEC.unpack(_exactly(rest, start, end, 16))
            handshake = seconds * 1_000_000_000 + nanoseconds
        elif kind == WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL:
            keepalive = int.from_bytes(_exactly(rest, start, end, 2), _BYTE_ORDER)
        elif kind == WGPEER_A_TX_BYTES:
            tx_bytes = int.from_bytes(_exactly(rest, start, end, 8), _BYTE_ORDER)
        elif kind == WGPEER_A_RX_BYTES:
            rx_bytes = int.from_bytes(_exactly(rest, start, end, 8), _BYTE_ORDER)
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
    family = int.from_bytes(sockaddr[:2], _BYTE_ORDER)
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
            family = int.from_bytes(data[first:last], _BYTE_ORDER)
        elif kind == WGALLOWEDIP_A_IPADDR:
            address = data[first:last]
        elif kind == WGALLOWEDIP_A_CIDR_MASK:
            mask = _exactly(data, first, last, 1)[0]
    if (family, len(address)) not in ((AF_INET, 4), (AF_INET6, 16)) or mask is None or mask > 8 * len(address):
        raise DecodeError("an allowed IP that is neither IPv4 nor IPv6")
    return f"{inet_ntop(AF_INET if family == AF_INET else AF_INET6, address)}/{mask}"
