"""Echoes to one peer, inside the tunnel and outside of it: the first one inside provokes a handshake.

Inside it is the prober of the daemon, in this process and in more of a hurry; so what is answered, lost and too large
is judged as there, and its watcher looks at the wire. Outside, a small echo now and then asks the endpoint's host
whether it is there at all.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from wg_exporter.causes.facts import Echo
from wg_exporter.config import ProbeSettings
from wg_exporter.prober.driver import Prober
from wg_exporter.prober.wire import packet
from wg_exporter.prober.wire.packet import IcmpKind
from wg_exporter.prober.wire.sockets import ProbeSocket, SocketKey, address_for, leave_by, reason
from wg_exporter.sighted import Callers, Sighting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.model import DeviceKey
    from wg_exporter.probed import ProbePeer, ProbeStats, SendError
    from wg_exporter.prober.mtu.verdict import Findings
    from wg_exporter.prober.transport import Tap
    from wg_exporter.prober.wire.sockets import Opener
    from wg_exporter.sighted import WatchPeer

INTERVAL = 0.1  # seconds between echoes inside
TIMEOUT = 2.0  # seconds until one is lost; the configured time, if that is shorter
OUTSIDE_EVERY = 0.5
OUTSIDE_MOST = 6
OUTSIDE_SIZE = 84  # bytes, as ping(8) has them
ENOUGH_TO_JUDGE = 20  # echoes with a known fate, if none was lost
ENOUGH_OF_LOSSY = 60  # and if one was: so that a single one is no twentieth of all
KNOCK_UDP, KNOCK_TCP = 33_434, 1  # ports at which nobody listens: the first of traceroute(8), and tcpmux
KNOCKS_MOST = 6
MAIN = ""


class Inside(NamedTuple):
    """What is known of the target and of other addresses inside. `loss` is None before enough is known."""

    echo: Echo
    loss: float | None
    round_trip: float | None
    others: tuple[Echo, ...]
    findings: Findings | None


class Probing:
    """Watches for one peer and sends echoes inside. `watch`, `start`, `step` again and again, `close`."""

    def __init__(self, settings: ProbeSettings, paths: Mapping[str, str], tap: Tap | None = None) -> None:
        quick = replace(ProbeSettings(), timeout=min(settings.timeout, TIMEOUT))
        self._peer: ProbePeer | None = None
        self._prober: Prober[str] = Prober(quick, paths, tap=tap)
        self._stats: dict[str, ProbeStats] = {}
        self._searched = False
        self._others: tuple[str, ...] = ()
        self._watched: DeviceKey | None = None
        self.sighting: Sighting | None = None
        """What was seen of the peer on the wire so far; None if nobody could look."""
        self.callers: Callers | None = None
        """Who else called the device; None if nobody could look."""

    def watch(self, peer: WatchPeer, seconds: float, now: float) -> str:
        """Look at the wire from now on. Returns why that is not possible, in one line; empty if it is."""
        self._prober.watcher.watch({0: (peer, seconds)}, now, all_along=True)
        problem = self._prober.watcher.problem
        if not problem:
            self._watched = peer.key[:2]
            self.sighting, self.callers = Sighting(now, 0.0), Callers(self._watched, ())
        return problem

    def start(self, peer: ProbePeer) -> None:
        """Send the first echo."""
        self._peer = peer
        self._prober.update({MAIN: peer})

    def ask_others(self, addresses: Sequence[str]) -> None:
        """Send echoes to these addresses inside too."""
        if self._peer and not self._others and addresses:
            self._others = tuple(addresses)
            self._prober.update({one: self._peer._replace(target=one, endpoint="") for one in addresses})

    def step(self, longest: float, now: float) -> None:
        """Send what is due and take what came, for so many seconds at most. `now` is monotonic seconds."""
        self._prober.step(longest)
        changes = self._prober.changes(100)
        self._stats |= {name: stats for name, (_, stats) in changes.echoes.items()}
        looked = self._prober.watcher.changes(100, now)
        if self.sighting is not None:
            seen = looked.rows.get(0, self.sighting)
            self.sighting = seen._replace(seconds=max(now - seen.began, 0.0)) if seen.open else seen
            self.callers = next((one for one in looked.callers if one.device == self._watched), self.callers)
        if self.answered and not self._searched and self._peer and self._peer.endpoint:
            self._searched = True
            self._prober.search(MAIN)

    def counters(self, rx: int, tx: int) -> None:
        """Take the peer's byte counters, which have just been read."""
        self._prober.counters({MAIN: (rx, tx)})

    @property
    def answered(self) -> bool:
        """Whether the target has answered."""
        return _answered(self._stats.get(MAIN)) > 0

    @property
    def measured(self) -> bool:
        """Whether loss and sizes are known, after it answered."""
        if lost_ratio(self._stats.get(MAIN)) is None:
            return False
        return not self._searched or not self._prober.busy(MAIN)

    def inside(self) -> Inside | None:
        """What is known so far; None before the first echo."""
        if self._peer is None:
            return None
        stats = self._stats.get(MAIN)
        timed = stats.sent - stats.lost if stats else 0  # whose round trips are in the sum
        return Inside(
            _echo(self._peer.target, stats),
            lost_ratio(stats),
            stats.rtt_sum / timed if stats and timed > 0 else None,
            tuple(_echo(one, self._stats.get(one)) for one in self._others),
            self._prober.findings(MAIN) if self._searched else None,
        )

    def close(self) -> None:
        """Close all sockets."""
        self._prober.close()


