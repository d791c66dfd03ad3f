"""Many peers over one engine: on loopback, and through namespaces in which a cable stands for the tunnel."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import Lab, lab_prefix
from tests.probers import KeyedProber
from wg_exporter.config import MtuProbe, ProbeSettings
from wg_exporter.probed import ProbePeer, SendError, Verdict
from wg_exporter.prober import driver
from wg_exporter.prober.mtu.probes import Layer
from wg_exporter.prober.wire.sockets import SO_MARK, open_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wg_exporter.model import PeerKey
    from wg_exporter.probed import Probed
    from wg_exporter.prober.driver import Prober

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: raw sockets and network namespaces")

LOOPBACK = 1
A, B, R = "192.0.2.1", "192.0.2.6", "192.0.2.2"
A6, B6 = "2001:db8:a::1", "2001:db8:b::1"


def peer(number: int = 1, **fields) -> ProbePeer:
    """A peer whose tunnel and underlay are both the loopback device."""
    row = ProbePeer(("", "lo", f"k{number}"), LOOPBACK, 1420, "127.0.0.1", False, "127.0.0.1", 0, "", False, 0.2)
    return row._replace(**fields)


class Running:
    """A prober in the test's thread, and all that it has told."""

    def __init__(self, settings: ProbeSettings | None = None, namespaces: dict[str, str] | None = None) -> None:
        self.packets: list[tuple[str, str, Layer, bytes, float]] = []
        self.told: dict[PeerKey, Probed] = {}
        self.prober = KeyedProber(
            settings or ProbeSettings(timeout=0.5), namespaces or {}, tap=lambda *packet: self.packets.append(packet)
        )

    def step(self) -> None:
        self.prober.step(0.02)
        self.told.update(self.prober.told(1000))

    def until(self, true: Callable[[], object], within: float = 30.0) -> None:
        end = time.monotonic() + within
        while not true():
            assert time.monotonic() < end, f"it did not happen: {self.told}"
            self.step()

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()

    def verdict(self, one: ProbePeer) -> Verdict | None:
        told = self.told.get(one.key)
        return told.mtu.verdict if told is not None and told.mtu is not None else None

    def sent(self, layer: Layer) -> list[bytes]:
        return [data for direction, _, where, data, _ in self.packets if (direction, where) == ("sent", layer)]


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    with contextlib.closing(running.prober):
        yield running


