"""What is known and wanted of a probed peer, short to write, and a prober's process that the test plays itself."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from typing import TYPE_CHECKING

from tests.lab import eventually
from wg_exporter.config import ProbeSettings
from wg_exporter.messages.channel import Connection
from wg_exporter.messages.prober import Results, ToProber
from wg_exporter.probed import MtuReport, Probed, ProbePeer, ProbeStats, SendError, Verdict
from wg_exporter.prober.driver import Prober
from wg_exporter.remote.prober.handle import ProberProcess
from wg_exporter.remote.prober.known import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from wg_exporter.model import DeviceKey, PeerKey
    from wg_exporter.probed import FastPeer
    from wg_exporter.sighted import Caller, Sighting, WatchPeer

STATS = ProbeStats(True, 3, 1, 0, 0, ((SendError.NO_KEY, 2),), (1, 1), 0.5, 0.1, 0.2, 0.01)
SILENT = STATS._replace(up=False, silent_since=12.5)


def peer(number: int = 1, **fields: object) -> ProbePeer:
    """A peer whose tunnel and underlay are both the loopback device."""
    row = ProbePeer(("", "lo", f"k{number}"), 1, 1420, "127.0.0.1", False, "127.0.0.1", 0, "", False, 0.1)
    return row._replace(**fields)


def probed(stats: ProbeStats = STATS, mtu: MtuReport | None = None, target: str = "127.0.0.1") -> Probed:
    return Probed(target, stats, mtu)


def report(verdict: Verdict = Verdict.OK, checked: float = 0.0) -> MtuReport:
    return MtuReport(verdict, 1420, None, None, 0, 1480, None, None, "", checked)


class KeyedProber(Prober["PeerKey"]):
    """Probes in the test's thread. Peers go by their keys, and what is told of them is added up."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)
        self._wanted: set[PeerKey] = set()
        self._known = Known()

    def set_peers(self, peers: Iterable[ProbePeer]) -> None:
        """Exactly these from now on."""
        wanted = {one.key: one for one in peers}
        self.update(wanted, self._wanted - wanted.keys())
        self._known.forget(self._wanted - wanted.keys())
        self._wanted = set(wanted)

    def told(self, most: int) -> dict[PeerKey, Probed]:
        """What is known of those of whom something is new."""
        changes = self.changes(most)
        self._known.take(*changes)
        return {key: self._known[key] for key in (*changes.echoes, *changes.reports)}


class Unwatched:
    """What an `Exporter` wants of its prober besides probes: it watches for nobody, and remembers whom it should."""

    watch_problem = ""

    def watch(self, peers: Iterable[WatchPeer], seconds: float) -> None:
        self.windows = [*getattr(self, "windows", ()), (tuple(peers), seconds)]

    def sightings(self) -> Mapping[PeerKey, Sighting]:
        return self.__dict__.setdefault("seen", {})

    def callers(self) -> Mapping[DeviceKey, tuple[Caller, ...]]:
        return {}

    def ask_fast(self, peers: Sequence[FastPeer]) -> None:
        self.fast_asked = peers

    def fast(self) -> Mapping[PeerKey, bool]:
        return {}

    def listen_fast(self, changed: Callable[[], object]) -> None:
        self.fast_changed = changed


class Life:
    """One process of the prober: it is there until it is let go, and the test says what it says."""

    def __init__(self, fd: int, command: str = "read _") -> None:
        self.connection = Connection(socket.socket(fileno=os.dup(fd)), ToProber)
        self.process = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE)

    def hear(self) -> ToProber:
        """The next thing that it is told."""
        return eventually(self.connection.receive, within=30, every=0.002)

    def tell(self, *rows: tuple[int, Probed], withdrawn: Iterable[int] = (), delay: float = 0.0) -> None:
        """Say what was found. The reports of those `withdrawn` do not hold any more."""
        echoes = {number: (probed.target, probed.stats) for number, probed in rows}
        reports = {number: probed.mtu for number, probed in rows if probed.mtu is not None}
        self.connection.send(Results(echoes, reports | dict.fromkeys(withdrawn), delay))

    def die(self) -> None:
        """Let go of the socket, then of the process."""
        self.connection.close()
        self.let_go()

    def let_go(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()


class Played:
    """A `ProberProcess` whose processes are `lives` of the test's own, and the lines that it logged."""

    def __init__(self, settings: ProbeSettings | None = None, namespaces: Mapping[str, str] | None = None) -> None:
        self.lives: list[Life] = []
        self.lines: list[str] = []
        self.command = "read _"
        self.prober = ProberProcess(settings or ProbeSettings(), namespaces, self.lines.append, self._start)

    def _start(self, fd: int) -> subprocess.Popen[bytes]:
        self.lives.append(Life(fd, self.command))
        return self.lives[-1].process

    def life(self, number: int = 1) -> Life:
        """The first process, or a later one, once it was started."""
        eventually(lambda: len(self.lives) >= number, within=30, every=0.002)
        return self.lives[number - 1]

    def begun(self, number: int = 1) -> Life:
        """The same, when it has heard how to probe and whom."""
        life = self.life(number)
        life.hear()
        life.hear()
        return life

    def results(self) -> dict[PeerKey, Probed]:
        """What is told of each peer."""
        devices = self.prober.results().items()
        return {(*device, key): probed for device, peers in devices for key, probed in peers.items()}

    def known(self, key: PeerKey, stats: ProbeStats | None = None) -> Probed:
        """What is told of this peer, once it is that."""
        return eventually(
            lambda: (now := self.results().get(key)) and (stats is None or now.stats == stats) and now,
            within=30,
            every=0.002,
        )


@contextlib.contextmanager
def played(settings: ProbeSettings | None = None, namespaces: Mapping[str, str] | None = None) -> Iterator[Played]:
    """Stopped in the end, with all that was started for it."""
    one = Played(settings, namespaces)
    try:
        yield one
    finally:
        for life in one.lives:
            life.let_go()
        one.prober.stop()
        for life in one.lives:
            life.let_go()
            life.process.wait(30)
            life.connection.close()
