"""The keys in WireGuard's netlink dump, as digests: now and then, and only of devices that a file describes.

`dump.py` leaves secret keys out of all that is decoded. This looks at the same bytes, in the buffer that is wiped after
the dump, and keeps what `keys.KeyDigests` makes of them. It is fed the messages of a dump after `dump.Extractor`, which
has found out whether they are as they should be: whatever is not is passed over here.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from wg_exporter.linux.netlink import ATTRIBUTE, attributes
from wg_exporter.reader.kernel.dump import (
    FLAGS,
    FLAGS_LENGTH,
    KEY_LENGTH,
    PRESHARED_KEY_HEADER,
    WGDEVICE_A_PEERS,
)
from wg_exporter.reader.keys import NO_KEY, DeviceKeys

if TYPE_CHECKING:
    from wg_exporter.reader.keys import KeyDigests

WGDEVICE_A_PRIVATE_KEY = 3

_HEADER = ATTRIBUTE.size


class KeyTaster:
    """Digests of the keys in one dump."""

    def __init__(self, digests: KeyDigests) -> None:
        self._digests = digests
        self._private_key = NO_KEY
        self._preshared_keys: dict[str, bytes] = {}

    def feed(self, data: bytes | bytearray, start: int, end: int) -> None:
        """Take one message's attributes, `data[start:end]`."""
        with memoryview(data) as view:
            for kind, first, last in attributes(data, start, end):
                if kind == WGDEVICE_A_PRIVATE_KEY and last - first == KEY_LENGTH:
                    self._private_key = self._digests.of_raw(view[first:last], private=True)
                elif kind == WGDEVICE_A_PEERS:
                    self._feed_peers(view, first, last)

    def finish(self) -> DeviceKeys:
        """What all messages together said."""
        return DeviceKeys(self._private_key, self._preshared_keys)

    def _feed_peers(self, view: memoryview, start: int, end: int) -> None:
        while start + _HEADER <= end:
            length, _kind = ATTRIBUTE.unpack_from(view, start)
            first = start + _HEADER
            if view[first : first + len(FLAGS)] == FLAGS:
                first += FLAGS_LENGTH
            secret = first + _HEADER + KEY_LENGTH
            if view[secret : secret + _HEADER] == PRESHARED_KEY_HEADER and secret + _HEADER + KEY_LENGTH <= end:
                public_key = b64encode(view[first + _HEADER : secret]).decode()
                key = view[secret + _HEADER : secret + _HEADER + KEY_LENGTH]
                self._preshared_keys[public_key] = self._digests.of_raw(key)
            start += max(_HEADER, (length + 3) & ~3)
