"""What probing costs, side by side with fping: `python -m bench.probes` (root, Debian's fping; about a minute).

Both ping the same addresses of the loopback device, which answers by itself, once a second each, taking turns. CPU is
the user and system time of the process by getrusage(2). Of ours it is told with and without the start of Python, which
a daemon pays once; fping's start is too short to matter. The kernel's work for the answer is done inside the sender's
system call on loopback, so it is in both figures. fping 5.1 takes 6,000 targets at this rate.

smokeping_prober takes its turns too, if it is named by WG_BENCH_SMOKEPING or on PATH. It has no end, so its CPU is that
of some seconds in its middle. It pings from ping sockets (`--no-privileged`): with its default, a raw socket for each
target, every socket of them is offered the answers of all.

Then 10,000 targets alone: CPU, how late probes leave, and how far round-trip times are from the kernel's own stamps of
request and reply, which a packet socket sees go by for some of the targets. And the same while another process renders
10,000 peers over and over, 500 of them probed, as the exporter beside its prober does at worst.

Nothing leaves the machine. Absolute figures mean little on a shared machine; the ratio is from one run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wg_exporter.config import ProbeSettings
from wg_exporter.exposition.samples import metrics
from wg_exporter.exposition.writer import Writer
from wg_exporter.prober.echo.book import EchoBook, Probe, Reading
from wg_exporter.prober.echo.track import EchoTarget
from wg_exporter.prober.wire import bpf
from wg_exporter.prober.wire.bpf import Step
from wg_exporter.prober.wire.engine import Engine
from wg_exporter.prober.wire.sockets import attach_filter

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = 1  # ifindex
FPING_TARGETS, MANY_TARGETS = 6000, 10_000
SETTLED = 5.0  # seconds until smokeping_prober has started all its pingers, which takes it one
ETH_P_IP, SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 0x0800, 26, 33, 35


class Cost(NamedTuple):
    """CPU seconds of one contestant, and the probes it sent and lost. `start` is the part before the first probe."""

    cpu: float
    sent: int
    lost: int
    start: float = 0.0

    @property
    def per_probe(self) -> float:
        """Microseconds."""
        return (self.cpu - self.start) / self.sent * 1e6

    @property
    def with_start(self) -> float:
        """Microseconds."""
        return self.cpu / self.sent * 1e6


class Recorder(EchoBook):
    """A book that also keeps how late each probe left and each round trip."""

    def __init__(self) -> None:
        super().__init__(ProbeSettings(), os.urandom)
        self.delays: list[float] = []
        self.rtts: list[tuple[int, int, float]] = []  # last byte of the address, sequence, seconds
        self._due: dict[int, float] = {}
        self._wire: dict[int, int] = {}  # sequence numbers

    def due(self, now: float) -> list[Probe]:
        """As ever; remembers when each was due."""
        probes = super().due(now)
        self._due.update((probe.place, probe.due) for probe in probes)
        self._wire.update((probe.place, probe.sequence) for probe in probes)
        return probes

    def sent(self, place: int, when: Reading) -> None:
        """As ever; how late it was."""
        super().sent(place, when)
        self.delays.append(when.monotonic - self._due[place])

    def answer(self, sender: bytes, place: int, token: int, stamp: float | None, read: Reading) -> bool:
        """As ever; the round trips of the watched targets."""
        known = super().answer(sender, place, token, stamp, read)
        if sender[1:3] == b"\1\0":
            self.rtts.append((sender[3], self._wire[place], self._rtt(place, stamp, read)))
        return known


def addresses(number: int) -> list[str]:
    """Addresses of the loopback device; the watched ones are 127.1.0.0/24."""
    return [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(number)]


def fping(number: int, seconds: int) -> Cost:
    """One run of fping."""
    with tempfile.NamedTemporaryFile("w", suffix=".targets") as targets:
        targets.write("\n".join(addresses(number)))
        targets.flush()
        command = ["fping", "-q", "-c", str(seconds), "-p", "1000", "-i", f"{1000 / number:.3f}", "-f", targets.name]
        cpu, text = _run(command)
    counts = [tuple(map(int, found)) for found in re.findall(r"xmt/rcv/%loss = (\d+)/(\d+)/", text)]
    sent = sum(sent for sent, _ in counts)
    return Cost(cpu, sent, sent - sum(received for _, received in counts))


def ours(number: int, seconds: int) -> Cost:
    """One run of the engine, in a process of its own."""
    cpu, text = _run([sys.executable, "-m", "bench.probes", "--engine", str(number), "--seconds", str(seconds)])
    found = json.loads(text)
    return Cost(cpu, **found)


def smokeping(program: str, number: int, seconds: int) -> Cost:
    """Some seconds of smokeping_prober, in a network namespace of its own, where it may open ping sockets."""
    set_up = 'ip link set lo up && sysctl -qw net.ipv4.ping_group_range="0 0" && exec "$@"'
    options = ["--no-privileged", "--web.listen-address=127.0.0.1:9374", "--log.level=error"]
    command = ["unshare", "--net", "sh", "-c", set_up, "sh", program, *options, *addresses(number)]
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process,
    ):
        try:
            time.sleep(SETTLED)
            before = _account(process.pid)
            time.sleep(seconds)
            after = _account(process.pid)
        except (FileNotFoundError, ProcessLookupError):
            output.seek(0)
            raise RuntimeError(f"{program}: {output.read().strip()[-500:]}") from None
        finally:
            process.kill()
    cpu, sent, received = (late - early for early, late in zip(before, after, strict=True))
    return Cost(cpu, int(sent), int(sent - received))


def _account(pid: int) -> tuple[float, int, int]:
    """CPU seconds of a process; echo requests sent and replies received in its network namespace, by the kernel."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    names, values = (line.split() for line in Path(f"/proc/{pid}/net/snmp").read_text().splitlines()
                     if line.startswith("Icmp:"))  # fmt: skip
    icmp = dict(zip(names, values, strict=True))
    cpu = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(icmp["OutEchos"]), int(icmp["InEchoReps"])


