"""The host name of a peer's endpoint: in the status document and the way back, and what is worth a line about it: that
it leads elsewhere, or nowhere.
"""

from __future__ import annotations

import shlex

import msgspec

from wg_exporter.hostnames import MEANINGS, EndpointName, LookupFailure
from wg_exporter.status.plain import endpoint as plain_endpoint
from wg_exporter.status.plain import text
from wg_exporter.status.words import some_of

WIDTH = 100  # characters of addresses in a line


class EndpointNamePart(msgspec.Struct, frozen=True, kw_only=True):
    """The host name in the peer's file, `host:port`. Times are in seconds since the epoch. For strangers `name` and
    `resolves_to` are as `metrics: endpoint` says.
    """

    name: str | None
    resolves_to: list[str] | None
    resolved_at: float | None
    mismatch: bool | None
    failure: LookupFailure | None
    failed_since: float | None
    reresolved: int | None
    finding: str | None = None


def endpoint_name_part(known: EndpointName, interface: str, public_key: str, endpoints: str) -> EndpointNamePart:
    """The row for the document, with `endpoints` as for all of it."""
    finding = told(known, interface, public_key, endpoints)
    return EndpointNamePart(
        name=None if endpoints == "off" else text(plain_endpoint(known.name, endpoints) or ""),
        resolves_to=None if endpoints == "off" else list(known.resolves_to),
        resolved_at=known.at or None,
        mismatch=known.mismatch,
        failure=known.failure,
        failed_since=known.failed_since or None,
        reresolved=known.reresolved,
        finding=text(finding) or None,
    )


def endpoint_name(part: EndpointNamePart) -> EndpointName:
    """The row of a document. It has no ports: 0 stands for them."""
    addresses = tuple(f"[{one}]:0" if ":" in one else f"{one}:0" for one in part.resolves_to or ())
    resolved = None if part.resolved_at is None and part.failure is None else part.failure is None
    return EndpointName(
        part.name or "",
        addresses,
        part.resolved_at or 0.0,
        part.failure,
        part.failed_since or 0.0,
        part.mismatch,
        resolved,
        part.reresolved,
    )


def told(row: EndpointName, interface: str, public_key: str, endpoints: str = "full") -> str:
    """One line, with commands between backquotes; empty if there is nothing to say. `endpoints` as for the document."""
    named = f", {row.name}," if endpoints == "full" else f", {row.name.rpartition(':')[0]},"
    name = "" if endpoints == "off" else named
    if row.failure:
        return f"the host name in its file{name} could not be resolved: {MEANINGS[row.failure]}"
    if not row.mismatch:
        return ""
    if endpoints == "off":
        return "the host name in its file does not resolve to the endpoint in use"
    addresses = some_of(row.resolves_to, WIDTH)
    line = f"the host name in its file{name} now resolves to {addresses}, and not to the endpoint in use"
    if endpoints == "full" and row.reresolved is None:
        who = f"{shlex.quote(interface)} peer {public_key} endpoint {shlex.quote(row.name)}"
        line += f"; if the peer is there now: `wg set {who}`"
    return line
