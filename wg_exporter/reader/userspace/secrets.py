"""What is done with the secrets in a userspace daemon's answer: they are used, then all are overwritten.

The private key gives the device's public key, which the protocol does not send, and opens initiations where somebody
asks who calls in vain (reader/opening.py). Now and then digests are made, to compare keys with those in files
(reader/keys.py). Nothing else looks at an answer before `overwrite_secrets` was over it. All work in the caller's
buffer, so that no immutable object ever holds a key.

What this can promise: no bytes, string or row that outlives the call has a key in it. What it can't: a growing buffer
may have left a copy behind in memory that was freed, and the kernel's socket buffer is not ours to clear.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from typing import TYPE_CHECKING

from wg_exporter.reader.keys import NO_KEY, DeviceKeys
from wg_exporter.reader.userspace.values import base64_key
from wg_exporter.reader.x25519 import public_key_of

if TYPE_CHECKING:
    from wg_exporter.reader.keys import KeyDigests

PRIVATE_KEY = b"private_key="
_KEY_LINE = re.compile(
    rb"^(?P<name>(?:own_)?public_key|preshared_key|private_key)=(?P<digits>[0-9A-Fa-f]{64}$)?", re.MULTILINE
)
# The last two are AmneziaWG's.
SECRETS = (PRIVATE_KEY, b"preshared_key=", b"obfs_psk=", b"header_protection_key=")

_NIBBLES = {ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}


def overwrite_secrets(answer: bytearray) -> None:
    """Overwrite the value of every key in SECRETS with zeros of the same length, wherever in a line it stands."""
    for name in SECRETS:
        found = answer.find(name)
        while found != -1:
            start = found + len(name)
            end = answer.find(b"\n", start)
            end = len(answer) if end == -1 else end
            answer[start:end] = b"0" * (end - start)
            found = answer.find(name, end)


def overwrite(buffer: bytearray) -> None:
    """Overwrite a whole buffer that held, or may have held, secrets."""
    buffer[:] = bytes(len(buffer))


def derived_public_key(answer: bytearray) -> str:
    """The device's public key in base64, from its private key (X25519, RFC 7748); empty if it has none or a zero one.

    Derived anew at every read: 50 microseconds, and there is nothing to keep. Raises ValueError, whose text holds
    nothing of the answer, if the private key is not 64 hex digits.
    """
    private_key = bytearray(32)
    try:
        take_private_key(private_key, answer)
        if not any(private_key):
            return ""
        public_key = public_key_of(private_key)
    finally:
        overwrite(private_key)
    return b2a_base64(public_key, newline=False).decode("ascii")


def take_private_key(private_key: bytearray, answer: bytearray) -> None:
    """Write the device's private key into these 32 bytes, which the caller overwrites; they stay zero if it has none.

    Raises ValueError, whose text holds nothing of the answer, if it is not 64 hex digits.
    """
    start = 0 if answer.startswith(PRIVATE_KEY) else answer.find(b"\n" + PRIVATE_KEY) + 1
    if start or answer.startswith(PRIVATE_KEY):
        _unhex_into(private_key, answer, start + len(PRIVATE_KEY))


def digested(answer: bytearray, digests: KeyDigests, most: int) -> DeviceKeys:
    """The keys in an answer as digests; of `most` peers, should there be more. Never raises.

    boringtun, which alone sends `own_public_key=`, says nothing of its private key.
    """
    private_key: bytes | None = NO_KEY
    preshared_keys: dict[str, bytes] = {}
    peer: str | None = None
    for found in _KEY_LINE.finditer(answer):
        name, start = found["name"], found.start("digits")
        if name == b"public_key":
            if len(preshared_keys) == most:
                break
            peer = base64_key(found["digits"] or b"")
            if peer:
                preshared_keys[peer] = NO_KEY
        elif name == b"own_public_key":
            private_key = None
        elif name == b"private_key":
            private_key = _digest(answer, start, digests, private=True)
        elif peer and (digest := _digest(answer, start, digests)) is not None:
            preshared_keys[peer] = digest
        elif peer:
            preshared_keys.pop(peer, None)
    return DeviceKeys(private_key, preshared_keys)


def _digest(answer: bytearray, start: int, digests: KeyDigests, *, private: bool = False) -> bytes | None:
    """The digest of the key in hex at that place, None if it is none."""
    digits = answer[start : start + 64] if start >= 0 else bytearray()
    try:
        return digests.of_hex(digits, private=private)
    finally:
        overwrite(digits)


def _unhex_into(key: bytearray, answer: bytearray, start: int) -> None:
    """Digit by digit, because unhexlify() would make an immutable copy of the key."""
    for i in range(len(key)):
        high, low = (_NIBBLES.get(digit) for digit in answer[start + 2 * i : start + 2 * i + 2].ljust(2))
        if high is None or low is None:
            raise ValueError("private_key is not 64 hex digits")
        key[i] = high << 4 | low
    if not answer.startswith(b"\n", start + 2 * len(key)):
        raise ValueError("private_key is not 64 hex digits")
