"""Names and expectations of the peers of each device, kept from one look to the next.

Asking the configuration about 10,000 peers takes a while, and next to nothing of the answer ever changes.
"""

from __future__ import annotations

from itertools import compress
from operator import is_not
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.identity import Identity, PeerMeta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.config import Config
    from wg_exporter.model import ConfFile, Device, DeviceKey, Peer


class _Known(NamedTuple):
    """A device's peers at the last look, and what came of them."""

    identity: Identity
    keys: tuple[str, ...]
    peers: tuple[Peer, ...]
    metas: tuple[PeerMeta, ...]


class Roster:
    """Answers for the peers of whole devices; the same list again while nothing about them changed."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._conf: tuple[ConfFile, ...] = ()
        self._identity = Identity(config, ())
        self._known: dict[DeviceKey, _Known] = {}

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
        self._known[key] = _Known(self._identity, device.keys_of(), device.peers, metas)
        return metas

    def forget_all_but(self, present: set[DeviceKey]) -> None:
        """Drop what is kept of devices that are gone."""
        self._known = {key: known for key, known in self._known.items() if key in present}

    def _refreshed(self, known: _Known, device: Device) -> tuple[PeerMeta, ...]:
        """The same object as before where nothing that decides has changed."""
        old, new = known.peers, device.peers
        if known.keys != device.keys_of():
            return tuple(self._identity.meta(device.netns, device.name, peer) for peer in new)
        updated: list[PeerMeta] = []
        for index in compress(range(len(new)), map(is_not, old, new)):
            peer, then = new[index], old[index]
            # Only these two fields decide, and on most scrapes only counters have moved.
            if peer.allowed_ips is not then.allowed_ips or peer.persistent_keepalive != then.persistent_keepalive:
                updated = updated or list(known.metas)
                updated[index] = self._identity.meta(device.netns, device.name, peer)
        return tuple(updated) if updated else known.metas
