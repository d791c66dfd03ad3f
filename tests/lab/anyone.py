"""The program where every user can run it, for tests that run it as another one.

A checkout often lies in a home that its owner alone may enter, or was made under an umask that keeps others out.
There, the package and what it needs are copied to a directory that is open to all.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import wg_exporter

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
_PACKAGE = Path(wg_exporter.__file__).parent
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Anyone(NamedTuple):
    """An interpreter that any user may start, and the environment in which it finds `wg_exporter`."""

    python: str
    env: dict[str, str]


@contextlib.contextmanager
def open_to_all() -> Iterator[Anyone]:
    """Raises LookupError where the interpreter itself is out of reach for other users."""
    here = Anyone(sys.executable, {})
    if _runs(here):
        yield here
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copytree(_PACKAGE, directory / _PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "preview"))
        for file, path in _needed("wg-exporter", set()):
            if path.is_file() and ".." not in file.parts:
                (directory / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, directory / file)
        subprocess.run(["chmod", "-R", "a+rX", name], check=True)
        copy = Anyone(str(Path(sys.executable).resolve()), {"PYTHONPATH": name})
        if not _runs(copy):
            raise LookupError(f"{copy.python} can't be run by another user; make .venv from a Python that can")
        yield copy


def _runs(anyone: Anyone) -> bool:
    command = [*NOBODY, anyone.python, "-c", "import wg_exporter.cli"]
    return subprocess.run(command, cwd="/", env=anyone.env, capture_output=True, check=False).returncode == 0


def _needed(name: str, seen: set[str]) -> Iterator[tuple[Path, Path]]:
    """The files of a distribution and of those that it needs: relative to where they are imported from, and whole."""
    if name in seen:
        return
    seen.add(name)
    try:
        found = distribution(name)
    except PackageNotFoundError:  # needed on other systems or for extras
        return
    for file in found.files or ():
        yield Path(file), Path(str(file.locate()))
    for line in found.requires or ():
        match = _NAME.match(line)
        if match and "extra ==" not in line:
            yield from _needed(match[0].lower(), seen)
