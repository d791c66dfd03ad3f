"""The answer of a userspace WireGuard daemon to `get=1`, taken apart: bytes in, rows out, no socket and no clock.

The protocol (https://www.wireguard.com/xplatform/) is lines of `key=value`: first the device's, then for every peer its
`public_key=` and what belongs to it, at the end `errno=`. The secrets among them are overwritten before anything here
looks at the lines (secrets.py).

No answer is trusted. A line that is not understood is an error with its number. An unknown key is skipped: AmneziaWG
has keys of its own, and there will be others. No text of the answer gets into an error.

Reading 10,000 peers every few seconds must be cheap: a peer whose lines are the same as last time is not parsed again.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.model import SOME_TIME, Peer
from wg_exporter.reader.userspace.secrets import derived_public_key, overwrite_secrets
from wg_exporter.reader.userspace.values import base64_key, is_cidr, is_endpoint
from wg_exporter.wireguard import INITIATION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# What bounds the time and the memory of a hostile answer. wireguard-go itself allows so many peers on one device.
MAX_PEERS = 1 << 16
MAX_ALLOWED_IPS = 1 << 18  # of all peers of a device
MAX_ALLOWED_IPS_EACH = 1 << 15  # of one
MAX_LINES = 64  # of a device, or of a peer without its allowed IPs
MAX_LINE = 4096  # bytes

U16, U32, U64 = (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1
SECOND = 1_000_000_000  # in nanoseconds
LAST_SECOND = ((1 << 63) - 1) // SECOND - 1  # a stamp must fit 64 bits of nanoseconds

# A boringtun age becomes a stamp with the jitter of our reading, and gotatun and NepTUN make such a stamp themselves at
# each read. Handshakes are 5 s apart (REKEY_TIMEOUT) or more, so a stamp that moved less than half of that is still the
# same handshake.
SAME_HANDSHAKE = 2_500_000_000  # nanoseconds
AGE_BELOW = 1_000_000_000 * SECOND  # 31 years as an age, the year 2001 as a stamp

DEVICE_KEYS = frozenset({b"private_key", b"own_public_key", b"listen_port", b"fwmark"})
PEER_KEYS = frozenset(
    {
        b"preshared_key",
        b"protocol_version",
        b"endpoint",
        b"last_handshake_time_sec",
        b"last_handshake_time_nsec",
        b"tx_bytes",
        b"rx_bytes",
        b"persistent_keepalive_interval",
        b"allowed_ip",
    }
)
_KNOWN_KEYS = DEVICE_KEYS | PEER_KEYS | {b"errno"}

_USUAL_LINES = 16  # of a peer, without its allowed IPs, at most; and some for what will be added to the protocol

_KEY = re.compile(rb"[A-Za-z0-9_]{1,64}")
_ERRNO = re.compile(rb"errno=(-?[0-9]{1,10})\n")
_RANGE = re.compile(rb"[0-9]{1,5}-([0-9]{1,5})")
# A peer as wireguard-go and amneziawg-go write it, from behind its public key.
_USUAL = re.compile(
    rb"\n(?:preshared_key=0*\n)?protocol_version=1\n(?:endpoint=([^\n]+)\n)?"
    rb"last_handshake_time_sec=([0-9]{1,10})\nlast_handshake_time_nsec=([0-9]{1,9})\n"
    rb"tx_bytes=([0-9]{1,20})\nrx_bytes=([0-9]{1,20})"
    rb"(?:\npersistent_keepalive_interval=([0-9]{1,5}))?(?:\nallowed_ip=(.*))?",
    re.DOTALL,
)


class DecodeError(ValueError):
    """An answer that cannot be used. The message is one line and holds nothing of the answer but known key names."""


class KeptPeer(NamedTuple):
    """A peer as last decoded, and its lines (secrets overwritten); `block` is None if an unknown key was in them."""

    block: bytes | None
    peer: Peer


class Answer(NamedTuple):
    """What a daemon said of its device. `public_key` is empty on a device without a private key.

    Peers keep their place from read to read; wireguard-go lists them in a new random order every time.
    `known` is for the next `decode` of the same device, by public key in hex. `opaque`: it is boringtun, which counts
    what is inside the messages, and no handshakes.
    """

    public_key: str
    listen_port: int
    fwmark: int
    peers: tuple[Peer, ...]
    known: dict[bytes, KeptPeer]
    opaque: bool = False


class _LineError(Exception):
    """What is wrong with a line, and which line of its section it is, counted from 0."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(what)
        self.index = index


