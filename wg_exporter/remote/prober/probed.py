"""What is known of each probed peer, kept by device, so that an unchanged device is the same object as before."""

from __future__ import annotations

from collections.abc import MutableMapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from wg_exporter.probed import Probed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wg_exporter.model import DeviceKey, PeerKey

_NOTHING: Mapping[str, Probed] = MappingProxyType({})


class ProbedPeers(MutableMapping["PeerKey", Probed]):
    """A dictionary by peer that also gives its contents by device. Not thread-safe."""

    def __init__(self) -> None:
        self._devices: dict[DeviceKey, dict[str, Probed]] = {}
        # The devices that were given out since they last changed: the next change makes a copy first.
        self._given: dict[DeviceKey, Mapping[str, Probed]] = {}
        self._all: Mapping[DeviceKey, Mapping[str, Probed]] | None = None

    def by_device(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        """All of it, by device and public key. It never changes; an unchanged device is the same object as before."""
        if self._all is None:
            for device, peers in self._devices.items():
                if device not in self._given:
                    self._given[device] = MappingProxyType(peers)
            self._all = MappingProxyType(self._given.copy())
        return self._all

    def __getitem__(self, key: PeerKey) -> Probed:
        netns, interface, public_key = key
        return self._devices[netns, interface][public_key]

    def __setitem__(self, key: PeerKey, probed: Probed) -> None:
        netns, interface, public_key = key
        self._changing((netns, interface))[public_key] = probed

    def __delitem__(self, key: PeerKey) -> None:
        netns, interface, public_key = key
        if public_key not in self._devices.get((netns, interface), _NOTHING):
            raise KeyError(key)
        peers = self._changing((netns, interface))
        del peers[public_key]
        if not peers:
            del self._devices[netns, interface]

    def __iter__(self) -> Iterator[PeerKey]:
        return ((*device, public_key) for device, peers in self._devices.items() for public_key in peers)

    def __len__(self) -> int:
        return sum(map(len, self._devices.values()))

    def _changing(self, device: DeviceKey) -> dict[str, Probed]:
        """The peers of a device to be changed: a copy, if the last one was given out."""
        self._all = None
        peers = self._devices.get(device)
        if peers is None:
            peers = self._devices[device] = {}
        elif self._given.pop(device, None) is not None:
            peers = self._devices[device] = peers.copy()
        return peers
