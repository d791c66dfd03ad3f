"""A bare Debian in a directory, for what installs things, as .ci/clean-machine makes it: with the last commit.

with machine("bookworm", tmp_path) as bare:
    bare.run("apt-get install -y --no-install-recommends ansible-core")
    bare.write("/root/vars.yml", "...")
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.surroundings import OUTSIDE, outside

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 1800.0


class Machine:
    """The directory is its root. Commands run in its checkout, as root, with the network of this machine."""

    def __init__(self, suite: str, root: Path) -> None:
        self._suite = suite
        self.root = root

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A script of sh. Fails with all that it printed, unless not to be checked."""
        done = subprocess.run(
            outside([str(ROOT / ".ci/clean-machine"), self._suite, "sh", "-ec", script]),
            env=OUTSIDE | {"CLEAN_MACHINE": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done

    def path(self, path: str) -> Path:
        """Where a path of its own is here."""
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str) -> None:
        """A file of it."""
        self.path(path).write_text(text)


@contextlib.contextmanager
def machine(suite: str, directory: Path) -> Iterator[Machine]:
    """Removed in the end. Skips without root or mmdebstrap."""
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        pytest.skip("needs root and mmdebstrap: apt-get install mmdebstrap")
    root = directory / suite
    try:
        root.mkdir(parents=True)
        bare = Machine(suite, root)
        bare.run("true")
        yield bare
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=False, timeout=TIMEOUT)
