"""What became of each device from one look to the next: appeared, gone, renamed, made anew.

Only this module decides that. Counts, names, plans and health take a `DeviceChange` and compare nothing themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

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
    was: its key at the last look, which differs from `key` if it was renamed; None if another device had this key.
    """

    key: DeviceKey
    device: Device | None
    link: Link | None
    certain: bool
    gone: bool
    before: Known | None
    was: DeviceKey | None

    @property
    def read(self) -> Device | None:
        """The device, if its peers were read now."""
        return self.device if self.device is not None and self.device.fresh else None

    @property
    def renamed(self) -> bool:
        """Whether it had another name at the last look."""
        return self.was not in (None, self.key)

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
    """All devices that are in the snapshot, or `known` from the looks before. A renamed one is told once."""
    devices = {(device.netns, device.name): device for device in snapshot.devices}
    renamed = dict(_renamed(known, snapshot, devices.keys()))
    left = set(renamed.values())
    read = snapshot.namespaces_read()
    found = []
    for key in dict.fromkeys((*known, *renamed, *devices)):
        device, link = devices.get(key), snapshot.links.get(key)
        if key in left and key not in renamed and device is None:
            continue
        was = renamed.get(key, None if key in left else key)
        certain = key[0] in read
        gone = certain and device is None and link is None
        found.append(DeviceChange(key, device, link, certain, gone, known.get(was) if was else None, was))
    return tuple(found)


def _renamed(
    known: Mapping[DeviceKey, Known], snapshot: Snapshot, there: Collection[DeviceKey]
) -> Iterator[tuple[DeviceKey, DeviceKey]]:
    """The key of now and the key of before of each device that has another name than at the last look.

    Its interface index now has another name, and its own name has none or another one. Indices start anew in a
    namespace that was made anew, so one that was gone already is another; so is an interface that is no device.
    """
    failed = {(device.netns, device.name) for device in snapshot.failed}
    now = {(key[0], link.ifindex): key for key, link in snapshot.links.items() if key in there or key in failed}
    for was, before in known.items():
        key = None if before.gone or not before.ifindex else now.get((was[0], before.ifindex))
        if key is None or key == was or _had(known.get(key), before.ifindex):
            continue
        link = snapshot.links.get(was)
        # Between two dumps, one may be seen under both names.
        if link.ifindex != before.ifindex if link else was not in there:
            yield key, was


def _had(known: Known | None, ifindex: int) -> bool:
    """Whether this one had the index itself, so that it is no other one by a new name."""
    return known is not None and not known.gone and known.ifindex == ifindex
