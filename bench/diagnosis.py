"""Write causes.json, which docs/causes.md shows: each cause of tests/causes_lab.py made real, and what it was called.

`python -m bench.diagnosis`. Needs root and wireguard-go; a run takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tests.causes_lab import SCENES, Scene, World
from tests.diagnosing import Said, diagnose
from tests.lab import lab_prefix
from wg_exporter.cli.netlab import Lab, LabError

OUTPUT = Path(__file__).with_name("causes.json")


def measure(scene: Scene) -> Said:
    """Build it, and ask."""
    with tempfile.TemporaryDirectory(prefix="wg-exporter-causes-") as name:
        return _measured(scene, Path(name))


def _measured(scene: Scene, directory: Path) -> Said:
    with Lab(lab_prefix(), directory / "lab", kernel=False) as lab:
        world = World(lab)
        scene.build(world)
        return diagnose(world)


Row = dict[str, object]


def row(scene: Scene, said: Said) -> Row:
    """What the file has of a scene."""
    return {
        "cause": scene.cause.value,
        "made": scene.words,
        "emulated": scene.emulated,
        "named": said.cause,
        "seconds": round(said.answer["elapsed_seconds"], 1),
    }


def document(fresh: dict[str, Row], before: list[Row]) -> str:
    """The text of the file: scenes in their order, those that were not measured now as they were `before`."""
    known = {(one["cause"], one["made"]): one for one in (*before, *fresh.values())}
    rows = [known[scene.cause.value, scene.words] for scene in SCENES if (scene.cause.value, scene.words) in known]
    return json.dumps(rows, indent=1) + "\n"


def main() -> None:
    """Run the scenes, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python -m bench.diagnosis", description=__doc__)
    parser.add_argument(
        "--only", default="", help="scenes with one of these names, by commas; the others stay as they were"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the results go")
    parser.add_argument("--verbose", action="store_true", help="print all that was said")
    options = parser.parse_args()
    seen: dict[str, Said] = {}
    wanted = set(options.only.split(",")) if options.only else {one.id for one in SCENES}
    for scene in (one for one in SCENES if one.id in wanted):
        try:
            said = seen[scene.id] = measure(scene)
        except (AssertionError, LabError) as error:
            print(f"{scene.id:28} NOT BUILT: {error}", flush=True)
            continue
        right = "" if said.cause in {scene.cause, *scene.also} else f"  WRONG: {said.cause}"
        print(f"{scene.id:28} {scene.cause:20} {said.answer['elapsed_seconds']:5.1f} s{right}", flush=True)
        if options.verbose or right:
            shown = {name: value for name, value in said.answer.items() if name != "excluded"}
            print(said.steps, json.dumps(shown, indent=1), flush=True)
    before = json.loads(options.output.read_text()) if options.output.exists() else []
    fresh = {scene.id: row(scene, seen[scene.id]) for scene in SCENES if scene.id in seen}
    options.output.write_text(document(fresh, before))
    print(f"written: {options.output}")
    seconds = [said.answer["elapsed_seconds"] for said in seen.values()]
    print(f"slowest {max(seconds):.1f} s, median {statistics.median(seconds):.1f} s")


if __name__ == "__main__":
    main()
