"""Random histories of a host: a device with a few peers to which everything happens that health has to judge."""

from __future__ import annotations

from tests.rows import SECOND, STATS, WALL, device, link, peer, snapshot
from wg_exporter.config.health import HealthLimits
from wg_exporter.health.states import UNKNOWN, Obstacle, Reason
from wg_exporter.model import Backend, FailedDevice, Failure, Outcome, SourceName
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import MtuReport, Probed, SendError, Verdict
from wg_exporter.sighted import LAST, Sighting

KEEPALIVE, INITIATION, RESPONSE = 32, 148, 92
LIMITS = (HealthLimits(), HealthLimits(down_after=15.0, window=60.0, loss=0.3), HealthLimits(down_after=90.0))


class RandomPeer:
    """What one peer does in a second depends on its mood, which changes now and then."""

    def __init__(self, number, random):
        self.random = random
        self.expected = random.random() < 0.7
        keepalive = random.choice((0, 5, 25))
        age = random.choice((None, 3, 150, 190, 1000))
        stamp = 0 if age is None else int((WALL - age) * SECOND)
        self.row = peer(number, persistent_keepalive=keepalive, last_handshake_ns=stamp)
        self.mood = self.silent
        self.probed = None
        self.answers, self.rtt, self.refused = True, 0.02, None
        self.obstacle = None
        self.sighting, self.leaves = None, True

    @property
    def meta(self):
        return PeerMeta(self.row.endpoint, True, self.expected)

    def change(self):
        """A new mood, or one of the things that a person or the far side changes."""
        moods = (self.silent, self.silent, self.talk, self.hear, self.send, self.call, self.be_called, self.shake)
        self.mood = self.random.choice(moods)
        match self.random.randrange(16):
            case 9:
                self.sighting = None
            case 10:
                self.sighting = Sighting(0.0, 0.0)  # it begins with the next second
            case 11:
                self.leaves = not self.leaves
            case 0:
                self.expected = not self.expected
            case 1:
                self.row = self.row._replace(persistent_keepalive=self.random.choice((0, 5, 25)))
            case 2:
                self.probed = None if self.probed else Probed("10.0.0.1", STATS._replace(silent_since=None), None)
            case 3 if self.probed:
                mtu = MtuReport(self.random.choice([*Verdict]), 1420, None, None, 0, None, None, None, "", 0.0)
                self.probed = self.probed._replace(mtu=mtu)
            case 4 | 5:
                self.answers, self.rtt = self.random.random() < 0.6, self.random.choice((0.02, 0.02, 0.2))
            case 6:
                self.row = self.row._replace(rx_bytes=0, tx_bytes=0, last_handshake_ns=0)
            case 7:
                self.refused = None if self.refused else self.random.choice(list(SendError))
            case 8:
                found = Obstacle(self.random.choice((Reason.NOT_ROUTED, Reason.NOT_ALLOWED)), "no way")
                self.obstacle = self.random.choice((None, None, UNKNOWN, found, found))

    def pass_second(self, second, wall, hangs):
        if hangs:
            if self.probed and second % 5 == 0:
                self.lose(second)
            return
        self.mood(second, wall)
        if self.row.persistent_keepalive and second % self.row.persistent_keepalive == 0:
            self.grow(0, KEEPALIVE)
        if self.probed and second % 5 == 0:
            self.echo(second)
        if self.sighting:
            self.watch(second)

    def watch(self, second):
        """A window that goes on; what is on the wire is what the counters tell, if it leaves at all."""
        row = self.sighting if self.sighting.began else Sighting(float(second), 0.0)
        sent_at, taken_at = row.sent_at, row.taken_at
        if second % 5 == 0 and self.leaves and self.mood == self.call:
            sent_at = (*sent_at, float(second))[-LAST:]
        if second % 5 == 0 and self.leaves and self.mood == self.be_called:
            taken_at = (*taken_at, float(second))[-LAST:]
        self.sighting = row._replace(seconds=second - row.began, sent_at=sent_at, taken_at=taken_at)

    def echo(self, second):
        stats = self.probed.stats
        if self.refused:
            self.probed = self.probed._replace(stats=stats._replace(refused=self.refused))
        elif self.answers and self.random.random() < 0.9:
            stats = stats._replace(rtt_sum=stats.rtt_sum + self.rtt, rtt_last=self.rtt, silent_since=None, refused=None)
            self.probed = self.probed._replace(stats=stats._replace(sent=stats.sent + 1))
            self.grow(128, 128)
        else:
            self.lose(second)

    def lose(self, second):
        stats = self.probed.stats
        since = second - 3.0 if stats.silent_since is None else stats.silent_since
        stats = stats._replace(sent=stats.sent + 1, lost=stats.lost + 1, silent_since=since, refused=None)
        self.probed = self.probed._replace(stats=stats)

    def grow(self, received, sent):
        rx, tx = self.row.rx_bytes + received, self.row.tx_bytes + sent
        self.row = self.row._replace(rx_bytes=rx, tx_bytes=tx)

    # --- moods ---

    def silent(self, _second, _wall):
        pass

    def talk(self, _second, _wall):
        self.grow(1000, 1000)

    def hear(self, second, _wall):
        if second % 10 == 0:
            self.grow(KEEPALIVE, 0)

    def send(self, second, _wall):
        if second % 4 == 0:
            self.grow(0, 128)

    def call(self, second, _wall):
        if second % 5 == 0:
            self.grow(0, INITIATION)

    def be_called(self, second, _wall):
        if second % 5 == 0:
            self.grow(INITIATION, RESPONSE)

    def shake(self, second, wall):
        if second % 120 == 0:
            self.grow(RESPONSE, INITIATION)
            self.row = self.row._replace(last_handshake_ns=int(wall * SECOND))


