"""Names and expectations of the peers of each device, kept from one look to the next.

Asking the configuration about 10,000 peers is slow, and the answer hardly ever changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.model import differences, same
from wg_exporter.names.identity import Identity, PeerMeta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.config import Config
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.model import ConfFile, Device, DeviceKey, Peer, Peers


class _Named(NamedTuple):
    """A device's peers at the last look, and what came of them."""

    identity: Identity
    peers: Peers
    metas: tuple[PeerMeta, ...]


class Names:
    """Answers for the peers of whole devices; the same list again while nothing about them changed."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._conf: tuple[ConfFile, ...] = ()
        self._identity = Identity(config, ())
        self._known: dict[DeviceKey, _Named] = {}

    def use(self, conf: tuple[ConfFile, ...]) -> None:
        """Take names and intent from these files from now on."""
        if conf is not self._conf:
            self._conf = conf
            self._identity = Identity(self._config, conf)

    @property
    def conf(self) -> tuple[ConfFile, ...]:
        """The files in use."""
        return self._conf

    def metas(self, device: Device) -> Sequence[PeerMeta]:
        """A PeerMeta for each peer of the device, in the device's order."""
        key = (device.netns, device.name)
        known = self._known.get(key)
        if known is None or known.identity is not self._identity:
            metas = tuple(self._identity.meta(*key, peer) for peer in device.peers)
        elif known.peers is device.peers:
            return known.metas
        else:
            metas = self._refreshed(known, device)
        self._known[key] = _Named(self._identity, device.peers, metas)
        return metas

    def meta(self, key: DeviceKey, peer: Peer) -> PeerMeta:
        """The PeerMeta of one peer, of a device that may be gone."""
        return self._identity.meta(*key, peer)

    def follow(self, devices: Sequence[DeviceChange]) -> None:
        """Drop what is kept of devices that are not there after this look."""
        there = {change.key for change in devices if change.device is not None}
        self._known = {key: known for key, known in self._known.items() if key in there}

    def _refreshed(self, known: _Named, device: Device) -> tuple[PeerMeta, ...]:
        """The same object as before where nothing that decides has changed."""
        old, new = known.peers, device.peers
        if not same(old.public_key, new.public_key):
            return tuple(self._identity.meta(device.netns, device.name, peer) for peer in new)
        # Only these two fields decide; on most scrapes nothing but counters has moved.
        changed = {
            *differences(old.allowed_ips, new.allowed_ips),
            *differences(old.persistent_keepalive, new.persistent_keepalive),
        }
        if not changed:
            return known.metas
        updated = list(known.metas)
        for index in changed:
            updated[index] = self._identity.meta(device.netns, device.name, new[index])
        return tuple(updated)
