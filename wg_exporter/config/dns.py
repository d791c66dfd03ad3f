"""What becomes of the host names in WireGuard's files: the section `dns`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from wg_exporter.config.tree import Document


def _text(description: str) -> Meta:
    return Meta(description=description)


class Dns(Struct, frozen=True, forbid_unknown_fields=True):
    """Host names of endpoints. WireGuard looks them up once, when the interface is set up; they may move later."""

    resolve: Annotated[
        bool,
        _text(
            "Look up the host names that WireGuard's files give as endpoints: every 5 minutes, every minute for a peer "
            "that is down or degraded. It is what `wireguard_peer_endpoint_dns_mismatch` follows from."
        ),
    ] = True
    reresolve: Annotated[
        bool,
        _text(
            "Set the endpoint of a peer that is down to what the host name in its file resolves to, at most once a "
            "minute. It is the only thing that the exporter ever changes on a device (docs/security.md)."
        ),
    ] = False


def check_dns(document: Document) -> None:
    """Hold the settings of the section against each other."""
    values = document.values
    if values.get("dns.reresolve") is True and values.get("dns.resolve") is False:
        document.wrong("dns.reresolve", "needs what dns.resolve turns off", "remove one of the two")
