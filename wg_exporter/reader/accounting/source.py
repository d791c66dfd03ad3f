"""Counts the packets of the peers of all devices in one network namespace, by look to look.

Whatever keeps a device from being counted exactly ends its counts: they are absent then, and one line says why. It is
tried again every `AGAIN_SECONDS`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from wg_exporter.accounted import NO_COUNTS
from wg_exporter.linux.bpf import LPM_TRIE, NO_PREALLOC, Bpf
from wg_exporter.linux.errors import DeniedError, SourceError
from wg_exporter.linux.netlink import open_socket
from wg_exporter.reader.accounting.counter import DeviceCounter
from wg_exporter.reader.accounting.hooks import Found, Hooks
from wg_exporter.reader.accounting.program import KEY
from wg_exporter.reader.accounting.seat import Seat
from wg_exporter.reader.accounting.wanted import Wanted

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from wg_exporter.accounted import Packets
    from wg_exporter.model import Peers
    from wg_exporter.reader.accounting.counter import Programs

# How often it is looked whether the programs are where they were put, first and by themselves.
AGAIN_SECONDS = 4.0

ANOTHER = "another wg-exporter counts packets here; stop one of the two, or turn its `accounting` off"


class _Counted:
    """One device."""

    def __init__(self, counter: DeviceCounter, seat: Seat, now: float) -> None:
        self.counter = counter
        self.seat = seat
        self.attached: Programs | None = None
        self.numbers: frozenset[int] = frozenset()  # of all programs that it has attached so far
        self.checked = now
        self.replaced = False  # by those of another exporter


class AccountingSource:
    """Not thread-safe but for `follow`: one thread, one namespace. After a read, `notes` are one-line remarks."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        bpf: Bpf | None = None,
        open_socket: Callable[[int], socket.socket] = open_socket,
    ) -> None:
        self._monotonic = monotonic
        self._bpf = bpf or Bpf()
        self._hooks = Hooks(self._bpf.others, open_socket)
        self._wanted = Wanted({}, None)
        self._counted: dict[int, _Counted] = {}
        self._troubles: dict[int, tuple[float, str]] = {}  # by index: since when, and the line
        self._tried = False
        self.notes: tuple[str, ...] = ()

    def follow(self, wanted: Wanted) -> None:
        """What to count from the next read on. Any thread may call it."""
        self._wanted = wanted

    def read(self) -> dict[str, tuple[Peers, Packets]]:
        """What was counted so far of each device by name, with the peers that it runs in parallel to.

        Raises SourceError if nothing can be counted on this host: DeniedError without permission.
        """
        self._try()
        wanted, now = self._wanted, self._monotonic()
        for ifindex in self._counted.keys() - (self._counted if wanted.there is None else set(wanted.there)):
            self._drop(ifindex)
        indices = {ifindex for _name, ifindex in wanted.devices}
        self._troubles = {ifindex: trouble for ifindex, trouble in self._troubles.items() if ifindex in indices}
        found: dict[str, tuple[Peers, Packets]] = {}
        notes = []
        for (name, ifindex), peers in wanted.devices.items():
            packets = self._read_one(ifindex, peers, now)
            if packets is not None:
                found[name] = peers, packets
            elif ifindex in self._troubles:
                notes.append(f"{name}{NO_COUNTS}{self._troubles[ifindex][1]}")
        self.notes = tuple(notes)
        return found

    def close(self) -> None:
        """Take everything away that was put there, and close the socket."""
        for ifindex in list(self._counted):
            self._drop(ifindex)
        self._troubles.clear()
        self._hooks.close()

    def _try(self) -> None:
        """Find out whether it works here at all, also where there is no device."""
        if not self._tried:
            os.close(self._bpf.create_map(LPM_TRIE, (KEY.size, 4), 1, NO_PREALLOC, "wg_exporter"))
            self._tried = True

    def _read_one(self, ifindex: int, peers: Peers, now: float) -> Packets | None:
        since, _line = self._troubles.get(ifindex, (float("-inf"), ""))
        if ifindex not in self._counted and now - since < AGAIN_SECONDS:
            return None
        try:
            counted = self._counted.get(ifindex) or self._begin(ifindex, peers, now)
            if now - counted.checked >= AGAIN_SECONDS:
                self._check(ifindex, counted, now)
            counted.counter.follow(peers)
            if not counted.replaced and counted.attached is not counted.counter.programs:
                self._attach(ifindex, counted)
            return counted.counter.read()
        except DeniedError:
            self._drop(ifindex)
            raise
        except (SourceError, OSError) as error:
            self._drop(ifindex)
            self._troubles[ifindex] = now, str(error)
            return None

    def _begin(self, ifindex: int, peers: Peers, now: float) -> _Counted:
        first = ifindex not in self._troubles or self._troubles[ifindex][1] != ANOTHER
        if not first and self._hooks.look(ifindex, ()) is Found.OTHERS:
            raise SourceError(ANOTHER)
        self._hooks.check(ifindex)
        counter = DeviceCounter(self._bpf, int.from_bytes(os.urandom(6)), os.cpu_count() or 1)
        counted = self._counted[ifindex] = _Counted(counter, Seat(ifindex), now)
        counted.seat.take()  # unless the reader of before a reload has it still
        counter.follow(peers)  # before the first packet
        self._attach(ifindex, counted)
        self._troubles.pop(ifindex, None)
        return counted

    def _attach(self, ifindex: int, counted: _Counted) -> None:
        programs = counted.counter.programs
        counted.numbers |= set(map(self._bpf.program_id, programs))
        self._hooks.put(ifindex, programs)
        counted.attached = programs

    def _check(self, ifindex: int, counted: _Counted, now: float) -> None:
        """Raise SourceError if it can't be relied upon that every packet comes by."""
        counted.seat.take()
        self._hooks.check(ifindex)
        found = self._hooks.look(ifindex, counted.numbers)
        if found is Found.OTHERS and counted.replaced:
            raise SourceError(ANOTHER)
        # The next reader, after a reload, counts before this one ends: so it is told at the second look only.
        counted.replaced = found is Found.OTHERS
        if found is Found.NOTHING:
            self._attach(ifindex, counted)
        counted.checked = now

    def _drop(self, ifindex: int) -> None:
        counted = self._counted.pop(ifindex, None)
        if counted is None:
            return
        with suppress(SourceError):
            self._hooks.remove(ifindex, counted.numbers)
        counted.counter.close()
        counted.seat.leave()
