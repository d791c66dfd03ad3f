"""Where to aim: which address inside the tunnel stands for a peer, and why.

WireGuard sends a packet to the peer with the longest allowed-IPs prefix that holds its address. A probe to an address
that belongs to another peer would measure that peer, so every address is looked up among all peers of the device before
it is used. A target comes with its origin; without a target there is a reason.

The first of these is taken:

1. the address that the configuration names (refused, with a reason, if it isn't this peer's);
2. the peer's own /32 or /128 in a subnet of the interface: its address inside the tunnel;
3. its only /32 or /128;
4. the one address that the interface's subnet leaves for a peer, if allowed IPs point to this peer with it: in a /31 or
   /30 (/127, /126) the other host;
5. none.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.model import same

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wg_exporter.model import Device, DeviceKey, Peer, Peers


class Origin(StrEnum):
    """Where a target came from."""

    CONFIGURED = "configured"
    IN_SUBNET = "in_subnet"  # the peer's own address in the interface's subnet
    ONLY_HOST = "only_host"  # the only single address among the peer's allowed IPs
    DERIVED = "derived"  # the one address that subnet and allowed IPs both leave for this peer
    NONE = "none"


class Target(NamedTuple):
    """Where to aim at one peer: `address` is empty if there is none, and then `reason` is one line that says why."""

    address: str
    origin: Origin
    reason: str = ""


class NotAllowed(Target):
    """No target, because the allowed IPs let nothing through to it."""

    __slots__ = ()


class Owners:
    """Which peer an address belongs to: the longest allowed-IPs prefix wins (drivers/net/wireguard/allowedips.c).

    There is a dictionary for each prefix length, so a look-up takes as many tries as there are lengths.
    """

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._tables: dict[tuple[int, int], dict[int, str]] = {}
        for peer in peers:
            for text in peer.allowed_ips:
                parsed = parse(text)
                if parsed is not None:
                    version, number, length = parsed
                    table = self._tables.setdefault((version, length), {})
                    table[_cut(number, version, length)] = peer.public_key
        self._lengths = {
            version: sorted((length for v, length in self._tables if v == version), reverse=True) for version in (4, 6)
        }

    def owner(self, version: int, number: int) -> str:
        """The public key of the peer that gets packets to this address, empty if none does. `version` is 4 or 6."""
        for length in self._lengths[version]:
            key = self._tables[version, length].get(_cut(number, version, length))
            if key is not None:
                return key
        return ""


class _Aimed(NamedTuple):
    """The arguments of the last `Targets.of` for a device, and its result."""

    peers: Peers
    addresses: tuple[str, ...]
    configured: Mapping[str, str]
    targets: dict[str, Target]


class Targets:
    """Targets for whole devices; the same dictionary again while nothing about them changed."""

    def __init__(self) -> None:
        self._known: dict[DeviceKey, _Aimed] = {}

    def of(self, device: Device, addresses: tuple[str, ...], configured: Mapping[str, str]) -> Mapping[str, Target]:
        """A Target for each public key. `addresses` are the interface's own, `configured` are targets by public key."""
        key = (device.netns, device.name)
        known = self._known.get(key)
        # Counters move with every read, keys and allowed IPs hardly ever.
        if (
            known is not None
            and known.addresses == addresses
            and known.configured == configured
            and same(known.peers.public_key, device.peers.public_key)
            and same(known.peers.allowed_ips, device.peers.allowed_ips)
        ):
            return known.targets
        targets = aim(device, addresses, configured)
        self._known[key] = _Aimed(device.peers, addresses, dict(configured), targets)
        return targets

    def forget(self, keep: Iterable[DeviceKey]) -> None:
        """Drop what is known of all devices but these."""
        wanted = set(keep)
        self._known = {key: known for key, known in self._known.items() if key in wanted}


def aim(device: Device, addresses: Iterable[str], configured: Mapping[str, str]) -> dict[str, Target]:
    """Targets of all peers of a device, by public key.

    `addresses` are the interface's own addresses as CIDR strings ("10.0.0.1/24"); other strings are skipped.
    """
    owners = Owners(device.peers)
    own = [interface for interface in map(_interface, addresses) if interface is not None]
    short = {peer.public_key: peer.public_key[:8] for peer in device.peers}
    aimer = _Aimer(owners, own, short)
    return {peer.public_key: aimer.at(peer, configured.get(peer.public_key, "")) for peer in device.peers}


