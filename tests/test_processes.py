"""What the exporter's processes cost is told as one."""

from __future__ import annotations

import gc
import mmap
import resource

import pytest
from prometheus_client.process_collector import ProcessCollector

from wg_exporter.daemon.processes import Processes
from wg_exporter.linux.usage import Meter
from wg_exporter.model import Usage


def values(*others: Usage) -> dict[str, float]:
    return {sample.metric.name: sample.value for sample in Processes().samples(others)}


def test_the_metrics_are_those_of_prometheus_client():
    gc.collect()
    families = {
        sample.name: family for family in ProcessCollector(registry=None).collect() for sample in family.samples
    }
    ours = {sample.metric.name: sample for sample in Processes().samples()}
    assert ours.keys() == families.keys()
    for name, family in families.items():
        (theirs,) = family.samples
        metric = ours[name].metric
        assert (metric.kind, metric.help, metric.labels) == (family.type, family.documentation, ())
        if name in {"process_start_time_seconds", "process_max_fds"}:
            assert ours[name].value == theirs.value
        else:
            assert ours[name].value == pytest.approx(theirs.value, rel=0.1)


def test_files_without_limit_are_infinitely_many(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert values()["process_max_fds"] == float("inf")


def test_without_proc_no_number_is_made_up(monkeypatch, tmp_path):
    monkeypatch.setattr("wg_exporter.linux.usage._SELF", tmp_path)
    assert values(Usage(1.0, 2, 3, 4)).keys() == {"process_max_fds"}


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
    fat = mmap.mmap(-1, 50 << 20)  # what was freed before would serve a bytearray, and nothing would grow
    fat.write(bytes(50 << 20))
    assert meter.read()._replace(cpu=0) == found._replace(cpu=0)
    monkeypatch.setattr("wg_exporter.linux.usage.FRESH", 0.0)
    assert meter.read().resident > found.resident + (40 << 20)
    assert meter.read().cpu > found.cpu
    fat.close()
