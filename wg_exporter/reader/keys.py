"""Whether two secret keys are the same, told without keeping one: digests under a key that this process alone has.

A private or preshared key is in a file and on a device, and both are read into buffers that are wiped at once. To
compare them later a digest is kept: SHA-256 of 64 random bytes, drawn when the reader starts, and the key. It says
nothing to whoever does not have those bytes, it never leaves the reader, and it is gone with the process.

No immutable object ever holds a key or a part of it that is longer than 6 bits: it is worked on in bytearrays, which
are overwritten. The same key comes raw (netlink), in hex (UAPI) and in base64 (files), so all are brought into one
form, two rows of half bytes, by tables and slices of bytearrays, which leave no copies. OpenSSL's SHA-256 clears what
it held.

What differs is told as `compared.KeysDiffer`, and no more crosses to the exporter.
"""

from __future__ import annotations

import hashlib
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.compared import KeyComparison, KeysDiffer
from wg_exporter.model import Backend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wg_exporter.model import ConfFile

LOOK_SECONDS = 30.0  # between two looks at the keys of a device: 10,000 peers take 20 ms

NO_KEY = b""
"""The digest of a key that is not there: none is set, or one of zeros."""

_HIGH = bytes(byte >> 4 for byte in range(256))
_LOW = bytes(byte & 15 for byte in range(256))
_BAD = 255
_HEX = bytes(int(chr(byte), 16) if chr(byte) in "0123456789abcdefABCDEF" else _BAD for byte in range(256))
_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BASE64 = bytes(_DIGITS.index(byte) if byte in _DIGITS else _BAD for byte in range(256))


_Device = tuple[str, Backend]


class DeviceKeys(NamedTuple):
    """The keys of a device as digests: its own, None if not known, and by public key those of its peers."""

    private_key: bytes | None
    preshared_keys: Mapping[str, bytes]


class FileKeys(NamedTuple):
    """The keys in a configuration file as digests. `private_key` is None if none is there or could be read; of a peer
    whose preshared key could not be read nothing is said.
    """

    private_key: bytes | None = None
    preshared_keys: Mapping[str, bytes] = MappingProxyType({})


class KeyDigests:
    """Makes digests that can be compared with each other, and with those of no other process. Thread-safe.

    `private`: it is a private key, of which WireGuard ignores five bits (RFC 7748, section 5).
    """

    def __init__(self) -> None:
        self._begun = hashlib.sha256(os.urandom(64))  # a whole block

    def of_raw(self, key: bytearray | memoryview, *, private: bool = False) -> bytes:
        """The digest of 32 bytes."""
        whole = bytearray(key)
        try:
            return self._digest(whole.translate(_HIGH), whole.translate(_LOW), private=private)
        finally:
            wipe(whole)

    def of_hex(self, digits: bytearray, *, private: bool = False) -> bytes | None:
        """The digest of a key in hex, None if it is none."""
        halves = digits.translate(_HEX)
        try:
            if len(halves) != 64 or _BAD in halves:
                return None
            return self._digest(halves[0::2], halves[1::2], private=private)
        finally:
            wipe(halves)

    def of_base64(self, text: bytearray, *, private: bool = False) -> bytes | None:
        """The digest of a key in base64, None if it is none."""
        sextets = text[:43].translate(_BASE64)
        try:
            if len(text) != 44 or text[43] != ord("=") or _BAD in sextets or sextets[42] & 3:
                return None
            halves = bytearray(64)
            for at in range(21):
                one, two = sextets[2 * at], sextets[2 * at + 1]
                halves[3 * at], halves[3 * at + 1], halves[3 * at + 2] = one >> 2, (one & 3) << 2 | two >> 4, two & 15
            halves[63] = sextets[42] >> 2
            try:
                return self._digest(halves[0::2], halves[1::2], private=private)
            finally:
                wipe(halves)
        finally:
            wipe(sextets)

    def _digest(self, high: bytearray, low: bytearray, *, private: bool) -> bytes:
        """The digest of a key by the upper and the lower halves of its bytes, which are overwritten."""
        try:
            if not (any(high) or any(low)):
                return NO_KEY
            if private:
                low[0] &= 8
                high[31] = high[31] & 7 | 4
            made = self._begun.copy()
            made.update(high)
            made.update(low)
            return made.digest()
        finally:
            wipe(high)
            wipe(low)


