"""Runs the probing of many peers over one engine, in one thread: small echoes for all, an MTU machine for each.

Nothing is judged here. Each round of the engine: take the routes, packets and byte counters to the machines that want
them, and carry what comes back. What this module adds is moderation:

- **First checks are spread**: 20 peers a second or, where these are too few for it, all within the inner interval. So
  one new peer is checked at once, and 10,000 within a minute. Each machine keeps its place from then on.
- **One pace for all**: MTU probing sends 1 MB/s at most (8 Mbit/s), however many peers fall silent at once. What is due
  waits its turn, the longest overdue first. Small echoes are not held up.
- **Few searches at once**: a search sends 32 kB a round at 500 kB/s, so only two run at a time and others queue.
- Little in a row: after a few peers the engine sends and reads small echoes again.

Memory is bounded by the number of peers and by `flights.MOST`.
"""

from __future__ import annotations

import os
import time
from ipaddress import ip_address
from itertools import islice
from typing import TYPE_CHECKING, cast

from wg_exporter.model import Probed, SendError, Verdict
from wg_exporter.prober.engine import Engine, Order
from wg_exporter.prober.flights import Flight, Flights, meaning
from wg_exporter.prober.lane import reason
from wg_exporter.prober.netns import Namespaces
from wg_exporter.prober.netroute import Routes
from wg_exporter.prober.packet import UDP
from wg_exporter.prober.pmtu import PathMtu, Settings
from wg_exporter.prober.probes import SMALL, Kind, Layer, LocalTooBig, NotSent, Route
from wg_exporter.prober.settings import ProbeSettings
from wg_exporter.prober.track import EchoSettings, EchoTarget
from wg_exporter.prober.turns import Slots, Turns
from wg_exporter.prober.verdict import Tunnel
from wg_exporter.sources.netlink import open_socket as open_netlink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wg_exporter.model import PeerKey, ProbePeer, ProbeStats
    from wg_exporter.prober.engine import Tapped
    from wg_exporter.prober.lane import Opener
    from wg_exporter.prober.locate import Shrink
    from wg_exporter.prober.packet import Answer
    from wg_exporter.prober.probes import Send
    from wg_exporter.prober.verdict import Evidence

    Tap = Callable[[str, str, Layer, bytes, float], None]
    """Told of every packet: ("sent" or "received", netns, layer, the IP packet as `engine.Tapped` has it, wall clock in
    seconds). A packet that belongs to no probe is not told of."""

FIRST_CHECKS = 20.0  # a second
GOLDEN = 0.6180339887498949  # the fractional part of n times this is spread most evenly, for any number of n
RATE = 1_000_000  # bytes a second, all MTU probing together
MOST_SEARCHES = 2
IN_A_ROW = 8  # peers that may send before small echoes have their turn: 2 ms
LOOK = 0.1  # seconds between looks at what the small echoes brought
LOOK_AT_ONCE = 500  # peers: 1 ms
NAMESPACE_INTERVAL = 5.0  # seconds between looks at whether a namespace was replaced
SOON = 0.001  # seconds; never in a hurry without a pause


