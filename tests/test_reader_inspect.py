"""A look at this host for one peer: what is decoded, whom it concerns, how long it may take; and in real namespaces."""

from __future__ import annotations

import os
import socket
import string
import struct
import threading
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import FakeHost, FakeTime, conf_file, declared, device, key, link, peer, snapshot
from tests.serving import eventually
from wg_exporter.config import Config
from wg_exporter.inspected import Inspected, Neighbour, PathKind, PortOwner
from wg_exporter.linux.netlink import DecodeError
from wg_exporter.model import Backend
from wg_exporter.reader.inspect import look, neighbours, ports, proc
from wg_exporter.reader.inspect.background import MOST, Inspector
from wg_exporter.reader.inspect.subject import subject

PEER = ("", "wg0", key(1))

inspect = partial(look.inspect, deadline=30.0)

NETSTAT = """\
TcpExt: SyncookiesSent IPReversePathFilter TCPTimeouts
TcpExt: 0 17 4
IpExt: InNoRoutes InTruncatedPkts
IpExt: 1 0
"""
SNMP = """\
Icmp: InMsgs InErrors
Icmp: 3 0
Udp: InDatagrams NoPorts InErrors
Udp: 2111 5 0
UdpLite: InDatagrams NoPorts
UdpLite: 9 9
"""
SNMP6 = "Ip6InReceives                   \t12\nUdp6InDatagrams                 \t31\n"
UDP = b"""\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  257: 00000000:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0
  258: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
"""


# --- what /proc says --------------------------------------------------------------------------------------------------


@pytest.fixture
def net(tmp_path):
    for name, text in (("netstat", NETSTAT), ("snmp", SNMP), ("snmp6", SNMP6)):
        (tmp_path / name).write_text(text)
    (tmp_path / "udp").write_bytes(UDP)
    return tmp_path


def test_counters_are_found_by_their_group_and_name(net):
    assert proc.reverse_path_drops(net) == 17
    assert proc.udp_received(net) == 2111
    assert proc.udp_received(net, ipv6=True) == 31
    assert proc.pairs(NETSTAT, "IpExt", "InNoRoutes") == 1


def test_a_counter_that_is_not_there_is_not_known(net, tmp_path):
    assert proc.pairs(NETSTAT, "TcpExt", "InNoRoutes") is None
    assert proc.pairs("TcpExt: A IPReversePathFilter\nTcpExt: 1\n", "TcpExt", "IPReversePathFilter") is None
    assert proc.pairs("TcpExt: IPReversePathFilter\nTcpExt: -3\n", "TcpExt", "IPReversePathFilter") is None
    assert proc.reverse_path_drops(tmp_path / "none") is None
    assert proc.udp_received(tmp_path / "none", ipv6=True) is None


@given(st.text(string.printable), st.text(string.printable, max_size=8))
def test_no_text_of_proc_is_an_error(text, name):
    for found in (proc.pairs(text, "TcpExt", name), proc.single(text, name)):
        assert found is None or found >= 0


def settings(path, **values):
    for name, value in values.items():
        (path / name).mkdir()
        (path / name / "rp_filter").write_text(f"{value}\n")
    return path


def test_of_two_settings_of_rp_filter_the_larger_one_holds(tmp_path):
    conf = settings(tmp_path, all=1, eth0=0, wg0=2)
    assert proc.rp_filter("eth0", conf) == 1
    assert proc.rp_filter("wg0", conf) == 2
    assert proc.rp_filter("gone", conf) is None
    assert proc.rp_filter("../all", conf) is None


def test_outer_packets_may_come_in_by_any_interface_but_the_tunnel(tmp_path):
    conf = settings(tmp_path, all=0, default=1, lo=1, eth0=0, eth1=2, wg0=1)
    assert proc.strictest("wg0", conf) == proc.LOOSE
    assert proc.strictest("eth1", conf) == proc.STRICT
    assert proc.strictest("", tmp_path / "none") is None


# --- the next hop -----------------------------------------------------------------------------------------------------


