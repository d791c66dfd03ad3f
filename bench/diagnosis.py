"""Write causes.json, which docs/causes.md shows: each cause of tests/causes_lab.py made real, and what it was called by
`wg-exporter diagnose`, and by an exporter alone that runs beside it.

`python -m bench.diagnosis`. Needs root and wireguard-go; a run takes half an hour. It is made of parts that can be run
one by one (`--list`), each of which leaves what the others have written as it is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import alone
from tests.causes_lab import SCENES, Scene
from tests.causes_world import World
from tests.diagnosing import Said, diagnose
from tests.lab import lab_prefix
from wg_exporter.causes.cause import Cause
from wg_exporter.cli.netlab import Lab, LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OUTPUT = Path(__file__).with_name("causes.json")
TOGETHER = 10  # worlds with an exporter at a time
ONE_BY_ONE = 12  # scenes that are diagnosed in a part
PATIENT = {Cause.LOSSY, Cause.SLOW, Cause.MTU, Cause.NAT_FORGOT}  # of which an exporter hears later: put together

Row = dict[str, Any]


def parts() -> dict[str, tuple[Scene, ...]]:
    """The parts of a run, by name."""
    asked = [one for one in SCENES if not one.asks]
    waiting = [one for one in SCENES if one.alone or not one.cause.fault or one.cause in PATIENT or one.asks]
    quick = [one for one in SCENES if one not in waiting]
    found = dict(_cut("alone", waiting + quick, TOGETHER))
    return found | dict(_cut("diagnose", asked, ONE_BY_ONE))


def _cut(name: str, scenes: Sequence[Scene], size: int) -> Iterator[tuple[str, tuple[Scene, ...]]]:
    for number, start in enumerate(range(0, len(scenes), size), 1):
        yield f"{name}-{number}", tuple(scenes[start : start + size])


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
    return {"cause": scene.cause.value, "made": scene.words, "emulated": scene.emulated, "alone": scene.alone}


def diagnosed(said: Said) -> Row:
    """And what `diagnose` said."""
    return {"named": said.cause, "seconds": round(said.answer["elapsed_seconds"], 1)}


def watched(found: alone.Alone) -> Row:
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


def _diagnose(scenes: Sequence[Scene], *, verbose: bool) -> Iterator[tuple[Scene, Row]]:
    for scene in scenes:
        try:
            said = measure(scene)
        except (AssertionError, LabError) as error:
            print(f"{scene.id:28} NOT BUILT: {error}", flush=True)
            continue
        row = diagnosed(said)
        yield scene, row
        if verbose or not right(scene, row):
            shown = {name: value for name, value in said.answer.items() if name != "excluded"}
            print(said.steps, json.dumps(shown, indent=1), flush=True)


def _watch(scenes: Sequence[Scene]) -> Iterator[tuple[Scene, Row]]:
    with tempfile.TemporaryDirectory(prefix="wg-exporter-causes-") as name:
        found = alone.watch(scenes, Path(name))
    for scene in scenes:
        seen = found[scene.id]
        if seen.problem:
            print(f"{scene.id:28} NOT BUILT: {seen.problem}", flush=True)
            continue
        yield scene, watched(seen) | (diagnosed(seen.said) if seen.said else {})


def main() -> None:
    """Run the scenes, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.diagnosis", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the parts of a run, and end")
    parser.add_argument("--part", default="", help="these parts, by commas (default: all)")
    parser.add_argument("--only", default="", help="only scenes with one of these names, by commas")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the results go")
    parser.add_argument("--verbose", action="store_true", help="print all that was said")
    options = parser.parse_args()
    if options.list:
        print("\n".join(parts()))
        return
    names, only = options.part.split(",") if options.part else [*parts()], set(filter(None, options.only.split(",")))
    began, wrong = time.monotonic(), 0
    for name in names:
        scenes = [one for one in parts()[name] if not only or one.id in only]
        if not scenes:
            continue
        seen = _watch(scenes) if name.startswith("alone") else _diagnose(scenes, verbose=options.verbose)
        fresh: dict[str, Row] = {}
        for scene, row in seen:
            fresh[scene.id] = row
            wrong += not right(scene, row)
            what = " ".join(f"{key}={value}" for key, value in row.items())
            print(f"{scene.id:28} {what}{'' if right(scene, row) else '  WRONG'}", flush=True)
        before = json.loads(options.output.read_text()) if options.output.exists() else []
        options.output.write_text(document(fresh, before))
    rows = json.loads(options.output.read_text())
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    print(f"written: {options.output}, after {time.monotonic() - began:.0f} s; {wrong} wrong")
    if seconds:
        print(f"slowest {max(seconds):.1f} s, median {statistics.median(seconds):.1f} s, of {len(seconds)}")


if __name__ == "__main__":
    main()
