"""Write ACCOUNTING.md: what it costs that the packets of peers are counted while a tunnel carries bulk data.

`python -m bench.accounting` measures a tunnel of wireguard-go on this machine, and one of the kernel in a virtual
machine. Each end has 1,000 peers. TCP goes through the tunnel as fast as it can, which takes all of the processor. The
programs are at the hooks of both ends, or not, in slices of time whose order is drawn by lot; each round gives a ratio.
What is compared, and why, is as in `bench.watcher`. What one packet costs is measured by itself (BPF_PROG_TEST_RUN).
Needs root, wireguard-go, and for the kernel what tests/vm needs.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.watcher import DRAWS, PORT, SETTLED, Slice, Stream
from tests.bpf import TCP, nanoseconds, packet
from tests.lab import lab_prefix
from tests.rows import peer as row
from tests.vm.harness import Vm
from wg_exporter.cli.netlab import Lab, keypair
from wg_exporter.linux.bpf import Bpf
from wg_exporter.linux.namespaces import Entrance
from wg_exporter.model import Peers
from wg_exporter.reader.accounting.counter import DeviceCounter
from wg_exporter.reader.accounting.source import AccountingSource
from wg_exporter.reader.accounting.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wg_exporter.cli.netlab import Namespace, WireGuard

HERE = Path(__file__).parent
PEERS = 1000
GOAL = 5.0  # percent
WITHOUT, WITH = FORMS = ("without", "with")
SIZES = (1, 1000, 10_000)

PAGE = """\
<!-- Written by `python -m bench.accounting`. Do not edit by hand. -->
# What counting packets costs

{date}. TCP through a tunnel as fast as it goes; each end has {peers} peers, and at each end packets are counted, or
not, in an order drawn by lot. A cost is the median over all rounds, with the interval of 95 % (bootstrap): for
wireguard-go of the processor time for each byte of both ends, which is what bounds its throughput; for the kernel of
the throughput. The goal is {goal:.0f} % at most.

| tunnel | rounds | without, Mbit/s | cost |
|---|---|---|---|
{rows}
One packet, or many in one, takes the program this long (here, with the trie in the cache of the processor):

| peers | IPv4, ns | IPv6, ns | IPv4 where segments are reckoned, ns |
|---|---|---|---|
{packets}
{kernel}
"""
EMULATED = "The kernel's tunnel is in an emulated machine: its ratio counts, not its speed."
UNMEASURED = "A tunnel of the kernel was not measured."


class Measured(NamedTuple):
    """One tunnel: its slices by form, round by round."""

    tunnel: str
    slices: dict[str, list[Slice]]


def peers(number: int) -> Peers:
    """So many, with an IPv4 and an IPv6 prefix each."""
    return Peers.of(row(n, allowed_ips=(f"10.{n >> 8}.{n & 255}.0/24", f"fd00:{n:x}::/64")) for n in range(number))


class End(NamedTuple):
    """One end of the tunnel: where it is, and what it has for peers."""

    namespace: Namespace
    device: WireGuard
    ifindex: int


@contextlib.contextmanager
def counting(ends: Sequence[End]) -> Iterator[None]:
    """The programs at the hooks of both ends."""
    opened: list[tuple[Entrance, AccountingSource]] = []
    try:
        for end in ends:
            entrance = Entrance(end.namespace.name, f"/run/netns/{end.namespace.name}")
            entrance.enter()
            source = AccountingSource(time.monotonic)
            source.follow(Wanted({(end.device.name, end.ifindex): peers(PEERS)}, {end.ifindex}))
            opened.append((entrance, source))
            if not source.read():
                raise RuntimeError("; ".join(source.notes))
            entrance.leave()
        yield
    finally:
        for entrance, source in opened:
            source.close()  # its socket is in the namespace
            entrance.close()


def measure(directory: Path, rounds: int, seconds: float) -> Measured:
    """The tunnel that this machine can have: the kernel's, or wireguard-go."""
    with Lab(lab_prefix(), directory / "lab") as lab:
        namespaces = lab.namespace("a"), lab.namespace("b")
        lab.link(*namespaces, "192.0.2.1/30", "192.0.2.2/30")
        keys = keypair(), keypair()
        others = [keypair().public for _ in range(PEERS - 1)]
        devices = []
        for number, namespace in enumerate(namespaces):
            conf = f"[Interface]\nPrivateKey = {keys[number].private}\nListenPort = {PORT}\n[Peer]\n"
            conf += f"PublicKey = {keys[1 - number].public}\nAllowedIPs = 10.0.0.0/24\n"
            conf += f"Endpoint = 192.0.2.{2 - number}:{PORT}\n"
            rows = zip(others, list(peers(PEERS))[1:], strict=True)
            conf += "".join(
                f"[Peer]\nPublicKey = {key}\nAllowedIPs = {','.join(one.allowed_ips)}\n" for key, one in rows
            )
            devices.append(lab.wireguard(namespace, "ab"[number], conf, [f"10.0.0.{number + 1}/24"]))
        ends = [
            End(namespace, device, int(namespace.run(["cat", f"/sys/class/net/{device.name}/ifindex"])))
            for namespace, device in zip(namespaces, devices, strict=True)
        ]
        stream = Stream(lab, *namespaces, directory)
        for device in devices:
            if device.process:
                stream.carry(device.process.pid)
        stream.wait(60)
        time.sleep(2)
        slices: dict[str, list[Slice]] = {form: [] for form in FORMS}
        for _ in range(rounds):
            for form in random.sample(FORMS, len(FORMS)):
                with counting(ends) if form == WITH else contextlib.nullcontext():
                    slices[form].append(_slice(stream, seconds))
        return Measured("wireguard-go" if devices[0].process else "kernel", slices)