def neighbour(state):
    """As the kernel answers (struct ndmsg, and one attribute)."""
    return struct.pack("=BxxxiHBB", 2, 7, state, 0, 1) + struct.pack("=HH4s", 8, 1, bytes([192, 0, 2, 1]))


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (0x01, Neighbour.ASKED),
        (0x20, Neighbour.SILENT),
        *((state, Neighbour.KNOWN) for state in (0x02, 0x04, 0x08, 0x10, 0x40, 0x80)),
        (0, None),
    ],
)
def test_a_neighbour_is_known_asked_for_or_silent(state, found):
    assert neighbours.decode(neighbour(state)) is found


@given(st.binary(max_size=40))
def test_no_answer_about_a_neighbour_is_more_than_an_error(answer):
    try:
        assert neighbours.decode(answer) in {None, *Neighbour}
    except DecodeError:
        assert len(answer) < 12


# --- who has a port ---------------------------------------------------------------------------------------------------


def test_the_sockets_of_a_port_are_found(net):
    assert ports.inodes(51820, net) == {4711}
    assert ports.inodes(53, net) == {4712}
    assert ports.inodes(54, net) == set()
    assert ports.inodes(54, net / "none") is None


@given(st.lists(st.binary(max_size=80)), st.integers(0, 65535))
def test_no_line_of_the_list_of_sockets_is_an_error(lines, port):
    assert all(inode >= 0 for inode in ports.decode(lines, port))


def test_a_port_of_this_process_is_found_with_its_name():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        found = ports.look(bound.getsockname()[1])
        assert os.getpid() in [one.pid for one in found.holders]
        assert all(one.name for one in found.holders)


def test_whose_files_can_not_be_looked_at_may_have_it(net, tmp_path):
    fake = tmp_path / "proc"
    (fake / "12" / "fd").mkdir(parents=True)
    (fake / "12" / "fd" / "3").symlink_to("socket:[4711]")
    (fake / "12" / "comm").write_text("nginx\n")
    (fake / "13").mkdir()
    (fake / "13" / "fd").write_text("a file, so that it can't be listed")
    found = ports.look(51820, net, fake)
    assert found.holders == (ports.Holder(12, "nginx"),)
    assert not found.complete


def processes(path, *, namespace=ports.ALL_PROCESSES, numbers=("1", "12")):
    """A /proc with these processes, of which 12 has the port 51820 open."""
    fake = path / "proc"
    for number in numbers:
        (fake / number / "fd").mkdir(parents=True)
    (fake / "self" / "ns").mkdir(parents=True)
    (fake / "self" / "ns" / "pid").symlink_to(namespace)
    return fake


def test_a_process_whose_files_are_listed_and_may_not_be_looked_at_may_have_the_port(tmp_path, monkeypatch):
    """As of a daemon with more capabilities than ours."""
    refused = PermissionError(13, "Permission denied")

    def readlink(path):
        raise refused

    fake = tmp_path / "proc"
    (fake / "1/fd").mkdir(parents=True)
    (fake / "1/fd/3").symlink_to("socket:[4711]")
    monkeypatch.setattr(ports.os, "readlink", readlink)
    assert ports._opened(fake / "1") is None
    assert not ports.visible(1, fake)
    monkeypatch.undo()
    assert ports._opened(fake / "1") == ["socket:[4711]"]
    assert ports.visible(1, fake)
    assert ports._opened(fake / "2") == []


def test_only_where_all_processes_are_seen_nobody_else_has_the_port(net, tmp_path):
    assert ports.look(51820, net, processes(tmp_path)) == ports.Found(frozenset({4711}), (), complete=True)
    for place, seen in (("container", {"namespace": "pid:[4026532500]"}), ("hidden", {"numbers": ("12",)})):
        (tmp_path / place).mkdir()
        assert not ports.look(51820, net, processes(tmp_path / place, **seen)).complete


