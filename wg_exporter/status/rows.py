"""Devices and peers as a person or a program wants to see them: the rows of `show`, of the page and of the document.

States follow the same rules as in the metrics (`health`). If repeated looks have given a peer a state, that is shown.
Otherwise one look judges what it can tell, and the rest is not known.

An `Overview` is made from the same look at the host as a scrape (`from_view`), so all of them and `/metrics` agree.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.snapshot import judge_snapshot
from wg_exporter.health.states import NOT_JUDGED, State
from wg_exporter.model import KERNEL_KINDS, Peer
from wg_exporter.quiet import NOBODY, QuietNow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wg_exporter import model, probed
    from wg_exporter.accounted import PeerPackets
    from wg_exporter.causes.cause import Finding
    from wg_exporter.config import Config
    from wg_exporter.config.health import HealthLimits
    from wg_exporter.drift.kinds import Drift
    from wg_exporter.exposition.view import DeviceView, View
    from wg_exporter.health import GoneDevice
    from wg_exporter.health.quality import Window
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.history.round_trips import Line
    from wg_exporter.hostnames import EndpointName
    from wg_exporter.plan.planner import Aim
    from wg_exporter.probed import FastFound
    from wg_exporter.quiet import Quiet


REFUSED = "the configuration on disk was refused, and an older one is in use: `wg-exporter check` says why"
"""A problem of an exporter whose last reload failed."""


class Teller(NamedTuple):
    """The exporter that was asked: its version, the host it runs on, its configuration file (empty = none), and since
    when it serves (seconds since the epoch).

    `fingerprint` is that of the configuration in use (`config.fingerprint`), `reload_successful` whether the last
    reload was: else that configuration is older than its file. Both are empty and None where an older version does not
    say.

    `storage_problem` is why nothing survives a restart, empty if all does or nobody asked for it. `track_files` is the
    directory of track files that is in use, empty = none, and `track_files_problem` why nothing can be written there.
    """

    version: str
    host: str
    config_file: str
    started: float
    fingerprint: str = ""
    reload_successful: bool | None = None
    storage_problem: str = ""
    track_files: str = ""
    track_files_problem: str = ""


class Echoes(NamedTuple):
    """Probes to a peer since the exporter started, without the extra ones that are sent in doubt. Late ones are in
    `lost` too.
    """

    up: bool
    sent: int
    lost: int
    late: int


class PeerRow(NamedTuple):
    """A peer as a person knows it. `name` is its friendly name or, where `named` is False, the start of its key.

    `aim` says how it is probed, None = not known. `echoes` are the probes so far, `mtu` is the report on its MTU, and
    `window` the loss and round trip of now: each None if it is not known, and the last of a peer that is down. Of a
    peer that is `gone`, with its device or from it, `peer` has only the key. `quiet`: it pages nobody, as somebody
    works on it or its interface. `line` are its round trips of the last ten minutes, None also where nobody asked for
    them. `cause` is why it is down or degraded, None where nothing was found. `host_name` is what is known of the host
    name in its file; None if it has none. `fast` is how it is by fast echoes; None if it should have none.
    `packets` are counted where `accounting` is on; None = not known.
    """

    peer: Peer
    name: str
    named: bool
    expected_up: bool
    aim: Aim | None = None
    health: PeerHealth = NOT_JUDGED
    gone: bool = False
    echoes: Echoes | None = None
    mtu: probed.MtuReport | None = None
    window: Window | None = None
    quiet: Quiet | None = None
    line: Line | None = None
    cause: Finding | None = None
    host_name: EndpointName | None = None
    fast: FastFound | None = None
    packets: PeerPackets | None = None


class DeviceRow(NamedTuple):
    """A device that was read (`device`), could not be read (`failed`) or is gone (`gone`), with its link if it has one.

    `peers` are those that were read or, of a device that is gone, those that are expected up. `entry` is what a shell
    command begins with to be run in its namespace. `quiet`: somebody works on the whole of it. `drift`: how it differs
    from the file that describes it, None if there is none or it is not known.
    """

    device: model.Device | None
    failed: model.FailedDevice | None
    link: model.Link | None
    peers: tuple[PeerRow, ...]
    gone: model.DeviceKey | None = None
    entry: str = ""
    quiet: Quiet | None = None
    drift: Drift | None = None


class Overview(NamedTuple):
    """Everything to show; `wall` is in seconds since the epoch, `hidden` are devices that the config leaves out.

    `unmatched` says why a selection left nothing; it is empty if something is left or nothing was selected.
    `by_one_look`: the state of at least one peer that is expected up is a snapshot judgement.
    `teller` is the exporter that says all this; None = whoever shows it has looked itself, because of what is in
    `unasked`. `capabilities` are (name, able) of whoever has read the host, `unmatched_entries` are those lines of
    `problems` that are about entries of the configuration, `doubles` those about devices of one name, and `notes` are
    lines about what is no failure. `quiet` is all that pages nobody at present, also
    peers that are not there.
    """

    wall: float
    devices: tuple[DeviceRow, ...]
    outcomes: tuple[model.Outcome, ...]
    problems: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    unmatched: str = ""
    by_one_look: bool = False
    teller: Teller | None = None
    unasked: str = ""
    capabilities: tuple[tuple[str, bool], ...] = ()
    unmatched_entries: tuple[str, ...] = ()
    doubles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    quiet: QuietNow = NOBODY


def from_view(
    snapshot: model.Snapshot,
    view: View,
    config: Config,
    aims: Mapping[model.PeerKey, Aim] | None = None,
    *,
    windows: Mapping[model.PeerKey, Window] = MappingProxyType({}),
    lines: Mapping[model.PeerKey, Line] = MappingProxyType({}),
    teller: Teller | None = None,
) -> Overview:
    """One look at the host (`Exporter.look`) as a person wants to see it; `aims` say how each peer is probed, `lines`
    are round trips of the last ten minutes.

    With a `teller`, an exporter that has looked many times, nothing is judged by one look: what it does not know is not
    known.
    """
    limits = None if teller else config.health
    unread = {(device.netns, device.name): device for device in view.gone}
    lacking = {(device.netns, device.name): device for device in view.lacking}
    rows = [
        DeviceRow(
            seen.device,
            None,
            seen.link,
            (
                *_peer_rows(
                    seen, view, _health(seen, snapshot.wall, limits), aims=aims or {}, windows=windows, lines=lines
                ),
                *_gone_peers(lacking.get((seen.device.netns, seen.device.name))),
            ),
            drift=view.drifts.get((seen.device.netns, seen.device.name)),
        )
        for seen in view.devices
    ]
    rows += [
        DeviceRow(None, failed, link, tuple(_gone_peers(unread.get((failed.netns, failed.name)))))
        for failed, link in view.failed
    ]
    there = {whose(row) for row in rows}
    missing = set(view.missing) - there  # the others in `view.gone` may be there
    rows += [_gone_row(device) for device in view.gone if (device.netns, device.name) in missing]
    entries = config.entries()
    rows = [row._replace(entry=entries.get(whose(row)[0], "")) for row in rows]
    if view.causes:
        rows = [_with_causes(row, view.causes.get(whose(row), {})) for row in rows]
    if view.fast:
        rows = [_with_fast(row, view.fast.get(whose(row), {})) for row in rows]
    if view.quiet:
        rows = [_with_quiet(row, view.quiet) for row in rows]
    problems = [problem for file in snapshot.conf for problem in file.problems]
    problems += [f"{name} is gone" + (f" from namespace {netns}" if netns else "") for netns, name in view.missing]
    problems += (*snapshot.doubles, *view.unmatched)
    if teller and teller.reload_successful is False:
        problems.insert(0, REFUSED)
    hidden = (
        link.name
        for link in snapshot.links.values()
        if link.kind in KERNEL_KINDS and not config.interfaces.wanted(link.name)
    )
    by_one_look = any(
        meta.expected_up and not health.state
        for seen in view.devices
        for meta, health in zip(seen.metas, seen.health or (NOT_JUDGED,) * len(seen.metas), strict=True)
    )
    return Overview(
        snapshot.wall,
        tuple(rows),
        view.outcomes,
        tuple(problems),
        tuple(hidden),
        by_one_look=by_one_look and teller is None,
        teller=teller,
        capabilities=view.exporter.capabilities,
        unmatched_entries=view.unmatched,
        doubles=snapshot.doubles,
        notes=snapshot.notes,
        quiet=view.quiet,
    )


def _with_fast(row: DeviceRow, fast: Mapping[str, FastFound]) -> DeviceRow:
    if not fast:
        return row
    peers = (
        peer._replace(fast=fast[peer.peer.public_key]) if peer.peer.public_key in fast else peer for peer in row.peers
    )
    return row._replace(peers=tuple(peers))


def _with_quiet(row: DeviceRow, quiet: QuietNow) -> DeviceRow:
    device = whose(row)
    if device not in quiet.devices:
        return row
    peers = tuple(peer._replace(quiet=quiet.peer(device, peer.peer.public_key)) for peer in row.peers)
    return row._replace(peers=peers, quiet=quiet.interface(device))


_ILL = frozenset({State.DOWN, State.DEGRADED})


def _with_causes(row: DeviceRow, causes: Mapping[str, Finding]) -> DeviceRow:
    """With the causes of those peers that are down or degraded still."""
    if not causes:
        return row
    return row._replace(
        peers=tuple(
            peer._replace(cause=causes.get(peer.peer.public_key)) if peer.health.state in _ILL else peer
            for peer in row.peers
        )
    )


def _peer_rows(
    seen: DeviceView,
    view: View,
    states: Sequence[PeerHealth],
    *,
    aims: Mapping[model.PeerKey, Aim],
    windows: Mapping[model.PeerKey, Window],
    lines: Mapping[model.PeerKey, Line],
) -> Iterator[PeerRow]:
    place = (seen.device.netns, seen.device.name)
    probes = view.probes.get(place, {})
    names = seen.host_names or (None,) * len(seen.metas)
    counted = seen.device.packets or (None,) * len(seen.metas)
    for peer, meta, health, name, packets in zip(seen.device.peers, seen.metas, states, names, counted, strict=True):
        key = (*place, peer.public_key)
        probed = probes.get(peer.public_key)
        stats = probed.stats if probed else None
        yield PeerRow(
            peer,
            meta.name,
            meta.named,
            meta.expected_up,
            aims.get(key),
            health,
            echoes=Echoes(stats.up, stats.sent, stats.lost, stats.late) if stats else None,
            mtu=probed.mtu if probed else None,
            window=None if health.state is State.DOWN else windows.get(key),
            line=lines.get(key),
            host_name=name if name and name.name else None,
            packets=packets,
        )


def _health(seen: DeviceView, wall: float, limits: HealthLimits | None) -> Sequence[PeerHealth]:
    """The states that are known, else snapshot judgements; none of these for a list that is not fresh, or without
    limits.
    """
    known = seen.health or (NOT_JUDGED,) * len(seen.device.peers)
    if limits is None or not seen.device.fresh or all(row.state for row in known):
        return known
    judged = judge_snapshot(seen.device, seen.link, seen.metas, wall, limits)
    return tuple(row if row.state else other for row, other in zip(known, judged, strict=True))


def _gone_row(device: GoneDevice) -> DeviceRow:
    return DeviceRow(None, None, None, tuple(_gone_peers(device)), (device.netns, device.name))


def _gone_peers(device: GoneDevice | None) -> Iterator[PeerRow]:
    """Peers that are gone with their device, or that it lacks."""
    for key, meta, health in zip(device.public_key, device.metas, device.rows, strict=True) if device else ():
        yield PeerRow(Peer(key, "", (), 0, 0, 0, 0), meta.name, meta.named, meta.expected_up, health=health, gone=True)


def whose(row: DeviceRow) -> tuple[str, str]:
    """(netns, interface) of a row."""
    known = row.device or row.failed or row.link
    return (known.netns, known.name) if known else row.gone or ("", "?")
