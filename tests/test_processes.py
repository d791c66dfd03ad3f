"""What the exporter's processes cost is told as one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wg_exporter.daemon.processes import Processes


@pytest.fixture
def child():
    code = "fat = bytearray(50 << 20)\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def values(processes: Processes) -> dict[str, float]:
    return {sample.metric.name: sample.value for sample in processes.samples()}


def test_memory_and_cpu_of_children_are_added_and_limits_and_start_times_are_not(child):
    alone, together = values(Processes()), values(Processes(lambda: [child.pid]))
    assert together["process_resident_memory_bytes"] - alone["process_resident_memory_bytes"] > 50 << 20
    assert together["process_cpu_seconds_total"] > alone["process_cpu_seconds_total"]
    assert together["process_open_fds"] >= alone["process_open_fds"] + 3
    for name in ("process_max_fds", "process_start_time_seconds"):
        assert together[name] == alone[name]


def test_a_child_that_is_gone_counts_nothing(child):
    child.kill()
    child.wait()
    alone, together = values(Processes()), values(Processes(lambda: [child.pid]))
    assert together.keys() == alone.keys()
    assert abs(together["process_resident_memory_bytes"] - alone["process_resident_memory_bytes"]) < 20 << 20
