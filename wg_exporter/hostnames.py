"""What is known of the host names that WireGuard's files give as endpoints: the rows that go from the reader to all
others.

`wg` and systemd-networkd look a name up once, when the device is set up. When the name moves, the tunnel does not. As
in `model`, all of it is immutable and holds no secret.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

MOST_ADDRESSES = 64
"""Of a name with more, nothing is said: that the endpoint is none of them could be wrong."""


class LookupFailure(StrEnum):
    """Why a name could not be resolved; what a person reads is in `MEANINGS`."""

    NOT_FOUND = "not_found"
    NO_ANSWER = "no_answer"
    REFUSED = "refused"
    NO_SERVICE = "no_service"
    LATE = "late"
    UNUSABLE = "unusable"


MEANINGS = {
    LookupFailure.NOT_FOUND: "there is no such name, or it has no address",
    LookupFailure.NO_ANSWER: "no DNS server answers, or none can tell",
    LookupFailure.REFUSED: "the DNS server refuses to answer",
    LookupFailure.NO_SERVICE: "its port is no number, and no service of that name is known",
    LookupFailure.LATE: "the lookup takes too long",
    LookupFailure.UNUSABLE: "the answer can't be used",
}


class HostName(NamedTuple):
    """What is known of one endpoint with a host name, `host:port` as in the file.

    `addresses` are those of the last lookup, as `address:port` with IPv6 in brackets, in the order in which the
    resolver prefers them (getaddrinfo(3)); none after a failure. `at` is when they were found, and `failed_since` when
    the first of the lookups failed that no success has followed, in seconds since the epoch; 0 = never.
    """

    endpoint: str
    addresses: tuple[str, ...] = ()
    at: float = 0.0
    failure: LookupFailure | None = None
    failed_since: float = 0.0


class EndpointName(NamedTuple):
    """The same for one peer. `name` is empty where its file has no host name, and then all the rest is too.

    `mismatch`: the endpoint in use is none of the `addresses`; None = not known. `resolved`: whether the last lookup
    found any; None = there was none yet. `reresolved` counts the endpoints that were set for the peer; None = nothing
    is ever set (`dns.reresolve`).
    """

    name: str = ""
    addresses: tuple[str, ...] = ()
    at: float = 0.0
    failure: LookupFailure | None = None
    failed_since: float = 0.0
    mismatch: bool | None = None
    resolved: bool | None = None
    reresolved: int | None = None

    @property
    def resolves_to(self) -> tuple[str, ...]:
        """The addresses without ports, sorted: servers give several in another order each time."""
        return tuple(sorted({address_of(one) for one in self.addresses}))


NO_NAME = EndpointName()


def is_host_name(endpoint: str) -> bool:
    """Whether an endpoint of a file, `host:port`, has a name for its host and no address."""
    host = endpoint.rpartition(":")[0]
    return bool(host) and not host.startswith("[") and _address(host) is None


def address_of(endpoint: str) -> str:
    """The address of `address:port`, as it is compared: without brackets and zone, an IPv4 address in IPv6 as IPv4."""
    host = endpoint.rpartition(":")[0].strip("[]").partition("%")[0]
    found = _address(host)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return str(mapped or found or host)


def is_ipv6(endpoint: str) -> bool:
    """Whether it is `[address]:port`."""
    return endpoint.startswith("[")


def differs(endpoint: str, addresses: tuple[str, ...]) -> bool | None:
    """Whether an endpoint in use is none of the addresses; None if one or the other is not known.

    Ports are not compared: DNS has none, and a NAT on the way changes that of the peer.
    """
    if not endpoint or not addresses:
        return None
    return address_of(endpoint) not in map(address_of, addresses)


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
