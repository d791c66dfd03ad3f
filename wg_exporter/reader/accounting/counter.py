"""The counters of one device: its trie, its two programs, and what they have counted so far.

Counters lie in memory that the kernel shares with this process, so that reading them takes no call. They are never
written here. Those of a slot that goes to another peer begin anew by taking off what was there.

Where a device gets more peers than there is room for, programs with twice the room take the place of the old ones. What
those have counted, and still count until the last packet on its way through them is out, stays part of the sum.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.accounted import Packets
from wg_exporter.linux.bpf import ARRAY, LPM_TRIE, MMAPABLE, NO_PREALLOC, memory
from wg_exporter.reader.accounting.program import KEY, RECEIVED, SENT, program
from wg_exporter.reader.accounting.slots import SLOT, Slots

if TYPE_CHECKING:
    import mmap

    from wg_exporter.linux.bpf import Bpf
    from wg_exporter.model import Peers

# More allowed IPs than this a device's trie does not take. It holds memory for those only that are there.
MOST_ALLOWED_IPS = 1 << 20

# Processors share counters beyond this many: they add atomically, so it costs only speed, where memory would grow.
MOST_CELLS = 8

LEAST_ROOM = 64  # slots

_COUNTER = 8  # bytes
_NAME = "wg_exporter"  # of maps and programs, in bpftool


class Programs(NamedTuple):
    """The files of the two programs."""

    received: int
    sent: int


class _Cells:
    """Counters for so many slots. `cells` of them are added up for each slot."""

    def __init__(self, bpf: Bpf, trie: int, room: int, cells: int) -> None:
        """Raises SourceError, OSError."""
        self._room, self._cells = room, cells
        size = cells * 2 * room
        counters = bpf.create_map(ARRAY, (4, _COUNTER), size, MMAPABLE, _NAME)
        with ExitStack() as opened:
            opened.callback(os.close, counters)
            self._memory: mmap.mmap = memory(counters, size * _COUNTER)
            received, sent = (program(direction, trie, counters, room, cells) for direction in (RECEIVED, SENT))
            first = bpf.load(received, _NAME)
            try:
                self.programs = Programs(first, bpf.load(sent, _NAME))
            except BaseException:
                os.close(first)
                raise

    def close(self) -> None:
        """Let go of it. Programs that are attached run on."""
        for file in self.programs:
            os.close(file)
        self._memory.close()

    def raw(self, used: int) -> tuple[bytes, ...]:
        """The counters of the first slots: for each cell the received packets, and the sent ones."""
        length, step = used * _COUNTER, self._room * _COUNTER
        starts = range(0, 2 * self._cells * step, step)
        return tuple(self._memory[start : start + min(length, step)].ljust(length, b"\0") for start in starts)


class DeviceCounter:
    """Counts for one device. After an error it has to be closed. Not thread-safe."""

    def __init__(self, bpf: Bpf, life: int, processors: int) -> None:
        """`life` is a number that no other counter has; `processors` is how many there may be. Raises SourceError."""
        self._bpf = bpf
        self._life = life
        self._processors = min(1 << max(processors - 1, 0).bit_length(), MOST_CELLS)
        self._slots = Slots()
        self._room = 0
        self._cells: list[_Cells] = []  # of which the last one's programs are attached
        self._raw: tuple[bytes, ...] = ()
        self._sums: list[list[int]] = [[], []]  # by direction and slot
        self._before: dict[int, tuple[int, int]] = {}  # what peers had that a slot belonged to
        self._last = Packets(life, (), ())
        self._order: tuple[int, ...] = ()
        self._trie = bpf.create_map(LPM_TRIE, (KEY.size, SLOT.size), MOST_ALLOWED_IPS, NO_PREALLOC, _NAME)

    @property
    def programs(self) -> Programs:
        """What has to be attached; other files than before once more room was made."""
        return self._cells[-1].programs

    def close(self) -> None:
        """Let go of maps and programs."""
        for cells in self._cells:
            cells.close()
        self._cells = []
        if self._trie >= 0:
            os.close(self._trie)
            self._trie = -1

    def follow(self, peers: Peers) -> None:
        """Count for these peers from now on. Raises SourceError, OSError."""
        changes = self._slots.follow(peers, self._room)
        if changes.renewed:
            self._add_up()
            for slot in changes.renewed:
                self._before[slot] = (self._sums[RECEIVED][slot], self._sums[SENT][slot])
        if self._slots.used > self._room or not self._cells:
            self._room = max(LEAST_ROOM, 1 << (self._slots.used - 1).bit_length())
            self._cells.append(_Cells(self._bpf, self._trie, self._room, self._processors))
        self._bpf.update(self._trie, changes.put)
        self._bpf.delete(self._trie, changes.out)

    def read(self) -> Packets:
        """What was counted of each peer; columns that did not change are the same objects as at the last read."""
        if self._add_up() or self._order is not self._slots.of_peers:
            self._order = self._slots.of_peers
            found = Packets(self._life, self._of_peers(RECEIVED), self._of_peers(SENT))
            self._last = found.sharing(self._last)
        return self._last

    def _add_up(self) -> bool:
        """Sum up over processors, and over programs that were replaced. Whether anything moved."""
        used = self._slots.used
        raw = tuple(counters for cells in self._cells for counters in cells.raw(used))
        if raw == self._raw:
            return False
        self._raw, nothing = raw, bytes(used * _COUNTER)
        for direction in (RECEIVED, SENT):
            moved = [memoryview(one).cast("Q") for one in raw[direction::2] if one != nothing]
            self._sums[direction] = reduce(_add, moved, [0] * used)
        return True

    def _of_peers(self, direction: int) -> tuple[int, ...]:
        sums, order = self._sums[direction], self._slots.of_peers
        if self._before:
            sums = sums.copy()
            for slot, before in self._before.items():
                sums[slot] -= before[direction]
        return tuple(map(sums.__getitem__, order))


def _add(sums: list[int], more: memoryview[int]) -> list[int]:
    return list(map(add, sums, more))
