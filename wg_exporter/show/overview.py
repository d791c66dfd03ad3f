"""What `wg-exporter show` has to say, before it is drawn: devices and peers, what stands out, why there may be nothing.

An age alone can't tell a dead peer from an idle one, so only peers expected up are judged, by the rule of the metrics:
with persistent keepalive K, older than 180 + K + 20 s is not up (REJECT_AFTER_TIME is 180 s: WireGuard paper, 6.1).
Without keepalive an age proves nothing: that is a doubt.

An `Overview` is made from the same look at the host as a scrape (`from_view`), so `show` and `/metrics` agree.
"""

from __future__ import annotations

import json
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.show import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wg_exporter import model
    from wg_exporter.config import Config
    from wg_exporter.families import DeviceView, View

_SUDO = "run: sudo wg-exporter show"
_KERNEL_KINDS = ("wireguard", "amneziawg")

# Where a target came from (prober/targets.py), in words.
_ORIGINS: Mapping[str, str] = {
    "configured": "as the configuration says",
    "in_subnet": "its address in the interface's subnet",
    "only_host": "the only single address among its allowed IPs",
    "derived": "the only other address in the interface's subnet",
}


class PeerRow(NamedTuple):
    """A peer as a person knows it. `name` is its friendly name or, where `named` is False, the start of its key.

    `aim` says how it is probed, None where nobody knows.
    """

    peer: model.Peer
    name: str
    named: bool
    expected_up: bool
    aim: model.Aim | None = None


class DeviceRow(NamedTuple):
    """A device that was read (`device`), or one that could not be (`failed`), with its link where that is known."""

    device: model.Device | None
    failed: model.FailedDevice | None
    link: model.Link | None
    peers: tuple[PeerRow, ...]


class Overview(NamedTuple):
    """Everything to show; `wall` is in seconds since the epoch, `hidden` are devices that the config leaves out.

    `unmatched` says why a selection left nothing; empty where it left something, or nothing was selected.
    """

    wall: float
    devices: tuple[DeviceRow, ...]
    outcomes: tuple[model.Outcome, ...]
    problems: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    unmatched: str = ""


class NothingSelected(LookupError):  # noqa: N818 - says what happened; it is an answer for the user, not a fault
    """No device or peer matches what was asked for. The message is one line that says what there is."""


class Standing(IntEnum):
    """What one look says of a peer: FINE, DOUBT (an age that may mean something) or BROKEN (expected up and is not)."""

    FINE = 0
    DOUBT = 1
    BROKEN = 2


def standing(row: PeerRow, link: model.Link | None, wall: float) -> Standing:
    """Judge a peer by its age and its link; one that is not expected up is always FINE."""
    if not row.expected_up:
        return Standing.FINE
    age = words.handshake_age(row.peer.last_handshake_ns, wall)
    if age is None or (link is not None and not link.up):
        return Standing.BROKEN
    if age > stale_after(row.peer):
        return Standing.BROKEN if row.peer.persistent_keepalive else Standing.DOUBT
    return Standing.FINE


def stale_after(peer: model.Peer) -> int:
    """The age in seconds that a healthy peer with traffic does not reach."""
    return 180 + peer.persistent_keepalive + 20


# --- from what was read ---------------------------------------------------------------------------------------------


def from_view(
    snapshot: model.Snapshot, view: View, config: Config, aims: Mapping[model.PeerKey, model.Aim] | None = None
) -> Overview:
    """One look at the host (`Exporter.look`) as a person wants to see it; `aims` say how each peer is probed."""
    rows = [DeviceRow(seen.device, None, seen.link, tuple(_peer_rows(seen, aims or {}))) for seen in view.devices]
    rows += [DeviceRow(None, failed, link, ()) for failed, link in view.failed]
    problems = [problem for file in snapshot.conf for problem in file.problems]
    problems += [f"{name} is gone" + (f" from namespace {netns}" if netns else "") for netns, name in view.missing]
    hidden = (
        link.name
        for link in snapshot.links.values()
        if link.kind in _KERNEL_KINDS and not config.interfaces.wanted(link.name)
    )
    return Overview(snapshot.wall, tuple(rows), view.outcomes, tuple(problems), tuple(hidden))


def _peer_rows(seen: DeviceView, aims: Mapping[model.PeerKey, model.Aim]) -> Iterator[PeerRow]:
    netns, name = seen.device.netns, seen.device.name
    for peer, meta in zip(seen.device.peers, seen.metas, strict=True):
        yield PeerRow(peer, meta.name, meta.named, meta.expected_up, aims.get((netns, name, peer.public_key)))


# --- which part of it ---------------------------------------------------------------------------------------------


