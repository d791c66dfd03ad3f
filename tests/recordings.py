"""What real kernels answered (tests/data/netlink, written by tests/vm/record.py), and what `wg` and `ip` said of it."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wg_exporter.linux.netlink import GENERIC, NLMSG_MIN_TYPE, messages
from wg_exporter.model import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parent / "data" / "netlink"
KERNELS = ("linux-6.1", "linux-6.12")
DEVICES = ("small", "nokey", "sixty", "wide")


class Said(NamedTuple):
    """A device as `wg show all dump` tells it, with the secrets that it holds. Handshakes are in seconds there."""

    public_key: str
    listen_port: int
    fwmark: int
    peers: tuple[Peer, ...]
    secrets: tuple[str, ...]


def about(name: str) -> dict[str, Any]:
    """The facts that were noted with a recording."""
    return json.loads((DATA / f"{name}.json").read_text())


def datagrams(name: str) -> list[bytes]:
    """The datagrams of a recording, as recv returned them."""
    raw = gzip.decompress((DATA / f"{name}.bin.gz").read_bytes())
    found, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def payloads(name: str, header: int = GENERIC.size) -> Iterator[bytes]:
    """What each message of a recording says, behind `header` bytes of its protocol's own."""
    for datagram in datagrams(name):
        for kind, _flags, _sequence, start, end in messages(bytearray(datagram), len(datagram)):
            if kind >= NLMSG_MIN_TYPE:
                yield datagram[start + header : end]


def text(name: str) -> str:
    """What the trusted tool printed at the same moment."""
    return (DATA / f"{name}.dump.txt").read_text()


def said(name: str) -> Said:
    """The text of `wg show all dump`, read field by field (wg(8))."""
    device, *peers = [line.split("\t") for line in text(name).splitlines()]
    _name, private_key, public_key, port, mark = device
    return Said(
        _known(public_key),
        int(port),
        0 if mark == "off" else int(mark, 16),
        tuple(
            Peer(
                key,
                _known(endpoint),
                tuple(ips.split(",")) if _known(ips) else (),
                0 if keepalive == "off" else int(keepalive),
                int(handshake) * 1_000_000_000,
                int(received),
                int(sent),
            )
            for _, key, _, endpoint, ips, handshake, received, sent, keepalive in peers
        ),
        tuple(filter(_known, [private_key, *(peer[2] for peer in peers)])),
    )


def in_seconds(peer: Peer) -> Peer:
    """A peer with its handshake cut to whole seconds, as `wg` prints it."""
    return peer._replace(last_handshake_ns=peer.last_handshake_ns // 1_000_000_000 * 1_000_000_000)


def _known(field: str) -> str:
    return "" if field == "(none)" else field
