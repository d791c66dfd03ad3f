"""Runs the probing of many peers over one engine, in one thread: small echoes for all, an MTU machine for each.

Nothing is judged here. Each round: give packets and byte counters to the machines that want them (`paths`), and what
these want sent to the `carrier`. What this module adds is moderation:

- **First checks are spread**: 20 peers a second or, where these are too few for it, all within the inner interval. So
  one new peer is checked at once, and 10,000 within a minute. Each machine keeps its place from then on.
- **One pace for all**, the carrier's: what is due waits its turn, the longest overdue first. Small echoes are not held
  up.
- **Few searches at once**: a search sends 32 kB a round at 500 kB/s, so only two run at a time and others queue.
- Little in a row: after a few peers the engine sends and reads small echoes again.

Memory is bounded by the number of peers and by `flights.MOST`.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, cast

from wg_exporter.config.probe import ProbeSettings
from wg_exporter.prober.mtu.machine import PathMtu
from wg_exporter.prober.path import Path, tunnel, usable
from wg_exporter.prober.schedule import Slots, Turns
from wg_exporter.prober.transport import Carrier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wg_exporter.model import PeerKey, Probed, ProbePeer
    from wg_exporter.prober.echo.track import EchoTarget
    from wg_exporter.prober.mtu.locate import Shrink
    from wg_exporter.prober.mtu.probes import Answer
    from wg_exporter.prober.mtu.verdict import Evidence
    from wg_exporter.prober.transport import Tap
    from wg_exporter.prober.wire.sockets import Opener

FIRST_CHECKS = 20.0  # a second
GOLDEN = 0.6180339887498949  # the fractional part of n times this is spread most evenly, for any number of n
MOST_SEARCHES = 2
IN_A_ROW = 8  # peers that may send before small echoes have their turn: 2 ms
LOOK = 0.1  # seconds between looks at what the small echoes brought
LOOK_AT_ONCE = 500  # peers: 1 ms
NAMESPACE_INTERVAL = 5.0  # seconds between looks at whether a namespace was replaced
SOON = 0.001  # seconds; never in a hurry without a pause


class Prober:
    """Probes peers until it is told to stop. For one thread, or while `run` doesn't."""

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
        self._carrier = Carrier(
            settings, namespaces or {}, arrived=self._arrived, poll=self._poll, open_socket=open_socket, tap=tap
        )
        self._engine = self._carrier.engine
        self._paths: dict[PeerKey, Path] = {}
        self._targets: dict[PeerKey, EchoTarget] = {}
        self._silent: set[Path] = set()  # what is known of these may change by time and byte counters alone
        self._turns: Turns[Path] = Turns()
        self._searching: Slots[Path] = Slots(MOST_SEARCHES)
        self._changed: dict[Path, None] = {}
        self._added = 0
        self._backlog = (0.0, 0.0)  # peers that still wait for their first check, and when that was so
        self._next_look = self._next_namespaces = 0.0

    # --- what others say and ask --------------------------------------------------------------------------------------

    def set_peers(self, peers: Iterable[ProbePeer]) -> None:
        """Probe exactly these from now on. A peer without a usable target is left out; one without a device is not
        probed, but keeps its statistics; one without an endpoint is probed inside only."""
        wanted = {peer.key: peer for peer in peers}
        self.update(wanted.values(), self._paths.keys() - wanted.keys())

    def update(self, put: Iterable[ProbePeer], gone: Iterable[PeerKey]) -> None:
        """The same in portions: these are new or changed, and those are no more to be probed."""
        now = time.monotonic()
        dirty = False
        for key in gone:
            dirty = self._remove(key) or dirty
        for peer in put:
            path = self._paths.get(peer.key)
            if path is not None and path.peer == peer:
                continue
            if not usable(peer):
                dirty = self._remove(peer.key) or dirty
            elif path is not None:
                dirty = self._change(path, peer, now) or dirty
            else:
                dirty = True
                self._add(peer, now)
        if dirty:
            self._engine.set_targets(self._targets.values())

    def counters(self, rows: Mapping[PeerKey, tuple[int, int]]) -> None:
        """The byte counters (rx, tx) of peers, read just now. Of others nothing is known: one that
        is silent has to be told of each time, for that nothing came is what its verdict rests on.
        """
        now = time.monotonic()
        for key, (rx, tx) in rows.items():
            if (path := self._paths.get(key)) is not None:
                if path.mtu.counters(rx, tx, now):
                    self._engine.resume(key)  # it is there, or again: no reason any more to ask it rarely
                if path.mtu.pause_echoes:
                    self._plan(path, now)
                if path in self._silent:
                    self._touch(path)

    def changes(self, most: int) -> dict[PeerKey, Probed]:
        """What is known of the peers of which something changed since it was last told, the longest ago first.

        At most so many are looked at: to tell of 10,000 peers at once takes longer than probes should have to wait.
        """
        self._look()
        now, wall = time.monotonic(), time.time()
        told = {}
        for path in list(islice(self._changed, most)):
            del self._changed[path]
            if (news := path.news(now, wall)) is not None:
                told[path.peer.key] = news
        return told

    @property
    def news(self) -> int:
        """How many peers `changes` would look at by now."""
        return len(self._changed)

    def scheduling_delay(self) -> float:
        """By how many seconds the latest small echo left after it was due, the worst since this was last asked."""
        return self._engine.scheduling_delay()

    def search(self, key: PeerKey) -> None:
        """Look at everything of this peer now; KeyError if it isn't probed. It is over when it isn't `busy`."""
        self._now(key).search(time.monotonic())

    def find_hop(self, key: PeerKey) -> None:
        """Look for the router behind which the path shrinks; then read `shrink`."""
        self._now(key).find_hop(time.monotonic())

    def ask_silent(self, key: PeerKey) -> None:
        """Ask the byte counters whether full-size packets arrive. `counters` is to be called twice a second then."""
        self._now(key).ask_silent(time.monotonic())
        self._pause(self._paths[key])

    def busy(self, key: PeerKey) -> bool:
        """Something that was asked for, or a suspicion, is not settled yet."""
        return self._paths[key].mtu.busy(time.monotonic())

    def evidence(self, key: PeerKey) -> Evidence:
        """All that is known of the MTU of this peer's tunnel."""
        return self._paths[key].mtu.evidence(time.monotonic())

    def shrink(self, key: PeerKey) -> Shrink | None:
        """What `find_hop` found."""
        return self._paths[key].mtu.shrink()

    def prepare(self) -> None:
        """Open what is better opened before privileges are given up."""
        self._engine.prepare()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back from the loop whenever this file can be read."""
        self._engine.watch(fd, callback)

    def unwatch(self, fd: int) -> None:
        """Forget a watched file."""
        self._engine.unwatch(fd)

    def run(self, stop: Callable[[], bool]) -> None:
        """Probe until `stop()`, which is asked after each round, at least once a second."""
        self._engine.run(stop)

    def step(self, longest: float) -> None:
        """One round, at most `longest` seconds of sleep."""
        self._engine.step(longest)

    def close(self) -> None:
        """Close all sockets."""
        self._carrier.close()

    # --- peers --------------------------------------------------------------------------------------------------------

    def _add(self, peer: ProbePeer, now: float) -> None:
        waiting, since = self._backlog
        waiting = max(waiting - (now - since) * FIRST_CHECKS, 0.0)
        self._backlog = waiting + 1, now
        self._added += 1
        spread = min(waiting / FIRST_CHECKS, self._settings.mtu.inner_interval)
        mtu = PathMtu(tunnel(peer), now, now + spread * (self._added * GOLDEN % 1), self._settings)
        path = self._paths[peer.key] = Path(peer, mtu)
        self._carrier.use(path.lanes, ())
        self._targets[peer.key] = path.target()
        self._plan(path, mtu.next_time())

    def _change(self, path: Path, peer: ProbePeer, now: float) -> bool:
        """Whether the small echoes are concerned too."""
        if peer.target != path.peer.target:
            path.up = path.stats = None
        if peer.endpoint != path.peer.endpoint:
            self._engine.resume(peer.key)
        lanes = path.lanes
        path.set(peer)
        self._carrier.use(path.lanes, lanes)
        path.mtu.change(tunnel(peer), now)
        if not path.active:
            self._rest(path)
        self._plan(path, now)
        self._touch(path)
        before, self._targets[peer.key] = self._targets[peer.key], path.target()
        return before != self._targets[peer.key]

    def _remove(self, key: PeerKey) -> bool:
        path = self._paths.pop(key, None)
        if path is None:
            return False
        del self._targets[key]
        self._changed.pop(path, None)
        self._rest(path)
        self._carrier.use((), path.lanes)
        return True

    def _rest(self, path: Path) -> None:
        self._turns.cancel(path)
        self._silent.discard(path)
        self._release(path)

    def _pause(self, path: Path) -> None:
        """Small echoes stop while the byte counters are asked, and go on after it."""
        target = path.target()
        if target != self._targets[path.peer.key]:
            self._targets[path.peer.key] = target
            self._engine.set_targets(self._targets.values())

    def _now(self, key: PeerKey) -> PathMtu:
        path = self._paths[key]
        self._plan(path, time.monotonic())
        return path.mtu

    def _touch(self, path: Path) -> None:
        path.stale = True
        self._changed[path] = None

    # --- the round ----------------------------------------------------------------------------------------------------

    def _poll(self, now: float) -> float:
        if now >= self._next_look:
            self._look()
            self._next_look = now + LOOK
        if now >= self._next_namespaces:
            self._next_namespaces = now + NAMESPACE_INTERVAL
            self._carrier.follow_namespaces()
        for _ in range(IN_A_ROW):
            due = self._turns.next_due()
            if due > now:
                return min(due, self._next_look)
            if now < self._carrier.free_at:
                return min(self._carrier.free_at, self._next_look)
            self._run(self._turns.take(), now)
        return now

    def _plan(self, path: Path, due: float) -> None:
        if path.active:
            self._turns.plan(path, due)

    def _run(self, path: Path, now: float) -> None:
        """Let one machine send what it wants."""
        mtu = path.mtu
        for send in mtu.poll(now, heavy=path in self._searching):
            self._carrier.send(path, send)
        if mtu.heavy:
            self._searching.ask(path)
        else:
            self._release(path)
        if mtu.silent:
            self._silent.add(path)
        else:
            self._silent.discard(path)
        self._pause(path)
        self._touch(path)
        self._plan(path, max(mtu.next_time(heavy=path in self._searching), now + SOON))

    def _release(self, path: Path) -> None:
        following = self._searching.release(path)
        if following is not None:
            self._plan(following, time.monotonic())

    def _look(self) -> None:
        """Take what the small echoes brought. A peer that came back or went is looked at closely."""
        now = time.monotonic()
        for key, stats in self._engine.changes(LOOK_AT_ONCE).items():
            path = self._paths.get(cast("PeerKey", key))
            if path is None:
                continue
            path.stats = stats
            self._changed[path] = None
            if (stats.sent or stats.errors) and stats.up is not path.up:
                # At the start all are first heard of within seconds: let them wait for their place.
                if path.up is not None or (not stats.up and path.mtu.answered):
                    path.mtu.check(now)
                    self._plan(path, now)
                path.up = stats.up

    def _arrived(self, path: Path, answer: Answer) -> None:
        if self._paths.get(path.peer.key) is path:
            path.mtu.handle(answer, time.monotonic())
            self._touch(path)
            heavy = path in self._searching
            due = path.mtu.next_time(heavy=heavy) if heavy or not path.mtu.heavy else 0.0
            self._plan(path, max(due, time.monotonic()))
