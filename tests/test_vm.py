"""The exporter on real kernels: the tests of tests/vm/guest run in virtual machines, one for each kernel.

Each test in the guest is a test here as well, so that what failed is seen by its name. The guest's pytest writes a
JUnit file to the directory that both sides share. Two machines run at a time, and nothing else beside them: they
measure time, and are slow enough as it is.
"""

from __future__ import annotations

import ast
import shlex
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.vm.harness import Vm
from tests.vm.kernels import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.vm

GUEST = Path(__file__).parent / "vm" / "guest"
KERNELS = ("6.1", "6.12")
# A story that takes minutes and hangs on no kernel is told on one, in a machine of its own.
STORIES = {"guest_paging": "6.12"}
# Files that take minutes and hang on no kernel either, but work all the while: each on one kernel, with the others.
ONCE = {"guest_causes": "6.1", "guest_drift": "6.12"}
TIMEOUT = 1500.0  # seconds; usually 750
# Plugins of pytest: each takes a second to load in there, and the guest's disk can't be written to.
NEEDLESS = ("cacheprovider", "hypothesispytest", "xdist", "xdist.looponfail")


class Boot(NamedTuple):
    """A machine: its kernel, and the files of tests that it runs."""

    series: str
    files: tuple[str, ...]


FILES = sorted(file.stem for file in GUEST.glob("guest_*.py"))
BOOTS = [  # in the order in which they begin: a story waits more than it works
    *(Boot(kernel, (file,)) for file, kernel in STORIES.items()),
    *(
        Boot(kernel, tuple(file for file in FILES if file not in STORIES and ONCE.get(file, kernel) == kernel))
        for kernel in KERNELS
    ),
]


def guest_tests(file: str) -> list[str]:
    """`file::function` of every test of a file in the guest, found without importing it."""
    return [
        f"{file}::{node.name}"
        for node in ast.parse((GUEST / f"{file}.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


class Report:
    """How the tests in one guest went: empty for those that passed, else what pytest said."""

    def __init__(self, boot: Boot, machines: list[Vm]) -> None:
        with Vm(boot.series) as vm:
            machines.append(vm)
            command = [sys.executable, "-B", "-m", "pytest", "-v", "--tb=short", "--durations=0"]
            command += [f"-pno:{plugin}" for plugin in NEEDLESS]
            command += ["-o", "python_files=guest_*.py", f"--confcutdir={GUEST}", f"--junitxml={vm.shared}/junit.xml"]
            files = [str(GUEST / f"{file}.py") for file in boot.files]
            script = f"export WG_EXPORTER_GUEST=1\n{shlex.join([*command, *files])}"
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
def reports(request: pytest.FixtureRequest) -> Iterator[dict[Boot, Future[Report]]]:
    """Of each machine whose tests were chosen; they are started in turn when the first test asks."""
    chosen = {item.callspec.params["boot"]: None for item in request.session.items if item.path == request.path}
    machines: list[Vm] = []
    with ThreadPoolExecutor(2) as pool:
        try:
            yield {boot: pool.submit(Report, boot, machines) for boot in chosen}
        finally:
            for vm in machines:
                vm.stop()


def named(value: object) -> str | None:
    return value.series if isinstance(value, Boot) else None


@pytest.mark.parametrize(
    ("boot", "name"), [(boot, name) for boot in BOOTS for file in boot.files for name in guest_tests(file)], ids=named
)
def test_in_the_guest(reports: dict[Boot, Future[Report]], boot: Boot, name: str) -> None:
    try:
        report = reports[boot].result()
    except Unavailable as reason:
        pytest.skip(str(reason))
    if name not in report.outcomes:
        pytest.fail(f"did not run on Linux {report.release}\n{report.boot}", pytrace=False)
    if report.outcomes[name]:
        pytest.fail(f"on Linux {report.release}: {report.outcomes[name]}", pytrace=False)
