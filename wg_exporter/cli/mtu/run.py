"""Runs the prober in this process until every peer that was asked for is done.

Each peer goes through the phases by itself: the search; the byte counters, if it answers nothing and that was asked
for; the hop behind which the path shrinks, if it does. All peers run at once, within the limits of the prober. `Check`
decides and has no clock. `run` has the clock, the screen, the capture and a thread that reads the byte counters: that
can take seconds on a busy host, and answers must not wait for it.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from wg_exporter.cli.common import again
from wg_exporter.cli.frames import token_of
from wg_exporter.cli.mtu.results import Result, conclude, countable, so_far, unprobed
from wg_exporter.cli.mtu.running import Quiet
from wg_exporter.cli.mtu.screen import REDRAW, Doing, Phase
from wg_exporter.config import ProbeSettings
from wg_exporter.daemon.prober import read_counters
from wg_exporter.probed import Verdict
from wg_exporter.prober.driver import Prober
from wg_exporter.prober.mtu.locate import Direction
from wg_exporter.prober.mtu.verdict import judge
from wg_exporter.prober.wire.netns import Namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from wg_exporter.cli.mtu.capture import Capture
    from wg_exporter.cli.mtu.choice import Choice
    from wg_exporter.cli.mtu.screen import Progress
    from wg_exporter.config import Config
    from wg_exporter.model import PeerKey, Snapshot
    from wg_exporter.prober.mtu.probes import Layer
    from wg_exporter.prober.transport import Tap

COUNTERS_EVERY = 0.5  # seconds between two readings of the byte counters
TIMEOUT = 60.0  # seconds: an unreachable peer is certain after 30
TIMEOUT_EACH = 0.5  # seconds more for each peer, as the prober runs few searches at a time
SILENT_TIMEOUT = 300.0  # seconds more for P8, which takes 70 to 170
ROUND = 0.02  # seconds between two reads of the capture's sockets, whose buffers hold several thousand packets

_SHRINKS = (Verdict.BLACKHOLE, Verdict.FRAGMENTED_LOCAL, Verdict.FRAGMENTED_PATH)


def lacks_permission() -> str:
    """One line that says which permission is missing to probe, empty if none is."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except PermissionError:
        return (
            "no permission to send probes: this needs CAP_NET_RAW, and CAP_NET_ADMIN to read the devices; "
            f"run: {again()}"
        )
    return ""


class _Job:
    """One peer and its phase. `started` is monotonic seconds."""

    def __init__(self, choice: Choice) -> None:
        self.asked = choice.asked
        self.peer = choice.peer
        self.phase = Phase.WAITING
        self.started = 0.0
        self.result: Result | None = None


class Check:
    """All peers and their phases. `now` is monotonic seconds."""

    def __init__(
        self,
        choices: Sequence[Choice],
        prober: Prober[PeerKey],
        *,
        silent: bool,
        deadline: float,
        quiet: Quiet | None = None,
    ) -> None:
        """`quiet` keeps the exporter from probing while byte counters are watched."""
        self._prober = prober
        self._quiet = quiet or Quiet("")
        self._silent = silent
        self._deadline = deadline
        self._jobs = [_Job(choice) for choice in choices]

    def start(self, now: float) -> None:
        """Begin with all peers."""
        self._prober.update({job.peer.key: job.peer for job in self._jobs if job.peer})
        for job in self._jobs:
            job.started = now
            if job.peer is None:
                job.phase, job.result = Phase.DONE, unprobed(job.asked)
            else:
                job.phase = Phase.SEARCHING
                self._prober.search(job.peer.key)

    def step(self, now: float) -> bool:
        """Bring each peer that is ready for it to its next phase. Returns whether all are done."""
        for job in self._jobs:
            if job.peer is None or job.phase is Phase.DONE:
                continue
            if now >= self._deadline:
                self._finish(job, now, cut=True)
            elif not self._prober.busy(job.peer.key):
                self._advance(job, job.peer.key, now)
        return all(job.phase is Phase.DONE for job in self._jobs)

    def doing(self, now: float) -> list[Doing]:
        """The progress of each peer."""
        return [self._doing(job, now) for job in self._jobs]

    def results(self) -> list[Result]:
        """The results of the peers that are done, in the order in which they were asked for."""
        return [job.result for job in self._jobs if job.result]

    def _advance(self, job: _Job, key: PeerKey, now: float) -> None:
        findings = self._prober.findings(key)
        verdict = judge(findings)
        if job.phase is Phase.SEARCHING and self._silent and countable(verdict, findings):
            job.phase = Phase.SILENT
            self._quiet.begin(key, SILENT_TIMEOUT)
            self._prober.ask_silent(key)
        elif job.phase is not Phase.HOP and verdict in _SHRINKS and findings.direction is not Direction.BACK:
            job.phase = Phase.HOP
            self._prober.find_hop(key)
        else:
            self._finish(job, now)

    def _finish(self, job: _Job, now: float, *, cut: bool = False) -> None:
        assert job.peer is not None  # noqa: S101 - for the type checker
        key = job.peer.key
        findings, shrink = self._prober.findings(key), self._prober.shrink(key)
        self._quiet.end(key)
        job.result = conclude(job.asked, findings, shrink, now - job.started, cut=cut)
        job.phase = Phase.DONE

    def _doing(self, job: _Job, now: float) -> Doing:
        if job.result is not None:
            return Doing(job.asked, job.phase, job.result.seconds, verdict=job.result.advice.verdict)
        known = so_far(self._prober.findings(job.peer.key)) if job.peer else ""
        return Doing(job.asked, job.phase, now - job.started, known)