def _run(command: list[str]) -> tuple[float, str]:
    """CPU seconds (user and system) of a command, and what it printed."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f"{command[0]}: {text.strip()}")
    return usage.ru_utime + usage.ru_stime, text


def engine(number: int, seconds: float) -> None:
    """The contestant's process: probe, and print what was sent."""
    with contextlib.closing(Engine()) as prober:
        _aim(prober, number)
        start = time.process_time()
        end = time.monotonic() + seconds
        prober.run(lambda: time.monotonic() >= end)
        stats = prober.stats().values()
    sent, lost = sum(one.sent for one in stats), sum(one.lost for one in stats)
    json.dump({"sent": sent, "lost": lost, "start": start}, sys.stdout)


def many(number: int, seconds: float) -> dict[str, float]:
    """The engine alone, in this process: its share of a core, scheduling delays, and round trips against the wire."""
    book = Recorder()
    with contextlib.closing(Engine(book)) as prober, _open_wire() as wire:
        _aim(prober, number)
        prober.run(lambda: len(book.delays) > number / 10)
        book.delays.clear()
        begun, cpu = time.monotonic(), time.thread_time()
        prober.run(lambda: time.monotonic() >= begun + seconds)
        cpu = time.thread_time() - cpu
        stats = prober.stats().values()
        true = _round_trips(wire)
    errors = sorted(abs(rtt - true[place, sequence]) for place, sequence, rtt in book.rtts if (place, sequence) in true)
    delays = sorted(book.delays)
    return {
        "core": cpu / seconds,
        "sent": len(delays),
        "lost": sum(one.lost for one in stats),
        "delay_p99": delays[len(delays) * 99 // 100],
        "delay_worst": delays[-1],
        "compared": len(errors),
        "error_p50": errors[len(errors) // 2],
        "error_p99": errors[len(errors) * 99 // 100],
    }


def _aim(engine: Engine, number: int) -> None:
    for n, address in enumerate(addresses(number)):
        engine.put(EchoTarget(n, "", LOOPBACK, address, 1.0))


def _open_wire() -> socket.socket:
    """A packet socket that keeps, with the kernel's stamps, what the watched targets get and send."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    ours = [Step(bpf.AND, 0xFFFFFF00), Step(bpf.IF_EQUAL, 0x7F010000, then="pass")]  # in 127.1.0.0/24
    sender, receiver = Step(bpf.LOAD_WORD, 26), Step(bpf.LOAD_WORD, 30)
    attach_filter(wire, bpf.assemble(sender, *ours, receiver, *ours))
    wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)  # all of it: it is read after the run
    wire.settimeout(0)
    wire.bind(("lo", ETH_P_IP))
    return wire


def _round_trips(wire: socket.socket) -> dict[tuple[int, int], float]:
    """(last byte of the target, sequence) -> seconds from request to reply, as stamped by the kernel."""
    asked: dict[tuple[int, int], float] = {}
    took: dict[tuple[int, int], float] = {}
    with contextlib.suppress(BlockingIOError):
        while True:
            data, control, _, _ = wire.recvmsg(64, 64)
            seconds, nanoseconds = struct.unpack("@ll", control[0][2])
            stamp, sequence = seconds + nanoseconds * 1e-9, struct.unpack_from("!H", data, 40)[0]
            if data[34] == 8:
                asked.setdefault((data[33], sequence), stamp)
            elif (key := (data[29], sequence)) in asked:
                took.setdefault(key, stamp - asked[key])
    return took


def scrapes(peers: int, probed: int) -> None:
    """A busy exporter beside the prober: all peers moved, some are probed, and it renders them over and over."""
    from tests.rows import device, device_view, peer, view
    from tests.rows import probed as a_probed

    rows = [peer(n) for n in range(peers)]
    writer = Writer()
    for n in count(1):
        moved = device(*(row._replace(rx_bytes=n, tx_bytes=n) for row in rows))
        known = {key: a_probed(sent=n) for key in moved.peers.public_key[:probed]}
        writer.write(metrics(view(device_view(moved), probes={("", "wg0"): known})), openmetrics=False)


@contextlib.contextmanager
def _scraped() -> Iterator[None]:
    command = [sys.executable, "-m", "bench.probes", "--scrapes"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            time.sleep(3)  # the first rendering is the longest
            yield
        finally:
            process.kill()


def measure(rounds: int = 3, seconds: int = 4) -> dict[str, Any] | str:
    """All figures, for the report; or why not, in one line."""
    if os.geteuid() != 0 or shutil.which("fping") is None:
        return "needs root and fping (apt-get install fping)"
    program = os.environ.get("WG_BENCH_SMOKEPING") or shutil.which("smokeping_prober")
    took: dict[str, Any] = {"fping": [], "ours": [], **({"smokeping": []} if program else {})}
    for _ in range(rounds):
        took["fping"].append(fping(FPING_TARGETS, seconds))
        took["ours"].append(ours(FPING_TARGETS, seconds + 1))
        if program:
            took["smokeping"].append(smokeping(program, FPING_TARGETS, seconds))
    with _scraped():
        busy = many(MANY_TARGETS, 2 * seconds)
    return {**took, "alone": many(MANY_TARGETS, seconds + 1), "busy": busy}


def verdicts(figures: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Each limit, what was measured, and whether it holds."""
    mine = _per_probe(figures["ours"])
    for name, words, limit in (("fping", "fping's", 1.0), ("smokeping", "smokeping_prober's", 0.5)):
        if name in figures:
            theirs = _per_probe(figures[name])
            what = f"{FPING_TARGETS:,} targets at 1 probe/s: at most {limit} x {words} CPU per probe"
            yield what, f"{mine / theirs:.2f} x ({mine:.0f} against {theirs:.0f} us)", mine <= limit * theirs
    alone = figures["alone"]
    many = f"{MANY_TARGETS:,} targets at 1 probe/s"
    yield f"{many}: at most half of a core", f"{alone['core']:.2f}", alone["core"] <= 0.5
    for name, words in (("alone", ""), ("busy", ", while 10,000 peers are rendered over and over")):
        found = figures[name]
        yield f"{many}{words}: no answer missed", f"{found['lost']:.0f} of {found['sent']:.0f}", found["lost"] == 0
        delay = found["delay_p99"] * 1e3
        yield f"{many}{words}: 99 % leave within 20 ms of their time", f"{delay:.1f} ms", delay <= 20
        error = found["error_p99"] * 1e6
        what = f"{many}{words}: 99 % of round trips within 100 us of the kernel's stamps"
        yield what, f"{error:.0f} us ({found['compared']:.0f} compared)", error <= 100


def _per_probe(costs: list[Any]) -> float:
    """Microseconds, the median of all turns."""
    return statistics.median(Cost(*cost).per_probe for cost in costs)


def main() -> None:
    """Print the figures and the limits they have to keep; exit 1 if one is not kept, 2 if something is missing."""
    parser = argparse.ArgumentParser(prog="bench.probes", description="What probing costs, side by side with fping.")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=4, help="length of a turn (default: %(default)s)")
    parser.add_argument("--engine", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scrapes", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        engine(options.engine, options.seconds)
        return
    if options.scrapes:
        scrapes(10_000, 500)
    figures = measure(options.rounds, options.seconds)
    if isinstance(figures, str):
        parser.error(figures)
    rows = list(verdicts(figures))
    for what, found, kept in rows:
        print(f"{what}: {found} ({'kept' if kept else 'NOT KEPT'})")
    sys.exit(not all(kept for _, _, kept in rows))


if __name__ == "__main__":
    main()
