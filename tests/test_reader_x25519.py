"""The public key of a private key, by Python's own OpenSSL and by the library that stands in for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from wg_exporter.reader import x25519
from wg_exporter.reader.x25519 import public_key_of

# RFC 7748, section 6.1: Bob's.
PRIVATE = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"


@given(st.binary(min_size=32, max_size=32))
def test_any_private_key_gives_what_the_library_gives_and_stays_the_callers(private):
    key = bytearray(private)
    assert public_key_of(key) == X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert key == private
    key.clear()  # nothing has a hold on it


def refusing(_kind, _engine, _key, _length):
    return None  # as in FIPS mode


@pytest.mark.parametrize("openssl", ["here", "hidden", "refusing"])
def test_the_public_key_is_right_whether_or_not_pythons_openssl_offers_it(monkeypatch, openssl):
    if openssl == "hidden":
        monkeypatch.setattr(x25519, "_openssl", lambda: None)
    elif openssl == "refusing":
        known = x25519._openssl()
        assert known is not None
        monkeypatch.setattr(x25519, "_openssl", lambda: known._replace(read=refusing))
    assert public_key_of(bytearray.fromhex(PRIVATE)).hex() == PUBLIC


@pytest.mark.parametrize("length", [0, 31, 33])
def test_another_length_is_refused(length):
    with pytest.raises(ValueError, match="32 bytes"):
        public_key_of(bytearray(length))


def test_where_python_has_openssl_the_library_is_not_imported():
    """It would cost each host with userspace devices 10 MB."""
    code = (
        "import sys; from wg_exporter.reader.x25519 import public_key_of, _openssl\n"
        f"assert public_key_of(bytearray.fromhex('{PRIVATE}')).hex() == '{PUBLIC}'\n"
        "assert ('cryptography' in sys.modules) == (_openssl() is None)\n"
        "import _hashlib\n"
        "assert _openssl() is not None or not hasattr(_hashlib, '__file__')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
