"""What the exporter knows of its own processes: its capabilities, and the CPU and memory that they take.

prometheus_client's ProcessCollector, whose metric names every dashboard knows, reads the numbers of each process. They
are summed, because the exporter costs its host what all of its processes cost.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.process_collector import ProcessCollector

from wg_exporter.catalogue import Kind, Metric, Scope
from wg_exporter.exposition.parts import Sample
from wg_exporter.model import SourceName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wg_exporter.model import Outcome

# Bits of a capability set (linux/capability.h).
_NET_ADMIN, _NET_RAW, _SYS_ADMIN = 12, 13, 21

_UAPI_DIRECTORY = Path("/var/run/wireguard")

# Limits and times are not summed: only those of this process are shown.
_OWN = ("process_start_time_seconds", "process_max_fds")


class Processes:
    """The `process_*` metrics of this process and of its children."""

    def __init__(self, children: Callable[[], Sequence[int]] = tuple) -> None:
        """`children` gives the process ids of the children that run at the moment."""
        self._children = children
        self._own = ProcessCollector(registry=None)

    def samples(self) -> Iterator[Sample]:
        """A sample for each metric. A child that has just ended is left out."""
        others: dict[str, float] = {}
        for pid in self._children():
            for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                for sample in family.samples:
                    others[sample.name] = others.get(sample.name, 0.0) + sample.value
        for family in self._own.collect():
            kind = Kind.COUNTER if family.type == "counter" else Kind.GAUGE
            for sample in family.samples:
                metric = Metric(sample.name, kind, Scope.EXPORTER, tuple(sample.labels), family.documentation)
                more = 0.0 if sample.name in _OWN else others.get(sample.name, 0.0)
                yield Sample(metric, tuple(sample.labels.items()), sample.value + more)


def capabilities(outcomes: Sequence[Outcome]) -> tuple[tuple[str, bool], ...]:
    """What this process may do, as the kernel says (proc(5), CapEff) and as the sources found: (name, able)."""
    works = {outcome.source: outcome.success for outcome in outcomes if not outcome.netns}
    uapi = works.get(SourceName.USERSPACE, False) and (os.geteuid() == 0 or os.access(_UAPI_DIRECTORY, os.R_OK))
    found = (("uapi", uapi), ("conf_read", works.get(SourceName.CONF, False)))
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    except (OSError, StopIteration):  # without /proc nobody knows, so they are absent
        return found
    return (
        ("net_admin", bool(effective >> _NET_ADMIN & 1)),
        ("net_raw", bool(effective >> _NET_RAW & 1)),
        *found,
        ("netns", bool(effective >> _SYS_ADMIN & 1)),
    )
