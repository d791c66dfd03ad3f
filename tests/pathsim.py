"""A simulated tunnel and the path under it, to run the MTU machines against with a fake clock and seeded dice.

What is simulated is how packets really fare (Linux routers, WireGuard in the kernel, wireguard-go): links have MTUs, a
router before a link that is too small fragments or says so or says nothing, kernel WireGuard lets its IPv4 packets be
fragmented and over IPv6 fragments by itself once it was told, wireguard-go asks for DF, inner packets are padded to 16
bytes but not past the MTU, and a big echo is answered by a big one, which may be lost or fragmented on its way back.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass

from wg_exporter.prober.mtu.machine import PathMtu
from wg_exporter.prober.mtu.probes import (
    Layer,
    LocalTooBig,
    Passed,
    ProbeKind,
    Refused,
    Route,
    TimeExceeded,
    TooBig,
)
from wg_exporter.prober.mtu.verdict import Tunnel

HOUR = 3600.0


@dataclass
class Path:
    """The truth. `links` are the outer links' MTUs, this host's own first; router i (from 1) stands before link i."""

    links: tuple[int, ...] = (1500, 1500, 1500)
    mtu: int = 1420
    far_mtu: int = 1420
    ipv6: bool = False  # the outer layer
    df: bool = False  # wireguard-go
    says: bool = True  # routers send packet-too-big
    endpoint_echoes: bool = True
    peer_echoes: bool = True
    refuses: bool = True  # the peer answers UDP to a closed port
    drops_fragments: bool = False
    hole_towards: int = 1 << 16  # outer packets above this are lost without a word
    hole_back: int = 1 << 16
    behind: int = 1 << 16  # the MTU of a link inside the tunnel, behind the peer
    behind_says: bool = True
    echo_limit: int = 1 << 16  # the peer drops larger echoes inside the tunnel
    outer_echo_limit: int = 1 << 16  # and the endpoint outside
    policed: float = 0.0  # bytes a second of echoes that the peer answers inside, twice as many at once; 0 = all
    local_route: int = 1 << 16  # the MTU of this host's route to the target
    loss: float = 0.0  # in each direction
    room: int | None = None  # of a full line's queue, which is up to as large at each moment; None = it is not full
    rtt: float = 0.04
    alive: bool = True
    cached: int | None = None  # this host's PMTU exception for the endpoint
    roams: bool = False
    ipv6_inside: bool = False

    @property
    def overhead(self):
        return 80 if self.ipv6 else 60

    @property
    def outer_mtu(self):
        return min(self.links)

    def tunnel(self):
        endpoint = "2001:db8::2" if self.ipv6 else "198.51.100.2"
        return Tunnel("wg0", self.mtu, endpoint, "10.0.0.2", self.roams, self.ipv6_inside)

    def router(self, number):
        return f"2001:db8:{number}::1" if self.ipv6 else f"192.0.2.{number}"

    def outer_size(self, inner, mtu):
        return self.overhead + min(-(-inner // 16) * 16, mtu)


class World:
    """A path, a machine that probes it, and the time between them."""

    def __init__(self, path, *, seed=1, settings=None, start=1000.0):
        self.path = path
        self.dice = random.Random(seed)
        self.now = start
        self.machine = PathMtu(path.tunnel(), start, settings=settings)
        self.sent = []  # (when, Send)
        self.inner_echoes = 0
        self.verdicts = []
        self.most_in_flight = 0
        self.rx = 10_000
        self.tx = 10_000
        self.noise = None  # a function (send, now) -> more answers, from strangers
        self._order = itertools.count()
        self._answers = []
        self._allowed, self._allowed_at = 2 * path.policed, start
        self._tick = start
        self.tick = 5.0

    def run(self, seconds=HOUR, *, until=None):
        """Let time pass until `until()` holds. Returns the seconds that took."""
        begin, end = self.now, self.now + seconds
        idle = 0
        while self.now < end and not (until and until()):
            due = [self.machine.next_time(), self._tick, end]
            if self._answers:
                due.append(self._answers[0][0])
            before, self.now = self.now, max(self.now, min(due))
            idle = 0 if self.now > before else idle + 1
            assert idle < 200, "the machine asks to be polled over and over"
            while self._answers and self._answers[0][0] <= self.now:
                self.machine.handle(heapq.heappop(self._answers)[2], self.now)
            if self.now >= self._tick:
                self._count()
            for send in self.machine.poll(self.now):
                self._carry(send)
            self.most_in_flight = max(self.most_in_flight, len(self.machine._in_flight))
        return self.now - begin

    def settle(self, **kwargs):
        """Search on demand, until everything is settled."""
        self.machine.search(self.now)
        return self.run(until=lambda: not self.machine.busy(self.now), **kwargs)

    def watch(self, seconds):
        """Let time pass, and keep each verdict that shows up in it."""
        end = self.now + seconds
        while self.now < end:
            self.run(min(1.0, end - self.now))
            verdict = self.machine.report(self.now).verdict
            if not self.verdicts or self.verdicts[-1] is not verdict:
                self.verdicts.append(verdict)

    def report(self):
        return self.machine.report(self.now, wall=1.7e9)

    def answer(self, answer, after=0.0):
        heapq.heappush(self._answers, (self.now + after, next(self._order), answer))

    def _count(self):
        """An echo every few seconds makes a living peer send something every 10 s (whole ticks here)."""
        self._tick = self.now + self.tick
        if self.path.alive:
            self.rx += 32
        self.machine.counters(self.rx, self.tx, self.now)

    def _carry(self, send):
        self.sent.append((self.now, send))
        self.inner_echoes += send.kind is ProbeKind.INNER_ECHO
        path = self.path
        if send.kind is ProbeKind.ROUTE:
            self.machine.handle(Route(send.probe, path.links[0], path.cached, "eth0 via 192.0.2.254"), self.now)
            return
        answer = self._outer_echo(send) if send.kind is ProbeKind.OUTER_ECHO else self._inner(send)
        if isinstance(answer, LocalTooBig):
            self.answer(answer)
        elif answer is not None and self._survives(send) and self._survives():
            self.answer(answer, path.rtt * self.dice.uniform(0.9, 1.1))
        if self.noise:
            for stranger in self.noise(send, self.now):
                self.answer(stranger, self.dice.uniform(0, 0.1))

    def _survives(self, send=None):
        if (
            send
            and self.path.room is not None
            and send.size + self.path.overhead > self.dice.uniform(0, self.path.room)
        ):
            return False
        return self.dice.random() >= self.path.loss

    def _allows(self, size):
        """Does the filter that polices echoes let this one pass?"""
        rate = self.path.policed
        if not rate:
            return True
        self._allowed = min(self._allowed + (self.now - self._allowed_at) * rate, 2 * rate)
        self._allowed_at = self.now
        if self._allowed < size:
            return False
        self._allowed -= size
        return True

    def _outer_echo(self, send):
        path = self.path
        for number, link in enumerate(path.links):
            if number and send.ttl == number:
                return TimeExceeded(send.probe, path.router(number))
            if send.size > link:
                if number == 0:
                    return LocalTooBig(send.probe, link)
                return TooBig(send.probe, path.router(number), link, Layer.OUTER) if path.says else None
        if send.size > min(path.hole_towards, path.hole_back, path.outer_echo_limit):
            return None
        if not path.endpoint_echoes or not path.alive:
            return None
        return Passed(send.probe, path.rtt)

    def _inner(self, send):
        path = self.path
        if send.size > path.local_route:
            return LocalTooBig(send.probe, path.local_route)
        if not path.alive or not self._tunnelled(path.outer_size(send.size, path.mtu), path.hole_towards, df=path.df):
            return None
        if send.size > path.behind:
            return TooBig(send.probe, "10.0.0.254", path.behind, Layer.INNER) if path.behind_says else None
        if send.kind is ProbeKind.INNER_UDP:
            return Refused(send.probe) if path.refuses else None
        if not path.peer_echoes or send.size > path.echo_limit or not self._allows(send.size):
            return None
        fragment = None if send.size <= path.far_mtu else 20 + (path.far_mtu - 20) // 8 * 8
        back = path.outer_size(min(send.size, fragment or send.size), path.far_mtu)
        return Passed(send.probe, path.rtt, fragment) if self._tunnelled(back, path.hole_back, df=path.df) else None

    def _tunnelled(self, size, hole, *, df):
        """Does one of WireGuard's own packets arrive? May teach this host a PMTU exception."""
        path = self.path
        narrow = next((link for link in path.links if size > link), None)
        if narrow is not None:
            if df:
                path.cached = narrow if path.says else path.cached
                return False
            if path.ipv6 and path.cached is None and size <= path.links[0]:
                path.cached = path.outer_mtu if path.says else None
                return False
            if path.drops_fragments:
                return False
            size = narrow
        return size <= hole
