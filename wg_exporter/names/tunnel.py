"""The name of a tunnel, which both of its ends give it without asking each other.

A tunnel is a pair of keys, and each end knows both. So two exporters that see one cut can say that it is the same one.
"""

from __future__ import annotations

import binascii
import hashlib

# 48 bits: that any two of 100,000 tunnels share a name has a chance of 1 in 50,000.
NAME_LENGTH = 12

KEY_BYTES = 32


def tunnel_name(one: str, other: str) -> str:
    """The name of the tunnel between these public keys (base64), in either order: hexadecimal digits of the SHA-256 of
    both keys as bytes, the lower first. Empty where one of them is not known.
    """
    keys = sorted((_raw(one), _raw(other)))
    return hashlib.sha256(keys[0] + keys[1]).hexdigest()[:NAME_LENGTH] if keys[0] else ""


def _raw(key: str) -> bytes:
    """The key's bytes, or none where it is no key: that of a device without a private key is empty, or all zeros."""
    try:
        raw = binascii.a2b_base64(key)
    except binascii.Error:
        return b""
    return raw if len(raw) == KEY_BYTES and any(raw) else b""
