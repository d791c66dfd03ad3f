"""Tests side by side, in the lanes that `pytest -n 3` makes: most of them wait more than they work.

A module stays in one lane, for its fixtures are set up once; the longest begin first. The parts of a module that are
named in APART share nothing with the rest of it, and go wherever there is room.

Nothing here may measure time by its own clock, for the lanes keep the machine busy: what does is in the virtual
machines, which come later. Times are compared with stamps, and waiting is for events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

# Beginnings of node ids, as all below. First, in this order: what takes longest, and what waits.
LONGEST = (
    "tests/test_day.py::test_in_a_day_of_500_peers",
    "tests/test_dns_lab.py",
    "tests/test_paging",
    "tests/test_causes_lab.py",
    "tests/test_verdicts.py",
    "tests/test_faults.py",
    "tests/test_not_routed.py",
    "tests/test_watcher_truth.py",
    "tests/test_drift_lab.py",
    "tests/test_web_tls.py",
    "tests/test_quiet_lab.py",
    "tests/test_diagnose_lab.py",
    "tests/test_asking.py",
    "tests/test_prober_forged.py",
    "tests/test_prober_idents.py",
    "tests/test_dashboards_live.py",
    "tests/test_deploy_prometheus.py",
    "tests/test_page",
    "tests/test_prober_process",
    "tests/test_prober_driver",
    "tests/test_demo",
    "tests/test_serve",
)
# Busy, short and many: they fill what time is left.
LATER = ("tests/test_alerts.py::test_unit_tests_of_promtool_pass",)
APART = ("tests/test_day.py::test_in_a_day_of_500_peers", "tests/test_alerts.py::test_unit_tests_of_promtool_pass")


class Lanes(LoadScopeScheduling):
    """Hands out a module at a time, in our order."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(APART) else nodeid.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=_rank), last=False)
        super()._assign_work_unit(node)


def _rank(scope: str) -> int:
    if scope.startswith(LATER):
        return len(LONGEST) + 1
    return next((at for at, beginning in enumerate(LONGEST) if scope.startswith(beginning)), len(LONGEST))