def test_the_daemon_of_a_control_socket_is_the_process_that_listens(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "wg0.sock"))
        listening.listen(1)
        assert ports.daemon_of(tmp_path / "wg0.sock") == os.getpid()
    assert ports.daemon_of(tmp_path / "wg0.sock") is None
    assert ports.daemon_of(tmp_path / "none.sock") is None


# --- whom it concerns -------------------------------------------------------------------------------------------------


def test_what_is_looked_at_follows_from_what_was_read():
    row = device(peer(1), peer(2, allowed_ips=("10.0.0.0/8",)), fwmark=7, backend=Backend.USERSPACE)
    found = snapshot(
        row,
        device(name="wg1"),
        device(name="wg2", listen_port=1),
        links=[link(addresses=("10.0.0.9/24",))],
        conf=(conf_file("wg0", declared(1, endpoint="vpn.example.com:51820")), conf_file("wg1", declared(2))),
    )
    one = subject(found, PEER, "10.0.0.1")
    assert one._asdict() == {
        "key": PEER,
        "backend": Backend.USERSPACE,
        "ifindex": 7,
        "endpoint": "192.0.0.1:51820",
        "listen_port": 51820,
        "fwmark": 7,
        "underlay": "",
        "rivals": ("wg1",),
        "addresses": ("10.0.0.9/24",),
        "target": "10.0.0.1",
        "owner": key(1),
        "conf_endpoint": "vpn.example.com:51820",
    }
    assert subject(found, PEER, "10.99.0.1").owner == key(2)
    assert subject(found, PEER, "192.0.2.1").owner == ""
    assert subject(found, PEER, "").owner is None
    assert subject(found, ("", "wg0", key(2)), "").conf_endpoint is None


def test_nobody_looks_for_a_peer_or_device_that_is_not_there():
    found = snapshot(device(peer(1)))
    assert subject(found, ("", "wg0", key(2))) is None
    assert subject(found, ("blue", "wg0", key(1))) is None


@pytest.mark.parametrize(
    ("bound", "where"),
    [
        ({"": {51820}, "blue": {51820}}, ""),
        ({"": {53}, "blue": {51820}}, "blue"),
        ({"": set(), "blue": {51820}, "red": {51820}}, None),
        ({"": {53}}, ""),
        ({}, ""),
    ],
)
def test_outer_packets_are_where_the_port_is_bound(bound, where):
    found = snapshot(device(peer(1)))._replace(udp_ports={name: frozenset(ports) for name, ports in bound.items()})
    assert subject(found, PEER).underlay == where


# --- in the background ------------------------------------------------------------------------------------------------


def test_many_are_asked_for_and_a_few_are_looked_at_and_each_once():
    looked, may = [], threading.Event()

    def look(one, namespaces, monotonic):
        may.wait(30)
        looked.append(one.key[2])
        return Inspected(one.key, monotonic())

    peers = [peer(n) for n in range(1, 9)]
    inspector = Inspector({}, lambda: 5.0, look)
    for _ in range(3):
        inspector.ask([("", "wg0", row.public_key) for row in peers], snapshot(device(*peers)))
    may.set()
    found = []
    eventually(lambda: found.extend(inspector.take()) or len(found) >= MOST)
    time.sleep(0.05)
    assert looked == [row.public_key for row in peers[:MOST]]
    assert inspector.take() == ()


