"""A host with an exporter: its devices as the sources would read them, the tick as `service` drives it, the scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.day.loop import BEGIN, WALL
from tests.rows import FACTS
from wg_exporter.daemon.exporter import SUSPECT_TICK_SECONDS, TICK_SECONDS
from wg_exporter.daemon.host import HostHistory
from wg_exporter.health.states import State
from wg_exporter.model import Backend, Device, Link, Outcome, Peers, Snapshot, SourceName
from wg_exporter.names.table import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from tests.day.loop import Loop
    from tests.day.prober import Pinger
    from tests.day.scrapes import Scrapes
    from tests.day.wireguard import End
    from wg_exporter.config import Config
    from wg_exporter.health.states import Change
    from wg_exporter.model import ConfFile
    from wg_exporter.probed import Probed

LOST_SCRAPES = 0.1
READ = tuple(Outcome(source, "", True, 0.001) for source in (SourceName.KERNEL, SourceName.LINKS, SourceName.CONF))


class Member(NamedTuple):
    """A peer of a device: our end and the far one, and who pings it."""

    key: str
    allowed_ip: str
    here: End
    there: End
    pinger: Pinger | None


class Wire:
    """A WireGuard device."""

    def __init__(self, name: str, members: Sequence[Member], ifindex: int, key: str = "") -> None:
        """`key` is its own public key."""
        self.name, self.members, self.key = name, members, key
        self.there = True
        self.ifindex = ifindex
        self.peers = Peers()
        self._keys = tuple(member.key for member in members)
        self._ips = tuple((member.allowed_ip,) for member in members)
        self._keepalives = tuple(member.here.keepalive for member in members)

    def read(self) -> Device:
        """What the kernel would tell; columns that did not change are the same objects, as those of the sources."""
        ends = [member.here for member in self.members]
        found = Peers(
            self._keys,
            tuple([f"192.0.2.1:{end.endpoint}" if end.endpoint else "" for end in ends]),
            self._ips,
            self._keepalives,
            tuple([end.handshake_ns for end in ends]),
            tuple([end.rx for end in ends]),
            tuple([end.tx for end in ends]),
        )
        self.peers = found.sharing(self.peers) if self.peers else found
        return Device("", self.name, Backend.KERNEL, self.key, 51820, 0, self.peers)

    def link(self) -> Link:
        """What rtnetlink would tell."""
        return Link("", self.name, self.ifindex, "wireguard", True, 1420, *(0,) * 8)

    def delete(self) -> None:
        """`ip link del`."""
        self.there = False
        for member in self.members:
            member.here.on = False
            if member.pinger:
                member.pinger.stop()

    def make_anew(self) -> None:
        """It is set up from its file again."""
        self.there = True
        self.ifindex += 100  # no kernel gives one twice
        for member in self.members:
            member.here.on = True
            member.here.endpoint = 1
            member.here.make_anew()


class Noticed(NamedTuple):
    """A change of state, when it was noticed, in seconds since the tunnels were set up."""

    at: float
    host: str
    change: Change

    @property
    def down(self) -> bool:
        """Whether it went down, or came back."""
        return State.DOWN in {self.change.before, self.change.after}

    def __str__(self) -> str:
        before, after, why = self.change.before or "unknown", self.change.after, self.change.reason or "heard"
        who = f"{self.host} {self.change.interface} {self.change.public_key}"
        return f"{self.at:.1f} s {who}: {before} -> {after} ({why}: {self.change.evidence})"


class Host:
    """One host and its exporter."""

    def __init__(
        self,
        loop: Loop,
        rng: Random,
        wires: Sequence[Wire],
        config: Config,
        conf: tuple[ConfFile, ...],
        scrapes: Scrapes,
        reached: Callable[[], bool] = lambda: True,
    ) -> None:
        """`reached` says whether Prometheus has a way to it."""
        self._reached = reached
        self.loop, self.rng, self.wires, self.config, self.conf = loop, rng, wires, config, conf
        self.scrapes = scrapes
        self.noticed: list[Noticed] = []
        self.looks = 0
        self._life = 0
        self.running = False
        # What was set up before the exporter is in full swing when it comes.
        self.loop.at(BEGIN - rng.uniform(5, 60), self.start)
        self.loop.at(BEGIN + rng.uniform(0, scrapes.seconds), self._scrape)

    def start(self) -> None:
        """A new exporter, that remembers nothing."""
        if self.running:
            return
        self._life += 1
        self.running = True
        self._history, self._names = HostHistory(), Names(self.config)
        for wire in self.wires:
            for member in wire.members:
                if member.pinger and wire.there:
                    member.pinger.start()
        self._tick(self._life)

    def stop(self) -> None:
        """The exporter ends, and its prober with it."""
        self._life += 1
        self.running = False
        for wire in self.wires:
            for member in wire.members:
                if member.pinger:
                    member.pinger.stop()

    def restart(self, after: float) -> None:
        """It is gone for so many seconds."""
        self.stop()
        self.loop.at(self.loop.now + after, self.start)

    def _tick(self, life: int) -> None:
        if life != self._life:
            return
        now = self.loop.now
        self.looks += 1
        snapshot = self._look()
        devices = self._history.follow(self._names, snapshot)
        for wire in self.wires:
            if wire.there:
                for member in wire.members:
                    if member.pinger and member.pinger.running:
                        member.pinger.look()
                    elif member.pinger:
                        member.pinger.start()  # the planner sees a device that came back
        changes = self._history.judge(self.config, self._names, devices, snapshot, self._probes())
        self.noticed += [Noticed(now, self.scrapes.instance, change) for change in changes]
        took = self.rng.uniform(0.001, 0.02)
        wait = SUSPECT_TICK_SECONDS if self._history.health.suspicious else TICK_SECONDS
        self.loop.at(now + took + wait, self._tick, life)

    def _look(self) -> Snapshot:
        there = [wire for wire in self.wires if wire.there]
        links = {("", wire.name): wire.link() for wire in there}
        now = self.loop.now
        return Snapshot(WALL + now, now, tuple(wire.read() for wire in there), (), links, self.conf, READ)

    def _probes(self) -> dict[tuple[str, str], dict[str, Probed]]:
        return {
            ("", wire.name): {m.key: m.pinger.found() for m in wire.members if m.pinger and m.pinger.running}
            for wire in self.wires
        }

    def _scrape(self) -> None:
        self.loop.at(self.loop.now + self.scrapes.seconds, self._scrape)
        if not self.running or not self._reached() or self.rng.random() < LOST_SCRAPES:
            self.scrapes.lose()
            return
        view = self._history.view(self.config, self._names, self._look(), FACTS)
        self.scrapes.take(view._replace(probes=self._probes()))
