"""Which peers have a host name for their endpoint, by the files of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.hostnames import is_host_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wg_exporter.model import ConfFile


def host_names(files: Iterable[ConfFile]) -> dict[tuple[str, str], str]:
    """The endpoints with a host name, by interface and public key: those that the files of an interface give its peers.

    Of two files of one interface the first that gives the peer an endpoint counts. A file describes devices of this
    host's own network namespace.
    """
    found: dict[tuple[str, str], str] = {}
    for file in files:
        if file.interface:
            for peer in file.peers:
                if peer.endpoint:
                    found.setdefault((file.interface, peer.public_key), peer.endpoint)
    return {who: endpoint for who, endpoint in found.items() if is_host_name(endpoint)}
