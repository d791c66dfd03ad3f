"""The fleet and what befalls it, from one seed: 500 peers on three hosts, and the truth that pages are held against."""

from __future__ import annotations

import base64
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from tests.day.host import Host, Member, Wire
from tests.day.loop import BEGIN, DAY, Loop
from tests.day.people import HOUR, Laptop, Phone, Server, Stranger
from tests.day.prober import Pinger
from tests.day.scrapes import Scrapes
from tests.day.wireguard import Path, tunnel
from wg_exporter.config import Config, Expected, ExpectRule
from wg_exporter.model import ConfFile, ConfPeer
from wg_exporter.names.tunnel import tunnel_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.day.host import Noticed
    from tests.day.wireguard import End

LOSS = 0.05  # each way, on some links
BLIP = 20.0
FAR_EXPORTERS = 3  # on each interface, where both ends have one


class Group(NamedTuple):
    """Peers of one kind on one device; keepalives in seconds, ours and theirs. `lossy` of the links lose packets."""

    host: str
    interface: str
    number: int
    kind: type
    keepalives: tuple[int, ...] = (0,)
    theirs: tuple[int, ...] = (0,)
    lossy: float = 0.2
    probed: bool = False


FLEET = (
    # Some tools set a keepalive for every phone; it takes an endpoint too to be expected up.
    Group("gateway", "wg0", 280, Phone, keepalives=(0, 0, 0, 25), theirs=(0, 0, 25)),
    Group("gateway", "wg0", 60, Laptop),
    Group("gateway", "wg0", 60, Stranger, keepalives=(0, 25)),
    Group("core", "wg0", 40, Server, keepalives=(25,), theirs=(0, 25), lossy=0.35, probed=True),
    Group("core", "wg1", 30, Server, keepalives=(25, 25, 15), theirs=(0, 25), lossy=0.35),
    Group("edge", "wg0", 20, Server, theirs=(25,), lossy=0.35, probed=True),  # a hub: its spokes keep the sessions
    Group("edge", "wg1", 10, Server, keepalives=(25,), theirs=(0, 25), lossy=0.35, probed=True),
)


class Outage(NamedTuple):
    """What really happened. Times are in seconds since the tunnels were set up."""

    kind: str
    host: str
    interface: str
    keys: frozenset[str]
    start: float
    end: float

    @property
    def hub(self) -> str:
        """The key of the interface that it strikes."""
        return own_key(self.host, self.interface)

    @property
    def tunnels(self) -> set[str]:
        """The names of the tunnels that it strikes."""
        return {tunnel_name(self.hub, peer) for peer in self.keys}

    def __str__(self) -> str:
        whom = next(iter(self.keys)) if len(self.keys) == 1 else f"{len(self.keys)} peers"
        return f"{self.kind}, {self.host} {self.interface} {whom} from {self.start:.0f} to {self.end:.0f} s"


class Truth(NamedTuple):
    """All that happened."""

    outages: tuple[Outage, ...]
    blip: Outage
    restarts: tuple[tuple[str, float], ...]
    anew: tuple[str, str, float]


class Day(NamedTuple):
    """What a day left behind."""

    truth: Truth
    scrapes: tuple[Scrapes, ...]
    noticed: tuple[Noticed, ...]
    looks: int


def key(number: int) -> str:
    """The public key of the peer of this number."""
    return base64.b64encode(number.to_bytes(2, "big") * 16).decode()


def own_key(host: str, interface: str) -> str:
    """The public key of an interface."""
    return key(1000 + [(group.host, group.interface) for group in FLEET].index((host, interface)))


def happenings(seed: int) -> Truth:
    """What this seed has in store. Nothing else happens to whom something happens."""
    rng = Random(f"{seed} happenings")
    numbers: dict[tuple[str, str], list[str]] = {}
    first = 0
    for group in FLEET:
        names = numbers.setdefault((group.host, group.interface), [])
        names += [key(first + at) for at in range(group.number)]
        first += group.number
    # In four quarters of the day, in any order, so that each is told from the others.
    begins = [rng.uniform(0.5, 4.0) * HOUR + quarter * DAY / 4 for quarter in rng.sample(range(4), 4)]
    where = rng.choice([("core", "wg0"), ("core", "wg1"), ("edge", "wg1")])
    kind = rng.choice(("dead", "cut", "away", "toward"))
    lasts = [rng.uniform(6, 60) * 60 for _ in range(2)]
    cut = Outage(kind, *where, frozenset({rng.choice(numbers[where])}), begins[0], begins[0] + lasts[0])
    at = rng.choice([("core", "wg1"), ("edge", "wg1")])
    deleted = Outage("deleted", *at, frozenset(numbers[at]), begins[1], begins[1] + lasts[1])
    blinking = rng.choice([name for name in numbers["core", "wg0"] if name not in cut.keys])
    blip = Outage("cut", "core", "wg0", frozenset({blinking}), begins[2], begins[2] + BLIP)
    restarts = (
        (cut.host, rng.uniform(cut.start + 200, cut.end - 60)),
        (rng.choice(("core", "edge")), begins[3]),
        ("gateway", rng.uniform(1, 23) * HOUR),
    )
    return Truth((cut, deleted), blip, restarts, ("core", "wg0", begins[3] + 1.5 * HOUR))


