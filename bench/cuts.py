"""How long it takes from a cut cable to a page, beside a rule on the age of the handshake: real tunnels, real time.

Thirty tunnels, each on an interface of its own, are cut at random moments, and stay cut until both rules have paged.
Everything is as shipped: the exporter's defaults, the rules, the example's Alertmanager, and a scrape every 15 s.
"""

from __future__ import annotations

import argparse
import datetime
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.lab import eventually, lab_prefix, start_exporter
from tests.lab.exporting import scrape
from tests.lab.hub import HubDevice, Plan, exporter_config
from tests.lab.paging import Inbox, alertmanager, inbox, prometheus
from wg_exporter.cli.netlab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = 30
SPREAD = 180.0  # seconds over which the cuts are spread
SCRAPE = 15.0
PATIENCE = 420.0

# What people write, at its best: no `for`, and no peer that never shook hands.
AGE_LIMIT = 300
AGE_RULE = f"""\
groups:
  - name: handshake-age
    interval: 15s
    rules:
      - alert: HandshakeAge
        expr: time() - (wireguard_peer_last_handshake_timestamp_seconds > 0) > {AGE_LIMIT}
        labels: {{severity: critical}}
"""


class Cut(NamedTuple):
    """Seconds from the cut to the exporter's `down`, and to the page of each rule."""

    declared: float
    ours: float
    age: float


def measure(seed: int) -> list[Cut]:
    """Needs root, wireguard-go, Prometheus and Alertmanager. Takes ten minutes, most of them for the other rule."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="wg-exporter-cuts-") as name:
        directory = Path(name)
        with Lab(lab_prefix(), directory / "lab") as lab:
            hub = lab.namespace("hub")
            devices = [HubDevice(lab, hub, f"h{n}", n, [Plan(f"s{n}")]) for n in range(PEERS)]
            with (
                start_exporter(directory=directory, config=exporter_config(lab, hub, devices)) as exporter,
                inbox() as pager,
                alertmanager(directory, pager) as manager,
                prometheus(directory, [exporter.port], manager, interval=SCRAPE, more_rules=AGE_RULE),
            ):
                eventually(lambda: _up(exporter) == PEERS, within=60, every=1)
                time.sleep(60)  # so that every series has a past
                return _cut(devices, pager, exporter.log, dice)


def _up(exporter: Any) -> int:
    return sum(value == 1 for _, value in scrape(exporter).all("wireguard_peer_state", state="up"))


def _cut(devices: list[HubDevice], pager: Inbox, log: Callable[[], str], dice: random.Random) -> list[Cut]:
    start, wall = time.monotonic(), time.time()
    moments = {}
    for at, device in sorted(((dice.uniform(0, SPREAD), device) for device in devices), key=lambda pair: pair[0]):
        time.sleep(max(0.0, start + at - time.monotonic()))
        (site,) = device.sites.values()
        site.cut()
        moments[site.name] = time.monotonic()
    found = []
    for peer, moment in moments.items():
        pages = [pager.wait(rule, within=PATIENCE, peer=peer) for rule in ("WireGuardPeerDown", "HandshakeAge")]
        declared = _declared(log(), peer) - wall + start
        found.append(Cut(*(at - moment for at in (declared, *(page.at for page in pages)))))
    early = [page for page in pager.pages("WireGuardPeerDown") if page.at < moments[page.labels["peer"]]]
    assert not early, early
    return found


def _declared(log: str, peer: str) -> float:
    """When the exporter said that this peer is down, in seconds since the epoch."""
    # The first: a change of the reason is a line too.
    line = next(line for line in log.splitlines() if "after=down" in line and f"peer={peer} " in line)
    return datetime.datetime.fromisoformat(line.split()[0].removeprefix("ts=")).timestamp()


def table(cuts: list[Cut]) -> str:
    """The figures as a table of Markdown."""
    rows = [
        ("down in the exporter", [cut.declared for cut in cuts]),
        ("the page of wg-exporter's rules", [cut.ours for cut in cuts]),
        (f"the page of a rule on handshakes older than {AGE_LIMIT} s", [cut.age for cut in cuts]),
    ]
    lines = ["| from the cut to | median | fastest | slowest |", "| --- | --- | --- | --- |"]
    for name, seconds in rows:
        lines.append(f"| {name} | {statistics.median(seconds):.0f} s | {min(seconds):.0f} s | {max(seconds):.0f} s |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.cuts", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="other moments (default: %(default)s)")
    sys.stdout.write(table(measure(parser.parse_args().seed)))


if __name__ == "__main__":
    main()
