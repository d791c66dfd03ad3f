"""The demo's outages: whatever is cut is healed again."""

from __future__ import annotations

import threading

from wg_exporter.cli.demo import outages
from wg_exporter.cli.demo.outages import Outages


def test_a_cut_is_healed_though_nobody_reads_what_the_demo_prints(monkeypatch):
    for name in ("FIRST_AFTER", "LASTS"):
        monkeypatch.setattr(outages, name, 0.0)
    cut, healed = threading.Event(), threading.Event()

    def tell(_line):
        raise BrokenPipeError

    schedule = Outages(cut.set, healed.set, tell)
    schedule.start()
    try:
        assert healed.wait(30)
        assert cut.is_set()
    finally:
        schedule.stop()
