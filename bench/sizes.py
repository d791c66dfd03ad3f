"""How fast the MTU of a path is found, beside what a person would do: `python -m bench.sizes` (root, wireguard-go,
Debian's iputils-ping and iputils-tracepath; about a minute).

Three ways to find it, taking turns, each time over a new path of tests/lab/paths.py: the kernel remembers for ten
minutes what a router told it, and the next one would only have to ask.

    wg-exporter mtu --json    the size, the verdict, and the router where the path shrinks
    tracepath -n              the size, if the routers tell it
    ping -M do                halving between 1280 and 1500 bytes; one packet, and at most one second, for each size

Two paths, both with a link of 1433 bytes between two routers, and a tunnel that has shaken hands. One answers: its
routers send packet-too-big. The other is a silent black hole: no packet-too-big, and no fragments either.

Of ours there are three times. `probing` is what its JSON calls `seconds`: from before the first packet to the end of
all probing, so with what confirms the verdict and with the search for the router; the limit of the path that answers is
for this one. The whole command also starts Python and reads the devices. And `known`, of the hole alone, for which its
limit is: the same prober in this process, from when the first big probe that gets lost leaves until the prober's
verdict is a black hole of exactly this size. The command tells it later, when it is done with all.

Nothing leaves the namespaces, and they are removed.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.lab.paths import Path as Route
from tests.lab.probing import Aim
from wg_exporter.cli.netlab import Lab, LabError, missing
from wg_exporter.config import ProbeSettings
from wg_exporter.probed import Verdict
from wg_exporter.prober.driver import Prober
from wg_exporter.prober.mtu.probes import Layer
from wg_exporter.prober.mtu.verdict import judge, outer_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wg_exporter.model import PeerKey

PREFIX = "wgxmtu-"  # the same each time, so that a run removes what a killed one left
MTU, SMALLEST, LARGEST = 1433, 1280, 1500
FITS = {Layer.OUTER: MTU, Layer.INNER: MTU - 60}  # IPv4, UDP and WireGuard's own 32 bytes around it
PATIENCE = 15.0  # seconds: tracepath waits for three at each of up to 30 hops that don't answer
TRIPS, ANSWERS_WITHIN, SILENT_WITHIN = 3, 1.0, 3.0  # round trips, and seconds
WORDS = {"answers": "a path that answers", "silent": "a silent black hole"}


class Took(NamedTuple):
    """The size that one run of a tool found, None if none, and seconds. The last two are of ours alone."""

    found: int | None
    seconds: float
    probing: float = 0.0
    verdict: str = ""


def _ours(path: Route) -> Took:
    command = [sys.executable, "-m", "wg_exporter.cli", "mtu", path.near.name, "--json"]
    began = time.monotonic()
    done = subprocess.run(path.a.inside(command), capture_output=True, text=True, check=False, timeout=90)
    seconds = time.monotonic() - began
    try:
        [found] = json.loads(done.stdout)
    except ValueError as error:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise LabError(f"wg-exporter mtu: {last}") from error
    return Took(found["path_mtu_outer"], seconds, found["seconds"], found["verdict"])


def _tracepath(path: Route) -> Took:
    command = path.a.inside(["tracepath", "-n", path.endpoint])
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Took(None, PATIENCE)
    seconds = time.monotonic() - began
    said = re.search(r"Resume: pmtu (\d+)", done.stdout)
    return Took(int(said[1]) if said else None, seconds)


def _halving(path: Route) -> Took:
    low, high = SMALLEST, LARGEST
    began = time.monotonic()
    while low < high:
        size = (low + high + 1) // 2
        if " 0% packet loss" in path.ping(path.endpoint, size, wait=1):
            low = size
        else:
            high = size - 1
    return Took(low, time.monotonic() - began)


def _known(path: Route) -> float:
    """Seconds from the first big probe that gets lost to the exact size and verdict, as the prober has them."""
    lost: list[float] = []

    def tap(direction: str, _netns: str, layer: Layer, packet: bytes, when: float) -> None:
        if direction == "sent" and len(packet) > FITS[layer]:
            lost.append(when)

    row = Aim(path).row()
    probing: Prober[PeerKey] = Prober(ProbeSettings(), {path.a.name: f"/run/netns/{path.a.name}"}, tap=tap)
    with closing(probing) as prober:
        prober.update({row.key: row})
        prober.search(row.key)
        end = time.time() + PATIENCE
        while (now := time.time()) < end:
            findings = prober.findings(row.key)
            if judge(findings) is Verdict.BLACKHOLE and outer_path(findings) == (MTU, 0):
                return now - lost[0]
            prober.step(0.01)
    raise LabError(f"the prober did not find the black hole within {PATIENCE:g} s")


OURS = "wg-exporter mtu"
TOOLS: dict[str, Callable[[Route], Took]] = {OURS: _ours, "tracepath": _tracepath, "halving ping": _halving}


def _answers(path: Route) -> Route:
    return path.narrow(MTU)


def _silent(path: Route) -> Route:
    return path.narrow(MTU).drop_too_big().drop_fragments()


def measure(rounds: int = 3) -> dict[str, Any] | str:
    """For each path its round trip in seconds and what each tool took; or why not, in one line."""
    lacking = [*missing(), *(f"no {tool}" for tool in ("wireguard-go", "nft", "tracepath") if not shutil.which(tool))]
    if lacking:
        return "; ".join(lacking)
    try:
        figures = {"answers": _compare(_answers, rounds), "silent": _compare(_silent, rounds)}
        figures["silent"]["known"] = [_known_anew() for _ in range(rounds)]
    except LabError as error:
        return str(error)
    return figures


def _known_anew() -> float:
    with _path(_silent) as path:
        _round_trip(path)
        return _known(path)


def _compare(lay: Callable[[Route], Route], rounds: int) -> dict[str, Any]:
    took: dict[str, list[Took]] = {tool: [] for tool in TOOLS}
    trips = []
    for _ in range(rounds):
        for tool, find in TOOLS.items():
            if not _gave_up(took[tool]):
                with _path(lay) as path:
                    trips.append(_round_trip(path))
                    took[tool].append(find(path))
    return {"round_trip": statistics.median(trips), "took": took}


def _gave_up(took: list[Took]) -> bool:
    """It was not waited for, and won't be again."""
    return any(one.seconds >= PATIENCE for one in took)


