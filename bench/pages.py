"""False and missed pages in the simulated day: our rules beside those that people copy. `python -m bench.pages`.

The others are the three WireGuard rules of awesome-prometheus-alerts (https://github.com/samber/awesome-prometheus-alerts,
CC BY 4.0), over the metrics of the exporter that they are written for, from the same day, by the same engine, every
minute. All that fires is counted as a page, also what is a warning there, each time that it begins to: where every
tenth scrape is lost, an alert over a plain gauge ends and begins all day long. Three minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.day.loop import BEGIN, WALL
from tests.day.pages import Page, evaluate
from tests.day.plan import live
from tests.day.report import HALVES, RULES, judged, lived
from tests.day.rules import of
from tests.day.series import JOB, named, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.day.plan import Truth
    from tests.day.scrapes import Scrapes
    from wg_exporter.model import Peers

# As they stand there, but for the texts of the pages: name, for, expression.
OTHERS = (
    ("WireguardPeerHandshakeNeverEstablished", "5m", "wireguard_latest_handshake_seconds == 0"),
    (
        "WireguardPeerHandshakeTooOld",
        "2m",
        "time() - wireguard_latest_handshake_seconds > 300 and wireguard_latest_handshake_seconds > 0",
    ),
    (
        "WireguardNoTrafficOnPeer",
        "15m",
        (
            "(rate(wireguard_sent_bytes_total[15m]) + rate(wireguard_received_bytes_total[15m])) == 0"
            " and wireguard_latest_handshake_seconds > 0 and (time() - wireguard_latest_handshake_seconds) < 300"
        ),
    ),
)
EVERY = 60
BEGINS = f'ALERTS{{alertstate="firing"}} unless ALERTS{{alertstate="firing"}} offset {EVERY}s'

# promtool's clock begins in 1970, at 0: an age is right only if the stamps count from there too.
COLUMNS: tuple[tuple[str, Callable[[Peers], Sequence[int]]], ...] = (
    ("wireguard_sent_bytes_total", lambda peers: peers.tx_bytes),
    ("wireguard_received_bytes_total", lambda peers: peers.rx_bytes),
    ("wireguard_latest_handshake_seconds", lambda peers: [_of_the_day(ns) for ns in peers.last_handshake_ns]),
)


def _of_the_day(nanoseconds: int) -> int:
    """A handshake in seconds since the day began; those before are of its first second, for 0 means never."""
    return max(int(nanoseconds / 1e9 - WALL - BEGIN), 1) if nanoseconds else 0


def theirs(scrapes: Scrapes) -> Iterator[tuple[str, str]]:
    """The series that MindFlavor's exporter would have served of the same devices."""
    for device in sorted({name for _, devices in scrapes.devices for name in devices}):
        first = next(devices[device] for _, devices in scrapes.devices if device in devices)
        for metric, column in COLUMNS:
            table = [(at, _column(devices.get(device), column)) for at, devices in scrapes.devices]
            for place, peer in enumerate(first):
                labels = (("interface", device), ("public_key", peer.public_key), ("allowed_ips", peer.allowed_ips[0]))
                points = [(at, row[place] if row else None) for at, row in table]
                target = (("job", JOB), ("instance", scrapes.instance))
                yield named(metric, (*target, *labels)), values(points, scrapes.lost, scrapes.number)


def _column(peers: Peers | None, column: Callable[[Peers], Sequence[float]]) -> Sequence[float] | None:
    return None if peers is None else column(peers)


def _half(seed: int, names: tuple[str, ...]) -> tuple[Truth, list[Page]]:
    """What the three rules page of these hosts."""
    day = live(seed, names, keep=True)
    series = [found for scrapes in day.scrapes for found in theirs(scrapes)]
    group = {"name": "others", "rules": [{"alert": name, "for": held, "expr": expr} for name, held, expr in OTHERS]}
    with tempfile.TemporaryDirectory(prefix="wg-pages-") as directory:
        found = evaluate(series, of([group]), Path(directory), every=EVERY, query=BEGINS)
    return day.truth, [Page(labels, at, at) for at, alerts in found.items() for labels in alerts]


def table(seed: int) -> str:
    """The figures of one day as a table of Markdown."""
    day, ours = lived(seed, RULES)
    with ProcessPoolExecutor(len(HALVES)) as pool:
        halves = [half.result() for half in [pool.submit(_half, seed, names) for names in HALVES]]
    pages = [page for _, found in halves for page in found]
    lines = [
        "| rules | false pages | different ones | outages missed | pages of each outage |",
        "| --- | --- | --- | --- | --- |",
        _row("wg-exporter, all that are critical", day.truth, ours),
    ]
    for name, _, _ in OTHERS:
        lines.append(_row(f"`{name}`", day.truth, [page for page in pages if ("alertname", name) in page.labels]))
    lines.append(_row("these three together", day.truth, pages))
    return "\n".join(lines) + "\n"


def _row(name: str, truth: Truth, pages: list[Page]) -> str:
    verdict = judged(truth, pages)
    each = ", ".join(map(str, verdict.paged))
    different = len({page.labels for page in verdict.false})
    return f"| {name} | {len(verdict.false):,} | {different:,} | {verdict.missed} of {len(verdict.paged)} | {each} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="another day (default: %(default)s)")
    print(table(parser.parse_args().seed))


if __name__ == "__main__":
    main()