def test_a_look_that_hangs_ends_by_its_deadline_and_says_so(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr("wg_exporter.reader.inspect.look._outer", lambda *_: never.wait(30))
    one = subject(snapshot(device(peer(1)), links=[link()]), PEER)
    begun = time.monotonic()
    row = inspect(one, {}, time.monotonic, deadline=1.0)
    assert time.monotonic() - begun < 20
    assert row.problems == ("the outer side: no answer within 1 s",)
    assert (row.to_endpoint, row.port_owner) == (None, None)
    assert row.inner_rp_drops is not None
    never.set()


def test_a_namespace_that_is_not_there_is_said_and_nothing_else_is_lost(tmp_path):
    row = device(peer(1))._replace(netns="blue")
    found = snapshot(row)._replace(udp_ports={"": frozenset({51820}), "blue": frozenset()})
    for names in ({}, {"blue": str(tmp_path / "none")}):
        got = inspect(subject(found, ("blue", "wg0", key(1))), names, time.monotonic)
        assert got.underlay == ""
        assert got.to_endpoint is not None
        assert len(got.problems) == 1
        assert "blue" in got.problems[0]


def test_no_endpoint_has_no_route():
    got = inspect(subject(snapshot(device(peer(1, endpoint=""))), PEER), {}, time.monotonic)
    assert got.to_endpoint is None
    assert got.problems == ()


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("192.0.2.7:51820", (bytes([192, 0, 2, 7]), 0)),
        ("[fe80::7]:51820", (bytes.fromhex("fe80") + bytes(13) + b"\7", 0)),
        ("[fe80::7%lo]:51820", (bytes.fromhex("fe80") + bytes(13) + b"\7", 1)),
        ("[fe80::7%23]:51820", (bytes.fromhex("fe80") + bytes(13) + b"\7", 23)),
        ("[fe80::7%no-such]:51820", (b"", 0)),
        ("[fe80::7%\u0663]:51820", (b"", 0)),
        ("[fe80::7%99999999999]:51820", (b"", 0)),
        ("", (b"", 0)),
    ],
)
def test_an_endpoint_on_a_link_is_looked_for_on_that_link(endpoint, found):
    assert look._address(endpoint) == found


def test_this_host_reaches_itself_locally():
    got = inspect(subject(snapshot(device(peer(1, endpoint="127.0.0.1:9"))), PEER), {}, time.monotonic)
    assert got.to_endpoint.kind is PathKind.LOCAL


@pytest.mark.parametrize("backend", [Backend.KERNEL, Backend.USERSPACE])
def test_a_port_that_another_process_has_is_not_the_devices(backend, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        one = subject(snapshot(device(peer(1), listen_port=port, backend=backend)), PEER)
        got = inspect(one, {}, time.monotonic, control_sockets=(tmp_path,))
        if backend is Backend.KERNEL:
            assert got.port_owner is PortOwner.OTHER
            assert str(os.getpid()) in got.port_holder
        else:
            assert got.port_owner is None  # its daemon can't be asked
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
                control.bind(str(tmp_path / "wg0.sock"))
                control.listen(1)
                got = inspect(one, {}, time.monotonic, control_sockets=(tmp_path,))
                assert got.port_owner is PortOwner.DEVICE  # this process is its daemon too
    got = inspect(one, {}, time.monotonic, control_sockets=(tmp_path,))
    assert got.port_owner is PortOwner.NOBODY


def test_a_daemon_whose_files_can_not_be_looked_at_may_have_its_port(tmp_path, monkeypatch):
    """As under the unit, which hides other processes: nothing is said of the port, and not that another has it."""
    monkeypatch.setattr(ports.look, "__defaults__", (ports.NET, tmp_path))
    monkeypatch.setattr(ports.visible, "__defaults__", (tmp_path,))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        one = subject(snapshot(device(peer(1), listen_port=port, backend=Backend.USERSPACE)), PEER)
        (inode,) = ports.inodes(port)
        (tmp_path / "12" / "fd").mkdir(parents=True)  # of a process that is seen, and has it too
        (tmp_path / "12" / "fd" / "3").symlink_to(f"socket:[{inode}]")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.bind(str(tmp_path / "wg0.sock"))
            control.listen(1)
            assert inspect(one, {}, time.monotonic, control_sockets=(tmp_path,)).port_owner is None


def test_a_reader_looks_by_what_its_last_pass_has_read():
    host, clock = FakeHost(), FakeTime()
    host.devices = [device(peer(1))]
    reader = host.sources(Config(), clock.clock)
    try:
        reader.inspect([PEER])
        assert reader.inspected() == ()  # nothing was read yet
        reader.read()
        reader.inspect([PEER, ("", "wg0", key(2))])
        found = []
        eventually(lambda: found.extend(reader.inspected()) or found)
        assert [row.key for row in found] == [PEER]
    finally:
        reader.stop()
