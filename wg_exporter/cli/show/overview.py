"""What `wg-exporter show` makes of an overview before it is drawn: what stands out, what was asked for, why there may
be nothing.
"""

from __future__ import annotations

import re
import shlex
from enum import IntEnum
from typing import TYPE_CHECKING

from wg_exporter.config.tree import resembling
from wg_exporter.health.states import State
from wg_exporter.model import Backend, Failure, SourceName
from wg_exporter.plan.fast import NO_ANSWER_YET
from wg_exporter.quiet import QuietNow
from wg_exporter.status import words
from wg_exporter.status.rows import DeviceRow, Overview, PeerRow, whose

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wg_exporter import model
    from wg_exporter.quiet import Quiet

# Where a target came from (plan/targets.py), in words.
_ORIGINS: Mapping[str, str] = {
    "configured": "as the configuration says",
    "in_subnet": "its address in the interface's subnet",
    "only_host": "the only single address among its allowed IPs",
    "derived": "the only other address in the interface's subnet",
}


class NothingSelected(LookupError):  # noqa: N818 - it is an answer for the user, not an error
    """No device or peer matches what was asked for. The message is one line that says what there is."""


class Standing(IntEnum):
    """How much a peer asks for attention. DOUBT: it is expected up, and without keepalive idle and dead look alike.
    QUIET: something is wrong, and somebody works on it.
    """

    FINE = 0
    QUIET = 1
    DOUBT = 2
    DEGRADED = 3
    BROKEN = 4


def standing(row: PeerRow) -> Standing:
    """How much attention a peer needs, by its state."""
    if row.quiet and row.health.state in {State.DOWN, State.DEGRADED}:
        return Standing.QUIET
    if row.health.state is State.DOWN:
        return Standing.BROKEN
    if row.health.state is State.DEGRADED:
        return Standing.DEGRADED
    if row.health.state is State.IDLE and row.expected_up and not row.peer.persistent_keepalive:
        return Standing.DOUBT
    return Standing.FINE


# --- which part of it ---------------------------------------------------------------------------------------------


def select(
    overview: Overview, interface: str | None = None, peer: str | None = None, *, shortest_key: int = 1
) -> Overview:
    """The devices called `interface` and their peers whose name or key is `peer`, or whose key starts with it.

    Without `peer`, `interface` may be the name or the key of one peer too. The start of a key has at least
    `shortest_key` characters. Raises NothingSelected where nothing matches, or several peers do.
    """
    devices = tuple(_in_order(row) for row in overview.devices)
    if not devices:
        raise NothingSelected(reason_when_empty(overview))
    if interface is not None and peer is None and all(whose(row)[1] != interface for row in devices):
        return _of(overview, _only_peer(devices, interface, shortest_key))
    if interface is not None:
        devices = tuple(row for row in devices if whose(row)[1] == interface)
        if not devices:
            there = words.first_of(dict.fromkeys(whose(row)[1] for row in overview.devices))
            raise NothingSelected(f"no WireGuard interface {words.plain(interface)}; there is: {there}")
    if peer is not None:
        devices = _with_peer(devices, peer, shortest_key)
    return _of(overview, devices)


def _in_order(row: DeviceRow) -> DeviceRow:
    """The device with its peers by name, `branch-2` before `branch-10`, where they have no order of their own:
    wireguard-go gives them in another one each time it is asked. Those of a kernel device are as they were added.
    """
    if row.device is None or row.device.backend is not Backend.USERSPACE:
        return row
    return row._replace(peers=tuple(sorted(row.peers, key=lambda peer: _natural(peer.name))))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """To sort by, with numbers as numbers. Longer ones than 18 digits, which int() may refuse, are text."""
    parts = re.split("([0-9]{1,18})", name.casefold())
    return [(0, int(part), "") if index % 2 else (1, 0, part) for index, part in enumerate(parts)]


def selected(overview: Overview, interface: str | None = None, peer: str | None = None) -> Overview:
    """As `select`, but if nothing matches, an overview without devices that says why (`reason_when_empty`)."""
    try:
        return select(overview, interface, peer)
    except NothingSelected as nothing:
        return overview._replace(devices=(), unmatched=str(nothing))


def _of(overview: Overview, devices: tuple[DeviceRow, ...]) -> Overview:
    """The overview with these devices alone, and what is quiet of them."""
    there = {(*whose(row), key) for row in devices for key in ("", *(one.peer.public_key for one in row.peers))}
    quiet = QuietNow(one for one in overview.quiet.all if one.key in there) if overview.quiet else overview.quiet
    return overview._replace(devices=devices, quiet=quiet)


def _only_peer(devices: tuple[DeviceRow, ...], wanted: str, shortest_key: int) -> tuple[DeviceRow, ...]:
    """The only peer with this name or key, on whichever device."""
    kept = _matching(devices, wanted, shortest_key)
    if not kept:
        there = words.first_of(dict.fromkeys(whose(row)[1] for row in devices))
        peers = words.first_of(dict.fromkeys(row.name for device in devices for row in device.peers))
        there += f"; peers: {peers}" if peers else ""
        what = f"no WireGuard interface and no peer {words.plain(wanted)}"
        raise NothingSelected(f"{what}; {_meant(devices, wanted) or f'there is: {there}'}")
    if sum(len(row.peers) for row in kept) > 1:
        found = words.first_of(f"{whose(row)[1]} {one.peer.public_key}" for row in kept for one in row.peers)
        raise NothingSelected(f"several peers are called {words.plain(wanted)}; say which: {found}")
    return kept


