"""What the exporter wants of the prober's process, and who stays unjudged without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.config import Config
    from wg_exporter.model import Device, DeviceKey, PeerKey, Snapshot
    from wg_exporter.names.identity import PeerMeta
    from wg_exporter.plan.planner import Plan
    from wg_exporter.probed import Probed, ProbePeer


class Prober(Protocol):
    """What probes the peers, in a process of its own (`prober.process.handle`). Only `stop` waits for it."""

    def configure(self, config: Config) -> None:
        """Probe as this configuration says, from now on. Counters go on, except of histograms with other bounds.

        If it raises, nothing has changed.
        """

    def set_peers(self, peers: Sequence[ProbePeer]) -> None:
        """Probe exactly these from now on."""

    def counters(self, rows: Mapping[PeerKey, tuple[int, int]]) -> None:
        """Take the byte counters (rx, tx) of peers, which have just been read."""

    def results(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        """What is known of each peer, by device and public key; a device is the same object while nothing changed."""

    def scheduling_delay(self) -> float | None:
        """The longest time in seconds by which a probe left late, since the last call; None if nothing is probed."""

    def pids(self) -> Sequence[int]:
        """The ids of its processes."""

    def stop(self) -> None:
        """End it, and wait for that."""


def unjudged(snapshot: Snapshot, metas: Callable[[Device], Sequence[PeerMeta]], plan: Plan | None) -> int:
    """How many peers are expected up without keepalive and probes: idle and dead look alike until data is sent."""
    probed = {peer.key for peer in plan.peers} if plan else set()
    return sum(
        meta.expected_up and not keepalive and (device.netns, device.name, key) not in probed
        for device in snapshot.devices
        for key, keepalive, meta in zip(
            device.peers.public_key, device.peers.persistent_keepalive, metas(device), strict=True
        )
    )
