"""Runs the probing of many peers over one engine, in one thread: small echoes for all, an MTU machine for each.

Nothing is judged here. Each round hands answers to the machines, and what the machines want sent to the `transport`.
This module adds the limits:

- **First checks are spread**: `FIRST_CHECKS` peers a second, or more where that would take longer than the inner
  interval. So one new peer is checked at once, and 10,000 within a minute. Each keeps its place in the interval.
- **One pace for all**, that of the transport: what is due waits, and the longest overdue goes first. Small echoes
  don't wait.
- **Few searches at once**: a search sends 32 kB a round at 500 kB/s, so only `MOST_SEARCHES` run and the others queue.
- **Few machines in a row**: after `IN_A_ROW` of them the engine sends and reads small echoes again.

Peers are known by the `id` that the caller chose. Memory is bounded by the number of peers and by `in_flight.MOST`.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from wg_exporter.config.fast import MOST_FAST
from wg_exporter.config.probe import ProbeSettings
from wg_exporter.prober.fast.track import LEAST_INTERVAL, MOST_MULTIPLIER, FastTarget
from wg_exporter.prober.mtu.machine import PathMtu
from wg_exporter.prober.path import Path, is_address, tunnel, usable
from wg_exporter.prober.schedule import Schedule, Slots
from wg_exporter.prober.transport import Transport
from wg_exporter.prober.watcher.watcher import Host, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from wg_exporter.probed import FastPeer, MtuReport, ProbePeer, ProbeStats
    from wg_exporter.prober.echo.track import Track
    from wg_exporter.prober.fast.book import FastBook
    from wg_exporter.prober.mtu.locate import Shrink
    from wg_exporter.prober.mtu.probes import Answer
    from wg_exporter.prober.mtu.verdict import Findings
    from wg_exporter.prober.transport import Tap
    from wg_exporter.prober.wire.sockets import Opener

Id = TypeVar("Id", bound="Hashable")
"""The caller's name for a peer: a number or a key."""

FIRST_CHECKS = 20.0  # peers a second
GOLDEN = 0.6180339887498949  # the fractional parts of its multiples are spread evenly, however many there are
MOST_SEARCHES = 2
IN_A_ROW = 8  # machines that run before small echoes that are due: 2 ms
NAMESPACE_INTERVAL = 5.0  # seconds between looks at whether a namespace was replaced
SOON = 0.001  # seconds: the least time between two runs of one machine


class Changes(NamedTuple, Generic[Id]):
    """What changed of some peers, by id: (target, statistics of small echoes), and reports on the MTU.

    A report of None takes back the last one: there is no verdict at present.
    """

    echoes: dict[Id, tuple[str, ProbeStats]]
    reports: dict[Id, MtuReport | None]


