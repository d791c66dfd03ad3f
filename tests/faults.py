"""The faults that people report most, made real: one story in which every tunnel of a hub breaks in its own way.

The exporter watches as shipped. Then all is mended. Where it takes long until a fault can be known, it begins earlier.
The device whose daemon hangs has an exporter of its own, for each of its looks waits for that daemon.
`python -m bench.faults` writes what was seen of each into the table of docs/health.md.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from tests.lab import eventually, start_exporter
from tests.lab.exporting import scrape
from tests.lab.hub import HubDevice, Plan, exporter_config

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Exporter, Lab, Namespace
    from tests.lab.exporting import Metrics
    from tests.lab.hub import Site

WELL = ("berlin", "idle")
DATA = "@th,64,8 4"  # a UDP payload that begins with 4: WireGuard's data, and no handshake (protocol, 5.4)
BROKEN_FOR = 55.0  # seconds
QUIET_FOR = 90.0
BULK = """\
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for _ in range(20):
        try:
            sock.sendto(bytes(1300), (sys.argv[1], 9))
        except OSError:
            pass
    time.sleep(0.01)
"""  # 20 Mbit/s to an address


class Fault(NamedTuple):
    """A tunnel that breaks, and what it has to be called, from `earliest` to `latest` seconds later.

    The bounds are for a machine that is busy with other tests, a few seconds wider than elsewhere. `also` are reasons
    that are true as well, and may be given first.
    """

    peer: str
    words: str
    state: str
    reason: str
    earliest: float
    latest: float
    also: tuple[str, ...] = ()


FAULTS = (
    Fault("cut", "Its cable is cut.", "down", "handshake_unanswered", 24, 34, ("data_unanswered",)),
    # Where both sides begin a handshake at the same time, the first ones may come to nothing.
    Fault(
        "mute",
        "Handshakes pass, data does not: a filter against VPNs.",
        "down",
        "data_unanswered",
        24,
        34,
        ("handshake_unanswered",),
    ),
    Fault("quiet", "The same of a peer that is not probed, while users send data.", "down", "data_unanswered", 24, 86),
    Fault("deaf", "It hears nothing from here, and goes on sending.", "down", "one_way", 24, 40),
    Fault(
        "loud", "The same while users send bulk data from there, which hides its handshakes.", "down", "one_way", 24, 45
    ),
    Fault("barred", "Nothing leaves this host for it: its own output filter.", "down", "not_sent", 24, 36),
    Fault(
        "sunk",
        "The same behind WireGuard's counters, as on kernel devices: they count what the filter then drops.",
        "down",
        "not_sent",
        24,
        45,
        ("data_unanswered", "handshake_unanswered"),
    ),
    Fault("stuck", "The daemon of its interface hangs.", "down", "unreadable", 24, 38),
    Fault("removed", "It left its device, and should be there.", "down", "missing", 24, 36),
    Fault("printer", "The host that is probed behind it is switched off.", "degraded", "target_silent", 5, 35),
    Fault("walled", "This host's filter refuses the probes.", "degraded", "probes_blocked", 0, 20),
)
BEFORE = "broken"  # the fault of `mute`, from before the exporter starts
SITES = (*(fault.peer for fault in FAULTS if fault.peer != "stuck"), BEFORE, *WELL)


class Seen(NamedTuple):
    """A peer's state and reason from `at` on."""

    at: float
    state: str
    reason: str


class Watch:
    """Looks at what is served, five times a second, and remembers what changed of each peer, by the monotonic clock."""

    def __init__(self, *exporters: Exporter) -> None:
        self.seen: dict[str, list[Seen]] = defaultdict(list)
        self._exporters = exporters
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def now(self, peer: str) -> str:
        """The state of a peer, empty while it has none."""
        return self.seen[peer][-1].state if self.seen[peer] else ""

    def _run(self) -> None:
        while not self._over.wait(0.2):
            for exporter in self._exporters:
                self._look(scrape(exporter), time.monotonic())

    def _look(self, metrics: Metrics, at: float) -> None:
        reasons = {labels["peer"]: labels["reason"] for labels, _ in metrics.all("wireguard_peer_reason")}
        for labels, holds in metrics.all("wireguard_peer_state"):
            if holds:
                peer = labels["peer"]
                found = labels["state"], reasons.get(peer, "")
                if not self.seen[peer] or self.seen[peer][-1][1:] != found:
                    self.seen[peer].append(Seen(at, *found))


class Story(NamedTuple):
    """What was seen of each peer; when each broke, and when all were mended."""

    seen: dict[str, list[Seen]]
    broke: dict[str, float]
    mended: float
    log: str

    def while_broken(self, peer: str) -> list[Seen]:
        """What was said of it while it was broken, in seconds since it broke; the first is what was said before."""
        begun = self.broke[peer]
        before = [row for row in self.seen[peer] if row.at <= begun][-1:]
        rows = before + [row for row in self.seen[peer] if begun < row.at < self.mended]
        return [row._replace(at=row.at - begun) for row in rows]

    def afterwards(self, peer: str) -> list[Seen]:
        return [row for row in self.seen[peer] if row.at >= self.mended]


def told(lab: Lab, directory: Path) -> Story:
    """Build the hub, break everything, mend it. Takes two minutes, most of them waiting."""
    return _Scene(lab).play(directory)


