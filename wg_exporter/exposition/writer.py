"""Samples to bytes: the Prometheus text format 0.0.4 and OpenMetrics 1.0, fast where there are many.

A scrape of 10,000 peers is 90,000 lines, of which few differ from the scrape before. So each device keeps a column of
lines per peer metric, and a column whose values are the same object as before is not looked at. The two formats differ
in their headers alone, so they share the lines.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from __future__ import annotations

from itertools import compress, groupby, repeat
from operator import floordiv, is_not
from typing import TYPE_CHECKING

from wg_exporter import catalogue as c
from wg_exporter.exposition.health import HealthTable
from wg_exporter.exposition.probes import ProbedTable
from wg_exporter.exposition.samples import (
    PEER_FIELDS,
    PEER_METRICS,
    exporter_samples,
    interface_samples,
    labels,
    peer_info,
    probed_fields,
)
from wg_exporter.exposition.text import NOT_UNICODE, header, label_block, number
from wg_exporter.health.series import METRICS as HEALTH_METRICS
from wg_exporter.model import Peer, differences, same
from wg_exporter.names.identity import PeerMeta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wg_exporter.catalogue import Metric
    from wg_exporter.exposition.samples import DeviceView, PeerField, ProbedField, Sample, View
    from wg_exporter.model import DeviceKey

# Peers whose lines are joined and kept as one piece. Writes of half a megabyte keep a socket busy, and a peer
# that moves costs no more than that to join again.
BLOCK = 4096


def render(samples: Iterable[Sample], included: Callable[[str], bool], *, openmetrics: bool) -> list[bytes]:
    """Families of any kind, a chunk each; `samples` must bring each family's samples together."""
    chunks: list[bytes] = []
    for metric, group in groupby(samples, key=lambda sample: sample.metric):
        if included(metric.name):
            text = "".join(
                f"{metric.name}{suffix}{label_block(pairs)} {number(value)}\n" for _, pairs, value, suffix in group
            )
            chunks.append(header(metric, openmetrics=openmetrics) + text.encode(errors=NOT_UNICODE))
    return chunks


class Writer:
    """Writes views, one after the other, and keeps what it rendered. Not thread-safe."""

    def __init__(self, included: Callable[[str], bool] = lambda _name: True) -> None:
        self._included = included
        self._tables: dict[DeviceKey, _PeerTable] = {}
        self._health: dict[DeviceKey, HealthTable] = {}
        self._probed: dict[DeviceKey, ProbedTable] = {}
        self._bounds: tuple[float, ...] = ()
        self._fields: tuple[ProbedField, ...] = ()

    def write(self, view: View, extra: Iterable[Sample] = (), *, openmetrics: bool) -> list[bytes]:
        """The whole body in chunks, a family each. `extra` are samples of families of others, rendered last."""
        chunks = render(interface_samples(view), self._included, openmetrics=openmetrics)
        chunks += self._peers(view, openmetrics=openmetrics)
        chunks += self._judged(view, openmetrics=openmetrics)
        chunks += self._probes(view, openmetrics=openmetrics)
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
                tables[key] = self._tables.get(key) or _PeerTable(self._included)
                tables[key].update(row, view.endpoints)
        self._tables = tables
        chunks: list[bytes] = []
        missed = self._missed(view)
        for metric in PEER_METRICS:
            gone = missed if metric is c.PEER_EXPECTED_UP else []
            if (tables or gone) and self._included(metric.name):
                chunks.append(header(metric, openmetrics=openmetrics).removesuffix(b"\n"))
                for table in tables.values():
                    chunks += table.columns[metric].blocks()
                chunks += [*gone, b"\n"]
        return chunks

    @staticmethod
    def _missed(view: View) -> list[bytes]:
        """That the peers of devices that are gone are expected up: all that is left of them, but their health."""
        lines = []
        for device in view.gone:
            for key, meta in zip(device.public_key, device.metas, strict=True):
                pairs = labels(c.PEER_EXPECTED_UP, device.netns, device.name, key, meta.name)
                lines.append(f"\n{c.PEER_EXPECTED_UP.name}{label_block(pairs)} 1")
        return ["".join(lines).encode(errors=NOT_UNICODE)] if lines else []

    def _judged(self, view: View, *, openmetrics: bool) -> list[bytes]:
        tables: dict[DeviceKey, HealthTable] = {}
        for row in view.devices:
            if row.health:
                key = (row.device.netns, row.device.name)
                tables[key] = self._health.get(key) or HealthTable(key, self._included)
                tables[key].update(row.device.peers.public_key, row.metas, row.health)
        for device in view.gone:
            key = (device.netns, device.name)
            tables[key] = self._health.get(key) or HealthTable(key, self._included)
            tables[key].update(device.public_key, device.metas, device.rows)
        self._health = tables
        chunks: list[bytes] = []
        for metric in HEALTH_METRICS if tables else ():
            blocks = [block for table in tables.values() for block in table.blocks(metric)]
            if blocks:
                chunks += [header(metric, openmetrics=openmetrics).removesuffix(b"\n"), *blocks, b"\n"]
        return chunks

    def _probes(self, view: View, *, openmetrics: bool) -> list[bytes]:
        if view.rtt_buckets != self._bounds:
            self._bounds, self._probed = view.rtt_buckets, {}
            self._fields = tuple(field for field in probed_fields(self._bounds) if self._included(field.metric.name))
        tables: dict[DeviceKey, ProbedTable] = {}
        for row in view.devices:
            key = (row.device.netns, row.device.name)
            if probed := view.probes.get(key):
                tables[key] = self._probed.get(key) or ProbedTable(self._fields)
                tables[key].update(row, probed)
        self._probed = tables
        chunks: list[bytes] = []
        for field in self._fields if tables else ():
            blocks = [block for table in tables.values() for block in table.blocks(field.metric)]
            if blocks:
                chunks += [header(field.metric, openmetrics=openmetrics).removesuffix(b"\n"), *blocks, b"\n"]
        return chunks


