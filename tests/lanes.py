"""Tests side by side, in the lanes that `pytest -n 3` makes: most of them wait more than they work.

A module stays in one lane, for its fixtures are set up once; the longest begin first. The parts of a module that are
named in APART share nothing with the rest of it, and go wherever there is room.

What measures time must not stand beside what keeps the machine busy: tests named in ALONE come last, and each waits
until no other lane is in a test.
"""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from xdist.workermanage import WorkerController

# Beginnings of node ids, as all below. First, in this order: what takes longest, and what waits.
LONGEST = (
    "tests/test_day.py::test_in_a_day_of_500_peers",
    "tests/test_paging.py",
    "tests/test_verdicts.py",
    "tests/test_dashboards_live.py",
    "tests/test_prober_process",
    "tests/test_prober_driver",
    "tests/test_demo",
    "tests/test_serve",
)
# Busy, short and many: they fill what time is left.
LATER = ("tests/test_alerts.py::test_unit_tests_of_promtool_pass",)
APART = ("tests/test_day.py::test_in_a_day_of_500_peers", "tests/test_alerts.py::test_unit_tests_of_promtool_pass")
ALONE: tuple[str, ...] = ()
LOCK = Path(__file__)
_LAST = "alone"


class Lanes(LoadScopeScheduling):
    """Hands out a module at a time, in our order."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(ALONE):
            return _LAST
        return nodeid if nodeid.startswith(APART) else nodeid.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=_rank), last=False)
        super()._assign_work_unit(node)


def _rank(scope: str) -> int:
    if scope == _LAST:
        return len(LONGEST) + 2
    if scope.startswith(LATER):
        return len(LONGEST) + 1
    return next((at for at, beginning in enumerate(LONGEST) if scope.startswith(beginning)), len(LONGEST))


@contextlib.contextmanager
def turn(item: pytest.Item) -> Iterator[None]:
    """Where there are other lanes, waits until this test may run: beside theirs, or alone."""
    if not hasattr(item.config, "workerinput"):
        yield
        return
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if item.nodeid.startswith(ALONE) else fcntl.LOCK_SH)
        yield
