"""What tests build real things with: namespaces with WireGuard in them, and an exporter process to ask.

    def test_something(lab):                       # the fixture of tests/conftest.py
        a, b = lab.namespace("a"), lab.namespace("b")
        lab.link(a, b, "192.0.2.1/30", "192.0.2.2/30")
        ...
        with start_exporter("--log.level=debug", config="names: []\n", directory=tmp_path) as exporter:
            assert exporter.get("/metrics").status == 200

The building blocks are those of the demo, `wg_exporter.cli.netlab`; here is what only tests want.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from wg_exporter.cli.netlab import NAMESPACES, SOCKETS, Keys, Lab, LabError, Namespace, WireGuard, keypair, missing
from wg_exporter.cli.netlab.processes import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "MARK",
    "SOCKETS",
    "Answer",
    "Exporter",
    "Keys",
    "Lab",
    "LabError",
    "Namespace",
    "Tunnel",
    "WireGuard",
    "eventually",
    "free_port",
    "keypair",
    "lab_prefix",
    "missing",
    "start_exporter",
    "traces",
    "tunnel",
]

# Seconds. They take a tenth of one; on a busy machine that is no reason to fail.
READY_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
REQUEST_TIMEOUT = 30.0
CLONE_NEWNET = 0x40000000  # linux/sched.h

T = TypeVar("T")


def lab_prefix() -> str:
    """A prefix for one lab of one run, and of no other lane; 7 characters of a device name are left."""
    while True:
        prefix = f"wgt{secrets.token_hex(2)}-"
        if not any(there.name.startswith(prefix) for at in (NAMESPACES, SOCKETS) for there in at.glob("wgt*")):
            return prefix


class Tunnel(NamedTuple):
    """Two hosts joined by a cable, and by WireGuard 10.0.0.1 - 10.0.0.2 over it."""

    hub: WireGuard
    spoke: WireGuard
    hub_keys: Keys
    spoke_keys: Keys

    def ping(self) -> None:
        """One packet through the tunnel and back, from the spoke; so there is a handshake after it."""
        self.spoke.namespace.run(["ping", "-c", "1", "-W", "3", "10.0.0.1"])


def tunnel(lab: Lab, *, mtu: int = 1500) -> Tunnel:
    """The smallest real network: PREFIXhub in namespace hub and PREFIXspoke in namespace spoke, not yet shaken."""
    hub, spoke = lab.namespace("hub"), lab.namespace("spoke")
    lab.link(hub, spoke, "192.0.2.1/30", "192.0.2.2/30", mtu=mtu)
    hub_keys, spoke_keys = keypair(), keypair()
    hub_conf = f"""\
[Interface]
PrivateKey = {hub_keys.private}
ListenPort = 51820

[Peer]
# friendly_name = spoke
PublicKey = {spoke_keys.public}
AllowedIPs = 10.0.0.2/32
"""
    spoke_conf = f"""\
[Interface]
PrivateKey = {spoke_keys.private}

