"""Hours of an exporter's life in minutes: see soak.py. `make soak` chooses how long, and by which seed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.soak import Held, grown, soak

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

SECONDS, SEED = float(os.environ.get("SOAK_SECONDS", "1200")), int(os.environ.get("SOAK_SEED", "1"))


@pytest.mark.lab
def test_whatever_happens_everything_is_right_again(lab: Lab, tmp_path: Path) -> None:
    """All of it once, in a minute."""
    assert list(soak(lab, tmp_path, 1.0, seed=1)) == []


@pytest.mark.slow
@pytest.mark.lab
def test_whatever_happens_for_a_long_time_nothing_leaks(lab: Lab, tmp_path: Path) -> None:
    assert list(soak(lab, tmp_path, SECONDS, SEED)) == []


def test_what_grows_is_told() -> None:
    flat = [Held(60.0, 90, 20)] * 12
    assert grown(flat) == []
    assert grown(flat[:8] + [Held(95.0, 90, 20)] * 4) == ["memory from 60 to 95"]
    assert grown(flat[:8] + [Held(60.0, 99, 24)] * 4) == ["files from 90 to 99", "threads from 20 to 24"]
