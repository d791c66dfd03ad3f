"""A tunnel under load, with something beside it or not: what that costs, in slices of time whose order is drawn by lot.

Each round has a slice of each form and gives a ratio. What is compared is the processor time for each byte of all
processes that carry it: on a processor that is full, throughput falls by as much, and other work of the machine does
not change it. In a virtual machine, where the kernel carries them, it is throughput itself.
"""

from __future__ import annotations

import argparse
import json
import mmap
import random
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.vm.harness import Vm
from wg_exporter.cli.netlab import keypair

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.cli.netlab import Keys, Lab, Namespace, WireGuard

PORT, TCP_PORT = 51820, 5001
SETTLED = 0.3  # seconds from the beginning or the end of a form until it is measured
DRAWS = 2000  # of pairs, for the interval

_RECEIVE = """\
import mmap, socket, struct, sys
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 8) as total, socket.socket() as server:
    server.bind((sys.argv[2], int(sys.argv[3])))
    server.listen(1)
    connection, _ = server.accept()
    buffer, received = bytearray(1 << 20), 0
    while size := connection.recv_into(buffer):
        received += size
        struct.pack_into("=Q", total, 0, received)
"""
_SEND = """\
import socket, sys, time
for _ in range(300):
    try:
        connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
        break
    except OSError:
        time.sleep(0.1)
connection.settimeout(None)
while True:
    connection.sendall(bytes(1 << 18))
"""


class Slice(NamedTuple):
    """Bytes and processor time in seconds, both for each second; no processor time where the kernel works."""

    received: float
    cpu: float

    @property
    def price(self) -> float:
        """What a byte takes."""
        return (self.cpu or 1.0) / self.received


class Measured(NamedTuple):
    """One tunnel: its slices by form, round by round."""

    tunnel: str
    slices: dict[str, list[Slice]]


class Stream:
    """TCP from one namespace through the tunnel to another, for ever."""

    def __init__(self, lab: Lab, sender: Namespace, receiver: Namespace, directory: Path) -> None:
        self._path = directory / "received"
        self._path.write_bytes(bytes(8))
        python, to = sys.executable, ["10.0.0.2", str(TCP_PORT)]
        self._processes = [
            lab.start([python, "-c", _RECEIVE, str(self._path), *to], log="in", namespace=receiver).pid,
            lab.start([python, "-c", _SEND, *to], log="out", namespace=sender).pid,
        ]
        self._file = self._path.open("r+b")
        self._total = mmap.mmap(self._file.fileno(), 8)

    def received(self) -> int:
        """Bytes so far."""
        return int(struct.unpack_from("=Q", self._total)[0])

    def carry(self, process: int) -> None:
        """A process that the bytes go through."""
        self._processes.append(process)

    def cpu(self) -> float:
        """Processor time of all threads that the bytes go through, in seconds; 0 where the kernel carries them."""
        stats = (stat for pid in self._processes for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(stat.read_text().split()[0]) for stat in stats) / 1e9 if len(self._processes) > 2 else 0.0

    def wait(self, timeout: float) -> None:
        """Until it flows. Raises TimeoutError."""
        end = time.monotonic() + timeout
        while not self.received():
            if time.monotonic() > end:
                raise TimeoutError(f"nothing went through the tunnel within {timeout:g} s")
            time.sleep(0.1)


class Built(NamedTuple):
    """A tunnel that carries all it can. Both ends, the one that sends first."""

    namespaces: tuple[Namespace, Namespace]
    keys: tuple[Keys, Keys]
    devices: list[WireGuard]
    stream: Stream

    @property
    def kind(self) -> str:
        """Who carries it."""
        return "wireguard-go" if self.devices[0].process else "kernel"


def built(lab: Lab, directory: Path, more: str = "") -> Built:
    """The tunnel that this machine can have: the kernel's, or wireguard-go. Both ends have `more` in their files."""
    namespaces = lab.namespace("a"), lab.namespace("b")
    lab.link(*namespaces, "192.0.2.1/30", "192.0.2.2/30")
    keys = keypair(), keypair()
    devices = []
    for number, namespace in enumerate(namespaces):
        conf = f"[Interface]\nPrivateKey = {keys[number].private}\nListenPort = {PORT}\n[Peer]\n"
        conf += f"PublicKey = {keys[1 - number].public}\nAllowedIPs = 10.0.0.0/24\n"
        conf += f"Endpoint = 192.0.2.{2 - number}:{PORT}\n{more}"
        devices.append(lab.wireguard(namespace, "ab"[number], conf, [f"10.0.0.{number + 1}/24"]))
    stream = Stream(lab, *namespaces, directory)
    for process in [device.process for device in devices if device.process]:
        stream.carry(process.pid)
    stream.wait(60)
    time.sleep(2)
    return Built(namespaces, keys, devices, stream)


def cost(found: Measured, without: str, form: str) -> tuple[float, float, float]:
    """The cost of a form in percent of what is `without` it: its median, and the interval of 95 %."""
    rounds = zip(found.slices[without], found.slices[form], strict=True)
    ratios = [100 * (1 - bare.price / loaded.price) for bare, loaded in rounds if bare.received * loaded.received]
    drawn = sorted(statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
    return statistics.median(ratios), drawn[DRAWS // 40], drawn[-DRAWS // 40]


def measured(
    module: str,
    description: str | None,
    output: Path,
    measure: Callable[[Path, int, float], Measured],
    line: Callable[[Measured], str],
) -> tuple[Path, str, bool] | None:
    """Measure as the command line wants it. Returns where the page goes, its rows (`line`), and whether a kernel was
    measured; None in the virtual machine, which writes its slices to a file. Raises tests.vm.kernels.Unavailable.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--rounds", type=int, default=200, help="of a slice of each form (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a slice (default: %(default)s)")
    parser.add_argument("--kernel", default="6.1", help="of the virtual machine; empty: none (default: %(default)s)")
    parser.add_argument("--guest-rounds", type=int, help="in the virtual machine (default: a quarter, 10 at least)")
    parser.add_argument("--here", type=Path, help="measure here alone, and write the slices to this file")
    parser.add_argument("--output", type=Path, default=output, help="where the results go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wg-exporter-bench-") as name:
        found = measure(Path(name), options.rounds, options.seconds)
    if options.here:
        options.here.write_text(json.dumps(found))
        print(line(found), end="")
        return None
    rows = line(found)
    if options.kernel:
        rounds = options.guest_rounds or max(options.rounds // 4, 10)
        rows += line(_in_guest(module, options.kernel, rounds, options.seconds * 2))
    return options.output, rows, bool(options.kernel)


def _in_guest(module: str, series: str, rounds: int, seconds: float) -> Measured:
    """The tunnel of a kernel in a virtual machine."""
    with Vm(series, cpus=2) as vm:
        result = vm.shared / "result.json"
        script = f"modprobe wireguard veth\n{sys.executable} -m {module} --here {result} --rounds {rounds}"
        told = vm.run(f"{script} --seconds {seconds}", timeout=600 + 20 * rounds * (seconds + 1))
        if told.rc:
            raise RuntimeError(str(told))
        kind, slices = json.loads(result.read_text())
    found = {form: [Slice(*row) for row in rows] for form, rows in slices.items()}
    return Measured(f"{kind} {vm.kernel.release}, in a virtual machine", found)
