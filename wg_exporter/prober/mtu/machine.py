"""The MTU of one peer's tunnel: which probes to send when, and what they add up to. No sockets, no clock.

`PathMtu` runs the machines of the single probes and gives each answer to the machine whose probe has its number:

    P0, the route                     every `ROUTE_INTERVAL`, when the endpoint changes, and after a search (`route`)
    P2 and P3, pairs                  every `inner_interval`; P3 is the fragment size of an answer (`pairs`)
    P4, the direction of the loss     in distress, once the size is known (`locate`)
    P5, outer probes                  every `outer_interval`, and when the endpoint or the route changes (`outer`)
    P6, searches inside and outside   in distress, on demand, and outside where P5 did not pass (`search`)
    P7 the hop, P8 the oracle         on demand only (`locate`, `oracle`)

P1, the small echoes, are not sent from here (`echo`).

A probe that a machine wants sent gets a number and is remembered for the timeout, so that late answers still count.
Nothing else is kept of it, so a peer that never answers costs as much memory as any other.

`findings` says what the machines know at the moment, and `verdict` judges it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config.probe import ProbeSettings
from wg_exporter.probed import MtuReport
from wg_exporter.prober.mtu.alive import Received
from wg_exporter.prober.mtu.locate import Direction, Hops, Ways
from wg_exporter.prober.mtu.oracle import Oracle, SilentPeer
from wg_exporter.prober.mtu.outer import OuterPath
from wg_exporter.prober.mtu.pairs import SILENT, VOTES, Big, Pairs
from wg_exporter.prober.mtu.probes import (
    NEVER,
    PADDING,
    Layer,
    LocalTooBig,
    Passed,
    Patience,
    ProbeKind,
    Send,
    TooBig,
    known_size,
)
from wg_exporter.prober.mtu.route import RouteLookup
from wg_exporter.prober.mtu.search import Found, Pace, Search
from wg_exporter.prober.mtu.verdict import Findings, Tunnel, judge, outer_path, recommended

if TYPE_CHECKING:
    from wg_exporter.prober.mtu.locate import Shrink
    from wg_exporter.prober.mtu.probes import Answer, Machine, Want

MOST_IN_FLIGHT = 512


class Phase(StrEnum):
    """Where the probing of a peer stands. It begins with the first probes, and changes in `_learn` alone."""

    PROBING = "probing"  # pairs and outer probes at their intervals; no size is suspected
    DISTRESS = "distress"  # a hole, a refusal or a packet-too-big: both layers are searched


class _Sent(NamedTuple):
    """A probe in flight, and the machine that wanted it. `sent_at` is monotonic seconds."""

    machine: Machine
    want: Want
    sent_at: float


class PathMtu:
    """The probing of one peer. `now` is monotonic seconds throughout."""

    def __init__(
        self, tunnel: Tunnel, now: float, first: float | None = None, settings: ProbeSettings | None = None
    ) -> None:
        """Probe `tunnel` from `first` on, by default `now`. A different `first` for each peer spreads the probes."""
        self._settings = settings or ProbeSettings()
        self._number = 0
        self._received = Received()
        self._begin(tunnel, now if first is None else first)

    def _begin(self, tunnel: Tunnel, first: float) -> None:
        """Start afresh: what is known of a path is not true of a tunnel with another MTU or endpoint."""
        self._tunnel = tunnel
        self._in_flight: dict[int, _Sent] = {}
        self._patience = Patience(self._settings.timeout)
        self._pace = Pace()
        self._lookup = RouteLookup(first)
        self._pairs = Pairs(tunnel.mtu, first, self._settings, self._patience)
        self._outer = OuterPath(tunnel, self._settings, self._patience, self._pace)
        self._inner_search: Search | None = None
        self._inner_found: Found | None = None
        self._ways: Ways | None = None
        self._direction = Direction.UNKNOWN  # what the last P4 that could tell has told
        self._sharp = False  # and so has one byte more than what passes been lost
        self._rested = False  # large echoes were tried after a rest
        self._hops: Hops | None = None
        self._oracle: SilentPeer | None = None
        self._phase = Phase.PROBING
        self._was_under_way = False  # at the last `_learn`

    @property
    def tunnel(self) -> Tunnel:
        """What is being probed."""
        return self._tunnel

    @property
    def pause_echoes(self) -> bool:
        """Whether the oracle listens to the byte counters, so that no small echo (P1) may be sent to this peer."""
        return self._oracle is not None and not self._oracle.done

    @property
    def heavy(self) -> bool:
        """Whether a search wants to send whole rounds of sizes, tens of kilobytes. `poll` can hold it back."""
        return any(search is not None and search.heavy for search in (self._outer.search, self._inner_search))

    @property
    def silent(self) -> bool:
        """Whether the last small probe was lost: the verdict may then change with time or byte counters alone."""
        return self._pairs.silent > 0

    @property
    def answered(self) -> bool:
        """Whether a small probe was ever answered."""
        return self._pairs.ever

    def busy(self, now: float) -> bool:
        """Whether something that was asked for, or a suspicion, is not settled yet."""
        if self._pairs.silent >= SILENT and self._alive(now) is None and self._received.since is not None:
            return True
        return self._lookup.open or self._under_way()

    def change(self, tunnel: Tunnel, now: float) -> None:
        """The endpoint, the interface's MTU or the target may have changed."""
        if tunnel != self._tunnel:
            self._begin(tunnel, now)

    def check(self, now: float) -> None:
        """Send a pair now, as the peer has come back or fallen silent."""
        self._pairs.check(now)

    def search(self, now: float) -> None:
        """Send a pair and search inside and outside (P2, P6), on demand. It is done when it isn't `busy`."""
        self._pairs.check(now)
        self._inner_search = self._new_inner()
        self._ways = None
        self._outer.ask()
        if not self._lookup.answered:
            self._lookup.check(now)
        self._learn(now)

    def find_hop(self, now: float) -> None:
        """P7: look for the router behind which the path shrinks; read `shrink()` when not `busy`."""
        self._hops = Hops(self._tunnel.needed, self._patience, now)

    def ask_silent(self, now: float) -> None:
        """P8: ask the byte counters whether full-size packets arrive. Takes 1 to 3 minutes; see `pause_echoes`."""
        self._oracle = SilentPeer(self._tunnel.mtu, now)

    def shrink(self) -> Shrink | None:
        """What P7 found; None if nothing, or if it was not asked."""
        return self._hops.found() if self._hops is not None else None

    def counters(self, rx: int, tx: int, now: float) -> bool:
        """Take the peer's byte counters: at every tick, and twice a second while `pause_echoes`.

        Returns whether something was received since the last reading.
        """
        if self._oracle is not None:
            self._oracle.counters(rx, tx, now)
        return self._received.read(rx, now)

    def poll(self, now: float, *, heavy: bool = True) -> list[Send]:
        """What to send now. Without `heavy`, searches wait, because too many of other peers are under way."""
        for number in [n for n, sent in self._in_flight.items() if now >= sent.sent_at + self._settings.timeout]:
            del self._in_flight[number]
        self._schedule(now)
        sends = []
        for machine in self._machines(heavy=heavy):
            if len(self._in_flight) >= MOST_IN_FLIGHT:
                break
            for want in machine.poll(now):
                self._number += 1
                self._in_flight[self._number] = _Sent(machine, want, now)
                sends.append(Send(self._number, want.kind, want.size, ttl=want.ttl))
        self._learn(now)
        return sends

    def next_time(self, *, heavy: bool = True) -> float:
        """When to poll again; earlier is harmless. Without `heavy`, not for a search that has to wait."""
        outer = NEVER if self.pause_echoes else self._outer.next_time()
        return min(outer, *(machine.next_time() for machine in self._machines(heavy=heavy)))

    def handle(self, answer: Answer, now: float) -> None:
        """Take an answer. One that belongs to no probe in flight, or can't be true of it, is dropped."""
        sent = self._in_flight.get(answer.probe) if answer.probe is not None else None
        if sent is None or not self._plausible(answer, sent.want):
            return
        if isinstance(answer, Passed) and sent.want.kind is ProbeKind.INNER_ECHO:
            self._pairs.heard()
        sent.machine.handle(sent.want, self._explained(answer, sent.want), now)
        self._learn(now)

    def findings(self, now: float) -> Findings:
        """All that is known at this moment."""
        pairs, route, outer, inner = self._pairs, self._lookup.route, self._outer.found, self._inner_found
        refused = pairs.refused is not None
        small = pairs.big is not Big.PASSED or refused
        claim = inner.claim if inner and small and inner.reporter else None
        full, agreeing = self._outer.carries_full(), self._agreeing()
        if agreeing and not full:
            full = False
        return Findings(
            self._tunnel,
            big=pairs.big,
            # An answer may still come until the timeout is over.
            silent=pairs.silent if now >= (pairs.silent_since or 0.0) + self._settings.timeout else 0,
            ever=pairs.ever,
            alive=self._alive(now),
            refused=pairs.refused,
            unsent=pairs.unsent,
            inner_claim=claim,
            fragment=inner.fragment if inner and pairs.big is not Big.PASSED else pairs.fragment,
            direction=self._direction,
            oracle=self._told_by_counters(),
            inner=self._inner(),
            inner_exact=bool(inner and inner.exact),
            route=route.egress if route else None,
            learnt=route.cached if route else None,
            outer=outer.path if outer and full is not None else None,
            outer_full=full,
            hop=(inner.reporter if claim and inner else "") or (outer.reporter if outer and full is False else ""),
            lossy=pairs.lossy,
            spotty=pairs.spotty,
            agreeing=agreeing,
        )

    def report(self, now: float, wall: float = 0.0) -> MtuReport:
        """The row for the metrics. `wall` is the wall clock at `now`, in seconds since the epoch."""
        findings = self.findings(now)
        path, slack = outer_path(findings)
        shrink = self.shrink()
        concluded = self._pairs.concluded
        return MtuReport(
            verdict=judge(findings),
            interface_mtu=self._tunnel.mtu,
            path_inner=findings.inner,
            path_outer=path,
            path_slack=slack,
            needed=self._tunnel.needed,
            recommended=recommended(findings),
            remote=findings.fragment if findings.arrives else None,
            shrinks_at=findings.hop or (shrink.hop if shrink else ""),
            checked=wall - (now - concluded) if concluded is not None else 0.0,
        )

    def _machines(self, *, heavy: bool) -> list[Machine]:
        searches = (s if s is None or heavy or not s.heavy else None for s in (self._outer.search, self._inner_search))
        jobs: tuple[Machine | None, ...] = (self._pairs, self._ways, *searches, self._hops)
        # While the oracle listens nothing else may be sent, because the answer would move the counters.
        parts = (self._lookup, self._oracle) if self.pause_echoes else (self._lookup, *jobs)
        return [part for part in parts if part is not None]

    def _plausible(self, answer: Answer, want: Want) -> bool:
        if isinstance(answer, TooBig):
            outer = want.kind is ProbeKind.OUTER_ECHO
            ipv6 = ":" in (self._tunnel.endpoint if outer else self._tunnel.target)
            return (answer.layer is Layer.OUTER) == outer and known_size(answer.mtu, want.size, ipv6=ipv6)
        return True

    def _explained(self, answer: Answer, want: Want) -> Answer:
        """Replace a local refusal by the packet-too-big that it repeats. The kernel learned the size from that (over
        IPv6 always), so the refusal is no fault of this host's routes."""
        if isinstance(answer, LocalTooBig) and want.kind is ProbeKind.INNER_ECHO:
            claimed = self._pairs.claimed
            if claimed is not None and claimed.mtu == answer.mtu:
                return claimed
        return answer

    def _schedule(self, now: float) -> None:
        if self._outer.due(now) and not self.pause_echoes:
            # The size of the hole may have changed too.
            hole = self._pairs.big is Big.HOLE
            self._outer.start(self._lookup.route, now, thorough=hole)
            if hole:
                self._inner_search = self._new_inner()
                self._ways = None

    def _new_inner(self) -> Search:
        return Search(Layer.INNER, self._tunnel.mtu, self._patience, self._pace)

    def _learn(self, now: float) -> None:
        """Draw conclusions from what the machines know now, and start what these call for."""
        lookup = self._lookup
        # What the kernel was taught, and how the path looked before, may contradict each other.
        if lookup.changed or (lookup.taught and self._outer.carries_full() is not False):
            self._outer.check(now)
        lookup.changed = lookup.taught = False
        self._outer.learn(lookup.route, now, known=lookup.answered)
        self._learn_inner(now)
        self._learn_direction(now)
        suspected = self._suspected()
        if suspected and self._phase is Phase.PROBING:
            self._enter_distress(now)
        elif not suspected and self._phase is Phase.DISTRESS:
            self._leave_distress(now)
        under_way = self._under_way()
        if self._was_under_way and not under_way:
            self._lookup.check(now)  # what was sent may have taught the kernel a path MTU
        self._was_under_way = under_way

    def _learn_inner(self, now: float) -> None:
        if self._inner_search is None or not self._inner_search.done:
            return
        self._inner_found = self._inner_search.found()
        if self._inner_found.passed == self._tunnel.mtu and self._pairs.big is not Big.PASSED:
            self._pairs.good(now)
            self._inner_search = None

    def _learn_direction(self, now: float) -> None:
        """Whether other packets than echoes fall into the hole too, and if not, whether large echoes only need rest."""
        pairs, search = self._pairs, self._inner_search
        if (pairs.big is not Big.HOLE and pairs.votes < VOTES) or search is None or not search.done:
            return
        if self._ways is None or (pairs.lossy and not self._ways.lossy):
            passed = self._inner_found.passed if self._inner_found else 0
            ipv6 = ":" in self._tunnel.target
            self._ways = Ways(self._tunnel.mtu, passed, self._patience, now, ipv6=ipv6, lossy=pairs.lossy)
        # That full-size packets arrive is not true for ever; that they don't is over only when they come back.
        if self._ways.direction is not Direction.UNKNOWN or (self._ways.done and self._direction is Direction.BACK):
            self._direction = self._ways.direction
        self._sharp = self._sharp or self._ways.sharp
        if pairs.big is not Big.HOLE:
            return
        proven = self._direction is Direction.TOWARDS or self._agreeing() or pairs.claimed is not None
        if self._ways.done and self._outer.idle and not proven and not self._rested:
            self._rested = True
            pairs.slowly(now)

    def _agreeing(self) -> bool:
        """Whether what passes inside and outside differs by what WireGuard adds, within the padding."""
        inner, outer = self._inner_found, self._outer.found
        if self._pairs.big is not Big.HOLE or not self._sharp or not inner or not outer or not outer.exact:
            return False
        largest = (outer.path or 0) - self._tunnel.overhead
        # The far side pads past our MTU, up to its own: so a full packet may pass outside and its answer not.
        return inner.passed < self._tunnel.mtu and inner.passed <= largest < inner.passed + PADDING

    def _told_by_counters(self) -> Oracle | None:
        """What P8 told. A target that answers full-size echoes tells more itself."""
        oracle, pairs = self._oracle, self._pairs
        return oracle.result if oracle and oracle.done and (not pairs.ever or pairs.big is Big.HOLE) else None

    def _suspected(self) -> bool:
        pairs = self._pairs
        return pairs.big is Big.HOLE or pairs.votes >= VOTES or pairs.claimed is not None or pairs.refused is not None

    def _enter_distress(self, now: float) -> None:
        self._phase = Phase.DISTRESS
        if self._inner_search is None or self._inner_search.done:
            self._inner_search = self._new_inner()
        if self._outer.idle:
            self._outer.start(self._lookup.route, now, thorough=True)

    def _leave_distress(self, now: float) -> None:
        self._phase = Phase.PROBING
        self._ways, self._direction = None, Direction.UNKNOWN
        self._sharp = self._rested = False
        if self._pairs.big is Big.PASSED:
            self._inner_search = self._inner_found = None
            self._outer.check(now)  # what was found outside is as old as the hole

    def _under_way(self) -> bool:
        jobs = (self._outer.search, self._inner_search, self._ways, self._hops, self._oracle)
        return not self._pairs.calm or self._outer.doubtful or any(job is not None and not job.done for job in jobs)

    def _inner(self) -> int | None:
        """The largest inner size in bytes that is known to get through, None if none is."""
        if self._pairs.big is Big.PASSED and self._pairs.refused is None:
            return self._tunnel.mtu
        return (self._inner_found.passed or None) if self._inner_found else None

    def _alive(self, now: float) -> bool | None:
        return self._received.alive(self._pairs.silent_since, now)
