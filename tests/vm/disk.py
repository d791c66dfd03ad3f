"""A disk with the files that a guest reads most: Python's library, what is installed, the project.

A guest sees the host's files over 9p, which keeps nothing in memory: each look at a file is a question to the host, and
to import the exporter took 12 s of which 7 were such questions.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

from tests.vm.kernels import REPO

SIZE = "2G"  # of which only what is used takes room
MOUNTED = "/run/disk"


def places() -> list[Path]:
    """The directories that are on the disk."""
    return [REPO / "wg_exporter", REPO / "tests", *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))]


def make(directory: Path) -> Path:
    """Make the disk's image in this directory."""
    image, stage = directory / "disk.img", directory / "disk"
    stage.mkdir()
    for number, place in enumerate(places()):
        subprocess.run(["cp", "-a", "--reflink=auto", str(place), str(stage / str(number))], check=True, timeout=120)
    command = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(stage), str(image), SIZE]
    subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)
    shutil.rmtree(stage)
    return image


def mounting(image: Path) -> str:
    """The commands by which a guest has the directories from this image, where they are on the host."""
    lines = [
        "set -e",
        "modprobe -a loop ext4",
        f"mkdir -p {MOUNTED}",
        f"mount -o ro,loop {shlex.quote(str(image))} {MOUNTED}",
        *(f"mount --bind {MOUNTED}/{n} {shlex.quote(str(place))}" for n, place in enumerate(places())),
        "set +e",
    ]
    return "\n".join(lines)
