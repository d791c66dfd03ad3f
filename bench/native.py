"""Outside the virtual machine, at the machine's own speed: how long a start takes, and memory over 1,000 scrapes.

The memory test reads 10,000 peers of a wireguard-go device in a network namespace of its own; nothing leaves it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contestants import get, memory

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE, DEVICE = "wg-exporter-bench", "wgxbench"
SOCKET = Path(f"/var/run/wireguard/{DEVICE}.sock")

# Peers whose state did not change for 30 s have the one that they keep: the slowest rule looks at about that long.
STEADY, STEADY_WITHIN = 30.0, 300.0  # seconds
_STATE = re.compile(rb'^wireguard_peer_state\{.*state="(\w+)".*\} 1$', re.MULTILINE)


@contextmanager
def _serving() -> Iterator[tuple[int, int, float]]:
    """Our exporter: its port, its pid, and when it was started (perf_counter)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "wg_exporter.cli", "serve", f"--web.listen-address=127.0.0.1:{port}"]
    command.append("--storage.path=")
    start = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield port, process.pid, start
        finally:
            process.terminate()


def _first_scrape(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        body: list[bytes] = []
        with contextlib.suppress(ConnectionRefusedError):
            get(port, keep=body)
            if b'wireguard_exporter_source_success{source="kernel"} 1' in b"".join(body):
                return
        time.sleep(0.005)
    raise TimeoutError("no good scrape within 30 s of the start")


def _until_states_are_steady(port: int, peers: int) -> None:
    """Every peer has a state, and none has had another for a while. Raises TimeoutError."""
    last, since = Counter[bytes](), time.monotonic()
    deadline = since + STEADY_WITHIN
    while time.monotonic() < deadline:
        body: list[bytes] = []
        get(port, keep=body)
        now = Counter(_STATE.findall(b"".join(body)))
        if now != last:
            last, since = now, time.monotonic()
        if now.total() == peers and time.monotonic() > since + STEADY:
            return
        time.sleep(1)
    raise TimeoutError(f"the states of peers did not settle within {STEADY_WITHIN:g} s: {dict(last)}")


def _pss(pid: int) -> int:
    """KiB of a process and its children; what they share counts once."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(memory(process) for process in (pid, *map(int, children)))


def starts(times: int = 9) -> tuple[list[float], int]:
    """Seconds from the start to the end of the first good scrape, and PSS in KiB after that, idle for a while."""
    took, rss = [], 0
    for n in range(times + 1):
        with _serving() as (port, pid, start):
            _first_scrape(port)
            took.append(time.perf_counter() - start)
            if n == times:
                time.sleep(6)  # longer than a background tick
                for _ in range(20):
                    get(port)
                rss = _pss(pid)
    return took[1:], rss  # the first start reads the disk and may compile the sources


def soak(peers: int, scrapes: int) -> list[int] | str:
    """PSS in KiB, ten times over this number of scrapes of userspace peers; or why not, in one line.

    Nobody answers these peers, so they become `down`, and a page that says why is larger. It is waited for that first.
    """
    missing = [tool for tool in ("wireguard-go", "wg", "ip") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing or not Path("/dev/net/tun").exists():
        return f"needs root and /dev/net/tun; missing programs: {', '.join(missing) or 'none'}"
    with userspace_device(peers), _serving() as (port, pid, _):
        _first_scrape(port)
        _until_states_are_steady(port, peers)
        seen = []
        for n in range(scrapes):
            get(port, gzip=n % 2 == 1)
            if (n + 1) % (scrapes // 10) == 0:
                seen.append(_pss(pid))
        return seen


@contextmanager
def userspace_device(peers: int) -> Iterator[None]:
    """A device `DEVICE` of wireguard-go with so many peers, of which none answers."""
    _clean()
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    command = ["ip", "netns", "exec", NAMESPACE, "wireguard-go", "-f", DEVICE]
    try:
        nothing = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing) as go:
            try:
                deadline = time.monotonic() + 10
                while not SOCKET.exists() and time.monotonic() < deadline:
                    time.sleep(0.02)
                subprocess.run(["wg", "setconf", DEVICE, "/dev/stdin"], input=_conf(peers), text=True, check=True)
                yield
            finally:
                go.terminate()
    finally:
        _clean()


def _clean() -> None:
    """Remove what this run made, or what an earlier one left that was killed."""
    if Path(f"/run/netns/{NAMESPACE}").exists():
        inside = subprocess.run(["ip", "netns", "pids", NAMESPACE], check=True, capture_output=True, text=True).stdout
        for pid in inside.split():
            os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True)
    SOCKET.unlink(missing_ok=True)


def _conf(peers: int) -> str:
    source = random.Random(peers)

    def key() -> str:
        return base64.b64encode(source.randbytes(32)).decode()

    return f"[Interface]\nPrivateKey = {key()}\n" + "".join(
        f"[Peer]\nPublicKey = {key()}\nEndpoint = 198.51.100.{n % 250}:{1 + n}\nPersistentKeepalive = 25\n"
        f"AllowedIPs = 10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32, fd00::{n:x}/128\n"
        for n in range(peers)
    )
