"""Sends probes and reads answers: the loop around the machines, in one thread.

Nothing is decided here. Each round sleeps until the next event, reads what came, lets the book count what timed out,
and sends what is due. Two things make it cheap. Probes of one tick of the book (10 ms) go out together. And answers
wait for `GATHER` to be read together, which costs no accuracy, as the kernel stamped them. On loopback with 6,000
targets at 1 probe/s it took 0.6 to 0.8 of fping's CPU in the same run (20 us a probe on a busy host, 15 on an idle one;
bench/probes.py). `sendmsg` and `recvmsg` are only 4 us of it, so sendmmsg(2) would gain little.

Not thread-safe: call it from the loop's own callbacks, or while the loop doesn't run.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config.probe import ProbeSettings
from wg_exporter.probed import SendError
from wg_exporter.prober.echo.book import EchoBook, Reading
from wg_exporter.prober.fast.book import FastBook
from wg_exporter.prober.wire import packet
from wg_exporter.prober.wire.pool import SocketPool
from wg_exporter.prober.wire.sockets import Ancillary, ProbeSocket, SocketKey, address_for, leave_by, open_here, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from wg_exporter.probed import ProbeStats
    from wg_exporter.prober.echo.book import Probe
    from wg_exporter.prober.echo.track import EchoTarget, Track
    from wg_exporter.prober.fast.book import FastEcho
    from wg_exporter.prober.fast.track import FastTarget, FastTrack
    from wg_exporter.prober.wire.packet import IcmpAnswer
    from wg_exporter.prober.wire.sockets import Arrival, Opener

ECHO_SIZE_V4, ECHO_SIZE_V6 = 48, 64  # bytes: WireGuard pads to 16 anyway
GATHER = 0.005  # seconds that answers wait to be read together
LONGEST_SLEEP = 1.0  # seconds until `stop` is asked again
READ_AT_ONCE = 4096  # answers read in a row, so that a flood does not keep probes from being sent


class Order(NamedTuple):
    """One packet that a caller wants sent: an echo with DF, of any size, or a UDP datagram to a port.

    `size` in bytes is that of the whole IP packet. `ifindex` is the device to leave by, 0 = as routed; `mark` the
    firewall mark. `ident` (odd, 16 bits; not of a datagram), `sequence` (16 bits) and `token` (64 bits) come back in
    the answer. `port` 0 = an echo. `ttl` 0 = 64 over IPv4, over IPv6 the system's default.
    """

    netns: str
    address: bytes
    size: int
    sequence: int
    token: int
    ifindex: int = 0
    mark: int = 0
    port: int = 0
    ttl: int = 0
    ident: int = 1


class Tapped(NamedTuple):
    """A packet that went out or came in, for whoever keeps captures.

    `packet` is a whole IP packet, with zeros for what the kernel fills in or doesn't tell: over IPv4 the source and
    identification of what was sent; over IPv6 our own address, the checksum of what was sent, and the hop limit.
    `order` is what was sent, None for a small echo; `answer` is what was received. `when` is the wall clock in seconds.
    """

    netns: str
    packet: bytes
    when: float
    sent: bool
    order: Order | None = None
    answer: IcmpAnswer | None = None


class _Message(NamedTuple):
    """What all echoes of one target have in common."""

    socket: ProbeSocket
    packet: bytearray
    renew: Callable[[bytearray, int, int, int, int], None]
    ancillary: Ancillary
    address: tuple[str | int, ...]


class Engine:
    """Probes targets until it is told to stop.

    `other(answer, arrived)` gets whatever looks like an answer to an `Order`; it has to check the token. `arrived` is
    when the kernel got it, in monotonic seconds. `poll(now)` is called each round and returns when it wants to be
    called again. Both may call `send`. `tap` gets every packet that is sent or received by the engine's sockets.
    """

    def __init__(
        self,
        book: EchoBook | None = None,
        *,
        other: Callable[[IcmpAnswer, float], None] | None = None,
        poll: Callable[[float], float] | None = None,
        tap: Callable[[Tapped], None] | None = None,
        open_socket: Opener = open_here,
    ) -> None:
        self._book = book or EchoBook(ProbeSettings(), os.urandom)
        self.fast = FastBook(os.urandom)
        """The fast echoes, for whoever asks how peers are; `put_fast` and `remove_fast` say whom to ask."""
        self._other = other
        self._poll = poll
        self._tap = tap
        self._readers: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self.sockets = SocketPool(open_socket, self._epoll)
        self._delay = 0.0

    def close(self) -> None:
        """Close all sockets."""
        self.sockets.close()
        self._epoll.close()

    def prepare(self) -> None:
        """Open the sockets of our own namespace now, while there are privileges for a large receive buffer.

        They are held, and so never closed: without these privileges they would be opened with smaller buffers.
        """
        for key in (SocketKey("", ipv6=False), SocketKey("", ipv6=True)):
            self.sockets.hold(key)
            self.sockets.get(key)

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back, from the loop, whenever this file can be read."""
        self._readers[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def remove_reader(self, fd: int) -> None:
        """Forget a file of `add_reader`, before it is closed. KeyError if there is none."""
        del self._readers[fd]
        self._epoll.unregister(fd)

    def put(self, target: EchoTarget) -> Track:
        """Send echoes to this target from now on (see `EchoBook.put`). ValueError if its address is no IP address."""
        before = self._book.track(target.id)
        left = None if before is None else _socket_of(before.target)
        track = self._book.put(target, time.monotonic())
        track.message = None
        self.sockets.hold(_socket_of(target))
        if left is not None:
            self.sockets.release(left)
        return track

    def remove(self, name: Hashable) -> None:
        """Leave this target alone from now on. KeyError if there is none."""
        track = self._book.track(name)
        self._book.remove(name)
        if track is not None:
            self.sockets.release(_socket_of(track.target))

    def put_fast(self, target: FastTarget) -> None:
        """Send fast echoes to this peer from now on (see `FastBook.put`). ValueError if its address is none."""
        before = self.fast.track(target.id)
        left = None if before is None else _socket_of(before.target)
        self.fast.put(target, time.monotonic())
        self.sockets.hold(_socket_of(target))
        if left is not None:
            self.sockets.release(left)

    def remove_fast(self, name: int) -> None:
        """Send this peer no more fast echoes. KeyError if it gets none."""
        track = self.fast.track(name)
        self.fast.remove(name)
        if track is not None:
            self.sockets.release(_socket_of(track.target))

    def resume(self, name: Hashable) -> None:
        """Probe this target at its interval again, however long it was silent."""
        self._book.resume(name, time.monotonic())

    def forget(self, netns: str) -> None:
        """Close the sockets in this namespace, which is gone or was replaced.

        They are opened again when there is something to send.
        """
        self.sockets.forget(netns)
        tracks: list[Track | FastTrack] = [*self._book.tracks(), *self.fast.tracks()]
        for track in tracks:
            if track.target.netns == netns:
                track.message = None

    def stats(self) -> dict[Hashable, ProbeStats]:
        """What is known of each target, by its id."""
        return self._book.stats()

    def scheduling_delay(self) -> float:
        """The longest time in seconds by which a small echo left after it was due, since the last call."""
        worst, self._delay = self._delay, 0.0
        return worst

    def run(self, stop: Callable[[], bool]) -> None:
        """Probe until `stop()`, which is asked after each round, at least once a second."""
        while not stop():
            self.step()

    def step(self, longest: float = LONGEST_SLEEP) -> None:
        """One round: sleep until something is to be done, at most `longest` seconds, and do it."""
        now = time.monotonic()
        wake = min(self._book.next_event(now), self.fast.next_event(), now + longest)
        if self._poll is not None:
            wake = min(wake, self._poll(now))
        ready = self._epoll.poll(max(wake - now, 0.0))
        if ready and (left := wake - time.monotonic()) > 0 and any(self.sockets.by_fd(fd) for fd, _ in ready):
            time.sleep(min(left, GATHER))
            ready = self._epoll.poll(0)
        for fd, _ in ready:
            if (sock := self.sockets.by_fd(fd)) is not None:
                self._read(sock)
            elif (callback := self._readers.get(fd)) is not None:
                callback()
        now = time.monotonic()
        self._book.expire(now)
        self.fast.look(now)
        for echo in self.fast.due(now):
            self._send_fast(echo)
        for probe in self._book.due(now):
            self._send_echo(probe)

    def send(self, order: Order) -> SendError | None:
        """Send this now. Returns None, or why it could not be sent. ValueError if no packet can have this size."""
        ipv6 = len(order.address) == 16
        sock = self.sockets.get(SocketKey(order.netns, ipv6, order.mark))
        if isinstance(sock, SendError):
            return sock
        ancillary = leave_by(order.ifindex, ipv6=ipv6, ttl=order.ttl)
        address = address_for(order.address, order.ifindex, order.port if ipv6 else 0)
        message = _message(order, sock)
        when = time.time()
        try:
            if ipv6 and order.port:
                sock.send_udp_v6(message, ancillary, address)
            else:
                sock.send(message, ancillary, address)
        except OSError as error:
            return reason(error)
        if self._tap is not None:
            ports = (sock.port, order.port) if order.port else None
            whole = packet.whole_v6(bytes(message), target=order.address, ports=ports) if ipv6 else bytes(message)
            self._tap(Tapped(order.netns, whole, when, sent=True, order=order))
        return None

    def _send_echo(self, probe: Probe) -> None:
        track, place, ident, sequence, token, due = probe
        message = track.message or self._prepare(track)
        if isinstance(message, SendError):
            self._book.failed(place, message)
            return
        assert isinstance(message, _Message)  # noqa: S101 - for the type checker: only `_prepare` puts anything there
        message.renew(message.packet, ident, sequence, token, message.socket.tag)
        when = Reading(time.time(), time.monotonic())
        try:
            message.socket.send(message.packet, message.ancillary, message.address)
        except OSError as error:
            self._book.failed(place, reason(error))
        else:
            self._book.sent(place, when)
            if self._tap is not None:
                whole = bytes(message.packet)
                whole = packet.whole_v6(whole, target=track.address) if len(track.address) == 16 else whole
                self._tap(Tapped(track.target.netns, whole, when.wall, sent=True))
        self._delay = max(self._delay, when.monotonic - due)

    def _send_fast(self, echo: FastEcho) -> None:
        message = echo.track.message or self._prepare(echo.track)
        if not isinstance(message, _Message):
            # Without a device nothing leaves, whoever sends it; without a socket it is we alone who can't.
            (self.fast.failed if message is SendError.NO_DEVICE else self.fast.impossible)(echo)
            return
        message.renew(message.packet, echo.ident, echo.sequence, echo.token, message.socket.tag)
        try:
            message.socket.send(message.packet, message.ancillary, message.address)
        except OSError:
            self.fast.failed(echo)

    def _prepare(self, track: Track | FastTrack) -> _Message | SendError:
        target = track.target
        ipv6 = len(track.address) == 16
        if not target.ifindex:
            return SendError.NO_DEVICE  # otherwise the probe would leave as routed and measure another path
        sock = self.sockets.get(_socket_of(target))
        if isinstance(sock, SendError):
            return sock
        message = _Message(
            sock,
            packet.echo_v6(ECHO_SIZE_V6, 0, 0, 0, sock.tag)
            if ipv6
            else packet.echo_v4(track.address, ECHO_SIZE_V4, 0, 0, 0, tag=sock.tag),
            packet.renew_v6 if ipv6 else packet.renew_v4,
            leave_by(target.ifindex, ipv6=ipv6),
            address_for(track.address, target.ifindex),
        )
        track.message = message
        return message

    def _read(self, sock: ProbeSocket) -> None:
        for _ in range(READ_AT_ONCE):
            arrival = sock.receive()
            if arrival is None:
                return
            read = Reading(time.time(), time.monotonic())
            answer = arrival.answer
            if self._tap is not None:
                whole = bytes(arrival.data)
                whole = packet.whole_v6(whole, sender=answer.sender) if sock.key.ipv6 else whole
                self._tap(Tapped(sock.key.netns, whole, arrival.stamp or read.wall, sent=False, answer=answer))
            if not answer.ident & 1 and answer.protocol != packet.UDP:
                if answer.kind is packet.IcmpKind.REPLY and answer.token is not None:
                    self._take_reply(answer, answer.token, arrival, read)
            elif self._other is not None and sock.asked(answer):
                self._other(answer._replace(ifindex=arrival.ifindex), _arrived(arrival, read))

    def _take_reply(self, answer: IcmpAnswer, token: int, arrival: Arrival, read: Reading) -> None:
        if len(self.fast) and self.fast.answer(answer.sender, answer.ident, token, _arrived(arrival, read)):
            return
        place = self._book.place(answer.ident, answer.sequence)
        self._book.answer(answer.sender, place, token, arrival.stamp, read)


def _socket_of(target: EchoTarget | FastTarget) -> SocketKey:
    return SocketKey(target.netns, ":" in target.address)


def _message(order: Order, sock: ProbeSocket) -> bytearray:
    """What the socket takes: a whole IPv4 packet, an ICMPv6 message or, over IPv6, the payload of a datagram."""
    if len(order.address) == 16:
        if order.port:
            return packet.udp_payload(order.size, order.token)
        return packet.echo_v6(order.size, order.ident, order.sequence, order.token, sock.tag)
    ttl = order.ttl or 64
    if order.port:
        return packet.udp_v4(order.address, order.size, sock.port, order.port, order.token, ttl=ttl)
    return packet.echo_v4(order.address, order.size, order.ident, order.sequence, order.token, tag=sock.tag, ttl=ttl)


def _arrived(arrival: Arrival, read: Reading) -> float:
    """When a packet arrived, in monotonic seconds: as long before it was read as its stamp says, if it can be."""
    waited = 0.0 if arrival.stamp is None else read.wall - arrival.stamp
    return read.monotonic - (waited if 0.0 <= waited <= LONGEST_SLEEP else 0.0)
