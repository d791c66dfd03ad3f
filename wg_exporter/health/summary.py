"""The health of all peers of a host in a few numbers, and the peers to look at first."""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.states import PeerHealth, State
from wg_exporter.quiet import NOBODY, Quiet, QuietNow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wg_exporter.model import DeviceKey
    from wg_exporter.names.identity import PeerMeta


class UnhealthyPeer(NamedTuple):
    """A peer that is down or degraded. `quiet`: it pages nobody, as somebody works on it."""

    netns: str
    interface: str
    public_key: str
    name: str
    health: PeerHealth
    quiet: Quiet | None = None


class Summary(NamedTuple):
    """Numbers of peers. `down`, `open` (without a state) and `idle` count only peers of those `expected` up, `degraded`
    all.

    `quiet` counts those expected up that page nobody for a while, however they are, and `quiet_down` and
    `quiet_degraded` are how many of `down` and `degraded` do so.
    `unhealthy` are the first of those that are down or degraded: down before degraded, those that are quiet after the
    others, the latest change first.
    """

    expected: int = 0
    down: int = 0
    degraded: int = 0
    open: int = 0
    unhealthy: tuple[UnhealthyPeer, ...] = ()
    idle: int = 0
    quiet: int = 0
    quiet_down: int = 0
    quiet_degraded: int = 0


def summary(
    devices: Iterable[tuple[DeviceKey, Sequence[str], Sequence[PeerMeta], Sequence[PeerHealth]]],
    most: int,
    quiet: QuietNow = NOBODY,
) -> Summary:
    """The summary of `devices`, which are those of `Health.devices`; at most `most` peers are named."""
    expected = unknown = idle = silent = 0
    found: dict[State, list[UnhealthyPeer]] = {State.DOWN: [], State.DEGRADED: []}
    for device, keys, metas, rows in devices:
        if device in quiet.devices:
            silent += sum(
                meta.expected_up and quiet.peer(device, key) is not None for key, meta in zip(keys, metas, strict=True)
            )
        for key, meta, row in zip(keys, metas, rows, strict=True):
            expected += meta.expected_up
            unknown += meta.expected_up and row.state is None
            idle += meta.expected_up and row.state is State.IDLE
            if row.state in found:
                found[row.state].append(
                    UnhealthyPeer(*device, key, meta.name, row, quiet.peer(device, key) if quiet else None)
                )
    down, degraded = found[State.DOWN], found[State.DEGRADED]
    # Sorting thousands that went down together would cost more than the rest of this.
    first = [*nsmallest(most, down, key=_newest), *nsmallest(most, degraded, key=_newest)]
    counts = (sum(peer.quiet is not None for peer in rows) for rows in (down, degraded))
    return Summary(expected, len(down), len(degraded), unknown, tuple(first[:most]), idle, silent, *counts)


def _newest(peer: UnhealthyPeer) -> tuple[bool, float]:
    return peer.quiet is not None, -peer.health.changed_at
