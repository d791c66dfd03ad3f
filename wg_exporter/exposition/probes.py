"""The lines of probed peers: some fifty for each, a third of them its histogram, of which many change from one scrape
to the next. A column of values that moved goes into its place in one step (see `lines`)."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from wg_exporter.exposition.lines import Lines
from wg_exporter.exposition.samples import NO_REPORT, probed_labels
from wg_exporter.exposition.text import escape
from wg_exporter.model import MtuReport, ProbeStats, differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.catalogue import Metric
    from wg_exporter.exposition.samples import DeviceView, ProbedField
    from wg_exporter.model import Probed

_Kind = type[ProbeStats] | type[MtuReport]
_KINDS: tuple[_Kind, ...] = (ProbeStats, MtuReport)


class ProbedTable:
    """The rendered lines of one device's probed peers, for these metrics."""

    def __init__(self, fields: Sequence[ProbedField]) -> None:
        self._fields = fields
        self._keys: Sequence[str] = ()
        self._index: dict[str, int] = {}
        self._labels: tuple[Sequence[str], ...] = ()
        self._shown: dict[_Kind, dict[str, Sequence[Any]]] = {}
        self._lines: dict[Metric, Lines] = {}

    def update(self, row: DeviceView, probed: Mapping[str, Probed]) -> None:
        """Render again what changed since the last call."""
        index = self._places(row.device.peers.public_key)
        keys = [key for key in probed if key in index]
        peers = [probed[key] for key in keys]
        labels = (keys, [row.metas[index[key]].name for key in keys], [peer.target for peer in peers])
        if labels != self._labels:
            self._begin(row, labels)
        self._update(ProbeStats, [peer.stats for peer in peers])
        self._update(MtuReport, [peer.mtu or NO_REPORT for peer in peers])

    def blocks(self, metric: Metric) -> list[bytes]:
        """All lines of a metric, in few chunks; none if no peer has one."""
        return self._lines[metric].blocks() if metric in self._lines else []

    def _places(self, keys: Sequence[str]) -> dict[str, int]:
        """Where each peer is on the device."""
        if keys is not self._keys:
            self._keys, self._index = keys, {key: at for at, key in enumerate(keys)}
        return self._index

    def _begin(self, row: DeviceView, labels: tuple[Sequence[str], ...]) -> None:
        """Lines for these peers under these names, without values yet."""
        self._labels, self._shown = labels, {}
        device = row.device
        heads = {
            kind: [
                "{" + ",".join(f'{name}="{escape(value)}"' for name, value in probed_labels(kind, device.name, *peer))
                for peer in zip(*labels, strict=True)
            ]
            for kind in _KINDS
        }
        self._lines = {
            field.metric: Lines(field.metric, field.points, heads[field.row], device.netns) for field in self._fields
        }

    def _update(self, kind: _Kind, rows: Sequence[ProbeStats] | Sequence[MtuReport]) -> None:
        """Put the values that differ in their place, a column at a time."""
        now: dict[str, Sequence[Any]] = dict(zip(kind._fields, zip(*rows, strict=True), strict=bool(rows)))
        before = self._shown.get(kind)
        self._shown[kind] = now
        for field in self._fields:
            if field.row is kind and now:
                columns: list[Sequence[Any]] = [now[name] for name in field.fields]
                places: Sequence[int] = range(len(rows))
                if before is not None:
                    places = _moved([before[name] for name in field.fields], columns)
                    if len(places) < len(rows):
                        columns = [[column[at] for at in places] for column in columns]
                if places:
                    self._lines[field.metric].put(places, _values(field, columns))


def _moved(before: Sequence[Sequence[Any]], now: Sequence[Sequence[Any]]) -> Sequence[int]:
    """The places at which one of these columns differs, in order."""
    moved = [differences(*columns) for columns in zip(before, now, strict=True)]
    return moved[0] if len(moved) == 1 else sorted(set().union(*moved))


def _values(field: ProbedField, columns: Sequence[Sequence[Any]]) -> Sequence[float | None]:
    """The values of these peers, one after the other, a value per point each."""
    return columns[0] if field.values is None else list(chain.from_iterable(map(field.values, *columns)))