class _Scene:
    """The hub and its sites."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.hub = lab.namespace("hub")
        self.main = HubDevice(lab, self.hub, "main", 0, [Plan(name) for name in SITES])
        self.hung = HubDevice(lab, self.hub, "hung", 1, [Plan("stuck")])
        self.sites = self.main.sites | self.hung.sites
        self.broke: dict[str, float] = {}
        _no_data(self.sites[BEFORE])
        for name in ("deaf", "barred"):
            self._ping(name, "10.77.0.1", self.sites[name].namespace)
        self._ping("quiet", self.sites["quiet"].address, self.hub)

    def play(self, directory: Path) -> Story:
        keys = {name: self.sites[name].keys.public for name in ("quiet", "removed")}
        more = (
            f"peers:\n- {{public_key: {keys['quiet']}, probe: false}}\n"
            f"- {{public_key: {keys['removed']}, name: removed}}\n"
            f"expect: [{{public_key: {keys['removed']}, interface: {self.main.name}, state: up}}]\n"
        )
        configs = [
            exporter_config(self.lab, self.hub, [self.main]) + more,
            exporter_config(self.lab, self.hub, [self.hung]),
        ]
        with contextlib.ExitStack() as stack:
            exporters = [stack.enter_context(start_exporter(directory=directory, config=text)) for text in configs]
            watch = Watch(*exporters)
            stack.callback(watch.stop)
            well = self.sites.keys() - {BEFORE}
            eventually(lambda: {name for name in well if watch.now(name) == "up"} == well, within=40, every=0.5)
            self._break_quiet()
            bulk = [sys.executable, "-c", BULK, "10.77.0.1"]
            self.lab.start(bulk, log="bulk", namespace=self.sites["loud"].namespace)
            eventually(lambda: watch.now(BEFORE), within=40, every=0.5)
            self._break()
            time.sleep(max(BROKEN_FOR, self.broke["quiet"] + QUIET_FOR - time.monotonic()))
            mended = time.monotonic()
            self._mend()
            again = {fault.peer for fault in FAULTS}
            eventually(lambda: {name for name in again if watch.now(name) == "up"} == again, within=60, every=0.5)
            watch.stop()
            return Story(watch.seen, self.broke, mended, "".join(exporter.log() for exporter in exporters))

    def _break_quiet(self) -> None:
        self.broke["quiet"] = time.monotonic()
        _no_data(self.sites["quiet"])

    def _break(self) -> None:
        sites, begun = self.sites, time.monotonic()
        self.broke |= {fault.peer: begun for fault in FAULTS if fault.peer != "quiet"}
        sites["cut"].cut()
        _no_data(sites["mute"])
        for name in ("deaf", "loud"):
            _drop(sites[name].namespace, "input", f"iifname != {sites[name].device.name} meta l4proto udp")
        _drop(sites["printer"].namespace, "input", f"iifname {sites['printer'].device.name} icmp type echo-request")
        _drop(self.hub, "output", f"ip daddr {_outer(sites['barred'])} meta l4proto udp")
        _drop(self.hub, "egress", "meta l4proto udp", device="to-sunk")
        _drop(self.hub, "output", f"oifname {self.main.name} ip daddr {sites['walled'].address} icmp type echo-request")
        self.hub.run(["wg", "set", self.main.name, "peer", sites["removed"].keys.public, "remove"])
        self._daemon(signal.SIGSTOP)

    def _mend(self) -> None:
        self._daemon(signal.SIGCONT)
        self.sites["cut"].open()
        names = ("mute", "quiet", "deaf", "loud", "printer")
        for namespace in (self.hub, *(self.sites[name].namespace for name in names)):
            namespace.run(["nft", "delete", "table", "inet", "fault"])
        self.hub.run(["nft", "delete", "table", "netdev", "fault"])
        self.hub.run(["wg", "syncconf", self.main.name, str(self.main.device.conf)])

    def _daemon(self, sent: signal.Signals) -> None:
        assert self.hung.device.process is not None
        self.hung.device.process.send_signal(sent)

    def _ping(self, name: str, address: str, namespace: Namespace) -> None:
        self.lab.start(["ping", "-n", "-q", "-i", "1", address], log=f"ping-{name}", namespace=namespace)


def _drop(namespace: Namespace, hook: str, match: str, *, device: str = "") -> None:
    """Drop what matches in this namespace; at one link of it, behind all else, with `device`."""
    family, where = ("netdev", f"{hook} device {device}") if device else ("inet", hook)
    script = (
        f"add table {family} fault\nadd chain {family} fault {hook} {{ type filter hook {where} priority 0; }}\n"
        f"add rule {family} fault {hook} {match} drop\n"
    )
    namespace.run(["nft", "-f", "-"], stdin=script)


def _no_data(site: Site) -> None:
    """What a filter against VPNs does: handshakes pass, data doesn't."""
    for hook in ("input", "output"):
        _drop(site.namespace, hook, f"meta l4proto udp {DATA}")


def _outer(site: Site) -> str:
    """The outer address of a site."""
    links = site.namespace.ip("-4", "-o", "address", "show")
    return next(word.partition("/")[0] for word in links.split() if word.startswith("198.18."))
