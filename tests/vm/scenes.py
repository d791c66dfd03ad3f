"""Ask `wg-exporter diagnose` about every scene of tests/causes_lab.py with a real kernel's WireGuard at both ends:
`python -m tests.vm.scenes [SERIES ...] [SCENE ...]`, and print what each was called.

That takes half an hour for each kernel, so the tests ask about a few (guest/guest_diagnose.py).
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from tests import diagnosing
from tests.causes_lab import SCENES, Scene
from tests.causes_world import World
from tests.vm.guest.build import sh
from tests.vm.harness import Vm
from tests.vm.kernels import REPO
from wg_exporter.cli.netlab import Lab

ALL = ("6.1", "6.12")
OF_DAEMONS = frozenset({"gone_killed", "hangs", "hangs_busy"})  # scenes whose fault a device of the kernel can't have
TIMEOUT = 3600.0  # seconds


def _ask(scene: Scene, directory: Path) -> str:
    """In the guest: what a scene is called, with the evidence."""
    with Lab("scene-", directory, kernel=True) as lab:
        world = World(lab)
        try:
            scene.build(world)
            said = diagnosing.diagnose(world)
        except Exception as error:  # noqa: BLE001 - one that could not be built must not end the others
            return f"ERROR {scene.id}: {type(error).__name__} {error}"
    named = {scene.cause, *scene.also}
    verdict = "ok   " if said.cause in named else "WRONG"
    elapsed = said.answer["elapsed_seconds"]
    line = f"{verdict} {scene.id}: {said.cause} ({said.answer['confidence']}) instead of {scene.cause}, {elapsed:.1f} s"
    return line if said.cause in named else f"{line}\n{json.dumps(said.answer, indent=1)}"


def _guest(out: Path, names: list[str]) -> None:
    sh("modprobe -a wireguard veth nf_tables nf_conntrack; ip link set lo up")
    diagnosing.PATIENCE = 600.0
    for scene in SCENES:
        if scene.id not in OF_DAEMONS and (not names or scene.id in names):
            with out.open("a") as file:
                file.write(_ask(scene, Path("/tmp/scene")) + "\n")


def main(arguments: list[str]) -> None:
    """On the host: boot each kernel in turn."""
    series = [one for one in arguments if one[0].isdigit()] or ALL
    names = [one for one in arguments if not one[0].isdigit()]
    for one in series:
        with Vm(one) as vm:
            out = vm.shared / "said"
            print(f"Linux {vm.kernel.release}: {out} grows", flush=True)
            command = [sys.executable, "-m", "tests.vm.scenes", "--guest", str(out), *names]
            result = vm.run(f"export PYTHONPATH={REPO}\n{shlex.join(command)}", timeout=TIMEOUT)
            print(out.read_text() if out.exists() else "", result if result.rc else "", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--guest"]:
        _guest(Path(sys.argv[2]), sys.argv[3:])
    else:
        main(sys.argv[1:])
