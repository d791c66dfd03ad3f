"""Which peers `wg-exporter mtu` probes: those asked for by interface, name or key, whatever the configuration probes.

Peers are selected as in `show` and planned as in the daemon, so all three speak of the same peers and targets. The
`target` of a peer in the configuration counts; its `probe` does not.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from wg_exporter.cli.common import planned
from wg_exporter.cli.mtu.results import Asked, CheckError
from wg_exporter.cli.show import overview
from wg_exporter.config import Probing
from wg_exporter.health.states import NOT_JUDGED
from wg_exporter.plan.planner import Planner
from wg_exporter.prober.mtu.advice import Entry
from wg_exporter.status.rows import from_view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wg_exporter.config import Config
    from wg_exporter.exposition.view import View
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.model import PeerKey, Snapshot
    from wg_exporter.probed import ProbePeer

NOT_LOOKED_AT = "it is not known how to probe it"


class Choice(NamedTuple):
    """One peer that was asked for. `peer` says how to probe it, None if it can't be probed (`asked.problem`)."""

    asked: Asked
    peer: ProbePeer | None


class NothingToCheckError(CheckError):
    """There is no peer to check. The message is one line that says why."""


def choose(
    snapshot: Snapshot,
    view: View,
    config: Config,
    interface: str | None = None,
    peer: str | None = None,
    *,
    states: Mapping[PeerKey, PeerHealth] = MappingProxyType({}),
) -> list[Choice]:
    """The peers to check, in the order of the devices; `states` are an exporter's. Raises NothingToCheckError."""
    found = overview.selected(from_view(snapshot, view, config), interface, peer)
    reason = overview.reason_for_failure(found)
    if reason:
        raise NothingToCheckError(reason.replace("wg-exporter show", "wg-exporter mtu"))
    plan = planned(Planner(_probing_all(config)), snapshot, view)
    probed = {one.key: one for one in plan.peers}
    entries = config.entries()
    choices = []
    for row in found.devices:
        if row.device is None:
            continue
        place = (row.device.netns, row.device.name)
        targets = plan.targets.get(place, {})
        for one in row.peers:
            key = (*place, one.peer.public_key)
            target = targets.get(one.peer.public_key)
            why = "" if key in probed else plan.unprobed.get(key, NOT_LOOKED_AT)
            mtu = row.link and row.link.mtu
            peer_entry = Entry(row.entry, entries.get(probed[key].underlay, "") if key in probed else row.entry)
            asked = Asked(
                *key,
                one.name,
                target.address if target else "",
                mtu,
                why,
                states.get(key, NOT_JUDGED),
                expected=one.expected_up or peer is not None,
                entry=peer_entry,
            )
            choices.append(Choice(asked, probed.get(key)))
    if not choices:
        raise NothingToCheckError("no peer to check: the interface has none")
    return choices


def _probing_all(config: Config) -> Config:
    """The same configuration, but with all peers probed."""
    peers = tuple(replace(peer, probe=None) for peer in config.peers)
    return replace(config, probe=replace(config.probe, enabled=Probing.ON), peers=peers)
