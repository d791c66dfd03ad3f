"""The lines that say how peers are: ten for each, of which hardly any changes from one scrape to the next.

One table is one device, there or gone. Its rows are the same object while no peer's health changed, and then nothing is
looked at.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from wg_exporter import catalogue as c
from wg_exporter.exposition.lines import Lines
from wg_exporter.exposition.text import NOT_UNICODE, escape, label_block
from wg_exporter.health.series import FIELDS, reason_labels
from wg_exporter.model import differences, same

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wg_exporter.catalogue import Metric
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.model import DeviceKey
    from wg_exporter.names.identity import PeerMeta


class HealthTable:
    """The rendered lines of one device's peers."""

    def __init__(self, device: DeviceKey, included: Callable[[str], bool]) -> None:
        self._netns, self._interface = device
        self._fields = tuple(field for field in FIELDS if included(field.metric.name))
        self._included = included
        self._keys: Sequence[str] = ()
        self._metas: Sequence[PeerMeta] = ()
        self._rows: Sequence[PeerHealth] = ()
        self._lines: dict[Metric, Lines] = {}
        self._reasons = b""

    def update(self, keys: Sequence[str], metas: Sequence[PeerMeta], rows: Sequence[PeerHealth]) -> None:
        """Render again what changed since the last call. The peers' keys, names and health are in one order."""
        if same(self._keys, keys) and same(self._metas, metas):
            places = differences(self._rows, rows)
        else:
            self._begin(keys, metas)
            places = list(range(len(rows)))
        self._rows = rows
        if not places:
            return
        changed = [rows[at] for at in places]
        for field in self._fields:
            self._lines[field.metric].put(places, list(chain.from_iterable(map(field.values, changed))))
        if self._included(c.PEER_REASON.name):
            self._reasons = self._rendered_reasons()

    def blocks(self, metric: Metric) -> list[bytes]:
        """All lines of a metric, in few chunks, each with the line feed before it; none if no peer has one."""
        if metric is c.PEER_REASON:
            return [self._reasons] if self._reasons else []
        return self._lines[metric].blocks() if metric in self._lines else []

    def _begin(self, keys: Sequence[str], metas: Sequence[PeerMeta]) -> None:
        self._keys, self._metas = keys, metas
        at = f'{{interface="{escape(self._interface)}",public_key='
        heads = [f'{at}"{escape(key)}",peer="{escape(meta.name)}"' for key, meta in zip(keys, metas, strict=True)]
        self._lines = {field.metric: Lines(field.metric, field.points, heads, self._netns) for field in self._fields}

    def _rendered_reasons(self) -> bytes:
        """Few peers have one, and its labels change with it, so these lines are written anew."""
        lines = []
        netns = (("netns", self._netns),) if self._netns else ()
        for key, meta, row in zip(self._keys, self._metas, self._rows, strict=True):
            if more := reason_labels(row):
                pairs = (("interface", self._interface), ("public_key", key), ("peer", meta.name), *more, *netns)
                lines.append(f"\n{c.PEER_REASON.name}{label_block(pairs)} 1")
        return "".join(lines).encode(errors=NOT_UNICODE)