class _Column:
    """The lines of one metric of one device's peers, and the blocks that they were joined to when last asked for.

    A line is three pieces: the name with the line feed *before* it, the labels with their blanks, and the value. So
    what a moved peer costs is its value.
    """

    __slots__ = ("_blocks", "_pieces")

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self._pieces = ["\n" + name, "", ""] * len(labels)
        self._pieces[1::3] = labels
        self._blocks: list[bytes | None] = [None] * -(-len(labels) // BLOCK)

    def label(self, index: int, labels: str) -> None:
        """Other labels for one peer."""
        self._pieces[3 * index + 1] = labels
        self._blocks[index // BLOCK] = None

    def put(self, places: Sequence[int], values: Iterable[str]) -> None:
        """Other values for these peers, who are in order."""
        pieces = self._pieces
        if 3 * len(places) == len(pieces):
            pieces[2::3] = values
            self._blocks = [None] * len(self._blocks)
            return
        for index, value in zip(places, values, strict=True):
            pieces[3 * index + 2] = value
        for block in set(map(floordiv, places, repeat(BLOCK))):
            self._blocks[block] = None

    def blocks(self) -> list[bytes]:
        """All lines, in few chunks."""
        length = 3 * BLOCK
        for at, block in enumerate(self._blocks):
            if block is None:
                lines = "".join(self._pieces[at * length : (at + 1) * length])
                self._blocks[at] = lines.encode(errors=NOT_UNICODE)
        return self._blocks  # type: ignore[return-value]  # none is None any more


class _PeerTable:
    """The rendered lines of one device's peers, a column for each metric."""

    def __init__(self, included: Callable[[str], bool]) -> None:
        self._included = included
        self.columns: dict[Metric, _Column] = {}
        self._shown: DeviceView | None = None
        self._endpoints = ""

    def update(self, row: DeviceView, endpoints: str) -> None:
        """Render again what changed since the last call."""
        before = self._shown
        if (
            before is None
            or endpoints != self._endpoints
            or not same(before.device.peers.public_key, row.device.peers.public_key)
        ):
            before = None
            self._endpoints = endpoints
            self._begin(row)
        else:
            self._rename(before, row)
        for field in PEER_FIELDS:
            column = self.columns.get(field.metric)
            if column is not None and not (before is not None and _unmoved(field.row, before, row)):
                self._update(column, field, before, row)
        self._shown = row

    def _begin(self, row: DeviceView) -> None:
        """Columns with the labels of all peers, and no values yet."""
        labels = [self._labels(row, index) for index in range(len(row.metas))]
        infos = [self._info(row, index) for index in range(len(row.metas))]
        self.columns = {
            metric: _Column(metric.name, infos if metric is c.PEER_INFO else labels)
            for metric in PEER_METRICS
            if self._included(metric.name)
        }
        if c.PEER_INFO in self.columns:
            self.columns[c.PEER_INFO].put(range(len(infos)), repeat("1", len(infos)))

    def _rename(self, before: DeviceView, row: DeviceView) -> None:
        """Other labels for the peers whose name changed, or what their info shows."""
        metas = {at for at in differences(before.metas, row.metas) if before.metas[at].name != row.metas[at].name}
        for index in metas:
            labels = self._labels(row, index)
            for metric, column in self.columns.items():
                if metric is not c.PEER_INFO:
                    column.label(index, labels)
        if c.PEER_INFO in self.columns:
            then, now = before.device.peers, row.device.peers
            moved = {*differences(then.endpoint, now.endpoint), *differences(then.allowed_ips, now.allowed_ips)}
            for index in metas | moved:
                self.columns[c.PEER_INFO].label(index, self._info(row, index))

    def _update(self, column: _Column, field: PeerField, before: DeviceView | None, row: DeviceView) -> None:
        """Put the values of one field that differ in their place.

        This is most of a scrape of a busy device, so that it is done in C, a step for the whole column at a time.
        """
        values = field.column(row)
        places: Sequence[int] = range(len(values))
        if before is not None:
            then = field.column(before)
            if then is values:
                return
            # What was read again and is equal is rendered again: looking at values costs more, and sources share them.
            places = list(compress(range(len(values)), map(is_not, then, values)))
            if len(places) < len(values):
                values = list(map(values.__getitem__, places))
        if places:
            column.put(places, map(repr, map(field.value, values)))

    def _labels(self, row: DeviceView, index: int) -> str:
        device, key = row.device, row.device.peers.public_key[index]
        pairs = labels(c.PEER_KEEPALIVE, device.netns, device.name, key, row.metas[index].name)
        return f"{label_block(pairs)} "

    def _info(self, row: DeviceView, index: int) -> str:
        device = row.device
        values = peer_info(device.name, device.peers[index], row.metas[index], self._endpoints)
        return f"{label_block(labels(c.PEER_INFO, device.netns, *values))} "


def _unmoved(kind: type, before: DeviceView, after: DeviceView) -> bool:
    """Whether the rows of this kind are the very same ones."""
    if kind is Peer:
        return before.device.peers is after.device.peers
    return before.metas is after.metas if kind is PeerMeta else before.counts is after.counts
