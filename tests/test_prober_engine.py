"""Real probes over loopback and through network namespaces: a - r - b, where r forwards.

The engine runs in the test's own namespace or opens its sockets in `a`, as the exporter does for devices elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import select
import socket
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from tests.lab import Lab, lab_prefix
from wg_exporter.config import ProbeSettings
from wg_exporter.linux.namespaces import Entrance
from wg_exporter.probed import SendError
from wg_exporter.prober.echo.book import EchoBook
from wg_exporter.prober.echo.track import EchoTarget
from wg_exporter.prober.wire import packet
from wg_exporter.prober.wire.engine import Engine, Order
from wg_exporter.prober.wire.packet import IcmpAnswer, IcmpKind
from wg_exporter.prober.wire.sockets import SO_RCVBUFFORCE, ProbeSocket, SocketKey, open_here, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wg_exporter.probed import ProbeStats

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)  # it would warn of missing routes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: raw sockets and network namespaces")

ALONE = """
import time
from wg_exporter.prober.wire.engine import Engine
from wg_exporter.prober.echo.book import EchoBook
from wg_exporter.prober.echo.track import EchoTarget
engine = Engine()
for n, address in enumerate(("127.0.0.1", "::1")):
    engine.put(EchoTarget(n, "", 1, address, 0.05))
