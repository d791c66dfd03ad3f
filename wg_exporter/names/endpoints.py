"""What the host names in WireGuard's files say of each peer: whether its endpoint is still where its name leads.

Rows run in parallel to the peers of a device. A device of which no peer has a name has none, and one of which nothing
changed has the very rows of last time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.conffile.endpoints import host_names
from wg_exporter.hostnames import NO_NAME, EndpointName, HostName, differs
from wg_exporter.model import same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.model import ConfFile, Device, DeviceKey, Snapshot

_NOT_LOOKED_UP = HostName("")


class _Made(NamedTuple):
    """The rows of a device, and what they were made of."""

    names: Mapping[tuple[str, str], str]
    known: tuple[HostName, ...]
    counts: Mapping[tuple[str, str], int] | None
    keys: Sequence[str]
    endpoints: Sequence[str]
    rows: tuple[EndpointName, ...]


class EndpointNames:
    """Outlives reloads, as it counts. Not thread-safe."""

    def __init__(self) -> None:
        self._files: tuple[ConfFile, ...] = ()
        self._names: dict[tuple[str, str], str] = {}
        self._interfaces: frozenset[str] = frozenset()
        self._known: tuple[HostName, ...] = ()
        self._by_name: dict[str, HostName] = {}
        self._resolved: Mapping[str, frozenset[str]] = {}
        self._made: dict[DeviceKey, _Made] = {}
        self._counts: dict[tuple[str, str], int] | None = None  # of all readers
        self._told: dict[tuple[str, str], int] = {}  # by the present one

    def follow(self, snapshot: Snapshot) -> None:
        """Count what was set since the last tick. A reader that was started anew begins at 0."""
        if snapshot.unread:
            return
        if snapshot.reresolved is None:
            self._counts, self._told = None, {}
            return
        told = {(interface, key): number for interface, key, number in snapshot.reresolved}
        if self._counts is None or told != self._told:
            counts = dict(self._counts or {})
            for who, number in told.items():
                before = self._told.get(who, 0)
                counts[who] = counts.get(who, 0) + (number - before if number >= before else number)
            self._counts, self._told = counts, told
        there = {(device.netns, device.name) for device in snapshot.devices}
        self._made = {key: made for key, made in self._made.items() if key in there}

    def rows(self, device: Device, snapshot: Snapshot) -> tuple[EndpointName, ...]:
        """A row for each peer; none if no peer of the device has a host name."""
        self._use(snapshot)
        if device.netns or device.name not in self._interfaces:
            return ()
        keys, endpoints = device.peers.public_key, device.peers.endpoint
        key = (device.netns, device.name)
        made = self._made.get(key)
        if (
            made is None
            or made.names is not self._names
            or made.known is not self._known
            or made.counts is not self._counts
            or not same(made.keys, keys)
            or not same(made.endpoints, endpoints)
        ):
            old = dict(zip(made.keys, made.rows, strict=True)) if made else {}
            rows = tuple(
                self._row(device.name, one, endpoint, old.get(one, NO_NAME))
                for one, endpoint in zip(keys, endpoints, strict=True)
            )
            made = self._made[key] = _Made(self._names, self._known, self._counts, keys, endpoints, rows)
        return made.rows

    def resolved(self, snapshot: Snapshot) -> Mapping[str, frozenset[str]]:
        """To what each endpoint with a host name resolves, as `address:port`; the same object while nothing changed."""
        self._use(snapshot)
        return self._resolved

    def _use(self, snapshot: Snapshot) -> None:
        if snapshot.conf is not self._files:
            self._files = snapshot.conf
            found = host_names(snapshot.conf)
            if found != self._names:
                self._names = found
                self._interfaces = frozenset(interface for interface, _ in found)
        if snapshot.host_names is not self._known:
            self._known = snapshot.host_names
            self._by_name = {row.endpoint: row for row in snapshot.host_names}
            self._resolved = {row.endpoint: frozenset(row.addresses) for row in snapshot.host_names if row.addresses}

    def _row(self, interface: str, key: str, endpoint: str, old: EndpointName) -> EndpointName:
        """The row of a peer; `old` itself if it is equal."""
        name = self._names.get((interface, key))
        if name is None:
            return NO_NAME
        known = self._by_name.get(name, _NOT_LOOKED_UP)
        row = EndpointName(
            name,
            known.addresses,
            known.at,
            known.failure,
            known.failed_since,
            differs(endpoint, known.addresses),
            None if known is _NOT_LOOKED_UP else known.failure is None,
            None if self._counts is None else self._counts.get((interface, key), 0),
        )
        return old if row == old else row
