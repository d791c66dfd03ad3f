"""Builds probes and takes apart what comes back: ICMP and ICMPv6 echoes, UDP, and the errors that quote them.

**Every probe carries a token of 8 random bytes right after its ICMP or UDP header**, so that an answer, or the packet
quoted in an error, can be told from anybody else's. In an echo the tag follows, 16 bits that all echoes of one process
share, by which the filters of its sockets know them (`bpf`): it is no secret and proves nothing. What is parsed was
sent by strangers: anything that is cut short, damaged or not understood is None, never an exception and never a guess.
Nothing here judges what a packet says: a next-hop MTU of 0 or 65535 is returned as it came.

IPv4 probes are whole packets for a socket with IP_HDRINCL, the only way to set DF without the kernel learning a path
MTU from the answers (ip(7), raw(7)). The kernel fills in the fields that are 0: identification, source, header
checksum. IPv6 probes are messages; the kernel makes their checksum, as only it knows the source.

Checksums: the 16-bit one's-complement sum of RFC 1071 is the number that the bytes spell, modulo 65535.
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import NamedTuple

ICMP, UDP, ICMPV6 = 1, 17, 58  # protocol numbers (IANA)
SMALLEST_V4, SMALLEST_V6 = 38, 58  # bytes: IP header, 8 bytes of ICMP or UDP header, token, tag
LARGEST = 65535  # bytes: the largest value of IPv4's length field
TAG_AT = 16  # bytes into an ICMP message, after its header and the token
ANY_V4, ANY_V6 = bytes(4), bytes(16)

Buffer = bytes | bytearray | memoryview

_IPV4 = Struct("!BBHHHBBH4s4s")  # version+IHL, TOS, length, id, flags+offset, TTL, protocol, checksum, from, to
_IPV6 = Struct("!IHBB16s16s")  # version+class+label, payload length, next header, hop limit, from, to
_ECHO = Struct("!BBHHHQ")  # type, code, checksum, ident, sequence, token
_TAG = Struct("!H")
_SHORT_ECHO = Struct("!BBHHH")
_PORTS = Struct("!HHHH")
_UDP = Struct("!HHHHQ")  # source port, destination port, length, checksum, token
_ERROR = Struct("!BBHHH")  # type, code, checksum, and two fields that depend on the type
_LONG = Struct("!4xI")
_TOKEN = Struct("!Q")
_RENEW = Struct("!HHHQ")  # what differs between two echoes of one target: checksum, ident, sequence, token

_DF = 0x4000
_ECHO_V4, _ECHO_V6 = 0x0800, 0x8000  # type and code of an echo request, as the checksum sees them


class IcmpKind(Enum):
    """What an answer says."""

    REPLY = "reply"
    TOO_BIG = "too_big"  # IPv4: fragmentation needed (RFC 1191); IPv6: packet too big (RFC 4443)
    UNREACHABLE = "unreachable"
    TIME_EXCEEDED = "time_exceeded"


class IcmpAnswer(NamedTuple):
    """What came back for one of our probes, or claims to.

    Addresses are packed (4 or 16 bytes). `sender` is the source of the answer, `target` the destination of the probe;
    they differ in errors, whose sender may be any router. `protocol`, `ident`, `sequence` and `token` are the
    probe's; of a UDP probe, `ident` is the source port and `sequence` the destination port. `token` is None where the
    quote is too short for it. `size` in bytes is that of the whole IP packet: of the answer, for a reply; of the probe,
    as the quote has it, for an error. `code` is the ICMP code, `mtu` the next hop's (0 = not told, else anything).
    `fragment` is the size of the largest fragment in which a reply came, 0 = in one piece or not known. `checksum` is
    that of the echo or datagram as an error quotes it, 0 in a reply. `ifindex` is the device by which the answer came,
    0 = not known: the packet does not tell.
    """

    kind: IcmpKind
    sender: bytes
    target: bytes
    protocol: int
    ident: int
    sequence: int
    token: int | None
    size: int
    code: int = 0
    mtu: int = 0
    fragment: int = 0
    checksum: int = 0
    ifindex: int = 0


def echo_v4(
    destination: bytes,
    size: int,
    ident: int,
    sequence: int,
    token: int,
    *,
    tag: int = 0,
    ttl: int = 64,
    source: bytes = ANY_V4,
) -> bytearray:
    """A whole IPv4 packet of `size` bytes with an ICMP echo request (RFC 792). ValueError for an impossible size."""
    packet = _ipv4(destination, size, ICMP, ttl=ttl, source=source)
    _ECHO.pack_into(packet, 20, 8, 0, 0, 0, 0, 0)
    _TAG.pack_into(packet, 20 + TAG_AT, tag)
    renew_v4(packet, ident, sequence, token, tag)
    return packet


def echo_v6(size: int, ident: int, sequence: int, token: int, tag: int = 0) -> bytearray:
    """An ICMPv6 echo request (RFC 4443) that makes an IPv6 packet of `size` bytes. The checksum is left 0."""
    _check(size, SMALLEST_V6)
    message = bytearray(size - 40)
    _ECHO.pack_into(message, 0, 128, 0, 0, ident, sequence, token)
    _TAG.pack_into(message, TAG_AT, tag)
    return message


def renew_v4(packet: bytearray, ident: int, sequence: int, token: int, tag: int = 0) -> None:
    """Make the next echo out of a packet of `echo_v4` with the same tag, in place."""
    _RENEW.pack_into(packet, 22, checksum_v4(ident, sequence, token, tag), ident, sequence, token)


def checksum_v4(ident: int, sequence: int, token: int, tag: int = 0) -> int:
    """The ICMP checksum of an echo of `echo_v4`, whatever its size."""
    return -(_ECHO_V4 + ident + sequence + token + tag) % 0xFFFF


def renew_v6(message: bytearray, ident: int, sequence: int, token: int, tag: int = 0) -> None:  # noqa: ARG001 - as v4
    """Make the next echo out of a message of `echo_v6`, in place."""
    _RENEW.pack_into(message, 2, 0, ident, sequence, token)


def udp_v4(
    destination: bytes,
    size: int,
    source_port: int,
    destination_port: int,
    token: int,
    *,
    ttl: int = 64,
    source: bytes = ANY_V4,
) -> bytearray:
    """A whole IPv4 packet of `size` bytes with a UDP datagram; without a source it has no checksum (RFC 768)."""
    packet = _ipv4(destination, size, UDP, ttl=ttl, source=source)
    _UDP.pack_into(packet, 20, source_port, destination_port, size - 20, 0, token)
    if source != ANY_V4:
        pseudo = source + destination + bytes((0, UDP)) + (size - 20).to_bytes(2, "big")
        checksum = -(_sum(pseudo) + _sum(packet[20:])) % 0xFFFF
        packet[26:28] = (checksum or 0xFFFF).to_bytes(2, "big")  # 0 would say that there is none
    return packet


def udp_payload(size: int, token: int) -> bytearray:
    """The payload for an IPv6 UDP socket that makes an IPv6 packet of `size` bytes. ValueError as in `echo_v4`."""
    _check(size, SMALLEST_V6)
    payload = bytearray(size - 48)
    _TOKEN.pack_into(payload, 0, token)
    return payload


def whole_v6(
    message: bytes, *, sender: bytes = ANY_V6, target: bytes = ANY_V6, ports: tuple[int, int] | None = None
) -> bytes:
    """The IPv6 packet around an ICMPv6 message or, with `ports` (from, to), around the payload of a datagram.

    For captures, never sent: the checksum is left as it is, and the hop limit is not known.
    """
    if ports:
        message = _PORTS.pack(*ports, len(message) + 8, 0) + message
    return _IPV6.pack(6 << 28, len(message), UDP if ports else ICMPV6, 0, sender, target) + message


def parse_v4(packet: Buffer) -> IcmpAnswer | None:
    """Parse what a raw ICMP socket received, with its IP header. The kernel leaves the ICMP checksum to us."""
    data = memoryview(packet)
    if len(data) < 28:
        return None
    first, _, length, _, offset, _, protocol, _, sender, _ = _IPV4.unpack_from(data)
    start = (first & 15) * 4
    if first >> 4 != 4 or start < 20 or protocol != ICMP or offset & 0x3FFF or not start + 8 <= length <= len(data):
        return None
    message = data[start:length]
    if _damaged(message):
        return None
    if message[0] == 0:
        return _reply(message, sender, ICMP, length)
    kind, code, _, _, mtu = _ERROR.unpack_from(message)
    if kind == 3:
        what = IcmpKind.TOO_BIG if code == 4 else IcmpKind.UNREACHABLE
    elif kind == 11 and code == 0:  # code 1 is about fragments that never met
        what = IcmpKind.TIME_EXCEEDED
    else:
        return None
    return _error_v4(message[8:], sender, what, code, mtu if what is IcmpKind.TOO_BIG else 0)


def parse_v6(packet: Buffer, sender: bytes) -> IcmpAnswer | None:
    """Parse what a raw ICMPv6 socket received: a message without IPv6 header. The kernel has checked its checksum."""
    message = memoryview(packet)
    if not 8 <= len(message) <= LARGEST or len(sender) != 16:
        return None
    kind, code = message[0], message[1]
    if kind == 129:
        return _reply(message, sender, ICMPV6, len(message) + 40)
    if kind == 1:
        what = IcmpKind.UNREACHABLE
    elif kind == 2:
        what = IcmpKind.TOO_BIG
    elif kind == 3 and code == 0:
        what = IcmpKind.TIME_EXCEEDED
    else:
        return None
    mtu = _LONG.unpack_from(message)[0] if what is IcmpKind.TOO_BIG else 0
    return _error_v6(message[8:], sender, what, code, mtu)


def _reply(message: memoryview, sender: bytes, protocol: int, size: int) -> IcmpAnswer | None:
    if len(message) < _ECHO.size or message[1]:
        return None
    _, _, _, ident, sequence, token = _ECHO.unpack_from(message)
    return IcmpAnswer(IcmpKind.REPLY, sender, sender, protocol, ident, sequence, token, size)


def _error_v4(quote: memoryview, sender: bytes, kind: IcmpKind, code: int, mtu: int) -> IcmpAnswer | None:
    if len(quote) < 28:
        return None
    first, _, length, _, offset, _, protocol, _, _, target = _IPV4.unpack_from(quote)
    start = (first & 15) * 4
    if first >> 4 != 4 or start < 20 or offset & 0x1FFF or length < start + _ECHO.size:
        return None
    if protocol not in (ICMP, UDP):
        return None
    probe = _probe(quote[start:length], protocol, echo_type=8)
    if probe is None:
        return None
    return IcmpAnswer(kind, sender, target, protocol, *probe[:3], length, code, mtu, checksum=probe[3])


def _error_v6(quote: memoryview, sender: bytes, kind: IcmpKind, code: int, mtu: int) -> IcmpAnswer | None:
    if len(quote) < 48:
        return None
    first, length, protocol, _, _, target = _IPV6.unpack_from(quote)
    if first >> 28 != 6 or length < _ECHO.size or protocol not in (ICMPV6, UDP):
        return None
    probe = _probe(quote[40 : 40 + length], protocol, echo_type=128)
    if probe is None:
        return None
    return IcmpAnswer(kind, sender, target, protocol, *probe[:3], length + 40, code, mtu, checksum=probe[3])


def _probe(quoted: memoryview, protocol: int, *, echo_type: int) -> tuple[int, int, int | None, int] | None:
    """(ident, sequence, token, checksum) of a quoted echo request; of a UDP datagram, its ports, token and checksum."""
    if len(quoted) < 8:
        return None
    token: int | None = _TOKEN.unpack_from(quoted, 8)[0] if len(quoted) >= 16 else None
    if protocol == UDP:
        source_port, destination_port, length, checksum = _PORTS.unpack_from(quoted)
        return (source_port, destination_port, token, checksum) if length >= 16 else None
    kind, code, checksum, ident, sequence = _SHORT_ECHO.unpack_from(quoted)
    return (ident, sequence, token, checksum) if kind == echo_type and code == 0 else None


def _ipv4(destination: bytes, size: int, protocol: int, *, ttl: int, source: bytes) -> bytearray:
    _check(size, SMALLEST_V4)
    packet = bytearray(size)
    _IPV4.pack_into(packet, 0, 0x45, 0, size, 0, _DF, ttl, protocol, 0, source, destination)
    packet[10:12] = (-_sum(packet[:20]) % 0xFFFF).to_bytes(2, "big")
    return packet


def _check(size: int, smallest: int) -> None:
    if not smallest <= size <= LARGEST:
        raise ValueError(f"a probe has {smallest} to {LARGEST} bytes, not {size}")


def _damaged(message: Buffer) -> bool:
    """Whether its checksum is wrong. RFC 1071's sum accepts a message of zeros alone, so that is refused here."""
    number = int.from_bytes(message, "big")
    return number == 0 or (number << 8 if len(message) % 2 else number) % 0xFFFF != 0


def _sum(data: Buffer) -> int:
    """The one's-complement sum of 16-bit words, a last odd byte padded (RFC 1071); 0 if a checksum in it is right."""
    number = int.from_bytes(data, "big")
    return (number << 8 if len(data) % 2 else number) % 0xFFFF
