"""What `wg-exporter drift` prints: a diff of each interface and its file, in the words of that file, and what to do.

Lines with - are what the file says, lines with + what is in use, as in a diff of the file against one that would say
what runs. So the lines with + can be copied into the file.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING

import click
import msgspec

from wg_exporter.cli.drift.results import Found, Result, title
from wg_exporter.drift.advice import to_keep, to_load
from wg_exporter.drift.compare import ANOTHER, SET
from wg_exporter.drift.kinds import Kind
from wg_exporter.status import words
from wg_exporter.status.drift import drift_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wg_exporter.drift.kinds import Difference
    from wg_exporter.model import Backend
    from wg_exporter.status.rows import DeviceRow, PeerRow

VERSION = 1

_SETTINGS = {
    Kind.ALLOWED_IPS: "AllowedIPs",
    Kind.ENDPOINT: "Endpoint",
    Kind.KEEPALIVE: "PersistentKeepalive",
    Kind.PRESHARED_KEY: "PresharedKey",
    Kind.PRIVATE_KEY: "PrivateKey",
    Kind.LISTEN_PORT: "ListenPort",
    Kind.FWMARK: "FwMark",
    Kind.MTU: "MTU",
    Kind.ADDRESS: "Address",
}
_IN_NETDEV = {Kind.FWMARK: "FirewallMark", Kind.MTU: "MTUBytes"}
_SECRETS = {SET: "(hidden)", ANOTHER: "(hidden, another one)", "": ""}


def lines(results: Sequence[Result]) -> Iterator[str]:
    """All of it."""
    for number, result in enumerate(results):
        drift = result.row.drift
        if result.found is Found.DRIFT and drift is not None:
            yield from ([""] if number else [])
            yield from _differing(result.row)
        else:
            yield words.plain(_line(result))


def to_json(results: Sequence[Result], unasked: str, wall: float) -> str:
    """All of it, for scripts."""
    interfaces = [
        {
            "interface": words.plain(result.name),
            "netns": words.plain(result.netns),
            "result": str(result.found),
            "problem": words.plain(result.problem) or None,
            "drift": msgspec.to_builtins(drift_part(result.row.drift, result.row, "full"))
            if result.row.drift
            else None,
            "load": to_load(result.row.drift, result.name, _backend(result.row)) if result.row.drift else [],
        }
        for result in results
    ]
    return json.dumps(
        {"version": VERSION, "unasked": words.plain(unasked) or None, "time": wall, "interfaces": interfaces}, indent=2
    )


def _line(result: Result) -> str:
    """An interface that does not differ, or was not compared."""
    name, drift = title(result), result.row.drift
    if result.found is Found.SAME and drift is not None:
        hooks = " Its peers were not compared: commands in the file (PostUp) make them." if drift.hooked else ""
        return f"{name} is as {drift.path} says.{hooks}"
    return f"{name}: {result.problem}."


def _differing(row: DeviceRow) -> Iterator[str]:
    drift, device = row.drift, row.device
    if drift is None or device is None:
        return
    places = words.count(drift.total, "place")
    yield words.plain(f"{device.name} differs from {drift.path} in {places} (- the file says, + the device says):")
    if drift.others:
        others = words.first_of(drift.others)
        yield f"  It is described by {others} too, which {'fits' if len(drift.others) == 1 else 'fit'} worse."
    if drift.hooked:
        yield "  Its peers were not compared: commands in the file (PostUp) make them."
    netdev = drift.path.endswith(".netdev")
    peers = {one.peer.public_key: one for one in row.peers}
    of_device = [one for one in drift.differences if not one.public_key]
    if of_device:
        yield ""
        yield "  [WireGuard] and [NetDev]" if netdev else "  [Interface]"
        for one in of_device:
            yield from _setting(one, netdev=netdev)
    of_peers = sorted((one for one in drift.differences if one.public_key), key=lambda one: one.public_key)
    for public_key, group in groupby(of_peers, key=lambda one: one.public_key):
        yield ""
        yield from _peer(public_key, list(group), peers.get(public_key), netdev=netdev)
    if (more := drift.total - len(drift.differences)) > 0:
        yield ""
        yield f"  ... and {more:,} more"
    yield ""
    yield "  To load the file:"
    yield from (f"    {words.plain(command)}" for command in to_load(drift, device.name, device.backend))
    yield "  To keep what runs:"
    yield f"    {words.plain(to_keep(drift, device.name, device.backend))}"


def _peer(key: str, found: list[Difference], peer: PeerRow | None, *, netdev: bool) -> Iterator[str]:
    """One section. A peer that one side lacks is there with all that is known of it."""
    name = next((one.name for one in found if one.name), "") or (peer.name if peer and peer.named else "")
    section = "[WireGuardPeer]" if netdev else "[Peer]"
    kinds = {one.kind for one in found}
    where = (
        ": on the device alone"
        if Kind.PEER_EXTRA in kinds
        else ": in the file alone"
        if Kind.PEER_MISSING in kinds
        else ""
    )
    yield words.plain(f"  {section} {name + ', ' if name else ''}{key if where else key[:8]}{where}")
    for one in found:
        if one.kind is Kind.PEER_MISSING:
            yield _minus(f"PublicKey = {key}")
            if one.file:
                yield _minus(f"AllowedIPs = {one.file}")
        elif one.kind is Kind.PEER_EXTRA:
            yield _plus(f"PublicKey = {key}")
            if one.device:
                yield _plus(f"AllowedIPs = {one.device}")
            if peer is not None and peer.peer.persistent_keepalive:
                yield _plus(f"PersistentKeepalive = {peer.peer.persistent_keepalive}")
        else:
            yield from _setting(one, netdev=netdev)


def _setting(one: Difference, *, netdev: bool) -> Iterator[str]:
    setting = (_IN_NETDEV.get(one.kind) if netdev else None) or _SETTINGS[one.kind]
    file, device = one.file, one.device
    if one.kind in (Kind.PRESHARED_KEY, Kind.PRIVATE_KEY):
        file, device = _SECRETS.get(file, ""), _SECRETS.get(device, "")
    yield _minus(f"{setting} = {file}" if file else f"(no {setting})")
    yield _plus(f"{setting} = {device}" if device else f"(no {setting})")


def _minus(text: str) -> str:
    return click.style(f"  - {words.plain(text)}", fg="red")


def _plus(text: str) -> str:
    return click.style(f"  + {words.plain(text)}", fg="green")


def _backend(row: DeviceRow) -> Backend | None:
    return row.device.backend if row.device else None
