"""The rows that flow through the program: what was read, when, and how well it went.

Everything here is immutable and holds no secret: there is no field in which a private key or a preshared key
could be expressed, so no log line, page or metric can leak one.

Rows are `NamedTuple`s because a host may have tens of thousands of peers and reads them every few seconds: a named
tuple is made five times faster than a frozen dataclass. A source returns *the same object* for a peer that has not
changed since its last read. Everything downstream relies on that to skip what did not move, with `is`.
"""

from __future__ import annotations

from enum import StrEnum
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


DeviceKey = tuple[str, str]
"""What identifies a device on a host: (netns, interface name)."""


class Backend(StrEnum):
    """How a device is implemented, which decides where it is read from."""

    KERNEL = "kernel"
    USERSPACE = "userspace"
    AMNEZIAWG = "amneziawg"


class SourceName(StrEnum):
    """The places that data comes from; the `source` label of `wireguard_exporter_source_success`."""

    KERNEL = "kernel"
    AMNEZIAWG = "amneziawg"
    USERSPACE = "userspace"
    LINKS = "links"
    CONF = "conf"


class Peer(NamedTuple):
    """One peer of a device, as WireGuard reports it.

    `endpoint` is `address:port` with IPv6 in brackets, or empty while unknown. `allowed_ips` are CIDR strings in the
    order of the device. `last_handshake_ns` is wall-clock nanoseconds since the epoch, 0 = never.
    `persistent_keepalive` is in seconds, 0 = off. The byte counters count WireGuard messages, handshakes and
    keepalives included.
    """

    public_key: str
    endpoint: str
    allowed_ips: tuple[str, ...]
    persistent_keepalive: int
    last_handshake_ns: int
    rx_bytes: int
    tx_bytes: int


_public_key = itemgetter(Peer._fields.index("public_key"))


class Device(NamedTuple):
    """One WireGuard device that could be read.

    `netns` is the configured name of its network namespace, empty for the exporter's own. `public_key` is empty on a
    device without a private key. `fresh` is False when the list is the last complete one of an earlier read, served
    because this read failed half way. `keys` are the public keys of `peers`, the same object as before while no peer
    came, went or moved, so that two lists of peers can be seen to run in parallel at one glance. A source that doesn't
    keep them leaves it empty; ask `keys_of`.
    """

    netns: str
    name: str
    backend: Backend
    public_key: str
    listen_port: int
    fwmark: int
    peers: tuple[Peer, ...]
    fresh: bool = True
    keys: tuple[str, ...] = ()

    def keys_of(self) -> tuple[str, ...]:
        """The public keys of the peers, in order."""
        return self.keys or tuple(map(_public_key, self.peers))


class FailedDevice(NamedTuple):
    """A device that is known to exist but could not be read, with one line that says why."""

    netns: str
    name: str
    backend: Backend
    problem: str


class Link(NamedTuple):
    """A network interface and its counters (`struct rtnl_link_stats64`, linux/if_link.h).

    `kind` is IFLA_INFO_KIND: `wireguard`, `amneziawg`, `tun`, ... `up` is the administrative state (IFF_UP).
    """

    netns: str
    name: str
    ifindex: int
    kind: str
    up: bool
    mtu: int
    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int


class ConfPeer(NamedTuple):
    """What a configuration file says of one peer. Empty string and None mean that the file does not say.

    `name` is the friendly name from the comments or, where there is none, empty. `endpoint` is as written,
    a host name perhaps. `persistent_keepalive` is in seconds, 0 = off.
    """

    public_key: str
    name: str = ""
    endpoint: str = ""
    allowed_ips: tuple[str, ...] = ()
    persistent_keepalive: int | None = None


class ConfFile(NamedTuple):
    """One wg-quick `.conf` or systemd-networkd `.netdev` file: names and intent, never keys that are secret.

    `interface` is the device it describes, empty if it describes none. `problems` are one-line warnings: lines that
    could not be understood, or why the file could not be read at all (then `peers` is empty).
    """

    path: str
    interface: str
    peers: tuple[ConfPeer, ...] = ()
    problems: tuple[str, ...] = ()


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


class MtuReport(NamedTuple):
    """What is known of the MTU of one peer's tunnel. Sizes are IP packets in bytes; None = not known.

    `path_inner` is the largest inner packet that gets through, `path_outer` the path MTU to the endpoint. `needed` is
    the outer size that a full inner packet needs. `recommended` is the MTU to set, never above what is known to pass.
    `path_slack` says how much larger than told the outer path may be where only padded inner packets could be used
    (0 = exact, else 15). `remote` is the far side's MTU. `shrinks_at` is the address of the hop that said too big.
    `checked` is when (wall clock, seconds since the epoch), 0.0 = never.
    """

    verdict: Verdict
    interface_mtu: int
    path_inner: int | None
    path_outer: int | None
    path_slack: int
    needed: int | None
    recommended: int | None
    remote: int | None
    shrinks_at: str
    checked: float


class Outcome(NamedTuple):
    """How one read of one source went. `problem` is one line, empty on success. `duration` is in seconds.

    `absent` is True where the read failed because the network namespace does not exist: certainly, nothing is there.
    """

    source: SourceName
    netns: str
    success: bool
    duration: float
    problem: str = ""
    absent: bool = False


class Snapshot(NamedTuple):
    """Everything that one pass over all sources brought.

    `wall` (seconds since the epoch) and `monotonic` (seconds, arbitrary origin) are read together when the pass began.
    `links` maps (netns, interface name) to the link. `conf` is the same object as before while no file changed. `notes`
    are one-line remarks of the sources on what is no failure, but worth a line in the log.
    """

    wall: float
    monotonic: float
    devices: tuple[Device, ...]
    failed: tuple[FailedDevice, ...]
    links: Mapping[tuple[str, str], Link]
    conf: tuple[ConfFile, ...]
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()


class Problem(NamedTuple):
    """Something a user got wrong or should know: where it is, what is wrong, what to do. Printed as one line."""

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"; {self.fix}" if self.fix else "")