def decode(
    answer: bytearray,
    wall_ns: int,
    known: Mapping[bytes, KeptPeer] | None = None,
    overdue: Callable[[], bool] = lambda: False,
) -> Answer:
    """Decode a whole answer, the `errno=` line included. The secrets in `answer` are overwritten, whatever happens.

    `wall_ns` is the wall clock (nanoseconds since the epoch) when the answer came: boringtun, which alone sends
    `own_public_key=`, gives the age of a handshake where the protocol wants its time.
    `known` is of the last answer of this device: a peer that has not changed since is the same object again. `overdue`
    is asked now and then whether to give up. Raises DecodeError.
    """
    try:
        public_key = derived_public_key(answer)
    except ValueError as error:
        raise DecodeError(str(error)) from None
    finally:
        overwrite_secrets(answer)
    _check_size(answer)
    head, blocks = _sections(_without_errno(answer))
    known = known or {}
    seen: dict[bytes, KeptPeer] = {}
    lines_before = 0
    try:
        own_public_key, listen_port, fwmark = _device(head)
        lines_before = len(head)
        _add_peers(seen, blocks, known, wall_ns if own_public_key else None, overdue)
    except _LineError as error:
        lines_before += sum(block.count(b"\n") + 1 for block in blocks[: len(seen)])
        raise DecodeError(f"line {lines_before + error.index + 1}: {error}") from None
    ordered = {key: seen.pop(key) for key in known if key in seen} | seen
    peers = tuple([entry.peer for entry in ordered.values()])
    return Answer(public_key or own_public_key, listen_port, fwmark, peers, ordered, bool(own_public_key))


def _check_size(answer: bytearray) -> None:
    """Count before anything is split: a list of lines takes thirty times the memory of the shortest lines."""
    if answer.count(b"public_key=") > 2 * MAX_PEERS:  # own_public_key= counts too
        raise DecodeError(f"more than {MAX_PEERS} peers")
    allowed_ips = answer.count(b"allowed_ip=")
    if allowed_ips > MAX_ALLOWED_IPS:
        raise DecodeError(f"more than {MAX_ALLOWED_IPS} allowed IPs")
    if answer.count(b"\n") > allowed_ips + MAX_LINES + MAX_PEERS * _USUAL_LINES:
        raise DecodeError("more lines than so many peers have")


def _without_errno(answer: bytearray) -> bytes:
    """The lines before `errno=0`, which must be the last line and may be followed by one empty line."""
    end = len(answer) - answer.endswith(b"\n\n")
    last = answer.rfind(b"\n", 0, end - 1) + 1
    match = _ERRNO.fullmatch(answer, last, end)
    if match is None:
        raise DecodeError("the answer is cut short: its last line is not errno=")
    if number := abs(int(match[1])):
        raise DecodeError(f"the daemon answered with an error: {errno.errorcode.get(number, 'unknown errno')}")
    with memoryview(answer) as view:
        return bytes(view[:last])


def _sections(body: bytes) -> tuple[list[bytes], list[bytes]]:
    """The lines of the device, and for each peer its lines, joined, without the leading `public_key=`."""
    if not body:
        return [], []
    head, *blocks = body.split(b"\npublic_key=", MAX_PEERS + 1)
    if head.startswith(b"public_key="):  # a device without any line of its own
        blocks = [head.removeprefix(b"public_key="), *blocks]
        head = b""
    if len(blocks) > MAX_PEERS:
        raise DecodeError(f"more than {MAX_PEERS} peers")
    if blocks:
        blocks[-1] = blocks[-1].removesuffix(b"\n")
    lines = head.removesuffix(b"\n")
    if lines.count(b"\n") >= MAX_LINES:
        raise DecodeError(f"more than {MAX_LINES} lines before the first peer")
    return lines.split(b"\n") if lines else [], blocks


