"""The faults that people report most, made real: what each tunnel is called, and after how many seconds.

One story, told once: a hub, whose exporter watches it as shipped, and a site for each fault. All break at the same
time, and each in its own way. Then they are mended. The device whose daemon hangs has an exporter of its own, for each
of its looks waits for that daemon.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import eventually, start_exporter
from tests.lab.exporting import Metrics, lab_or_skip, scrape
from tests.lab.hub import HubDevice, Plan, exporter_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Exporter
    from tests.lab.hub import Site

pytestmark = pytest.mark.lab

SITES = ("berlin", "mute", "broken", "deaf", "printer", "barred", "walled", "idle")
BROKEN_FOR = 50.0  # seconds
DATA = "@th,64,8 4"  # a UDP payload that begins with 4: WireGuard's data, and no handshake (protocol, 5.4)


class Seen(NamedTuple):
    """A peer's state and reason from `at` on, in seconds after everything broke."""

    at: float
    state: str
    reason: str


class Watch:
    """Looks at what is served, five times a second, and remembers what changed of each peer."""

    def __init__(self, *exporters: Exporter) -> None:
        self.seen: dict[str, list[Seen]] = defaultdict(list)
        self.begun = time.monotonic()
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
                self._look(scrape(exporter), time.monotonic() - self.begun)

    def _look(self, metrics: Metrics, at: float) -> None:
        reasons = {labels["peer"]: labels["reason"] for labels, _ in metrics.all("wireguard_peer_reason")}
        for labels, holds in metrics.all("wireguard_peer_state"):
            if holds:
                peer = labels["peer"]
                found = labels["state"], reasons.get(peer, "")
                if not self.seen[peer] or self.seen[peer][-1][1:] != found:
                    self.seen[peer].append(Seen(at, *found))


class Story(NamedTuple):
    seen: dict[str, list[Seen]]
    mended: float  # seconds after everything broke
    log: str

    def while_broken(self, peer: str) -> list[Seen]:
        """What was said of it while it was broken, from the first second on."""
        before = [row for row in self.seen[peer] if row.at <= 0][-1:]
        return before + [row for row in self.seen[peer] if 0 < row.at < self.mended]

    def afterwards(self, peer: str) -> list[Seen]:
        return [row for row in self.seen[peer] if row.at >= self.mended]


def rule(namespace: object, hook: str, match: str) -> None:
    """Drop what matches in this namespace."""
    script = (
        f"add table inet fault\nadd chain inet fault {hook} {{ type filter hook {hook} priority 0; }}\n"
        f"add rule inet fault {hook} {match} drop\n"
    )
    namespace.run(["nft", "-f", "-"], stdin=script)


def no_data(site: Site) -> None:
    """What a filter against VPNs does: handshakes pass, data doesn't."""
    for hook in ("input", "output"):
        rule(site.namespace, hook, f"meta l4proto udp {DATA}")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("faults")
    with lab_or_skip(directory / "lab") as lab:
        hub = lab.namespace("hub")
        main = HubDevice(lab, hub, "main", 0, [Plan(name) for name in SITES])
        hung = HubDevice(lab, hub, "hung", 1, [Plan("stuck")])
        sites = main.sites | hung.sites
        no_data(sites["broken"])
        for name in ("deaf", "barred"):
            lab.start(["ping", "-n", "-q", "-i", "1", "10.77.0.1"], log=f"ping-{name}", namespace=sites[name].namespace)
        configs = [exporter_config(lab, hub, [device]) for device in (main, hung)]
        with (
            start_exporter(directory=directory, config=configs[0]) as exporter,
            start_exporter(directory=directory, config=configs[1]) as other,
        ):
            watch = Watch(exporter, other)
            try:
                well = sites.keys() - {"broken"}
                eventually(lambda: {name for name in well if watch.now(name) == "up"} == well, within=40, every=0.5)
                eventually(lambda: watch.now("broken"), within=40, every=0.5)
                watch.begun, shift = time.monotonic(), watch.begun - time.monotonic()
                for rows in watch.seen.values():
                    rows[:] = [row._replace(at=row.at + shift) for row in rows]
                no_data(sites["mute"])
                rule(sites["deaf"].namespace, "input", f"iifname != {sites['deaf'].device.name} meta l4proto udp")
                inside = f"iifname {sites['printer'].device.name} icmp type echo-request"
                rule(sites["printer"].namespace, "input", inside)
                rule(hub, "output", f"ip daddr {far(sites['barred'])} meta l4proto udp")
                rule(hub, "output", f"oifname {main.name} ip daddr {sites['walled'].address} icmp type echo-request")
                assert hung.device.process is not None
                hung.device.process.send_signal(signal.SIGSTOP)
                time.sleep(BROKEN_FOR)
                mended = time.monotonic() - watch.begun
                hung.device.process.send_signal(signal.SIGCONT)
                for namespace in (hub, sites["mute"].namespace, sites["deaf"].namespace, sites["printer"].namespace):
                    namespace.run(["nft", "delete", "table", "inet", "fault"])
                again = ("mute", "deaf", "barred", "stuck", "printer", "walled")
                eventually(lambda: all(watch.now(name) == "up" for name in again), within=60, every=0.5)
            finally:
                watch.stop()
            yield Story(watch.seen, mended, exporter.log() + other.log())


