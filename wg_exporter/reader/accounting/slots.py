"""Which peer owns which addresses, as the kernel's trie is to have it: what to write into it after each look, no more.

Each peer has a slot, the number of its counters. A peer that is gone keeps its slot until there is no other for a new
peer: if it comes back, its counters go on.
"""

from __future__ import annotations

import struct
from itertools import repeat
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.model import same
from wg_exporter.reader.accounting.program import FAMILY_BITS, KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.model import Peers

SLOT = struct.Struct("=I")


class Changes(NamedTuple):
    """What a look changes: entries to put into the trie, then keys to take out, and the slots that begin anew.

    An address that moves from one peer to another is put, and so is never without an owner.
    """

    put: tuple[tuple[bytes, bytes], ...] = ()
    out: tuple[bytes, ...] = ()
    renewed: tuple[int, ...] = ()


NO_CHANGES = Changes()


class Slots:
    """The peers of one device and their slots."""

    def __init__(self) -> None:
        self._keys: tuple[str, ...] = ()
        self._allowed_ips: tuple[tuple[str, ...], ...] = ()
        self._slots: dict[str, int] = {}  # by public key; those that are gone first, in the order in which they went
        self._owners: dict[bytes, int] = {}  # what is in the trie
        self.of_peers: tuple[int, ...] = ()

    @property
    def used(self) -> int:
        """How many slots there are. Their numbers are below."""
        return len(self._slots)

    def follow(self, peers: Peers, room: int) -> Changes:
        """Take in the peers of a look; `of_peers` are their slots then. With `room` for so many slots, those of peers
        that are gone are given to others rather than to have more.
        """
        if same(self._keys, peers.public_key) and same(self._allowed_ips, peers.allowed_ips):
            return NO_CHANGES
        renewed = self._number(peers.public_key, room)
        wanted: dict[bytes, int] = {}
        for slot, allowed_ips in zip(self.of_peers, peers.allowed_ips, strict=True):
            wanted.update(zip(map(key, allowed_ips), repeat(slot)))
        put = tuple((one, SLOT.pack(slot)) for one, slot in wanted.items() - self._owners.items())
        out = tuple(self._owners.keys() - wanted.keys())
        self._keys, self._allowed_ips, self._owners = peers.public_key, peers.allowed_ips, wanted
        return Changes(put, out, renewed)

    def _number(self, keys: Sequence[str], room: int) -> tuple[int, ...]:
        """Give every peer a slot. Returns those that belonged to others."""
        there = set(keys)
        slots = {peer: slot for peer, slot in self._slots.items() if peer not in there}
        new = [peer for peer in keys if peer not in self._slots]
        lacking = min(len(new), max(0, len(self._slots) + len(new) - room))
        taken = [slots.pop(gone) for gone in list(slots)[:lacking]]
        fresh = iter((*taken, *range(len(self._slots), len(self._slots) + len(new))))
        slots.update((peer, self._slots[peer] if peer in self._slots else next(fresh)) for peer in keys)
        self._slots = slots
        self.of_peers = tuple(slots[peer] for peer in keys)
        return tuple(taken)


def key(allowed_ip: str) -> bytes:
    """The trie's key of an allowed IP such as "10.0.0.0/24". Bits beyond the prefix are 0: no prefix has two keys."""
    address, _, length = allowed_ip.partition("/")
    family, kind, size = (6, AF_INET6, 16) if ":" in address else (4, AF_INET, 4)
    bits, spare = int(length), 8 * size - int(length)
    packed = inet_pton(kind, address)
    if spare:
        packed = (int.from_bytes(packed) >> spare << spare).to_bytes(size)
    return KEY.pack(FAMILY_BITS + bits, family, packed)
