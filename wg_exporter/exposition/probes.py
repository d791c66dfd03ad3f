"""The lines of probed peers: many for each, of which most change from one scrape to the next.

A probed peer has some fifty lines, a third of them its histogram. Their names and labels stay, so they are kept in
pieces: the name (with the line feed *before* it), the labels of the peer, those of the line, and the value. What moved
is a column of values that goes into its place in one step, and joining the pieces makes the text.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from wg_exporter.exposition.text import NOT_UNICODE, escape
from wg_exporter.families import NO_REPORT, probed_labels
from wg_exporter.model import MtuReport, ProbeStats, differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.catalogue import Metric
    from wg_exporter.families import DeviceView, ProbedField
    from wg_exporter.model import Probed

# Lines that are joined and kept as one piece.
BLOCK = 4096

_PIECES = 4  # of a line
_NO_LINE = ("",) * _PIECES

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
        self._lines: dict[Metric, _Lines] = {}

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
        self._lines = {field.metric: _Lines(field, heads[field.row], device.netns) for field in self._fields}

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


class _Lines:
    """The lines of one metric, so many for each peer, and the blocks that they were joined to when last asked for."""

    __slots__ = ("_blanks", "_blocks", "_names", "_peers", "_pieces", "_stride", "_whole")

    def __init__(self, field: ProbedField, heads: Sequence[str], netns: str) -> None:
        own = f',netns="{escape(netns)}"' if netns else ""
        shape = []
        for suffix, labels in field.points:
            tail = "".join(f',{name}="{value}"' for name, value in labels)
            shape.append((f"\n{field.metric.name}{suffix}", f"{tail}{own}}} "))
        self._whole = [piece for head in heads for name, tail in shape for piece in (name, head, tail, "")]
        self._pieces = list(self._whole)
        self._stride = _PIECES * len(shape)
        self._peers = max(1, BLOCK // len(shape))  # in a block
        self._blocks: list[bytes | None] = [None] * -(-len(heads) // self._peers)
        self._blanks: set[int] = set()  # the peers of whom a line is left out

    def put(self, places: Sequence[int], values: Sequence[float | None]) -> None:
        """Other values for these peers, who are in order; the line of a value that is None is left out."""
        if len(values) * _PIECES == len(self._pieces) and not self._blanks and None not in values:
            self._pieces[3::_PIECES] = map(repr, values)
            self._blocks = [None] * len(self._blocks)
            return
        points = len(values) // len(places)
        for number, place in enumerate(places):
            self._put_one(place, values[number * points : (number + 1) * points])
            self._blocks[place // self._peers] = None

    def _put_one(self, place: int, values: Sequence[float | None]) -> None:
        first, end = place * self._stride, (place + 1) * self._stride
        if place in self._blanks:
            self._pieces[first:end] = self._whole[first:end]
            self._blanks.discard(place)
        self._pieces[first + 3 : end : _PIECES] = map(repr, values)
        if None in values:
            self._blanks.add(place)
            for line, value in zip(range(first, end, _PIECES), values, strict=True):
                if value is None:
                    self._pieces[line : line + _PIECES] = _NO_LINE

    def blocks(self) -> list[bytes]:
        """All lines, in few chunks."""
        length = self._peers * self._stride
        for number, block in enumerate(self._blocks):
            if block is None:
                lines = "".join(self._pieces[number * length : (number + 1) * length])
                self._blocks[number] = lines.encode(errors=NOT_UNICODE)
        return [block for block in self._blocks if block]
