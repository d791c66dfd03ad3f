"""A tunnel that is told what happens, second by second, and judged as the exporter judges it.

The counters move as those of the kernel do (sizes and timers of drivers/net/wireguard), the clock is a number.
"""

from __future__ import annotations

from tests.rows import SECOND, STATS, WALL, device, link, peer, snapshot
from wg_exporter.config.health import HealthLimits
from wg_exporter.health import Health
from wg_exporter.health.states import State
from wg_exporter.history.devices import changes
from wg_exporter.model import SOME_TIME, Backend, Outcome, SourceName
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import MtuReport, Probed, Verdict

LIMITS = HealthLimits()
LINKS_READ = Outcome(SourceName.LINKS, "", True, 0.0)
LINKS_UNREAD = Outcome(SourceName.LINKS, "", False, 0.0, "busy")
KEEPALIVE, INITIATION, RESPONSE = 32, 148, 92


class Judge(Health):
    """Judges one look after the other, and knows the devices of the looks before."""

    def __init__(self):
        super().__init__()
        self._known = {}

    def look(self, found, metas, probes, missed, limits, obstacles=None, sightings=None):
        self.found = devices = changes(self._known, found)
        self._known = {change.key: change.left for change in devices}
        known = obstacles or {}
        return self.update(
            devices, found, metas, probes, missed=missed, limits=limits, obstacles=known, sightings=sightings or {}
        )


class Tunnel:
    """One peer on wg0, and what is seen of it every `every` seconds from time 0 on."""

    def __init__(
        self, *, expected=True, keepalive=25, age=None, rx=10_000, tx=10_000, limits=LIMITS, every=5,
        backend=Backend.KERNEL, opaque=False,
    ):  # fmt: skip
        self.health, self.limits, self.every, self.backend, self.opaque = Judge(), limits, every, backend, opaque
        self.now = 0.0
        self.meta = PeerMeta("berlin", True, expected)
        self.row = peer(1, persistent_keepalive=keepalive, rx_bytes=rx, tx_bytes=tx)
        stamp = 0 if age is None else age if age == SOME_TIME else int((WALL - age) * SECOND)
        self.row = self.row._replace(last_handshake_ns=stamp)
        self.link = link()
        self.present, self.fresh, self.missed = True, True, True
        self.failed, self.outcomes = (), (LINKS_READ,)
        self.probed = self.obstacle = self.sighting = None
        self.changes = []
        self.wall_offset = 0.0
        self.look()

    def look(self):
        shown = (device(self.row, backend=self.backend, fresh=self.fresh, opaque=self.opaque),) if self.present else ()
        found = snapshot(
            *shown,
            at=self.now,
            wall=WALL + self.now + self.wall_offset,
            links=(self.link,) if self.link else (),
            failed=self.failed,
            outcomes=self.outcomes,
        )
        probes = {("", "wg0"): {self.row.public_key: self.probed}} if self.probed else {}
        missed = {("", "wg0")} if self.missed else set()
        obstacles = {("", "wg0"): {self.row.public_key: self.obstacle}} if self.obstacle else {}
        sightings = {("", "wg0"): {self.row.public_key: self.sighting}} if self.sighting else {}
        self.changes += self.health.look(
            found, lambda _: (self.meta,), probes, missed, self.limits, obstacles, sightings
        )

    def rx(self, number=0):
        self.row = self.row._replace(rx_bytes=self.row.rx_bytes + number)

    def tx(self, number=0):
        self.row = self.row._replace(tx_bytes=self.row.tx_bytes + number)

    def shake(self):
        self.row = self.row._replace(last_handshake_ns=int((WALL + self.now) * SECOND))
        self.tx(INITIATION)
        self.rx(RESPONSE)

    def go(self, seconds, each=lambda second: None):
        """So many seconds pass; `each` happens in every one of them."""
        for _ in range(int(seconds)):
            self.now += 1
            each(self.now)
            if self.now % self.every == 0 or self.health.suspicious:
                self.look()
        return self

    @property
    def judged(self):
        gone = self.health.gone()
        return gone[0].rows[0] if gone else self.health.of(device(self.row))[0]

    @property
    def state(self):
        return self.judged.state

    @property
    def reason(self):
        return self.judged.reason

    # --- what can happen in a second ---

    def keepalives(self, second):
        if second % self.row.persistent_keepalive == 0:
            self.tx(KEEPALIVE)

    def talk(self, _second):
        self.tx(1000)
        self.rx(1000)

    def call_in_vain(self, second):
        """An initiation every 5.2 s, and no answer."""
        if int(second / 5.2) != int((second - 1) / 5.2):
            self.tx(INITIATION)

    def send_in_vain(self, _second):
        self.tx(128)


def lively(**changes):
    """A peer expected up that was heard since the exporter started."""
    tunnel = Tunnel(age=10, **changes).go(10, lambda _: None)
    tunnel.rx(KEEPALIVE)
    tunnel.go(5)
    assert tunnel.state is State.UP
    return tunnel


class Echoes:
    """Small echoes, five seconds apart, of which the far side answers all but those that it is told to lose."""

    def __init__(self, tunnel, *, rtt=0.02):
        self.tunnel, self.rtt = tunnel, rtt
        self.sent = self.lost = 0
        self.rtt_sum = 0.0
        self.silent = None
        self.lose = lambda number: False
        self.verdict = Verdict.OK

    def __call__(self, second):
        if second % 5 == 2:
            self.sent += 1
            self.tunnel.tx(128)
            if self.lose(self.sent):
                self.lost += 1
                self.silent = self.silent or second
            else:
                self.silent = None
                self.rtt_sum += self.rtt
                self.tunnel.rx(128)
        stats = STATS._replace(sent=self.sent, lost=self.lost, rtt_sum=self.rtt_sum, silent_since=self.silent)
        report = MtuReport(self.verdict, 1420, None, None, 0, None, None, None, "", 0.0)
        self.tunnel.probed = Probed("10.0.0.1", stats, report)
