"""Handshake messages as they look on the wire, the packets around them, and the kernel's filter machine to run filters.

The messages have right indices and a right mac1, and else random bytes: nothing here decrypts.
"""

from __future__ import annotations

import base64
import logging
import struct
from hashlib import blake2s
from random import Random

from scapy.layers import inet as scapy_inet
from scapy.layers import inet6 as scapy_inet6

from wg_exporter.prober.watcher.filters import PACKET_HOST, PACKET_OUTGOING

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)  # it would warn of missing routes
IP, IPv6, UDP, ICMP = scapy_inet.IP, scapy_inet6.IPv6, scapy_inet.UDP, scapy_inet.ICMP

US, PEER, ROUTER, OTHER = "192.0.2.1", "192.0.2.2", "198.51.100.9", "203.0.113.7"
US6, PEER6 = "2001:db8::1", "2001:db8::2"
PORT, THEIR_PORT = 51820, 41414

_random = Random(7)


def public_key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


OURS, THEIRS, SOMEBODYS = public_key(1), public_key(2), public_key(3)


def _with_macs(message: bytes, to: str, cookie: bytes) -> bytes:
    key = blake2s(b"mac1----" + base64.b64decode(to)).digest()
    return message + blake2s(message, digest_size=16, key=key).digest() + cookie


def initiation(to: str = THEIRS, sender: int = 0x11111111, cookie: bytes = bytes(16)) -> bytes:
    """To the owner of a public key."""
    return _with_macs(struct.pack("<II", 1, sender) + _random.randbytes(108), to, cookie)


def response(to: str = OURS, sender: int = 0x22222222, receiver: int = 0x11111111) -> bytes:
    return _with_macs(struct.pack("<III", 2, sender, receiver) + _random.randbytes(48), to, bytes(16))


def cookie(receiver: int = 0x11111111) -> bytes:
    return struct.pack("<II", 3, receiver) + _random.randbytes(56)


def data(size: int = 96) -> bytes:
    return struct.pack("<IIQ", 4, 0x33333333, 5) + _random.randbytes(size - 16)


def udp(payload: bytes, source=PEER, target=US, ports=(THEIR_PORT, PORT)) -> bytes:
    """A whole IP packet, of the family of its addresses."""
    around = IPv6(src=source, dst=target) if ":" in source else IP(src=source, dst=target)
    return bytes(around / UDP(sport=ports[0], dport=ports[1]) / payload)


def arriving(payload: bytes, source=PEER, port=THEIR_PORT) -> bytes:
    return udp(payload, source, US6 if ":" in source else US, (port, PORT))


def leaving(payload: bytes, target=PEER, port=THEIR_PORT) -> bytes:
    return udp(payload, US6 if ":" in target else US, target, (PORT, port))


def refused(quoted: bytes, by=ROUTER, kind=3, code=3, length: int | None = None) -> bytes:
    """An ICMP error with what it quotes, or an ICMPv6 error if that is an IPv6 packet."""
    quoted = quoted[:length]
    if quoted[0] >> 4 == 6:
        error = struct.pack("!BBHI", kind, code, 0, 0) + quoted
        return bytes(IPv6(src=by, dst=US6, nh=58) / error)
    return bytes(IP(src=by, dst=US) / ICMP(type=kind, code=code) / quoted)


def filtered(program: bytes, packet: bytes, kind: int = PACKET_HOST) -> bool:
    """Whether the kernel would let a packet through (linux Documentation/networking/filter.rst): the classic machine,
    as far as our programs use it. A load beyond the end drops the packet."""
    steps = list(struct.iter_unpack("=HBBI", program))
    known = {0xFFFFF000: 0x86DD if packet[:1] and packet[0] >> 4 == 6 else 0x0800, 0xFFFFF004: kind}
    a = x = at = stored = 0
    try:
        for _ in range(len(steps)):
            code, then, otherwise, k = steps[at]
            at += 1
            match code:
                case 0x20:
                    a = known[k] if k in known else _load(packet, k, 4)
                case 0x28:
                    a = _load(packet, k, 2)
                case 0x30:
                    a = _load(packet, k, 1)
                case 0x40:
                    a = _load(packet, x + k, 4)
                case 0x48:
                    a = _load(packet, x + k, 2)
                case 0x50:
                    a = _load(packet, x + k, 1)
                case 0x01:
                    x = k
                case 0xB1:
                    x = 4 * (_load(packet, k, 1) & 15)
                case 0x02:
                    stored = a
                case 0x60:
                    a = stored
                case 0x07:
                    x = a
                case 0x54:
                    a &= k
                case 0x64:
                    a <<= k
                case 0x0C:
                    a += x
                case 0x15:
                    at += then if a == k else otherwise
                case 0x06:
                    return k > 0
                case _:
                    raise AssertionError(f"no such instruction: {code:#x}")
    except IndexError:
        return False
    raise AssertionError("a program ends with a return")


def _load(packet: bytes, at: int, size: int) -> int:
    if at + size > len(packet):
        raise IndexError
    return int.from_bytes(packet[at : at + size], "big")


WAYS = {"arriving": PACKET_HOST, "leaving": PACKET_OUTGOING}
