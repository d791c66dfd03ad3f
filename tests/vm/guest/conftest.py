"""What every test in the guest has: the modules loaded, an exporter to ask, and a clean kernel afterwards."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.vm.guest.build import sh

pytest.register_assert_rewrite("tests.vm.guest.serving")
from tests.vm.guest.serving import Exporter  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ATTIC = "attic"


@pytest.fixture(scope="session", autouse=True)
def in_the_guest() -> None:
    """These tests make and remove devices without asking: never let them loose on a machine that people use."""
    if os.environ.get("WG_EXPORTER_GUEST") != "1":
        pytest.exit("tests/vm/guest runs inside the virtual machine only: pytest tests/test_vm.py", returncode=2)
    sh(f"modprobe wireguard; modprobe veth; ip link set lo up; ip addr add 2001:db8::1/64 dev lo; ip netns add {ATTIC}")


@pytest.fixture(autouse=True)
def clean_kernel() -> Iterator[None]:
    """Remove every namespace, WireGuard device and veth pair that the test made.

    The kernel takes a minute to take apart a device of 2,000 peers here. Such devices are put away instead, in a
    namespace that nobody looks into.
    """
    yield
    for entry in json.loads(sh("ip -j netns list") or "[]"):
        if entry["name"] != ATTIC:
            sh(f"ip netns del {entry['name']}")
    for link in json.loads(sh("ip -j link show type wireguard") or "[]"):
        if "ifname" in link:
            name = link["ifname"]
            sh(f"ip link set {name} down; ip link set {name} netns {ATTIC} name old{link['ifindex']}")


@pytest.fixture(scope="session")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """One exporter without any configuration for all tests: nothing that one test did may be seen in the next."""
    with Exporter(tmp_path_factory.mktemp("exporter") / "log") as exporter:
        yield exporter


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log file for an exporter of the test's own."""
    return tmp_path / "log"
