"""What the exporter's processes cost is told as one."""

from __future__ import annotations

import gc

from wg_exporter.daemon.processes import Processes
from wg_exporter.linux.usage import Meter
from wg_exporter.model import Usage


def values(*others: Usage) -> dict[str, float]:
    return {sample.metric.name: sample.value for sample in Processes().samples(others)}


def test_memory_and_cpu_of_other_processes_are_added_and_limits_and_start_times_are_not():
    gc.collect()
    alone, together = values(), values(Usage(1000.0, 1 << 40, 2 << 40, 3000), Usage(24.0, 0, 0, 4))
    assert 1023.9 <= together["process_cpu_seconds_total"] - alone["process_cpu_seconds_total"] < 1025
    assert together["process_resident_memory_bytes"] - alone["process_resident_memory_bytes"] > (1 << 40) - (50 << 20)
    assert together["process_virtual_memory_bytes"] - alone["process_virtual_memory_bytes"] > (2 << 40) - (50 << 20)
    assert together["process_open_fds"] == alone["process_open_fds"] + 3004
    for name in ("process_max_fds", "process_start_time_seconds"):
        assert together[name] == alone[name]


def test_a_process_measures_itself_as_others_see_it_and_not_at_every_look(monkeypatch):
    seen, meter = values(), Meter()
    found = meter.read()
    assert found.cpu >= seen["process_cpu_seconds_total"] > 0
    assert 0.3 < found.resident / seen["process_resident_memory_bytes"] < 1.2
    assert abs(found.virtual - seen["process_virtual_memory_bytes"]) < 20 << 20
    assert abs(found.files - seen["process_open_fds"]) <= 2
    monkeypatch.setattr("wg_exporter.linux.usage.FRESH", 1000.0)
    fat = bytearray(50 << 20)
    assert meter.read()._replace(cpu=0) == found._replace(cpu=0)
    monkeypatch.setattr("wg_exporter.linux.usage.FRESH", 0.0)
    assert meter.read().resident > found.resident + (40 << 20)
    assert meter.read().cpu > found.cpu
    del fat
