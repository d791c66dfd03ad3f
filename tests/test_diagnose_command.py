"""`wg-exporter diagnose` as it is called: how it ends where there is nothing to look at."""

from __future__ import annotations

import pytest

from tests.test_cli import nothing, run  # noqa: F401 - a fixture


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
