"""Write WATCHER.md: what it costs that a packet socket looks for handshakes while a tunnel carries bulk data.

`python -m bench.watcher` measures a tunnel of wireguard-go on this machine, and one of the kernel in a virtual machine.
TCP goes through the tunnel as fast as it can, which takes all of the processor. The socket is closed, half open or open
in slices of time, in an order drawn by lot; each round gives a ratio. What is compared is processor time for each byte,
of all processes that carry it: on a processor that is full, throughput falls by as much, and other work of the machine
does not change it. In the virtual machine, where it is the kernel that works, it is throughput itself.
Needs root, wireguard-go, and for the kernel what tests/vm needs.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import mmap
import random
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tests.lab import lab_prefix
from tests.vm.harness import Vm
from wg_exporter.cli.netlab import Lab, keypair
from wg_exporter.prober.watcher.leaving import EVERY, TURN
from wg_exporter.prober.watcher.watcher import Host, Watcher
from wg_exporter.prober.wire.netns import Namespaces
from wg_exporter.sighted import WatchPeer

if TYPE_CHECKING:
    from wg_exporter.cli.netlab import Namespace

HERE = Path(__file__).parent
PORT, TCP_PORT = 51820, 5001
SETTLED = 0.3  # seconds from opening or closing until it is measured
DRAWS = 2000  # of pairs, for the interval
GOAL = 3.0  # percent
CLOSED, ARRIVING, ALL = FORMS = ("closed", "arriving", "all")

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

PAGE = """\
<!-- Written by `python -m bench.watcher`. Do not edit by hand. -->
# What watching costs

{date}. TCP through a tunnel as fast as it goes. In each round there are three slices of time, in an order drawn by
lot: no packet socket; one that looks at what arrives; one that looks at what leaves too. A cost is the median over all
rounds, with the interval of 95 % (bootstrap): for wireguard-go of the processor time for each byte, which is what
bounds its throughput; for the kernel of the throughput. Where this much leaves, the watcher looks at that for
{turn:.0f} of {every:.0f} seconds, which makes the mean. The goal is {goal:.0f} % at most.

| tunnel | rounds | without, Mbit/s | what arrives | what leaves too | mean |
|---|---|---|---|---|---|
{rows}
While nobody is watched there is no socket and no cost. The virtual machine is an emulated one: its ratio counts, not
its speed.
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


def measure(directory: Path, rounds: int, seconds: float) -> Measured:
    """The tunnel that this machine can have: the kernel's, or wireguard-go."""
    with Lab(lab_prefix(), directory / "lab") as lab:
        near, far = lab.namespace("a"), lab.namespace("b")
        lab.link(near, far, "192.0.2.1/30", "192.0.2.2/30")
        keys = keypair(), keypair()
        ends = []
        for namespace, number in ((near, 0), (far, 1)):
            conf = f"[Interface]\nPrivateKey = {keys[number].private}\nListenPort = {PORT}\n[Peer]\n"
            conf += f"PublicKey = {keys[1 - number].public}\nAllowedIPs = 10.0.0.0/24\n"
            conf += f"Endpoint = 192.0.2.{2 - number}:{PORT}\n"
            ends.append(lab.wireguard(namespace, "ab"[number], conf, [f"10.0.0.{number + 1}/24"]))
        stream = Stream(lab, near, far, directory)
        for process in [end.process for end in ends if end.process]:
            stream.carry(process.pid)
        stream.wait(60)
        time.sleep(2)
        peer = WatchPeer(
            (near.name, ends[0].name, keys[1].public), near.name, f"192.0.2.2:{PORT}", PORT, keys[0].public
        )
        slices: dict[str, list[Slice]] = {form: [] for form in FORMS}
        for _ in range(rounds):
            for form in random.sample(FORMS, len(FORMS)):
                slices[form].append(_slice(stream, peer, seconds, form))
        return Measured("wireguard-go" if ends[0].process else "kernel", slices)


