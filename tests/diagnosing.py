"""`wg-exporter diagnose` in a world of tests/causes_lab.py: what it said, how long it took, and what the host was like
before and after.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.causes_world import OWN_HOSTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.causes_world import World
    from tests.lab import Namespace

PATIENCE = 60.0  # seconds on a busy machine; it ends by itself within 20


class Said(NamedTuple):
    """What it said. `seconds` is how long the whole command took, `steps` are the lines of its progress."""

    code: int
    answer: Mapping[str, Any]
    seconds: float
    steps: str

    @property
    def cause(self) -> str:
        return str(self.answer["cause"])


def command(world: World, *arguments: str) -> list[str]:
    """The command line, from the near host, with its own /etc/hosts, and with the exporter that runs there, if any."""
    config, socket = world.asks or world.lab.write("diagnose.yml", world.exporter_config()), world.socket
    hosts = world.hosts_file()
    argv = [sys.executable, "-m", "wg_exporter.cli", "diagnose", f"--config.file={config}", f"--socket={socket}"]
    return world.here.inside(
        ["env", f"HOSTS={hosts}", "unshare", "-m", "sh", "-c", OWN_HOSTS, "sh", *argv, *arguments, world.name, "there"]
    )


def diagnose(world: World, *arguments: str) -> Said:
    """Ask, and wait for the answer as JSON."""
    began = time.monotonic()
    done = subprocess.run(
        command(world, "--json", *arguments),
        capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = time.monotonic() - began
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    return Said(done.returncode, json.loads(done.stdout), seconds, done.stderr)


def traces(namespace: Namespace) -> dict[str, str]:
    """All of a host that a diagnosis could have left behind."""
    looks = {
        "links": ["ip", "-o", "link", "show"],
        "addresses": ["ip", "-o", "address", "show"],
        "routes": ["ip", "route", "show", "table", "all"],
        "routes of IPv6": ["ip", "-6", "route", "show", "table", "all"],
        "route exceptions": ["ip", "route", "show", "cache"],
        "rules": ["ip", "rule", "show"],
        "nft": ["nft", "-s", "list", "ruleset"],
        "sysctl": ["sysctl", "-a", "-r", "^net\\."],
        "udp": ["cat", "/proc/net/udp", "/proc/net/udp6"],
        "raw": ["cat", "/proc/net/raw", "/proc/net/raw6"],
        "packet": ["cat", "/proc/net/packet"],
        "control sockets": ["sh", "-c", f"ls -d /var/run/wireguard/{namespace.lab.prefix}*"],
        "namespaces": ["sh", "-c", f"ls -d /run/netns/{namespace.lab.prefix}*"],
    }
    return {f"{namespace.short}: {what}": _calm(namespace.run(argv)) for what, argv in looks.items()}


def _calm(text: str) -> str:
    """Without what moves by itself: counters, and the connections that are tracked."""
    lines = [line for line in text.splitlines() if "conntrack_count" not in line]
    return "\n".join(" ".join(line.split()[:4]) if line.lstrip()[:1].isdigit() else line for line in lines)


def kept(directory: Path) -> dict[str, bytes]:
    """The files of a directory."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}
