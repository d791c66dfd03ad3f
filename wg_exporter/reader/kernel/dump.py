"""WireGuard's netlink dump: from messages to peers, keeping no secret, and decoding only what moved.

The work is split in two, at the line that secrets must not cross:

1. `Extractor`, here, cuts each message into *entries*, leaving the preshared keys out. It knows where to cut, not what
   the pieces mean.
2. `PeerTable` (peers.py) turns entries into peers. It compares them with those of the dump before and reads only
   what moved.

A dump of a large device is thousands of small entries, so both steps work on whole messages in C: the layout of a
message (where each entry begins) hardly ever changes, so the extractor keeps it as one `struct.Struct` that takes all
entries at once, and checks the heads afterwards. An entry is cut so that what moves often, what moves now and then and
what hardly ever moves are apart.

The format is that of drivers/net/wireguard/netlink.c and linux/wireguard.h. A peer that does not fit in a message comes
again in the next one, with its public key and the rest of its allowed IPs only.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from sys import byteorder
from typing import NamedTuple

from wg_exporter.linux.netlink import ATTRIBUTE, ATTRIBUTE_TYPE_MASK, DecodeError, attributes

WGDEVICE_A_IFINDEX = 1
WGDEVICE_A_IFNAME = 2
WGDEVICE_A_PUBLIC_KEY = 4
WGDEVICE_A_LISTEN_PORT = 6
WGDEVICE_A_FWMARK = 7
WGDEVICE_A_PEERS = 8

WGPEER_A_PUBLIC_KEY = 1
WGPEER_A_PRESHARED_KEY = 2
WGPEER_A_FLAGS = 3

KEY_LENGTH = 32
IFNAMSIZ = 16

_KEY = struct.Struct("=HH32s")
PRESHARED_KEY_HEADER = ATTRIBUTE.pack(4 + KEY_LENGTH, WGPEER_A_PRESHARED_KEY)
_PRESHARED_KEY_LENGTH = len(PRESHARED_KEY_HEADER) + KEY_LENGTH

# A peer's own header, the public key with its header and, before that, what AmneziaWG puts there (`get_peer` of its
# module, since 2024): 8 bytes of flags. A peer that is whole has the header of its preshared key in its head too.
FLAGS = ATTRIBUTE.pack(8, WGPEER_A_FLAGS)
FLAGS_LENGTH = len(FLAGS) + 4
_BARE = ATTRIBUTE.size + _KEY.size
_WHOLE = _BARE + len(PRESHARED_KEY_HEADER)

# How many layouts are kept for each device. Messages beyond that are read entry by entry.
_MAX_LAYOUTS = 4096


# Bytes behind the preshared key (get_peer, drivers/net/wireguard/netlink.c). TIMES: the last handshake, the keepalive
# interval and the header of tx_bytes. COUNTERS: tx_bytes, and rx_bytes with its header.
TIMES, COUNTERS = 32, 20


class Entries(NamedTuple):
    """The entries of one dump, in pieces: the lists run in parallel. No secret is in them.

    `heads` have the public keys in their headers (see `public_key`), `times` and `counters` have TIMES and COUNTERS
    bytes each, and `rests` what follows: protocol version, endpoint and allowed IPs. An entry that is too short, such
    as the rest of a peer that began in the message before, is all in `rests`.
    """

    heads: list[bytes]
    times: list[bytes]
    counters: list[bytes]
    rests: list[bytes]


NO_ENTRIES = Entries([], [], [], [])
PIECES = len(NO_ENTRIES)


def is_whole(head: bytes) -> bool:
    """Whether an entry is a peer with all that belongs to it, and not the rest of one."""
    return len(head) in {_WHOLE, _WHOLE + FLAGS_LENGTH}


def public_key(head: bytes) -> bytes:
    """The public key in a head."""
    end = len(head) - (len(PRESHARED_KEY_HEADER) if is_whole(head) else 0)
    return head[end - KEY_LENGTH : end]


class DeviceFacts(NamedTuple):
    """What a dump says of the device itself."""

    ifindex: int
    name: str
    public_key: str
    listen_port: int
    fwmark: int


class _Layout(NamedTuple):
    """How the peers of one message were laid out last time."""

    length: int
    reader: struct.Struct  # reads them all at once
    heads: tuple[bytes, ...]  # which must be equal, or the layout is another
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
        self._entries = Entries([], [], [], [])

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
        self._entries.heads.extend(layout.heads)
        for piece in range(1, PIECES):
            self._entries[piece].extend(values[piece::PIECES])


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
    if values[0::PIECES] != layout.heads:
        return None
    # Where the rest of a peer was, a whole peer of the same length may be now, with its key: that must not be kept.
    rests = values[PIECES - 1 :: PIECES]
    if any(_holds_preshared_key(rest, 0, len(rest)) for rest in (rests[index] for index in layout.bare)):
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
        first = offset + ATTRIBUTE.size
        if data[first : first + len(FLAGS)] == FLAGS:
            first += FLAGS_LENGTH
        secret = first + _KEY.size
        if secret > stop or stop > end:
            raise DecodeError("peer length out of range")
        key_length, key_kind, _ = _KEY.unpack_from(data, first)
        if key_length != 4 + KEY_LENGTH or key_kind & ATTRIBUTE_TYPE_MASK != WGPEER_A_PUBLIC_KEY:
            raise DecodeError("a peer does not begin with its public key")
        head = secret - offset
        if data[secret : secret + 4] == PRESHARED_KEY_HEADER and secret + _PRESHARED_KEY_LENGTH <= stop:
            left = stop - secret - _PRESHARED_KEY_LENGTH
            times, counters = (TIMES, COUNTERS) if left >= TIMES + COUNTERS else (0, 0)
            head += len(PRESHARED_KEY_HEADER)
            pieces.append(f"{head}s{KEY_LENGTH}x{times}s{counters}s{left - times - counters}s")
        else:
            # The rest of a peer that began in the message before. Should the kernel ever move the preshared key
            # elsewhere, refuse the dump: an entry that holds one must not be kept.
            if _holds_preshared_key(data, secret, stop):
                raise DecodeError("the preshared key is not where it was expected")
            bare.append(entry)
            pieces.append(f"{head}s0s0s{stop - secret}s")
        pieces.append(f"{-length % 4}x")
        offset += (length + 3) & ~3
        entry += 1
    if offset < end:
        raise DecodeError("stray bytes after the last peer")
    if offset > end:
        raise DecodeError("the last peer is not padded")
    reader = struct.Struct("".join(pieces))
    values = reader.unpack_from(data, start)
    return _Layout(end - start, reader, values[0::PIECES], tuple(bare)), values