def whose(row: DeviceRow) -> tuple[str, str]:
    """(netns, interface) of a row, whichever part of it there is."""
    known = row.device or row.failed or row.link
    return (known.netns, known.name) if known else ("", "?")


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
    """As `select`, but where nothing matches, an overview without devices that says why (`reason_when_empty`)."""
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
    """The peers that are to be probed and can't be, by the reason."""
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
    if any(_lacks_permission(outcome.problem) for outcome in failures):
        return f"no permission to read WireGuard devices: this needs CAP_NET_ADMIN; {_SUDO}"
    devices_unread = [outcome for outcome in failures if outcome.source not in ("links", "conf")]
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
    """One line that says why not even one device could be read; empty if one could."""
    if not overview.devices:
        return reason_when_empty(overview)
    if any(row.device for row in overview.devices):
        return ""
    failed = next(row.failed for row in overview.devices if row.failed)
    unread = words.first_of(whose(row)[1] for row in overview.devices)
    return words.plain(f"could not read {unread}: {failed.problem}{fix_for(failed)}")


def _lacks_permission(problem: str) -> bool:
    return any(sign in problem.lower() for sign in ("permission", "not permitted", "cap_"))


# --- for scripts --------------------------------------------------------------------------------------------------


def to_json(overview: Overview) -> str:
    """The overview as one JSON object; keys may be added later, none is removed or changes its meaning.

    `time` and `latest_handshake` are seconds since the epoch; a handshake is null if there was none, its age negative
    if a clock went back. What is not known is null, `name` too. `netns` is empty for the exporter's own namespace.
    `target` is where probes to a peer go and `target_origin` where that came from; `target_reason` says why a peer is
    not probed, and is null if it is. A device that could not be read has `read_success` false, the reason in `problem`,
    and no peers. Only ASCII is written: names can't drive a terminal from here either.
    """
    document = {
        "time": overview.wall,
        "devices": [_device_json(row, overview.wall) for row in overview.devices],
        "sources": [
            {
                "source": outcome.source,
                "netns": outcome.netns,
                "success": outcome.success,
                "duration_seconds": outcome.duration,
                "problem": outcome.problem or None,
            }
            for outcome in overview.outcomes
        ],
        "problems": list(overview.problems),
    }
    return json.dumps(document, indent=2)


def _device_json(row: DeviceRow, wall: float) -> dict[str, object]:
    device, link = row.device, row.link
    backend = row.device or row.failed
    netns, name = whose(row)
    counters = ("bytes", "packets", "errors", "dropped")
    return {
        "interface": name,
        "netns": netns,
        "backend": backend.backend if backend else None,
        "read_success": device is not None and device.fresh,
        "problem": row.failed.problem if row.failed else None,
        "public_key": (device.public_key or None) if device else None,
        "listen_port": device.listen_port if device else None,
        "fwmark": device.fwmark if device else None,
        "mtu": link.mtu if link else None,
        "up": link.up if link else None,
        **{f"receive_{what}": getattr(link, f"rx_{what}") if link else None for what in counters},
        **{f"transmit_{what}": getattr(link, f"tx_{what}") if link else None for what in counters},
        "peers": [_peer_json(peer, wall) for peer in row.peers],
    }


def _peer_json(row: PeerRow, wall: float) -> dict[str, object]:
    peer = row.peer
    handshake = peer.last_handshake_ns / 1e9 if peer.last_handshake_ns else None
    return {
        "public_key": peer.public_key,
        "name": row.name if row.named else None,
        "endpoint": peer.endpoint or None,
        "allowed_ips": list(peer.allowed_ips),
        "latest_handshake": handshake,
        "latest_handshake_age_seconds": None if handshake is None else round(wall - handshake, 3),
        "receive_bytes": peer.rx_bytes,
        "transmit_bytes": peer.tx_bytes,
        "persistent_keepalive_seconds": peer.persistent_keepalive,
        "expected_up": row.expected_up,
        "target": (row.aim.target or None) if row.aim else None,
        "target_origin": row.aim.origin if row.aim and row.aim.target else None,
        "target_reason": (row.aim.reason or None) if row.aim else None,
    }


def fix_for(failed: model.FailedDevice) -> str:
    """What to do about a device that could not be read, where its problem does not say so itself."""
    problem = failed.problem.lower()
    if ";" in problem or "sudo" in problem:
        return ""
    if _lacks_permission(problem):
        return f"; this needs CAP_NET_ADMIN; {_SUDO}"
    if "refused" in problem:
        return "; its daemon is gone: start it again, or remove its socket"
    if "timed out" in problem or "in time" in problem:
        return "; its daemon does not answer: restart it"
    return f"; compare with: wg show {failed.name}"
