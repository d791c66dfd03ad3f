"""What was seen of each watched peer of one network namespace. It believes what `sighted` says may be believed.

**Whose a message is.** One that arrives is that of the peer from whose endpoint it comes, at the port of whose device;
several peers may share an endpoint. One that leaves is made for one public key alone (mac1), so that is certain. What
arrives from elsewhere is a caller's.

**What is no message of ours.** A router forwards the handshakes of others, perhaps between the same ports. A message
that was seen arriving before it leaves is forwarded; one for another key than ours is held against its sender only if
it is addressed to this host.

**Copies.** Bridges, bonds and VLANs show a packet more than once. Each handshake message is made anew, so equal bytes
in the same direction within `COPY_SECONDS` are one packet. It counts on the interface where it was seen last: that has
the address.

Memory is bounded, whoever floods. No clock and no sockets: `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from wg_exporter.prober.watcher.callers import Calls
from wg_exporter.prober.watcher.decode import Kind, Quote, decode, mac1_key, made_for
from wg_exporter.prober.watcher.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.model import DeviceKey
    from wg_exporter.prober.watcher.decode import Datagram, Message
    from wg_exporter.prober.watcher.seen import Place
    from wg_exporter.sighted import Callers, Sighting, WatchPeer

COPY_SECONDS = 1.0
MOST_COPIES = 4096  # packets remembered for that
ERROR_BYTES = 256  # of an error, which tell it from others
ANSWER_SECONDS = 30.0  # a message of ours is remembered for so long: answers and errors come within a few seconds
MOST_SENT = 32_768  # of them: 10,000 peers that are called every 5 s, and 200 handshakes a second besides
MOST_TRIED = 64  # peers of a device whose keys are tried for a response to somebody who is no peer's endpoint


Found = TypeVar("Found")
Kept = TypeVar("Kept")


class Captured(NamedTuple):
    """A packet as the socket gave it, and on which interface; `leaving` or arriving."""

    packet: bytes
    interface: str
    leaving: bool


class _Copy:
    """A packet that was seen: when, on which interface last, and for whom it was counted there."""

    __slots__ = ("caller", "counted", "interface", "when")

    def __init__(self, when: float, interface: str) -> None:
        self.when, self.interface = when, interface
        self.counted: list[Seen] = []
        self.caller: DeviceKey | None = None  # the device that it was a caller's to


class _Sent(NamedTuple):
    """A message of ours that left: when, for whom, and its bytes."""

    when: float
    seen: Seen
    message: Message


class Book:
    """The watched peers of one namespace, by the caller's numbers."""

    def __init__(self, tunnel: Callable[[str], bool], local: Callable[[bytes], bool]) -> None:
        """`tunnel`: whether peers send packets into this interface; `local`: whether this host has a packed
        address. Both are asked for what a stranger may have sent, and are to bound what that costs.
        """
        self._tunnel, self._local = tunnel, local
        self._seen: dict[int, Seen] = {}
        self._by_endpoint: dict[Place, dict[int, Seen]] = {}
        self._by_port: dict[int, dict[int, Seen]] = {}
        self._keys: dict[str, bytes | None] = {}  # mac1 keys of devices
        self._calls = Calls()
        self._copies: OrderedDict[bytes, _Copy] = OrderedDict()
        self._sent: OrderedDict[int, _Sent] = OrderedDict()
        self._changed: dict[int, Sighting | None] = {}
        self._out = (-inf, inf)

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def ports(self) -> frozenset[int]:
        """The UDP ports of the devices of which a peer is watched."""
        return frozenset(self._by_port)

    def watch(self, number: int, peer: WatchPeer, until: float, now: float) -> None:
        """Watch for a peer until then, or go on. A new window begins at nothing."""
        seen = self._seen.get(number)
        if seen is None:
            seen = self._seen[number] = Seen(number, peer, now, until)
        else:
            self._leave(seen)
            seen.aim(peer)
            seen.until = max(seen.until, until)
        seen.out = self._out
        if peer.device_key not in self._keys:
            self._keys[peer.device_key] = mac1_key(peer.device_key)
        self._by_port.setdefault(peer.port, {})[number] = seen
        if seen.place is not None:
            self._by_endpoint.setdefault(seen.place, {})[number] = seen
        self._changed[number] = None

    def expire(self, now: float) -> None:
        """End the windows that are over."""
        for number, seen in [(number, seen) for number, seen in self._seen.items() if now >= seen.until]:
            self._leave(seen)
            del self._seen[number]
            self._changed[number] = seen.row(now)._replace(open=False)
        if not self._seen:
            self._keys.clear()
            self._copies.clear()
            self._sent.clear()

    def drop(self, number: int) -> None:
        """End the window of a peer without a word."""
        seen = self._seen.pop(number, None)
        if seen is not None:
            self._leave(seen)
            self._changed.pop(number, None)

    def end(self, now: float) -> None:
        """End all windows: the socket is gone."""
        for seen in self._seen.values():
            seen.until = now
        self.expire(now)

    def miss(self) -> None:
        """Messages were lost between kernel and watcher."""
        for number, seen in self._seen.items():
            if not seen.missed:
                seen.missed = True
                self._touch(number)

    def look_at_leaving(self, since: float, until: float) -> None:
        """What leaves is looked at from then to then, without a break."""
        self._out = (since, until)
        for number, seen in self._seen.items():
            seen.out = self._out
            self._touch(number)

    def rows(self, most: int, now: float) -> dict[int, Sighting]:
        """The sightings of at most `most` peers of which something changed, by number; those that waited longest."""
        found: dict[int, Sighting] = {}
        for number in list(islice(self._changed, most)):
            ended = self._changed.pop(number)
            if ended is not None:
                found[number] = ended
            elif number in self._seen:
                found[number] = self._seen[number].row(now)
        return found

    @property
    def changed(self) -> int:
        """How many wait for `rows`."""
        return len(self._changed)

    def callers(self) -> tuple[Callers, ...]:
        """Who sends messages and is no watched peer's endpoint, of the devices where that changed."""
        return self._calls.changes()

    def take(self, captured: Captured, now: float) -> None:
        """Take in a packet. The order in which they come is that in which this host saw them."""
        found = decode(captured.packet)
        if isinstance(found, Quote):
            if not captured.leaving and not self._tunnel(captured.interface):
                self._take_quote(found, captured, now)
        elif found is not None:
            self._take_message(found, captured, now)

    # --- messages -----------------------------------------------------------------------------------------------------

    def _take_message(self, found: Datagram, captured: Captured, now: float) -> None:
        data = found.message.data
        direction = b"<" if captured.leaving else b">"
        copy = self._copy(direction + data, now)
        if copy is not None:
            self._move(copy, found, captured.interface)
            return
        copy = self._remember(direction + data, captured.interface, now)
        if captured.leaving:
            if self._copy(b">" + data, now) is None:  # else it is forwarded
                self._take_leaving(found, now)
            return
        self._take_arriving(found, captured, copy, now)

    def _move(self, copy: _Copy, found: Datagram, interface: str) -> None:
        """A packet was seen again, on another interface."""
        before, copy.interface = copy.interface, interface
        for seen in copy.counted:
            seen.move(found.source, found.source_port, before, interface)
            self._touch(seen.number)
        if copy.caller is not None:
            self._calls.move(copy.caller, found.source, found.source_port, interface)

    def _take_leaving(self, found: Datagram, now: float) -> None:
        message = found.message
        place = (found.source_port, found.target, found.target_port)
        if message.kind is Kind.COOKIE:
            for number, seen in self._by_endpoint.get(place, {}).items():
                seen.cookies_sent += 1
                self._touch(number)
            return
        for number, seen in self._addressed(place):
            if seen.key is None or not made_for(message, seen.key):
                continue
            seen.leave(message.kind, now)
            self._touch(number)
            if message.sender is not None:
                self._sent[message.sender] = _Sent(now, seen, message)
                self._sent.move_to_end(message.sender)
                self._forget_sent(now)
            if message.kind is Kind.RESPONSE:
                self._calls.answered(seen.device, found.target, found.target_port)
            return

    def _addressed(self, place: Place) -> list[tuple[int, Seen]]:
        """The peers for which a message to this place may be: they may have called from a new one."""
        here = self._by_endpoint.get(place)
        if here is not None:
            return list(here.items())
        device = self._by_port.get(place[0], {})
        return list(device.items()) if len(device) <= MOST_TRIED else []

    def _take_arriving(self, found: Datagram, captured: Captured, copy: _Copy, now: float) -> None:
        message = found.message
        device = self._by_port.get(found.target_port)
        if not device:
            return
        ours = next(iter(device.values()))
        key = self._keys.get(ours.peer.device_key)
        answer = self._sent.get(message.receiver) if message.receiver is not None else None
        if answer is not None and now > answer.when + ANSWER_SECONDS:
            answer = None
        for_us = made_for(message, key) if key is not None else False
        if message.kind is not Kind.COOKIE and not for_us and not self._local(found.target):
            return
        peers = self._by_endpoint.get((found.target_port, found.source, found.source_port), {})
        for number, seen in peers.items():
            answers = answer is not None and answer.seen is seen
            if message.kind is Kind.COOKIE and not answers:
                continue
            seen.arrive(message, now, for_us=for_us, answers=answers)
            seen.count(found.source, found.source_port, captured.interface)
            copy.counted.append(seen)
            self._touch(number)
        if not peers and message.kind is not Kind.COOKIE:
            copy.caller = ours.device
            self._calls.take(ours.device, found, captured.interface, for_us=for_us)

    # --- errors -------------------------------------------------------------------------------------------------------

    def _take_quote(self, found: Quote, captured: Captured, now: float) -> None:
        peers = self._by_endpoint.get((found.source_port, found.target, found.target_port))
        if not peers:
            return
        name = b"!" + captured.packet[:ERROR_BYTES]
        if self._copy(name, now) is not None:
            return
        self._remember(name, captured.interface, now)
        sent, own = self._quoted(found.data, now), self._local(found.by)
        for number, seen in peers.items():
            if sent is None or sent.seen is seen:
                seen.refuse(found, proven=sent is not None, own=own)
                self._touch(number)

    def _quoted(self, data: bytes, now: float) -> _Sent | None:
        """The message of ours that an error quotes: its type and sender index at least, which is 32 random bits."""
        if len(data) < 8:
            return None
        sent = self._sent.get(int.from_bytes(data[4:8], "little"))
        if sent is None or now > sent.when + ANSWER_SECONDS:
            return None
        size = min(len(data), len(sent.message.data))
        return sent if data[:size] == sent.message.data[:size] else None

    # --- memory -------------------------------------------------------------------------------------------------------

    def _copy(self, name: bytes, now: float) -> _Copy | None:
        """The packet with these bytes that was seen a moment ago."""
        copy = self._copies.get(name)
        return copy if copy is not None and now <= copy.when + COPY_SECONDS else None

    def _remember(self, name: bytes, interface: str, now: float) -> _Copy:
        copy = self._copies[name] = _Copy(now, interface)
        self._copies.move_to_end(name)
        while self._copies and (len(self._copies) > MOST_COPIES or now > _first(self._copies).when + COPY_SECONDS):
            self._copies.popitem(last=False)
        return copy

    def _forget_sent(self, now: float) -> None:
        while self._sent and (len(self._sent) > MOST_SENT or now > _first(self._sent).when + ANSWER_SECONDS):
            self._sent.popitem(last=False)

    def _touch(self, number: int) -> None:
        self._changed.setdefault(number, None)

    def _leave(self, seen: Seen) -> None:
        """Take a peer out of what finds it."""
        if seen.place is not None:
            _take_out(self._by_endpoint, seen.place, seen.number)
        if _take_out(self._by_port, seen.peer.port, seen.number):
            self._calls.forget(seen.device)


def _take_out(index: dict[Found, dict[int, Seen]], at: Found, number: int) -> bool:
    """Take a peer out of an index. Whether it was the last one there."""
    known = index[at]
    del known[number]
    if not known:
        del index[at]
    return not known


def _first(known: OrderedDict[Found, Kept]) -> Kept:
    return next(iter(known.values()))
