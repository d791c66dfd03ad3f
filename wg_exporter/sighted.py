"""What the watcher saw on the wire of WireGuard's handshake messages, and whom to watch for: rows between processes.

As in `model`, all of it is immutable and holds no secret: an initiation shows strangers nothing but that there is
WireGuard. Times are seconds of CLOCK_MONOTONIC, which all processes of a host share.

**What may be believed.** Whoever knows our public key, which is no secret, can make an initiation that looks right, and
whoever knows the ports can forge an error. So of what arrives, only this is proven:

- `answered`: a response to an initiation of ours that was seen leaving; its receiver index is 32 random bits of ours.
- `taken_at`: initiations that WireGuard accepted, as its response to them was seen leaving (made for the peer's key).
- `Refusal.proven`: errors that quote bytes of a message of ours that was seen leaving.

All the rest says no more than "somebody sent this". What left this host nobody else can forge; that nothing was seen
leaving is certain only between `out_from` and `out_to`, and if nothing was `missed`.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from wg_exporter.model import DeviceKey, PeerKey  # noqa: TC001 - msgspec reads the annotations


class WatchPeer(NamedTuple):
    """One peer to watch for. No key but public ones, no name."""

    key: PeerKey
    underlay: str  # the namespace of the device's UDP socket, where its outer packets are
    endpoint: str  # "address:port", IPv6 in brackets; empty = none yet
    port: int  # the UDP port on which the device listens
    device_key: str  # the device's public key, base64: mac1 of what it receives is made for it


class Refusal(NamedTuple):
    """An ICMP or ICMPv6 error that quotes a datagram of ours to the endpoint (RFC 792, RFC 4443): how often it came.

    `by` is the address of whoever says so; `own`: an address of this host itself, as where a filter here rejects or no
    neighbour answers. `proven` of them quote bytes of a handshake message that was seen leaving; the others anybody may
    have sent.
    """

    by: str
    ipv6: bool
    type: int
    code: int
    times: int
    proven: int
    own: bool = False


class Sender(NamedTuple):
    """From where messages came, and on which interface the last one arrived: with a bridge or a bond, on the one that
    has the address.
    """

    address: str
    port: int
    interface: str
    times: int


class Sighting(NamedTuple):
    """What was seen of one peer in one window: from `began` on, for `seconds`; `open`: the window is not over.

    Received messages count for the peer if they come from its endpoint to the port of its device. Copies of one packet,
    as bridges, bonds and VLANs make them, count once; so does what this host only forwards: not at all.
    """

    began: float
    seconds: float
    open: bool = True
    initiations_sent: int = 0  # leaving this host, after all of its filters
    responses_sent: int = 0
    cookies_sent: int = 0
    initiations_received: int = 0  # made for our public key (mac1)
    responses_received: int = 0
    cookies_received: int = 0  # that answer a message of ours that was seen leaving: the far side is under load
    misdirected: int = 0  # initiations and responses whose mac1 is made for another public key than ours
    answered: int = 0  # of the received responses, those to an initiation of ours that was seen leaving
    sent_at: tuple[float, ...] = ()  # when each of the last initiations left, at most `LAST`
    received_at: tuple[float, ...] = ()  # when each of the last initiations came, at most `LAST`
    taken_at: tuple[float, ...] = ()  # when each of our last responses to an initiation left, at most `LAST`
    senders: tuple[Sender, ...] = ()  # of what was received, at most `MOST_SENDERS`: the endpoint, by interface
    refusals: tuple[Refusal, ...] = ()  # at most `MOST_REFUSALS`
    initiation: bytes = b""  # the last initiation received (148 bytes), for the reader to open; empty = none
    missed: bool = False  # whether messages were lost between kernel and watcher: what was not seen may have been
    out_from: float = -inf  # what leaves was looked at from then, or from the beginning of the window, ...
    out_to: float = (
        inf  # ... to then, or to its end, without a break; the latest such time, as it is costly on busy hosts
    )


class Caller(NamedTuple):
    """Somebody who sends messages to a device and is no watched peer's endpoint, while WireGuard does not answer.

    `for_us`: mac1 is made for the device's public key. `initiation` is the last one from there (148 bytes), empty if
    only other messages came. It may be a healthy peer that nobody watches for, whose response was lost, or one that
    moved: compare endpoints.
    """

    sender: Sender
    for_us: bool
    initiation: bytes


class Callers(NamedTuple):
    """The callers of one device, while any of its peers is watched; at most `MOST_CALLERS`, the latest."""

    device: DeviceKey
    callers: tuple[Caller, ...]


LAST = 8  # stamps
MOST_SENDERS = 4
MOST_REFUSALS = 8
MOST_CALLERS = 8
