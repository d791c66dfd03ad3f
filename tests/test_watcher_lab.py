"""What the watcher sees of real handshakes, over real paths with real faults."""

from __future__ import annotations

import contextlib
import ctypes
import pathlib
import socket
import subprocess
import threading
import time

import pytest

from tests import wires
from tests.lab import CLONE_NEWNET
from tests.lab.paths import PORT, Path
from tests.lab.watching import Watching, near, rule
from tests.wires import public_key
from wg_exporter.cli.netlab import LabError, keypair
from wg_exporter.sighted import WatchPeer

pytestmark = pytest.mark.lab

OUTER = ("ipv4", "ipv6")


def knock(path, wait=1.0):
    """One packet into the tunnel from the near side, which begins a handshake."""
    return path.ping(path.target("ipv4"), wait=wait)


def knock_back(path):
    """One from the far side."""
    subprocess.run(
        path.b.inside(["ping", "-n", "-c", "1", "-W", "1", path.near_target("ipv4")]), capture_output=True, check=False
    )


def packet_sockets(namespace):
    """Those that are open in a namespace (proc(5))."""
    return len(namespace.run(["cat", "/proc/net/packet"]).splitlines()) - 1


def inside(namespace, work):
    """What `work` returns, called in the namespace."""
    found = []

    def there():
        libc = ctypes.CDLL(None, use_errno=True)
        with pathlib.Path(f"/run/netns/{namespace.name}").open() as file:
            assert libc.setns(file.fileno(), CLONE_NEWNET) == 0
        found.append(work())

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()
    return found[0]


def tell(namespace, payload, to, port=PORT, source=0):
    """Send a datagram from a namespace."""

    def send():
        with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            if source:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("", source))
            return sock.sendto(payload, (to, port))

    return inside(namespace, send)


# --- what passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outer", OUTER)
def test_a_handshake_that_we_begin_is_seen_from_end_to_end(lab, outer):
    path = Path(lab, outer=outer)
    with Watching(path) as watching:
        watching.while_(lambda: knock(path))
        row = watching.row
        assert (row.initiations_sent, row.responses_received, row.answered) == (1, 1, 1)
        assert (row.initiations_received, row.responses_sent, row.misdirected, row.missed) == (0, 0, 0, False)
        assert [(one.address, one.port, one.interface) for one in row.senders] == [(path.endpoint, PORT, "to-r")]
        assert path.near.handshakes()[path.far_keys.public] > 0


def test_so_is_one_that_the_peer_begins(lab):
    path = Path(lab)
    knock(path)
    with Watching(path) as watching:
        path.b.run(["wg", "set", path.far.name, "peer", path.near_keys.public, "persistent-keepalive", "1"])
        path.b.run(["wg", "set", path.far.name, "peer", path.near_keys.public, "remove"])
        path.b.run(
            ["wg", "set", path.far.name, "peer", path.near_keys.public, "allowed-ips", "10.0.0.1/32", "endpoint",
             f"192.0.2.1:{PORT}"]
        )  # fmt: skip
        watching.while_(lambda: knock_back(path))
        row = watching.row
        assert (row.initiations_received, row.responses_sent, len(row.taken_at)) == (1, 1, 1)
        assert len(row.initiation) == 148


def test_data_never_reaches_the_watcher(lab):
    path = Path(lab)
    knock(path)
    with Watching(path) as watching:
        took = []
        place = watching.watcher._places[path.a.name]
        take = place.book.take
        place.book.take = lambda captured, now: (took.append(captured), take(captured, now))
        watching.while_(lambda: path.a.run(["ping", "-q", "-c", "50", "-i", "0.01", "-s", "1000", path.target("ipv4")]))
        assert took == []


