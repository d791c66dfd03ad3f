"""The wire of the kernel's own WireGuard, which counts what an output filter then drops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab.paths import PORT, Path
from tests.lab.watching import Watching, rule
from tests.vm.guest.build import sh
from wg_exporter.cli.netlab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path as Directory

INITIATION = 148  # bytes
PATIENCE = 60.0  # seconds


@pytest.fixture
def path(tmp_path: Directory) -> Iterator[Path]:
    sh("modprobe nf_tables")
    with Lab("wire-", tmp_path / "lab", kernel=True) as lab:
        yield Path(lab)


def test_a_handshake_of_the_kernel_is_seen_from_end_to_end(path: Path) -> None:
    with Watching(path) as watching:
        watching.while_(lambda: path.ping(path.target()))
        watching.until(lambda: watching.row.answered, within=PATIENCE)
        assert (watching.row.initiations_sent, watching.row.responses_received) == (1, 1)


def test_what_an_output_filter_drops_is_counted_by_the_kernel_and_not_seen_leaving(path: Path) -> None:
    rule(path.a, "output", f"udp sport {PORT} drop")
    with Watching(path) as watching:
        watching.while_(lambda: path.ping(path.target()))
        watching.step(6)
        _, sent = path.near.transfer()[path.far_keys.public]
        assert sent >= INITIATION
        assert (watching.row.initiations_sent, watching.row.missed) == (0, False)


def test_a_response_that_an_input_filter_drops_is_seen_and_no_handshake_made(path: Path) -> None:
    rule(path.a, "input", f"udp dport {PORT} drop")
    with Watching(path) as watching:
        watching.while_(lambda: path.ping(path.target()))
        watching.until(lambda: watching.row.answered, within=PATIENCE)
        assert path.near.handshakes()[path.far_keys.public] == 0
