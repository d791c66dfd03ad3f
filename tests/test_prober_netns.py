"""Sockets in other network namespaces: why one can't be had."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wg_exporter.prober.wire.netns import Namespaces

OPEN = """
from wg_exporter.prober.wire.netns import Namespaces
try:
    Namespaces({"blue": "/proc/self/ns/net"}).open("blue", 2, 2, 0)
except OSError as error:
    print(error.errno)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to give up a capability")
def test_a_namespace_that_may_not_be_entered_is_a_lack_of_permission():
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv: no such command; apt-get install util-linux")
    command = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", OPEN]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (str(errno.EPERM), "")


@pytest.mark.parametrize("name", ["blue", "green"])
def test_a_namespace_that_is_not_there_or_not_configured_has_no_device(tmp_path, name):
    with pytest.raises(OSError, match=name) as caught:
        Namespaces({"blue": str(tmp_path / "none")}).open(name, 2, 2, 0)
    assert caught.value.errno == errno.ENODEV
