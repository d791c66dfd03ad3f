"""Configuration drift in the status document: its parts, made of rows, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wg_exporter.drift.kinds import Difference, Drift, Kind
from wg_exporter.status.plain import endpoint, text, texts

if TYPE_CHECKING:
    from wg_exporter.status.rows import DeviceRow


class DifferencePart(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between a device and its file, of a peer or (null) of the device itself. `file` and `device` are
    what each says, as a file is written; null where it says nothing. Of secret keys they are `set` and `another`.
    """

    kind: Kind
    public_key: str | None
    name: str | None
    file: str | None
    device: str | None


class DriftPart(msgspec.Struct, frozen=True, kw_only=True):
    """How a device differs from the file that describes it. `counts` has the number of differences of each kind that
    could be judged, as in the metric; `differences` are the first 1,000 of them.
    """

    file: str
    counts: dict[str, int]
    differences: list[DifferencePart]
    save_config: bool
    peers_by_commands: bool
    other_files: list[str]


def drift_part(drift: Drift, row: DeviceRow, endpoints: str) -> DriftPart:
    """The drift of the device of this row; `endpoints` as in `plain.endpoint`."""
    names = {peer.peer.public_key: peer.name for peer in row.peers if peer.named} if drift.differences else {}

    def said(kind: Kind, what: str) -> str | None:
        return endpoint(what, endpoints) if kind is Kind.ENDPOINT else text(what) or None

    return DriftPart(
        file=text(drift.path),
        counts={str(kind): number for kind, number in drift.counts},
        differences=[
            DifferencePart(
                kind=one.kind,
                public_key=one.public_key or None,
                name=text(names.get(one.public_key) or one.name) or None,
                file=said(one.kind, one.file),
                device=said(one.kind, one.device),
            )
            for one in drift.differences
        ],
        save_config=drift.saved,
        peers_by_commands=drift.hooked,
        other_files=texts(drift.others),
    )


def drift_row(part: DriftPart) -> Drift:
    """The way back. Kinds that this version does not know are left out."""
    return Drift(
        part.file,
        tuple((kind, part.counts[kind]) for kind in Kind if kind in part.counts),
        tuple(
            Difference(one.kind, one.public_key or "", one.file or "", one.device or "", one.name or "")
            for one in part.differences
        ),
        part.save_config,
        part.peers_by_commands,
        tuple(part.other_files),
    )
