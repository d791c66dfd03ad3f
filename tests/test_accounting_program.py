"""What the program in the kernel counts: whose packet it is, and how many it is on the way through the tunnel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.bpf import ETHERNET, TCP, UDP, UNSPECIFIED, bpf, counted, packet, run
from tests.rows import key, peer
from wg_exporter.model import Peers
from wg_exporter.reader.accounting.counter import LEAST_ROOM, DeviceCounter
from wg_exporter.reader.accounting.program import RECEIVED, SENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.linux.bpf import Bpf
    from wg_exporter.model import Peer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: bpf(2) takes CAP_BPF")


@pytest.fixture
def calls() -> Bpf:
    return bpf()


class Device:
    """A device of peers with these allowed IPs, whose packets come by one at a time."""

    def __init__(self, calls: Bpf) -> None:
        self._calls = calls
        self.counter = DeviceCounter(calls, 7, os.cpu_count() or 1)

    def peers(self, *rows: Peer) -> Device:
        self.counter.follow(Peers.of(rows))
        return self

    def owning(self, *allowed_ips: tuple[str, ...]) -> Device:
        return self.peers(*(peer(n, allowed_ips=ips) for n, ips in enumerate(allowed_ips, 1)))

    def receives(self, source: str, **more: int) -> None:
        self._run(RECEIVED, packet(source, "fd00::1" if ":" in source else "10.9.9.9"), more)

    def sends(self, target: str, **more: int) -> None:
        self._run(SENT, packet("fd00::1" if ":" in target else "10.9.9.9", target), more)

    def handles(self, direction: int, data: bytes, **more: int) -> None:
        self._run(direction, data, more)

    def _run(self, direction: int, data: bytes, more: dict[str, int]) -> None:
        assert run(self._calls, self.counter.programs[direction], data, **more) == UNSPECIFIED

    @property
    def counted(self) -> list[tuple[int, int]]:
        return counted(self.counter)


@pytest.fixture
def device(calls: Bpf) -> Iterator[Device]:
    made = Device(calls)
    yield made
    made.counter.close()


def test_a_packet_belongs_to_the_peer_that_has_its_source_when_received_and_its_destination_when_sent(device):
    device.owning(("10.0.0.1/32",), ("10.0.0.2/32",))
    device.receives("10.0.0.1")
    device.sends("10.0.0.2")
    device.sends("10.0.0.2")
    assert device.counted == [(1, 0), (0, 2)]


def test_of_prefixes_that_overlap_the_longest_has_the_packet(device):
    device.owning(("0.0.0.0/0",), ("10.0.0.0/8",), ("10.1.0.0/16", "10.2.3.4/32"))
    for target in ("192.0.2.1", "10.9.0.1", "10.1.2.3", "10.2.3.4", "10.2.3.5"):
        device.sends(target)
    assert device.counted == [(0, 1), (0, 2), (0, 2)]


def test_ipv6_is_counted_as_ipv4_is_and_no_prefix_of_one_takes_packets_of_the_other(device):
    device.owning(("::/0",), ("fd00:1::/64",), ("fd00:1::7/128",))
    for target in ("2001:db8::1", "fd00:1::8", "fd00:1::7"):
        device.sends(target)
        device.receives(target)
    device.sends("10.0.0.1")
    assert device.counted == [(1, 1)] * 3
    device.owning(("0.0.0.0/0",))
    device.sends("::a00:1")
    assert device.counted == [(1, 1)]


def test_what_belongs_to_no_peer_or_is_no_ip_is_counted_nowhere_and_passes(device):
    device.owning(("10.0.0.1/32",))
    device.sends("10.0.0.2")
    device.handles(SENT, bytes(12) + b"\x08\x06" + bytes(60))
    assert device.counted == [(0, 0)]


def test_a_super_packet_is_as_many_as_the_kernel_says(device):
    device.owning(("10.0.0.1/32",))
    device.receives("10.0.0.1", segments=45, size=1380)
    device.sends("10.0.0.1", segments=2, size=1)
    assert device.counted == [(45, 2)]


@pytest.mark.parametrize(
    ("source", "protocol", "options", "headers"),
    [
        ("10.0.0.1", TCP, 0, 40),
        ("10.0.0.1", TCP, 12, 52),
        ("10.0.0.1", UDP, 0, 28),
        ("fd00::2", TCP, 12, 72),
        ("fd00::2", UDP, 0, 48),
    ],
)
@pytest.mark.parametrize(("payload", "segments"), [(100, 1), (101, 2), (1400, 14), (1401, 15), (3000, 30)])
def test_where_the_kernel_has_not_counted_yet_the_number_follows_from_the_length(
    device, source, protocol, options, headers, payload, segments
):
    """As of packets that a program or a virtual machine hands over: gso_size is known, gso_segs is 0."""
    device.owning(("10.0.0.1/32", "fd00::2/128"))
    # In this run the length has a header that devices of WireGuard don't have.
    data = packet(source, "fd00::1" if ":" in source else "10.9.9.9", payload - ETHERNET, protocol, options)
    assert len(data) == headers + payload
    device.handles(RECEIVED, data, size=100)
    assert device.counted == [(segments, 0)]


def test_a_packet_that_is_not_cut_is_one_whatever_else_is_said_of_it(device):
    device.owning(("10.0.0.1/32",))
    device.sends("10.0.0.1", segments=9)
    assert device.counted == [(0, 1)]


def test_an_address_that_moves_is_counted_for_its_new_owner_from_then_on(device):
    device.owning(("10.0.0.1/32", "fd00::1/128"), ("10.0.0.2/32",))
    device.sends("10.0.0.1")
    device.owning(("fd00::1/128",), ("10.0.0.2/32", "10.0.0.1/32"))
    device.sends("10.0.0.1")
    device.sends("fd00::1")
    assert device.counted == [(0, 2), (0, 1)]


def test_a_prefix_that_was_taken_away_leaves_its_packets_to_the_shorter_one(device):
    device.owning(("10.0.0.0/8",), ("10.0.0.1/32",))
    device.sends("10.0.0.1")
    device.owning(("10.0.0.0/8",), ())
    device.sends("10.0.0.1")
    assert device.counted == [(0, 1), (0, 1)]


def test_a_peer_that_comes_back_goes_on_where_it_was(device):
    device.peers(peer(1), peer(2))
    device.sends("10.0.0.1")
    device.peers(peer(2))
    device.sends("10.0.0.1")
    assert device.counted == [(0, 0)], "nobody has the address any more"
    device.peers(peer(2), peer(1))
    device.sends("10.0.0.1")
    assert device.counted == [(0, 0), (0, 2)]


def test_a_new_peer_begins_at_0_also_in_the_place_of_one_that_is_gone(device):
    device.peers(*map(peer, range(1, LEAST_ROOM + 1)))
    for number in range(1, LEAST_ROOM + 1):
        device.sends(f"10.0.0.{number}")
    first = device.counter.programs
    device.peers(*map(peer, range(2, LEAST_ROOM + 1)), peer(200))
    assert device.counter.programs is first, "there is room"
    device.sends("10.0.0.200")
    device.sends("10.0.0.200")
    assert device.counted == [(0, 1)] * (LEAST_ROOM - 1) + [(0, 2)]


def test_more_peers_than_there_is_room_for_lose_no_count_and_neither_do_packets_on_their_way(device):
    device.peers(*map(peer, range(1, LEAST_ROOM + 1)))
    device.sends("10.0.0.3")
    old = device.counter.programs
    device.peers(*map(peer, range(1, LEAST_ROOM + 6)))
    assert device.counter.programs is not old, "these have to be attached now"
    device.sends("10.0.0.3")
    device.sends("10.0.0.69")
    run(bpf(), old.sent, packet("10.9.9.9", "10.0.0.3"))
    run(bpf(), old.received, packet("10.0.0.69", "10.9.9.9"))
    assert device.counted[2] == (0, 3)
    assert device.counted[LEAST_ROOM + 4] == (0, 1)
    assert sum(map(sum, device.counted)) == 4, "where there is no room for a peer it is counted for nobody"


def test_what_did_not_move_is_the_same_object(device):
    device.owning(("10.0.0.1/32",), ("10.0.0.2/32",))
    first = device.counter.read()
    assert device.counter.read() is first
    device.sends("10.0.0.2")
    second = device.counter.read()
    assert second.rx_packets is first.rx_packets
    assert second.tx_packets == (0, 1)


def test_rows_come_in_the_order_of_the_device(device):
    device.peers(peer(1), peer(2), peer(3))
    device.sends("10.0.0.3")
    device.peers(peer(3), peer(1), peer(2))
    assert device.counted == [(0, 1), (0, 0), (0, 0)]
    assert key(3) != key(1)


def test_ten_thousand_peers_with_two_prefixes_each_are_loaded_at_once(device):
    rows = (peer(n, allowed_ips=(f"10.1.{n >> 8}.{n & 255}/32", f"fd00::{n:x}/128")) for n in range(10_000))
    device.peers(*rows)
    device.sends("10.1.39.15")
    device.sends("fd00::270f")
    assert device.counted[9_999] == (0, 2)
    assert sum(sent for _, sent in device.counted) == 2
