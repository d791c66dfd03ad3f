"""What the first message of a handshake says to whoever has the private key of the device that it is made for.

WireGuard's handshake is Noise IKpsk2, and of its first message no preshared key is part: the key of the device alone
opens the caller's static public key and a TAI64N stamp. So it can be told who calls in vain, and what its clock shows.

Source: "WireGuard: Next Generation Kernel Network Tunnel", sections 5.4 and 5.4.2; drivers/net/wireguard/noise.c
(wg_noise_handshake_consume_initiation). Numbers and labels are those of the paper.

**What is proven.** Who can make the stamp open has the private key of the caller that is named; but any stranger can
repeat a message that it once saw on the wire. A message of which only the caller's key opens proves nothing, as all
that it takes is our public key, and is not told.

X25519 and ChaCha20-Poly1305 are those of the `cryptography` library, BLAKE2s is that of Python.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from hashlib import blake2s
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.wireguard import INITIATION

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

# ruff: noqa: PLC0415 - `cryptography` costs 8 MB and 25 ms, which only whoever opens an initiation should pay

TYPE = b"\x01\x00\x00\x00"
MAC1 = 116  # where it begins: over all before it
_EPHEMERAL, _STATIC, _STAMP = slice(8, 40), slice(40, 88), slice(88, MAC1)

_LABEL_MAC1 = b"mac1----"
_CHAIN = blake2s(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s").digest()
_HASH = blake2s(_CHAIN + b"WireGuard v1 zx2c4 Jason@zx2c4.com").digest()

# TAI64 labels begin at 2^62; WireGuard always adds ten seconds to the Unix time (src/tai64n.h, noise.c: tai64n_now).
_TAI64_EPOCH = (1 << 62) + 10


class Opened(NamedTuple):
    """Who made an initiation (public key, base64), and the stamp in it in seconds since the epoch, by the clock there.

    WireGuard cuts the stamp, so it is up to 17 ms older than the message.
    """

    caller: str
    stamp: float


def is_initiation(message: bytes) -> bool:
    """Whether it has the type and the length of one."""
    return len(message) == INITIATION and message[:4] == TYPE


def made_for(public_key: bytes, message: bytes) -> bool:
    """Whether the first MAC of an initiation is made for the device with this public key. Takes no secret."""
    key = blake2s(_LABEL_MAC1 + public_key).digest()
    return is_initiation(message) and hmac.compare_digest(
        blake2s(message[:MAC1], digest_size=16, key=key).digest(), message[MAC1 : MAC1 + 16]
    )


def open_initiation(private_key: X25519PrivateKey, message: bytes) -> Opened | None:
    """What an initiation says; None if it is none, or none for this key, or nobody's."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    public_key = private_key.public_key().public_bytes_raw()
    if not made_for(public_key, message):
        return None
    ephemeral, sealed_static, sealed_stamp = message[_EPHEMERAL], message[_STATIC], message[_STAMP]
    chain = _extract(_CHAIN, ephemeral)[0]
    seen = _mixed(_mixed(_HASH, public_key), ephemeral)
    try:
        chain, key = _extract(chain, private_key.exchange(X25519PublicKey.from_public_bytes(ephemeral)))
        static = ChaCha20Poly1305(key).decrypt(bytes(12), sealed_static, seen)
        seen = _mixed(seen, sealed_static)
        chain, key = _extract(chain, private_key.exchange(X25519PublicKey.from_public_bytes(static)))
        stamp = ChaCha20Poly1305(key).decrypt(bytes(12), sealed_stamp, seen)
    except (InvalidTag, ValueError):  # ValueError: a point of low order, which gives no secret
        return None
    seconds = int.from_bytes(stamp[:8]) - _TAI64_EPOCH
    return Opened(b64encode(static).decode(), seconds + int.from_bytes(stamp[8:]) * 1e-9)


def _mixed(seen: bytes, more: bytes) -> bytes:
    return blake2s(seen + more).digest()


def _extract(chain: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """The first two outputs of the paper's KDF (HKDF, RFC 5869, with HMAC-BLAKE2s)."""
    root = hmac.digest(chain, secret, "blake2s")
    first = hmac.digest(root, b"\x01", "blake2s")
    return first, hmac.digest(root, first + b"\x02", "blake2s")
