"""What `serve` imports once it runs: of the libraries, only those that every host needs, in all of its processes.

bench/dependencies.py says what each of them costs. The interpreter itself tells of every import, also in processes that
are forked, and of those that are made long after the start.
"""

from __future__ import annotations

import os
import re
import signal
import time
import tomllib
from pathlib import Path

import pytest

from tests.lab import eventually, start_exporter
from wg_exporter.linux.privileges import readable_by_all
from wg_exporter.web.docs import Docs

ROOT = Path(__file__).parents[1]
MODULES = {
    "markdown-it-py": "markdown_it",
    "prometheus-client": "prometheus_client",
    "pyyaml": "yaml",
}  # where a library has another name in code
NEEDED = {"bcrypt", "click", "h11", "isal", "msgspec", "yaml"}
PATHS = ("/metrics", "/metrics/mindflavor", "/metrics/mdlayher", "/", "/api/v1/status", "/-/ready")


def libraries() -> set[str]:
    """The packages that pyproject.toml names, as they are imported, and those that come with them."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split("[^a-z0-9-]", line)[0] for line in lines}
    return {MODULES.get(name, name) for name in names} | {"pygments", "_cffi_backend"}


def imported(log: str) -> set[str]:
    """The packages in what -X importtime wrote."""
    return set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\w+)", log, re.MULTILINE))


@pytest.mark.parametrize("flags", [[], ["--no-privsep"]], ids=["as-processes", "as-one-process"])
def test_serve_imports_no_library_that_only_some_hosts_or_commands_need(tmp_path, flags):
    config = "interfaces: {exclude: ['*']}\nnames: []\n"
    environment = {"PYTHONPROFILEIMPORTTIME": "1"}
    with start_exporter(*flags, directory=tmp_path, config=config, env=environment) as exporter:
        for path in PATHS:
            assert exporter.get(path).status == 200
        exporter.process.send_signal(signal.SIGHUP)
        eventually(lambda: "configuration" in re.sub(r"(?m)^import time:.*\n", "", exporter.log()), within=30)
        time.sleep(6)  # a tick, which comes every 5 s
        for path in PATHS:
            assert exporter.get(path).status == 200
    found = imported(exporter.log())
    assert "wg_exporter" in found
    apart = os.geteuid() == 0 and not flags
    if apart:
        assert "wg_exporter.supervisor" in exporter.log()
    # Where others can't read the checkout, as below a home of mode 0700, web takes it along before it has no right.
    early = set() if not apart or all(map(readable_by_all, Docs.needs())) else {"markdown_it"}
    assert found & libraries() == NEEDED | early


def test_the_benchmark_of_libraries_has_all_of_them():
    from bench.dependencies import USES

    assert {MODULES.get(name, name) for name in USES} == libraries() - {"pygments", "_cffi_backend"}
