"""Samples to bytes: the Prometheus text format 0.0.4 and OpenMetrics 1.0, fast where there are many.

A scrape of 10,000 peers is 90,000 lines, of which few differ from the scrape before. So each device keeps one list of
rendered lines per peer metric, and a peer whose row is the same object as before is not looked at. The two formats
differ in their headers alone, so they share the lines.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from __future__ import annotations

from itertools import chain, compress, count, groupby
from operator import is_not, itemgetter
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
    from wg_exporter.tracker import DeviceKey

_public_key = itemgetter(Peer._fields.index("public_key"))


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
            chunks.append(header(metric, openmetrics=openmetrics) + text.encode())
    return chunks


class Writer:
    """Writes views, one after the other, and keeps what it rendered. Not thread-safe."""

    def __init__(self, included: Callable[[str], bool] = lambda _name: True) -> None:
        self._included = included
        self._tables: dict[DeviceKey, _PeerLines] = {}

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
        tables: dict[DeviceKey, _PeerLines] = {}
        for row in view.devices:
            if row.peers:
                key = (row.device.netns, row.device.name)
                tables[key] = self._tables.get(key) or _PeerLines(*key, self._included)
                tables[key].update(row, view.endpoints)
        self._tables = tables
        families: dict[Metric, list[list[bytes]]] = {}
        for table in tables.values():
            for metric, lines in table.lines.items():
                families.setdefault(metric, []).append(lines)
        return [
            b"".join(chain((header(metric, openmetrics=openmetrics),), *lines)) for metric, lines in families.items()
        ]


class _PeerLines:
    """The rendered lines of one device's peers: for each metric a list, in the order of the peers."""

    def __init__(self, netns: str, interface: str, included: Callable[[str], bool]) -> None:
        self._netns = netns
        self._interface = interface
        self.lines: dict[Metric, list[bytes]] = {}
        # For each kind of row: (metric's name, its lines, index of the field in the row, what makes the value of it).
        self._plans: dict[type, list[tuple[str, list[bytes], int, Callable[[Any], float]]]] = {
            Peer: [],
            PeerMeta: [],
            PeerCounts: [],
        }
        if included(c.PEER_INFO.name):
            self.lines[c.PEER_INFO] = []
        for metric, row, field, value in PEER_FIELDS:
            if included(metric.name):
                self.lines[metric] = []
                self._plans[row].append((metric.name, self.lines[metric], row._fields.index(field), value))
        self._keys: list[str] = []
        self._blocks: list[str] = []
        self._peers: Sequence[Peer] = ()
        self._metas: Sequence[PeerMeta] = ()
        self._counts: Sequence[PeerCounts] = ()
        self._endpoints = ""

    def update(self, row: DeviceView, endpoints: str) -> None:
        """Render again what changed since the last call."""
        keys = self._keys if row.peers is self._peers else list(map(_public_key, row.peers))
        if keys != self._keys or endpoints != self._endpoints:
            self._keys, self._endpoints = keys, endpoints
            self._blocks = [""] * len(keys)
            for lines in self.lines.values():
                lines[:] = [b""] * len(keys)
            renamed: Iterable[int] = range(len(keys))
        else:
            self._update_fields(Peer, self._peers, row.peers)
            self._update_fields(PeerCounts, self._counts, row.counts)
            self._update_info(row)
            renamed = _changed(self._metas, row.metas)
        for index in renamed:
            self._render(index, row)
        self._peers, self._metas, self._counts = row.peers, row.metas, row.counts

    def _update_fields(self, kind: type, before: Sequence[Any], after: Sequence[Any]) -> None:
        """Render the fields of one kind of row that differ. This loop is most of a scrape of a busy device."""
        plan = self._plans[kind]
        blocks = self._blocks
        for index in _changed(before, after):
            then, now, block = before[index], after[index], blocks[index]
            for name, lines, field, value in plan:
                if now[field] != then[field]:
                    lines[index] = f"{name}{block} {value(now[field])!r}\n".encode()

    def _update_info(self, row: DeviceView) -> None:
        lines = self.lines.get(c.PEER_INFO)
        if lines is None:
            return
        for index in _changed(self._peers, row.peers):
            then, now = self._peers[index], row.peers[index]
            if now.endpoint != then.endpoint or now.allowed_ips is not then.allowed_ips:
                lines[index] = self._info(now, row.metas[index])

    def _render(self, index: int, row: DeviceView) -> None:
        """All lines of one peer."""
        peer, meta = row.peers[index], row.metas[index]
        pairs = labels(c.PEER_KEEPALIVE, self._netns, self._interface, peer.public_key, meta.name)
        block = self._blocks[index] = label_block(pairs)
        for holder in (peer, meta, row.counts[index]):
            for name, lines, field, value in self._plans[type(holder)]:
                lines[index] = f"{name}{block} {value(holder[field])!r}\n".encode()
        if c.PEER_INFO in self.lines:
            self.lines[c.PEER_INFO][index] = self._info(peer, meta)

    def _info(self, peer: Peer, meta: PeerMeta) -> bytes:
        pairs = labels(c.PEER_INFO, self._netns, *peer_info(self._interface, peer, meta, self._endpoints))
        return f"{c.PEER_INFO.name}{label_block(pairs)} 1\n".encode()


def _changed(before: Sequence[object], after: Sequence[object]) -> Iterable[int]:
    """The places at which two sequences of one length hold different objects."""
    return () if before is after else compress(count(), map(is_not, after, before))
