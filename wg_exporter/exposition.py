"""Samples to bytes: the Prometheus text format 0.0.4 and OpenMetrics 1.0, fast where there are many.

A scrape of 10,000 peers is 90,000 lines, of which few differ from the scrape before. So each device keeps one list of
rendered lines per peer metric, and a peer whose row is the same object as before is not looked at. The two formats
differ in their headers alone, so they share the lines.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from __future__ import annotations

from itertools import compress, count, groupby
from operator import is_not, itemgetter, ne
from typing import TYPE_CHECKING, Any

from wg_exporter import catalogue as c
from wg_exporter.families import PEER_FIELDS, exporter_samples, interface_samples, labels, peer_info
from wg_exporter.identity import PeerMeta
from wg_exporter.model import Peer
from wg_exporter.tracker import PeerCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wg_exporter.catalogue import Metric
    from wg_exporter.families import DeviceView, Sample, View
    from wg_exporter.model import DeviceKey

_shown_by_info = itemgetter(Peer._fields.index("endpoint"), Peer._fields.index("allowed_ips"))

# Peers whose lines are joined and kept as one piece. Writes of half a megabyte keep a socket busy, and a peer
# that moves costs no more than that to join again.
BLOCK = 4096

# No source lets a lone surrogate in. Should one ever, it becomes a question mark, and the scrape goes on.
NOT_UNICODE = "replace"


def escape(value: str) -> str:
    """A label value as both formats want it: backslash, line feed and double quote escaped."""
    if "\\" in value or "\n" in value or '"' in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


def label_block(pairs: Iterable[tuple[str, str]]) -> str:
    """`{name="value",...}`, empty where there is no label."""
    inner = ",".join(f'{name}="{escape(value)}"' for name, value in pairs)
    return f"{{{inner}}}" if inner else ""


def number(value: float) -> str:
    """A value without loss: integers as they are, floats by their shortest exact form."""
    return repr(value)


def header(metric: Metric, *, openmetrics: bool) -> bytes:
    """The metadata lines of a family."""
    name = metric.family if openmetrics else metric.name
    text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    lines = f"# TYPE {name} {metric.kind}\n"
    if openmetrics:
        text = text.replace('"', '\\"')
        if metric.unit:
            lines += f"# UNIT {name} {metric.unit}\n"
    return f"# HELP {name} {text}\n{lines}".encode()


def render(samples: Iterable[Sample], included: Callable[[str], bool], *, openmetrics: bool) -> list[bytes]:
    """Families of any kind, a chunk each; `samples` must bring each family's samples together."""
    chunks: list[bytes] = []
    for metric, group in groupby(samples, key=lambda sample: sample.metric):
        if included(metric.name):
            text = "".join(f"{metric.name}{label_block(pairs)} {number(value)}\n" for _, pairs, value in group)
            chunks.append(header(metric, openmetrics=openmetrics) + text.encode(errors=NOT_UNICODE))
    return chunks


class Writer:
    """Writes views, one after the other, and keeps what it rendered. Not thread-safe."""

    def __init__(self, included: Callable[[str], bool] = lambda _name: True) -> None:
        self._included = included
        self._tables: dict[DeviceKey, _PeerTable] = {}

    def write(self, view: View, extra: Iterable[Sample] = (), *, openmetrics: bool) -> list[bytes]:
        """The whole body in chunks, a family each. `extra` are samples of families of others, rendered last."""
        chunks = render(interface_samples(view), self._included, openmetrics=openmetrics)
        chunks += self._peers(view, openmetrics=openmetrics)
        chunks += render(exporter_samples(view), self._included, openmetrics=openmetrics)
        chunks += render(extra, self._included, openmetrics=openmetrics)
        if openmetrics:
            chunks.append(b"# EOF\n")
        return chunks

    def _peers(self, view: View, *, openmetrics: bool) -> list[bytes]:
        tables: dict[DeviceKey, _PeerTable] = {}
        for row in view.devices:
            if row.device.peers:
                key = (row.device.netns, row.device.name)
                tables[key] = self._tables.get(key) or _PeerTable(*key, self._included)
                tables[key].update(row, view.endpoints)
        self._tables = tables
        chunks: list[bytes] = []
        for metric in (c.PEER_INFO, *(field.metric for field in PEER_FIELDS)):
            if tables and self._included(metric.name):
                chunks.append(header(metric, openmetrics=openmetrics))
                for table in tables.values():
                    chunks += table.columns[metric].blocks()
        return chunks


