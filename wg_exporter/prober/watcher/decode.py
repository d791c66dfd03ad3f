"""Takes apart what a packet socket received: WireGuard's handshake messages, and ICMP errors that quote a datagram.

Everything here was sent by strangers: what is cut short, fragmented or not understood is None, never an exception and
never a guess. Nothing is decrypted, and messages of data are not understood on purpose.

Sources: "WireGuard: Next Generation Kernel Network Tunnel", sections 5.4.2, 5.4.3, 5.4.4 and 5.4.7;
drivers/net/wireguard/messages.h; RFC 792; RFC 4443.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as BadBase64
from enum import IntEnum
from hashlib import blake2s
from hmac import compare_digest
from struct import Struct
from typing import NamedTuple

from wg_exporter.prober.wire.packet import ICMP, ICMPV6, UDP
from wg_exporter.wireguard import COOKIE_REPLY, INITIATION, RESPONSE

KEY_LENGTH = 32  # bytes of a public key

_IPV4 = Struct("!BBHHHBBH4s4s")  # version+IHL, TOS, length, id, flags+offset, TTL, protocol, checksum, from, to
_IPV6 = Struct("!IHBB16s16s")  # version+class+label, payload length, next header, hop limit, from, to
_UDP = Struct("!HHHH")  # source port, destination port, length, checksum
_TYPE = Struct("<I")  # a byte and three that are 0
_SENDER = Struct("<4xI")
_SENDER_RECEIVER = Struct("<4xII")
_MAC = 16  # bytes of mac1 and of mac2, which end initiations and responses
_LABEL = b"mac1----"


class Kind(IntEnum):
    """The type of a handshake message, as its first byte has it."""

    INITIATION = 1
    RESPONSE = 2
    COOKIE = 3


LENGTHS = {Kind.INITIATION: INITIATION, Kind.RESPONSE: RESPONSE, Kind.COOKIE: COOKIE_REPLY}


class Message(NamedTuple):
    """A handshake message: `sender` and `receiver` are its indices, None where it has none. `data` is all of it."""

    kind: Kind
    sender: int | None
    receiver: int | None
    data: bytes


class Datagram(NamedTuple):
    """A UDP datagram with a handshake message. Addresses are packed (4 or 16 bytes)."""

    source: bytes
    source_port: int
    target: bytes
    target_port: int
    message: Message


class Quote(NamedTuple):
    """An ICMP or ICMPv6 error from `by`, and the datagram that it quotes: `data` is what it has of the payload."""

    by: bytes
    type: int
    code: int
    source: bytes
    source_port: int
    target: bytes
    target_port: int
    data: bytes


def decode(packet: bytes) -> Datagram | Quote | None:
    """What an IP packet has of either."""
    found = _ip(packet, whole=True)
    if found is None:
        return None
    protocol, source, target, rest = found
    if protocol == UDP:
        return _datagram(source, target, rest)
    if protocol == (ICMPV6 if len(source) == 16 else ICMP):
        return _quote(source, rest, ipv6=len(source) == 16)
    return None


def message_of(data: bytes) -> Message | None:
    """The handshake message that this payload is."""
    if len(data) < _TYPE.size:
        return None
    (number,) = _TYPE.unpack_from(data)
    if number not in (Kind.INITIATION, Kind.RESPONSE, Kind.COOKIE) or len(data) != LENGTHS[Kind(number)]:
        return None
    kind = Kind(number)
    if kind is Kind.INITIATION:
        return Message(kind, _SENDER.unpack_from(data)[0], None, data)
    if kind is Kind.RESPONSE:
        sender, receiver = _SENDER_RECEIVER.unpack_from(data)
        return Message(kind, sender, receiver, data)
    return Message(kind, None, _SENDER.unpack_from(data)[0], data)


def mac1_key(public_key: str) -> bytes | None:
    """What mac1 of all messages to the owner of a public key (base64) is made with; None if it is no key."""
    try:
        key = b64decode(public_key, validate=True)
    except (BadBase64, ValueError):
        return None
    return blake2s(_LABEL + key).digest() if len(key) == KEY_LENGTH else None


def made_for(message: Message, key: bytes) -> bool:
    """Whether the message was made for the owner of the public key that `key` (`mac1_key`) is made of. A cookie reply
    has no mac1, so that is never known of it.
    """
    if message.kind is Kind.COOKIE:
        return False
    before = len(message.data) - 2 * _MAC
    return compare_digest(
        blake2s(message.data[:before], digest_size=_MAC, key=key).digest(), message.data[before : before + _MAC]
    )


def _datagram(source: bytes, target: bytes, rest: bytes) -> Datagram | None:
    if len(rest) < _UDP.size:
        return None
    source_port, target_port, length, _ = _UDP.unpack_from(rest)
    if not _UDP.size <= length <= len(rest):
        return None
    message = message_of(rest[_UDP.size : length])
    return message and Datagram(source, source_port, target, target_port, message)


def _quote(by: bytes, rest: bytes, *, ipv6: bool) -> Quote | None:
    """What refuses a datagram: destination unreachable, and time exceeded on its way. "Too big" is no refusal."""
    if len(rest) < 8:
        return None
    kind, code = rest[0], rest[1]
    unreachable = kind == 1 if ipv6 else kind == 3 and code != 4
    if not unreachable and (kind, code) != ((3, 0) if ipv6 else (11, 0)):
        return None
    found = _ip(rest[8:], whole=False)
    if found is None or len(found[1]) != len(by) or found[0] != UDP or len(found[3]) < _UDP.size:
        return None
    _, source, target, quoted = found
    source_port, target_port, length, _ = _UDP.unpack_from(quoted)
    if length < _UDP.size:
        return None
    return Quote(by, kind, code, source, source_port, target, target_port, quoted[_UDP.size : length])


def _ip(packet: bytes, *, whole: bool) -> tuple[int, bytes, bytes, bytes] | None:
    """(protocol, source, target, what follows) of an IP packet that is no fragment. `whole`: nothing of it is missing.

    An extension header of IPv6 comes as a protocol that nobody asks for: WireGuard's packets have none.
    """
    if not packet:
        return None
    if packet[0] >> 4 == 4 and len(packet) >= _IPV4.size:
        first, _, length, _, offset, _, protocol, _, source, target = _IPV4.unpack_from(packet)
        start = (first & 15) * 4
        if start < _IPV4.size or length < start or offset & 0x3FFF or (whole and length > len(packet)):
            return None
        return protocol, source, target, packet[start:length]
    if packet[0] >> 4 == 6 and len(packet) >= _IPV6.size:
        _, length, protocol, _, source, target = _IPV6.unpack_from(packet)
        if whole and length > len(packet) - _IPV6.size:
            return None
        return protocol, source, target, packet[_IPV6.size : _IPV6.size + length]
    return None
