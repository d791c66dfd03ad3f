"""Which devices there are at a look, which is which, and which peers they have: what came, went, moved or was renamed.

No judgement, and nothing is remembered here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from wg_exporter.model import Device, DeviceKey, Snapshot


class Presence(NamedTuple):
    """One device at one look.

    device: as it was read now; None if it was not, or not whole.
    certain: whether the interfaces of its namespace are known, without which `gone` and `down` say nothing.
    gone: there is no such interface any more.
    down: the interface is administratively down.
    ifindex: 0 if not known.
    """

    key: DeviceKey
    device: Device | None
    certain: bool
    gone: bool
    down: bool
    ifindex: int


def presences(known: Collection[DeviceKey], snapshot: Snapshot) -> Iterator[Presence]:
    """All devices that are `known` or in the snapshot."""
    devices = {(device.netns, device.name): device for device in snapshot.devices}
    certain = snapshot.namespaces_read()
    for key in dict.fromkeys((*known, *devices)):
        device, link = devices.get(key), snapshot.links.get(key)
        yield Presence(
            key,
            device if device is not None and device.fresh else None,
            certain=key[0] in certain,
            gone=device is None and link is None and key[0] in certain,
            down=link is not None and not link.up,
            ifindex=link.ifindex if link else 0,
        )


def renamed(known: Mapping[DeviceKey, int], snapshot: Snapshot) -> Iterator[tuple[DeviceKey, DeviceKey]]:
    """The old and the new key of devices that have another name than at the last look.

    `known` are the interface indexes of those that were there then: who has the index of one that is not there any
    more is that one.
    """
    there = {(device.netns, device.name) for device in snapshot.devices}
    new = there - known.keys()
    if not new:
        return
    left = {(key[0], known[key]): key for key in known if key not in there and key not in snapshot.links}
    for key in new:
        link = snapshot.links.get(key)
        before = left.get((key[0], link.ifindex)) if link else None
        if before is not None:
            yield before, key


def made_anew(before: int, ifindex: int) -> bool:
    """Whether a device is another one than before, under the same name. An index of 0 is not known."""
    return bool(before and ifindex and before != ifindex)


def places(before: Sequence[str], after: Sequence[str]) -> list[int | None]:
    """For each peer in `after`, its place in `before`; None for a new one. Peers are public keys."""
    known = {key: at for at, key in enumerate(before)}
    return [known.get(key) for key in after]