def far(site: Site) -> str:
    """The outer address of a site."""
    links = site.namespace.ip("-4", "-o", "address", "show")
    return next(word.partition("/")[0] for word in links.split() if word.startswith("198.18."))


@pytest.mark.parametrize(
    ("peer", "reason", "earliest", "latest"),
    [
        pytest.param("mute", "data_unanswered", 24, 34, id="handshakes-pass-and-data-does-not"),
        pytest.param("deaf", "one_way", 24, 40, id="it-hears-nothing-and-goes-on-sending"),
        pytest.param("barred", "not_sent", 24, 36, id="nothing-leaves-this-host"),
        pytest.param("stuck", "unreadable", 24, 38, id="the-daemon-hangs"),
    ],
)
def test_a_tunnel_that_is_broken_is_down_in_time_and_for_the_right_reason(
    story: Story, peer: str, reason: str, earliest: float, latest: float
) -> None:
    # A few seconds more than where nothing else keeps the machine busy, as other tests do here.
    rows = story.while_broken(peer)
    down = next(row for row in rows if row.state == "down")
    # Where both sides begin a handshake at the same time, the first ones may come to nothing.
    assert down.reason in {reason, "handshake_unanswered"}
    assert rows[-1].reason == reason
    assert earliest <= down.at <= latest
    # Whoever goes on sending is heard while its target is silent, and nothing else is said on the way down.
    before = [(row.state, row.reason) for row in rows[: rows.index(down)]]
    assert before in ([("up", "")], [("up", ""), ("degraded", "target_silent")])
    assert {row.state for row in rows[rows.index(down) :]} == {"down"}


@pytest.mark.parametrize("peer", ["mute", "deaf", "barred", "stuck"])
def test_a_tunnel_that_is_mended_is_up_again_and_stays_so(story: Story, peer: str) -> None:
    assert [row.state for row in story.afterwards(peer) if row.state != "down"] == ["up"]


def test_a_tunnel_that_was_broken_before_the_start_is_down_too(story: Story) -> None:
    last = story.seen["broken"][-1]
    assert (last.state, last.reason) == ("down", "data_unanswered")


@pytest.mark.parametrize(
    ("peer", "reason", "latest"),
    [
        pytest.param("printer", "target_silent", 35, id="a-host-that-is-switched-off-pages-nobody"),
        pytest.param("walled", "probes_blocked", 20, id="probes-that-this-host-refuses-are-no-proof"),
    ],
)
def test_what_is_no_fault_of_the_tunnel_is_degraded_and_never_down(
    story: Story, peer: str, reason: str, latest: float
) -> None:
    _, first, *later = story.while_broken(peer)
    assert (first.state, first.reason) == ("degraded", reason)
    assert first.at <= latest
    assert later == []


@pytest.mark.parametrize("peer", ["berlin", "idle"])
def test_whoever_is_well_stays_up(story: Story, peer: str) -> None:
    assert {(row.state, row.reason) for row in story.seen[peer]} == {("up", "")}


def test_each_of_them_has_a_line_in_the_log_with_what_was_seen(story: Story) -> None:
    downs = {}
    for line in story.log.splitlines():
        if "peer changed" in line and ("after=down" in line or "after=degraded" in line):
            downs[line.split("peer=")[1].split()[0]] = line
    assert "unanswered for" in downs["mute"]
    assert "starts handshakes again and again" in downs["deaf"]
    assert "no_permission" in downs["walled"]
    assert "neither its daemon nor any probe answers" in downs["stuck"]