class _Own(NamedTuple):
    """One address of the interface, as numbers."""

    version: int
    number: int
    length: int
    net: int


class _Aimer:
    """Finds the targets of the peers of one device."""

    def __init__(self, owners: Owners, own: list[_Own], short: Mapping[str, str]) -> None:
        self._owners = owners
        self._own = own
        self._own_numbers = {(o.version, o.number) for o in own}
        self._short = short

    def at(self, peer: Peer, configured: str) -> Target:
        if configured:
            return self._configured(peer, configured)
        hosts = [
            (version, number)
            for version, number, length in filter(None, map(parse, peer.allowed_ips))
            if length == _bits(version) and self._usable(peer, version, number)
        ]
        for version, number in hosts:
            if any(o.version == version and _cut(number, version, o.length) == o.net for o in self._own):
                return Target(_text(version, number), Origin.IN_SUBNET)
        if len(hosts) == 1:
            return Target(_text(*hosts[0]), Origin.ONLY_HOST)
        derived = self._derived(peer)
        if derived:
            return Target(derived, Origin.DERIVED)
        if hosts:
            return _none(f"{len(hosts)} single addresses, none in a subnet of the interface: name one with `target`")
        if not peer.allowed_ips:
            return _not_allowed("no allowed IPs: nothing can be sent to this peer")
        return _none("only networks, no single address of the peer's own: name one with `target`")

    def _configured(self, peer: Peer, configured: str) -> Target:
        parsed = parse(configured)
        if parsed is None or parsed[2] != _bits(parsed[0]):
            return _none(f"target {configured!r} is not an IP address")
        version, number, _length = parsed
        if (version, number) in self._own_numbers:
            return _none(f"target {configured} is this interface's own address")
        owner = self._owners.owner(version, number)
        if owner == peer.public_key:
            return Target(_text(version, number), Origin.CONFIGURED)
        if owner:
            return _not_allowed(f"target {configured} is in the allowed IPs of another peer, {self._short[owner]}")
        return _not_allowed(f"target {configured} is in no peer's allowed IPs")

    def _usable(self, peer: Peer, version: int, number: int) -> bool:
        return (version, number) not in self._own_numbers and self._owners.owner(version, number) == peer.public_key

    def _derived(self, peer: Peer) -> str:
        """The other host of a subnet of two, if packets to it go to this peer."""
        for own in self._own:
            spare = _bits(own.version) - own.length
            if spare == 1:  # a link of two (RFC 3021, 6164)
                other = own.number ^ 1
            elif spare == 2 and own.number - own.net in (1, 2):  # the first and the last address are no hosts
                other = own.net + 3 - (own.number - own.net)
            else:
                continue
            if self._usable(peer, own.version, other):
                return _text(own.version, other)
        return ""


def parse(text: str) -> tuple[int, int, int] | None:
    """An address with or without a prefix length as (4 or 6, number, length); None if it is none.

    The usual IPv4 form is parsed by hand: `ipaddress` takes 3 µs for it, and a host may have tens of thousands.
    """
    address, slash, prefix = text.partition("/")
    parts = address.split(".")
    if len(parts) == 4:
        number = 0
        for part in parts:
            if not (part.isascii() and part.isdigit() and len(part) <= 3 and int(part) < 256):
                return None
            number = number << 8 | int(part)
        version = 4
    else:
        try:
            number = int(IPv6Address(address.partition("%")[0]))
        except ipaddress.AddressValueError:
            return None
        version = 6
    if not slash:
        return version, number, _bits(version)
    if not (prefix.isascii() and prefix.isdigit() and len(prefix) <= 3 and int(prefix) <= _bits(version)):
        return None
    return version, number, int(prefix)


def _interface(text: str) -> _Own | None:
    parsed = parse(text)
    if parsed is None:
        return None
    version, number, length = parsed
    return _Own(version, number, length, _cut(number, version, length))


def _bits(version: int) -> int:
    return 32 if version == 4 else 128


def _cut(number: int, version: int, length: int) -> int:
    """The network that an address lies in, as a number."""
    spare = (32 if version == 4 else 128) - length
    return number >> spare << spare


def _text(version: int, number: int) -> str:
    return str(IPv4Address(number) if version == 4 else IPv6Address(number))


def _none(reason: str) -> Target:
    return Target("", Origin.NONE, reason)


def _not_allowed(reason: str) -> Target:
    return NotAllowed("", Origin.NONE, reason)
