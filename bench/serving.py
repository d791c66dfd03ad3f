"""What it costs to be served by several processes and over TLS: `python -m bench.serving` (root, wireguard-go; about
three minutes).

    at rest     10 peers of which one is probed and answers: memory and CPU of all processes, nobody scrapes
    over TLS    1,000 peers: a scrape over TLS with a password, beside a plain one; both keep their connection
    apart       1,000 peers: a scrape of the usual processes, beside one process (`--no-privsep`)

The pairs take turns. In the virtual machine the last is measured again, with 10,000 peers of the kernel that move.
Everything is in network namespaces of its own, and removed.
"""

from __future__ import annotations

import contextlib
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt

from bench.contestants import Client, memory_together
from bench.native import DEVICE, userspace_device
from tests.certificates import certificate
from tests.lab import Lab, LabError, eventually, free_port, keypair, start_exporter, tunnel
from tests.lab.exporting import scrape
from wg_exporter.cli.netlab import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Exporter

PREFIX = "wgxrest-"  # the same each time, so that a run removes what a killed one left
PEERS, PEERS_AT_REST, SCRAPES = 1_000, 10, 60
SETTLED, WATCHED = 40.0, 60.0  # seconds
MIB = 1024.0  # KiB
USER, PASSWORD = "prometheus", "for the benchmark"


def _cpu(exporter: Exporter) -> float:
    """Seconds used so far by all threads of all its processes (proc(5), schedstat)."""
    files = (file for pid in exporter.processes().values() for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def at_rest(directory: Path) -> dict[str, float]:
    """KiB of memory and the share of one processor, of all processes; nobody scrapes."""
    with Lab(PREFIX, directory / "lab", kernel=False) as lab:
        pair = tunnel(lab)
        pair.ping()
        silent = "".join(f"[Peer]\nPublicKey = {keypair().public}\n" for _ in range(PEERS_AT_REST - 1))
        pair.hub.namespace.run(["wg", "addconf", pair.hub.name, "/dev/stdin"], stdin=silent)
        config = (
            f"interfaces: {{include: [{pair.hub.name}]}}\nnames: [{pair.hub.conf}]\n"
            f'peers: [{{public_key: "{pair.spoke_keys.public}", probe: true}}]\n'
        )
        with start_exporter(directory=directory, config=config, namespace=pair.hub.namespace) as exporter:
            eventually(lambda: scrape(exporter).all("wireguard_probe_up"), within=20)
            time.sleep(SETTLED)
            before, began = _cpu(exporter), time.monotonic()
            time.sleep(WATCHED)
            share = (_cpu(exporter) - before) / (time.monotonic() - began)
            return {"cpu": share, "memory": memory_together(exporter.processes().values())}


def in_pairs(directory: Path) -> dict[str, dict[str, list[float]]]:
    """Seconds of each scrape of the two of a pair, which take turns. Nothing has moved: most of it is to serve."""
    certificate(directory, "localhost")
    web = directory / "web.yml"
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt()).decode()
    files = "cert_file: localhost.crt, key_file: localhost.key"
    web.write_text(f"tls_server_config: {{{files}}}\nbasic_auth_users: {{{USER}: {hashed}}}\n")
    trusted = ssl.create_default_context(cafile=str(directory / "localhost.crt"))
    config = f"interfaces: {{include: [{DEVICE}]}}\nnames: []\nprobe: {{enabled: false}}\n"
    with contextlib.ExitStack() as stack:
        stack.enter_context(userspace_device(PEERS))

        def client(*arguments: str, **how: Any) -> Client:
            port = stack.enter_context(_serving(directory, config, *arguments))
            return stack.enter_context(contextlib.closing(Client(port, **how)))

        usual = client()
        others = {
            "tls": client(f"--web.config.file={web}", tls=trusted, login=(USER, PASSWORD)),
            "one process": client("--no-privsep"),
        }
        for one in (usual, *others.values()):
            for _ in range(5):
                one.get()
        found: dict[str, dict[str, list[float]]] = {}
        for name, other in others.items():
            for _ in range(SCRAPES):
                for which, one in (("usual", usual), (name, other)):
                    begun = time.perf_counter()
                    one.get()
                    found.setdefault(name, {}).setdefault(which, []).append(time.perf_counter() - begun)
        return found


@contextlib.contextmanager
def _serving(directory: Path, config: str, *arguments: str) -> Iterator[int]:
    """Our exporter; its port, which answers."""
    port = free_port()
    file = directory / f"{port}.yml"
    file.write_text(config)
    command = [sys.executable, "-m", "wg_exporter.cli", "serve", f"--web.listen-address=127.0.0.1:{port}"]
    command += ["--web.unix-socket=", "--storage.path=", f"--config.file={file}", *arguments]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing) as process:
        try:
            eventually(lambda: _listens(port), within=30)
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    try:
        Client(port).close()
    except OSError:
        return False
    return True


def measure() -> dict[str, Any] | str:
    """All figures, for the report; or why not, in one line."""
    if lacking := missing():
        return "; ".join(lacking)
    try:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            directory.chmod(0o755)  # for the exporter's own user
            return {"rest": at_rest(directory), "pairs": in_pairs(directory)}
    except (LabError, OSError, AssertionError) as error:
        return str(error).splitlines()[0]


def verdicts(figures: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Each limit, what was measured, and whether it holds."""
    rest = figures["rest"]
    what = f"{PEERS_AT_REST} peers, one of them probed, nobody scrapes"
    memory_used, share = rest["memory"] / MIB, 100 * rest["cpu"]
    yield f"{what}: at most 61 MB over all processes", f"{memory_used:.0f} MB", memory_used <= 61
    yield f"{what}: at most 0.25 % of a core", f"{share:.2f} %", share <= 0.25
    for name, words, limit in (
        ("tls", "a scrape over TLS with a password at most 1.3 x a plain one, connections kept", 1.3),
        ("one process", "a scrape of the usual processes at most 1.05 x that of one process", 1.05),
    ):
        usual, other = (statistics.median(times) for times in figures["pairs"][name].values())
        ratio = other / usual if name == "tls" else usual / other
        pair = f"{1e3 * usual:.1f} ms, and {1e3 * other:.1f} {'over TLS' if name == 'tls' else 'by one process'}"
        yield f"{PEERS:,} peers: {words}", f"{ratio:.2f} x ({pair})", ratio <= limit


def main() -> None:
    """Print each limit with its figure. Exit 1 if something can't be measured."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench.serving: stopped"))  # so that what was made is removed
    figures = measure()
    if isinstance(figures, str):
        sys.exit(f"bench.serving: {figures}")
    for what, measured, kept in verdicts(figures):
        print(f"{what:90} {measured:40} {'yes' if kept else 'no'}")


if __name__ == "__main__":
    main()
