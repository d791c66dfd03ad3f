"""The rows that flow through the program: what was read, when, and how well it went.

Everything here is immutable and holds no secret: there is no field in which a private key or a preshared key
could be expressed, so no log line, page or metric can leak one.

A host may have tens of thousands of peers and reads them every few seconds, and hardly anything of them changes. So
the peers of a device are kept by column, and a column in which nothing has changed since the last read is *the same
object*. Everything downstream relies on that to skip what did not move, with `is`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, StrEnum
from itertools import compress
from operator import attrgetter, is_, ne
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wg_exporter.accounted import Packets
    from wg_exporter.compared import KeyComparison
    from wg_exporter.hostnames import HostName


DeviceKey = tuple[str, str]
"""What identifies a device on a host: (netns, interface name)."""

PeerKey = tuple[str, str, str]
"""What identifies a peer on a host: (netns, interface name, public key)."""


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
    ACCOUNTING = "accounting"


# IFLA_INFO_KIND of the kernel's devices, with the source that reads them and their backend; and of userspace devices.
KERNEL_KINDS: Mapping[str, tuple[SourceName, Backend]] = MappingProxyType(
    {
        "wireguard": (SourceName.KERNEL, Backend.KERNEL),
        "amneziawg": (SourceName.AMNEZIAWG, Backend.AMNEZIAWG),
    }
)
USERSPACE_KIND = "tun"


class Failure(Enum):
    """What kind of failure it was. Code decides by this; the text beside it is for people alone."""

    OTHER = "other"
    DENIED = "denied"  # a permission is missing
    UNANSWERED = "unanswered"  # a userspace daemon is there and does not answer
    NAMESPACE_GONE = "namespace_gone"  # the network namespace does not exist, so nothing is in it


SOME_TIME = -1


class Peer(NamedTuple):
    """One peer of a device, as WireGuard reports it.

    `endpoint` is `address:port` with IPv6 in brackets, or empty while unknown. `allowed_ips` are CIDR strings in
    the order of the device. `last_handshake_ns` is wall-clock nanoseconds since the epoch, 0 = never, and
    `SOME_TIME` if there was one, and it is not known when. `persistent_keepalive` is in seconds, 0 = off. The byte
    counters count WireGuard messages, handshakes and keepalives included.
    """

    public_key: str
    endpoint: str
    allowed_ips: tuple[str, ...]
    persistent_keepalive: int
    last_handshake_ns: int
    rx_bytes: int
    tx_bytes: int


_COLUMNS = attrgetter(*Peer._fields)


class Peers(Sequence[Peer]):
    """The peers of a device, in its order, by column: an attribute for each field of `Peer`, with that field of all.

    Immutable. Two that were read one after the other share the columns that are equal. A `Peer` is made each time one
    is asked for: to read one field of all peers, take its column.
    """

    ROW, __slots__ = Peer, Peer._fields

    def __init__(  # noqa: PLR0917 - in the order of Peer, from zip()
        self,
        public_key: tuple[str, ...] = (),
        endpoint: tuple[str, ...] = (),
        allowed_ips: tuple[tuple[str, ...], ...] = (),
        persistent_keepalive: tuple[int, ...] = (),
        last_handshake_ns: tuple[int, ...] = (),
        rx_bytes: tuple[int, ...] = (),
        tx_bytes: tuple[int, ...] = (),
    ) -> None:
        self.public_key = public_key
        self.endpoint = endpoint
        self.allowed_ips = allowed_ips
        self.persistent_keepalive = persistent_keepalive
        self.last_handshake_ns = last_handshake_ns
        self.rx_bytes = rx_bytes
        self.tx_bytes = tx_bytes

    @classmethod
    def of(cls, rows: Iterable[Peer], before: Peers | None = None) -> Peers:
        """These peers; `before` itself if it is equal, else with the columns of `before` that are."""
        fresh = cls(*zip(*rows, strict=True))
        return fresh if before is None else fresh.sharing(before)

    def sharing(self, before: Peers) -> Peers:
        """`before` if it is equal, else these peers with the columns of `before` that are."""
        then = before.columns()
        kept = [old if old is new or old == new else new for old, new in zip(then, self.columns(), strict=True)]
        return before if all(map(is_, then, kept)) else Peers(*kept)

    def columns(self) -> tuple[tuple[Any, ...], ...]:
        """All columns, in the order of the fields of `Peer`."""
        return _COLUMNS(self)

    def __len__(self) -> int:
        return len(self.public_key)

    @overload
    def __getitem__(self, index: int) -> Peer: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Peer, ...]: ...

    def __getitem__(self, index: int | slice) -> Peer | tuple[Peer, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        return Peer._make(column[index] for column in self.columns())

    def __iter__(self) -> Iterator[Peer]:
        return map(Peer._make, zip(*self.columns(), strict=True))

    def __eq__(self, other: object) -> bool:
        return self.columns() == other.columns() if isinstance(other, Peers) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.columns())

    def __repr__(self) -> str:
        return f"Peers.of({tuple(self)!r})"


def same(before: Sequence[object], after: Sequence[object]) -> bool:
    """Whether two columns are equal. Free where it is the same column."""
    return before is after or before == after


def differences(before: Sequence[object], after: Sequence[object]) -> list[int]:
    """The places at which two columns of one length differ. Free for the same column, cheap for an equal one."""
    return [] if same(before, after) else list(compress(range(len(after)), map(ne, before, after)))


class Device(NamedTuple):
    """One WireGuard device that could be read.

    `netns` is the configured name of its network namespace, empty for the exporter's own. `public_key` is empty on a
    device without a private key. `fresh` is False when the list is the last complete one of an earlier read, served
    because this read failed half way. `opaque`: its bytes are not those of WireGuard's messages (boringtun: what is
    inside them). `packets` run in parallel to `peers`; None = nobody counts.
    """

    netns: str
    name: str
    backend: Backend
    public_key: str
    listen_port: int
    fwmark: int
    peers: Peers
    fresh: bool = True
    opaque: bool = False
    packets: Packets | None = None


class FailedDevice(NamedTuple):
    """A device that is known to exist but could not be read, with one line that says why."""

    netns: str
    name: str
    backend: Backend
    problem: str
    failure: Failure = Failure.OTHER


class Link(NamedTuple):
    """A network interface and its counters (`struct rtnl_link_stats64`, linux/if_link.h).

    `kind` is IFLA_INFO_KIND: `wireguard`, `amneziawg`, `tun`, ... `up` is the administrative state (IFF_UP).
    `addresses` are the interface's own, as CIDR strings ("10.0.0.1/24"), IPv4 first; the same object while no address
    changes.
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
    addresses: tuple[str, ...] = ()


