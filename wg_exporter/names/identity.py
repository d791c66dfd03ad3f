"""Who a peer is to the people who run this host: its friendly name, and whether it should always be up.

WireGuard knows keys. Names and intent stand in the configuration: first of the exporter, then of WireGuard itself
(wg-quick and systemd-networkd files). An `Identity` answers for one state of both; when either changes, make a new one.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config import Config, Expected, ExpectRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.model import ConfFile, Peer

# A peer without a name is called by this many characters of its key.
SHORT_KEY_LENGTH = 8


class PeerMeta(NamedTuple):
    """What the configuration makes of a peer. `named` is False where `name` is only the beginning of the key. `labels`
    are those of its `friendly_json` comment.
    """

    name: str
    named: bool
    expected_up: bool
    labels: tuple[tuple[str, str], ...] = ()


class Identity:
    """Names and expectations of all peers, for one configuration and one state of the configuration files."""

    def __init__(self, config: Config, conf: Sequence[ConfFile]) -> None:
        self._rules = config.expect
        # (interface, key) -> name; the interface is empty where the configuration names none.
        self._configured = {(peer.interface or "", peer.public_key): peer.name for peer in config.peers if peer.name}
        self._described = {file.interface for file in conf if file.interface and file.peers}
        # Two files can describe one device, and each say what the other does not.
        self._named: dict[tuple[str, str], str] = {}
        self._named_anywhere: dict[str, str] = {}
        self._labels: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
        self._with_endpoint: set[tuple[str, str]] = set()
        for file in conf:
            for key, labels in file.labels:
                self._labels.setdefault((file.interface, key), labels)
                self._labels.setdefault(("", key), labels)
            for peer in file.peers:
                if peer.name:
                    self._named.setdefault((file.interface, peer.public_key), peer.name)
                    self._named_anywhere.setdefault(peer.public_key, peer.name)
                if peer.endpoint:
                    self._with_endpoint.add((file.interface, peer.public_key))

    def meta(self, netns: str, interface: str, peer: Peer) -> PeerMeta:
        """What to call `peer`, and whether it should always be up."""
        name = self._name(interface, peer.public_key)
        expected = self._expected(netns, interface, peer, name)
        key = peer.public_key
        labels = self._labels.get((interface, key)) or self._labels.get(("", key), ()) if self._labels else ()
        return PeerMeta(name or key[:SHORT_KEY_LENGTH], bool(name), expected, labels)

    def _name(self, interface: str, key: str) -> str:
        return (
            self._configured.get((interface, key))
            or self._configured.get(("", key))
            or self._named.get((interface, key))
            # A file may be named after no device at all, or after the device before it was renamed.
            or self._named_anywhere.get(key, "")
        )

    def _expected(self, netns: str, interface: str, peer: Peer, name: str) -> bool:
        for rule in self._rules:
            if matches(rule, interface, peer, name):
                if rule.state is Expected.AUTO:
                    break
                return rule.state is Expected.UP
        if not peer.persistent_keepalive:
            return False
        # A file describes devices of this host's own namespace; keepalive alone decides where there is none.
        if netns or interface not in self._described:
            return True
        return (interface, peer.public_key) in self._with_endpoint


def matches(rule: ExpectRule, interface: str, peer: Peer, name: str) -> bool:
    """Every condition that the rule gives holds. Only a real name is matched, never the beginning of a key."""
    return (
        (rule.interface is None or fnmatchcase(interface, rule.interface))
        and (rule.name is None or fnmatchcase(name, rule.name))
        and (rule.public_key is None or rule.public_key == peer.public_key)
        and (rule.network is None or any(_within(rule.network, allowed) for allowed in peer.allowed_ips))
    )


def _within(network: IPv4Network | IPv6Network, allowed_ip: str) -> bool:
    inner = ip_network(allowed_ip, strict=False)
    if isinstance(network, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(network)
    return isinstance(inner, IPv6Network) and inner.subnet_of(network)
