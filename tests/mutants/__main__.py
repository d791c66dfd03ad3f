"""Draw changes, try them, count: `python -m tests.mutants --seed 1 --count 60`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutants.draw import draw
from tests.mutants.judge import BrokenError, Judge
from tests.mutants.places import PLACES
from tests.mutants.report import EXPLAINED, Report, explained
from tests.mutants.trees import trees

if TYPE_CHECKING:
    from tests.mutants.judge import Outcome

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "build/mutants.md"


def main() -> int:
    """Exit code 1 if tests fail without any change."""
    names = [place.name for place in PLACES]
    parser = argparse.ArgumentParser(description="Draw changes of the program by a seed, and count those noticed.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60, help="of all places together (default 60)")
    parser.add_argument("--place", action="append", choices=names, help="only there; may be given twice")
    parser.add_argument("--only", action="append", metavar="FILE:LINE", help="of those drawn, try only these again")
    parser.add_argument("--without", action="append", default=[], metavar="FILE", help="a file of tests not to be run")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="that run at once (default 2)")
    parser.add_argument("--list", action="store_true", help="print the diffs of what is drawn, and try nothing")
    asked = parser.parse_args()
    places = [place for place in PLACES if asked.place is None or place.name in asked.place]
    shares = [len(range(number, asked.count, len(places))) for number in range(len(places))]
    mutants = [
        mutant for place, share in zip(places, shares, strict=True) for mutant in draw(ROOT, place, share, asked.seed)
    ]
    if asked.only:
        mutants = [mutant for mutant in mutants if mutant.name in asked.only]
    if asked.list:
        sys.stdout.writelines(f"{mutant.diff}\n" for mutant in mutants)
        return 0
    with trees(ROOT, asked.jobs) as copies:
        judge = Judge(copies)
        try:
            for file, seconds in judge.begin(ROOT, places, asked.without):
                _say(f"unchanged: {file} passes in {seconds:.0f} s")
        except BrokenError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        outcomes: list[Outcome] = []
        report = _write(outcomes, len(mutants), asked.seed)  # a page of an earlier run would look like one of this
        for outcome in judge.judge(mutants):
            outcomes.append(outcome)
            by = f"noticed by {outcome.by}" if outcome.by else "NOT noticed"
            _say(f"{len(outcomes)}/{len(mutants)} {outcome.mutant.name}: {by} ({outcome.seconds:.0f} s)")
            report = _write(outcomes, len(mutants), asked.seed)
    _say(f"{report.count()}\nAll of them are in {PAGE}.")
    return 0


def _write(outcomes: list[Outcome], count: int, seed: int) -> Report:
    """The page as far as it is known, for a run may be stopped after an hour."""
    report = Report(outcomes, explained(EXPLAINED.read_text()))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(report.page(f"{len(outcomes)} of {count} mutants of seed {seed}"))
    return report


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the copies are removed
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped; what is known so far is in {PAGE}\n")
        sys.exit(130)