class Path:
    """a - r - b; the link between r and b takes 1400 bytes, and everything is reached over r."""

    def __init__(self, lab: Lab) -> None:
        self.a, self.r, self.b = (lab.namespace(name) for name in "arb")
        for namespace in (self.a, self.r, self.b):
            quick = ["net.ipv6.conf.default.accept_dad=0", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"]
            namespace.run(["sysctl", "-qw", *quick])
        self.device, _ = lab.link(self.a, self.r, f"{A}/30", f"{R}/30")
        self.narrow, last = lab.link(self.r, self.b, "192.0.2.5/30", f"{B}/30", mtu=1400)
        for namespace, device, address in (
            (self.a, self.device, f"{A6}/64"),
            (self.r, "to-a", "2001:db8:a::2/64"),
            (self.r, self.narrow, "2001:db8:b::2/64"),
            (self.b, last, f"{B6}/64"),
        ):
            namespace.ip("address", "add", address, "dev", device, "nodad")
        self.r.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        for namespace, gateway, gateway6 in ((self.a, R, "2001:db8:a::2"), (self.b, "192.0.2.5", "2001:db8:b::2")):
            namespace.ip("route", "add", "default", "via", gateway)
            namespace.ip("-6", "route", "add", "default", "via", gateway6)
        self.ifindex = int(self.a.ip("-o", "link", "show", self.device).split(":")[0])
        self.namespaces = {"a": f"/run/netns/{self.a.name}"}

    def peer(self, target: str = B, **fields) -> ProbePeer:
        key = ("a", self.device, target)
        return peer(key=key, ifindex=self.ifindex, target=target, endpoint=target, underlay="a", **fields)


@pytest.fixture
def path(tmp_path) -> Iterator[Path]:
    with Lab(lab_prefix(), tmp_path / "lab") as lab:
        yield Path(lab)


@pytest.fixture
def through(path) -> Iterator[Running]:
    running = Running(ProbeSettings(timeout=0.5), path.namespaces)
    with contextlib.closing(running.prober):
        yield running


def test_a_healthy_peer_is_ok_at_once(running):
    running.prober.set_peers([peer()])
    running.until(lambda: running.verdict(peer()) is Verdict.OK and running.told[peer().key].stats.up)
    report = running.told[peer().key].mtu
    assert (report.interface_mtu, report.path_inner, report.needed) == (1420, 1420, 1480)
    assert report.path_outer > 1480
    assert abs(report.checked - time.time()) < 60


def test_what_did_not_change_is_not_told_again_and_its_report_is_the_same_object(running):
    calm = peer(interval=3600.0)
    running.prober.set_peers([peer(), peer(2)])
    running.until(lambda: running.verdict(calm) is Verdict.OK and running.verdict(peer(2)) is Verdict.OK)
    running.prober.set_peers([calm, peer(2)])
    running.wait(1.5)
    before = running.told[peer(2).key]
    assert calm.key not in {key for rows in running.prober.changes(10) for key in rows}
    running.told.clear()
    running.until(lambda: peer(2).key in running.told)
    assert running.told[peer(2).key].mtu is before.mtu
    assert running.told[peer(2).key].stats != before.stats
    assert calm.key not in running.told


def test_changes_are_told_once_and_in_portions(running):
    peers = [peer(n, interval=3600.0) for n in range(5)]
    running.prober.set_peers([one._replace(interval=0.1) for one in peers])
    end = time.monotonic() + 30
    while any(running.prober.busy(one.key) for one in peers) or not all(
        path.echoed for path in running.prober._paths.values()
    ):
        assert time.monotonic() < end
        running.prober.step(0.02)
    running.prober.set_peers(peers)
    first, second = running.prober.changes(3), running.prober.changes(3)
    assert (len(first.echoes), len(second.echoes)) == (3, 2)
    assert first.echoes.keys() | second.echoes.keys() == {one.key for one in peers}
    assert first.reports.keys() == first.echoes.keys()
    assert running.prober.changed == 0
    assert running.prober.changes(3) == ({}, {})


@pytest.mark.parametrize("target", [B, B6])
def test_a_link_that_is_too_small_is_found_to_the_byte_and_the_router_is_named(path, through, target):
    one = path.peer(target, mtu=1500)
    through.prober.set_peers([one])
    through.until(lambda: through.verdict(one) and not through.prober.busy(one.key))
    report = through.told[one.key].mtu
    assert report.path_outer == 1400
    assert report.shrinks_at == (R if target == B else "2001:db8:a::2")
    assert report.verdict is Verdict.INNER_PATH_SMALLER  # as the cable is the tunnel too, r is inside of it
    assert report.path_inner == 1400


def test_a_device_that_takes_less_than_it_is_said_to_is_named_with_its_mtu(path, through):
    one = path.peer(mtu=1600)
    through.prober.set_peers([one])
    through.until(lambda: through.verdict(one) is Verdict.INTERFACE_ABOVE_ROUTE)
    assert through.prober.findings(one.key).refused == 1500


def test_an_mtu_that_no_packet_has_is_refused_and_does_no_harm(running):
    running.prober.set_peers([peer(mtu=100_000), peer(2)])
    running.until(lambda: running.verdict(peer()) is Verdict.INTERFACE_ABOVE_ROUTE)
    running.until(lambda: running.verdict(peer(2)) is Verdict.OK)


def test_full_size_packets_that_vanish_are_a_hole_and_the_direction_is_found(path, through):
    path.r.run(["nft", "add table ip t; add chain ip t f { type filter hook forward priority 0; }"])
    path.r.run(["nft", "add rule ip t f ip daddr 192.0.2.6 meta length gt 1300 drop"])
    one = path.peer(mtu=1400)
    through.prober.set_peers([one])
    through.until(lambda: through.verdict(one) is Verdict.BLACKHOLE and not through.prober.busy(one.key), within=60)
    assert through.told[one.key].mtu.path_inner == 1296
    assert through.prober.findings(one.key).direction == "towards"


def test_a_peer_that_goes_is_checked_at_once_and_again_when_it_comes_back(path):
    running = Running(ProbeSettings(timeout=0.3, mtu=MtuProbe(inner_interval=3600.0)), path.namespaces)
    with contextlib.closing(running.prober):
        one = path.peer(mtu=1340)
        running.prober.set_peers([one])
        running.until(lambda: running.verdict(one) is Verdict.OK and running.told[one.key].stats.up)
        path.r.ip("link", "set", path.narrow, "down")
        running.until(lambda: not running.told[one.key].stats.up)
        running.until(lambda: running.prober.findings(one.key).quiet)
        path.r.ip("link", "set", path.narrow, "up")
        running.until(lambda: running.told[one.key].stats.up)
        running.until(lambda: running.verdict(one) is Verdict.OK and not running.prober.findings(one.key).quiet)


def test_a_peer_without_a_device_is_left_alone_but_keeps_its_statistics(running):
    running.prober.set_peers([peer(), peer(3, ifindex=0), peer(4, target=""), peer(5, mtu=0)])
    running.until(lambda: running.verdict(peer()) is Verdict.OK and running.told[peer().key].stats.sent >= 2)
    assert list(running.told) == [peer().key]
    running.prober.set_peers([peer(ifindex=0)])
    running.wait(0.3)
    sent = running.told[peer().key].stats.sent
    assert sent >= 2
    count = len(running.packets)
    running.wait(0.5)
    assert len(running.packets) == count
    running.prober.set_peers([peer()])
    running.until(lambda: running.told[peer().key].stats.sent > sent)


def test_a_peer_without_an_endpoint_is_probed_inside_only_and_without_haste(path, through):
    path.r.run(["nft", "add table ip t; add chain ip t f { type filter hook forward priority 0; }"])
    path.r.run(["nft", "add rule ip t f ip daddr 192.0.2.6 meta length gt 1300 drop"])
    one = path.peer(mtu=1340)._replace(endpoint="")
    through.prober.set_peers([one])
    through.until(lambda: through.verdict(one) is Verdict.BLACKHOLE and not through.prober.busy(one.key), within=60)
    through.prober.search(one.key)
    through.prober.find_hop(one.key)
    through.until(lambda: not through.prober.busy(one.key))
    path.r.run(["nft", "flush table ip t"])
    through.prober.search(one.key)
    through.until(lambda: through.verdict(one) is Verdict.OK)
    assert through.sent(Layer.OUTER) == []
    assert through.told[one.key].mtu.path_outer is None
    used = time.process_time()
    through.wait(1.0)
    assert time.process_time() - used < 0.3


def test_a_new_mtu_is_judged_anew(path, through):
    one = path.peer(mtu=1340)
    through.prober.set_peers([one])
    through.until(lambda: through.verdict(one) is Verdict.OK)
    through.prober.set_peers([one._replace(mtu=1500)])
    through.until(lambda: through.verdict(one) is Verdict.INNER_PATH_SMALLER)
    assert through.told[one.key].mtu.interface_mtu == 1500


def test_a_peer_that_is_gone_is_forgotten(running):
    running.prober.set_peers([peer(), peer(2)])
    running.until(lambda: running.verdict(peer()) and running.verdict(peer(2)))
    running.prober.set_peers([peer(2)])
    running.told.clear()
    running.wait(0.5)
    assert set(running.told) == {peer(2).key}
    with pytest.raises(KeyError):
        running.prober.findings(peer().key)


def test_the_tap_sees_whole_packets_of_both_layers_and_directions(path, through):
    from scapy.layers.inet import ICMP, IP, UDP
    from scapy.layers.inet6 import IPv6

    path.r.run(["nft", "add table ip t; add chain ip t f { type filter hook forward priority 0; }"])
    path.r.run(["nft", "add rule ip t f ip daddr 192.0.2.6 ip protocol icmp meta length gt 1300 drop"])
    peers = [path.peer(B, mtu=1400), path.peer(B6, mtu=1400)]
    through.prober.set_peers(peers)
    through.until(lambda: through.verdict(peers[0]) is Verdict.FILTERED_LARGE, within=60)
    through.until(lambda: not through.prober.busy(peers[0].key), within=60)
    seen = set()
    for direction, netns, layer, data, when in through.packets:
        whole = (IPv6 if data[0] >> 4 == 6 else IP)(data)
        assert netns == "a"
        assert abs(when - time.time()) < 30
        assert len(whole) == (whole.plen + 40 if whole.version == 6 else whole.len)
        assert (whole.dst if direction == "sent" else whole.src) in (B, B6, R, "2001:db8:a::2")
        kind = "UDP" if UDP in whole and ICMP not in whole else "ICMP"
        seen.add((direction, layer.value, whole.version, kind))
    assert {(d, layer, v, "ICMP") for d in ("sent", "received") for layer in ("inner", "outer") for v in (4, 6)} <= seen
    assert ("sent", "inner", 4, "UDP") in seen


def test_a_namespace_that_is_made_anew_is_probed_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "NAMESPACE_INTERVAL", 0.2)
    with Lab(lab_prefix(), tmp_path / "lab") as lab:
        first = lab.namespace("n")
        running = Running(ProbeSettings(timeout=0.3), {"n": f"/run/netns/{first.name}"})
        with contextlib.closing(running.prober):
            one = peer(key=("n", "lo", "k"), underlay="n")
            running.prober.set_peers([one])
            running.until(lambda: running.told.get(one.key) and running.told[one.key].stats.up)
            lab_ip(first.name, "delete")
            running.until(lambda: SendError.NO_DEVICE in dict(running.told[one.key].stats.errors))
            lab.namespace("n")
            running.until(lambda: running.told[one.key].stats.up)
            running.wait(0.6)
            lost = running.told[one.key].stats.lost
            running.wait(0.5)
            assert (running.told[one.key].stats.up, running.told[one.key].stats.lost) == (True, lost)


