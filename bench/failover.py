"""False alarms and cost of fast echoes: `python -m bench.failover` (root; about two minutes), into failover.json.

False alarms are computed, and simulated by the book that the prober runs, with a clock that is played: every echo and
every answer is lost by lot. A row has the alarms of so many hours at 100 ms. What is rarer than a few in a day is only
computed. docs/failover.md shows both (`make docs`).

The cost is the processor time of a process that sends fast echoes to 64 peers every 100 ms, all on the loopback device,
which answers by itself: so the kernel's work for the answers is in it too, and that of an encryption is not.
"""

from __future__ import annotations

import argparse
import datetime
import heapq
import json
import math
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from wg_exporter.config.fast import MOST_FAST
from wg_exporter.prober.fast.book import FastBook
from wg_exporter.prober.fast.track import FastTarget
from wg_exporter.prober.wire.engine import Engine

RESULTS = Path(__file__).parent / "failover.json"
LOSSES = (0.01, 0.02, 0.05, 0.1)  # in each direction
MULTIPLIERS = (3, 4, 5, 6, 8, 10)
INTERVAL = 0.1  # seconds
TEN_MINUTES = 600.0
TRIP = 0.02  # seconds from an echo to its answer
RAREST = 3600.0  # seconds between two alarms, of the cells that are simulated
ALARMS, LEAST_HOURS = 30, 2.0  # for so many alarms or hours
RUNS, SECONDS = 5, 10.0  # of the cost


def lost(loss: float) -> float:
    """The part of echoes without an answer, where so much is lost in each direction."""
    return 1 - (1 - loss) ** 2


def between(loss: float, multiplier: int) -> float:
    """Seconds at 100 ms from one false alarm to the next, in the mean: one begins wherever an answered echo is followed
    by so many that are not.
    """
    part = lost(loss)
    return INTERVAL / ((1 - part) * part**multiplier)


def chance(loss: float, multiplier: int, seconds: float = TEN_MINUTES) -> float:
    """The probability of at least one false alarm in this time: of a run of so many losses in a row."""
    part = lost(loss)
    begun = (1 - part) * part**multiplier
    none = [1.0] * multiplier + [1 - part**multiplier]  # by the number of echoes: that there was no run
    for count in range(multiplier + 1, round(seconds / INTERVAL) + 1):
        none.append(none[-1] - begun * none[count - multiplier - 1])
    return 1 - none[-1]


def simulate(loss: float, multiplier: int, hours: float, seed: int) -> int:
    """How often a peer that is never down goes down in these hours, by the book of the prober."""
    draw = random.Random(seed)
    book = FastBook(draw.randbytes)
    now, end, alarms = 0.0, hours * 3600, 0
    book.put(FastTarget(1, "", 1, "10.0.0.1", INTERVAL, multiplier), now)
    flying: list[tuple[float, int, int, bytes]] = []
    while now < end:
        while flying and flying[0][0] <= now:
            when, token, ident, sender = heapq.heappop(flying)
            book.answer(sender, ident, token, when)
        book.look(now)
        for echo in book.due(now):
            if draw.random() >= loss and draw.random() >= loss:
                heapq.heappush(flying, (now + TRIP, echo.token, echo.ident, echo.track.address))
        alarms += sum(up is False for up in book.changes().values())
        event = book.next_event()
        now = max(min(event, flying[0][0]) if flying else event, now + 1e-6)
    return alarms


def simulated() -> list[dict[str, Any]]:
    """Each cell in which there is something to see."""
    rows = []
    for loss in LOSSES:
        for multiplier in MULTIPLIERS:
            seconds = between(loss, multiplier)
            if seconds <= RAREST:
                hours = max(LEAST_HOURS, math.ceil(ALARMS * seconds / 3600))
                alarms = simulate(loss, multiplier, hours, seed=multiplier)
                rows.append({"loss": loss, "multiplier": multiplier, "hours": hours, "alarms": alarms})
                print(rows[-1], f"expected {hours * 3600 / seconds:.1f}", flush=True)
    return rows


def send(seconds: float) -> None:
    """Send fast echoes to as many peers as there may be, and print what that took."""
    engine = Engine()
    for number in range(MOST_FAST):
        engine.put_fast(FastTarget(number, "", 1, f"127.0.0.{number + 1}", INTERVAL, 6))
    warm = time.monotonic() + 2
    engine.run(lambda: time.monotonic() >= warm)
    assert all(track.up for track in engine.fast.tracks())
    before, began, sent = resource.getrusage(resource.RUSAGE_SELF), time.monotonic(), _sent(engine)
    engine.run(lambda: time.monotonic() >= began + seconds)
    after, took = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    assert all(track.up for track in engine.fast.tracks())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"part": cpu / took, "echoes": (_sent(engine) - sent) / took}))
    engine.close()


def _sent(engine: Engine) -> int:
    return sum(track.number for track in engine.fast.tracks())


def cost() -> dict[str, Any]:
    """The part of a core, of several runs."""
    runs = []
    for _ in range(RUNS):
        command = [sys.executable, "-m", "bench.failover", "--send", str(SECONDS)]
        runs.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(f"{runs[-1]['part']:.1%} of a core, {runs[-1]['echoes']:.0f} echoes a second", flush=True)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "peers": MOST_FAST,
        "interval": INTERVAL,
        "runs": runs,
        "median": statistics.median(run["part"] for run in runs),
    }


def main() -> None:
    """Measure and simulate, or send."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--send", type=float, metavar="SECONDS", help="only send, and print the part of a core")
    parser.add_argument("--only", choices=("cost", "simulated"), help="keep the other part as it was")
    asked = parser.parse_args()
    if asked.send is not None:
        send(asked.send)
        return
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, make in (("cost", cost), ("simulated", simulated)):
        if asked.only in (None, name):
            found[name] = make()
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
