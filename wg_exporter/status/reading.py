"""The way back from the status document to an `Overview`, for `show` and `mtu`, which ask an exporter that runs.

What is read is checked: the socket's path is a flag, and anything may listen there.
"""

from __future__ import annotations

import msgspec

from wg_exporter import model, probed
from wg_exporter.accounted import PeerPackets
from wg_exporter.health.quality import Window
from wg_exporter.health.states import PeerHealth
from wg_exporter.history.round_trips import Line
from wg_exporter.model import SOME_TIME, Backend, Failure
from wg_exporter.plan.planner import Aim
from wg_exporter.plan.targets import Origin
from wg_exporter.quiet import Quiet, QuietNow
from wg_exporter.status.cause import finding
from wg_exporter.status.document import (
    VERSION,
    DevicePart,
    Document,
    ExporterPart,
    MtuPart,
    PeerPart,
    QuietPart,
)
from wg_exporter.status.drift import drift_row
from wg_exporter.status.host_name import endpoint_name
from wg_exporter.status.rows import DeviceRow, Echoes, Overview, PeerRow, Teller


class DocumentError(ValueError):
    """This is no status document that can be read. The message is one line that says why."""


def decode(data: bytes) -> Overview:
    """The overview of a document that an exporter sent. Raises DocumentError."""
    try:
        found = msgspec.json.decode(data, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError(f"not a status document of version {VERSION}: {error}") from None
    if found.version != VERSION:
        raise DocumentError(f"a status document of version {found.version}, while this program reads {VERSION}")
    try:
        return _overview(found)
    except (ValueError, OverflowError):
        raise DocumentError("not a status document: a time in it is no time") from None


def _overview(found: Document) -> Overview:
    return Overview(
        found.time,
        tuple(map(_device_row, found.devices)),
        tuple(
            model.Outcome(one.source, one.netns, one.success, one.duration_seconds, one.problem or "")
            for one in found.sources
        ),
        tuple(found.problems),
        tuple(found.hidden),
        teller=_teller(found.exporter) if found.exporter else None,
        unasked=found.unasked or "",
        capabilities=tuple(found.capabilities.items()),
        unmatched_entries=tuple(found.unmatched),
        doubles=tuple(found.doubles),
        notes=tuple(found.notes),
        quiet=QuietNow(quiet for part in found.quiet if (quiet := _quiet(part))),
    )


def _teller(part: ExporterPart) -> Teller:
    return Teller(
        part.version,
        part.host,
        part.config_file or "",
        part.started,
        part.config_fingerprint or "",
        part.config_reload_success,
        part.storage_problem or "",
        part.track_files or "",
        part.track_files_problem or "",
    )


def _device_row(part: DevicePart) -> DeviceRow:
    key = (part.netns, part.interface)
    link = None
    if part.mtu is not None:
        counters = (
            part.receive_packets, part.transmit_packets, part.receive_bytes, part.transmit_bytes,
            part.receive_errors, part.transmit_errors, part.receive_dropped, part.transmit_dropped,
        )  # fmt: skip
        rx_packets, tx_packets, rx, tx, rx_errors, tx_errors, rx_dropped, tx_dropped = (
            number or 0 for number in counters
        )
        link = model.Link(
            *key, 0, "", bool(part.up), part.mtu,
            rx_packets, tx_packets, rx, tx, rx_errors, tx_errors, rx_dropped, tx_dropped,
        )  # fmt: skip
    rows, entry, quiet = tuple(map(_peer_row, part.peers)), part.netns_entry or "", _quiet(part.quiet)
    drift = drift_row(part.drift) if part.drift else None
    if part.gone:
        return DeviceRow(None, None, link, rows, key, entry, quiet)
    backend = part.backend or Backend.KERNEL
    if part.listen_port is None:
        # The problem says what to do, or the exporter's own log: `Failure.DENIED` keeps advice from being added here.
        failed = model.FailedDevice(*key, backend, part.problem or "", Failure.DENIED)
        return DeviceRow(None, failed, link, rows, entry=entry, quiet=quiet)
    peers = model.Peers.of([row.peer for row in rows if not row.gone])
    device = model.Device(
        *key, backend, part.public_key or "", part.listen_port, part.fwmark or 0, peers, part.read_success
    )
    return DeviceRow(device, None, link, rows, entry=entry, quiet=quiet, drift=drift)


def _peer_row(part: PeerPart) -> PeerRow:
    at = round(part.latest_handshake * 1e9) if part.latest_handshake else SOME_TIME if part.ever_connected else 0
    peer = model.Peer(
        part.public_key,
        part.endpoint or "",
        tuple(part.allowed_ips or ()),
        part.persistent_keepalive_seconds or 0,
        at,
        part.receive_bytes or 0,
        part.transmit_bytes or 0,
    )
    health = PeerHealth(
        part.state,
        part.reason,
        changed_at=part.state_since or 0.0,
        evidence=part.evidence or "",
        reason_at=part.reason_since or 0.0,
    )
    aim = None
    if part.target_wanted is not None:
        aim = Aim(part.target or "", part.target_origin or Origin.NONE, part.target_reason or "", part.target_wanted)
    probe, mtu = part.probe, part.mtu
    trips = probe.round_trips if probe else None
    known = probe is not None and probe.loss_ratio is not None
    return PeerRow(
        peer,
        part.label,
        part.name is not None,
        part.expected_up,
        aim,
        health,
        gone=part.receive_bytes is None,
        echoes=Echoes(probe.up, probe.sent, probe.lost, probe.late) if probe else None,
        mtu=_report(mtu) if mtu else None,
        window=Window(probe.loss_ratio or 0.0, probe.round_trip_seconds) if probe and known else None,
        quiet=_quiet(part.quiet),
        cause=finding(part.cause) if part.cause else None,
        line=Line(trips.until, trips.mean_seconds, trips.lost) if trips else None,
        host_name=endpoint_name(part.endpoint_name) if part.endpoint_name else None,
        fast=_fast(part),
        packets=_packets(part),
    )


def _fast(part: PeerPart) -> probed.FastFound | None:
    target, up, why = part.fast_target, part.fast_up, part.fast_reason
    return None if up is None and not why else probed.FastFound(target or "", up, why or "")


def _packets(part: PeerPart) -> PeerPackets | None:
    received, sent = part.receive_packets, part.transmit_packets
    return None if received is None or sent is None else PeerPackets(received, sent)


def _quiet(part: QuietPart | None) -> Quiet | None:
    if part is None:
        return None
    where = (part.netns, part.interface, part.public_key or "", part.name or "")
    return Quiet(*where, part.since, part.until, part.reason or "")


def _report(part: MtuPart) -> probed.MtuReport:
    known = {name: getattr(part, name) for name in probed.MtuReport._fields}
    return probed.MtuReport(**known | {"shrinks_at": part.shrinks_at or "", "checked": part.checked or 0.0})
