"""The health of all peers of a host in a few numbers, and the peers to look at first."""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.states import PeerHealth, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wg_exporter.model import DeviceKey
    from wg_exporter.names.identity import PeerMeta


class UnhealthyPeer(NamedTuple):
    """A peer that is down or degraded."""

    netns: str
    interface: str
    public_key: str
    name: str
    health: PeerHealth


class Summary(NamedTuple):
    """Numbers of peers. `down`, `open` (without a state) and `idle` count only peers of those `expected` up, `degraded`
    all.

    `unhealthy` are the first of those that are down or degraded: down before degraded, the latest change first.
    """

    expected: int = 0
    down: int = 0
    degraded: int = 0
    open: int = 0
    unhealthy: tuple[UnhealthyPeer, ...] = ()
    idle: int = 0


def summary(
    devices: Iterable[tuple[DeviceKey, Sequence[str], Sequence[PeerMeta], Sequence[PeerHealth]]], most: int
) -> Summary:
    """The summary of `devices`, which are those of `Health.devices`; at most `most` peers are named."""
    expected = unknown = idle = 0
    found: dict[State, list[UnhealthyPeer]] = {State.DOWN: [], State.DEGRADED: []}
    for device, keys, metas, rows in devices:
        for key, meta, row in zip(keys, metas, rows, strict=True):
            expected += meta.expected_up
            unknown += meta.expected_up and row.state is None
            idle += meta.expected_up and row.state is State.IDLE
            if row.state in found:
                found[row.state].append(UnhealthyPeer(*device, key, meta.name, row))
    down, degraded = found[State.DOWN], found[State.DEGRADED]
    # Sorting thousands that went down together would cost more than the rest of this.
    first = [*nsmallest(most, down, key=_newest), *nsmallest(most, degraded, key=_newest)]
    return Summary(expected, len(down), len(degraded), unknown, tuple(first[:most]), idle)


def _newest(peer: UnhealthyPeer) -> float:
    return -peer.health.changed_at
