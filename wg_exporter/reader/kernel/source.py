"""WireGuard devices of the kernel, over generic netlink, of the network namespace of the calling thread.

AmneziaWG's kernel module speaks the same protocol under a family name of its own; `KernelSource` reads either. A family
that does not exist means that there are no devices of that kind, which is normal.

Sources: drivers/net/wireguard/netlink.c, linux/wireguard.h, net/core/rtnetlink.c (rtnl_dump_ifinfo).
"""

from __future__ import annotations

import errno
import struct
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.linux.errors import DeniedError, SourceError
from wg_exporter.linux.netlink import (
    GENERIC,
    NETLINK_GENERIC,
    DecodeError,
    Families,
    InterruptedDumpError,
    Netlink,
    NetlinkError,
    attribute,
    open_socket,
)
from wg_exporter.model import Backend, Device, FailedDevice, Failure, Peers
from wg_exporter.reader.kernel.dump import WGDEVICE_A_IFINDEX, Extractor
from wg_exporter.reader.kernel.peers import PeerTable
from wg_exporter.reader.kernel.secrets import KeyTaster
from wg_exporter.reader.links.links import LinkReader

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from wg_exporter.model import Peer
    from wg_exporter.reader.keys import KeyLooks

WG_CMD_GET_DEVICE = 0
WG_GENL_VERSION = 1

# How often a dump that was interrupted by a change is asked for again before the last complete one is served.
ATTEMPTS = 3

# What the kernel answers for a device that went away between being listed and being read.
_GONE = (errno.ENODEV, errno.EOPNOTSUPP)

NO_PERMISSION = (
    "reading WireGuard devices needs CAP_NET_ADMIN; run as root, or grant it: "
    "AmbientCapabilities=CAP_NET_ADMIN in the systemd unit, --cap-add NET_ADMIN for a container"
)


class _Decoders(NamedTuple):
    """What is kept of a device between two reads."""

    extractor: Extractor
    table: PeerTable


class KernelSource:
    """Reads all devices of one generic netlink family. Not thread-safe: one thread, one namespace.

    With `looks`, it gives the digests of keys to that, when they are due.
    """

    def __init__(
        self,
        backend: Backend = Backend.KERNEL,
        wanted: Callable[[str], bool] = lambda _name: True,
        open_socket: Callable[[int], socket.socket] = open_socket,
        looks: KeyLooks | None = None,
    ) -> None:
        self._looks = looks
        self._backend = backend
        self._family_name = "amneziawg" if backend is Backend.AMNEZIAWG else "wireguard"
        self._wanted = wanted
        self._generic = Netlink(NETLINK_GENERIC, open_socket)
        self._families = Families(self._generic)
        self._links = LinkReader((self._family_name,), open_socket)
        self._known: dict[int, _Decoders] = {}
        self._last: dict[int, Device] = {}

    def close(self) -> None:
        """Close the sockets, so that the next read opens them in the namespace of its thread."""
        self._generic.close()
        self._links.close()

    def read(self) -> tuple[list[Device], list[FailedDevice]]:
        """All devices that could be read, and those that could not. Device.netns is left empty.

        Raises SourceError if the source as a whole failed: DeniedError without permission, others if the kernel does
        not answer.
        """
        family = self._families.get(self._family_name)
        if family is None:
            return [], []
        links = [link for link in self._links.read() if self._wanted(link.name)]
        devices: list[Device] = []
        failed: list[FailedDevice] = []
        try:
            for link in links:
                self._read_one(family, link.ifindex, link.name, devices, failed)
            if not links:
                self._check_permission(family)
        except NetlinkError as error:
            if error.failure is Failure.DENIED:
                raise DeniedError(NO_PERMISSION) from None
            raise
        present = {link.ifindex for link in links}
        self._known = {index: known for index, known in self._known.items() if index in present}
        self._last = {index: device for index, device in self._last.items() if index in present}
        return devices, failed

    def _read_one(
        self, family: int, ifindex: int, name: str, devices: list[Device], failed: list[FailedDevice]
    ) -> None:
        try:
            device = self._dump(family, ifindex, name)
        except NetlinkError as error:
            if error.failure is Failure.DENIED:
                raise
            if error.errno not in _GONE:
                failed.append(FailedDevice("", name, self._backend, f"reading it failed: {error}", error.failure))
        except InterruptedDumpError as error:
            last = self._last.get(ifindex)
            if last is None:
                failed.append(FailedDevice("", name, self._backend, f"{error}, {ATTEMPTS} times in a row"))
            else:
                devices.append(last._replace(name=name, fresh=False))
        except SourceError as error:
            self._known.pop(ifindex, None)
            self._last.pop(ifindex, None)
            failed.append(FailedDevice("", name, self._backend, f"reading it failed: {error}", error.failure))
        else:
            self._last[ifindex] = device
            devices.append(device)

    def _dump(self, family: int, ifindex: int, interface: str = "") -> Device:
        request = GENERIC.pack(WG_CMD_GET_DEVICE, WG_GENL_VERSION, 0)
        request += attribute(WGDEVICE_A_IFINDEX, struct.pack("=I", ifindex))
        seen: dict[str, Peer] = {}
        for attempt in range(1, ATTEMPTS + 1):
            known = self._known.setdefault(ifindex, _Decoders(Extractor(), PeerTable()))
            known.extractor.begin()
            taster = (
                KeyTaster(self._looks.digests) if self._looks and self._looks.due(interface, self._backend) else None
            )
            try:
                with closing(self._generic.dump(family, request)) as answers:
                    for data, start, end in answers:
                        known.extractor.feed(data, start + GENERIC.size, end)
                        if taster:
                            taster.feed(data, start + GENERIC.size, end)
            except InterruptedDumpError:
                if attempt == ATTEMPTS:
                    raise
                continue
            facts, entries = known.extractor.finish()
            peers = known.table.update(entries)
            if lost := known.table.lost:
                # A dump that is cut elsewhere loses other peers. The new cut is kept as long as it loses none.
                self._generic.cut_differently()
                seen.update((peer.public_key, peer) for peer in peers if peer.public_key not in lost)
                if not seen.keys() >= lost:
                    continue
                peers = Peers.of(seen[key] for key in peers.public_key)
            if self._looks and taster:
                self._looks.keep(interface, self._backend, taster.finish())
            name, key, port, mark = facts.name, facts.public_key, facts.listen_port, facts.fwmark
            return Device("", name, self._backend, key, port, mark, peers)
        raise InterruptedDumpError("the kernel left out what it knows of a peer")

    def _check_permission(self, family: int) -> None:
        """Where there is no device, no read would show that permission is missing. So ask for the loopback device.

        The kernel checks the capability first: it answers EPERM, or else that this is no WireGuard device.
        """
        try:
            self._dump(family, 1)
        except NetlinkError as error:
            if error.failure is Failure.DENIED:
                raise
        except (InterruptedDumpError, DecodeError):
            pass
        finally:
            self._known.pop(1, None)
