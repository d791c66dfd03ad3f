"""Run the whole benchmark and write RESULTS.md: `make bench`."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from bench import probes, scrapes, serving, sizes
from bench.binaries import CACHE, OTHERS, find
from bench.guest import ALONE, BEFORE, COMPAT, OURS
from bench.native import soak, starts
from bench.report import render
from tests.vm.harness import Vm
from tests.vm.kernels import Unavailable

HERE = Path(__file__).parent
VM_LIMIT = 7200  # seconds: 10,000 peers take between 10 and 60 minutes, by machine


def main() -> None:
    """Exit 2 with one line if the virtual machine can't be had, 1 if a measurement failed."""
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--sizes", default="100,1000,10000", help="numbers of peers (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each load (default: %(default)s)")
    parser.add_argument("--kernel", default="6.1", help="series of Debian's kernel (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="no long memory tests")
    parser.add_argument("--before", type=Path, help="a checkout of an older version, made ready: is measured beside")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md", help="where the results go")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench/run: stopped"))  # so that what was made is removed

    figures: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _cpu(),
        "host_python": platform.python_version(),
        "rounds": options.rounds,
        "missing": {},
    }
    serve = [sys.executable, "-m", "wg_exporter.cli", "serve", "--web.listen-address=127.0.0.1:PORT", "--storage.path="]
    ours = [*serve, "--config.file=CONFIG"]
    contestants = {OURS: ours, ALONE: [*ours, "--no-privsep"], COMPAT: ours}
    if options.before:
        flags = [word for word in ours[3:] if word != "--storage.path="]  # which it may not know
        contestants[BEFORE] = [str(options.before.resolve() / ".venv/bin/wg-exporter"), *flags]
    for other in OTHERS:
        command, reason = find(other)
        if command:
            contestants[other.name] = command
        else:
            figures["missing"][other.name] = reason
    print("native: starts, memory", flush=True)
    figures["starts"], figures["idle_rss"] = starts()
    figures["probes"] = probes.measure()
    figures["mtu"] = sizes.measure()
    figures["serving"] = serving.measure()
    figures["scrapes"] = scrapes.measure()
    figures["native_soak"] = "left out (--quick)" if options.quick else soak(10_000, 1000)
    plan = {
        "sizes": [int(size) for size in options.sizes.split(",")],
        "rounds": options.rounds,
        "contestants": contestants,
        "probing": [*serve, "--config.file=PROBING"],
        "soak": {} if options.quick else {"10000": 200},
    }
    print("in the virtual machine: 15 to 75 minutes for all sizes", flush=True)
    try:
        figures |= measure(options.kernel, plan)
    except Unavailable as reason:
        sys.exit(f"bench/run: {reason}")
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "figures.json").write_text(json.dumps(figures))
    options.output.write_text(render(figures))
    print(f"written: {options.output}")


def measure(series: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Everything that is measured in the virtual machine. Raises Unavailable, or exits with what went wrong there."""
    with Vm(series, memory="3G", cpus=2) as vm:
        (vm.shared / "plan.json").write_text(json.dumps(plan))
        command = [sys.executable, "-m", "bench.guest", f"{vm.shared}/plan.json", f"{vm.shared}/result.json"]
        done = vm.run(shlex.join(command), timeout=VM_LIMIT)
        print(done.out, end="")
        if done.rc != 0:
            logs = "".join(f"{log.name}: {log.read_text()[-500:]}\n" for log in vm.shared.glob("*.log"))
            sys.exit(f"bench/run: {done}\n{logs}")
        result: dict[str, Any] = json.loads((vm.shared / "result.json").read_text())
        return result


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