def _slice(stream: Stream, seconds: float) -> Slice:
    time.sleep(SETTLED)
    before, cpu, began = stream.received(), stream.cpu(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return Slice((stream.received() - before) / took, (stream.cpu() - cpu) / took)


def cost(found: Measured) -> tuple[float, float, float]:
    """The cost in percent: its median, and the interval of 95 %."""
    rounds = zip(found.slices[WITHOUT], found.slices[WITH], strict=True)
    ratios = [100 * (1 - bare.price / counted.price) for bare, counted in rounds if bare.received * counted.received]
    drawn = sorted(statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
    return statistics.median(ratios), drawn[DRAWS // 40], drawn[-DRAWS // 40]


def line(found: Measured) -> str:
    """The row of one tunnel."""
    without = found.slices[WITHOUT]
    speed = statistics.median(one.received for one in without) * 8 / 1e6
    middle, least, most = cost(found)
    return f"| {found.tunnel} | {len(without)} | {speed:.0f} | {middle:.1f} % ({least:.1f} to {most:.1f}) |\n"


def packet_lines() -> str:
    """What one packet costs, by the number of peers."""
    calls, found = Bpf(), ""
    for number in SIZES:
        counter = DeviceCounter(calls, 1, 1)
        counter.follow(peers(number))
        at, sent = number // 2, counter.programs.sent
        v4 = packet("10.255.255.1", f"10.{at >> 8}.{at & 255}.7", 1000, TCP)
        v6 = packet("fd01::1", f"fd00:{at:x}::7", 1000, TCP)
        times = [nanoseconds(calls, sent, data, size) for data, size in ((v4, 0), (v6, 0), (v4, 100))]
        found += f"| {number:,} | {' | '.join(map(str, times))} |\n"
        counter.close()
    return found


def in_guest(series: str, rounds: int, seconds: float) -> Measured:
    """The tunnel of a kernel in a virtual machine. Raises tests.vm.kernels.Unavailable."""
    with Vm(series, cpus=2) as vm:
        result = vm.shared / "result.json"
        script = f"modprobe wireguard veth\n{sys.executable} -m bench.accounting --here {result} --rounds {rounds}"
        told = vm.run(f"{script} --seconds {seconds}", timeout=600 + 8 * rounds * (seconds + 1))
        if told.rc:
            raise RuntimeError(str(told))
        kind, slices = json.loads(result.read_text())
    rows = {form: [Slice(*one) for one in found] for form, found in slices.items()}
    return Measured(f"{kind} {vm.kernel.release}, in a virtual machine", rows)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.accounting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="of two slices (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a slice (default: %(default)s)")
    parser.add_argument("--kernel", default="6.1", help="of the virtual machine; empty: none (default: %(default)s)")
    parser.add_argument("--here", type=Path, help="measure here alone, and write the slices to this file")
    parser.add_argument("--output", type=Path, default=HERE / "ACCOUNTING.md", help="where the results go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wg-exporter-bench-") as name:
        found = measure(Path(name), options.rounds, options.seconds)
    if options.here:
        options.here.write_text(json.dumps(found))
        print(line(found), end="")
        return
    rows = line(found)
    kernel = EMULATED if options.kernel else UNMEASURED
    if options.kernel:
        rows += line(in_guest(options.kernel, max(options.rounds // 4, 10), options.seconds * 4))
    date = datetime.datetime.now(datetime.UTC).date()
    page = PAGE.format(date=date, goal=GOAL, peers=f"{PEERS:,}", rows=rows, packets=packet_lines(), kernel=kernel)
    options.output.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
