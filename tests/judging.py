"""A host of several devices, judged as the exporter judges it."""

from __future__ import annotations

from tests.rows import SECOND, WALL, device, key, link, peer, snapshot
from tests.tunnels import KEEPALIVE, LIMITS, LINKS_READ, Judge
from wg_exporter.names.identity import PeerMeta

WG0, WG1 = ("", "wg0"), ("", "wg1")


class Host:
    """Devices by key with their peers' numbers. All but the `mute` are heard at each look; those below 10 are expected
    up, as long as `expected` says nothing else.

    `links` has the index of each link that is there.
    """

    def __init__(self, **devices):
        self.health, self.now = Judge(), 0.0
        self.devices = {("", name): numbers for name, numbers in devices.items()}
        self.links = {place: 7 + number for number, place in enumerate(self.devices)}
        self.down, self.mute, self.missed = set(), set(), None
        self.expected = set(range(10))
        self.outcomes = (LINKS_READ,)
        self.received = dict.fromkeys(range(100), 1000)
        self.changes = []
        self.look(0)

    def shown(self, place):
        rows = (
            peer(n, rx_bytes=self.received[n], last_handshake_ns=int((WALL - 10) * SECOND)) for n in self.devices[place]
        )
        return device(*rows, name=place[1])._replace(netns=place[0])

    def look(self, after=5, times=1):
        for _ in range(times):
            self.now += after
            for n in self.received.keys() - self.mute:
                self.received[n] += KEEPALIVE
            links = [
                link(name, ifindex)._replace(netns=netns, up=(netns, name) not in self.down)
                for (netns, name), ifindex in self.links.items()
            ]
            found = snapshot(*map(self.shown, self.devices), at=self.now, links=links, outcomes=self.outcomes)
            missed = {WG0, WG1} if self.missed is None else self.missed
            self.changes += self.health.look(found, self.metas, {}, missed, LIMITS)
        return self

    def metas(self, shown):
        numbers = [peer_number(each) for each in shown.peers.public_key]
        return tuple(PeerMeta(str(n), True, n in self.expected) for n in numbers)

    def lose(self, place):
        """The device and its link."""
        del self.links[place]
        return self.devices.pop(place)

    def gone(self):
        return {device.name: device.public_key for device in self.health.gone()}

    def states(self):
        return {name: [row.state for row in rows] for (_, name), _keys, _metas, rows in self.health.devices()}


def peer_number(public_key):
    return next(n for n in range(100) if key(n) == public_key)