class _Column:
    """The lines of one metric of one device's peers, and the blocks that they were joined to when last asked for."""

    __slots__ = ("_blocks", "_lines")

    def __init__(self, length: int) -> None:
        self._lines = [""] * length
        self._blocks: list[bytes | None] = [None] * -(-length // BLOCK)

    def replace(self, places: Sequence[int], lines: Sequence[str]) -> None:
        """Put each line in its place."""
        if len(places) == len(self._lines):
            self._lines[:] = lines
        else:
            own = self._lines
            for index, line in zip(places, lines, strict=True):
                own[index] = line
        for number in {index // BLOCK for index in places}:
            self._blocks[number] = None

    def blocks(self) -> list[bytes]:
        """All lines, in few pieces."""
        for number, block in enumerate(self._blocks):
            if block is None:
                self._blocks[number] = "".join(self._lines[number * BLOCK : (number + 1) * BLOCK]).encode(
                    errors=NOT_UNICODE
                )
        return self._blocks  # type: ignore[return-value]  # none is None any more


# The metric's name, its column, what takes the field from the row, what makes the value of the field.
_Step = tuple[str, _Column, "Callable[[Any], Any]", "Callable[[Any], float]"]


class _PeerTable:
    """The rendered lines of one device's peers, a column for each metric."""

    def __init__(self, netns: str, interface: str, included: Callable[[str], bool]) -> None:
        self._netns = netns
        self._interface = interface
        self._included = included
        self.columns: dict[Metric, _Column] = {}
        self._plans: dict[type, list[_Step]] = {}
        self._keys: tuple[str, ...] = ()
        self._labels: list[str] = []
        self._peers: Sequence[Peer] = ()
        self._metas: Sequence[PeerMeta] = ()
        self._counts: Sequence[PeerCounts] = ()
        self._endpoints = ""

    def update(self, row: DeviceView, endpoints: str) -> None:
        """Render again what changed since the last call."""
        device = row.device
        keys = device.keys_of()
        if keys != self._keys or endpoints != self._endpoints:
            self._keys, self._endpoints = keys, endpoints
            self._labels = [""] * len(keys)
            metrics = (c.PEER_INFO, *(field.metric for field in PEER_FIELDS))
            self.columns = {metric: _Column(len(keys)) for metric in metrics if self._included(metric.name)}
            self._plans = {kind: self._plan(kind) for kind in (Peer, PeerMeta, PeerCounts)}
            renamed: Iterable[int] = range(len(keys))
        else:
            self._update_info(row, self._update(Peer, self._peers, device.peers))
            self._update(PeerCounts, self._counts, row.counts)
            renamed = _changed(self._metas, row.metas)
        for index in renamed:
            self._render(index, row)
        self._peers, self._metas, self._counts = device.peers, row.metas, row.counts

    def _plan(self, kind: type) -> list[_Step]:
        """The steps for one kind of row."""
        return [
            (metric.name, self.columns[metric], itemgetter(row._fields.index(field)), value)
            for metric, row, field, value in PEER_FIELDS
            if row is kind and metric in self.columns
        ]

    def _update(self, kind: type, before: Sequence[Any], after: Sequence[Any]) -> list[int]:
        """Render the fields of one kind of row that differ, and return the places of the rows that do.

        This is most of a scrape of a busy device: loops in C over whole lists, and one expression for each line.
        """
        changed = list(_changed(before, after))
        then = [before[index] for index in changed]
        now = [after[index] for index in changed]
        for name, column, field, value in self._plans[kind]:
            values = list(map(field, now))
            differ = list(map(ne, values, map(field, then)))
            places = list(compress(changed, differ))
            if places:
                fresh = compress(values, differ)
                shown = fresh if value is int else map(value, fresh)
                labels = map(self._labels.__getitem__, places)
                lines = [f"{name}{label} {number}\n" for label, number in zip(labels, shown, strict=True)]
                column.replace(places, lines)
        return changed

    def _update_info(self, row: DeviceView, changed: list[int]) -> None:
        """Render the info of these peers where what it shows is another."""
        if c.PEER_INFO in self.columns:
            then = map(_shown_by_info, map(self._peers.__getitem__, changed))
            now = map(_shown_by_info, map(row.device.peers.__getitem__, changed))
            for index in compress(changed, map(ne, now, then)):
                self._render_info(index, row.device.peers[index], row.metas[index])

    def _render(self, index: int, row: DeviceView) -> None:
        """All lines of one peer."""
        peer, meta = row.device.peers[index], row.metas[index]
        pairs = labels(c.PEER_KEEPALIVE, self._netns, self._interface, peer.public_key, meta.name)
        block = self._labels[index] = label_block(pairs)
        for holder in (peer, meta, row.counts[index]):
            for name, column, field, value in self._plans[type(holder)]:
                column.replace((index,), (f"{name}{block} {value(field(holder))}\n",))
        if c.PEER_INFO in self.columns:
            self._render_info(index, peer, meta)

    def _render_info(self, index: int, peer: Peer, meta: PeerMeta) -> None:
        pairs = labels(c.PEER_INFO, self._netns, *peer_info(self._interface, peer, meta, self._endpoints))
        self.columns[c.PEER_INFO].replace((index,), (f"{c.PEER_INFO.name}{label_block(pairs)} 1\n",))


def _changed(before: Sequence[object], after: Sequence[object]) -> Iterable[int]:
    """The places at which two sequences of one length hold different objects."""
    return () if before is after else compress(count(), map(is_not, after, before))