# --- filters of this host ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outer", OUTER)
def test_a_response_is_seen_though_an_input_filter_drops_it(lab, outer):
    path = Path(lab, outer=outer)
    rule(path.a, "input", f"udp dport {PORT} drop")
    with Watching(path) as watching:
        watching.while_(lambda: knock(path))
        assert watching.row.answered == 1
        assert path.near.handshakes()[path.far_keys.public] == 0


def test_an_initiation_is_seen_though_rp_filter_drops_it_and_it_is_not_taken(lab):
    path = Path(lab)
    path.a.run(["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.to-r.rp_filter=1"])
    path.a.ip("route", "del", "default")
    path.a.ip("route", "add", "unreachable", "203.0.113.0/30")
    with Watching(path) as watching:
        watching.while_(lambda: tell(path.b, wires.initiation(path.near_keys.public), "192.0.2.1", source=PORT + 1))
        assert watching.callers[path.a.name, path.near.name][0].for_us
        names, values = path.a.run(["grep", "^TcpExt", "/proc/net/netstat"]).splitlines()
        assert int(dict(zip(names.split(), values.split(), strict=True))["IPReversePathFilter"]) > 0


@pytest.mark.parametrize("hook", ["output", "postrouting"])
def test_nothing_is_seen_leaving_where_a_filter_of_this_host_drops_it(lab, hook):
    path = Path(lab)
    rule(path.a, hook, f"udp sport {PORT} drop")
    with Watching(path) as watching:
        watching.while_(lambda: knock(path))
        assert (watching.row.initiations_sent, watching.row.missed) == (0, False)


def test_nor_where_it_is_dropped_as_late_as_at_the_device(lab):
    path = Path(lab)
    rule_at = "add table netdev fault\nadd chain netdev fault out { type filter hook egress device to-r priority 0; }\n"
    path.a.run(["nft", "-f", "-"], stdin=f"{rule_at}add rule netdev fault out udp sport {PORT} drop\n")
    with Watching(path) as watching:
        watching.while_(lambda: knock(path))
        assert watching.row.initiations_sent == 0


def test_what_arrives_is_seen_before_a_filter_at_the_device(lab):
    path = Path(lab)
    rule_at = "add table netdev fault\nadd chain netdev fault in { type filter hook ingress device to-r priority 0; }\n"
    path.a.run(["nft", "-f", "-"], stdin=f"{rule_at}add rule netdev fault in udp dport {PORT} drop\n")
    with Watching(path) as watching:
        watching.while_(lambda: knock(path))
        assert watching.row.answered == 1


# --- who refuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outer", "kind", "code"), [("ipv4", 3, 3), ("ipv6", 1, 4)])
def test_a_far_side_without_a_daemon_refuses_the_port(lab, outer, kind, code):
    path = Path(lab, outer=outer)
    path.far.process.kill()
    path.far.process.wait()
    with Watching(path) as watching:
        watching.while_(lambda: knock(path))
        (refusal,) = watching.row.refusals
        assert (refusal.by, refusal.type, refusal.code, refusal.times, refusal.proven) == (
            path.endpoint, kind, code, 1, 1,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("outer", "how", "kind", "code"),
    [
        ("ipv4", "icmp type admin-prohibited", 3, 13),
        ("ipv4", "icmp type net-prohibited", 3, 9),
        ("ipv4", "icmp type host-unreachable", 3, 1),
        ("ipv6", "icmpv6 type admin-prohibited", 1, 1),
    ],
)
def test_a_router_that_prohibits_says_who_it_is(lab, outer, how, kind, code):
    path = Path(lab, outer=outer)
    rule(path.s, "forward", f"meta l4proto udp reject with {how}")
    with Watching(path) as watching:
        watching.while_(lambda: knock(path))
        (refusal,) = watching.row.refusals
        assert (refusal.by, refusal.type, refusal.code, refusal.proven) == (path.hop(2), kind, code, 1)


