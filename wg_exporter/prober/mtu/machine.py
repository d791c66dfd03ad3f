"""The MTU of one peer's tunnel: which probes to send when, and what they add up to. No sockets, no clock.

`PathMtu` runs the machines of the single probes and carries answers to them by number:

    P0 the route, P5 outer probes     every `outer_interval` (P0: 60 s), and when the endpoint or the route changes
    P2 and P3, pairs                  every `inner_interval`; the fragment size of an answer comes with it (`pairs`)
    P4, and P6 inside and outside     when a hole is suspected or something said too big, and on demand
    P7, P8                            on demand only (`locate`, `oracle`)

The life of a probe: a machine wants it, it gets a number and is remembered for the timeout, whatever happens, so that
late answers still count. Nothing else is kept, so a peer that never answers costs as much memory as any other.

`Evidence` is drawn from what the machines know at the moment (`evidence()`); `verdict` judges it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config.probe import ProbeSettings
from wg_exporter.model import MtuReport
from wg_exporter.prober.mtu.locate import Direction, Hops, Ways
from wg_exporter.prober.mtu.oracle import SilentPeer
from wg_exporter.prober.mtu.pairs import CHANCE, SILENT, VOTES, Big, Pairs
from wg_exporter.prober.mtu.probes import (
    NEVER,
    SMALL,
    Kind,
    Layer,
    LocalTooBig,
    Passed,
    Patience,
    Send,
    TooBig,
    known_size,
)
from wg_exporter.prober.mtu.route import RouteLookup
from wg_exporter.prober.mtu.search import LEAST_COMMON, Found, Pace, Search
from wg_exporter.prober.mtu.verdict import Evidence, Tunnel, judge, outer_path, recommended

if TYPE_CHECKING:
    from wg_exporter.prober.mtu.locate import Shrink
    from wg_exporter.prober.mtu.probes import Answer, Machine, Want

ALIVE = 25.0  # a peer that gets data sends something back within 10 s (11.1 s seen); twice that, and a little
OFTEN_ASKED = 60.0  # seconds of silence in which small echoes come at most 10 s apart; later up to 30 s (echo, track)
ALIVE_RARELY_ASKED = 80.0  # 60 s, for so rare may echoes be by choice, and what ALIVE leaves for answer and reading
MOST_FLIGHTS = 512
LARGEST_FOR_SEARCH = 9216  # a loopback route says 65536: no path to a peer is as wide


class _Flight(NamedTuple):
    machine: Machine
    want: Want
    sent: float


class PathMtu:
    """The probing of one peer. `now` is monotonic seconds throughout."""

    def __init__(
        self, tunnel: Tunnel, now: float, first: float | None = None, settings: ProbeSettings | None = None
    ) -> None:
        """Probe `tunnel` from `first` on (by default `now`); spread peers over the interval by it."""
        self._settings = settings or ProbeSettings()
        self._number = 0
        self._rx: int | None = None
        self._rx_grew: float | None = None
        self._rx_read: float = 0.0
        self._watched: float | None = None  # since when the counter has been watched
        self._begin(tunnel, now if first is None else first)

    def _begin(self, tunnel: Tunnel, first: float) -> None:
        """Everything that is known of a path belongs to one tunnel: another MTU or endpoint starts afresh."""
        self._tunnel = tunnel
        self._flights: dict[int, _Flight] = {}
        self._patience = Patience(self._settings.timeout)
        self._pace = Pace()
        self._lookup = RouteLookup(first)
        self._pairs = Pairs(tunnel.mtu, first, self._settings, self._patience)
        self._outer_due = NEVER  # the first outer probe waits for the route: how large may it be?
        self._outer_demanded = False  # and so does a search that somebody asked for
        self._outer_search: Search | None = None
        self._outer_found: Found | None = None
        self._inner_search: Search | None = None
        self._inner_found: Found | None = None
        self._ways: Ways | None = None
        self._hops: Hops | None = None
        self._oracle: SilentPeer | None = None
        self._searched = False  # for the suspicion at hand
        self._probed = False  # something was under way when we last looked

    @property
    def tunnel(self) -> Tunnel:
        """What is being probed."""
        return self._tunnel

    @property
    def pause_echoes(self) -> bool:
        """The oracle listens to the byte counters: no small echo (P1) may be sent to this peer."""
        return self._oracle is not None and not self._oracle.done

    @property
    def heavy(self) -> bool:
        """A search wants to send whole rounds of sizes, tens of kilobytes. `poll` can hold it back."""
        return any(search is not None and search.heavy for search in (self._outer_search, self._inner_search))

    @property
    def silent(self) -> bool:
        """The last small probes were lost: the verdict may change with time and the byte counters alone."""
        return self._pairs.silent > 0

    @property
    def answered(self) -> bool:
        """A small probe was answered once."""
        return self._pairs.ever

    def busy(self, now: float) -> bool:
        """Something that was asked for, or a suspicion, is not settled yet."""
        if self._pairs.silent >= SILENT and self._alive(now) is None and self._watched is not None:
            return True
        return self._lookup.open or self._probing()

    def change(self, tunnel: Tunnel, now: float) -> None:
        """The endpoint, the interface's MTU or the target may have changed."""
        if tunnel != self._tunnel:
            self._begin(tunnel, now)

    def check(self, now: float) -> None:
        """Send a pair now: the peer has come back, or fallen silent."""
        self._pairs.check(now)

    def search(self, now: float) -> None:
        """Look at everything now (P2, P4, P6): somebody has asked. Ends when `busy` is False."""
        self._pairs.check(now)
        self._inner_search = self._new_inner()
        self._outer_demanded = True
        if not self._lookup.answered:
            self._lookup.check(now)
        self._learn(now)

    def find_hop(self, now: float) -> None:
        """P7: look for the router behind which the path shrinks; read `shrink()` when not `busy`."""
        self._hops = Hops(self._tunnel.needed, self._patience, now)

    def ask_silent(self, now: float) -> None:
        """P8: ask the byte counters whether full-size packets arrive. Takes a minute or two; see `pause_echoes`."""
        self._oracle = SilentPeer(self._tunnel.mtu, now)

    def shrink(self) -> Shrink | None:
        """What P7 found."""
        return self._hops.found() if self._hops is not None else None

    def counters(self, rx: int, tx: int, now: float) -> bool:
        """Take the peer's byte counters: every few seconds, and twice a second while `pause_echoes`.

        Whether something was received since the last time.
        """
        grew = self._rx is not None and rx > self._rx
        if self._watched is None:
            self._watched = now
        elif grew:
            self._rx_grew = now
        self._rx = rx
        self._rx_read = now
        if self._oracle is not None:
            self._oracle.counters(rx, tx, now)
        return grew

    def poll(self, now: float, *, heavy: bool = True) -> list[Send]:
        """What to send now. Without `heavy`, searches wait: too many of other peers are under way."""
        for number in [n for n, flight in self._flights.items() if now >= flight.sent + self._settings.timeout]:
            del self._flights[number]
        self._schedule(now)
        sends = []
        for machine in self._machines(heavy=heavy):
            if len(self._flights) >= MOST_FLIGHTS:
                break
            for want in machine.poll(now):
                self._number += 1
                self._flights[self._number] = _Flight(machine, want, now)
                sends.append(Send(self._number, want.kind, want.size, ttl=want.ttl))
        self._learn(now)
        return sends

    def next_time(self, *, heavy: bool = True) -> float:
        """When to poll again; earlier is harmless. Without `heavy`, not for a search that has to wait."""
        outer = self._outer_due if self._outer_free() else NEVER
        return min(outer, *(machine.next_time() for machine in self._machines(heavy=heavy)))

    def handle(self, answer: Answer, now: float) -> None:
        """Take an answer. What belongs to no probe of the last seconds, or can't be true of it, is dropped."""
        flight = self._flights.get(answer.probe) if answer.probe is not None else None
        if flight is None or not self._plausible(answer, flight.want):
            return
        if isinstance(answer, Passed) and flight.want.kind is Kind.INNER_ECHO:
            self._pairs.heard()
        flight.machine.handle(flight.want, self._as_news(answer, flight.want), now)
        self._learn(now)

    def evidence(self, now: float) -> Evidence:
        """All that is known at this moment."""
        pairs, outer, inner = self._pairs, self._outer_found, self._inner_found
        refused = pairs.refused is not None
        small = pairs.big is not Big.PASSED or refused
        claim = inner.claim if inner and small and inner.reporter else None
        full = self._outer_full()
        return Evidence(
            self._tunnel,
            big=pairs.big,
            # An answer may be late: silence is certain when the timeout is over.
            silent=pairs.silent if now >= (pairs.silent_since or 0.0) + self._settings.timeout else 0,
            ever=pairs.ever,
            alive=self._alive(now),
            refused=pairs.refused,
            inner_claim=claim,
            fragment=pairs.fragment,
            direction=self._ways.direction if self._ways else Direction.UNKNOWN,
            oracle=self._oracle.result if self._oracle and self._oracle.done and not pairs.ever else None,
            inner=self._inner(),
            inner_exact=bool(inner and inner.exact),
            route=self._lookup.size(),
            outer=outer.path if outer and full is not None else None,
            outer_full=full,
            hop=(inner.reporter if claim and inner else "") or (outer.reporter if outer and full is False else ""),
        )

    def report(self, now: float, wall: float = 0.0) -> MtuReport:
        """The row for the metrics. `wall` is the wall clock at `now`, in seconds since the epoch."""
        evidence = self.evidence(now)
        path, slack = outer_path(evidence)
        shrink = self.shrink()
        settled = self._pairs.settled
        return MtuReport(
            verdict=judge(evidence),
            interface_mtu=self._tunnel.mtu,
            path_inner=evidence.inner,
            path_outer=path,
            path_slack=slack,
            needed=self._tunnel.needed,
            recommended=recommended(evidence),
            remote=evidence.fragment if evidence.arrives else None,
            shrinks_at=evidence.hop or (shrink.hop if shrink else ""),
            checked=wall - (now - settled) if settled is not None else 0.0,
        )

    def _machines(self, *, heavy: bool) -> list[Machine]:
        searches = (s if s is None or heavy or not s.heavy else None for s in (self._outer_search, self._inner_search))
        jobs: tuple[Machine | None, ...] = (self._pairs, self._ways, *searches, self._hops)
        # Anything else that is sent while the oracle listens would be answered.
        parts = (self._lookup, self._oracle) if self.pause_echoes else (self._lookup, *jobs)
        return [part for part in parts if part is not None]

    def _plausible(self, answer: Answer, want: Want) -> bool:
        if isinstance(answer, TooBig):
            outer = want.kind is Kind.OUTER_ECHO
            ipv6 = ":" in (self._tunnel.endpoint if outer else self._tunnel.target)
            return (answer.layer is Layer.OUTER) == outer and known_size(answer.mtu, want.size, ipv6=ipv6)
        return True

    def _as_news(self, answer: Answer, want: Want) -> Answer:
        """A local refusal that only repeats what a packet-too-big taught the kernel (always so over IPv6) is no fault
        of this host's routes."""
        if isinstance(answer, LocalTooBig) and want.kind is Kind.INNER_ECHO:
            claimed = self._pairs.claimed
            if claimed is not None and claimed.mtu == answer.mtu:
                return claimed
        return answer

    def _outer_free(self) -> bool:
        return not self.pause_echoes and (self._outer_search is None or self._outer_search.done)

    def _schedule(self, now: float) -> None:
        if now >= self._outer_due and self._outer_free():
            # A hole may have changed its size too.
            hole = self._pairs.big is Big.HOLE
            self._start_outer(now, thorough=hole)
            if hole:
                self._inner_search = self._new_inner()

    def _start_outer(self, now: float, *, thorough: bool) -> None:
        """P5, which becomes P6 where the full size does not pass. A thorough one begins with sizes of all kinds."""
        if not self._tunnel.endpoint:
            self._outer_due = NEVER
            return
        self._outer_due = now + self._settings.mtu.outer_interval
        needed = self._tunnel.needed
        top = max(needed, min(self._lookup.route.egress if self._lookup.route else 0, LARGEST_FOR_SEARCH))
        first = () if thorough else (SMALL, needed, top)
        self._outer_search = Search(Layer.OUTER, top, self._patience, self._pace, first)

    def _new_inner(self) -> Search:
        return Search(Layer.INNER, self._tunnel.mtu, self._patience, self._pace)

    def _learn(self, now: float) -> None:
        """Draw conclusions from what the machines know now, and start what these call for."""
        if self._lookup.changed:
            self._lookup.changed = False
            self._outer_due = now
        if self._outer_demanded and self._lookup.answered:
            self._outer_demanded = False
            self._start_outer(now, thorough=True)
        if self._outer_search is not None and self._outer_search.done:
            self._outer_found = self._outer_search.found()
        search, pairs = self._inner_search, self._pairs
        if search is not None and search.done:
            self._inner_found = search.found()
            if self._inner_found.passed == self._tunnel.mtu and pairs.big is not Big.PASSED:
                pairs.good(now)
                self._inner_search = None
        suspected = (
            pairs.big is Big.HOLE or pairs.votes >= VOTES or pairs.claimed is not None or pairs.refused is not None
        )
        if suspected and not self._searched:
            self._searched = True
            if self._inner_search is None or self._inner_search.done:
                self._inner_search = self._new_inner()
            if self._outer_search is None or self._outer_search.done:
                self._start_outer(now, thorough=True)
            self._ways = Ways(self._tunnel.mtu, self._patience, now, ipv6=":" in self._tunnel.target)
        elif self._searched and not suspected:
            self._searched = False
            if pairs.big is Big.PASSED:
                self._ways = self._inner_search = self._inner_found = None
                self._outer_due = now  # what was seen outside belongs to the hole

        probing = self._probing()
        if self._probed and not probing:
            self._lookup.check(now)
        self._probed = probing

    def _probing(self) -> bool:
        jobs = (self._outer_search, self._inner_search, self._ways, self._hops, self._oracle)
        return not self._pairs.calm or any(job is not None and not job.done for job in jobs)

    def _inner(self) -> int | None:
        """The largest inner size known to get through."""
        if self._pairs.big is Big.PASSED and self._pairs.refused is None:
            return self._tunnel.mtu
        return (self._inner_found.passed or None) if self._inner_found else None

    def _outer_full(self) -> bool | None:
        """Does the path carry a full packet of the tunnel in one piece? None where outer probes can't tell."""
        found = self._outer_found
        if found is None or found.path is None:
            return None
        if found.path >= self._tunnel.needed:
            return True
        if found.claim is not None:
            return False
        # Only silence: at sizes that no path has trouble with, a firewall drops large echoes; or it may be chance.
        sure = self._pairs.big is Big.HOLE or found.chance <= CHANCE
        return False if sure and found.path >= LEAST_COMMON else None

    def _alive(self, now: float) -> bool | None:
        silent_since = self._pairs.silent_since
        # Whoever has long answered nothing is asked ever more rarely, and so sends something back as rarely.
        rarely = silent_since is not None and now > silent_since + OFTEN_ASKED
        if self._rx_grew is not None and now < self._rx_grew + (ALIVE_RARELY_ASKED if rarely else ALIVE):
            return True
        if self._watched is None or silent_since is None:
            return None
        # A host that can't read its counters must not say that nothing was received.
        read_for = min(now, self._rx_read) - max(self._watched, silent_since)
        return None if read_for < ALIVE else False