class RandomHost:
    """A host whose looks `happen` one after the other; each is what `Judge.look` takes."""

    def __init__(self, random):
        self.random = random
        self.peers = [RandomPeer(number, random) for number in range(5)]
        self.second, self.wall = 0, WALL
        self.name, self.ifindex, self.backend = "wg0", 7, Backend.KERNEL
        self.up = self.there = self.readable = self.fresh = self.links_read = self.missed = True
        self.failure = Failure.OTHER
        self.limits = LIMITS[0]
        self.obstacles = {}

    @property
    def key(self):
        return "", self.name

    @property
    def metas(self):
        return tuple(one.meta for one in self.peers)

    def meta_of(self, row):
        """Who a peer of the host is, also one that it does not have any more."""
        found = {one.row.public_key: one.meta for one in self.peers}
        return found.get(row.public_key, PeerMeta("", False, False))

    def happen(self):
        """A second or a few go by, and a look shows: snapshot, metas, probes, missed, limits, obstacles, sightings."""
        for _ in range(self.random.choice((1, 1, 1, 5))):
            self.second, self.wall = self.second + 1, self.wall + 1
            for one in self.peers:
                one.pass_second(self.second, self.wall, not self.readable and self.failure is Failure.UNANSWERED)
                if self.random.random() < 1 / 40:
                    one.change()
        if self.random.random() < 1 / 25:
            self.change()
        return self.look()

    def look(self):
        shown = device(*(one.row for one in self.peers), name=self.name, backend=self.backend, fresh=self.fresh)
        found = snapshot(
            *((shown,) if self.there and self.readable else ()),
            at=float(self.second),
            wall=self.wall,
            links=(link(self.name, self.ifindex, up=self.up),) if self.there and self.links_read else (),
            failed=() if self.readable else (FailedDevice("", self.name, self.backend, "busy", self.failure),),
            outcomes=(Outcome(SourceName.LINKS, "", self.links_read, 0.0),),
        )
        metas = self.metas
        probes = {self.key: {one.row.public_key: one.probed for one in self.peers if one.probed}}
        obstacles = {self.key: {one.row.public_key: one.obstacle for one in self.peers if one.obstacle}}
        if obstacles != self.obstacles:  # else it is the same object, as from `plan.routing`
            self.obstacles = obstacles
        missed = {self.key} if self.missed else set()
        sightings = {self.key: {one.row.public_key: one.sighting for one in self.peers if one.sighting}}
        return found, lambda _: metas, probes, missed, self.limits, self.obstacles, sightings

    def change(self):
        """Something befalls the device, or all is well again."""
        match self.random.randrange(20):
            case 0:
                self.up = False
            case 1:
                self.there = False
            case 2:
                self.readable, self.failure = False, self.random.choice((Failure.OTHER, Failure.UNANSWERED))
            case 3:
                self.fresh = False
            case 4:
                self.links_read = False
            case 5:
                self.wall += self.random.choice((-3600, 40, 86_400))
            case 6:
                self.limits = self.random.choice(LIMITS)
            case 7:
                self.name = "wan0" if self.name == "wg0" else "wg0"
            case 8:
                self.make_anew()
            case 9:
                self.backend = Backend.AMNEZIAWG if self.backend is Backend.KERNEL else Backend.KERNEL
            case 10:
                self.peers.pop(self.random.randrange(len(self.peers)))
                self.peers.append(RandomPeer(100 + self.second, self.random))
            case 11:
                self.missed = not self.missed
            case _:
                if not self.there:
                    self.make_anew()
                self.up = self.there = self.readable = self.fresh = self.links_read = True

    def make_anew(self):
        self.ifindex += 1
        for one in self.peers:
            one.row = one.row._replace(rx_bytes=0, tx_bytes=0, last_handshake_ns=0)
