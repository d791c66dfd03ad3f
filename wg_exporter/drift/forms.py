"""The forms in which a file and a device say the same thing, brought into one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network

MOST_CHARACTERS = 4000  # of a list of allowed IPs that is shown


class Endpoint(NamedTuple):
    """An endpoint: a numeric address (without its zone) or a host name, and the port; 0 if that is a service's name."""

    address: IPv4Address | IPv6Address | None
    host: str
    port: int


def endpoint(text: str) -> Endpoint | None:
    """`host:port` with IPv6 in brackets; None if it is neither, or empty."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host:
        return None
    return Endpoint(address(host), host, int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0)


def address(text: str) -> IPv4Address | IPv6Address | None:
    """A numeric address without its zone, IPv4 also where it is written as IPv6; None if it is none."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def networks(texts: Iterable[str]) -> frozenset[IPv4Network | IPv6Network | str]:
    """Allowed IPs, without regard to order, host bits and spelling. What is none stands for itself."""
    return frozenset(map(network, texts))


def network(text: str) -> IPv4Network | IPv6Network | str:
    """An allowed IP; what is none stands for itself."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return text


def interface_addresses(texts: Iterable[str]) -> frozenset[IPv4Interface | IPv6Interface | str]:
    """Addresses of an interface with their prefixes. What is none stands for itself."""

    def one(text: str) -> IPv4Interface | IPv6Interface | str:
        try:
            return ip_interface(text)
        except ValueError:
            return text

    return frozenset(map(one, texts))


def listed(texts: Iterable[str]) -> str:
    """A list as a file has it, cut where nobody reads on."""
    text = ", ".join(texts)
    if len(text) <= MOST_CHARACTERS:
        return text
    cut = text.rindex(", ", 0, MOST_CHARACTERS)
    return f"{text[:cut]}, and {text.count(', ', cut)} more"
