"""What became of each device from one look to the next: appeared, gone, renamed, made anew.

Only this module decides that. Counts, names, plans and health take a `DeviceChange` and compare nothing themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wg_exporter.model import Device, DeviceKey, Link, Snapshot


class Known(NamedTuple):
    """What one look leaves for the next to compare with.

    ifindex: the index of the interface when its peers were last read; 0 if not known.
    gone: there was no such interface any more.
    """

    ifindex: int = 0
    gone: bool = False


class DeviceChange(NamedTuple):
    """One device from one look to the next.

    device: as it is shown now, with peers that may be those of an earlier read; None if it is not shown.
    link: its interface; None if there is none, or it could not be read.
    certain: whether the interfaces of its namespace were read; otherwise a missing link proves nothing.
    gone: there is no such interface any more.
    before: what the last look left; None for a device that appeared.
    was: its key at the last look, which differs from `key` if it was renamed.
    """

    key: DeviceKey
    device: Device | None
    link: Link | None
    certain: bool
    gone: bool
    before: Known | None
    was: DeviceKey

    @property
    def read(self) -> Device | None:
        """The device, if its peers were read now."""
        return self.device if self.device is not None and self.device.fresh else None

    @property
    def renamed(self) -> bool:
        """Whether it had another name at the last look."""
        return self.was != self.key

    @property
    def anew(self) -> bool:
        """Whether it was made anew under the same name, and its peers are read for the first time since."""
        known = self.before.ifindex if self.before else 0
        return bool(self.read and known and self.link and self.link.ifindex != known)

    @property
    def left(self) -> Known:
        """What this look leaves for the next."""
        known = self.before.ifindex if self.before else 0
        seen = self.link.ifindex if self.link else 0
        return Known((seen or known) if self.read or not known else known, self.gone)


def changes(known: Mapping[DeviceKey, Known], snapshot: Snapshot) -> tuple[DeviceChange, ...]:
    """The changes of all devices in the snapshot or `known` from earlier looks. A renamed device is one change."""
    devices = {(device.netns, device.name): device for device in snapshot.devices}
    renamed = dict(_renamed(known, snapshot))
    read = snapshot.namespaces_read()
    found = []
    for key in dict.fromkeys((*known, *devices)):
        if key in renamed.values():
            continue
        device, link, was = devices.get(key), snapshot.links.get(key), renamed.get(key, key)
        certain = key[0] in read
        gone = certain and device is None and link is None
        found.append(DeviceChange(key, device, link, certain, gone, known.get(was), was))
    return tuple(found)


def _renamed(known: Mapping[DeviceKey, Known], snapshot: Snapshot) -> Iterator[tuple[DeviceKey, DeviceKey]]:
    """(new key, old key) of each device that has another name than at the last look.

    A new device is a renamed one if a device with its interface index has just vanished. One that was gone before does
    not count: in a namespace that was made anew, indices start anew.
    """
    there = {(device.netns, device.name) for device in snapshot.devices}
    new = there - {key for key, before in known.items() if not before.gone}
    if not new:
        return
    left = {
        (key[0], before.ifindex): key
        for key, before in known.items()
        if before.ifindex and not before.gone and key not in there and key not in snapshot.links
    }
    for key in new:
        link = snapshot.links.get(key)
        was = left.get((key[0], link.ifindex)) if link else None
        if was is not None:
            yield key, was
