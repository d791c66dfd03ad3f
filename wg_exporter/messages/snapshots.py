"""From a snapshot to the message that crosses, and back: a column of peers crosses only if it changed.

The exporter skips what did not move by asking whether a column is the same object (`model`). So the way back puts the
very objects of the last snapshot where the message says that nothing changed.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

from wg_exporter.accounted import Packets
from wg_exporter.messages.reader import Columns, DevicePart, PacketColumns, Pass
from wg_exporter.model import Device, Peers, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wg_exporter.compared import KeyComparison
    from wg_exporter.hostnames import HostName
    from wg_exporter.model import ConfFile, DeviceKey, Link, Usage

_WIDTH = len(Peers.__slots__)


class Packer:
    """The reader's side. Give it every snapshot of a connection, in order."""

    def __init__(self) -> None:
        self._peers: dict[DeviceKey, Peers] = {}
        self._packets: dict[DeviceKey, Packets | None] = {}
        self._conf: tuple[ConfFile, ...] | None = None
        self._ports: Mapping[str, frozenset[int]] | None = None
        self._keys: tuple[KeyComparison, ...] | None = None
        self._host_names: tuple[HostName, ...] = ()

    def pack(self, snapshot: Snapshot, usage: Usage) -> Pass:
        """The message that tells what is new in this snapshot."""
        conf = None if snapshot.conf is self._conf else snapshot.conf
        ports = None if snapshot.udp_ports == self._ports else dict(snapshot.udp_ports)
        keys = None if snapshot.keys is self._keys else snapshot.keys
        message = Pass(
            snapshot.wall,
            snapshot.monotonic,
            tuple(map(self._device, snapshot.devices)),
            snapshot.failed,
            tuple(snapshot.links.values()),
            conf,
            snapshot.outcomes,
            snapshot.notes,
            ports,
            snapshot.left_out,
            snapshot.idle_patterns,
            snapshot.doubles,
            {
                netns: tuple((*question, answer) for question, answer in routes.items())
                for netns, routes in snapshot.routes.items()
            },
            snapshot.capabilities,
            usage,
            keys,
            None if snapshot.host_names is self._host_names else snapshot.host_names,
            snapshot.reresolved,
        )
        self._peers = {(device.netns, device.name): device.peers for device in snapshot.devices}
        self._packets = {(device.netns, device.name): device.packets for device in snapshot.devices}
        self._conf, self._ports, self._keys = snapshot.conf, snapshot.udp_ports, snapshot.keys
        self._host_names = snapshot.host_names
        return message

    def _device(self, device: Device) -> DevicePart:
        before, now = self._peers.get((device.netns, device.name)), device.peers
        columns = None
        if before is None:
            columns = Columns(*now.columns())
        elif before is not now:
            columns = Columns(
                *(None if old is new else new for old, new in zip(before.columns(), now.columns(), strict=True))
            )
        return DevicePart(
            device.netns,
            device.name,
            device.backend,
            device.public_key,
            device.listen_port,
            device.fwmark,
            device.fresh,
            device.opaque,
            columns,
            _pack(self._packets.get((device.netns, device.name)), device.packets),
        )


def _pack(before: Packets | None, now: Packets | None) -> PacketColumns | None:
    if now is None:
        return None
    then = (None, None) if before is None else before.columns()
    columns = zip(then, now.columns(), strict=True)
    return PacketColumns(now.life, *(None if old is new else new for old, new in columns))


class UnpackError(ValueError):
    """A message that contradicts itself, or those before it; the text says how."""


class Unpacker:
    """The exporter's side. Give it every message of a connection, in order."""

    def __init__(self) -> None:
        self._peers: dict[DeviceKey, Peers] = {}
        self._packets: dict[DeviceKey, Packets | None] = {}
        self._conf: tuple[ConfFile, ...] | None = None
        self._ports: Mapping[str, frozenset[int]] | None = None
        self._keys: tuple[KeyComparison, ...] | None = None
        self._links: Mapping[DeviceKey, Link] = {}
        self._host_names: tuple[HostName, ...] = ()

    def unpack(self, message: Pass) -> Snapshot:
        """The snapshot that was packed. Raises UnpackError."""
        devices = tuple(map(self._device, message.devices))
        conf = self._conf if message.conf is None else message.conf
        ports = self._ports if message.udp_ports is None else message.udp_ports
        keys = self._keys if message.keys is None else message.keys
        if conf is None or ports is None or keys is None:
            raise UnpackError("files, ports or keys are as before, and there is no before")
        links = {(link.netns, link.name): self._link(link) for link in message.links}
        self._peers = {(device.netns, device.name): device.peers for device in devices}
        self._packets = {(device.netns, device.name): device.packets for device in devices}
        self._conf, self._ports, self._keys, self._links = conf, ports, keys, links
        if message.host_names is not None:
            self._host_names = message.host_names
        return Snapshot(
            message.wall,
            message.monotonic,
            devices,
            message.failed,
            links,
            conf,
            message.outcomes,
            message.notes,
            ports,
            message.left_out,
            message.idle_patterns,
            message.doubles,
            {
                netns: {(ifindex, address): answer for ifindex, address, answer in routes}
                for netns, routes in message.routes.items()
            },
            message.capabilities,
            keys=keys,
            host_names=self._host_names,
            reresolved=message.reresolved,
        )

    def _device(self, part: DevicePart) -> Device:
        before = self._peers.get((part.netns, part.name))
        if part.columns is None:
            if before is None:
                raise UnpackError("the peers of a device are as before, and there is no before")
            peers = before
        else:
            peers = _peers(part.columns, before)
        return Device(
            part.netns,
            part.name,
            part.backend,
            part.public_key,
            part.listen_port,
            part.fwmark,
            peers,
            part.fresh,
            part.opaque,
            _packets(part.packets, self._packets.get((part.netns, part.name)), len(peers)),
        )

    def _link(self, link: Link) -> Link:
        """With the very addresses of last time, if they are the same."""
        before = self._links.get((link.netns, link.name))
        return (
            link if before is None or before.addresses != link.addresses else link._replace(addresses=before.addresses)
        )


def _peers(columns: Columns, before: Peers | None) -> Peers:
    new: tuple[Any, ...] = tuple(getattr(columns, name) for name in Peers.__slots__)
    old = before.columns() if before is not None else (None,) * _WIDTH
    whole: tuple[Any, ...] = tuple(then if now is None else now for then, now in zip(old, new, strict=True))
    if any(column is None for column in whole):
        raise UnpackError("a column of peers is as before, and there is no before")
    if len({len(column) for column in whole}) != 1:
        raise UnpackError("the columns of a device's peers differ in length")
    if before is not None and all(map(is_, old, whole)):
        return before
    return Peers(*whole)


def _packets(part: PacketColumns | None, before: Packets | None, peers: int) -> Packets | None:
    if part is None:
        return None
    received, sent = part.rx_packets, part.tx_packets
    if before is not None:
        received = before.rx_packets if received is None else received
        sent = before.tx_packets if sent is None else sent
    if received is None or sent is None:
        raise UnpackError("a column of packets is as before, and there is no before")
    if not len(received) == len(sent) == peers:
        raise UnpackError("the columns of a device's packets and its peers differ in length")
    return Packets(part.life, received, sent).sharing(before)
