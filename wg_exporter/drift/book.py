"""The drift of all devices of a host. Where nothing changed since the last look, it is the same object, and costs
nothing."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from wg_exporter.drift.compare import Comparison
from wg_exporter.model import SourceName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wg_exporter.compared import KeyComparison
    from wg_exporter.drift.kinds import Drift
    from wg_exporter.model import ConfFile, DeviceKey, Snapshot

NOTHING_RESOLVED: Mapping[str, frozenset[str]] = MappingProxyType({})


class Drifts:
    """Compares look after look. Not thread-safe."""

    def __init__(self) -> None:
        self._comparisons: dict[tuple[str, str], Comparison] = {}
        self._conf: tuple[ConfFile, ...] = ()
        self._files: dict[str, tuple[ConfFile, ...]] = {}
        self._keys: tuple[KeyComparison, ...] = ()
        self._compared: dict[tuple[str, str], KeyComparison] = {}
        self._last: Mapping[DeviceKey, Drift] = {}

    def look(
        self, snapshot: Snapshot, resolved: Mapping[str, frozenset[str]] = NOTHING_RESOLVED
    ) -> Mapping[DeviceKey, Drift]:
        """The drift of each device that a file describes, by device; the same object as before while nothing changed.

        Only files that could be read at this look count. A file describes a device of this host's own network
        namespace. `resolved` is as for `Comparison.look`: while nothing about it changed it must be the same
        object.
        """
        self._take(snapshot)
        found: dict[DeviceKey, Drift] = {}
        comparisons: dict[tuple[str, str], Comparison] = {}
        for device in snapshot.devices if self._readable(snapshot) else ():
            files = self._files.get(device.name, ()) if not device.netns else ()
            link = snapshot.links.get((device.netns, device.name))
            drifts = []
            for file in files:
                place = (device.name, file.path)
                comparison = comparisons[place] = self._comparisons.get(place) or Comparison()
                drifts.append(comparison.look(device, link, file, self._compared.get(place), resolved))
            if drifts:
                found[device.netns, device.name] = _nearest(drifts)
        self._comparisons = comparisons
        if found != self._last:
            self._last = found
        return self._last

    def _take(self, snapshot: Snapshot) -> None:
        if snapshot.conf is not self._conf:
            self._conf = snapshot.conf
            self._files = {}
            for file in snapshot.conf:
                if file.interface:
                    self._files[file.interface] = (*self._files.get(file.interface, ()), file)
        if snapshot.keys is not self._keys:
            self._keys = snapshot.keys
            self._compared = {(row.interface, row.path): row for row in snapshot.keys}

    @staticmethod
    def _readable(snapshot: Snapshot) -> bool:
        """Whether the files are as this look found them, and not as an earlier one did."""
        return all(row.success for row in snapshot.outcomes if row.source is SourceName.CONF)


def _nearest(drifts: list[Drift]) -> Drift:
    """Of several files that describe a device one was loaded, and which is not known: the one that fits best counts."""
    if len(drifts) == 1:
        return drifts[0]
    best = min(drifts, key=lambda drift: drift.total)
    return best._replace(others=tuple(drift.path for drift in drifts if drift is not best))
