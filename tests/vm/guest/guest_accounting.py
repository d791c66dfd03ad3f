"""Packets of peers through tunnels of the kernel, where GSO and GRO make many packets one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.rows import peer as row
from tests.vm.guest.build import Keys, handshake, sh, tunnel
from tests.vm.guest.serving import Exporter
from wg_exporter.linux.bpf import Bpf
from wg_exporter.model import Peers
from wg_exporter.reader.accounting.counter import DeviceCounter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vm.guest.build import Tunnel
    from tests.vm.guest.serving import Metrics

RECEIVED, SENT = "wireguard_peer_receive_packets_total", "wireguard_peer_transmit_packets_total"
CONFIG = """\
names: []
probe: {enabled: false}
accounting: {enabled: true}
namespaces: [{name: far}]
interfaces: {exclude: ["old*"]}
"""
SERVER = """
    import socket, sys
    family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    with socket.create_server((sys.argv[1], 5001), family=family) as server:
        print(flush=True)
        connection, _ = server.accept()
        while connection.recv(1 << 20):
            pass
"""
# What TCP itself has counted: segs_out and segs_in (tcp_info, linux/tcp.h).
CLIENT = """
    import socket, struct, sys
    with socket.create_connection((sys.argv[1], 5001), 60) as connection:
        for _ in range(6):
            connection.sendall(bytes(1 << 20))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(100):
            pass
        print(*struct.unpack_from("=II", connection.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 232), 136))
"""
DATAGRAMS = """
    import socket, sys, time
    family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.bind((sys.argv[2], 5002))
        for number in range(50):
            sender.sendto(bytes(300), (sys.argv[1], 5002))
            time.sleep(0.01)
        sender.setsockopt(socket.SOL_UDP, 103, 1000)  # UDP_SEGMENT: one call, many datagrams
        for number in range(50):
            sender.sendto(bytes(10_000), (sys.argv[1], 5002))
            time.sleep(0.05)
"""


class Counts(NamedTuple):
    """Of the only peer of a device, and of the device itself by its own counters: received, sent."""

    peer: tuple[int, int]
    interface: tuple[int, int]

    def since(self, before: Counts) -> tuple[tuple[int, int], tuple[int, int]]:
        return _less(self.peer, before.peer), _less(self.interface, before.interface)


def _less(now: tuple[int, int], before: tuple[int, int]) -> tuple[int, int]:
    return now[0] - before[0], now[1] - before[1]


def counts(metrics: Metrics, interface: str) -> Counts:
    sides = ("receive", "transmit")
    peer = (int(metrics.one(name, interface=interface)) for name in (RECEIVED, SENT))
    own = (int(metrics.one(f"wireguard_interface_{side}_packets_total", interface=interface)) for side in sides)
    return Counts(tuple(peer), tuple(own))


def settled(exporter: Exporter) -> tuple[Counts, Counts]:
    """Of both ends, once nothing moves."""
    deadline = time.monotonic() + 60
    before = None
    while time.monotonic() < deadline:
        metrics = exporter.scrape()
        if len(metrics.all(SENT)) == 2:
            found = counts(metrics, "wg0"), counts(metrics, "far1")
            if found == before:
                return found
            before = found
        time.sleep(0.5)
    raise TimeoutError(f"it does not come to rest: {before}\n{exporter.log()}")


def both_families(keys: Keys) -> Tunnel:
    made = tunnel("wg0", keys)
    sh("ip -6 addr add fd00:9::1/64 dev wg0 nodad; ip -n far -6 addr add fd00:9::2/64 dev far1 nodad")
    sh(f"ip netns exec far wg set far1 peer {made.near_key} allowed-ips 10.9.0.1/32,fd00:9::1/128")
    handshake(made)
    return made


def python(script: str, *arguments: str) -> str:
    return sh(f"{sys.executable} - {' '.join(arguments)}", textwrap.dedent(script))


def test_every_packet_is_counted_as_tcp_and_the_interface_itself_count_them(log: Path) -> None:
    both_families(Keys(71))
    config = log.with_name("config.yml")
    config.write_text(CONFIG)
    with Exporter(log, f"--config.file={config}") as exporter:
        settled(exporter)
        for near, far in (("10.9.0.1", "10.9.0.2"), ("fd00:9::1", "fd00:9::2")):
            sh(f"ping -c 1 -W 20 {far}")
            start, _ = settled(exporter)
            sh(f"ping -c 20 -i 0.1 -W 20 {far}")
            assert settled(exporter)[0].since(start) == ((20, 20), (20, 20))
            start, _ = settled(exporter)
            command = ["ip", "netns", "exec", "far", sys.executable, "-c", textwrap.dedent(SERVER), far]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
                assert server.stdout
                server.stdout.readline()
                segments_out, segments_in = map(int, python(CLIENT, far).split())
            assert segments_out > 4000
            bulk = (segments_in, segments_out)
            assert settled(exporter)[0].since(start) == (bulk, bulk)
            # The far side says of each flow that nobody listens there: answers of ICMP are packets too.
            start, far_start = settled(exporter)
            python(DATAGRAMS, far, near)
            after, far_after = settled(exporter)
            peer, interface = after.since(start)
            assert peer == interface
            assert peer[1] == 550
            assert far_after.since(far_start) == (peer[::-1], interface[::-1])
    assert "clsact" not in sh("tc qdisc show dev wg0; tc -n far qdisc show dev far1")


def test_ten_thousand_peers_are_loaded_within_five_seconds_even_here() -> None:
    rows = (row(n, allowed_ips=(f"10.{n >> 8}.{n & 255}.0/24", f"fd00::{n:x}/128")) for n in range(10_000))
    peers = Peers.of(rows)
    counter = DeviceCounter(Bpf(), 1, os.cpu_count() or 1)
    try:
        began = time.monotonic()
        counter.follow(peers)
        took = time.monotonic() - began
        print(json.dumps({"seconds": took}))
        assert took < 5
        assert len(counter.read()) == 10_000
    finally:
        counter.close()