def _slice(stream: Stream, peer: WatchPeer, seconds: float, form: str) -> Slice:
    """One slice."""
    with contextlib.closing(Namespaces({peer.underlay: f"/run/netns/{peer.underlay}"})) as namespaces:
        watcher = Watcher(Host(namespaces.open, _no_routes, _quiet if form == ALL else _busy))
        try:
            if form != CLOSED:
                watcher.watch({1: (peer, 3600.0)}, time.monotonic())
            _run(watcher, SETTLED)
            before, cpu, began = stream.received(), stream.cpu(), time.monotonic()
            _run(watcher, seconds)
            took = time.monotonic() - began
            return Slice((stream.received() - before) / took, (stream.cpu() - cpu) / took)
        finally:
            watcher.close()


def _quiet(_netns: str) -> int:
    """So little leaves that it is looked at."""
    return 0


def _busy(_netns: str) -> int:
    """So much leaves that it is not, for the few seconds of a slice."""
    return time.monotonic_ns()


def _no_routes(_netns: str) -> NoReturn:
    raise OSError("nobody asks for routes here")


def _run(watcher: Watcher, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        due = watcher.poll(time.monotonic())
        time.sleep(max(min(left, due - time.monotonic()), 0.0))


def cost(found: Measured, form: str) -> tuple[float, float, float]:
    """The cost of a form in percent: its median, and the interval of 95 %."""
    rounds = zip(found.slices[CLOSED], found.slices[form], strict=True)
    ratios = [100 * (1 - closed.price / opened.price) for closed, opened in rounds if closed.received * opened.received]
    drawn = sorted(statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
    return statistics.median(ratios), drawn[DRAWS // 40], drawn[-DRAWS // 40]


def line(found: Measured) -> str:
    """The row of one tunnel."""
    without = found.slices[CLOSED]
    speed = statistics.median(one.received for one in without) * 8 / 1e6
    costs = [cost(found, form) for form in (ARRIVING, ALL)]
    cells = " | ".join(f"{middle:.1f} % ({least:.1f} to {most:.1f})" for middle, least, most in costs)
    (arriving, *_), (everything, *_) = costs
    mean = (everything * TURN + arriving * (EVERY - TURN)) / EVERY
    return f"| {found.tunnel} | {len(without)} | {speed:.0f} | {cells} | {mean:.1f} % |\n"


def in_guest(series: str, rounds: int, seconds: float) -> Measured:
    """The tunnel of a kernel in a virtual machine. Raises tests.vm.kernels.Unavailable."""
    with Vm(series, cpus=2) as vm:
        result = vm.shared / "result.json"
        script = f"modprobe wireguard veth\n{sys.executable} -m bench.watcher --here {result} --rounds {rounds}"
        told = vm.run(f"{script} --seconds {seconds}", timeout=300 + 8 * rounds * (seconds + 1))
        if told.rc:
            raise RuntimeError(str(told))
        kind, slices = json.loads(result.read_text())
    rows = {form: [Slice(*row) for row in found] for form, found in slices.items()}
    return Measured(f"{kind} {vm.kernel.release}, in a virtual machine", rows)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.watcher", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="of three slices (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a slice (default: %(default)s)")
    parser.add_argument("--kernel", default="6.1", help="of the virtual machine; empty: none (default: %(default)s)")
    parser.add_argument("--here", type=Path, help="measure here alone, and write the slices to this file")
    parser.add_argument("--output", type=Path, default=HERE / "WATCHER.md", help="where the results go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wg-exporter-bench-") as name:
        found = measure(Path(name), options.rounds, options.seconds)
    if options.here:
        options.here.write_text(json.dumps(found))
        print(line(found), end="")
        return
    rows = line(found)
    if options.kernel:
        rows += line(in_guest(options.kernel, max(options.rounds // 4, 10), options.seconds * 4))
    date = datetime.datetime.now(datetime.UTC).date()
    options.output.write_text(PAGE.format(date=date, goal=GOAL, rows=rows, turn=TURN, every=EVERY))
    print(options.output.read_text())


if __name__ == "__main__":
    main()
