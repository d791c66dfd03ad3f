"""One tunnel in a random story: WireGuard as the kernel has it, users, a prober, a watcher, and a fault that is mended.

Everything that tells health of the tunnel tells it late, each by its own time: the looks at the counters, the prober,
the watcher. A story says what was true; `told` what was said meanwhile.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from random import Random
from typing import NamedTuple

from tests.day.loop import Loop
from tests.day.prober import Pinger
from tests.day.wireguard import End, Path
from tests.rows import key, link, peer, snapshot
from tests.tunnels import LIMITS, LINKS_READ, Judge
from wg_exporter.daemon.watching import Watching
from wg_exporter.model import Backend, Device, Peers
from wg_exporter.names.identity import PeerMeta
from wg_exporter.prober.watcher.leaving import EVERY, FIRST_TURN, TURN
from wg_exporter.sighted import LAST, Sighting

WG0 = ("", "wg0")
BREAKS_AT = 300.0  # seconds after the tunnel was set up
FULL = 1452  # bytes on the wire of a packet of 1420


class Fault(Enum):
    """What is wrong. Ours is the end that the exporter watches."""

    NOTHING = "nothing"
    CUT = "nothing passes"
    AWAY = "nothing reaches the peer"
    TOWARDS = "nothing comes from the peer"
    DATA = "handshakes pass, data does not"
    DATA_AWAY = "handshakes pass, and data towards us"
    DATA_TOWARDS = "handshakes pass, and data away from us"
    OUTPUT = "nothing leaves this host"
    DEAD = "the peer is switched off"
    TARGET = "the host that is probed behind the peer is switched off"


class Users(Enum):
    """Who uses the tunnel."""

    NOBODY = "nobody"
    TALK = "talk"  # both ask, both answer
    LOG = "log"  # what is sent is never answered, but by WireGuard
    DOWNLOAD = "download"  # bulk data from the peer
    UPLOAD = "upload"


class Story(NamedTuple):
    """What happens. Times in seconds; `lasts` is how long the fault does."""

    seed: int
    fault: Fault
    users: Users
    lasts: float
    probed: bool
    watched: bool
    keepalive: int
    theirs: int
    loss: float  # each way
    latency: float  # likewise
    told_after: float  # what the watcher saw is told so late
    interval: float  # of echoes
    busy: bool  # so much leaves this host that it is looked at in turns only
    starts: float  # when the exporter does
    off: bool = False  # whether the host that is probed is off too, from the fault on and after it
    calm: float = 150.0  # how long it goes on after the mending

    @property
    def mended(self) -> float:
        return BREAKS_AT + self.lasts


def story(seed: int) -> Story:
    """A story drawn by this seed."""
    rng = Random(seed)
    fault = rng.choice(list(Fault))
    return Story(
        seed,
        fault,
        rng.choice(list(Users)),
        rng.choice((rng.uniform(2, 60), rng.uniform(20, 400))),
        probed=rng.random() < 0.7,
        watched=rng.random() < 0.8,
        keepalive=rng.choice((0, 25, 25)),
        theirs=rng.choice((0, 25)),
        loss=rng.choice((0.0, 0.0, 0.02, 0.05)),
        latency=rng.choice((0.005, 0.04, 0.3)),
        told_after=rng.choice((0.1, 1.0, 6.0, 25.0)),
        interval=rng.choice((1.0, 5.0, 5.0)),
        busy=rng.random() < 0.3,
        starts=rng.uniform(130, 200),  # the first keepalive may take two minutes
    )


class Said(NamedTuple):
    """A state that was found, and when."""

    at: float
    state: str
    reason: str
    evidence: str


class Told(NamedTuple):
    """What was said of the peer; and when the tunnel carried data both ways again, infinity if never."""

    said: list[Said]
    well_at: float


class _End(End):
    """An end with a filter on the way, and one in front of which the watcher sits."""

    __slots__ = ("wire",)

    wire: _Wire

    def _put(self, receive, *what, size, packets=1):
        if not self.endpoint:
            return
        if self.wire.drops_output(self):
            self.tx += size * packets
            return
        kind = receive.__name__
        self.wire.watcher.sees(kind, leaving=self.away, now=self.loop.now)
        if self.wire.drops(kind, away=self.away):
            self.tx += size * packets
            return
        super()._put(receive, *what, size=size, packets=packets)

    def take_initiation(self, asked, packets):
        if self.away:
            self.wire.watcher.comes(self.loop.now)
        super().take_initiation(asked, packets)

    def take_data(self, key, data, packets):
        before = self.rx
        super().take_data(key, data, packets)
        if self.rx != before:
            self.wire.heard(self)


class Watcher:
    """The watcher: counts handshake messages while a window is open, and tells of them later."""

    def __init__(self, loop: Loop, told_after: float, *, busy: bool) -> None:
        self._loop, self._late, self._busy = loop, told_after, busy
        self._until = -inf
        self._began = 0.0
        self._received: list[float] = []
        self._sent: list[float] = []
        self._taken: list[float] = []
        self.told: Sighting | None = None

    def open(self, seconds: float) -> None:
        now = self._loop.now
        if now >= self._until:
            self._began = now
            self._sent, self._taken, self._received = [], [], []
        self._until = max(self._until, now + seconds)
        self._loop.at(self._until, self._end, self._until)
        self._tell()

    def sees(self, kind: str, *, leaving: bool, now: float) -> None:
        if not leaving or now >= self._until or not self._out[0] <= now <= self._out[1]:
            return
        if kind == "take_initiation":
            self._sent.append(now)
        elif kind == "take_response":
            self._taken.append(now)
        else:
            return
        self._tell()

    def comes(self, now: float) -> None:
        """An initiation of the peer's."""
        if now < self._until:
            self._received.append(now)
            self._tell()

    @property
    def _out(self) -> tuple[float, float]:
        """The latest time in which what leaves was looked at."""
        if not self._busy:
            return -inf, inf
        turn = (self._loop.now - self._began - FIRST_TURN) // EVERY
        if turn < 0:
            return self._began, self._began
        first = self._began + FIRST_TURN + turn * EVERY
        return first, first + TURN if self._loop.now > first + TURN else inf

    def _end(self, until: float) -> None:
        if until == self._until:
            self._tell(over=True)

    def _tell(self, *, over: bool = False) -> None:
        """What there is to tell at the time at which it is told."""
        row = self._row()._replace(open=not over)
        self._loop.at(self._loop.now + self._late, self._say, row)

    def _say(self, row: Sighting) -> None:
        self.told = row

    def _row(self) -> Sighting:
        return Sighting(
            self._began,
            self._loop.now - self._began,
            initiations_sent=len(self._sent),
            responses_sent=len(self._taken),
            initiations_received=len(self._received),
            received_at=tuple(self._received[-LAST:]),
            sent_at=tuple(self._sent[-LAST:]),
            taken_at=tuple(self._taken[-LAST:]),
            out_from=self._out[0],
            out_to=self._out[1],
        )


