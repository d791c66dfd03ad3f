"""The status document: an `Overview` as JSON, at `/api/v1/status` and from `wg-exporter show --json`.

These classes are its definition; docs/api.md says the same for people, and a test compares both. In version 1 keys may
be added, and none is removed or changes its meaning. There is no key for a secret, as the rows have no field for one.

Only ASCII is written, so that no name can drive a terminal. `reading` has the way back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from wg_exporter.health.states import Reason, State  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.model import Backend, SourceName  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.probed import Verdict  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.status.cause import CausePart, cause_part
from wg_exporter.status.drift import DriftPart, drift_part
from wg_exporter.status.host_name import EndpointNamePart, endpoint_name_part
from wg_exporter.status.mtu import told
from wg_exporter.status.plain import endpoint as _endpoint
from wg_exporter.status.plain import text as _text
from wg_exporter.status.plain import texts as _texts
from wg_exporter.status.probe import ProbePart, probe_part
from wg_exporter.status.rows import whose
from wg_exporter.status.todo import what_to_do

if TYPE_CHECKING:
    from wg_exporter.probed import MtuReport
    from wg_exporter.quiet import Quiet
    from wg_exporter.status.rows import DeviceRow, Overview, PeerRow

VERSION = 1


class ExporterPart(msgspec.Struct, frozen=True, kw_only=True):
    """Who says this: the exporter that runs on the host. `started` is in seconds since the epoch. `track_files` is the
    directory of them.
    """

    version: str
    host: str
    config_file: str | None
    started: float
    config_fingerprint: str | None = None
    config_reload_success: bool | None = None
    storage_problem: str | None = None
    track_files: str | None = None
    track_files_problem: str | None = None


class MtuPart(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on the MTU of a tunnel. Sizes are IP packets in bytes. `checked` is in seconds since the epoch."""

    verdict: Verdict
    interface_mtu: int
    path_inner: int | None
    path_outer: int | None
    path_slack: int
    needed: int | None
    recommended: int | None
    remote: int | None
    shrinks_at: str | None
    checked: float | None
    findings: str | None = None


class QuietPart(msgspec.Struct, frozen=True, kw_only=True):
    """What pages nobody for a while, as somebody works on it. `public_key` and `name` are null for a whole interface.
    `since` and `until` are in seconds since the epoch.
    """

    interface: str
    netns: str
    public_key: str | None
    name: str | None
    since: float
    until: float
    reason: str | None


class PeerPart(msgspec.Struct, frozen=True, kw_only=True):
    """One peer. A number is null where it is not known, as all are of a peer that is not on the device."""

    public_key: str
    name: str | None
    label: str
    endpoint: str | None
    allowed_ips: list[str] | None
    ever_connected: bool | None
    latest_handshake: float | None
    latest_handshake_age_seconds: float | None
    receive_bytes: int | None
    transmit_bytes: int | None
    persistent_keepalive_seconds: int | None
    expected_up: bool
    state: State | None
    state_since: float | None
    reason: Reason | None
    reason_since: float | None
    evidence: str | None
    advice: str | None = None
    target: str | None
    target_origin: str | None
    target_reason: str | None
    target_wanted: bool | None
    probe: ProbePart | None
    mtu: MtuPart | None
    quiet: QuietPart | None = None
    cause: CausePart | None = None
    endpoint_name: EndpointNamePart | None = None
    fast_up: bool | None = None
    fast_target: str | None = None
    fast_reason: str | None = None
    receive_packets: int | None = None
    transmit_packets: int | None = None