def _fields(lines: Sequence[bytes], first: int, names: frozenset[bytes]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The values by key, and the allowed IPs in order. Unknown keys come out as one key, `unknown`, without value.

    A key twice, or one that belongs into the other kind of section, means that lines were lost or mixed up: no value of
    such an answer can be trusted.
    """
    fields: dict[bytes, bytes] = {}
    allowed_ips: list[bytes] = []
    for line in lines[first:]:
        key, equals, value = line.partition(b"=")
        if key in names and equals:
            if key == b"allowed_ip":
                allowed_ips.append(value)
            elif key in fields:
                raise _LineError(lines.index(line, first), f"{key.decode()} is given twice")
            else:
                fields[key] = value
        elif not (equals and _KEY.fullmatch(key)):
            raise _LineError(lines.index(line, first), "not key=value")
        elif key in _KNOWN_KEYS:
            raise _LineError(lines.index(line, first), f"{key.decode()} is in the wrong place")
        else:
            fields[b"unknown"] = b""
    return fields, allowed_ips


def _device(lines: Sequence[bytes]) -> tuple[str, int, int]:
    """(own public key or empty, listen port, fwmark) from the lines before the first peer."""
    fields, _ = _fields(lines, 0, DEVICE_KEYS)
    own: str | None = ""
    if b"own_public_key" in fields:
        own = base64_key(fields[b"own_public_key"])
    if own is None:
        raise _LineError(_line_of(b"own_public_key", lines), "own_public_key is not 64 hex digits")
    return own, _number(fields, b"listen_port", U16, lines), _number(fields, b"fwmark", U32, lines)


def _add_peers(
    seen: dict[bytes, KeptPeer],
    blocks: Sequence[bytes],
    known: Mapping[bytes, KeptPeer],
    aged_at: int | None,
    overdue: Callable[[], bool],
) -> None:
    """Fill `seen`. `aged_at` is the time from which a daemon counts handshake ages, None if it sends times."""
    for number, block in enumerate(blocks):
        if number % 256 == 0 and overdue():
            raise DecodeError("it takes too long to read")
        key = block[:64].lower()
        if key in seen:
            raise _LineError(0, "public_key is the same as an earlier peer's")
        before = known.get(key)
        seen[key] = before if before and before.block == block else _peer(block, before and before.peer, aged_at)


def _peer(block: bytes, old: Peer | None, aged_at: int | None) -> KeptPeer:
    lines, allowed_ips = block.count(b"\n"), block.count(b"\nallowed_ip=")
    if allowed_ips > MAX_ALLOWED_IPS_EACH or lines - allowed_ips > MAX_LINES:
        raise _LineError(0, f"a peer with more than {MAX_ALLOWED_IPS_EACH} allowed IPs, or {MAX_LINES} other lines")
    if len(block) > MAX_LINE * (lines + 1):
        raise _LineError(0, f"a line of more than {MAX_LINE} bytes")
    peer, keep = None if aged_at else _usual_peer(block, old), True
    if peer is None:
        peer, keep = _peer_by_lines(block, old, aged_at)
    return KeptPeer(block if keep else None, old if old is not None and peer == old else peer)


def _usual_peer(block: bytes, old: Peer | None) -> Peer | None:
    """A peer whose lines are those of wireguard-go in its order, three times faster than line by line.

    None where there is any doubt: `_peer_by_lines` knows the exceptions and the errors.
    """
    match = _USUAL.fullmatch(block, 64)
    if match is None:
        return None
    where, sec, nsec, tx_bytes, rx_bytes, keepalive, cidrs = match.groups(b"")
    endpoint = where.decode("latin-1")  # never fails; what is not ASCII is found out below
    allowed_ips = tuple(cidrs.decode("latin-1").split("\nallowed_ip=")) if cidrs else ()
    if old and endpoint == old.endpoint and allowed_ips == old.allowed_ips:
        public_key, endpoint, allowed_ips = old[:3]  # valid already, and no second copy of the texts
    else:
        public_key = base64_key(block[:64]) or ""
        if not (public_key and (not endpoint or is_endpoint(endpoint)) and all(map(is_cidr, allowed_ips))):
            return None
    seconds, interval, received, sent = int(sec), int(keepalive or b"0"), int(rx_bytes), int(tx_bytes)
    if seconds > LAST_SECOND or interval > U16 or received > U64 or sent > U64:
        return None
    stamp = _steady(seconds * SECOND + int(nsec), received, old)
    return Peer(public_key, endpoint, allowed_ips, interval, stamp, received, sent)


def _peer_by_lines(block: bytes, old: Peer | None, aged_at: int | None) -> tuple[Peer, bool]:
    """The peer, and whether its lines may be kept: an unknown key may hold a secret."""
    lines = block.split(b"\n")
    public_key = base64_key(lines[0])
    if public_key is None:
        raise _LineError(0, "public_key is not 64 hex digits")
    fields, allowed_ips = _fields(lines, 1, PEER_KEYS)
    handshake = _number(fields, b"last_handshake_time_sec", LAST_SECOND, lines) * SECOND
    handshake += _number(fields, b"last_handshake_time_nsec", SECOND - 1, lines)
    if aged_at is not None:
        handshake = _stamp_of_age(handshake, aged_at)
    received = _number(fields, b"rx_bytes", U64, lines)
    peer = Peer(
        public_key,
        _endpoint(fields, lines),
        _allowed_ips(allowed_ips, lines, old),
        _keepalive(fields, lines),
        _steady(handshake, received, old),
        received,
        _number(fields, b"tx_bytes", U64, lines),
    )
    return peer, b"unknown" not in fields


def _stamp_of_age(age: int, now: int) -> int:
    """When the handshake of that age (nanoseconds) was. A value too big for an age is a stamp after all."""
    return age if age == 0 or age >= AGE_BELOW else max(now - age, 1)  # 0 would mean never


def _steady(stamp: int, received: int, old: Peer | None) -> int:
    """The stamp of the latest handshake, which stays the same until the next.

    Some daemons leave it out once the session has ended. A peer that was never heard has sent nothing but initiations.
    """
    if stamp == 0:
        return SOME_TIME if received % INITIATION else 0
    if old is not None and 0 < abs(stamp - old.last_handshake_ns) < SAME_HANDSHAKE:
        return old.last_handshake_ns
    return stamp


def _number(fields: Mapping[bytes, bytes], key: bytes, most: int, lines: Sequence[bytes]) -> int:
    """The value of `key` in plain digits, from 0 to `most`; 0 if it is not given, as daemons leave zeros out."""
    value = fields.get(key, b"0")
    # The length comes first: the time of int() grows with the square of it.
    if len(value) <= 20 and value.isdigit() and (number := int(value)) <= most:
        return number
    raise _LineError(_line_of(key, lines), f"{key.decode()} is not a number from 0 to {most}")


def _keepalive(fields: Mapping[bytes, bytes], lines: Sequence[bytes]) -> int:
    """Seconds. AmneziaWG may give a range to choose from at random: only the longest wait can be relied upon."""
    key = b"persistent_keepalive_interval"
    match = _RANGE.fullmatch(fields.get(key, b""))
    return _number({key: match[1]} if match else fields, key, U16, lines)


def _endpoint(fields: Mapping[bytes, bytes], lines: Sequence[bytes]) -> str:
    if b"endpoint" not in fields:
        return ""
    text = fields[b"endpoint"].decode("latin-1")
    if not is_endpoint(text):
        raise _LineError(_line_of(b"endpoint", lines), "endpoint is not address:port")
    return text


def _allowed_ips(values: Sequence[bytes], lines: Sequence[bytes], old: Peer | None) -> tuple[str, ...]:
    texts = tuple([value.decode("latin-1") for value in values])
    if old and texts == old.allowed_ips:
        return old.allowed_ips
    for value, text in zip(values, texts, strict=True):
        if not is_cidr(text):
            raise _LineError(lines.index(b"allowed_ip=" + value), "allowed_ip is not address/prefix length")
    return texts


def _line_of(key: bytes, lines: Sequence[bytes]) -> int:
    return next(i for i, line in enumerate(lines) if line.startswith(key + b"="))