[Peer]
# friendly_name = hub
PublicKey = {hub_keys.public}
AllowedIPs = 10.0.0.1/32
Endpoint = 192.0.2.1:51820
"""
    return Tunnel(
        lab.wireguard(hub, "hub", hub_conf, ["10.0.0.1/24"]),
        lab.wireguard(spoke, "spoke", spoke_conf, ["10.0.0.2/24"]),
        hub_keys,
        spoke_keys,
    )


def traces(prefix: str) -> list[str]:
    """Everything on this host that bears the prefix of a lab: processes, namespaces, sockets."""
    mark = f"{MARK}={prefix}".encode()
    processes = [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if mark in _variables(path)]
    files = [*NAMESPACES.glob(f"{prefix}*"), *SOCKETS.glob(f"{prefix}*")]
    return [*processes, *map(str, files)]


def _variables(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        return []  # it has just ended


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago. No connection is given it meanwhile: theirs begin at 32768
    (ip_local_port_range).
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def eventually(check: Callable[[], T], *, within: float, every: float = 0.05) -> T:
    """The first true answer of `check`; fails with its last answer after `within` seconds."""
    deadline = time.monotonic() + within
    while not (answer := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {within:g} s")
        time.sleep(every)
    return answer


class Answer(NamedTuple):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Exporter:
    """A running `wg-exporter serve`."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path
    namespace: Namespace | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, headers: Mapping[str, str] | None = None, *, method: str = "GET") -> Answer:
        """Asks it; raises OSError where nothing answers."""

        def ask() -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_TIMEOUT)
            with contextlib.closing(connection):
                connection.request(method, path, headers=dict(headers or {}))
                answer = connection.getresponse()
                fields = {name.lower(): value for name, value in answer.getheaders()}
                return Answer(answer.status, fields, answer.read())

        return _inside(self.namespace, ask) if self.namespace else ask()

    def processes(self) -> dict[str, int]:
        """Its processes by the names that ps(1) shows: `wg-exporter`, `wg-web`, `wg-read`, `wg-probe`,
        `wg-dns`.
        """
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = [int(pid) for task in tasks for pid in task.read_text().split()]
        found = {}
        for pid in (self.process.pid, *children):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[Path(f"/proc/{pid}/comm").read_text().strip()] = pid
        return found

    @property
    def serving(self) -> int:
        """The process that answers."""
        return self.processes().get("wg-web", self.process.pid)

    def log(self) -> str:
        """All that it has printed so far."""
        return self.log_path.read_text()

    def logged(self, *words: str) -> list[str]:
        """The lines so far that have all `words`, once there is one: lines are written some time after the event."""

        def lines() -> list[str]:
            return [line for line in self.log().splitlines() if all(word in line for word in words)]

        return eventually(lines, within=30)

    def reload(self) -> None:
        """SIGHUP; what came of it shows in the log and in the metrics a moment later."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT)


@contextlib.contextmanager
def start_exporter(
    *arguments: str,
    directory: Path,
    config: str | Path | None = None,
    namespace: Namespace | None = None,
    env: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
    python: str = sys.executable,
    patience: float = READY_TIMEOUT,
) -> Iterator[Exporter]:
    """Runs `wg-exporter serve` on a free port until the block ends, and waits until it is ready.

    `config` is a file or its text; `directory` (a tmp_path) takes it and the log. A start that fails raises
    AssertionError with all that was printed. `wrapper` is a command that runs another, such as setpriv; `patience`
    is in seconds.
    """
    port = free_port()
    command = [*wrapper, python, "-m", "wg_exporter.cli", "serve", f"--web.listen-address=127.0.0.1:{port}"]
    command += ["--web.unix-socket=", "--storage.path="]  # those of the host are nobody's in a test
    if config is not None:
        if isinstance(config, str):
            path = directory / f"exporter-{port}.yml"
            path.write_text(config)
            config = path
        command.append(f"--config.file={config}")
    command += arguments
    log_path = directory / f"exporter-{port}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            namespace.inside(command) if namespace else command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
    exporter = Exporter(process, port, log_path, namespace)
    try:
        _wait_until_ready(exporter, patience)
        yield exporter
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT)


def _wait_until_ready(exporter: Exporter, patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and exporter.process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if exporter.get("/-/ready").status == 200:
                return
        time.sleep(0.02)
    code = exporter.process.poll()
    state = "not ready in time" if code is None else f"ended with exit code {code}"
    raise AssertionError(f"the exporter is {state}; it printed:\n{exporter.log()}")


def _inside(namespace: Namespace, function: Callable[[], T]) -> T:
    """Calls `function` in a thread of its own that has entered the namespace, as setns(2) works per thread."""

    def enter_and_call() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/run/netns", namespace.name).open() as file:
            if libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {namespace.name}")
        return function()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter_and_call).result()