class _Wire:
    """What is between the ends."""

    def __init__(self, path: Path, watcher: Watcher) -> None:
        self.path, self.watcher = path, watcher
        self.fault = Fault.NOTHING
        self.mended = False
        self._well: set[bool] = set()
        self.well_at = inf

    def heard(self, end: End) -> None:
        """Data or a keepalive came to this end. If that happened at both after the mending, the tunnel is well."""
        if self.mended and self.well_at == inf:
            self._well.add(end.away)
            if len(self._well) == 2:
                self.well_at = end.loop.now

    def drops_output(self, end: End) -> bool:
        return end.away and self.fault is Fault.OUTPUT

    def drops(self, kind: str, *, away: bool) -> bool:
        fault, data = self.fault, kind == "take_data"
        if fault is Fault.CUT:
            return True
        if fault in {Fault.AWAY, Fault.TOWARDS}:
            return away is (fault is Fault.AWAY)
        both = fault is Fault.DATA
        return data and (both or (fault is (Fault.DATA_AWAY if away else Fault.DATA_TOWARDS)))


class _Play:
    def __init__(self, told: Story) -> None:
        self.story, self.rng, self.loop = told, Random(told.seed + 1), Loop()
        path = Path(self.rng, told.loss, latency=told.latency)
        self.watcher = Watcher(self.loop, told.told_after, busy=told.busy)
        self.wire = _Wire(path, self.watcher)
        self.here = _End(self.loop, path, away=True, keepalive=told.keepalive)
        self.there = _End(self.loop, path, away=False, keepalive=told.theirs)
        self.here.wire = self.there.wire = self.wire
        self.here.other, self.there.other = self.there, self.here
        self.health, self.watching = Judge(), Watching()
        self.said: list[Said] = []
        self.meta = PeerMeta("berlin", True, True)
        self.row = peer(1, persistent_keepalive=told.keepalive)
        self.pinger = (
            Pinger(self.loop, self.rng, self.here, "10.0.0.1", deaf=False, interval=told.interval)
            if told.probed
            else None
        )

    def play(self) -> Told:
        loop, told = self.loop, self.story
        loop.at(told.starts, self._start)
        loop.at(self.rng.uniform(0, 5), self._use)
        loop.at(BREAKS_AT, self._break)
        loop.at(told.mended, self._mend)
        loop.run(told.mended + told.calm)
        return Told(self.said, self.wire.well_at)

    def _start(self) -> None:
        if self.pinger:
            self.pinger.start()
        self._tick()

    def _break(self) -> None:
        fault = self.wire.fault = self.story.fault
        if fault is Fault.DEAD:
            self.there.on = False
        if self.pinger and (fault is Fault.TARGET or self.story.off):
            self.pinger.deaf = True

    def _mend(self) -> None:
        if self.story.fault is Fault.DEAD:
            self.there.on = True
            self.there.make_anew()
        self.wire.fault = Fault.NOTHING
        self.wire.mended = True
        if self.pinger:
            self.pinger.deaf = self.story.off

    def _use(self) -> None:
        rng, here, there = self.rng, self.here, self.there
        pause = rng.expovariate(1 / 4.0)
        match self.story.users:
            case Users.TALK:
                one = here if rng.random() < 0.5 else there
                size, answer = rng.randrange(80, 1440, 16), rng.randrange(80, 1440, 16)
                one.send(size, 1, lambda end: end.send(answer, 1))
            case Users.LOG:
                here.send(rng.randrange(80, 480, 16))
            case Users.DOWNLOAD:
                pause = 0.5
                there.send(FULL, 100, lambda end: end.send(96, 50))
            case Users.UPLOAD:
                pause = 0.5
                here.send(FULL, 100, lambda end: end.send(96, 50))
            case Users.NOBODY:
                return
        self.loop.at(self.loop.now + pause, self._use)

    def _tick(self) -> None:
        now = self.loop.now
        row = self.row._replace(last_handshake_ns=self.here.handshake_ns, rx_bytes=self.here.rx, tx_bytes=self.here.tx)
        device = Device("", "wg0", Backend.KERNEL, key(999), 51820, 0, Peers.of([row]))
        found = snapshot(device, at=now, links=(link(),), outcomes=(LINKS_READ,))
        probes = {}
        if self.pinger:
            self.pinger.look()
            probes = {WG0: {row.public_key: self.pinger.found()}}
        sightings = {WG0: {row.public_key: self.watcher.told}} if self.watcher.told else {}
        for change in self.health.look(found, lambda _: (self.meta,), probes, {WG0}, LIMITS, None, sightings):
            self.said.append(
                Said(now, change.after.value, change.reason.value if change.reason else "", change.evidence)
            )
        if self.story.watched:
            for window in self.watching.follow(self.health.doubtful(), found, {WG0: ""}, now):
                self.watcher.open(window.seconds)
        wait = 1.0 if self.health.suspicious else 5.0
        self.loop.at(now + wait + self.rng.uniform(0.001, 0.3), self._tick)


def told(one: Story) -> Told:
    """What was said of the peer in this story."""
    return _Play(one).play()
