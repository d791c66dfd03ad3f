"""Whose endpoint is set, and to what. This is the only thing that the exporter ever writes, so it is decided here
alone: no clock, no sockets, and nothing that the process which talks to strangers could choose.

That process says who is down. It is believed only as far as this: the peer is of a device of this host, root's file
gives it a host name, and this process itself has seen nothing come from it for `SILENT`. The address is one of those
that the name resolves to, found less than `FRESH` ago by the resolver, which talks to nobody else. A peer has one try
in `EVERY`.
"""

from __future__ import annotations

from ipaddress import ip_address
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.hostnames import address_of, is_ipv6
from wg_exporter.model import Backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wg_exporter.model import Device

EVERY = 60.0  # seconds between two tries for one peer
SILENT = 20.0  # seconds: WireGuard repeats a handshake after 5 s, so a peer that hears us has answered
FRESH = 60.0  # seconds: older answers may be what moved
WOBBLE = 10**9  # nanoseconds: some daemons work the time of a handshake out anew at each read; two are never as near

Who = tuple[str, str]
"""A peer of this host's own namespace: (interface, public key)."""


class Order(NamedTuple):
    """Set the endpoint of this peer, which is `before` (empty = none), to `after`."""

    interface: str
    public_key: str
    backend: Backend
    name: str
    before: str
    after: str


class _Seen:
    """What was read of one peer. Times are monotonic seconds."""

    __slots__ = ("backend", "endpoint", "handshake", "last_try", "received", "silent_since", "tried")

    def __init__(self, begun: float) -> None:
        self.backend = Backend.KERNEL
        self.endpoint = ""
        self.received = self.handshake = -1
        self.silent_since = inf
        self.last_try = begun
        self.tried: list[str] = []


class Reresolve:
    """What was read of the peers with a host name, and what was tried. Not thread-safe."""

    def __init__(self, begun: float) -> None:
        """`begun` is now: what the process before has set is not known, so nothing is set for `EVERY`."""
        self._begun = begun
        self._seen: dict[Who, _Seen] = {}  # also of those that are not there now, so that a minute stays a minute
        self._there: set[Who] = set()

    def look(self, devices: Iterable[Device], names: Mapping[Who, str], now: float) -> None:
        """Take in what was just read. A peer that could not be read now is not there, and nothing is set for it."""
        self._seen = {who: seen for who, seen in self._seen.items() if who in names}
        self._there = set()
        for device in devices:
            if device.netns or not device.fresh:
                continue
            peers = device.peers
            rows = zip(peers.public_key, peers.endpoint, peers.rx_bytes, peers.last_handshake_ns, strict=True)
            for key, endpoint, received, handshake in rows:
                who = (device.name, key)
                if who not in names:
                    continue
                self._there.add(who)
                seen = self._seen.setdefault(who, _Seen(self._begun))
                if received != seen.received or abs(handshake - seen.handshake) > WOBBLE:
                    seen.received, seen.handshake, seen.silent_since = received, handshake, now
                    seen.tried = []
                seen.backend, seen.endpoint = device.backend, endpoint

    def orders(
        self,
        down: Iterable[Who],
        names: Mapping[Who, str],
        known: Callable[[str], tuple[tuple[str, ...], float] | None],
        now: float,
    ) -> list[Order]:
        """Whose endpoint to set now: each counts as tried. `known` gives the addresses of a name, and their age."""
        found = []
        for who in down:
            seen, name = self._seen.get(who), names.get(who)
            if seen is None or name is None or who not in self._there:
                continue
            if now < seen.last_try + EVERY or now < seen.silent_since + SILENT:
                continue
            answer = known(name)
            if answer is None or answer[1] > FRESH:
                continue
            after = choose(seen.endpoint, answer[0], seen.tried)
            if not after:
                continue
            seen.last_try = now
            seen.tried = [*(one for one in seen.tried if one in answer[0]), after]
            found.append(Order(*who, seen.backend, name, seen.endpoint, after))
            seen.endpoint = after
        return found


def choose(current: str, addresses: Sequence[str], tried: Sequence[str] = ()) -> str:
    """The endpoint to try next, empty if there is no other: one that was not tried yet, else the one tried longest ago.

    While the endpoint in use is none of the addresses, one of its family comes first, as that is known to have worked.
    """
    others = [one for one in addresses if not same(one, current) and usable(one)]
    if not others:
        return ""
    preferred = sorted(others, key=lambda one: bool(current) and is_ipv6(one) != is_ipv6(current))
    order = {one: at for at, one in enumerate(tried)}
    return min(preferred, key=lambda one: order.get(one, -1))


def same(one: str, other: str) -> bool:
    """Whether two endpoints are the same address and port."""
    return one.rpartition(":")[2] == other.rpartition(":")[2] and address_of(one) == address_of(other)


def usable(endpoint: str) -> bool:
    """Whether a peer can be there: DNS servers that block a name say 0.0.0.0, or ::."""
    address = ip_address(address_of(endpoint))
    wrong = address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255"
    return not wrong and "%" not in endpoint and endpoint.rpartition(":")[2] != "0"