@contextmanager
def _path(lay: Callable[[Route], Route]) -> Iterator[Route]:
    with tempfile.TemporaryDirectory() as directory, Lab(PREFIX, Path(directory, "lab"), kernel=False) as lab:
        lab.close()
        yield lay(Route(lab))


def _round_trip(path: Route) -> float:
    """Seconds through the tunnel and back, after a handshake."""
    path.ping(path.target(), wait=5)
    said = re.search(r"time=([\d.]+) ms", path.ping(path.target()))
    if said is None:
        raise LabError("nothing comes back through the tunnel of the lab")
    return float(said[1]) / 1e3


def verdicts(figures: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Each limit, what was measured, and whether it holds."""
    probing, found, right = _whole(figures, "answers", Verdict.FRAGMENTED_PATH)
    trip = figures["answers"]["round_trip"]
    what = f"MTU of {WORDS['answers']}: exact within {TRIPS} round trips + {ANSWERS_WITHIN:g} s"
    measured = f"{found}, all probing done after {probing:.2f} s (round trip {1e3 * trip:.1f} ms)"
    yield what, measured, right and probing <= TRIPS * trip + ANSWERS_WITHIN

    probing, found, right = _whole(figures, "silent", Verdict.BLACKHOLE)
    known = statistics.median(figures["silent"]["known"])
    what = f"MTU of {WORDS['silent']}: exact within {SILENT_WITHIN:g} s after the first lost big probe"
    measured = f"{found}, known after {known:.2f} s, all probing done after {probing:.2f} s"
    yield what, measured, right and known <= SILENT_WITHIN


def _whole(figures: dict[str, Any], case: str, verdict: Verdict) -> tuple[float, str, bool]:
    """Of our command: the median of its probing, what all runs found, and whether each was right."""
    runs = [Took(*one) for one in figures[case]["took"][OURS]]
    found = ", ".join(sorted({f"{one.found} bytes and {one.verdict}" for one in runs}))
    right = all((one.found, one.verdict) == (MTU, verdict.value) for one in runs)
    return statistics.median(one.probing for one in runs), found, right


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str, list[float], float]]:
    """Path, tool, what it found, the seconds of each run, and their median as a multiple of our whole command's."""
    for case, words in WORDS.items():
        ours = 0.0
        for tool, raw in figures[case]["took"].items():
            runs = [Took(*one) for one in raw]
            seconds = [one.seconds for one in runs]
            found = ", ".join(sorted({str(one.found or "nothing") for one in runs}))
            if _gave_up(runs):
                found = f"nothing, not waited for after {PATIENCE:g} s"
            ours = ours or statistics.median(seconds)
            if tool == OURS:
                probing = [one.probing for one in runs]
                yield words, f"{tool}, its probing alone", found, probing, statistics.median(probing) / ours
            yield words, tool, found, seconds, statistics.median(seconds) / ours
            if tool == OURS and "known" in figures[case]:
                known = figures[case]["known"]
                yield words, "its prober, until it knows", str(MTU), known, statistics.median(known) / ours


def main() -> None:
    """Print the figures and the limits they have to keep; exit 1 if one is not kept, 2 if something is missing."""
    parser = argparse.ArgumentParser(prog="bench.sizes", description="How fast the MTU of a path is found.")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: %(default)s)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench.sizes: stopped"))  # so that what was made is removed
    figures = measure(options.rounds)
    if isinstance(figures, str):
        parser.error(figures)
    for path, tool, found, seconds, ratio in rows(figures):
        times = f"{statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})"
        print(f"{path}, {tool}: {found}, {times}, {ratio:.2f} x")
    limits = list(verdicts(figures))
    for what, measured, kept in limits:
        print(f"{what}: {measured} ({'kept' if kept else 'NOT KEPT'})")
    sys.exit(not all(kept for _, _, kept in limits))


if __name__ == "__main__":
    main()
