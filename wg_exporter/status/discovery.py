"""What Prometheus can scrape behind the tunnels: an `Overview` as a list of targets for http_sd.

One target for each peer that has an address of its own inside the tunnel. A list that lacks somebody would have
Prometheus forget them, and resolve their alerts; so there is none while a device can't be read, and Prometheus keeps
what it has (https://prometheus.io/docs/prometheus/latest/http_sd).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from wg_exporter.model import Failure, SourceName
from wg_exporter.names.tunnel import tunnel_name
from wg_exporter.plan.targets import parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wg_exporter import model
    from wg_exporter.status.rows import DeviceRow, Overview, PeerRow

PREFIX = "__meta_wireguard_"  # of labels that relabelling sees, and that are gone after it
OF_DEVICES = {SourceName.KERNEL, SourceName.AMNEZIAWG, SourceName.USERSPACE}
BITS = {4: 32, 6: 128}


class UnknownTargetsError(Exception):
    """Not all devices could be read: one line that says why."""


def targets(overview: Overview, port: int) -> bytes:
    """The list, as JSON, in which each peer is scraped at this port. Raises UnknownTargetsError."""
    for problem in _unread(overview):
        raise UnknownTargetsError(problem)
    found = [
        {"targets": [_join(address, port)], "labels": _labels(row, peer)}
        for row in overview.devices
        if row.device is not None
        for peer in row.peers
        if not peer.gone and (address := address_of(peer.peer, row.link.addresses if row.link else ()))
    ]
    return json.dumps(found, separators=(",", ":")).encode("ascii")


def at_port(found: bytes, port: int) -> bytes:
    """A list for port 0, for another one. No text inside of it looks the same: a quote in one has a backslash before
    it, and no label is the last thing in an array.
    """
    return found.replace(b':0"]', b':%d"]' % port)


def address_of(peer: model.Peer, own: Sequence[str]) -> str:
    """A peer's address inside the tunnel: of its allowed IPs one that is a single address (/32, /128), IPv4 before
    IPv6, and of these one in a subnet of the interface (`own`, "10.0.0.1/24") before others. Empty if there is none.
    """
    single = [
        (version, number, allowed)
        for allowed in peer.allowed_ips
        for version, number, length in filter(None, [parse(allowed)])
        if length == BITS[version]
    ]
    subnets = [
        (version, number >> (BITS[version] - length), length)
        for version, number, length in filter(None, map(parse, own))
    ]

    def within(version: int, number: int) -> bool:
        return any(version == v and number >> (BITS[v] - length) == net for v, net, length in subnets)

    best = min(single, key=lambda one: (one[0], not within(one[0], one[1])), default=None)
    return best[2].partition("/")[0] if best else ""


def _unread(overview: Overview) -> Iterator[str]:
    for outcome in overview.outcomes:
        # A namespace that does not exist has no peers, and that is known.
        if outcome.source in OF_DEVICES and not outcome.success and outcome.failure is not Failure.NAMESPACE_GONE:
            yield f"{outcome.source}{_within(outcome.netns)} can't be read: {outcome.problem}"
    for row in overview.devices:
        if row.failed is not None:
            yield f"{row.failed.name}{_within(row.failed.netns)} can't be read: {row.failed.problem}"


def _labels(row: DeviceRow, peer: PeerRow) -> dict[str, str]:
    assert row.device is not None  # noqa: S101 - for the type checker
    known = {
        "interface": row.device.name,
        "netns": row.device.netns,
        "public_key": peer.peer.public_key,
        "peer": peer.name,
        "tunnel": tunnel_name(row.device.public_key, peer.peer.public_key),
        "expected_up": "true" if peer.expected_up else "false",
        "state": peer.health.state or "",
    }
    return {PREFIX + name: value.encode("utf-8", "replace").decode() for name, value in known.items()}


def _join(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _within(netns: str) -> str:
    return f" in {netns}" if netns else ""
