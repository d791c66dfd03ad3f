"""Packets of peers since the exporter started, whoever counted them: what one reader counted goes on with the next.

A reader counts from 0. It ends at a reload and when it is killed, and the metric must not fall then. So for each device
it is remembered what had been counted when another one began. What passes before that one begins is in nobody's count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.accounted import Packets, PeerPackets
from wg_exporter.model import same

if TYPE_CHECKING:
    from wg_exporter.model import Device, DeviceKey, Snapshot

# Devices that are remembered; of more, those that were seen longest ago are forgotten.
MOST_DEVICES = 10_000

_NOTHING = PeerPackets(0, 0)


class _Total:
    """One device: what others had counted by public key, and what the reader of now has, with the sum of both."""

    def __init__(self) -> None:
        self._read_at = float("-inf")  # of the latest look
        self._before: dict[str, PeerPackets] = {}
        self._keys: tuple[str, ...] = ()
        self._counted: Packets | None = None
        self._sum: Packets | None = None

    def after(self, keys: tuple[str, ...], counted: Packets, read_at: float) -> Packets | None:
        """The sums after a look, read at this time; the same object as before while nothing changed. None for a look
        that comes after a later one, from a life that has ended by then: it must not begin once more.
        """
        if self._counted is not None and self._counted.life != counted.life and read_at < self._read_at:
            return None
        self._read_at = max(self._read_at, read_at)
        if self._counted is counted and self._sum is not None and same(self._keys, keys):
            return self._sum
        if self._counted is not None and self._sum is not None and self._counted.life != counted.life:
            self._before = dict(zip(self._keys, self._sum, strict=True))
        self._keys, self._counted = keys, counted
        self._sum = self._with_others(keys, counted).sharing(self._sum)
        return self._sum

    def _with_others(self, keys: tuple[str, ...], counted: Packets) -> Packets:
        if not self._before:
            return counted
        before = [self._before.get(key, _NOTHING) for key in keys]
        rows = [
            (one.rx_packets + rx, one.tx_packets + tx) for one, rx, tx in zip(before, *counted.columns(), strict=True)
        ]
        received, sent = zip(*rows, strict=True) if rows else ((), ())
        return Packets(counted.life, received, sent)


class PacketTotals:
    """The sums of all devices. Every snapshot is taken in, so that none shows more than what is remembered."""

    def __init__(self) -> None:
        self._totals: dict[DeviceKey, _Total] = {}

    def take(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with sums for what was counted; itself where nothing was."""
        if all(device.packets is None for device in snapshot.devices):
            return snapshot
        return snapshot._replace(devices=tuple(self._summed(device, snapshot.monotonic) for device in snapshot.devices))

    def _summed(self, device: Device, read_at: float) -> Device:
        if device.packets is None:
            return device
        key = (device.netns, device.name)
        total = self._totals.pop(key) if key in self._totals else _Total()
        self._totals[key] = total
        while len(self._totals) > MOST_DEVICES:
            del self._totals[next(iter(self._totals))]
        return device._replace(packets=total.after(device.peers.public_key, device.packets, read_at))