class ConfPeer(NamedTuple):
    """What a configuration file says of one peer. Empty string and None mean that the file does not say.

    `name` is the friendly name from the comments or, where there is none, empty. `endpoint` is where somebody wants it
    to be, `host:port` with IPv6 in brackets, a host name perhaps. `persistent_keepalive` is in seconds, 0 = off.
    `unclear` names the fields for which the file has something that was not understood.
    """

    public_key: str
    name: str = ""
    endpoint: str = ""
    allowed_ips: tuple[str, ...] = ()
    persistent_keepalive: int | None = None
    unclear: tuple[str, ...] = ()


class ConfDevice(NamedTuple):
    """What a configuration file says of the device itself. None = it leaves that open, or was not understood.

    `addresses` are those of the interface, as CIDR strings ("10.0.0.1/24").
    """

    listen_port: int | None = None
    fwmark: int | None = None
    mtu: int | None = None
    addresses: tuple[str, ...] = ()


class ConfFile(NamedTuple):
    """One wg-quick `.conf` or systemd-networkd `.netdev` file: names and intent, never keys that are secret.

    `interface` is the device it describes, empty if it describes none. `problems` are one-line warnings: lines that
    could not be understood, or why the file could not be read at all (then `peers` is empty). `saved`: wg-quick writes
    the file itself (SaveConfig), so it says what was. `labels` has the public key of each peer with a `friendly_json`
    comment, and the keys and values of that which can be labels, by key. `own_table`: it asks for other routes than the
    usual (Table). `left_out` is how many of its peers have no key that could be read. `hooked`: commands that it has
    run change the peers of the device (PostUp = wg addconf ...).
    """

    path: str
    interface: str
    peers: tuple[ConfPeer, ...] = ()
    problems: tuple[str, ...] = ()
    saved: bool = False
    labels: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    own_table: bool = False
    device: ConfDevice = ConfDevice()
    left_out: int = 0
    hooked: bool = False


class Usage(NamedTuple):
    """What a process has cost its host: CPU in seconds, its part of resident memory (PSS) and its virtual memory in
    bytes, open files (proc(5)).
    """

    cpu: float = 0.0
    resident: float = 0.0
    virtual: float = 0.0
    files: float = 0.0


class Outcome(NamedTuple):
    """How one read of one source went. `problem` is one line, empty on success. `duration` is in seconds.

    `failure` is its kind, and says nothing of a success.
    """

    source: SourceName
    netns: str
    success: bool
    duration: float
    problem: str = ""
    failure: Failure = Failure.OTHER


class Snapshot(NamedTuple):
    """Everything that one pass over all sources brought.

    `wall` (seconds since the epoch) and `monotonic` (seconds, arbitrary origin) are read together when the pass began.
    `links` maps (netns, interface name) to the link. `conf` is the same object as before while no file changed. `notes`
    are lines for the log about what is no failure. `udp_ports` are the bound UDP ports of each network namespace that
    could be read, by its configured name. `left_out`: userspace devices that nobody wants. `idle_patterns`: those for
    files that match none. `doubles`: lines about devices of one name, of which only one can be shown. `routes` say, by
    namespace too, what keeps users' packets to an address from going through the device with an index; empty if nothing
    does. What is not in it is not known. `capabilities` are what the reader may do: (name, able), without what is not
    known.
    `unread`: nothing could be read, as whoever reads is gone or hangs; each outcome says so.
    `keys` compares secret keys with those in files, and `host_names` is what is known of the host names there: the same
    object as before while nothing changed. `reresolved` has the number of endpoints that were set to what a name
    resolves to, by interface and public key; None = nothing is ever set.
    """

    wall: float
    monotonic: float
    devices: tuple[Device, ...]
    failed: tuple[FailedDevice, ...]
    links: Mapping[tuple[str, str], Link]
    conf: tuple[ConfFile, ...]
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()
    udp_ports: Mapping[str, frozenset[int]] = {}
    left_out: frozenset[str] = frozenset()
    idle_patterns: tuple[str, ...] = ()
    doubles: tuple[str, ...] = ()
    routes: Mapping[str, Mapping[tuple[int, str], str]] = {}
    capabilities: tuple[tuple[str, bool], ...] = ()
    unread: bool = False
    keys: tuple[KeyComparison, ...] = ()
    host_names: tuple[HostName, ...] = ()
    reresolved: tuple[tuple[str, str, int], ...] | None = None

    def namespaces_read(self) -> set[str]:
        """The namespaces whose links were read, or that are gone: a link of theirs that is not in `links` is not there.
        Of the others it is not known.
        """
        links = [outcome for outcome in self.outcomes if outcome.source is SourceName.LINKS]
        return {row.netns for row in links if row.success or row.failure is Failure.NAMESPACE_GONE}
