"""Whether users' packets go where probes go: which routes to look at, and what the answers mean for each peer.

A probe is bound to its device, so it is answered though this host sends users' packets elsewhere. So the reader looks
at this host's own route to each target that is probed, unless somebody meant it to lead elsewhere: a file of the device
asks for another routing table, or the configuration says `routes: ignore`. And a target that WireGuard itself lets
nothing through to is not probed at all; then its allowed IPs stand in the way.

The answers are kept until a route, the plan or a file changes.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config import Routes
from wg_exporter.health.states import UNKNOWN, Obstacle, Reason
from wg_exporter.plan.planner import Plan
from wg_exporter.plan.targets import NotAllowed, Owners, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wg_exporter.config import Config
    from wg_exporter.model import ConfFile, Device, DeviceKey, PeerKey, Snapshot

Question = tuple[int, str]


class _Seen(NamedTuple):
    """What the last obstacles were made from."""

    plan: Plan
    conf: tuple[ConfFile, ...]
    routes: Mapping[str, Mapping[Question, str]]

    def same(self, other: _Seen) -> bool:
        """Whether nothing changed, by identity: answers and plans that are equal are the same object."""
        routes = self.routes.keys() == other.routes.keys() and all(
            answers is other.routes[netns] for netns, answers in self.routes.items()
        )
        return routes and self.plan is other.plan and self.conf is other.conf


class Routing:
    """Asks and judges for one configuration. Not thread-safe. The same objects again while nothing changed."""

    def __init__(self, config: Config) -> None:
        self._interfaces = config.interfaces
        self._asked: tuple[Plan, tuple[ConfFile, ...]] = Plan(), ()
        self._questions: dict[str, tuple[Question, ...]] = {}
        self._keys: dict[PeerKey, Question] = {}
        self._meant: set[str] = set()  # interfaces whose files ask for other routes than the usual
        self._seen = _Seen(Plan(), (), {})
        self._obstacles: dict[DeviceKey, dict[str, Obstacle]] = {}

    def questions(self, plan: Plan, conf: tuple[ConfFile, ...]) -> Mapping[str, tuple[Question, ...]]:
        """The routes to look at, by namespace: the index of a device and an address that it should lead to."""
        if plan is self._asked[0] and conf is self._asked[1]:
            return self._questions
        self._asked = plan, conf
        self._meant = {file.interface for file in conf if file.own_table}
        self._keys = {
            peer.key: (peer.ifindex, peer.target)
            for peer in plan.peers
            if not _scoped(peer.target) and self._judged(peer.key[1])
        }
        found: dict[str, dict[Question, None]] = {}
        for key, question in self._keys.items():
            found.setdefault(key[0], {})[question] = None
        before = self._questions
        asked = {netns: tuple(questions) for netns, questions in found.items()}
        self._questions = {netns: before[netns] if before.get(netns) == now else now for netns, now in asked.items()}
        return self._questions

    def obstacles(self, plan: Plan, snapshot: Snapshot) -> Mapping[DeviceKey, Mapping[str, Obstacle]]:
        """What stands in the way of users' packets, by device and public key; UNKNOWN where that is not known."""
        self.questions(plan, snapshot.conf)
        seen = _Seen(plan, snapshot.conf, snapshot.routes)
        if seen.same(self._seen):
            return self._obstacles
        self._seen = seen
        found: dict[DeviceKey, dict[str, Obstacle]] = {}
        for key, obstacle in (*self._routed(snapshot), *_allowed(plan, snapshot)):
            if not self._judged(key[1]):
                continue
            found.setdefault(key[:2], {})[key[2]] = obstacle
        before = self._obstacles
        self._obstacles = {key: before[key] if before.get(key) == rows else rows for key, rows in found.items()}
        return self._obstacles

    def _judged(self, interface: str) -> bool:
        """Whether nobody meant the routes of this interface to be as they are. What is meant in one namespace may be
        meant in another: a file does not say which is its own.
        """
        return interface not in self._meant and self._interfaces.routes(interface) is Routes.CHECK

    def _routed(self, snapshot: Snapshot) -> Iterator[tuple[PeerKey, Obstacle]]:
        for key, question in self._keys.items():
            answer = snapshot.routes.get(key[0], {}).get(question)
            if answer is None:
                yield key, UNKNOWN
            elif answer:
                yield key, Obstacle(Reason.NOT_ROUTED, answer)


def _canonical(network: str) -> str:
    """A network as the kernel writes it; what is none stays as it is."""
    try:
        return str(ip_network(network, strict=False))
    except ValueError:
        return network


def _scoped(target: str) -> bool:
    """Whether an address means nothing without a device (fe80::/10), so that no route leads to it alone."""
    return target[:3].lower() in {"fe8", "fe9", "fea", "feb"}


def _allowed(plan: Plan, snapshot: Snapshot) -> Iterator[tuple[PeerKey, Obstacle]]:
    """The peers that should be probed and can't, as their allowed IPs let nothing through."""
    devices = {(device.netns, device.name): device for device in snapshot.devices}
    for key in plan.unprobed:
        target = plan.targets.get(key[:2], {}).get(key[2])
        if isinstance(target, NotAllowed):
            device = devices.get(key[:2])
            network, owner = taken(device, key[2], snapshot.conf) if device else ("", "")
            held = f"; {network}, which its file gives to it, is in the allowed IPs of another peer, {owner[:8]}"
            yield key, Obstacle(Reason.NOT_ALLOWED, target.reason + (held if owner else ""))


def taken(device: Device, public_key: str, conf: tuple[ConfFile, ...]) -> tuple[str, str]:
    """The network that a file gives to a peer and another peer has, and who that is: of two with the same allowed IP,
    the last one gets it. Both are empty if there is none.
    """
    described = [
        peer
        for file in conf
        if file.interface == device.name
        for peer in file.peers
        if peer.public_key == public_key and peer.allowed_ips
    ]
    if not described:
        return "", ""
    owners = Owners(device.peers)
    held = next((peer.allowed_ips for peer in device.peers if peer.public_key == public_key), ())
    for network in described[-1].allowed_ips:
        if _canonical(network) in map(_canonical, held):
            continue
        parsed = parse(network)
        owner = owners.owner(*parsed[:2]) if parsed else ""
        if owner and owner != public_key:
            return network, owner
    return "", ""
