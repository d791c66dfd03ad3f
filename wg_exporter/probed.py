"""What is known of peers by probing them, and whom to probe: the rows that go between the prober and all others.

As in `model`, all of it is immutable and holds no secret.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from wg_exporter.model import PeerKey  # noqa: TC001 - msgspec reads the annotations


class Verdict(StrEnum):
    """What probing says of the MTU of a tunnel. Exactly one holds: the first, in this order, whose condition does."""

    UNKNOWN = "unknown"
    UNREACHABLE = "unreachable"
    INCONCLUSIVE = "inconclusive"
    INTERFACE_ABOVE_ROUTE = "interface_above_route"
    INNER_PATH_SMALLER = "inner_path_smaller"
    BLACKHOLE = "blackhole"
    FRAGMENTED_LOCAL = "fragmented_local"
    FRAGMENTED_PATH = "fragmented_path"
    REMOTE_SMALLER = "remote_smaller"
    FILTERED_LARGE = "filtered_large"
    FILTERED = "filtered"
    OK = "ok"


class SendError(StrEnum):
    """Why a probe could not be sent: the closed set of the `reason` label of `wireguard_probe_errors_total`."""

    NO_DEVICE = "no_device"  # the interface is gone or down (ENODEV, ENXIO, ENETDOWN)
    NO_ROUTE = "no_route"  # ENETUNREACH, EHOSTUNREACH; WireGuard says so too where it has no endpoint (EDESTADDRREQ)
    NO_KEY = "no_key"  # WireGuard has no peer for the address or refuses it (ENOKEY)
    NO_PERMISSION = "no_permission"  # EPERM, EACCES: a capability is missing, or a firewall refused
    NO_BUFFER = "no_buffer"  # ENOBUFS, EAGAIN: the kernel's queue is full
    TOO_BIG = "too_big"  # EMSGSIZE: larger than the interface or the route lets through
    OTHER = "other"


class ProbeStats(NamedTuple):
    """What is known of one target from its small echoes since it was added; counters only grow.

    Round-trip times and jitter are in seconds; None = none known yet. `buckets` counts the round trips at or below each
    bound of the histogram and above the bound before it (not cumulative), the last one those above all bounds. `sent`
    counts probes whose fate is known: sent = answered + lost. `errors` are (reason, number), only those seen.

    `silent_since` is when the first probe was sent that no answer of any kind has followed, in seconds of
    CLOCK_MONOTONIC, which all processes of a host share. It is None until that probe is counted lost, and again after
    any answer. A break in probing starts a new silence.

    `extra_sent` and `extra_lost` count probes that were sent in between because an answer was missing; they are in no
    other count. `late` answers came after the timeout, to probes that are in `lost`; `late_sum` is the sum of their
    round trips. `refused` is why this host refused to send the last probes, None if it sends them.
    """

    up: bool
    sent: int
    lost: int
    duplicates: int
    late: int
    errors: tuple[tuple[SendError, int], ...]
    buckets: tuple[int, ...]
    rtt_sum: float
    rtt_min: float | None
    rtt_last: float | None
    jitter: float | None
    silent_since: float | None = None
    extra_sent: int = 0
    extra_lost: int = 0
    late_sum: float = 0.0
    refused: SendError | None = None


class MtuReport(NamedTuple):
    """What is known of the MTU of one peer's tunnel. Sizes are IP packets in bytes; None = not known."""

    verdict: Verdict
    interface_mtu: int
    path_inner: int | None  # the largest inner packet that gets through
    path_outer: int | None  # the path MTU to the endpoint
    path_slack: int  # the outer path may be this much larger; 0 = exact, 15 where padded inner packets measured it
    needed: int | None  # the outer size of a full inner packet
    recommended: int | None  # the MTU to set on this side alone, never above what is known to pass
    remote: int | None  # the far side's MTU
    shrinks_at: str  # the address of the hop that said too big
    checked: float  # wall clock, seconds since the epoch; 0.0 = never


class ProbePeer(NamedTuple):
    """One peer to probe, as the prober is told of it. No key but the public one, no name."""

    key: PeerKey  # the namespace in it is where the device is, and where inner probes leave
    ifindex: int
    mtu: int  # of the interface
    target: str  # the address inside the tunnel
    ipv6_inside: bool  # whether the interface has IPv6 addresses
    endpoint: str  # without port; empty where `underlay` is out of reach, and then there are no outer probes
    fwmark: int  # of outer probes
    underlay: str  # the namespace of the device's UDP socket, where outer probes leave
    roams: bool  # whether the endpoint may change to IPv6
    interval: float  # seconds between small echoes
    paused: bool = False  # nothing is sent at present, and what is known is kept


class FastPeer(NamedTuple):
    """One peer to send fast echoes to, as the prober is told of it: up or down, and nothing else, follows from them.

    `interval` is in seconds. It is down after `multiplier` intervals without an answer, and up after as many answers.
    """

    key: PeerKey
    ifindex: int
    target: str  # the address inside the tunnel
    interval: float
    multiplier: int


class FastFound(NamedTuple):
    """How a peer with fast echoes is by them: where they go or last went, empty if that is not known; whether it is up,
    None = not known; and why it is not up, empty if its echoes say so.
    """

    target: str
    up: bool | None
    why: str = ""


class Probed(NamedTuple):
    """What is known of one probed peer: its echoes at `target`, and its MTU, None before the first verdict."""

    target: str
    stats: ProbeStats
    mtu: MtuReport | None