def test_a_host_that_nobody_answers_for_is_refused_by_the_router_before_it(lab):
    path = Path(lab)
    path.b.ip("link", "set", "to-s", "down")
    with Watching(path) as watching:
        watching.while_(lambda: knock(path, wait=4))
        watching.until(lambda: 1 in watching.rows and watching.row.refusals)
        (refusal,) = watching.row.refusals
        assert (refusal.by, refusal.type, refusal.code, refusal.proven) == (path.hop(2), 3, 1, 1)


def test_a_filter_here_that_rejects_is_refused_by_this_host_itself(lab):
    path = Path(lab)
    rule(path.a, "output", f"udp sport {PORT} reject with icmp type admin-prohibited")
    with Watching(path) as watching:
        watching.while_(lambda: knock(path))
        assert watching.row.initiations_sent == 0
        assert {(one.by, one.code, one.proven) for one in watching.row.refusals} <= {("192.0.2.1", 13, 0)}


# --- keys -------------------------------------------------------------------------------------------------------------


def test_initiations_for_another_key_of_this_host_are_misdirected(lab):
    """The far side was not told of a new key."""
    path = Path(lab)
    knock(path)
    new = keypair()
    private = lab.write("new.key", f"{new.private}\n")
    path.a.run(["wg", "set", path.near.name, "private-key", str(private)])
    with Watching(path, near(path, device_key=new.public)) as watching:
        path.b.run(
            ["wg", "set", path.far.name, "peer", path.near_keys.public, "remove"],
        )
        path.b.run(
            ["wg", "set", path.far.name, "peer", path.near_keys.public, "allowed-ips", "10.0.0.1/32", "endpoint",
             f"192.0.2.1:{PORT}"]
        )  # fmt: skip
        watching.while_(lambda: knock_back(path))
        row = watching.row
        assert (row.misdirected, row.initiations_received, row.taken_at) == (1, 0, ())


def test_a_stranger_is_a_caller_and_believed_nothing(lab):
    path = Path(lab)
    with Watching(path) as watching:
        for payload in (wires.initiation(path.near_keys.public), wires.response(path.near_keys.public)):
            watching.while_(lambda payload=payload: tell(path.s, payload, "192.0.2.1"))
        (first, second) = watching.callers[path.a.name, path.near.name]
        assert {one.sender.address for one in (first, second)} == {"198.51.100.2"}
        assert first.for_us
        assert watching.row.initiations_received == watching.row.answered == 0


# --- other networks ---------------------------------------------------------------------------------------------------


def bridged(path):
    """The near host's cable is a port of a bridge, which has the address, in a VLAN of it."""
    for line in (
        "address flush dev to-r",
        "link add br0 type bridge",
        "link set to-r master br0",
        "link set br0 up",
        "address add 192.0.2.1/30 dev br0",
        "route add default via 192.0.2.2",
    ):
        path.a.ip(*line.split())


def test_copies_of_a_packet_on_a_bridge_count_once_and_on_the_interface_with_the_address(lab):
    path = Path(lab)
    try:
        bridged(path)
    except LabError as error:
        pytest.skip(f"this kernel has no bridges: {error}")
    with Watching(path) as watching:
        watching.while_(lambda: knock(path, wait=2))
        row = watching.row
        assert (row.initiations_sent, row.answered, row.responses_received) == (1, 1, 1)
        assert [(one.interface, one.times) for one in row.senders] == [("br0", 1)]


def test_a_socket_in_another_namespace_than_the_device_is_watched_where_it_is(lab):
    """wireguard-go was started in `a`, and its device moved to `inner`."""
    path = Path(lab)
    inner = lab.namespace("inner")
    path.a.ip("link", "set", path.near.name, "netns", inner.name)
    inner.ip("address", "add", "10.0.0.1/24", "dev", path.near.name)
    inner.ip("link", "set", path.near.name, "up")
    peer = near(path, key=(inner.name, path.near.name, path.far_keys.public))
    with Watching(path, peer) as watching:
        watching.while_(
            lambda: subprocess.run(
                inner.inside(["ping", "-n", "-c", "1", "-W", "1", "10.0.0.2"]), capture_output=True, check=False
            )
        )
        assert watching.row.answered == 1