class DevicePart(msgspec.Struct, frozen=True, kw_only=True):
    """One device. `read_success` is false, and `problem` says why, if it could not be read or is gone; then it has only
    those of its peers that are expected up.
    """

    interface: str
    netns: str
    netns_entry: str | None
    backend: Backend | None
    read_success: bool
    gone: bool
    problem: str | None
    public_key: str | None
    listen_port: int | None
    fwmark: int | None
    mtu: int | None
    up: bool | None
    receive_bytes: int | None
    receive_packets: int | None
    receive_errors: int | None
    receive_dropped: int | None
    transmit_bytes: int | None
    transmit_packets: int | None
    transmit_errors: int | None
    transmit_dropped: int | None
    peers: list[PeerPart]
    quiet: QuietPart | None = None
    drift: DriftPart | None = None


class SourcePart(msgspec.Struct, frozen=True, kw_only=True):
    """How one source was read."""

    source: SourceName
    netns: str
    success: bool
    duration_seconds: float
    problem: str | None


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. `exporter` is null if the host was looked at once, without an exporter; then `unasked` may say why.
    `time` is when the devices were read, in seconds since the epoch.
    """

    version: int
    exporter: ExporterPart | None
    unasked: str | None
    time: float
    devices: list[DevicePart]
    sources: list[SourcePart]
    problems: list[str]
    hidden: list[str]
    capabilities: dict[str, bool] = {}
    unmatched: list[str] = []
    doubles: list[str] = []
    notes: list[str] = []
    quiet: list[QuietPart] = []


# --- writing --------------------------------------------------------------------------------------------------------


def encode(overview: Overview, *, endpoints: str = "full") -> bytes:
    """The overview as one line of JSON. `endpoints`: `full`, `address` (without the port) or `off`."""
    return json.dumps(msgspec.to_builtins(document(overview, endpoints)), separators=(",", ":")).encode("ascii")


def to_json(overview: Overview) -> str:
    """The overview as JSON in many lines."""
    return json.dumps(msgspec.to_builtins(document(overview)), indent=2)


def document(overview: Overview, endpoints: str = "full") -> Document:
    """The overview as a document; `endpoints` as for `encode`."""
    teller = overview.teller
    config_file = teller.config_file if teller else ""
    return Document(
        version=VERSION,
        exporter=teller
        and ExporterPart(
            version=teller.version,
            host=_text(teller.host),
            config_file=_text(config_file) or None,
            started=teller.started,
            config_fingerprint=teller.fingerprint or None,
            config_reload_success=teller.reload_successful,
            storage_problem=_text(teller.storage_problem) or None,
            track_files=_text(teller.track_files) or None,
            track_files_problem=_text(teller.track_files_problem) or None,
        ),
        unasked=_text(overview.unasked) or None,
        time=overview.wall,
        devices=[_device(row, overview.wall, endpoints, config_file) for row in overview.devices],
        sources=[
            SourcePart(
                source=one.source,
                netns=_text(one.netns),
                success=one.success,
                duration_seconds=one.duration,
                problem=_text(one.problem) or None,
            )
            for one in overview.outcomes
        ],
        problems=_texts(overview.problems),
        hidden=_texts(overview.hidden),
        capabilities={_text(name): able for name, able in overview.capabilities},
        unmatched=_texts(overview.unmatched_entries),
        doubles=_texts(overview.doubles),
        notes=_texts(overview.notes),
        quiet=[_quiet(quiet) for quiet in overview.quiet.all],
    )


def _device(row: DeviceRow, wall: float, endpoints: str, config_file: str) -> DevicePart:
    device, link = row.device, row.link
    backend = row.device or row.failed
    netns, name = whose(row)
    return DevicePart(
        interface=_text(name),
        netns=_text(netns),
        netns_entry=_text(row.entry) or None,
        backend=backend.backend if backend else None,
        read_success=device is not None and device.fresh,
        gone=row.gone is not None,
        problem=_text(row.failed.problem) if row.failed else "the interface is gone" if row.gone else None,
        public_key=(device.public_key or None) if device else None,
        listen_port=device.listen_port if device else None,
        fwmark=device.fwmark if device else None,
        mtu=link.mtu if link else None,
        up=link.up if link else None,
        receive_bytes=link.rx_bytes if link else None,
        receive_packets=link.rx_packets if link else None,
        receive_errors=link.rx_errors if link else None,
        receive_dropped=link.rx_dropped if link else None,
        transmit_bytes=link.tx_bytes if link else None,
        transmit_packets=link.tx_packets if link else None,
        transmit_errors=link.tx_errors if link else None,
        transmit_dropped=link.tx_dropped if link else None,
        peers=[_peer(peer, row, wall, endpoints, config_file) for peer in row.peers],
        quiet=_quiet(row.quiet) if row.quiet else None,
        drift=drift_part(row.drift, row, endpoints) if row.drift else None,
    )


def _peer(row: PeerRow, device: DeviceRow, wall: float, endpoints: str, config_file: str) -> PeerPart:
    peer, aim, health, there = row.peer, row.aim, row.health, not row.gone
    handshake = peer.last_handshake_ns / 1e9 if peer.last_handshake_ns > 0 else None
    return PeerPart(
        public_key=peer.public_key,
        name=_text(row.name) if row.named else None,
        label=_text(row.name),
        endpoint=_endpoint(peer.endpoint, endpoints),
        allowed_ips=_texts(peer.allowed_ips) if there else None,
        ever_connected=peer.last_handshake_ns != 0 if there else None,
        latest_handshake=handshake,
        latest_handshake_age_seconds=None if handshake is None else round(wall - handshake, 3),
        receive_bytes=peer.rx_bytes if there else None,
        transmit_bytes=peer.tx_bytes if there else None,
        persistent_keepalive_seconds=peer.persistent_keepalive if there else None,
        expected_up=row.expected_up,
        state=health.state,
        state_since=health.changed_at or None,
        reason=health.reason,
        reason_since=health.reason_at or None,
        evidence=_text(health.evidence) or None,
        advice=_text(what_to_do(row, device, config_file)) or None,
        target=(aim.target or None) if aim else None,
        target_origin=aim.origin if aim and aim.target else None,
        target_reason=(_text(aim.reason) or None) if aim else None,
        target_wanted=aim.wanted if aim else None,
        probe=probe_part(row.echoes, row.window, row.line) if row.echoes else None,
        mtu=_mtu(row.mtu, row, device, endpoints) if row.mtu else None,
        quiet=_quiet(row.quiet) if row.quiet else None,
        cause=cause_part(row.cause, _text, full=endpoints == "full") if row.cause else None,
        endpoint_name=(
            endpoint_name_part(row.host_name, whose(device)[1], peer.public_key, endpoints) if row.host_name else None
        ),
        fast_up=row.fast.up if row.fast else None,
        fast_target=(row.fast.target or None) if row.fast else None,
        fast_reason=(_text(row.fast.why) or None) if row.fast else None,
        receive_packets=row.packets.rx_packets if row.packets else None,
        transmit_packets=row.packets.tx_packets if row.packets else None,
    )


def _quiet(quiet: Quiet) -> QuietPart:
    return QuietPart(
        interface=_text(quiet.interface),
        netns=_text(quiet.netns),
        public_key=quiet.public_key or None,
        name=_text(quiet.name) or None,
        since=quiet.since,
        until=quiet.until,
        reason=_text(quiet.reason) or None,
    )


def quiet_to_json(overview: Overview) -> str:
    """What is quiet alone, as JSON in many lines."""
    return json.dumps({"quiet": msgspec.to_builtins([_quiet(quiet) for quiet in overview.quiet.all])}, indent=2)


def _mtu(report: MtuReport, row: PeerRow, device: DeviceRow, endpoints: str) -> MtuPart:
    if endpoints == "off":  # a router on the path, or the endpoint itself: an address too
        report = report._replace(shrinks_at="")
    findings = told(report, whose(device)[1], row.aim.target if row.aim else "", device.entry)
    known = report._asdict() | {"shrinks_at": report.shrinks_at or None, "checked": report.checked or None}
    return MtuPart(**known, findings=_text(findings))
