"""Pages to bytes: the Prometheus text format 0.0.4 and OpenMetrics 1.0, fast where there are many peers.

The two formats differ in their headers alone, so they share the lines of peers, which are kept from scrape to scrape
(see `table`).

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

from wg_exporter.exposition.parts import Section
from wg_exporter.exposition.table import Table
from wg_exporter.exposition.text import NOT_UNICODE, header, label_block, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wg_exporter.exposition.parts import Parts, Sample

_Tables = dict[tuple[object, ...], Table]


def everything(_name: str) -> bool:
    """Include every metric."""
    return True


def render(
    samples: Iterable[Sample], included: Callable[[str], bool] = everything, *, openmetrics: bool
) -> list[bytes]:
    """A chunk for each family. In `samples`, those of a family have to follow each other."""
    chunks: list[bytes] = []
    for metric, group in groupby(samples, key=lambda sample: sample.metric):
        if included(metric.name):
            text = "".join(
                f"{metric.name}{suffix}{label_block(pairs)} {number(value)}\n" for _, pairs, value, suffix in group
            )
            chunks.append(header(metric, openmetrics=openmetrics) + text.encode(errors=NOT_UNICODE))
    return chunks


class Writer:
    """Writes one page again and again, and keeps the lines of peers. Not thread-safe."""

    def __init__(self, included: Callable[[str], bool] = everything) -> None:
        """`included` says by its name whether a metric is wanted. It is asked once for each."""
        self._included = cache(included)
        self._tables: dict[int, _Tables] = {}

    def write(self, parts: Parts, *, openmetrics: bool) -> list[bytes]:
        """The whole body in chunks."""
        chunks: list[bytes] = []
        for place, part in enumerate(parts):
            if isinstance(part, Section):
                chunks += self._section(self._tables.setdefault(place, {}), part, openmetrics=openmetrics)
            else:
                chunks += render(part, self._included, openmetrics=openmetrics)
        if openmetrics:
            chunks.append(b"# EOF\n")
        return chunks

    def _section(self, tables: _Tables, section: Section, *, openmetrics: bool) -> list[bytes]:
        fields = [field for field in section.fields if self._included(field.metric.name)]
        before = tables.copy()
        tables.clear()
        for source in section.sources:
            key = (source.netns, source.interface, source.make)
            tables[key] = before.get(key) or Table()  # a device has peers, and others that it lacks
            tables[key].update(source, fields)
        chunks: list[bytes] = []
        for field in fields:
            blocks = [block for table in tables.values() for block in table.blocks(field.metric)]
            if blocks:
                chunks += [header(field.metric, openmetrics=openmetrics).removesuffix(b"\n"), *blocks, b"\n"]
        return chunks
