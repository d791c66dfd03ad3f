"""The harness of the virtual machine, without booting one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: a namespace of processes needs it")
def test_a_guest_and_all_that_carries_it_end_with_us_even_if_we_are_killed() -> None:
    program = """
        import subprocess
        from tests.vm.harness import TOGETHER
        subprocess.Popen([*TOGETHER, "sh", "-c", "sleep 30 & echo up; wait"], start_new_session=True).wait()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE
    ) as ours:
        assert ours.stdout
        assert ours.stdout.readline() == b"up\n"
        ours.kill()
        ours.communicate(timeout=60)  # to the end: nobody holds the pipe any more
