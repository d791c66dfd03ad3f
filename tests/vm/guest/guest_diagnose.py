"""`wg-exporter diagnose` on the kernel's own WireGuard: its private key is asked for by netlink, and what its output
filter drops it has counted.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests import diagnosing
from tests.causes_lab import SCENES
from tests.causes_world import World
from tests.initiator import initiation, party
from tests.vm.guest.build import device, sh
from wg_exporter.cli.netlab import Lab
from wg_exporter.model import Backend
from wg_exporter.reader.initiation import Opened
from wg_exporter.reader.opening import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(diagnosing, "PATIENCE", 600.0)
    sh("modprobe nf_tables")
    with Lab("causes-", tmp_path / "lab", kernel=True) as lab:
        yield World(lab)


def test_an_initiation_is_opened_with_the_key_that_the_kernel_holds() -> None:
    hub, caller = party(bytes(range(32))), party(bytes(range(1, 33)))
    device("wg0", f"[Interface]\nPrivateKey = {hub.secret}\nListenPort = 51820\n")
    now = float(int(time.time()))
    assert opened("wg0", Backend.KERNEL, [initiation(caller, hub.public_bytes, now)]) == [Opened(caller.public, now)]


def test_an_output_filter_is_named_though_the_kernel_counts_what_it_drops(world: World) -> None:
    named(world, "output_dropped")


def test_a_caller_with_a_key_that_nobody_has_is_named(world: World) -> None:
    named(world, "unknown_caller")


def test_preshared_keys_that_differ_are_named(world: World) -> None:
    named(world, "preshared_differs")


def test_a_tunnel_that_works_is_fine(world: World) -> None:
    named(world, "fine_idle")


def named(world: World, name: str) -> None:
    """What is broken in this scene is called what it is."""
    scene = next(one for one in SCENES if one.id == name)
    scene.build(world)
    said = diagnosing.diagnose(world)
    assert said.cause == scene.cause, json.dumps(said.answer, indent=1) + said.steps