class Prober(Generic[Id]):
    """Probes peers. Not thread-safe: it is called by the thread that runs it, or while it doesn't run."""

    def __init__(
        self,
        settings: ProbeSettings = ProbeSettings(),  # noqa: B008 - a row, immutable
        namespaces: Mapping[str, str] | None = None,
        *,
        open_socket: Opener | None = None,
        tap: Tap | None = None,
    ) -> None:
        """`namespaces` maps names to paths; the empty name is our own. `open_socket` stands in for entering them."""
        self._settings = settings
        self._transport = Transport(
            settings,
            namespaces or {},
            echoed=self._echoed,
            arrived=self._arrived,
            poll=self._poll,
            open_socket=open_socket,
            tap=tap,
        )
        self._engine = self._transport.engine
        self.watcher = Watcher(
            Host(self._transport.open_socket, self._transport.routes_in, self._transport.packets_left)
        )
        self._paths: dict[Hashable, Path] = {}
        self._silent: set[Path] = set()  # their verdict may change by time or byte counters alone
        self._schedule: Schedule[Path] = Schedule()
        self._searching: Slots[Path] = Slots(MOST_SEARCHES)
        self._changed: dict[Path, None] = {}
        self._added = 0
        self._backlog = (0.0, 0.0)  # peers that wait for their first check, and when they were counted
        self._next_namespaces = 0.0

    # --- what others say and ask --------------------------------------------------------------------------------------

    def update(self, put: Mapping[Id, ProbePeer], gone: Iterable[Id] = ()) -> None:
        """Probe the peers of `put`, which are new or changed, from now on, and those of `gone` no more.

        A peer without a usable target is left out. One without a device is not probed, but keeps its statistics. One
        without an endpoint is probed inside only.
        """
        now = time.monotonic()
        for name in gone:
            self._remove(name)
        for name, peer in put.items():
            path = self._paths.get(name)
            if not usable(peer):
                self._remove(name)
            elif path is not None:
                self._change(path, peer, now)
            else:
                self._add(name, peer, now)

    def counters(self, rows: Mapping[Id, tuple[int, int]]) -> None:
        """Take the byte counters (rx, tx) of peers, which have just been read.

        A silent peer has to be among them each time: its verdict follows from nothing being received.
        """
        now = time.monotonic()
        for name, (rx, tx) in rows.items():
            if (path := self._paths.get(name)) is not None:
                if path.machine.counters(rx, tx, now):
                    self._engine.resume(name)  # something was received: probe it at its interval again
                if path.machine.pause_echoes:
                    self._run_at(path, now)
                if path in self._silent:
                    self._touch(path)

    def changes(self, most: int) -> Changes[Id]:
        """Take the changes of at most `most` peers, those that have waited longest first.

        Probes wait meanwhile, and 10,000 peers at once would take too long. A peer is left out until its first small
        echo was answered or lost.
        """
        now, wall = time.monotonic(), time.time()
        changes: Changes[Id] = Changes({}, {})
        for path in list(islice(self._changed, most)):
            del self._changed[path]
            if path.track is None or not path.track.tried:
                continue
            if (stats := path.new_stats()) is not None:
                changes.echoes[path.id] = stats
            if path.renew_report(now, wall):
                changes.reports[path.id] = path.report
        return changes

    @property
    def changed(self) -> int:
        """How many peers wait for `changes`."""
        return len(self._changed)

    def scheduling_delay(self) -> float:
        """The longest time in seconds by which a small echo left after it was due, since the last call."""
        return self._engine.scheduling_delay()

    def ask_fast(self, peers: Mapping[int, FastPeer]) -> None:
        """Send fast echoes to exactly these from now on, without those whose target is no address. Their numbers are
        names of their own.
        """
        fast = self._engine.fast
        # Whoever asks is bounded by the configuration. One that was taken over is bounded here.
        wanted = dict(islice(((number, peer) for number, peer in peers.items() if is_address(peer.target)), MOST_FAST))
        for name in [track.target.id for track in fast.tracks() if track.target.id not in wanted]:
            self._engine.remove_fast(name)
        for number, peer in wanted.items():
            interval, multiplier = max(peer.interval, LEAST_INTERVAL), min(max(peer.multiplier, 1), MOST_MULTIPLIER)
            target = FastTarget(number, peer.key[0], peer.ifindex, peer.target, interval, multiplier)
            if (known := fast.track(number)) is None or known.target != target:
                self._engine.put_fast(target)

    @property
    def fast(self) -> FastBook:
        """How the peers with fast echoes are."""
        return self._engine.fast

    def search(self, name: Id) -> None:
        """Search the MTU of this peer now, until it isn't `busy`. KeyError if it isn't probed."""
        self._asked(name).search(time.monotonic())

    def find_hop(self, name: Id) -> None:
        """Look for the router behind which the path shrinks; then read `shrink`."""
        self._asked(name).find_hop(time.monotonic())

    def ask_silent(self, name: Id) -> None:
        """Ask the byte counters whether full-size packets arrive. Call `counters` twice a second meanwhile."""
        self._asked(name).ask_silent(time.monotonic())
        self._aim(self._paths[name])

    def busy(self, name: Id) -> bool:
        """Whether something that was asked for, or a suspicion, is not settled yet."""
        return self._paths[name].machine.busy(time.monotonic())

    def findings(self, name: Id) -> Findings:
        """All that is known of the MTU of this peer's tunnel."""
        return self._paths[name].machine.findings(time.monotonic())

    def shrink(self, name: Id) -> Shrink | None:
        """What `find_hop` found."""
        return self._paths[name].machine.shrink()

    def prepare(self) -> None:
        """Open sockets now, while there are privileges for a large receive buffer."""
        self._engine.prepare()

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back from the loop whenever this file can be read."""
        self._engine.add_reader(fd, callback)

    def run(self, stop: Callable[[], bool]) -> None:
        """Probe until `stop()`, which is asked after each round, at least once a second."""
        self._engine.run(stop)

    def step(self, longest: float) -> None:
        """One round, at most `longest` seconds of sleep."""
        self._engine.step(longest)

    def close(self) -> None:
        """Close all sockets."""
        self.watcher.close()
        self._transport.close()

    # --- peers --------------------------------------------------------------------------------------------------------

    def _add(self, name: Id, peer: ProbePeer, now: float) -> None:
        waiting, since = self._backlog
        waiting = max(waiting - (now - since) * FIRST_CHECKS, 0.0)
        self._backlog = waiting + 1, now
        self._added += 1
        spread = min(waiting / FIRST_CHECKS, self._settings.mtu.inner_interval)
        machine = PathMtu(tunnel(peer), now, now + spread * (self._added * GOLDEN % 1), self._settings)
        path = self._paths[name] = Path(name, peer, machine)
        self._transport.hold(path.outer_socket)
        self._aim(path)
        self._run_at(path, machine.next_time())

    def _change(self, path: Path, peer: ProbePeer, now: float) -> None:
        if peer.target != path.peer.target:
            path.up = None
        if peer.endpoint != path.peer.endpoint:
            self._engine.resume(path.id)
        before = path.outer_socket
        path.set(peer)
        self._transport.hold(path.outer_socket)
        self._transport.release(before)
        path.machine.change(tunnel(peer), now)
        if not path.active:
            self._rest(path)
        self._aim(path)
        self._run_at(path, now)
        self._touch(path)

    def _remove(self, name: Id) -> None:
        path = self._paths.pop(name, None)
        if path is not None:
            self._engine.remove(name)
            self._changed.pop(path, None)
            self._rest(path)
            self._transport.release(path.outer_socket)

    def _rest(self, path: Path) -> None:
        self._schedule.cancel(path)
        self._silent.discard(path)
        self._release(path)

    def _aim(self, path: Path) -> None:
        """Bring the target of small echoes up to date: they pause while the byte counters are asked."""
        target = path.target()
        if path.track is None or path.track.target != target:
            path.track = self._engine.put(target)

    def _asked(self, name: Id) -> PathMtu:
        """The machine of a peer, which runs at once for what the caller asks of it. KeyError if it isn't probed."""
        path = self._paths[name]
        self._run_at(path, time.monotonic())
        return path.machine

    def _touch(self, path: Path) -> None:
        path.stale = True
        self._changed[path] = None

    # --- the round ----------------------------------------------------------------------------------------------------

    def _poll(self, now: float) -> float:
        if now >= self._next_namespaces:
            self._next_namespaces = now + NAMESPACE_INTERVAL
            for netns in self._transport.follow_namespaces():
                self.watcher.forget(netns, now)
        others = min(self._next_namespaces, self.watcher.poll(now))
        for _ in range(IN_A_ROW):
            due = self._schedule.next_due()
            if due > now:
                return min(due, others)
            if now < self._transport.free_at:
                return min(self._transport.free_at, others)
            self._run(self._schedule.take(), now)
        return now

    def _run_at(self, path: Path, due: float) -> None:
        if path.active:
            self._schedule.add(path, due)

    def _run(self, path: Path, now: float) -> None:
        """Let one machine send what it wants."""
        machine = path.machine
        for send in machine.poll(now, heavy=path in self._searching):
            self._transport.send(path, send)
        if machine.heavy:
            self._searching.ask(path)
        else:
            self._release(path)
        if machine.silent:
            self._silent.add(path)
        else:
            self._silent.discard(path)
        self._aim(path)
        self._touch(path)
        self._run_at(path, max(machine.next_time(heavy=path in self._searching), now + SOON))

    def _release(self, path: Path) -> None:
        following = self._searching.release(path)
        if following is not None:
            self._run_at(following, time.monotonic())

    def _echoed(self, track: Track) -> None:
        """The statistics of a target changed. A peer that came back or fell silent gets a pair at once."""
        path = self._paths.get(track.target.id)
        if path is None or path.track is not track:  # an answer may come for one that is gone
            return
        path.echoed = True
        self._changed[path] = None
        if track.tried and track.up is not path.up:
            # At the start all peers answer for the first time within seconds: their first checks stay spread.
            if path.up is not None or (not track.up and path.machine.answered):
                now = time.monotonic()
                path.machine.check(now)
                self._run_at(path, now)
            path.up = track.up

    def _arrived(self, path: Path, answer: Answer) -> None:
        if self._paths.get(path.id) is path:
            path.machine.handle(answer, time.monotonic())
            self._touch(path)
            heavy = path in self._searching
            due = path.machine.next_time(heavy=heavy) if heavy or not path.machine.heavy else 0.0
            self._run_at(path, max(due, time.monotonic()))