def _with_peer(devices: tuple[DeviceRow, ...], wanted: str, shortest_key: int) -> tuple[DeviceRow, ...]:
    kept = _matching(devices, wanted, shortest_key)
    if kept:
        return kept
    there = words.first_of(row.name for device in devices for row in device.peers) or "none"
    unread = words.first_of(whose(row)[1] for row in devices if row.failed)
    where = words.first_of(dict.fromkeys(whose(row)[1] for row in devices))
    raise NothingSelected(
        f"no peer {words.plain(wanted)} on {where}; {_meant(devices, wanted) or f'there is: {there}'}"
        + (f" (could not read {unread})" if unread else "")
    )


def _meant(devices: tuple[DeviceRow, ...], wanted: str) -> str:
    """A question for the peers whose names or keys begin so, or that look like it; empty if there is none."""
    peers = [row for device in devices for row in device.peers]
    names = dict.fromkeys(row.name for row in peers)
    start = wanted.casefold()
    found = [name for name in names if start and name.casefold().startswith(start)]
    found = found or [row.name for row in peers if start and row.peer.public_key.startswith(wanted)]
    found = found or list(filter(None, [resembling(wanted, names)]))
    return f"did you mean {words.first_of((shlex.quote(name) for name in found), 3)}?" if found else ""


def _matching(devices: tuple[DeviceRow, ...], wanted: str, shortest_key: int) -> tuple[DeviceRow, ...]:
    """The devices with those peers that are meant, without the others: by the whole name or key, else by its start."""
    tests: tuple[Callable[[PeerRow], bool], ...] = (
        lambda row: wanted in (row.name, row.peer.public_key),
        lambda row: len(wanted) >= shortest_key and row.peer.public_key.startswith(wanted),
    )
    for test in tests:
        kept = [row._replace(peers=tuple(filter(test, row.peers))) for row in devices]
        if any(row.peers for row in kept):
            return tuple(row for row in kept if row.peers)
    return ()


def quiet_line(overview: Overview, quiet: Quiet) -> str:
    """Who is quiet, until when and why, and how it is."""
    where = f"{quiet.interface} in {quiet.netns}" if quiet.netns else quiet.interface
    rows = [row for row in overview.devices if whose(row) == quiet.device]
    peers = [
        one for row in rows for one in row.peers if not quiet.public_key or one.peer.public_key == quiet.public_key
    ]
    name = (peers[0].name if peers else quiet.name or quiet.public_key[:8]) if quiet.public_key else ""
    line = f"{name} on {where}" if name else f"all of {where}"
    line += f" until {words.until(quiet.until, overview.wall)}"
    line += f": {quiet.reason}" if quiet.reason else ""
    bad = [one for one in peers if standing(one) is Standing.QUIET]
    if bad and name:
        return f"{line}; it is {bad[0].health.state}, {bad[0].health.reason}"
    return f"{line}; {words.count(len(bad), 'peer')} down or degraded" if bad else line


def probing_of(row: PeerRow) -> str:
    """One line about the probes to a peer: where they go and why there, or why there are none; empty if unknown."""
    if row.aim is None:
        return ""
    if row.aim.reason:
        return f"not probed: {row.aim.reason}"
    return f"probes go to {row.aim.target}, {_ORIGINS.get(row.aim.origin, row.aim.origin)}"


def problems(overview: Overview) -> tuple[str, ...]:
    """What is wrong with the configuration, and with the exporter's track files, by which traffic is moved."""
    unwritten = overview.teller.track_files_problem if overview.teller else ""
    return (*overview.problems, *([f"no track files: {unwritten}"] if unwritten else []))


def unprobed(overview: Overview) -> dict[str, list[str]]:
    """The names of the peers that should be probed and can't be, by the reason."""
    found: dict[str, list[str]] = {}
    for device in overview.devices:
        for row in device.peers:
            if row.aim and row.aim.wanted and row.aim.reason:
                found.setdefault(row.aim.reason, []).append(row.name)
    return found


def not_asked(overview: Overview) -> dict[str, list[str]]:
    """The names of the peers that should have fast echoes and get none, by the reason."""
    found: dict[str, list[str]] = {}
    for device in overview.devices:
        for row in device.peers:
            if row.fast and row.fast.why and row.fast.why != NO_ANSWER_YET:
                found.setdefault(row.fast.why, []).append(row.name)
    return found


def fast_of(row: PeerRow) -> str:
    """One line about the fast echoes to a peer: how it is by them, or why there are none; empty if it has none."""
    if row.fast is None:
        return ""
    state = "not known" if row.fast.up is None else "up" if row.fast.up else "down"
    if row.fast.why:
        return f"{state} by fast echoes: {row.fast.why}"
    return f"{state} by fast echoes" + (f" to {row.fast.target}" if row.fast.target else "")


def reason_when_empty(overview: Overview, command: str = "show") -> str:
    """One line that says why there is nothing to show and what to do; empty if there is something. `command` is the one
    that was run.
    """
    if overview.devices:
        return ""
    if overview.unmatched:
        return overview.unmatched
    failures = [one for one in overview.outcomes if not one.success and one.source is not SourceName.ACCOUNTING]
    if any(outcome.failure is Failure.DENIED for outcome in failures if outcome.source is not SourceName.CONF):
        return f"no permission to read WireGuard devices: this needs CAP_NET_ADMIN; run: sudo wg-exporter {command}"
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
    """What to do about a device that could not be read; empty for known failures, whose problem says it."""
    return f"; compare with: wg show {failed.name}" if failed.failure is Failure.OTHER else ""