class _Builder:
    """Makes hosts of groups."""

    def __init__(self, loop: Loop, seed: int, *, probing: bool, keep: bool, scrape: float) -> None:
        self.loop, self.seed, self.probing, self.keep, self.scrape = loop, seed, probing, keep, scrape

    def host(self, name: str) -> Host:
        wires: dict[str, list[Member]] = {}
        first = 0
        for group in FLEET:
            if group.host == name:
                wires.setdefault(group.interface, []).extend(self._members(group, first))
            first += group.number
        expect = (ExpectRule(Expected.UP, interface="wg0"),) if name == "edge" else ()
        config = Config(expect=expect)
        conf: tuple[ConfFile, ...] = ()
        if name == "gateway":  # its file names no endpoints, for phones have none
            conf = (ConfFile("/etc/wireguard/wg0.conf", "wg0", tuple(ConfPeer(m.key) for m in wires["wg0"])),)
        rng = Random(f"{self.seed} {name}")
        devices = [
            Wire(at, members, 7 + number, own_key(name, at)) for number, (at, members) in enumerate(wires.items())
        ]
        return Host(self.loop, rng, devices, config, conf, Scrapes(name, seconds=self.scrape, keep=self.keep))

    def far(self, wire: Wire, member: Member) -> Host:
        """The host at the other end of a tunnel; the exporter of every second one is scraped through it."""
        address = member.allowed_ip.removesuffix("/32")
        rng = Random(f"{self.seed} far {address}")
        pinger = Pinger(self.loop, rng, member.there, "10.0.255.1", deaf=False)
        peer = Member(wire.key, "10.0.0.0/16", member.there, member.here, pinger)
        path, direct = member.here.path, rng.random() < 0.5
        return Host(
            self.loop,
            rng,
            [Wire("tunnel", [peer], 7, member.key)],
            Config(expect=(ExpectRule(Expected.UP),)),
            (),
            Scrapes(f"{address}:9586", seconds=self.scrape),
            lambda: member.there.on and (direct or (wire.there and all(path.open.values()))),
        )

    def _members(self, group: Group, first: int) -> list[Member]:
        return [self._member(group, number) for number in range(first, first + group.number)]

    def _member(self, group: Group, number: int) -> Member:
        rng = Random(f"{self.seed} {number}")
        path = Path(rng, LOSS if rng.random() < group.lossy else 0.0, rng.uniform(0.002, 0.08))
        here, there = tunnel(self.loop, path, rng.choice(group.keepalives), rng.choice(group.theirs))
        group.kind(self.loop, rng, here, there)
        pinger = None
        if group.probed and self.probing:
            pinger = Pinger(self.loop, rng, here, f"10.0.{number >> 8}.{number & 255}", deaf=rng.random() < 0.1)
        return Member(key(number), f"10.0.{number >> 8}.{number & 255}/32", here, there, pinger)


def live(
    seed: int,
    names: tuple[str, ...],
    *,
    probing: bool = True,
    keep: bool = False,
    scrape: float = 15.0,
    both_ends: bool = False,
) -> Day:
    """Live through the day on these hosts. `keep` what scrapes saw of the devices; `both_ends`: some of the peers of
    each interface have exporters too.
    """
    loop, truth = Loop(), happenings(seed)
    builder = _Builder(loop, seed, probing=probing, keep=keep, scrape=scrape)
    hosts = {name: builder.host(name) for name in names}
    fars = [
        builder.far(wire, member)
        for host in hosts.values()
        for wire in host.wires
        for member in (_with_exporter(wire, truth) if both_ends else ())
    ]
    for outage in (*truth.outages, truth.blip):
        if outage.host in hosts:
            begin, end = _strike(hosts[outage.host], outage)
            loop.at(outage.start, begin)
            loop.at(outage.end, end)
    for name, at in truth.restarts:
        if name in hosts:
            loop.at(at, hosts[name].restart, Random(f"{seed} {at}").uniform(2, 20))
    name, interface, at = truth.anew
    if name in hosts:
        wire = _wire(hosts[name], interface)
        loop.at(at, wire.delete)
        loop.at(at + Random(f"{seed} anew").uniform(0.2, 3), wire.make_anew)
    loop.run(BEGIN + DAY)
    return Day(
        truth,
        tuple(host.scrapes for host in (*hosts.values(), *fars)),
        tuple(noticed for host in (*hosts.values(), *fars) for noticed in host.noticed),
        sum(host.looks for host in (*hosts.values(), *fars)),
    )


def _with_exporter(wire: Wire, truth: Truth) -> list[Member]:
    """Some of its peers: those of which one alone is struck, and a few more."""
    alone = {peer for outage in (*truth.outages, truth.blip) if len(outage.keys) == 1 for peer in outage.keys}
    struck = [member for member in wire.members if member.key in alone]
    return struck + [member for member in wire.members if member.key not in alone][:FAR_EXPORTERS]


def _wire(host: Host, interface: str) -> Wire:
    return next(wire for wire in host.wires if wire.name == interface)


def _strike(host: Host, outage: Outage) -> tuple[Callable[[], object], Callable[[], object]]:
    """How it begins, and how it ends."""
    wire = _wire(host, outage.interface)
    if outage.kind == "deleted":
        return wire.delete, wire.make_anew
    (member,) = [member for member in wire.members if member.key in outage.keys]
    if outage.kind == "dead":
        return lambda: _switch(member.there, on=False), lambda: _switch(member.there, on=True)
    ways = {"cut": (True, False), "away": (True,), "toward": (False,)}[outage.kind]
    ways_of = member.here.path.open
    return lambda: ways_of.update(dict.fromkeys(ways, False)), lambda: ways_of.update(dict.fromkeys(ways, True))


def _switch(end: End, *, on: bool) -> None:
    end.on = on
    if on:
        end.make_anew()  # it booted
