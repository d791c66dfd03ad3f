"""What `wg-exporter show` shows, before it is drawn: devices and peers, what stands out, why there may be nothing.

States follow the same rules as in the metrics (`health`). If repeated looks have given a peer a state, that is shown;
otherwise it gets a snapshot judgement.

An `Overview` is made from the same look at the host as a scrape (`from_view`), so `show` and `/metrics` agree.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.cli.show import words
from wg_exporter.health.snapshot import judge_snapshot
from wg_exporter.health.states import NOT_JUDGED, State
from wg_exporter.model import KERNEL_KINDS, Cause, Peer, SourceName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wg_exporter import model
    from wg_exporter.config import Config
    from wg_exporter.config.health import HealthLimits
    from wg_exporter.exposition.view import DeviceView, View
    from wg_exporter.health import GoneDevice
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.plan.planner import Aim

_SUDO = "run: sudo wg-exporter show"

# Where a target came from (plan/targets.py), in words.
_ORIGINS: Mapping[str, str] = {
    "configured": "as the configuration says",
    "in_subnet": "its address in the interface's subnet",
    "only_host": "the only single address among its allowed IPs",
    "derived": "the only other address in the interface's subnet",
}


class PeerRow(NamedTuple):
    """A peer as a person knows it. `name` is its friendly name or, where `named` is False, the start of its key.

    `aim` says how it is probed, None = not known. Of a peer that is `gone`, with its device or from it, `peer` has only
    the key.
    """

    peer: Peer
    name: str
    named: bool
    expected_up: bool
    aim: Aim | None = None
    health: PeerHealth = NOT_JUDGED
    gone: bool = False


class DeviceRow(NamedTuple):
    """A device that was read (`device`), could not be read (`failed`) or is gone (`gone`), with its link if it has one.

    `peers` are those that were read or, of a device that is gone, those that are expected up.
    """

    device: model.Device | None
    failed: model.FailedDevice | None
    link: model.Link | None
    peers: tuple[PeerRow, ...]
    gone: model.DeviceKey | None = None


class Overview(NamedTuple):
    """Everything to show; `wall` is in seconds since the epoch, `hidden` are devices that the config leaves out.

    `unmatched` says why a selection left nothing; it is empty if something is left or nothing was selected.
    `by_one_look`: the state of at least one peer that is expected up is a snapshot judgement.
    """

    wall: float
    devices: tuple[DeviceRow, ...]
    outcomes: tuple[model.Outcome, ...]
    problems: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    unmatched: str = ""
    by_one_look: bool = False


class NothingSelected(LookupError):  # noqa: N818 - it is an answer for the user, not an error
    """No device or peer matches what was asked for. The message is one line that says what there is."""


class Standing(IntEnum):
    """How much a peer asks for attention. DOUBT: it is expected up, and without keepalive idle and dead look alike."""

    FINE = 0
    DOUBT = 1
    DEGRADED = 2
    BROKEN = 3


def standing(row: PeerRow) -> Standing:
    """How much attention a peer needs, by its state."""
    if row.health.state is State.DOWN:
        return Standing.BROKEN
    if row.health.state is State.DEGRADED:
        return Standing.DEGRADED
    if row.health.state is State.IDLE and row.expected_up and not row.peer.persistent_keepalive:
        return Standing.DOUBT
    return Standing.FINE


# --- from what was read ---------------------------------------------------------------------------------------------


def from_view(
    snapshot: model.Snapshot, view: View, config: Config, aims: Mapping[model.PeerKey, Aim] | None = None
) -> Overview:
    """One look at the host (`Exporter.look`) as a person wants to see it; `aims` say how each peer is probed."""
    limits = config.health
    lacking = {(device.netns, device.name): device for device in view.lacking}
    rows = [
        DeviceRow(
            seen.device,
            None,
            seen.link,
            (
                *_peer_rows(seen, aims or {}, snapshot.wall, limits),
                *_gone_peers(lacking.get((seen.device.netns, seen.device.name))),
            ),
        )
        for seen in view.devices
    ]
    rows += [DeviceRow(None, failed, link, ()) for failed, link in view.failed]
    there = {whose(row) for row in rows}
    missing = set(view.missing) - there  # the others in `view.gone` may be there
    rows += [_gone_row(device) for device in view.gone if (device.netns, device.name) in missing]
    problems = [problem for file in snapshot.conf for problem in file.problems]
    problems += [f"{name} is gone" + (f" from namespace {netns}" if netns else "") for netns, name in view.missing]
    problems += (*snapshot.doubles, *view.unmatched)
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
    return Overview(snapshot.wall, tuple(rows), view.outcomes, tuple(problems), tuple(hidden), by_one_look=by_one_look)


def _peer_rows(
    seen: DeviceView, aims: Mapping[model.PeerKey, Aim], wall: float, limits: HealthLimits
) -> Iterator[PeerRow]:
    netns, name = seen.device.netns, seen.device.name
    for peer, meta, health in zip(seen.device.peers, seen.metas, _health(seen, wall, limits), strict=True):
        yield PeerRow(peer, meta.name, meta.named, meta.expected_up, aims.get((netns, name, peer.public_key)), health)


def _health(seen: DeviceView, wall: float, limits: HealthLimits) -> Sequence[PeerHealth]:
    """The states that are known, else snapshot judgements; none of these for a list that is not fresh."""
    known = seen.health or (NOT_JUDGED,) * len(seen.device.peers)
    if not seen.device.fresh or all(row.state for row in known):
        return known
    judged = judge_snapshot(seen.device, seen.link, seen.metas, wall, limits)
    return tuple(row if row.state else other for row, other in zip(known, judged, strict=True))


def _gone_row(device: GoneDevice) -> DeviceRow:
    return DeviceRow(None, None, None, tuple(_gone_peers(device)), (device.netns, device.name))


def _gone_peers(device: GoneDevice | None) -> Iterator[PeerRow]:
    """Peers that are gone with their device, or that it lacks."""
    for key, meta, health in zip(device.public_key, device.metas, device.rows, strict=True) if device else ():
        yield PeerRow(Peer(key, "", (), 0, 0, 0, 0), meta.name, meta.named, meta.expected_up, health=health, gone=True)


# --- which part of it ---------------------------------------------------------------------------------------------


def whose(row: DeviceRow) -> tuple[str, str]:
    """(netns, interface) of a row."""
    known = row.device or row.failed or row.link
    return (known.netns, known.name) if known else row.gone or ("", "?")


def select(overview: Overview, interface: str | None = None, peer: str | None = None) -> Overview:
    """The devices called `interface` and their peers whose name or key is `peer`, or whose key starts with it.

    Raises NothingSelected where nothing matches.
    """
    devices = overview.devices
    if not devices:
        raise NothingSelected(reason_when_empty(overview))
    if interface is not None:
        devices = tuple(row for row in devices if whose(row)[1] == interface)
        if not devices:
            there = words.first_of(dict.fromkeys(whose(row)[1] for row in overview.devices))
            raise NothingSelected(f"no WireGuard interface {words.plain(interface)}; there is: {there}")
    if peer is not None:
        devices = _with_peer(devices, peer)
    return overview._replace(devices=devices)


def selected(overview: Overview, interface: str | None = None, peer: str | None = None) -> Overview:
    """As `select`, but if nothing matches, an overview without devices that says why (`reason_when_empty`)."""
    try:
        return select(overview, interface, peer)
    except NothingSelected as nothing:
        return overview._replace(devices=(), unmatched=str(nothing))


def _with_peer(devices: tuple[DeviceRow, ...], wanted: str) -> tuple[DeviceRow, ...]:
    tests: tuple[Callable[[PeerRow], bool], ...] = (
        lambda row: wanted in (row.name, row.peer.public_key),
        lambda row: bool(wanted) and row.peer.public_key.startswith(wanted),
    )
    for test in tests:
        kept = [row._replace(peers=tuple(filter(test, row.peers))) for row in devices]
        if any(row.peers for row in kept):
            return tuple(row for row in kept if row.peers)
    there = words.first_of(row.name for device in devices for row in device.peers) or "none"
    unread = words.first_of(whose(row)[1] for row in devices if row.failed)
    where = words.first_of(dict.fromkeys(whose(row)[1] for row in devices))
    raise NothingSelected(
        f"no peer {words.plain(wanted)} on {where}; there is: {there}"
        + (f" (could not read {unread})" if unread else "")
    )


def probing_of(row: PeerRow) -> str:
    """One line about the probes to a peer: where they go and why there, or why there are none; empty if unknown."""
    if row.aim is None:
        return ""
    if row.aim.reason:
        return f"not probed: {row.aim.reason}"
    return f"probes go to {row.aim.target}, {_ORIGINS.get(row.aim.origin, row.aim.origin)}"


def unprobed(overview: Overview) -> dict[str, list[str]]:
    """The names of the peers that should be probed and can't be, by the reason."""
    found: dict[str, list[str]] = {}
    for device in overview.devices:
        for row in device.peers:
            if row.aim and row.aim.wanted and row.aim.reason:
                found.setdefault(row.aim.reason, []).append(row.name)
    return found