class KeyLooks:
    """Which devices' keys are to be looked at now, and what was found. Thread-safe, if each device has one thread.

    Only those of devices are looked at which a file describes. A device is known by its name and its backend, for a
    userspace daemon may have the name of a kernel device in another namespace.
    """

    def __init__(self, digests: KeyDigests, monotonic: Callable[[], float]) -> None:
        self.digests = digests
        self._described: frozenset[str] = frozenset()
        self._monotonic = monotonic
        self._looked: dict[_Device, float] = {}
        self._found: dict[_Device, DeviceKeys] = {}

    def describe(self, interfaces: frozenset[str]) -> None:
        """These are the interfaces that files describe. What is known of others is dropped."""
        self._described = interfaces
        for device in list(self._looked) + list(self._found):  # copied at once, as other threads add to them
            if device[0] not in interfaces:
                self._looked.pop(device, None)
                self._found.pop(device, None)

    def due(self, interface: str, backend: Backend) -> bool:
        """Whether to look at the keys of this device."""
        if interface not in self._described:
            return False
        looked = self._looked.get((interface, backend))
        return looked is None or self._monotonic() - looked >= LOOK_SECONDS

    def keep(self, interface: str, backend: Backend, keys: DeviceKeys) -> None:
        """These are the keys of the device now."""
        device = interface, backend
        self._looked[device] = self._monotonic()
        if self._found.get(device) != keys:
            self._found[device] = keys

    def found(self, interface: str, backend: Backend) -> DeviceKeys | None:
        """The keys of a device as last looked at: the same object while they are the same. None: not yet."""
        return self._found.get((interface, backend))


class Comparisons:
    """Which files describe which devices, and how their keys compare. Not thread-safe."""

    def __init__(self, looks: KeyLooks) -> None:
        self._looks = looks
        self._files: dict[tuple[str, str], FileKeys] = {}  # by interface and path
        self._known: dict[tuple[str, str], tuple[FileKeys, DeviceKeys, KeyComparison]] = {}
        self._last: tuple[KeyComparison, ...] = ()

    def describe(self, files: tuple[ConfFile, ...], keys: Mapping[str, FileKeys]) -> None:
        """These are the files now, and by path the keys in them."""
        described = ((file.interface, file.path) for file in files if file.interface)
        self._files = {place: keys[place[1]] for place in described if place[1] in keys}
        self._looks.describe(frozenset(interface for interface, _ in self._files))

    def now(self, backends: Mapping[str, Backend]) -> tuple[KeyComparison, ...]:
        """All that can be compared; the same object as before while nothing changed.

        `backends` has the devices that files can describe: those of this process's own namespace.
        """
        known: dict[tuple[str, str], tuple[FileKeys, DeviceKeys, KeyComparison]] = {}
        for place, file in self._files.items():
            backend = backends.get(place[0])
            device = self._looks.found(place[0], backend) if backend else None
            if device is None:
                continue
            before = self._known.get(place)
            if before is not None and before[0] is file and before[1] is device:
                known[place] = before
            else:
                known[place] = file, device, compare(*place, file, device)
        self._known = known
        found = tuple(row for _, _, row in known.values())
        if found != self._last:
            self._last = found
        return self._last


def compare(interface: str, path: str, file: FileKeys, device: DeviceKeys) -> KeyComparison:
    """How the keys of a file differ from those of the device."""
    there = device.preshared_keys
    differing = [
        (key, KeysDiffer.DEVICE_ONLY if not wanted else KeysDiffer.OTHER if there[key] else KeysDiffer.FILE_ONLY)
        for key, wanted in file.preshared_keys.items()
        if key in there and there[key] != wanted
    ]
    told = file.private_key is not None and device.private_key is not None
    same = file.private_key == device.private_key if told else None
    return KeyComparison(interface, path, same, tuple(differing))


def wipe(buffer: bytearray) -> None:
    """Overwrite it all."""
    buffer[:] = bytes(len(buffer))
