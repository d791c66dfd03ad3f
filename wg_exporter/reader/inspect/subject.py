"""One peer as a snapshot has it, as far as it tells what to look at on this host. No socket here."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.plan.targets import Owners

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wg_exporter.model import Backend, Device, PeerKey, Snapshot


class Subject(NamedTuple):
    """What to look at. `underlay` is the namespace of the device's UDP socket by its configured name, None if it is in
    none that is read. `rivals` are other devices that claim the same port. `owner` is as in `Inspected`.
    """

    key: PeerKey
    backend: Backend
    ifindex: int
    endpoint: str
    listen_port: int
    fwmark: int
    underlay: str | None
    rivals: tuple[str, ...]
    addresses: tuple[str, ...] | None
    target: str
    owner: str | None
    conf_endpoint: str | None


def subject(snapshot: Snapshot, key: PeerKey, target: str = "") -> Subject | None:
    """What to look at for a peer; None if no device of the snapshot has it. `target` is an address inside the tunnel,
    empty if none is known.
    """
    device = next((one for one in snapshot.devices if (one.netns, one.name) == key[:2]), None)
    if device is None:
        return None
    try:
        at = device.peers.public_key.index(key[2])
    except ValueError:
        return None
    link = snapshot.links.get(key[:2])
    return Subject(
        key,
        device.backend,
        link.ifindex if link else 0,
        device.peers.endpoint[at],
        device.listen_port,
        device.fwmark,
        underlay_of(device, snapshot.udp_ports),
        tuple(
            one.name
            for one in snapshot.devices
            if one is not device and device.listen_port and one.listen_port == device.listen_port
        ),
        link.addresses if link else None,
        target,
        _owner(device, target),
        _described(snapshot, key),
    )


def underlay_of(device: Device, udp_ports: Mapping[str, frozenset[int]]) -> str | None:
    """The namespace of the device's UDP socket: its own or, if its port is bound in one other alone, that. Where it is
    bound nowhere, its own: nothing is known to be elsewhere.
    """
    if not device.listen_port or device.listen_port in udp_ports.get(device.netns, ()):
        return device.netns
    others = [netns for netns, ports in udp_ports.items() if device.listen_port in ports]
    return device.netns if not others else others[0] if len(others) == 1 else None


def _owner(device: Device, target: str) -> str | None:
    try:
        address = ip_address(target)
    except ValueError:
        return None
    return Owners(device.peers).owner(address.version, int(address))


def _described(snapshot: Snapshot, key: PeerKey) -> str | None:
    """The endpoint that a file gives to the peer; None if none describes it."""
    rows = [row for file in snapshot.conf if file.interface == key[1] for row in file.peers if row.public_key == key[2]]
    return rows[-1].endpoint if rows else None
