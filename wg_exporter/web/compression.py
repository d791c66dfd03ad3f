"""gzip of bodies of which little changes from one to the next.

Prometheus asks for gzip, and on a large host that is most of what a scrape costs. But a body comes in chunks, and a
chunk in which nothing moved is the same object as in the body before. So each chunk is compressed on its own, to
deflate blocks that end at a byte and refer to nothing outside (a sync flush, RFC 1951 3.2.4), and the blocks of an
unchanged chunk are used again. With a header before them, and an empty last block and the checksum behind them, they
are one gzip member (RFC 1952), which any client reads. This makes a body larger by less than 1 %.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from isal import isal_zlib

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of a body of 10.8 MB (90,000 lines) isal makes 3.40 MB in 14 ms at level 1, 3.39 MB in 23 ms at level 3, and 4.65 MB
# in 14 ms at level 0. zlib's fastest level makes 3.47 MB in 93 ms.
LEVEL = 1
_RAW = -15  # wbits of zlib: a window of 32 KiB and no container

_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # deflate, no name, no time, unknown system
_LAST_BLOCK = b"\x03\0"

# A smaller chunk is not worth its own flush: it is compressed with those beside it.
LEAST = 16 * 1024


class _Piece(NamedTuple):
    plain: bytes
    compressed: bytes


class Compressor:
    """Compresses bodies, and keeps the pieces of the last one. Thread-safe: each call makes its own set of pieces."""

    def __init__(self) -> None:
        self._known: dict[int, _Piece] = {}  # by id() of the plain chunk, which is kept, so the id stays its own

    def compress(self, chunks: Iterable[bytes]) -> tuple[bytes, ...]:
        """The chunks as one gzip member, again in chunks."""
        before, known = self._known, dict[int, _Piece]()
        found = [_HEADER]
        small: list[bytes] = []
        checksum = size = 0
        for chunk in chunks:
            checksum = isal_zlib.crc32(chunk, checksum)
            size += len(chunk)
            if len(chunk) < LEAST:
                small.append(chunk)
                continue
            if small:
                found.append(_deflate(b"".join(small)))
                small = []
            piece = before.get(id(chunk))
            if piece is None or piece.plain is not chunk:
                piece = _Piece(chunk, _deflate(chunk))
            known[id(chunk)] = piece
            found.append(piece.compressed)
        if small:
            found.append(_deflate(b"".join(small)))
        self._known = known
        found.append(_LAST_BLOCK + struct.pack("<II", checksum, size & 0xFFFFFFFF))
        return tuple(found)


def _deflate(plain: bytes) -> bytes:
    deflate = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _RAW)
    return deflate.compress(plain) + deflate.flush(isal_zlib.Z_SYNC_FLUSH)
