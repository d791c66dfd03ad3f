"""Turns what the machines want sent into packets, and what comes back into answers for the machines.

A machine asks for sizes and gets answers by number. The engine sends packets and hands over whatever looks like an
answer. This module remembers each packet while it is in flight (`in_flight`) and chooses its way out: an inner one
leaves by the device, an outer one as the tunnel's own packets do. If this host refuses to send it, the machine is told
why.

**What comes out of a tunnel says nothing about the path outside it.** A peer can send any packet into this host through
its tunnel, so an error about an outer probe that came that way is dropped. Only if the probe itself left by that
device, as where one tunnel runs inside another, the error is of its path. And an error about an inner probe that quotes
too little to hold the token has to come out of the probe's own device, where WireGuard has checked its sender.

**One pace for all**: MTU probing sends `RATE` at most (8 Mbit/s), however many peers fall silent at once. The caller
has to send nothing before `free_at`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from wg_exporter.linux.netlink import open_socket as open_netlink
from wg_exporter.probed import SendError
from wg_exporter.prober.echo.book import EchoBook
from wg_exporter.prober.mtu.probes import SMALL, Layer, LocalTooBig, NotSent, ProbeKind, Route
from wg_exporter.prober.wire.engine import Engine, Order
from wg_exporter.prober.wire.in_flight import InFlight, Outgoing, meaning
from wg_exporter.prober.wire.kinds import TUNNELS
from wg_exporter.prober.wire.netns import Namespaces
from wg_exporter.prober.wire.packet import UDP, IcmpKind
from wg_exporter.prober.wire.repeats import Arrived, Repeats
from wg_exporter.prober.wire.routes import Routes
from wg_exporter.prober.wire.sockets import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wg_exporter.config.probe import ProbeSettings
    from wg_exporter.prober.echo.track import Track
    from wg_exporter.prober.mtu.probes import Answer, Send
    from wg_exporter.prober.path import Path
    from wg_exporter.prober.wire.engine import Tapped
    from wg_exporter.prober.wire.packet import IcmpAnswer
    from wg_exporter.prober.wire.sockets import Opener, SocketKey

    Tap = Callable[[str, str, Layer, bytes, float], None]
    """Gets every packet of a probe and of its answers: ("sent" or "received", netns, layer, the IP packet as
    `engine.Tapped` has it, wall clock in seconds)."""

RATE = 1_000_000  # bytes a second, all MTU probing together


class Transport:
    """The packets of all peers. `engine` is the loop below, which also sends the small echoes."""

    def __init__(
        self,
        settings: ProbeSettings,
        namespaces: Mapping[str, str],
        *,
        echoed: Callable[[Track], None],
        arrived: Callable[[Path, Answer], None],
        poll: Callable[[float], float],
        open_socket: Opener | None = None,
        tap: Tap | None = None,
    ) -> None:
        """`echoed` is called when the statistics of small echoes changed, `arrived` gets each answer to what a path
        sent, `poll` is called each round (see `Engine`)."""
        self._namespaces = Namespaces(namespaces)
        self.open_socket: Opener = open_socket or self._namespaces.open
        self._arrived = arrived
        self._tap = tap
        self.engine = Engine(
            EchoBook(settings, os.urandom, echoed),
            other=self._answer,
            poll=poll,
            tap=self._show if tap else None,
            open_socket=self.open_socket,
        )
        self.free_at = 0.0
        self._timeout = settings.timeout
        self._in_flight: InFlight[Path] = InFlight(settings.timeout, os.urandom, self.engine.sockets.tag)
        self._repeats: Repeats[Path] = Repeats()
        self._routes: dict[str, Routes] = {}
        self._sending = Layer.INNER

    def close(self) -> None:
        """Close all sockets."""
        self.engine.close()
        for routes in self._routes.values():
            routes.close()
        self._namespaces.close()

    def hold(self, key: SocketKey | None) -> None:
        """A path may send outer probes by this socket."""
        if key is not None:
            self.engine.sockets.hold(key)

    def release(self, key: SocketKey | None) -> None:
        """A path sends no more by this socket. One that no path uses, as after a change of the fwmark, is closed."""
        if key is not None:
            self.engine.sockets.release(key)

    def packets_left(self, netns: str) -> int:
        """How many packets have left by all interfaces of a namespace so far. Raises OSError."""
        return self._namespaces.packets_left(netns)

    def follow_namespaces(self) -> list[str]:
        """Close what was opened in a namespace that is gone or was replaced. Returns the names of these."""
        moved = self._namespaces.moved()
        for netns in moved:
            self.engine.forget(netns)
            if netns in self._routes:
                self._routes.pop(netns).close()
        return moved

    def send(self, path: Path, send: Send) -> None:
        """Send this now. If it can't be sent, its machine is told before this returns."""
        now = time.monotonic()
        if send.kind is ProbeKind.ROUTE:
            self._look_up(path, send, now)
            return
        outer = send.kind is ProbeKind.OUTER_ECHO
        address = path.endpoint if outer else path.address
        if not address:
            path.machine.handle(NotSent(send.probe, SendError.NO_ROUTE), now)
            return
        if not outer and send.size > SMALL and 0 < (limit := self._route_limit(path)) < send.size:
            path.machine.handle(LocalTooBig(send.probe, limit), now)
            return
        ident = (path.outer_ident if outer else path.inner_ident).take(now, self._timeout, os.urandom)
        outgoing = self._in_flight.start(path, send, address, ident, now)
        if outgoing is None:
            path.machine.handle(NotSent(send.probe, SendError.NO_BUFFER), now)
            return
        self.free_at = max(self.free_at, now - 0.01) + send.size / RATE
        self._sending = outgoing.layer
        try:
            failure = self.engine.send(_order(path, send, outgoing))
        except ValueError:  # no IP packet is as large as this device's MTU says
            failure = SendError.TOO_BIG
        if failure is SendError.TOO_BIG:
            self._in_flight.forget(outgoing)
            path.machine.handle(LocalTooBig(send.probe, self._local_limit(path, send)), now)
        elif failure is not None:
            self._in_flight.forget(outgoing)
            path.machine.handle(NotSent(send.probe, failure), now)

    def _look_up(self, path: Path, send: Send, now: float) -> None:
        if not path.endpoint:
            return
        try:
            found = self.routes_in(path.peer.underlay).look_up(path.endpoint, path.peer.fwmark, path.scope)
        except OSError as error:
            path.machine.handle(NotSent(send.probe, reason(error)), now)
        else:
            path.machine.handle(Route(send.probe, found.egress, found.cached, found.via), now)

    def _route_limit(self, path: Path) -> int:
        """The MTU of the route to the target, 0 = not known.

        The engine's sockets don't heed it (IP_PMTUDISC_INTERFACE), but everybody else's packets have to.
        """
        try:
            return self.routes_in(path.peer.key[0]).look_up(path.address, ifindex=path.peer.ifindex).egress
        except OSError:
            return 0

    def _local_limit(self, path: Path, send: Send) -> int:
        """The largest size in bytes that this host would take, after it refused this one; 0 = it doesn't say.

        Outside, that is what its link or route carries: what it was told of the path is never taken for true.
        """
        peer = path.peer
        try:
            if send.kind is ProbeKind.OUTER_ECHO:
                size = self.routes_in(peer.underlay).look_up(path.endpoint, peer.fwmark, path.scope).egress
            else:
                size = self.routes_in(peer.key[0]).look_up(path.address, ifindex=peer.ifindex).size
        except OSError:
            return 0
        return size if size < send.size else 0

    def routes_in(self, netns: str) -> Routes:
        """The routes of a namespace."""
        known = self._routes.get(netns)
        if known is None:
            known = self._routes[netns] = Routes(
                lambda protocol: self._namespaces.inside(netns, lambda: open_netlink(protocol))
            )
        return known

    def _answer(self, answer: IcmpAnswer, arrived: float) -> None:
        outgoing = self._in_flight.of(answer)
        if outgoing is None or not self._may_be(answer, outgoing):
            return
        if answer.kind is IcmpKind.REPLY:
            path, outer = outgoing.owner, outgoing.layer is Layer.OUTER
            (path.outer_ident if outer else path.inner_ident).replied()
        for believed in self._repeats.take(Arrived(outgoing, answer, arrived)):
            path = believed.outgoing.owner
            tunnelled = believed.answer.ifindex == path.peer.ifindex != 0
            if (told := meaning(believed.answer, believed.outgoing, believed.when, tunnelled=tunnelled)) is not None:
                self._arrived(path, told)

    def _may_be(self, answer: IcmpAnswer, outgoing: Outgoing[Path]) -> bool:
        """Whether the device by which an answer came can have brought it."""
        path = outgoing.owner
        if answer.kind is IcmpKind.REPLY:
            return True
        if outgoing.layer is Layer.INNER:
            return answer.token is not None or answer.ifindex == path.peer.ifindex
        routes = self.routes_in(path.peer.underlay)
        try:
            if routes.kind(answer.ifindex) not in TUNNELS:
                return True
            return routes.look_up(path.endpoint, path.peer.fwmark, path.scope).ifindex == answer.ifindex
        except OSError:
            return False

    def _show(self, tapped: Tapped) -> None:
        assert self._tap is not None  # noqa: S101 - the engine gets this function only where there is a tap
        layer = self._sending if tapped.order is not None else Layer.INNER
        if (answer := tapped.answer) is not None:
            outgoing = self._in_flight.of(answer)
            if outgoing is None and (answer.protocol == UDP or answer.ident & 1):
                return
            layer = outgoing.layer if outgoing is not None else Layer.INNER
        self._tap("sent" if tapped.sent else "received", tapped.netns, layer, tapped.packet, tapped.when)


def _order(path: Path, send: Send, outgoing: Outgoing[Path]) -> Order:
    """The packet that a machine wants. Inside, it leaves by the device; outside, as the tunnel's own packets do."""
    peer = path.peer
    if outgoing.layer is Layer.OUTER:
        netns, ifindex, mark = peer.underlay, path.scope, peer.fwmark
    else:
        netns, ifindex, mark = peer.key[0], peer.ifindex, 0
    return Order(
        netns,
        outgoing.address,
        send.size,
        outgoing.sequence,
        outgoing.token,
        ident=outgoing.ident,
        ifindex=ifindex,
        mark=mark,
        port=outgoing.port,
        ttl=send.ttl,
    )
