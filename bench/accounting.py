"""Write ACCOUNTING.md: what it costs that the packets of peers are counted while a tunnel carries bulk data.

`python -m bench.accounting` measures a tunnel of wireguard-go on this machine, and one of the kernel in a virtual
machine. Each end has 1,000 peers. TCP goes through the tunnel as fast as it can, which takes all of the processor. The
programs are at the hooks of both ends, or not, in slices of time whose order is drawn by lot; each round gives a ratio.
What is compared, and why, is in `bench.tunnel`. What one packet costs is measured by itself (BPF_PROG_TEST_RUN).
Needs root, wireguard-go, and for the kernel what tests/vm needs.
"""

from __future__ import annotations

import contextlib
import datetime
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.tunnel import SETTLED, Measured, Slice, Stream, built, cost, measured
from tests.bpf import TCP, nanoseconds, packet
from tests.lab import lab_prefix
from tests.rows import peer as row
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
        others = zip([keypair().public for _ in range(PEERS - 1)], list(peers(PEERS))[1:], strict=True)
        more = (f"[Peer]\nPublicKey = {key}\nAllowedIPs = {','.join(one.allowed_ips)}\n" for key, one in others)
        tunnel = built(lab, directory, "".join(more))
        ends = [
            End(namespace, device, int(namespace.run(["cat", f"/sys/class/net/{device.name}/ifindex"])))
            for namespace, device in zip(tunnel.namespaces, tunnel.devices, strict=True)
        ]
        slices: dict[str, list[Slice]] = {form: [] for form in FORMS}
        for _ in range(rounds):
            for form in random.sample(FORMS, len(FORMS)):
                with counting(ends) if form == WITH else contextlib.nullcontext():
                    slices[form].append(_slice(tunnel.stream, seconds))
        return Measured(tunnel.kind, slices)


def _slice(stream: Stream, seconds: float) -> Slice:
    time.sleep(SETTLED)
    before, cpu, began = stream.received(), stream.cpu(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return Slice((stream.received() - before) / took, (stream.cpu() - cpu) / took)


def line(found: Measured) -> str:
    """The row of one tunnel."""
    without = found.slices[WITHOUT]
    speed = statistics.median(one.received for one in without) * 8 / 1e6
    middle, least, most = cost(found, WITHOUT, WITH)
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


def main() -> None:
    """Measure, and write the page."""
    found = measured("bench.accounting", __doc__, HERE / "ACCOUNTING.md", measure, line)
    if found is not None:
        output, rows, kernel = found
        date = datetime.datetime.now(datetime.UTC).date()
        said = EMULATED if kernel else UNMEASURED
        page = PAGE.format(date=date, goal=GOAL, peers=f"{PEERS:,}", rows=rows, packets=packet_lines(), kernel=said)
        output.write_text(page)
        print(page)


if __name__ == "__main__":
    main()
