"""What one scrape costs our process, natively, without kernel and HTTP: `python -m bench.scrapes` (half a minute).

10,000 peers of a device that is made up, so that nothing but the exporter is measured: its view, its lines, its bytes.
CPU is that of the whole process. All cases take turns, and of each the least counts: the machine may be shared, and
other work only ever adds.
"""

from __future__ import annotations

import argparse
import logging
import time
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

from tests.probers import Unwatched
from tests.rows import WALL, FakeHost, FakeTime, device, link, peer, probed
from wg_exporter.config import Config
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.model import Peers
from wg_exporter.probed import Probed, ProbeStats  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.remote.prober.probed import ProbedPeers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wg_exporter.config import Config as Settings
    from wg_exporter.model import DeviceKey, Peer, PeerKey, Usage
    from wg_exporter.probed import ProbePeer

PEERS, PROBED = 10_000, 500
VERSIONS = 6  # of the rows of peers that move; made beforehand, and used one after the other
SETTLED = 40  # seconds, after which every peer has a state


class Case(NamedTuple):
    """What is scraped: the page, one peer in how many moves (0: none), how many are probed, and if those move."""

    name: str
    path: str = ""
    step: int = 0
    probed: int = 0
    echoes: bool = False


CASES = (
    Case("nothing moved"),
    Case("a tenth moved", step=10),
    Case("all moved", step=1),
    Case(f"all moved, {PROBED} probed, all echoes new", step=1, probed=PROBED, echoes=True),
    Case(f"{PROBED} probed, all echoes new", probed=PROBED, echoes=True),
    Case(f"{PEERS:,} probed, nothing new", probed=PEERS),
    Case(f"{PEERS:,} probed, all echoes new", probed=PEERS, echoes=True),
    Case("mindflavor, nothing moved", "mindflavor"),
    Case("mindflavor, a tenth moved", "mindflavor", 10),
    Case("mindflavor, all moved", "mindflavor", 1),
    Case("mdlayher, nothing moved", "mdlayher"),
    Case("mdlayher, a tenth moved", "mdlayher", 10),
    Case("mdlayher, all moved", "mdlayher", 1),
)
YARDSTICK = CASES[2]


class FakeProber(Unwatched):
    """Says of some peers what the benchmark wants, by the dictionary in which the handle of the real one keeps it."""

    def __init__(self) -> None:
        self.kept = ProbedPeers()

    def configure(self, config: Settings) -> None:
        """Nothing to do."""

    def set_peers(self, peers: Sequence[ProbePeer]) -> None:
        """Nothing to do."""

    def counters(self, rows: Mapping[PeerKey, tuple[int, int]]) -> None:
        """Nothing to do."""

    def results(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        """What was put."""
        return self.kept.by_device()

    def scheduling_delay(self) -> float | None:
        """Of no interest."""
        return 0.001

    def usages(self) -> Sequence[Usage]:
        """No process."""
        return ()

    def stop(self) -> None:
        """Nothing to do."""


class Bench:
    """One exporter for one case, and what moves before each of its scrapes."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._time, self._host, self._prober = FakeTime(), FakeHost(), FakeProber()
        self._host.links = [link()]
        rows = [_peer(n) for n in range(PEERS)]
        self._versions = cycle(_versions(rows, case.step))
        self._keys = [row.public_key for row in rows[:: PEERS // case.probed]] if case.probed else []
        self._echoes = cycle([_stats(n) for n in range(VERSIONS * 7)])
        self._exporter = Exporter(
            Config(), None, self._host.sources, self._time.clock, prober=self._prober if case.probed else None
        )
        self._move()
        self._probe()
        for _ in range(SETTLED // 5):
            self._exporter.tick()
            self._time.advance(5)
        self.size = 0
        for _ in range(3):
            self.scrape()

    def scrape(self) -> float:
        """CPU seconds of one scrape."""
        self._time.advance(1)
        self._move()
        if self._case.echoes:
            self._probe()
        before = time.process_time()
        chunks = self._exporter.scrape(self._case.path)
        took = time.process_time() - before
        self.size = sum(map(len, chunks))
        return took

    def stop(self) -> None:
        """End its threads."""
        self._exporter.stop()

    def _move(self) -> None:
        self._host.devices = [device(peers=next(self._versions))]

    def _probe(self) -> None:
        for n, key in enumerate(self._keys):
            self._prober.kept["", "wg0", key] = probed(f"10.0.{n >> 8}.{n & 255}")._replace(stats=next(self._echoes))


def _peer(n: int) -> Peer:
    inside = (f"10.0.{n >> 8}.{n & 255}/32", f"fd00::{n:x}/128")
    return peer(n, allowed_ips=inside, last_handshake_ns=int(WALL - 10) * 10**9)


def _versions(rows: list[Peer], step: int) -> list[Peers]:
    """The peers again and again; each time others received and sent more, and what is equal is shared."""
    found = [Peers.of(rows)]
    for _ in range(VERSIONS if step else 0):
        rows = [
            row._replace(rx_bytes=row.rx_bytes + 32_000, tx_bytes=row.tx_bytes + 64_000) if n % step == 0 else row
            for n, row in enumerate(rows)
        ]
        found.append(Peers.of(rows, found[-1]))
    return found


def _stats(n: int) -> ProbeStats:
    """What one more answer changes."""
    buckets = tuple(1000 + n * (bucket == n % 16) for bucket in range(16))
    return probed().stats._replace(
        sent=16_000 + n, lost=0, buckets=buckets, rtt_sum=80.0 + n / 97, rtt_last=0.003 + n / 9973, jitter=n / 99_991
    )


def measure(rounds: int = 15) -> dict[str, tuple[float, int]]:
    """CPU seconds of a scrape of each case, the least of all rounds, and the size of its body in bytes."""
    logging.disable()
    benches = {case.name: Bench(case) for case in CASES}
    took: dict[str, list[float]] = {name: [] for name in benches}
    for _ in range(rounds):
        for name, bench in benches.items():
            took[name].append(bench.scrape())
    for bench in benches.values():
        bench.stop()
    logging.disable(logging.NOTSET)
    return {name: (min(seconds), benches[name].size) for name, seconds in took.items()}


def rows(figures: dict[str, tuple[float, int]]) -> Iterator[tuple[str, float, float, int]]:
    """Each case, its CPU seconds, these as a multiple of those of the case that all are compared with, and bytes."""
    for name, (seconds, size) in figures.items():
        yield name, seconds, seconds / figures[YARDSTICK.name][0], size


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="bench.scrapes", description="What one scrape costs our process.")
    parser.add_argument("--rounds", type=int, default=15, help="scrapes of each case (default: %(default)s)")
    options = parser.parse_args()
    for name, seconds, ratio, size in rows(measure(options.rounds)):
        print(f"{name:45} {1e3 * seconds:7.2f} ms  {ratio:5.2f} x  {size / 1e6:6.2f} MB")


if __name__ == "__main__":
    main()
