"""The exporter on real kernels: the tests of tests/vm/guest run in a virtual machine, one boot for each kernel.

Each test in the guest is a test here as well, so that what failed is seen by its name. The guest's pytest writes a
JUnit file to the directory that both sides share.
"""

from __future__ import annotations

import ast
import shlex
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.vm.harness import Vm
from tests.vm.kernels import Unavailable

pytestmark = pytest.mark.vm

GUEST = Path(__file__).parent / "vm" / "guest"
KERNELS = ("6.1", "6.12")
# A story that takes minutes and hangs on no kernel is told on one.
ONCE = {"guest_paging": "6.12"}
TIMEOUT = 900.0  # seconds; usually 280, with the story 450


def guest_tests() -> list[str]:
    """`file::function` of every test in the guest, found without importing them."""
    return [
        f"{file.stem}::{node.name}"
        for file in sorted(GUEST.glob("guest_*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


class Report:
    """How the tests in one guest went: empty for those that passed, else what pytest said."""

    def __init__(self, series: str) -> None:
        with Vm(series) as vm:
            command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
            command += [f"--ignore={GUEST / file}.py" for file, kernel in ONCE.items() if kernel != series]
            command += ["-o", "python_files=guest_*.py", f"--confcutdir={GUEST}", f"--junitxml={vm.shared}/junit.xml"]
            script = f"export WG_EXPORTER_GUEST=1\n{shlex.join([*command, str(GUEST)])}"
            self.boot = vm.run(script, timeout=TIMEOUT)
            self.release = vm.kernel.release
            junit = vm.shared / "junit.xml"
            cases = ET.parse(junit).iter("testcase") if junit.exists() else ()
            self.outcomes = {f"{_file(case)}::{case.get('name')}": _complaint(case) for case in cases}


def _file(case: ET.Element) -> str:
    return case.get("classname", "").rpartition(".")[2]


def _complaint(case: ET.Element) -> str:
    bad = [kind for kind in case if kind.tag in ("failure", "error", "skipped")]
    return "\n".join(f"{kind.tag}: {kind.get('message')}\n{kind.text}" for kind in bad)


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    """One boot for each kernel, shared by all its tests; filled when the first of them asks."""
    return {}


@pytest.mark.parametrize(
    ("series", "name"),
    [(kernel, name) for kernel in KERNELS for name in guest_tests() if ONCE.get(name.split("::")[0], kernel) == kernel],
)
def test_in_the_guest(reports: dict[str, Report], series: str, name: str) -> None:
    if series not in reports:
        try:
            reports[series] = Report(series)
        except Unavailable as reason:
            pytest.skip(str(reason))
    report = reports[series]
    if name not in report.outcomes:
        pytest.fail(f"did not run on Linux {report.release}\n{report.boot}", pytrace=False)
    if report.outcomes[name]:
        pytest.fail(f"on Linux {report.release}: {report.outcomes[name]}", pytrace=False)
