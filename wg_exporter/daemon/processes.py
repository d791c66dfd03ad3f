"""The `process_*` metrics of the exporter, which cost its host what all of its processes cost.

prometheus_client's ProcessCollector, whose metric names every dashboard knows, reads the numbers of this process. What
the others say of themselves is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.process_collector import ProcessCollector

from wg_exporter.exposition.parts import Sample
from wg_exporter.metric import Kind, Metric, Scope
from wg_exporter.model import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Limits and times are not summed: only those of this process are shown.
_SUMMED = {
    "process_cpu_seconds_total": "cpu",
    "process_resident_memory_bytes": "resident",
    "process_virtual_memory_bytes": "virtual",
    "process_open_fds": "files",
}


class Processes:
    """The metrics of this process and of the others."""

    def __init__(self) -> None:
        self._own = ProcessCollector(registry=None)

    def samples(self, others: Iterable[Usage] = ()) -> Iterator[Sample]:
        """A sample for each metric; `others` is what the other processes have cost that run at the moment."""
        sums = Usage(*map(sum, zip(Usage(), *others, strict=True)))
        for family in self._own.collect():
            kind = Kind.COUNTER if family.type == "counter" else Kind.GAUGE
            for sample in family.samples:
                metric = Metric(sample.name, kind, Scope.EXPORTER, tuple(sample.labels), family.documentation)
                more = getattr(sums, _SUMMED[sample.name]) if sample.name in _SUMMED else 0.0
                yield Sample(metric, tuple(sample.labels.items()), sample.value + more)