end = time.monotonic() + 0.3
engine.run(lambda: time.monotonic() > end)
print([stats.up for stats in engine.stats().values()], open("/proc/self/status").read().split("CapEff:")[1].split()[0])
"""
LOOPBACK = 1  # the ifindex of lo, in every namespace
TOKEN = 0x1122334455667788
A, B, R = "192.0.2.1", "192.0.2.6", "192.0.2.2"
A6, B6, R6 = "2001:db8:a::1", "2001:db8:b::1", "2001:db8:a::2"


def aim(engine: Engine, targets: list[EchoTarget]) -> None:
    """Exactly these from now on."""
    before = {track.target.id: track.target for track in engine._book.tracks()}
    for one in targets:
        if before.pop(one.id, None) != one:
            engine.put(one)
    for name in before:
        engine.remove(name)


def open_in(netns: str, family: int, kind: int, protocol: int) -> socket.socket:
    """As the exporter enters namespaces: a thread does, and what it opens stays there."""

    def inside() -> socket.socket:
        if not netns:
            return socket.socket(family, kind, protocol)
        entrance = Entrance(netns, f"/run/netns/{netns}")
        entrance.enter()
        try:
            return socket.socket(family, kind, protocol)
        finally:
            entrance.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(inside).result()


class Caught:
    """An engine whose answers to orders are kept."""

    def __init__(self) -> None:
        self.answers: list[tuple[IcmpAnswer, float]] = []
        self.sockets: list[socket.socket] = []
        book = EchoBook(ProbeSettings(timeout=0.3), os.urandom)
        self.engine = Engine(book, other=lambda *answer: self.answers.append(answer), open_socket=self._open)

    def run(self, until: Callable[[], object], timeout: float = 30.0) -> None:
        end = time.monotonic() + timeout
        while not until():
            assert time.monotonic() < end, "it did not happen"
            self.engine.step(0.02)

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.engine.run(lambda: time.monotonic() > end)

    def order(self, netns: str, address: str, size: int, **fields: object) -> IcmpAnswer | SendError | None:
        """What comes back for one order: an answer, why it was not sent, None for silence of half a second."""
        self.answers.clear()
        failure = self.engine.send(Order(netns, ip_address(address).packed, size, 77, TOKEN, **fields))
        if failure:
            return failure
        end = time.monotonic() + 0.5
        self.run(lambda: self.answers or time.monotonic() > end)
        self.engine.step(0.0)  # we may have had no processor for so long
        return self.answers[0][0] if self.answers else None

    def stats(self, name: str) -> ProbeStats:
        return self.engine.stats()[name]

    def _open(self, *where: object) -> socket.socket:
        self.sockets.append(open_in(*where))
        return self.sockets[-1]


@pytest.fixture
def caught() -> Iterator[Caught]:
    caught = Caught()
    with contextlib.closing(caught.engine):
        yield caught


class Path:
    """a - r - b with IPv4 and IPv6; the link between r and b takes 1400 bytes."""

    def __init__(self, lab: Lab) -> None:
        self.a, self.r, self.b = (lab.namespace(name) for name in "arb")
        for namespace in (self.a, self.r, self.b):  # addresses usable at once, and no errors held back
            quick = ["net.ipv6.conf.default.accept_dad=0", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"]
            namespace.run(["sysctl", "-qw", *quick])
        self.to_r, _ = lab.link(self.a, self.r, f"{A}/30", f"{R}/30")
        self.r_to_b, self.b_to_r = lab.link(self.r, self.b, "192.0.2.5/30", f"{B}/30", mtu=1400)
        for namespace, device, address in (
            (self.a, self.to_r, f"{A6}/64"),
            (self.r, "to-a", f"{R6}/64"),
            (self.r, self.r_to_b, "2001:db8:b::2/64"),
            (self.b, self.b_to_r, f"{B6}/64"),
        ):
            namespace.ip("address", "add", address, "dev", device, "nodad")
        self.r.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        for namespace, gateway, gateway6 in ((self.a, R, R6), (self.b, "192.0.2.5", "2001:db8:b::2")):
            namespace.ip("route", "add", "default", "via", gateway)
            namespace.ip("-6", "route", "add", "default", "via", gateway6)
        self.netns = self.a.name
        self.ifindex = int(self.a.ip("-o", "link", "show", self.to_r).split(":")[0])


@pytest.fixture
def path(tmp_path) -> Iterator[Path]:
    with Lab(lab_prefix(), tmp_path / "lab") as lab:
        yield Path(lab)


def test_targets_on_loopback_are_answered_over_ipv4_and_ipv6(caught):
    targets = [EchoTarget(address, "", LOOPBACK, address, 0.1) for address in ("127.0.0.1", "127.9.8.7", "::1")]
    aim(caught.engine, targets)
    caught.run(lambda: all(stats.sent >= 3 for stats in caught.engine.stats().values()))
    for stats in caught.engine.stats().values():
        assert (stats.up, stats.lost, stats.duplicates, stats.late, stats.errors) == (True, 0, 0, 0, ())
        assert 0 < stats.rtt_min < 0.01
        assert sum(stats.buckets) == stats.sent


def test_without_a_device_nothing_is_sent_even_where_the_address_could_be_reached(caught):
    aim(caught.engine, [EchoTarget("a", "", 0, "127.0.0.1", 0.02)])
    caught.run(lambda: dict(caught.stats("a").errors).get(SendError.NO_DEVICE, 0) >= 3)
    caught.wait(0.4)
    assert (caught.stats("a").up, caught.stats("a").sent) == (False, 0)


def test_scapy_finds_nothing_wrong_with_what_went_over_the_wire(path, caught):
    """Whole packets as the far end sees them, after the kernel filled in what was left to it."""
    from scapy.layers.inet import ICMP, IP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

    with open_in(path.b.name, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as wire:
        wire.settimeout(0)
        aim(caught.engine, [EchoTarget(one, path.netns, path.ifindex, one, 0.1) for one in (B, B6)])
        caught.run(lambda: all(stats.up for stats in caught.engine.stats().values()))
        for address in (B, B6):
            caught.order(path.netns, address, 1399, ifindex=path.ifindex)
            caught.order(path.netns, address, 1399, ifindex=path.ifindex, port=33434)
        seen = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data = wire.recv(2000)
                seen.append((IPv6 if data[0] >> 4 == 6 else IP)(data))
    sizes = set()
    for one in seen:
        if one.src not in (A, A6) or not (ICMP in one or UDP in one or ICMPv6EchoRequest in one):
            continue
        sizes.add((one.version, len(one), type(one.payload).__name__))
        again = one.copy()
        if one.version == 4:
            assert (one.flags, one.len) == ("DF", len(one))
            del again[IP].chksum
        if ICMP in one:
            del again[ICMP].chksum
        elif ICMPv6EchoRequest in one:
            del again[ICMPv6EchoRequest].cksum
        elif one.version == 6:
            continue  # the kernel leaves UDP's checksum to the network card, which a veth hasn't
        assert bytes(again) == bytes(one)
    assert sizes == {
        (4, 48, "ICMP"), (4, 1399, "ICMP"), (4, 1399, "UDP"),
        (6, 64, "ICMPv6EchoRequest"), (6, 1399, "ICMPv6EchoRequest"), (6, 1399, "UDP"),
    }  # fmt: skip


def test_of_all_capabilities_net_raw_is_enough(anyone):
    command = ["setpriv", "--bounding-set", "-all,+net_raw", "--inh-caps", "-all", anyone.python, "-c", ALONE]
    env = {**os.environ, **anyone.env}
    done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[True, True] 0000000000002000", "")


def test_a_silent_target_is_lost_and_down(path, caught):
    path.b.run(["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1"])
    aim(caught.engine, [EchoTarget("b", path.netns, path.ifindex, B, 0.05)])
    caught.run(lambda: caught.stats("b").lost >= 3)
    stats = caught.stats("b")
    assert (stats.up, stats.errors) == (False, ())
    assert stats.sent == stats.lost >= 3


@pytest.mark.parametrize("address", [B, B6])
def test_targets_of_another_namespace_are_reached_through_it(path, caught, address):
    aim(caught.engine, [EchoTarget("b", path.netns, path.ifindex, address, 0.1)])
    caught.run(lambda: caught.stats("b").sent >= 3)
    assert (caught.stats("b").up, caught.stats("b").lost) == (True, 0)


def test_a_probe_leaves_by_its_own_device_where_two_have_the_same_addresses(tmp_path, caught):
    with Lab(lab_prefix(), tmp_path / "lab") as lab:
        hub, left, right = (lab.namespace(name) for name in ("hub", "left", "right"))
        lab.link(hub, left, "192.0.2.1/30", "192.0.2.2/30")
        lab.link(hub, right, "192.0.2.1/30", "192.0.2.2/30")
        right.run(["sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1"])
        index = {name: int(hub.ip("-o", "link", "show", name).split(":")[0]) for name in ("to-left", "to-right")}
        targets = [EchoTarget(name, hub.name, index[name], "192.0.2.2", 0.05) for name in index]
        aim(caught.engine, targets)
        caught.run(lambda: all(stats.sent >= 3 for stats in caught.engine.stats().values()))
        assert caught.stats("to-left").lost == 0
        assert caught.stats("to-right").lost == caught.stats("to-right").sent


def test_a_device_may_go_and_come_back_while_the_engine_runs(path, caught):
    target = EchoTarget("b", path.netns, path.ifindex, B, 0.05)
    aim(caught.engine, [target])
    caught.run(lambda: caught.stats("b").sent >= 3)
    path.a.ip("link", "set", path.to_r, "down")
    caught.run(lambda: dict(caught.stats("b").errors).keys() & {SendError.NO_DEVICE, SendError.NO_ROUTE})
    path.a.ip("link", "del", path.to_r)
    caught.run(lambda: dict(caught.stats("b").errors).get(SendError.NO_DEVICE, 0) >= 3)
    aim(caught.engine, [target._replace(ifindex=0)])
    caught.run(lambda: dict(caught.stats("b").errors).get(SendError.NO_DEVICE, 0) >= 6)
    assert not caught.stats("b").up
    path.a.ip("link", "add", path.to_r, "type", "veth", "peer", "name", "to-a", "netns", path.r.name)
    path.a.ip("address", "add", f"{A}/30", "dev", path.to_r)
    path.r.ip("address", "add", f"{R}/30", "dev", "to-a")
    path.a.ip("link", "set", path.to_r, "up")
    path.r.ip("link", "set", "to-a", "up")
    path.a.ip("route", "add", "default", "via", R)
    before = caught.stats("b")
    ifindex = int(path.a.ip("-o", "link", "show", path.to_r).split(":")[0])
    aim(caught.engine, [target._replace(ifindex=ifindex)])
    caught.run(lambda: caught.stats("b").up)
    after = caught.stats("b")
    assert after.up
    assert after.sent > before.sent > 0


def test_where_a_socket_may_not_be_opened_the_error_says_so_and_nothing_is_sent():
    opened: list[str] = []

    def refuse(netns: str, *_: int) -> socket.socket:
        opened.append(netns)
        raise PermissionError(errno.EPERM, "not for you")

    with contextlib.closing(Engine(open_socket=refuse)) as engine:
        aim(engine, [EchoTarget("a", "blue", LOOPBACK, "127.0.0.1", 0.02)])
        end = time.monotonic() + 0.3
        engine.run(lambda: time.monotonic() > end)
        stats = engine.stats()["a"]
    assert (stats.up, stats.sent, dict(stats.errors).keys()) == (False, 0, {SendError.NO_PERMISSION})
    assert opened == ["blue"]  # not once for each probe


def test_without_a_way_into_a_namespace_its_targets_have_no_device():
    with pytest.raises(OSError, match="no way into the namespace blue") as caught:
        open_here("blue", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    assert reason(caught.value) is SendError.NO_DEVICE


def test_a_namespace_that_is_forgotten_is_entered_anew(caught):
    aim(caught.engine, [EchoTarget("a", "", LOOPBACK, "127.0.0.1", 0.05)])
    caught.run(lambda: caught.stats("a").sent >= 2)
    (before,) = caught.engine.sockets._open.values()
    caught.engine.forget("")
    assert before.fileno() == -1
    then = caught.stats("a")
    caught.run(lambda: sum(caught.stats("a").buckets) >= sum(then.buckets) + 3)
    assert caught.stats("a").lost <= then.lost + 2  # at most those that were under way


@pytest.mark.parametrize(("address", "family"), [(B, "-4"), (B6, "-6")])
def test_a_probe_too_big_for_the_path_is_told_the_next_hops_mtu(path, caught, address, family):
    answer = caught.order(path.netns, address, 1450, ifindex=path.ifindex)
    assert answer is not None
    assert (answer.kind, answer.mtu, answer.sequence, answer.token, answer.size) == (
        IcmpKind.TOO_BIG, 1400, 77, TOKEN, 1450,
    )  # fmt: skip
    assert answer.target == ip_address(address).packed
    assert answer.sender == ip_address(R if family == "-4" else R6).packed
    passed = caught.order(path.netns, address, 1400, ifindex=path.ifindex)
    assert passed is not None
    assert (passed.kind, passed.size, passed.token, passed.fragment) == (IcmpKind.REPLY, 1400, TOKEN, 0)


def test_over_ipv4_a_probe_too_big_for_the_path_leaves_the_routes_pmtu_cache_clean(path, caught):
    assert caught.order(path.netns, B, 1450, ifindex=path.ifindex).kind is IcmpKind.TOO_BIG
    assert caught.order(path.netns, B, 1450, ifindex=path.ifindex, port=33434).kind is IcmpKind.TOO_BIG
    assert caught.order(path.netns, B, 1450).kind is IcmpKind.TOO_BIG
    assert "mtu" not in path.a.ip("route", "get", B)
    with contextlib.suppress(Exception):  # the same by hand, to show that the cache would tell
        path.a.run(["ping", "-c1", "-W1", "-M", "do", "-s", "1422", B])
    assert "mtu 1400" in path.a.ip("route", "get", B)


@pytest.mark.parametrize("address", [B, B6])
def test_the_size_of_the_fragments_of_an_answer_is_told(path, caught, address):
    family, network = ("-6", "2001:db8:a::/64") if ":" in address else ("-4", "192.0.2.0/30")
    gateway = "2001:db8:b::2" if ":" in address else "192.0.2.5"
    path.b.ip(family, "route", "add", network, "via", gateway, "mtu", "lock", "1300")
    answer = caught.order(path.netns, address, 1400, ifindex=path.ifindex)
    assert answer is not None
    assert (answer.kind, answer.size) == (IcmpKind.REPLY, 1400)
    assert 1293 <= answer.fragment <= 1300


@pytest.mark.parametrize(("address", "code"), [(B, 3), (B6, 4)])
def test_a_datagram_to_a_closed_port_is_refused_with_its_token(path, caught, address, code):
    answer = caught.order(path.netns, address, 1400, ifindex=path.ifindex, port=33434)
    assert answer is not None
    assert (answer.kind, answer.code, answer.protocol) == (IcmpKind.UNREACHABLE, code, packet.UDP)
    assert (answer.sequence, answer.token, answer.size) == (33434, TOKEN, 1400)
    assert answer.sender == answer.target == ip_address(address).packed


@pytest.mark.parametrize(("address", "hop"), [(B, R), (B6, R6)])
def test_a_probe_whose_ttl_runs_out_names_the_hop(path, caught, address, hop):
    answer = caught.order(path.netns, address, 100, ifindex=path.ifindex, ttl=1)
    assert answer is not None
    assert (answer.kind, answer.sender, answer.token) == (IcmpKind.TIME_EXCEEDED, ip_address(hop).packed, TOKEN)


@pytest.mark.parametrize("address", [B, B6])
def test_a_probe_too_big_for_its_device_is_not_sent(path, caught, address):
    assert caught.order(path.netns, address, 1501, ifindex=path.ifindex) is SendError.TOO_BIG
    assert caught.order(path.netns, address, 1501, ifindex=path.ifindex, port=9) is SendError.TOO_BIG


def test_an_error_about_one_target_does_not_spoil_the_next_probe_to_another(path, caught):
    path.r.ip("route", "add", "unreachable", "198.51.100.0/24")
    for n in range(5):
        assert caught.order(path.netns, f"198.51.100.{n}", 100, ifindex=path.ifindex).kind is IcmpKind.UNREACHABLE
        assert caught.order(path.netns, B, 100, ifindex=path.ifindex).kind is IcmpKind.REPLY


def test_an_order_carries_its_mark(path, caught):
    path.a.ip("rule", "add", "fwmark", "0x51", "table", "51")
    path.a.ip("route", "add", "unreachable", "default", "table", "51")
    assert caught.order(path.netns, B, 100).kind is IcmpKind.REPLY
    assert caught.order(path.netns, B, 100, mark=0x51) is SendError.NO_ROUTE


def test_the_time_of_an_answer_is_when_the_kernel_got_it_not_when_it_was_read(caught):
    """The kernel begins to stamp a moment after it was asked to (net/core/dev.c, netstamp_work); on a busy machine the
    first answers arrive before that, and get their stamp when they are read.
    """

    def late(sequence: int) -> float:
        """By how much the time of an answer is behind its arrival."""
        del caught.answers[:]
        sent = time.monotonic()
        caught.engine.send(Order("", ip_address("127.0.0.1").packed, 100, sequence, TOKEN))
        ready, _, _ = select.select(caught.sockets, [], [], 30)
        arrived = time.monotonic()
        assert ready
        time.sleep(0.2)
        caught.run(lambda: caught.answers)
        assert sent <= caught.answers[0][1]
        return caught.answers[0][1] - arrived

    assert any(late(sequence) < 0.1 for sequence in range(1, 20))


def test_an_impossible_size_is_refused(caught):
    with pytest.raises(ValueError, match="a probe has"):
        caught.engine.send(Order("", ip_address("127.0.0.1").packed, 20, 1, TOKEN))


TAG = 0x7A69


def reply_v4(ident: int, token: int, sequence: int = 0, tag: int = TAG) -> bytes:
    """An echo reply by scapy from 127.0.0.9, to be sent with IP_HDRINCL."""
    from scapy.layers.inet import ICMP, IP

    body = token.to_bytes(8, "big") + tag.to_bytes(2, "big")
    return bytes(IP(src="127.0.0.9", dst="127.0.0.1") / ICMP(type=0, id=ident, seq=sequence) / body)


def error_v4(ident: int, mtu: int, tag: int = TAG, quoted: int = 64) -> bytes:
    from scapy.layers.inet import ICMP, IP

    quote = bytes(packet.echo_v4(ip_address("127.0.0.9").packed, 1400, ident, 0, TOKEN, tag=tag))[:quoted]
    return bytes(IP(src="127.0.0.9", dst="127.0.0.1") / ICMP(type=3, code=4, nexthopmtu=mtu) / quote)


@pytest.fixture
def strangers() -> Iterator[Callable[[bytes], None]]:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as stranger:
        yield lambda data: stranger.sendto(data, ("127.0.0.1", 0))


def opened() -> contextlib.closing[ProbeSocket]:
    return contextlib.closing(ProbeSocket(SocketKey("", ipv6=False), TAG, 50_000, open_here))


def test_the_kernel_keeps_from_us_what_has_not_our_tag(strangers):
    with opened() as sock:
        for tag in (0, 1, TAG ^ 1, TAG ^ 0x8000, 0x697A):
            strangers(reply_v4(0x1234, TOKEN, tag=tag))
            strangers(error_v4(0x1235, 1300, tag=tag))
        strangers(reply_v4(0x1234, TOKEN)[:36])  # too short for a tag
        strangers(error_v4(0x1234, 1300))  # small echoes need no errors
        strangers(error_v4(0x1234, 1300, quoted=28))
        with pytest.raises(BlockingIOError):
            sock._raw.recv(9999)
        strangers(reply_v4(0x1234, TOKEN))
        strangers(reply_v4(0xFFFF, TOKEN))
        strangers(error_v4(0x1235, 1300))
        found = [sock.receive() for _ in range(4)]
    kinds = [(arrival.answer.kind, arrival.answer.ident, arrival.answer.mtu) for arrival in found[:3] if arrival]
    assert kinds == [(IcmpKind.REPLY, 0x1234, 0), (IcmpKind.REPLY, 0xFFFF, 0), (IcmpKind.TOO_BIG, 0x1235, 1300)]
    assert found[3] is None
    assert found[0] is not None
    assert abs(found[0].stamp - time.time()) < 60
    assert found[0].ifindex == LOOPBACK


@pytest.mark.parametrize("quoted", [28, 36, 37])
def test_an_error_that_quotes_too_little_for_the_tag_comes_through(strangers, quoted):
    with opened() as sock:
        strangers(error_v4(0x1235, 1300, tag=0, quoted=quoted))
        arrival = sock.receive()
    assert arrival is not None
    assert (arrival.answer.ident, arrival.answer.token) == (0x1235, TOKEN if quoted >= 36 else None)


def test_a_reply_with_a_wrong_checksum_is_nothing(strangers):
    with opened() as sock:
        damaged = bytearray(reply_v4(0x2000, TOKEN))
        damaged[-1] ^= 1
        strangers(bytes(damaged))
        assert sock.receive() is None
        strangers(reply_v4(0x2000, TOKEN))
        assert sock.receive() is not None


def test_replies_of_strangers_who_know_all_but_the_token_change_nothing(caught, strangers):
    target = EchoTarget("a", "", LOOPBACK, "127.0.0.9", 0.1)
    aim(caught.engine, [target])
    caught.run(lambda: caught.stats("a").sent >= 2)
    (sock,) = caught.engine.sockets._open.values()
    (track,) = caught.engine._book.tracks()
    aim(caught.engine, [target._replace(paused=True)])
    caught.wait(0.05)
    before = caught.stats("a")
    for sequence in range(10):
        strangers(reply_v4(track.ident, TOKEN + sequence, sequence, sock.tag))
        strangers(reply_v4(track.ident, 0, sequence, sock.tag))
    caught.wait(0.1)
    assert caught.stats("a") == before


def test_a_reply_that_comes_twice_is_a_duplicate(caught):
    aim(caught.engine, [EchoTarget("a", "", LOOPBACK, "127.0.0.9", 0.1)])
    listener = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with listener, socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as again:
        listener.settimeout(2)
        caught.run(lambda: caught.stats("a").sent >= 1)
        while (data := listener.recv(999))[20] != 0 or data[12:16] != bytes((127, 0, 0, 9)):
            pass
        again.sendto(data, ("127.0.0.1", 0))
        caught.run(lambda: caught.stats("a").duplicates)
    assert (caught.stats("a").duplicates, caught.stats("a").late, caught.stats("a").lost) == (1, 0, 0)


def test_a_control_pipe_wakes_the_loop_and_may_change_the_targets():
    reading, writing = os.pipe()
    done: list[float] = []
    with contextlib.closing(Engine()) as engine:

        def changed() -> None:
            done.append(time.monotonic())
            os.read(reading, 1)
            aim(engine, [EchoTarget("a", "", LOOPBACK, "127.0.0.1", 0.05)])

        engine.add_reader(reading, changed)
        os.write(writing, b"x")
        begun = time.monotonic()
        engine.step(60.0)
        assert done
        assert done[0] - begun < 30, "it would have slept"
        engine.run(lambda: bool(engine.stats()) and engine.stats()["a"].up)
        engine.remove_reader(reading)
    os.close(reading)
    os.close(writing)


def test_whoever_polls_is_called_when_it_wants_to_be():
    called: list[float] = []

    def poll(now: float) -> float:
        called.append(now)
        return now + 0.05

    with contextlib.closing(Engine(poll=poll)) as engine:
        while len(called) <= 10:
            engine.step(60.0)
    waits = [after - before for before, after in itertools.pairwise(called)]
    assert min(waits) > 0.049  # epoll counts in milliseconds
    assert max(waits) < 30, "the loop would have slept for a minute"


def test_the_worst_scheduling_delay_is_told_once(caught):
    begun = time.monotonic()
    aim(caught.engine, [EchoTarget("a", "", LOOPBACK, "127.0.0.1", 0.05)])
    caught.run(lambda: caught.stats("a").sent)
    caught.engine.scheduling_delay()
    time.sleep(0.2)
    caught.engine.step()
    assert 0.1 < caught.engine.scheduling_delay() < time.monotonic() - begun
    assert caught.engine.scheduling_delay() == 0.0


def test_the_sockets_of_a_namespace_without_targets_are_closed(caught):
    aim(caught.engine, [EchoTarget("a", "", LOOPBACK, "127.0.0.1", 0.05)])
    caught.run(lambda: caught.stats("a").sent)
    assert len(caught.engine.sockets) == 1
    aim(caught.engine, [])
    assert len(caught.engine.sockets) == 0


def test_a_target_that_moves_leaves_no_socket_open_behind_it(caught):
    for address in ("127.0.0.1", "::1"):
        aim(caught.engine, [EchoTarget("a", "", LOOPBACK, address, 0.05)])
        caught.run(lambda: caught.stats("a").sent)
        assert len(caught.engine.sockets) == 1


def test_round_trips_agree_with_what_the_kernel_stamped_on_the_wire(caught):
    """A packet socket sees each request and each reply go by, with the kernel's stamp of both."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
        wire.bind(("lo", 0))
        wire.setsockopt(socket.SOL_SOCKET, 35, 1)
        wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)  # for what others send over loopback meanwhile
        wire.settimeout(0)
        aim(caught.engine, [EchoTarget("a", "", LOOPBACK, "127.77.0.1", 0.02)])
        caught.run(lambda: caught.stats("a").sent >= 50)
        stamps: dict[tuple[int, int], float] = {}
        with contextlib.suppress(BlockingIOError):
            while True:
                data, control, _, _ = wire.recvmsg(200, 64)
                if b"\x7f\x4d\0\1" in data[26:34] and data[23] == packet.ICMP:
                    seconds, nanoseconds = struct.unpack("@ll", control[0][2])
                    stamps.setdefault((data[34], *struct.unpack_from("!H", data, 40)), seconds + nanoseconds * 1e-9)
    true = [stamps[0, number] - stamps[8, number] for kind, number in stamps if kind == 8 and (0, number) in stamps]
    stats = caught.stats("a")
    assert len(true) >= stats.sent >= 50
    # The prober takes its stamp before a probe leaves: never later than the kernel, and seldom much earlier.
    assert stats.rtt_sum > sum(true[: stats.sent]) - 1e-6 * stats.sent
    assert -1e-6 < stats.rtt_min - min(true) < 100e-6
