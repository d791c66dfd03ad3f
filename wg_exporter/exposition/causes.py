"""The causes of peers that are down or degraded, as samples: of those alone, so that none costs nothing.

A cause is found after the state it explains, and the state may be another by now: it is shown only while the peer is
down or degraded. One that is only possible is for whoever looks closer, who reads beside it what else fits: a page says
nothing that may as well be wrong.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter import catalogue as c
from wg_exporter.causes.cause import Cause, Confidence
from wg_exporter.exposition.fields import peer_labels
from wg_exporter.exposition.parts import Field, Rows, Section, Source
from wg_exporter.health.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wg_exporter.causes.cause import Finding
    from wg_exporter.exposition.parts import Keep, Pairs
    from wg_exporter.exposition.view import View
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.model import DeviceKey
    from wg_exporter.names.identity import PeerMeta

_ILL = frozenset({State.DOWN, State.DEGRADED})

_Columns = tuple["Sequence[str]", "Sequence[PeerMeta]", "Sequence[PeerHealth]"]
_NONE: _Columns = ((), (), ())


class PeerCause(NamedTuple):
    """The cause that was found for a peer."""

    cause: Cause


def _labels(cause: Cause) -> Pairs:
    return (("cause", cause),)


_FIELDS = (Field(c.PEER_CAUSE, peer_labels, PeerCause, ("cause",), labels=_labels),)


def peer_causes(view: View) -> Section:
    """The peers whose cause is known."""
    return Section(_FIELDS, [*_sources(view)] if view.causes else [])


def _sources(view: View) -> Iterator[Source]:
    there: dict[DeviceKey, _Columns] = {
        (row.device.netns, row.device.name): (row.device.peers.public_key, row.metas, row.health)
        for row in view.devices
    }
    gone: dict[DeviceKey, _Columns] = {(row.netns, row.name): row[2:] for row in view.gone}
    lacking: dict[DeviceKey, _Columns] = {(row.netns, row.name): row[2:] for row in view.lacking}
    for device, findings in view.causes.items():
        columns = [columns for known in (there, gone, lacking) for columns in known.get(device, _NONE)]
        yield Source(*device, _ill_peers, (findings, *columns))


def _ill_peers(_keep: Keep, findings: Mapping[str, Finding], *columns: Sequence[object]) -> Rows:
    """`columns` are three times keys, names and health: of the peers there, gone and lacking."""
    found: dict[str, tuple[PeerMeta, PeerCause]] = {}
    for key, meta, row in chain(*(zip(*columns[at : at + 3], strict=False) for at in (0, 3, 6))):
        finding = findings.get(key) if row.state in _ILL else None
        if finding is not None and finding.confidence is not Confidence.POSSIBLE:
            found.setdefault(key, (meta, PeerCause(finding.cause)))
    metas, rows = zip(*found.values(), strict=True) if found else ((), ())
    return Rows((tuple(found), metas), {PeerCause: rows})