class _Path:
    """One peer and its machine. `up` is None until a small echo has had its fate, `told` what was last told of it."""

    __slots__ = ("active", "address", "endpoint", "mtu", "peer", "scope", "stale", "stats", "told", "up")

    def __init__(self, peer: ProbePeer, mtu: PathMtu) -> None:
        self.mtu = mtu
        self.up: bool | None = None
        self.stats: ProbeStats | None = None
        self.told: Probed | None = None
        self.stale = True  # the report may have changed
        self.set(peer)

    def set(self, peer: ProbePeer) -> None:
        self.peer = peer
        self.address = ip_address(peer.target).packed
        endpoint, _, zone = peer.endpoint.partition("%")
        self.endpoint = ip_address(endpoint).packed if endpoint else b""
        self.scope = int(zone) if zone.isdecimal() else 0
        self.active = bool(peer.ifindex and peer.mtu > SMALL)


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
        self._namespaces = Namespaces(namespaces or {})
        self._tap = tap
        self._engine = Engine(
            EchoSettings(timeout=settings.timeout, buckets=tuple(settings.rtt_buckets)),
            other=self._answer,
            poll=self._poll,
            tap=self._show if tap else None,
            open_socket=open_socket or self._namespaces.open,
        )
        self._mtu = Settings(settings.inner_interval, settings.outer_interval, settings.timeout)
        self._flights: Flights[_Path] = Flights(settings.timeout, os.urandom)
        self._routes: dict[str, Routes] = {}
        self._paths: dict[PeerKey, _Path] = {}
        self._targets: dict[PeerKey, EchoTarget] = {}
        self._silent: set[_Path] = set()  # what is known of these may change by time and byte counters alone
        self._turns: Turns[_Path] = Turns()
        self._searching: Slots[_Path] = Slots(MOST_SEARCHES)
        self._changed: dict[_Path, None] = {}
        self._sending = Layer.INNER
        self._added = 0
        self._backlog = (0.0, 0.0)  # peers that still wait for their first check, and when that was so
        self._free_at = 0.0  # when the pace allows the next packet
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
            if not _usable(peer):
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
            if (news := self._news(path, now, wall)) is not None:
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
        self._engine.close()
        for routes in self._routes.values():
            routes.close()
        self._namespaces.close()

    # --- peers --------------------------------------------------------------------------------------------------------

    def _add(self, peer: ProbePeer, now: float) -> None:
        waiting, since = self._backlog
        waiting = max(waiting - (now - since) * FIRST_CHECKS, 0.0)
        self._backlog = waiting + 1, now
        self._added += 1
        spread = min(waiting / FIRST_CHECKS, self._settings.inner_interval)
        mtu = PathMtu(_tunnel(peer), now, now + spread * (self._added * GOLDEN % 1), self._mtu)
        path = self._paths[peer.key] = _Path(peer, mtu)
        self._targets[peer.key] = self._target(path)
        self._plan(path, mtu.next_time())

    def _change(self, path: _Path, peer: ProbePeer, now: float) -> bool:
        """Whether the small echoes are concerned too."""
        if peer.target != path.peer.target:
            path.up = path.stats = None
        if peer.endpoint != path.peer.endpoint:
            self._engine.resume(peer.key)
        path.set(peer)
        path.mtu.change(_tunnel(peer), now)
        if not path.active:
            self._rest(path)
        self._plan(path, now)
        self._touch(path)
        before, self._targets[peer.key] = self._targets[peer.key], self._target(path)
        return before != self._targets[peer.key]

    def _remove(self, key: PeerKey) -> bool:
        path = self._paths.pop(key, None)
        if path is None:
            return False
        del self._targets[key]
        self._changed.pop(path, None)
        self._rest(path)
        return True

    def _rest(self, path: _Path) -> None:
        self._turns.cancel(path)
        self._silent.discard(path)
        self._release(path)

    def _target(self, path: _Path) -> EchoTarget:
        peer = path.peer
        paused = path.mtu.pause_echoes or not path.active
        interval = self._settings.suspect_interval
        return EchoTarget(peer.key, peer.key[0], peer.ifindex, peer.target, peer.interval, interval, paused)

    def _pause(self, path: _Path) -> None:
        """Small echoes stop while the byte counters are asked, and go on after it."""
        target = self._target(path)
        if target != self._targets[path.peer.key]:
            self._targets[path.peer.key] = target
            self._engine.set_targets(self._targets.values())

    def _now(self, key: PeerKey) -> PathMtu:
        path = self._paths[key]
        self._plan(path, time.monotonic())
        return path.mtu

    def _touch(self, path: _Path) -> None:
        path.stale = True
        self._changed[path] = None

    def _news(self, path: _Path, now: float, wall: float) -> Probed | None:
        """What is known, if it is not what was told before. The report is the same object while nothing changed.

        Before the fate of a first probe is known there is nothing to tell: "not up" would be wrong.
        """
        stats = path.stats
        if stats is None or not (stats.sent or stats.errors):
            return None
        before = path.told.mtu if path.told is not None else None
        report = before
        if path.stale:
            path.stale = False
            report = path.mtu.report(now, wall)
            if before is not None and abs(report.checked - before.checked) < 0.5:  # two clocks, read one by one
                report = report._replace(checked=before.checked)
            if report == before:
                report = before
            elif report.verdict is Verdict.UNKNOWN:
                report = None
        news = Probed(path.peer.target, stats, report)
        if news == path.told:
            return None
        path.told = news
        return news

    # --- the round ----------------------------------------------------------------------------------------------------

    def _poll(self, now: float) -> float:
        if now >= self._next_look:
            self._look()
            self._next_look = now + LOOK
        if now >= self._next_namespaces:
            self._next_namespaces = now + NAMESPACE_INTERVAL
            for netns in self._namespaces.moved():
                self._engine.forget(netns)
                if netns in self._routes:
                    self._routes.pop(netns).close()
        for _ in range(IN_A_ROW):
            due = self._turns.next_due()
            if due > now:
                return min(due, self._next_look)
            if now < self._free_at:
                return min(self._free_at, self._next_look)
            self._run(self._turns.take(), now)
        return now

    def _plan(self, path: _Path, due: float) -> None:
        if path.active:
            self._turns.plan(path, due)

    def _run(self, path: _Path, now: float) -> None:
        """Let one machine send what it wants."""
        mtu = path.mtu
        for send in mtu.poll(now, heavy=path in self._searching):
            self._send(path, send)
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

    def _release(self, path: _Path) -> None:
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

    # --- packets ------------------------------------------------------------------------------------------------------

    def _send(self, path: _Path, send: Send) -> None:
        now = time.monotonic()
        if send.kind is Kind.ROUTE:
            self._look_up(path, send, now)
            return
        outer = send.kind is Kind.OUTER_ECHO
        address = path.endpoint if outer else path.address
        if not address:
            path.mtu.handle(NotSent(send.probe, SendError.NO_ROUTE), now)
            return
        if not outer and send.size > SMALL and 0 < (limit := self._route_limit(path)) < send.size:
            path.mtu.handle(LocalTooBig(send.probe, limit), now)
            return
        flight = self._flights.start(path, send, address, now)
        if flight is None:
            path.mtu.handle(NotSent(send.probe, SendError.NO_BUFFER), now)
            return
        self._free_at = max(self._free_at, now - 0.01) + send.size / RATE
        self._sending = flight.layer
        try:
            failure = self._engine.send(_order(path, send, flight))
        except ValueError:  # no IP packet is as large as this device's MTU says
            failure = SendError.TOO_BIG
        if failure is SendError.TOO_BIG:
            self._flights.forget(flight)
            path.mtu.handle(LocalTooBig(send.probe, self._local_limit(path, send)), now)
        elif failure is not None:
            self._flights.forget(flight)
            path.mtu.handle(NotSent(send.probe, failure), now)

    def _look_up(self, path: _Path, send: Send, now: float) -> None:
        if not path.endpoint:
            return
        try:
            found = self._routes_in(path.peer.underlay).look_up(path.endpoint, path.peer.fwmark, path.scope)
        except OSError as error:
            path.mtu.handle(NotSent(send.probe, reason(error)), now)
        else:
            path.mtu.handle(Route(send.probe, found.egress, found.cached, found.via), now)

    def _route_limit(self, path: _Path) -> int:
        """The MTU of the route to the target, 0 = not known.

        The engine's sockets don't heed it (IP_PMTUDISC_INTERFACE), but everybody else's packets have to.
        """
        try:
            return self._routes_in(path.peer.key[0]).look_up(path.address, ifindex=path.peer.ifindex).egress
        except OSError:
            return 0

    def _local_limit(self, path: _Path, send: Send) -> int:
        """What this host would take where it refused this size, 0 = it doesn't say."""
        peer = path.peer
        try:
            if send.kind is Kind.OUTER_ECHO:
                found = self._routes_in(peer.underlay).look_up(path.endpoint, peer.fwmark, path.scope)
            else:
                found = self._routes_in(peer.key[0]).look_up(path.address, ifindex=peer.ifindex)
        except OSError:
            return 0
        return found.size if found.size < send.size else 0

    def _routes_in(self, netns: str) -> Routes:
        known = self._routes.get(netns)
        if known is None:
            known = self._routes[netns] = Routes(
                lambda protocol: self._namespaces.inside(netns, lambda: open_netlink(protocol))
            )
        return known

    def _answer(self, answer: Answer, arrived: float) -> None:
        flight = self._flights.of(answer)
        if flight is None:
            return
        path, news = flight.owner, meaning(answer, flight, arrived)
        if news is not None and self._paths.get(path.peer.key) is path:
            path.mtu.handle(news, time.monotonic())
            self._touch(path)
            heavy = path in self._searching
            due = path.mtu.next_time(heavy=heavy) if heavy or not path.mtu.heavy else 0.0
            self._plan(path, max(due, time.monotonic()))

    def _show(self, tapped: Tapped) -> None:
        assert self._tap is not None  # noqa: S101 - else the engine would not have been given this
        layer = self._sending if tapped.order is not None else Layer.INNER
        if (answer := tapped.answer) is not None:
            flight = self._flights.of(answer)
            if flight is None and (answer.protocol == UDP or answer.ident & 1):
                return
            layer = flight.layer if flight is not None else Layer.INNER
        self._tap("sent" if tapped.sent else "received", tapped.netns, layer, tapped.packet, tapped.when)


def _order(path: _Path, send: Send, flight: Flight[_Path]) -> Order:
    """The packet that a machine wants. Inside, it leaves by the device; outside, as the tunnel's own packets do."""
    peer = path.peer
    if flight.layer is Layer.OUTER:
        netns, ifindex, mark = peer.underlay, path.scope, peer.fwmark
    else:
        netns, ifindex, mark = peer.key[0], peer.ifindex, 0
    return Order(
        netns, flight.address, send.size, flight.sequence, flight.token, ifindex, mark, flight.port, send.df, send.ttl
    )


def _tunnel(peer: ProbePeer) -> Tunnel:
    return Tunnel(peer.key[1], peer.mtu, peer.endpoint, peer.target, peer.roams, peer.ipv6_inside)


def _usable(peer: ProbePeer) -> bool:
    """Whether its addresses are some. The target's is needed; an endpoint may be unknown yet."""
    return _address(peer.target) and (not peer.endpoint or _address(peer.endpoint.partition("%")[0]))


def _address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
