"""`wg-exporter diagnose` as it is called: how it ends where there is nothing to look at, and that it can do with less than
all rights."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.test_cli import ENVIRONMENT, ROOT, nothing, run  # noqa: F401 - a fixture


@pytest.mark.parametrize(
    "arguments",
    [["diagnose"], ["diagnose", "a", "b", "c"], ["diagnose", "--nope", "a"], ["diagnose", "a", "--pcap", "."]],
)
def test_wrong_usage_exits_with_2(arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err


def test_a_configuration_that_cannot_be_used_exits_with_2_before_anything_is_opened(tmp_path):
    code, out, err = run("diagnose", "a", f"--config.file={tmp_path / 'none.yml'}")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_nothing_to_look_at_is_one_line_and_exit_code_2(nothing, more):  # noqa: F811
    code, out, err = run("diagnose", "paris", "--socket=", f"--config.file={nothing}", *more)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("Error: no")


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: nobody's rights can be taken away")
def test_without_any_right_one_line_says_what_it_needs():
    program = [sys.executable, "-m", "wg_exporter.cli", "diagnose", "paris", "--socket="]
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_raw,-net_admin", "--inh-caps=-all", *program],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert "CAP_NET_ADMIN" in line
    assert line.endswith("run: sudo wg-exporter diagnose")
