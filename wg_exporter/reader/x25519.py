"""The public key of a private key: X25519 (RFC 7748), by the OpenSSL that Python's own hashlib has loaded.

`cryptography` does the same, and brings an OpenSSL of its own: 10 MB for one multiplication, in a process that for
months needs nothing else of it. It is used where Python's can't be: in builds that hide it, and in FIPS mode.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH = 32
_EVP_PKEY_X25519 = 1034  # openssl/obj_mac.h: NID_X25519


def public_key_of(private_key: bytearray) -> bytes:
    """The public key of these 32 bytes, which are neither changed nor kept: OpenSSL clears its copy."""
    if len(private_key) != LENGTH:
        raise ValueError(f"a private key has {LENGTH} bytes")
    found = _by_openssl(private_key)
    if found is None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415 - see above

        found = X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
    return found


def _by_openssl(private_key: bytearray) -> bytes | None:
    """None if Python's OpenSSL does not offer it. See EVP_PKEY_new_raw_private_key(3)."""
    openssl = _openssl()
    if openssl is None:
        return None
    key = openssl.read(_EVP_PKEY_X25519, None, (ctypes.c_char * LENGTH).from_buffer(private_key), LENGTH)
    if not key:
        return None
    try:
        public_key, length = (ctypes.c_char * LENGTH)(), ctypes.c_size_t(LENGTH)
        if openssl.write(key, public_key, ctypes.byref(length)) != 1 or length.value != LENGTH:
            return None
        return public_key.raw
    finally:
        openssl.free(key)


class _OpenSsl(NamedTuple):
    """EVP_PKEY_new_raw_private_key, EVP_PKEY_get_raw_public_key and EVP_PKEY_free."""

    read: Callable[..., int | None]
    write: Callable[..., int]
    free: Callable[..., None]


@cache
def _openssl() -> _OpenSsl | None:
    try:
        import _hashlib  # noqa: PLC0415 - not in every build of Python

        crypto = ctypes.CDLL(_hashlib.__file__)  # what it is linked with is searched as well (dlsym(3))
        read, write = crypto.EVP_PKEY_new_raw_private_key, crypto.EVP_PKEY_get_raw_public_key
        free = crypto.EVP_PKEY_free
    except (ImportError, AttributeError, OSError):
        return None
    read.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    read.restype = ctypes.c_void_p
    write.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)]
    free.argtypes, free.restype = [ctypes.c_void_p], None
    return _OpenSsl(read, write, free)
