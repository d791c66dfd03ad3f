"""The wheel and the sdist: what is in them, and that the program runs from them where nothing of the checkout is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from contextlib import contextmanager, suppress
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.metadata import Metadata

from tests.lab import eventually, free_port
from wg_exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INFO = f"wg_exporter-{__version__}.dist-info"


def build(source: Path, out: Path, *what: str) -> Path:
    """Build from a directory, without a network; the file that came out."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1769817600"}
    command = [sys.executable, "-m", "build", "--no-isolation", *what, f"--outdir={out}", str(source)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = out.iterdir()
    return path


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(_copy(tmp_path_factory), tmp_path_factory.mktemp("sdist"), "--sdist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(_copy(tmp_path_factory), tmp_path_factory.mktemp("wheel"), "--wheel")


def _copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the checkout that git knows or would add: a build leaves its own beside them."""
    directory = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes((ROOT / name).read_bytes())
    return directory


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but the wheel, and the libraries that this one has, after it on the path."""
    directory = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    python = directory / "bin/python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    [site] = directory.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(str(Path(str(distribution("click").locate_file("")))) + "\n")
    return directory / "bin"


def files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_package_with_its_data_and_the_licence_and_no_tests(wheel):
    names = set(files(wheel))
    source = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("wg_exporter/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names - source == {
        *(f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt")),
        f"{INFO}/licenses/LICENSE",
    }
    assert source - names == set()


def test_the_metadata_is_valid_and_says_what_pyproject_says(wheel):
    text = files(wheel)[f"{INFO}/METADATA"]
    found = Metadata.from_email(text, validate=True)
    assert (found.name, str(found.version)) == (PROJECT["name"], __version__)
    assert str(found.requires_python) == PROJECT["requires-python"]
    assert found.license_expression == "MIT"
    assert found.description_content_type == "text/markdown"
    needed = [str(wanted) for wanted in found.requires_dist or () if not wanted.marker]
    assert len(needed) == len(PROJECT["dependencies"])


def test_the_sdist_gives_the_same_wheel(sdist, wheel, tmp_path):
    shutil.unpack_archive(sdist, tmp_path / "source")
    again = build(next((tmp_path / "source").iterdir()), tmp_path / "again", "--wheel")
    assert files(again) == files(wheel)
    assert again.read_bytes() == wheel.read_bytes()


@contextmanager
def serving(program: Path, directory: Path) -> Iterator[str]:
    """The address where the installed program serves a host without devices."""
    config = directory / "nothing.yml"
    config.write_text("interfaces: {exclude: ['*']}\nnames: []\n")
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--web.listen-address={address}", "--web.unix-socket=", f"--config.file={config}"]
    with subprocess.Popen([program, "serve", *flags], cwd="/", env={}, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_the_program_runs_from_the_wheel(installed, tmp_path):
    program = installed / "wg-exporter"
    where = [installed / "python", "-c", "import wg_exporter; print(wg_exporter.__file__)"]
    found = subprocess.run(where, cwd="/", env={}, check=True, capture_output=True, text=True).stdout
    assert found.startswith(str(installed.parent))
    version = subprocess.run([program, "--version"], cwd="/", env={}, check=True, capture_output=True, text=True)
    assert version.stdout == f"wg-exporter, version {__version__}\n"

    def scraped() -> str | None:
        with suppress(OSError), urllib.request.urlopen(f"{address}/metrics", timeout=30) as response:
            return response.read().decode()
        return None

    with serving(program, tmp_path) as address:
        page = eventually(scraped, within=30)
    assert re.search(rf'^wireguard_exporter_build_info{{.*version="{__version__}".*}} 1$', page, re.MULTILINE)
