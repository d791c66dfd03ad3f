"""The text of a configuration file without the secrets in it: they are overwritten before anything looks at it.

A file is read into a buffer that is used again for the next. Nothing of `conffile` needs a private or a preshared key,
so no string ever holds one: to compare it with the one in use, a digest is made in the buffer (`keys.py`). What a
comment holds that looks like a key is none of our business either. A public key is left where it belongs, behind
PublicKey alone.

What is overwritten keeps its length and its look: zeros are base64 too, so a key in a name is still told of as one.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from wg_exporter.reader.keys import wipe

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from wg_exporter.reader.keys import KeyDigests

MOST_KEYS = 100_001  # digests of one file; as many peers as are read of it, and the device

ROOM = 64 << 10  # bytes of the buffer that is kept; a file that needs more has it for as long as it is read


def _spelled(word: bytes) -> bytes:
    """A pattern for a word as `wg` reads it: with blanks between its letters, which it ignores like case."""
    return rb"[ \t\r]*".join(bytes([letter]) for letter in word)


# Also one that is commented out.
_SECRET = re.compile(
    rb"^([ \t\r#;]*)(?:(%s)|%s)[ \t\r]*=[^\n]*" % (_spelled(b"privatekey"), _spelled(b"presharedkey")),
    re.IGNORECASE | re.MULTILINE,
)
_PUBLIC = re.compile(rb"[ \t\r]*%s[ \t\r]*=[ \t\r]*" % _spelled(b"publickey"), re.IGNORECASE)
_KEY = re.compile(rb"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=")


class ConfText:
    """The buffer. Not thread-safe.

    With `digests`, `keys` has the digests of the secret keys in the file read last, by the number of their line.
    """

    def __init__(self, digests: KeyDigests | None = None) -> None:
        self._buffer = bytearray(ROOM)
        self._digests = digests
        self.keys: dict[int, bytes] = {}

    def read(self, file: io.RawIOBase, limit: int, *, secrets: bool = True) -> str | None:
        """The text of an open file, UTF-8, and where a line is not, Latin-1; None if it has more than `limit` bytes.

        `secrets`: there may be some in it. Raises OSError.
        """
        buffer = self._buffer
        size = 0
        self.keys = {}
        try:
            while size <= limit and (count := file.readinto(memoryview(buffer)[size:])):
                size += count
                if size == len(buffer):
                    buffer = _larger(buffer)
            if size > limit:
                return None
            if secrets:
                if self._digests is not None:
                    self.keys = dict(islice(_digests(buffer, size, self._digests), MOST_KEYS))
                overwrite(buffer, size)
            return _text(buffer[:size])
        finally:
            buffer[:size] = bytes(size)


def _larger(buffer: bytearray) -> bytearray:
    """One of twice the size with the same in it; the old one is overwritten."""
    new = bytearray(2 * len(buffer))
    new[: len(buffer)] = buffer
    buffer[:] = bytes(len(buffer))
    return new


def _digests(buffer: bytearray, size: int, digests: KeyDigests) -> Iterator[tuple[int, bytes]]:
    """The line of each secret key that is not commented out, and the digest of it."""
    line, counted = 1, 0
    for found in _SECRET.finditer(buffer, 0, size):
        start, end = found.span()
        line += buffer.count(b"\n", counted, start)
        counted = start
        first = buffer.index(b"=", start) + 1
        if buffer.find(b"#", start, found.end(1)) >= 0 or buffer.find(b";", start, found.end(1)) >= 0:
            continue
        comment = buffer.find(b"#", first, end)
        value = buffer[first : end if comment < 0 else comment]
        bare = value.translate(None, b" \t\r")
        digest = digests.of_base64(bare, private=bool(found[2]))
        wipe(value)
        wipe(bare)
        if digest is not None:
            yield line, digest


def overwrite(buffer: bytearray, size: int) -> None:
    """Overwrite with zeros whatever is a secret in the first `size` bytes, or looks like one."""
    for found in _SECRET.finditer(buffer, 0, size):
        start = buffer.index(b"=", found.start()) + 1
        buffer[start : found.end()] = b"0" * (found.end() - start)
    for found in _KEY.finditer(buffer, 0, size):
        start = buffer.rfind(b"\n", 0, found.start()) + 1
        if not _PUBLIC.fullmatch(buffer, start, found.start()):
            buffer[found.start() : found.end() - 1] = b"0" * (found.end() - 1 - found.start())


def _text(content: bytearray) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "\n".join(_decoded(line) for line in content.split(b"\n"))


def _decoded(line: bytearray) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")
