"""A client of TLS 1.3 that sends what no library does: records of its own making, after an ordinary handshake."""

from __future__ import annotations

import hashlib
import hmac
import ssl
import struct
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

if TYPE_CHECKING:
    import socket
    from pathlib import Path

HANDSHAKE, DATA = 22, 23  # types of content (RFC 8446, 5.1)
KEY_UPDATE = b"\x18\0\0\1\1"  # "send with new keys from now on, and I want that of you too" (4.6.3)


class Forger:
    """Shakes hands over a connected socket. What the server sends afterwards is not read."""

    def __init__(self, sock: socket.socket, directory: Path, signer: str = "one.crt") -> None:
        self.sock = sock
        keys = directory / f"keys-{sock.getsockname()[1]}"
        context = ssl.create_default_context(cafile=str(directory / signer))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.keylog_filename = str(keys)
        came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(came, goes, server_hostname="127.0.0.1")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(goes.read())
                came.write(sock.recv(65536))
        sock.sendall(goes.read())
        (secret,) = (line.split()[2] for line in keys.read_text().splitlines() if line.startswith("CLIENT_TRAFFIC_"))
        self._secret = bytes.fromhex(secret)
        cipher = tls.cipher()
        assert cipher is not None
        key = self._derived(b"key", 16 if "AES_128" in cipher[0] else 32)
        self._aead = (ChaCha20Poly1305 if "CHACHA" in cipher[0] else AESGCM)(key)
        self._iv = self._derived(b"iv", 12)
        self._number = 0

    def send(self, data: bytes, kind: int = DATA) -> None:
        """One record."""
        inner = data + bytes([kind])
        head = b"\x17\x03\x03" + struct.pack(">H", len(inner) + 16)
        nonce = (int.from_bytes(self._iv, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        self.sock.sendall(head + self._aead.encrypt(nonce, inner, head))

    def _derived(self, label: bytes, length: int) -> bytes:
        """HKDF-Expand-Label (7.1), of at most one block."""
        name = b"tls13 " + label
        info = struct.pack(">HB", length, len(name)) + name + b"\0\1"
        return hmac.new(self._secret, info, {32: hashlib.sha256, 48: hashlib.sha384}[len(self._secret)]).digest()[
            :length
        ]