def test_a_tunnel_in_a_tunnel_is_told_apart_by_ports_and_endpoints(lab):
    """The outer packets of a second device go through the first one, which is not the second one's peer."""
    path = Path(lab)
    knock(path)
    keys = keypair(), keypair()
    ends = ((path.a, "a9", 0, "10.0.0.2"), (path.b, "b9", 1, "10.0.0.1"))
    for namespace, name, number, endpoint in ends:
        conf = f"[Interface]\nPrivateKey = {keys[number].private}\nListenPort = 7777\n[Peer]\n"
        conf += f"PublicKey = {keys[1 - number].public}\nAllowedIPs = 10.9.0.0/24\nEndpoint = {endpoint}:7777\n"
        lab.wireguard(namespace, name, conf, [f"10.9.0.{number + 1}/24"], mtu=1300)
    inner = WatchPeer(
        (path.a.name, f"{lab.prefix}a9", keys[1].public), path.a.name, "10.0.0.2:7777", 7777, keys[0].public
    )
    with Watching(path, near(path), inner) as watching:
        watching.while_(lambda: path.ping("10.9.0.2", wait=2))
        assert (watching.rows[2].initiations_sent, watching.rows[2].answered) == (1, 1)
        assert watching.rows[1].initiations_sent == 0


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_thousands_of_peers_share_one_socket_that_is_closed_with_the_last_window(lab):
    path = Path(lab)
    many = [
        near(path, key=(path.a.name, path.near.name, public_key(0)), endpoint=f"203.0.113.9:{n}") for n in range(5000)
    ]
    assert packet_sockets(path.a) == 0
    with Watching(path, near(path), *many) as watching:
        assert packet_sockets(path.a) == 1
        watching.while_(lambda: knock(path))
        assert watching.row.answered == 1
        assert len(watching.rows) == 5001
        place = watching.watcher._places[path.a.name]
        place.book.end(time.monotonic())
        watching.until(lambda: not watching.watcher.open)
        assert packet_sockets(path.a) == 0
        assert not watching.row.open


def test_nothing_is_open_before_anybody_is_watched_and_after_the_prober_closed(lab):
    path = Path(lab)
    watching = Watching(path)
    watching.prober.step(0.1)
    assert packet_sockets(path.a) == 0
    with watching:
        assert packet_sockets(path.a) == 1
    assert packet_sockets(path.a) == 0


def test_a_namespace_that_was_made_anew_ends_the_window(lab):
    path = Path(lab)
    with Watching(path) as watching:
        watching.watcher.forget(path.a.name, time.monotonic())
        watching.step(0.1)
        assert not watching.row.open
        assert packet_sockets(path.a) == 0


def test_a_namespace_that_there_is_not_is_a_problem_and_no_sighting(lab):
    path = Path(lab)
    watching = Watching(path, near(path, underlay="nowhere"))
    watching.watcher.watch({1: (watching.peers[0], 30.0)}, time.monotonic())
    watching.step(0.1)
    assert "no packet socket in nowhere" in watching.watcher.problem
    assert (watching.rows, watching.watcher.open) == ({}, False)
    watching.prober.close()


def test_a_flood_of_made_up_messages_is_bounded_and_told(lab):
    path = Path(lab)
    packets = [wires.initiation(path.near_keys.public, sender=number) for number in range(15_000)]

    def flood():
        def send():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for payload in packets:
                    with contextlib.suppress(OSError):
                        sock.sendto(payload, ("192.0.2.1", PORT))

        inside(path.s, send)

    with Watching(path) as watching:
        flood()
        watching.step(1.5)
        caller = watching.callers[path.a.name, path.near.name][0]
        assert caller.sender.times < len(packets)
        assert watching.row.missed
        assert watching.row.initiations_received == 0
