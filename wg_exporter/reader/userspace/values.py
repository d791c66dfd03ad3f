"""The texts that a userspace daemon's answer may hold: keys, endpoints and allowed IPs, and nothing else than that.

What passes here ends in labels and on terminals, so it is checked in full: no quote, no control character, no name.
inet_pton(3) does the work, fifteen times faster than `ipaddress`.
"""

from __future__ import annotations

import re
from binascii import b2a_base64, unhexlify
from socket import AF_INET, AF_INET6, inet_pton

# The zone of a link-local address is an interface name: printable, and nothing that could end a quoted string.
_ENDPOINT = re.compile(r"(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})(?:%[!#$&(-Z^-~]{1,15})?\]):([0-9]{1,5})")
_PREFIX_LENGTHS = {AF_INET: frozenset(map(str, range(33))), AF_INET6: frozenset(map(str, range(129)))}


def base64_key(digits: bytes) -> str | None:
    """A public key as WireGuard writes it, or None if it is not 64 hex digits."""
    try:
        return b2a_base64(unhexlify(digits), newline=False).decode("ascii") if len(digits) == 64 else None
    except ValueError:
        return None


def is_endpoint(text: str) -> bool:
    """Whether it is `address:port`, or `[address]:port` or `[address%zone]:port` for IPv6, all in numbers."""
    match = _ENDPOINT.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        return False
    return _is_address(match[1], AF_INET) if match[1] else _is_address(match[2], AF_INET6)


def is_cidr(text: str) -> bool:
    """Whether it is `address/prefix length`."""
    address, _, length = text.partition("/")
    family = AF_INET6 if ":" in address else AF_INET
    return length in _PREFIX_LENGTHS[family] and _is_address(address, family)


def _is_address(text: str, family: int) -> bool:
    try:
        inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True
