"""Write causes.json, which docs/causes.md shows: each cause of tests/causes_lab.py made real, and what it was called by
`wg-exporter diagnose`, and by an exporter alone that runs beside it.

`python -m bench.diagnosis`. Needs root and wireguard-go; a run takes 20 to 30 minutes. It has parts that can be run one
by one (`--part`), each of which leaves what the others have written as it is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import alone
from tests.causes_lab import SCENES, Scene
from tests.causes_world import World
from tests.diagnosing import Said, diagnose
from tests.lab import lab_prefix
from wg_exporter.causes.cause import Cause
from wg_exporter.cli.netlab import Lab, LabError

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTPUT = Path(__file__).with_name("causes.json")
TOGETHER = 17  # worlds with an exporter at a time
PATIENT = {Cause.LOSSY, Cause.SLOW, Cause.MTU, Cause.NAT_FORGOT}  # of which an exporter hears later: put together

Row = dict[str, Any]


class Part(NamedTuple):
    """A part of a run: scenes that an exporter watches, and those that are diagnosed while it waits."""

    watched: tuple[Scene, ...]
    diagnosed: tuple[Scene, ...]


def parts(together: int = TOGETHER) -> list[Part]:
    """All parts of a run, with so many exporters at a time."""
    waiting = [one for one in SCENES if one.alone or not one.cause.fault or one.cause in PATIENT or one.asks]
    watched = waiting + [one for one in SCENES if one not in waiting]
    asked = [one for one in SCENES if not one.asks]
    number = -(-len(watched) // together)
    share = -(-len(asked) // number)
    return [
        Part(tuple(watched[at * together : (at + 1) * together]), tuple(asked[at * share : (at + 1) * share]))
        for at in range(number)
    ]


def measure(scene: Scene) -> Said:
    """Build it, and ask."""
    with tempfile.TemporaryDirectory(prefix="wg-exporter-causes-") as name:
        directory = Path(name)
        with Lab(lab_prefix(), directory / "lab", kernel=False) as lab:
            world = World(lab, watched=scene.asks)
            scene.build(world)
            return diagnose(world)


def described(scene: Scene) -> Row:
    """What the file has of a scene before anything was seen of it."""
    also = [one.value for one in scene.also]
    words = {"made": scene.words, "emulated": scene.emulated, "alone": scene.alone}
    return {"cause": scene.cause.value, "also": also} | words


def diagnosed(said: Said) -> Row:
    """And what `diagnose` said."""
    return {"named": said.cause, "seconds": round(said.answer["elapsed_seconds"], 1)}


def alone_row(found: alone.Alone) -> Row:
    """And what the exporter named, in order, with the seconds from the fault."""
    return {"exporter": [list(one) for one in found.named]}


def document(fresh: dict[str, Row], before: list[Row]) -> str:
    """The text of the file: scenes in their order, with what was seen now and, where that is nothing, `before`."""
    known = {(row["cause"], row["made"]): row for row in before}
    rows = [
        known.get((one.cause.value, one.words), {}) | described(one) | fresh.get(one.id, {})
        for one in SCENES
        if one.id in fresh or (one.cause.value, one.words) in known
    ]
    return json.dumps(rows, indent=1) + "\n"


def right(scene: Scene, row: Row) -> bool:
    """Whether what was seen of a scene is what it should be. An exporter may name nothing where it can't know."""
    names = {scene.cause.value, *(one.value for one in scene.also)}
    if "named" in row and row["named"] not in names:
        return False
    if "exporter" not in row:
        return True
    said = {cause for cause, _ in row["exporter"]}
    if not scene.cause.fault:
        return not said
    return said <= names if scene.alone else bool(said) and said <= names


class Run:
    """What was seen so far, by scene; printed as it comes."""

    def __init__(self, *, verbose: bool) -> None:
        self.seen: dict[str, Row] = {}
        self.wrong = 0
        self._verbose = verbose

    def part(self, watched: Sequence[Scene], asked: Sequence[Scene]) -> None:
        """Have these watched, and diagnose those meanwhile."""
        with tempfile.TemporaryDirectory(prefix="wg-exporter-causes-") as name:
            found = alone.watch(watched, Path(name), lambda: self._diagnose(asked))
        for scene in watched:
            seen = found[scene.id]
            if seen.problem:
                self._not_built(scene, seen.problem)
                continue
            self._take(scene, alone_row(seen))
            if seen.said is not None:
                self._take(scene, diagnosed(seen.said), seen.said)

    def _diagnose(self, scenes: Sequence[Scene]) -> None:
        for scene in scenes:
            try:
                said = measure(scene)
            except (AssertionError, LabError) as error:
                self._not_built(scene, str(error))
                continue
            self._take(scene, diagnosed(said), said)

    def _take(self, scene: Scene, row: Row, said: Said | None = None) -> None:
        self.seen[scene.id] = self.seen.get(scene.id, {}) | row
        good = right(scene, row)
        self.wrong += not good
        print(f"{scene.id:28} {' '.join(f'{key}={value}' for key, value in row.items())}{'' if good else '  WRONG'}")
        if said is not None and (self._verbose or not good):
            print(said.steps, json.dumps({name: value for name, value in said.answer.items() if name != "excluded"}))
        sys.stdout.flush()

    def _not_built(self, scene: Scene, problem: str) -> None:
        self.wrong += 1
        print(f"{scene.id:28} NOT BUILT: {problem}", flush=True)


def main() -> None:
    """Run the scenes, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.diagnosis", description=__doc__)
    parser.add_argument("--part", default="", help="only these parts, by numbers from 1 on and commas (default: all)")
    parser.add_argument("--only", default="", help="only scenes with one of these names, by commas")
    parser.add_argument("--without", default="", help="leave out `alone` or `diagnose`")
    parser.add_argument(
        "--together", type=int, default=TOGETHER, help="exporters that watch at a time (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the results go")
    parser.add_argument("--verbose", action="store_true", help="print all that was said")
    options = parser.parse_args()
    only, all_parts = set(filter(None, options.only.split(","))), parts(options.together)
    numbers = [int(one) for one in options.part.split(",")] if options.part else range(1, len(all_parts) + 1)
    began, run = time.monotonic(), Run(verbose=options.verbose)
    for number in numbers:
        print(f"part {number} of {len(all_parts)}, after {time.monotonic() - began:.0f} s", flush=True)
        watched, asked = (
            [one for one in scenes if (not only or one.id in only) and options.without != kind]
            for kind, scenes in zip(("alone", "diagnose"), all_parts[number - 1], strict=True)
        )
        run.part(watched, asked)
        before = json.loads(options.output.read_text()) if options.output.exists() else []
        options.output.write_text(document(run.seen, before))
    rows = json.loads(options.output.read_text())
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    print(f"written: {options.output}, after {time.monotonic() - began:.0f} s; {run.wrong} wrong")
    print(f"slowest {max(seconds):.1f} s, median {statistics.median(seconds):.1f} s, of {len(seconds)}")


if __name__ == "__main__":
    main()