def lab_ip(name: str, verb: str) -> None:
    from wg_exporter.cli.netlab import run

    run(["ip", "netns", verb, name])


def test_what_is_asked_for_is_done_now_and_found(path):
    running = Running(ProbeSettings(timeout=0.3, mtu=MtuProbe(3600.0, 3600.0)), path.namespaces)
    with contextlib.closing(running.prober):
        one = path.peer(mtu=1400)  # needs 1460 outside
        running.prober.set_peers([one])
        running.until(lambda: running.verdict(one) and not running.prober.busy(one.key))
        running.prober.search(one.key)
        running.prober.find_hop(one.key)
        assert running.prober.busy(one.key)
        running.until(lambda: not running.prober.busy(one.key))
        assert running.prober.findings(one.key).outer == 1400
        assert running.prober.shrink(one.key) == (R, 1, True)


class Opened:
    """All sockets that were opened."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def __call__(self, netns: str, family: int, kind: int, protocol: int) -> socket.socket:
        self.sockets.append(open_here(netns, family, kind, protocol))
        return self.sockets[-1]

    def marks(self) -> list[int]:
        """The fwmarks of those that are open."""
        still = [one for one in self.sockets if one.fileno() >= 0]
        return sorted(one.getsockopt(socket.SOL_SOCKET, SO_MARK) for one in still)


def test_a_socket_is_closed_when_no_peer_has_its_fwmark_any_more():
    opened = Opened()
    with contextlib.closing(KeyedProber(ProbeSettings(timeout=0.3), open_socket=opened)) as prober:
        first, second = peer(fwmark=51), peer(2, fwmark=51)
        prober.set_peers([first, second])
        probed(prober, first, second)
        assert opened.marks() == [0, 51]
        prober.set_peers([first._replace(fwmark=52), second])
        probed(prober, first)
        assert opened.marks() == [0, 51, 52]
        prober.set_peers([first._replace(fwmark=52), second._replace(fwmark=52)])
        assert opened.marks() == [0, 52]
        probed(prober, first, second)
        prober.update({}, [first.key])
        assert opened.marks() == [0, 52]
        prober.update({}, [second.key])
        assert opened.marks() == []
        prober.set_peers([first])
        probed(prober, first)
        assert opened.marks() == [0, 51]


def probed(prober: Prober, *peers: ProbePeer) -> None:
    """Until the outer path of each is known."""
    for one in peers:
        prober.search(one.key)
    end = time.monotonic() + 30
    while any(prober.busy(one.key) or prober.findings(one.key).outer is None for one in peers):
        assert time.monotonic() < end
        prober.step(0.02)


def test_sockets_that_were_prepared_stay_open_whoever_comes_and_goes():
    opened = Opened()
    with contextlib.closing(KeyedProber(ProbeSettings(timeout=0.3), open_socket=opened)) as prober:
        prober.prepare()
        for _ in range(2):
            prober.set_peers([peer()])
            probed(prober, peer())
            prober.set_peers([])
        assert len(opened.sockets) == 2
        assert opened.marks() == [0, 0]


def test_only_two_searches_run_at_once_and_all_come_to_an_end(path):
    running = Running(ProbeSettings(timeout=0.3), path.namespaces)
    peers = [path.peer(f"192.0.2.{n}", mtu=1340)._replace(endpoint=B) for n in range(128, 134)]
    for one in peers:
        path.b.ip("address", "add", f"{one.target}/32", "dev", "lo")
    path.r.ip("route", "add", "192.0.2.128/25", "via", B)
    with contextlib.closing(running.prober):
        running.prober.set_peers(peers)
        running.until(lambda: all(running.verdict(one) is Verdict.OK for one in peers))
        path.r.run(["nft", "add table ip t; add chain ip t f { type filter hook forward priority 0; }"])
        path.r.run(["nft", "add rule ip t f ip daddr 192.0.2.128/25 meta length gt 1300 drop"])
        running.packets.clear()
        for one in peers:
            running.prober.search(one.key)
        overlap, order = 0, []
        end = time.monotonic() + 60
        while any(running.prober.busy(one.key) for one in peers):
            assert time.monotonic() < end
            running.packets.clear()
            running.wait(0.1)
            sizes: dict[bytes, int] = {}
            for data in running.sent(Layer.INNER):
                if data[9] == 1 and len(data) not in (48, 100, 1340, 1296, 1297):  # the last two are of P4
                    sizes[data[16:20]] = sizes.get(data[16:20], 0) + 1
            overlap = max(overlap, len(sizes))
            order += [ip for ip in sizes if ip not in order]
        assert len(order) == len(peers)
        assert overlap <= 3  # one may end and another begin within a look
        assert {running.prober.findings(one.key).inner for one in peers} == {1296}
