"""The `process_*` metrics. Names, types and helps are those of prometheus_client's ProcessCollector, which every
dashboard knows. The collector itself is not used: importing it costs 3 MB, for the HTTP servers that come with it.
"""

from __future__ import annotations

from wg_exporter.metric import Kind, Metric, Scope


def _metric(name: str, help_text: str, kind: Kind = Kind.GAUGE) -> Metric:
    return Metric(name, kind, Scope.EXPORTER, (), help_text)


VIRTUAL_MEMORY = _metric("process_virtual_memory_bytes", "Virtual memory size in bytes.")
RESIDENT_MEMORY = _metric("process_resident_memory_bytes", "Resident memory size in bytes.")
START_TIME = _metric("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
CPU_SECONDS = _metric("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", Kind.COUNTER)
OPEN_FDS = _metric("process_open_fds", "Number of open file descriptors.")
MAX_FDS = _metric("process_max_fds", "Maximum number of open file descriptors.")

PROCESS_METRICS = (VIRTUAL_MEMORY, RESIDENT_MEMORY, START_TIME, CPU_SECONDS, OPEN_FDS, MAX_FDS)