def lost_ratio(stats: ProbeStats | None) -> float | None:
    """The part that was lost, 0 to 1, without what came late; None before enough is known."""
    if stats is None:
        return None
    sent = stats.sent + stats.extra_sent
    lost = max(stats.lost + stats.extra_lost - stats.late, 0)
    return lost / sent if sent >= (ENOUGH_OF_LOSSY if lost else ENOUGH_TO_JUDGE) else None


def _answered(stats: ProbeStats | None) -> int:
    return stats.sent + stats.extra_sent - stats.lost - stats.extra_lost + stats.late if stats else 0


def _echo(to: str, stats: ProbeStats | None) -> Echo:
    if stats is None:
        return Echo(to, 0, 0)
    return Echo(to, stats.sent + stats.extra_sent, _answered(stats), stats.refused)


class Outside:
    """Small echoes to the endpoint's host, outside the tunnel."""

    def __init__(self, address: str, netns: str, mark: int, open_socket: Opener) -> None:
        """Raises OSError where there is no permission (CAP_NET_RAW) or no such namespace."""
        self._address = ip_address(address.partition("%")[0])
        random = int.from_bytes(os.urandom(2))
        self._tag, self._ident = random, random | 1
        self._socket = ProbeSocket(SocketKey(netns, self._address.version == 6, mark), self._tag, random, open_socket)
        self._tokens: set[int] = set()
        self._sent = self._answered = 0
        self._refused: SendError | None = None
        self._next = 0.0

    def step(self, now: float) -> None:
        """Send one if it is due, and take answers. `now` is monotonic seconds."""
        if now >= self._next and self._sent < OUTSIDE_MOST:
            self._next = now + OUTSIDE_EVERY
            self._send()
        while (arrival := self._socket.receive()) is not None:
            answer = arrival.answer
            if answer.kind is IcmpKind.REPLY and answer.token in self._tokens:
                self._tokens.discard(answer.token)
                self._answered += 1

    def echo(self) -> Echo:
        """How many were sent and answered."""
        return Echo(str(self._address), self._sent, self._answered, self._refused if not self._answered else None)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self) -> None:
        token = int.from_bytes(os.urandom(8))
        self._sent += 1
        ipv6 = self._address.version == 6
        if ipv6:
            message = packet.echo_v6(OUTSIDE_SIZE + 20, self._ident, self._sent, token, self._tag)
        else:
            to = self._address.packed
            message = packet.echo_v4(to, OUTSIDE_SIZE, self._ident, self._sent, token, tag=self._tag)
        try:
            self._socket.send(message, leave_by(0, ipv6=ipv6), address_for(self._address.packed, 0))
        except OSError as error:
            self._refused = reason(error)
            return
        self._tokens.add(token)


class Knocks:
    """Datagrams and a connection to closed ports of the target: a host that drops echoes refuses these, mostly.

    So it is known to be there, and that the far side lets our packets in. What answers is the kernel of the target, by
    an ICMP error or a reset (RFC 1122, 4.1.3.1; RFC 9293, 3.10.7.1).
    """

    def __init__(self, address: str, netns: str, interface: str, open_socket: Opener) -> None:
        """Raises OSError where there is no permission (CAP_NET_RAW) or no such namespace."""
        self._address = ip_address(address)
        self._family = socket.AF_INET6 if self._address.version == 6 else socket.AF_INET
        self._interface = interface.encode()
        self._sockets: list[socket.socket] = []
        self._next = 0.0
        self._knocks = 0
        self.answered = False
        """Whether it refused one, or took the connection."""
        try:
            self._datagrams = self._opened(netns, socket.SOCK_DGRAM, KNOCK_UDP, open_socket)
            self._stream = self._opened(netns, socket.SOCK_STREAM, KNOCK_TCP, open_socket)
        except OSError:
            self.close()
            raise

    def step(self, now: float) -> None:
        """Send one if it is due, and look for answers. `now` is monotonic seconds."""
        if self.answered:
            return
        if now >= self._next and self._knocks < KNOCKS_MOST:
            self._next = now + OUTSIDE_EVERY
            self._knocks += 1
            with suppress(BlockingIOError):
                self._refused(lambda: self._datagrams.send(bytes(8)))
        with suppress(BlockingIOError):
            self._refused(lambda: self._datagrams.recv(1))
        error = self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.answered = self.answered or error == errno.ECONNREFUSED

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets:
            sock.close()

    def _opened(self, netns: str, kind: int, port: int, open_socket: Opener) -> socket.socket:
        sock = open_socket(netns, self._family, kind, 0)
        self._sockets.append(sock)
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._interface)
        sock.connect_ex((str(self._address), port))
        return sock

    def _refused(self, call: Callable[[], object]) -> None:
        try:
            call()
        except ConnectionRefusedError:
            self.answered = True
        except BlockingIOError:
            raise
        except OSError:  # no route, or a firewall of this host: others say so
            return
