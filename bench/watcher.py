"""Write WATCHER.md: what it costs that a packet socket looks for handshakes while a tunnel carries bulk data.

`python -m bench.watcher` measures a tunnel of wireguard-go on this machine, and one of the kernel in a virtual machine.
TCP goes through the tunnel as fast as it can, which takes all of the processor, while the socket is closed, half open
or open. How that is compared is in `bench.tunnel`.
Needs root, wireguard-go, and for the kernel what tests/vm needs.
"""

from __future__ import annotations

import contextlib
import datetime
import random
import statistics
import time
from pathlib import Path
from typing import NoReturn

from bench.tunnel import PORT, SETTLED, Measured, Slice, Stream, built, cost, measured
from tests.lab import lab_prefix
from wg_exporter.cli.netlab import Lab
from wg_exporter.prober.watcher.leaving import EVERY, TURN
from wg_exporter.prober.watcher.watcher import Host, Watcher
from wg_exporter.prober.wire.netns import Namespaces
from wg_exporter.sighted import WatchPeer

HERE = Path(__file__).parent
GOAL = 3.0  # percent
CLOSED, ARRIVING, ALL = FORMS = ("closed", "arriving", "all")

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


def measure(directory: Path, rounds: int, seconds: float) -> Measured:
    """The tunnel that this machine can have: the kernel's, or wireguard-go."""
    with Lab(lab_prefix(), directory / "lab") as lab:
        tunnel = built(lab, directory)
        near, keys = tunnel.namespaces[0], tunnel.keys
        peer = WatchPeer(
            (near.name, tunnel.devices[0].name, keys[1].public), near.name, f"192.0.2.2:{PORT}", PORT, keys[0].public
        )
        slices: dict[str, list[Slice]] = {form: [] for form in FORMS}
        for _ in range(rounds):
            for form in random.sample(FORMS, len(FORMS)):
                slices[form].append(_slice(tunnel.stream, peer, seconds, form))
        return Measured(tunnel.kind, slices)


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


def line(found: Measured) -> str:
    """The row of one tunnel."""
    without = found.slices[CLOSED]
    speed = statistics.median(one.received for one in without) * 8 / 1e6
    costs = [cost(found, CLOSED, form) for form in (ARRIVING, ALL)]
    cells = " | ".join(f"{middle:.1f} % ({least:.1f} to {most:.1f})" for middle, least, most in costs)
    (arriving, *_), (everything, *_) = costs
    mean = (everything * TURN + arriving * (EVERY - TURN)) / EVERY
    return f"| {found.tunnel} | {len(without)} | {speed:.0f} | {cells} | {mean:.1f} % |\n"


def main() -> None:
    """Measure, and write the page."""
    found = measured("bench.watcher", __doc__, HERE / "WATCHER.md", measure, line)
    if found is not None:
        output, rows, _ = found
        date = datetime.datetime.now(datetime.UTC).date()
        output.write_text(PAGE.format(date=date, goal=GOAL, rows=rows, turn=TURN, every=EVERY))
        print(output.read_text())


if __name__ == "__main__":
    main()
