"""The alert rules with the promtool of Prometheus 3, which reads selectors and ranges otherwise than 2 does.

Debian 12 has none, so Go builds it, once: that takes minutes.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.promtool import ROOT, RULES, UNIT_TESTS, unit_test
from tests.surroundings import OUTSIDE, outside

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.prometheus]

MODULE = "github.com/prometheus/prometheus"
VERSION = "v0.305.0"  # of the module; the release is 3.5.0, one with long support
BUILD_TIMEOUT = 1800.0


@pytest.fixture(scope="module")
def promtool3() -> Path:
    directory = ROOT / ".cache" / "promtool" / VERSION
    built = directory / "promtool"
    if not built.exists():
        if not shutil.which("go"):
            pytest.skip("go: no such command; apt-get install golang")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        # Not `go install`, which refuses a module that replaces some of those that it needs.
        for arguments in (
            ["mod", "init", "promtool3"],
            ["get", f"{MODULE}/cmd/promtool@{VERSION}"],
            ["build", f"{MODULE}/cmd/promtool"],
        ):
            subprocess.run(outside(["go", *arguments]), cwd=directory, env=OUTSIDE, check=True, timeout=BUILD_TIMEOUT)
    return built


def test_it_loads_the_rules(promtool3: Path) -> None:
    done = subprocess.run([promtool3, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_unit_tests_pass_with_it_too(promtool3: Path, path: Path, tmp_path: Path) -> None:
    command = [promtool3, "test", "rules", unit_test(path, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