class Counters:
    """Reads byte counters in a thread of its own, as reading may take longer than answers should wait."""

    def __init__(self, look: Callable[[], Snapshot], keys: Iterable[PeerKey]) -> None:
        self._look = look
        self._keys = frozenset(keys)
        self._latest: dict[PeerKey, tuple[int, int]] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counters", daemon=True)

    def __enter__(self) -> Counters:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()  # a reading has a deadline of its own

    def fresh(self) -> dict[PeerKey, tuple[int, int]] | None:
        """(rx, tx) in bytes by peer, as last read; None if nothing was read since the last call."""
        latest, self._latest = self._latest, None
        return latest

    def _run(self) -> None:
        while not self._stop.is_set():
            self._latest = read_counters(self._look(), self._keys)
            self._stop.wait(COUNTERS_EVERY)


class _Tokens:
    """The tokens of all probes that were sent. The prober calls `tap`, the capture `ours`."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def tap(self, direction: str, netns: str, layer: Layer, packet: bytes, when: float) -> None:  # noqa: ARG002
        """Take a packet that was sent or received."""
        token = token_of(packet) if direction == "sent" else None
        if token is not None:
            self._known.add(token)

    def ours(self, token: int) -> bool:
        """Whether one of our probes carried it."""
        return token in self._known


def run(
    choices: Sequence[Choice],
    config: Config,
    look: Callable[[], Snapshot],
    progress: Progress,
    *,
    silent: bool = False,
    timeout: float | None = None,
    pcap: Path | None = None,
    quiet: Quiet | None = None,
    warn: Callable[[str], None] = print,
) -> list[Result]:
    """Check all these peers. Returns the result of each, in their order. `look` reads the devices, in a thread.

    `quiet` is how an exporter is kept from probing. `timeout` is in seconds; peers that are not finished by then get
    results of what is known. `pcap` is the file for packets; `warn` gets a line if some are missing there. Raises
    CaptureError.
    """
    if timeout is None:
        timeout = TIMEOUT + TIMEOUT_EACH * len(choices) + (SILENT_TIMEOUT if silent else 0.0)
    paths = {place.name: place.path for place in config.namespaces}
    tokens = _Tokens()
    settings = ProbeSettings(timeout=config.probe.timeout)
    keys = [choice.peer.key for choice in choices if choice.peer]
    with (
        _capturing(pcap, choices, paths, warn) as capture,
        closing(_prober(settings, paths, tokens.tap if capture else None)) as prober,
        Counters(look, keys) as counters,
        quiet or Quiet("") as still,
        progress,
    ):
        check = Check(choices, prober, silent=silent, deadline=time.monotonic() + timeout, quiet=still)
        check.start(time.monotonic())
        drawn = 0.0
        while not check.step(now := time.monotonic()):
            if now >= drawn + REDRAW:
                progress.update(check.doing(now))
                drawn = now
            prober.step(ROUND if capture else REDRAW)
            if (fresh := counters.fresh()) is not None:
                prober.counters(fresh)
            if capture:
                capture.drain(tokens.ours)
        progress.update(check.doing(time.monotonic()))
        if capture:
            capture.drain(tokens.ours)
        return check.results()


def _prober(settings: ProbeSettings, paths: Mapping[str, str], tap: Tap | None) -> Prober[PeerKey]:
    return Prober(settings, paths, tap=tap)


@contextmanager
def _capturing(
    path: Path | None, choices: Sequence[Choice], paths: Mapping[str, str], warn: Callable[[str], None]
) -> Iterator[Capture | None]:
    """A capture of the namespaces of all devices, or none."""
    if path is None:
        yield None
        return
    from wg_exporter.cli.mtu.capture import Capture  # noqa: PLC0415 - it imports scapy, which takes 0.5 s

    with closing(Namespaces(paths)) as namespaces, closing(Capture(path, namespaces.open)) as capture:
        tunnels: dict[str, set[str]] = {}
        for peer in (choice.peer for choice in choices if choice.peer):
            tunnels.setdefault(peer.key[0], set()).add(peer.key[1])
            tunnels.setdefault(peer.underlay, set())
        for netns, names in tunnels.items():
            capture.probes(netns, names)
        yield capture
    if capture.dropped:
        warn(f"{path}: the kernel dropped {capture.dropped:,} packets that could not be read in time")