def reason_when_empty(overview: Overview) -> str:
    """One line that says why there is nothing to show and what to do; empty if there is something."""
    if overview.devices:
        return ""
    if overview.unmatched:
        return overview.unmatched
    failures = [outcome for outcome in overview.outcomes if not outcome.success]
    if any(outcome.cause is Cause.DENIED for outcome in failures if outcome.source is not SourceName.CONF):
        return f"no permission to read WireGuard devices: this needs CAP_NET_ADMIN; {_SUDO}"
    devices_unread = [outcome for outcome in failures if outcome.source not in (SourceName.LINKS, SourceName.CONF)]
    if devices_unread:
        first = devices_unread[0]
        return f"no WireGuard device could be read: {first.source}: {words.plain(first.problem)}"
    if overview.hidden:
        return (
            f"the configuration leaves out every WireGuard device there is ({words.first_of(overview.hidden)}); "
            "change `interfaces` in it"
        )
    return "no WireGuard device here; bring one up (wg-quick up wg0), or name its network namespace in `namespaces`"


def reason_for_failure(overview: Overview) -> str:
    """One line that says why no device could be read; empty if one could."""
    if not overview.devices:
        return reason_when_empty(overview)
    if any(row.device for row in overview.devices):
        return ""
    failed = next((row.failed for row in overview.devices if row.failed), None)
    unread = words.first_of(whose(row)[1] for row in overview.devices)
    if failed is None:
        return f"gone: {unread}"
    return words.plain(f"could not read {unread}: {failed.problem}{fix_for(failed)}")


def fix_for(failed: model.FailedDevice) -> str:
    """What to do about a device that could not be read; empty for known causes, whose problem says it."""
    return f"; compare with: wg show {failed.name}" if failed.cause is Cause.OTHER else ""
