"""Write faults.json, which docs/health.md shows: how long each fault of tests/faults.py took to be named.

`python -m bench.faults`. Needs root and wireguard-go; each run takes three minutes of waiting.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tests.faults import FAULTS, Fault, Story, told
from tests.lab import lab_prefix
from wg_exporter.cli.netlab import Lab

OUTPUT = Path(__file__).with_name("faults.json")


def measure() -> Story:
    """One run."""
    with tempfile.TemporaryDirectory(prefix="wg-exporter-faults-") as name:
        directory = Path(name)
        with Lab(lab_prefix(), directory / "lab") as lab:
            return told(lab, directory)


def document(seen: dict[str, list[float]]) -> str:
    """The text of the file; `seen` has the seconds of each run by peer."""
    rows = [fault._asdict() | {"seen": [round(at, 1) for at in seen[fault.peer]]} for fault in FAULTS]
    return json.dumps(rows, indent=1) + "\n"


def named(story: Story, fault: Fault) -> float:
    """Seconds from the break to its right state, for a right reason."""
    right = {fault.reason, *fault.also}
    return next(row.at for row in story.while_broken(fault.peer) if row.state == fault.state and row.reason in right)


def main() -> None:
    """Run the story, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="how often it is told (default: %(default)s)")
    parser.add_argument("--add", action="store_true", help="add to the runs that the file has, as for a new fault")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the results go")
    options = parser.parse_args()
    before = {row["peer"]: row["seen"] for row in json.loads(options.output.read_text())} if options.add else {}
    seen: dict[str, list[float]] = {fault.peer: before.get(fault.peer, []) for fault in FAULTS}
    for run in range(options.runs):
        print(f"run {run + 1} of {options.runs}", flush=True)
        story = measure()
        for fault in FAULTS:
            seen[fault.peer].append(named(story, fault))
    options.output.write_text(document(seen))
    print(f"written: {options.output}")


if __name__ == "__main__":
    main()
