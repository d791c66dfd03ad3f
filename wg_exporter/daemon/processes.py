"""The `process_*` metrics of the exporter, which cost its host what all of its processes cost: the numbers of this
process, and what the others say of themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter import process_metrics as known
from wg_exporter.exposition.parts import Sample
from wg_exporter.linux.usage import Own
from wg_exporter.model import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Processes:
    """The metrics of this process and of the others."""

    def __init__(self) -> None:
        self._own = Own()

    def samples(self, others: Iterable[Usage] = ()) -> Iterator[Sample]:
        """A sample for each metric that proc(5) tells; `others` is what the other processes have cost that run now.

        Limits and times are not summed: only those of this process are shown.
        """
        usage, started, most_files = self._own.read()
        if usage is not None:
            sums = Usage(*map(sum, zip(usage, *others, strict=True)))
            yield Sample(known.VIRTUAL_MEMORY, (), float(sums.virtual))
            yield Sample(known.RESIDENT_MEMORY, (), float(sums.resident))
            yield Sample(known.CPU_SECONDS, (), sums.cpu)
            yield Sample(known.OPEN_FDS, (), float(sums.files))
        if started is not None:
            yield Sample(known.START_TIME, (), started)
        yield Sample(known.MAX_FDS, (), most_files)
