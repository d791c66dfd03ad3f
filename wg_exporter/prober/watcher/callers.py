"""Who sends handshake messages to a device and is no watched peer's endpoint: strangers, and peers that moved.

Whoever WireGuard answers is a peer, and is dropped. The latest are kept, whoever floods.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from typing import TYPE_CHECKING

from wg_exporter.prober.watcher.decode import Kind
from wg_exporter.sighted import MOST_CALLERS, Caller, Callers, Sender

if TYPE_CHECKING:
    from wg_exporter.model import DeviceKey
    from wg_exporter.prober.watcher.decode import Datagram

_Caller = tuple[bytes, int]


class Calls:
    """The callers of all devices of one namespace."""

    def __init__(self) -> None:
        self._devices: dict[DeviceKey, OrderedDict[_Caller, Caller]] = {}
        self._changed: dict[DeviceKey, None] = {}

    def take(self, device: DeviceKey, found: Datagram, interface: str, *, for_us: bool) -> None:
        """A message came to a device."""
        name = (found.source, found.source_port)
        callers = self._devices.setdefault(device, OrderedDict())
        before = callers.get(name)
        times = before.sender.times + 1 if before else 1
        initiation = (
            found.message.data if found.message.kind is Kind.INITIATION else before.initiation if before else b""
        )
        sender = Sender(str(ip_address(found.source)), found.source_port, interface, times)
        callers[name] = Caller(sender, for_us, initiation)
        callers.move_to_end(name)
        if len(callers) > MOST_CALLERS:
            callers.popitem(last=False)
        self._changed[device] = None

    def move(self, device: DeviceKey, address: bytes, port: int, interface: str) -> None:
        """The last message from there came on to another interface."""
        callers = self._devices.get(device)
        if callers and (caller := callers.get((address, port))) is not None:
            callers[address, port] = caller._replace(sender=caller.sender._replace(interface=interface))
            self._changed[device] = None

    def answered(self, device: DeviceKey, address: bytes, port: int) -> None:
        """WireGuard answers somebody."""
        callers = self._devices.get(device)
        if callers and callers.pop((address, port), None) is not None:
            self._changed[device] = None

    def forget(self, device: DeviceKey) -> None:
        """Nobody of this device is watched any more. What was told stays so."""
        self._devices.pop(device, None)

    def changes(self) -> tuple[Callers, ...]:
        """The callers of the devices where they changed since the last call."""
        changed, self._changed = self._changed, {}
        return tuple(Callers(device, tuple(self._devices.get(device, {}).values())) for device in changed)
