"""What this host itself says of the way to one peer: routes, addresses, sockets, counters. The reader finds it out.

As in `model`, all of it is immutable and holds no secret. None = not known, everywhere: nobody could look.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from wg_exporter.model import PeerKey  # noqa: TC001 - msgspec reads the annotations


class PathKind(StrEnum):
    """What becomes of a packet that this host sends (linux/rtnetlink.h: RTN_*)."""

    SENT = "sent"
    LOCAL = "local"  # it is an address of this host
    NONE = "none"  # no route
    UNREACHABLE = "unreachable"
    BLACKHOLE = "blackhole"
    PROHIBIT = "prohibit"


class Neighbour(StrEnum):
    """What the kernel knows of a next hop on its link, by ARP or NDP (linux/neighbour.h: NUD_*)."""

    KNOWN = "known"  # its link-layer address, now or of before: packets to it leave
    ASKED = "asked"  # it is being asked for its address, and packets wait (INCOMPLETE)
    SILENT = "silent"  # it did not answer, and packets do not leave (FAILED)


class Path(NamedTuple):
    """Where this host sends a packet to one address, as `ip route get` says it. Empty = it has none, or not known.

    `tunnel`: the interface is the WireGuard device of the peer itself. `table` is 0 where it is not known.
    `neighbour`: of the next hop, None also where the link asks for none.
    """

    to: str
    kind: PathKind
    interface: str = ""
    gateway: str = ""
    source: str = ""
    table: int = 0
    tunnel: bool = False
    neighbour: Neighbour | None = None

    @property
    def next_hop(self) -> str:
        """The address that is asked for on the link: that of the gateway or, without one, the packet's own."""
        return self.gateway or self.to


class PortOwner(StrEnum):
    """Who has the UDP port of a device in the namespace of its outer packets."""

    DEVICE = "device"
    OTHER = "other"  # a process that is not the device's daemon, or another WireGuard device
    NOBODY = "nobody"


class Inspected(NamedTuple):
    """This host's part in the tunnel to one peer, at `at` (monotonic seconds).

    The counters count from the start of the host, so two rows tell whether they grow.
    """

    key: PeerKey
    at: float
    underlay: str | None = None  # the namespace of the outer packets, by its configured name
    endpoint: str = ""  # that of the device: "address:port", IPv6 in brackets; empty = none
    to_endpoint: Path | None = None  # with the device's fwmark, from the underlay
    to_target: Path | None = None  # of a user's packet, from the device's namespace
    addresses: tuple[str, ...] | None = None  # of the interface, as CIDR
    owner: str | None = None  # the public key whose allowed IPs hold the target, by longest prefix; empty = nobody's
    port_owner: PortOwner | None = None
    port_holder: str = ""  # in words, if it is another: "nginx (pid 12)", "wg1"
    outer_rp_filter: int | None = None  # what holds for the interface that outer packets come in by: 0, 1 (strict), 2
    inner_rp_filter: int | None = None  # and for the tunnel's
    outer_rp_drops: int | None = None  # IPReversePathFilter of the underlay (/proc/net/netstat)
    inner_rp_drops: int | None = None  # and of the device's namespace
    udp_received: int | None = None  # UDP datagrams that came through all filters in the underlay (InDatagrams)
    conf_endpoint: str | None = None  # what a configuration file says: "host:port"; empty = it names none
    problems: tuple[str, ...] = ()  # what could not be looked at, and why
