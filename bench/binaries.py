"""The other exporters: from a path that is given, from PATH, or built here where Cargo is at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NamedTuple

from tests.vm.kernels import REPO

CACHE = REPO / ".cache" / "bench"


class Other(NamedTuple):
    """Another exporter: how to get its binary and how to start it. PORT stands for its port.

    `build` is the command that builds it into the cache; empty where none works from here.
    """

    name: str
    binary: str
    variable: str
    build: tuple[str, ...]
    arguments: tuple[str, ...]


OTHERS = (
    Other(
        "mdlayher",
        "wireguard_exporter",
        "WG_BENCH_MDLAYHER",
        (),
        ("-metrics.addr", "127.0.0.1:PORT"),
    ),
    Other(
        "MindFlavor",
        "prometheus_wireguard_exporter",
        "WG_BENCH_MINDFLAVOR",
        ("cargo", "install", "--quiet", "--root", str(CACHE), "prometheus_wireguard_exporter"),
        ("-l", "127.0.0.1", "-p", "PORT"),
    ),
)


def find(other: Other) -> tuple[list[str], str]:
    """The command that starts it, or an empty one and the reason in one line."""
    given = os.environ.get(other.variable)
    at_hand = given or shutil.which(other.binary) or str(CACHE / "bin" / other.binary)
    if not os.access(at_hand, os.X_OK):
        if given:
            return [], f"{given} is no program"
        if reason := _build(other):
            return [], reason
        at_hand = str(CACHE / "bin" / other.binary)
    return [at_hand, *other.arguments], ""


def _build(other: Other) -> str:
    """Empty if the binary is now in the cache."""
    if not other.build:
        return f"give a path: make bench {other.variable.removeprefix('WG_BENCH_')}=/path/to/{other.binary}"
    if shutil.which(other.build[0]) is None:
        return f"not on PATH, and no {other.build[0]} to build it"
    print(f"building {other.name}: {' '.join(other.build[:2])} ...", flush=True)
    try:
        done = subprocess.run(other.build, capture_output=True, text=True, timeout=900, check=False)
    except subprocess.TimeoutExpired:
        return f"`{' '.join(other.build[:2])}` took more than 15 minutes"
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"`{' '.join(other.build[:2])}` failed: {last.replace(str(REPO), '.')[:200]}"
    return ""
