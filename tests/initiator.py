"""The side that begins a handshake: the first messages that it may send, for whoever has to understand them.

Written from the tables of the WireGuard paper (sections 5.4.2, 5.4.3, 5.4.7), with Python's own HMAC and BLAKE2s, and
apart from `reader/initiation.py`: it mixes, seals and keys as the other side of it must open.
"""

from __future__ import annotations

import hmac
import os
from base64 import b64decode, b64encode
from hashlib import blake2s
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"


class Party(NamedTuple):
    """A key pair. `secret` and `public` are base64, as wg(8) has them."""

    key: X25519PrivateKey

    @property
    def public_bytes(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def public(self) -> str:
        return b64encode(self.public_bytes).decode()

    @property
    def secret(self) -> str:
        return b64encode(self.key.private_bytes_raw()).decode()


def party(secret: str | bytes | None = None) -> Party:
    """Whoever has this private key (base64 or raw); somebody new without one."""
    raw = b64decode(secret) if isinstance(secret, str) else secret or os.urandom(32)
    return Party(X25519PrivateKey.from_private_bytes(raw))


def hash_(data: bytes) -> bytes:
    return blake2s(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return blake2s(data, digest_size=16, key=key).digest()


def kdf(key: bytes, data: bytes, count: int) -> list[bytes]:
    secret = hmac.new(key, data, "blake2s").digest()
    outputs, last = [], b""
    for number in range(1, count + 1):
        last = hmac.new(secret, last + bytes([number]), "blake2s").digest()
        outputs.append(last)
    return outputs


def tai64n(stamp: float) -> bytes:
    seconds = int(stamp)
    return (0x400000000000000A + seconds).to_bytes(8) + int((stamp - seconds) * 1e9).to_bytes(4)


def initiation(
    caller: Party,
    to: bytes,
    stamp: float,
    *,
    sender: int = 0x01020304,
    ephemeral: bytes | None = None,
    claimed: bytes | None = None,
    mac1_for: bytes | None = None,
) -> bytes:
    """The first message from `caller` to the device with the public key `to`.

    What a liar can do: name the key of somebody else (`claimed`), or make the MAC for another device (`mac1_for`).
    """
    own = X25519PrivateKey.from_private_bytes(ephemeral or os.urandom(32))
    responder = X25519PublicKey.from_public_bytes(to)
    chain = hash_(CONSTRUCTION)
    hashed = hash_(hash_(chain + IDENTIFIER) + to)
    public = own.public_key().public_bytes_raw()
    (chain,) = kdf(chain, public, 1)
    hashed = hash_(hashed + public)
    chain, key = kdf(chain, own.exchange(responder), 2)
    static = ChaCha20Poly1305(key).encrypt(bytes(12), claimed or caller.public_bytes, hashed)
    hashed = hash_(hashed + static)
    chain, key = kdf(chain, caller.key.exchange(responder), 2)
    sealed = ChaCha20Poly1305(key).encrypt(bytes(12), tai64n(stamp), hashed)
    message = b"\x01\0\0\0" + sender.to_bytes(4, "little") + public + static + sealed
    return message + mac(hash_(b"mac1----" + (mac1_for or to)), message) + bytes(16)


def response(to: int, sender: int, public_key: bytes, *, filler: bytes | None = None) -> bytes:
    """A second message in shape: its MAC is made for `public_key`, and no session would come of it."""
    message = b"\x02\0\0\0" + sender.to_bytes(4, "little") + to.to_bytes(4, "little") + (filler or os.urandom(48))
    return message + mac(hash_(b"mac1----" + public_key), message) + bytes(16)


def cookie_reply(to: int) -> bytes:
    """A third kind in shape: the far side is under load."""
    return b"\x03\0\0\0" + to.to_bytes(4, "little") + os.urandom(24 + 32)
