"""Addresses of interfaces against `ip -j addr`, and bound ports, of a namespace made here; and bytes that are wrong."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.netlinking import FakeKernel, done, error, message, nla
from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.namespaces import Entrance
from wg_exporter.linux.netlink import DecodeError, InterruptedDumpError, NetlinkError
from wg_exporter.reader.links.addresses import Address, AddressReader, decode
from wg_exporter.reader.links.sockets import decode as ports_in
from wg_exporter.reader.links.sockets import udp_ports
from wg_exporter.reader.links.source import InterfaceSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.netlinking import Request
    from wg_exporter.model import Link

INTR = 0x10
DEPRECATED, TENTATIVE = 0x20, 0x40
NEWADDR, NEWLINK, GETLINK = 20, 16, 18


def an_address(local: str = "", address: str = "", length: int = 24, ifindex: int = 7, flags: int = 0x80) -> bytes:
    """An RTM_NEWADDR message as the kernel fills it; `address` is the other end's on a point-to-point interface."""
    version = ipaddress.ip_address(local or address).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    out = struct.pack("=BBBBI", family, length, flags, 0, ifindex)
    if address:
        out += nla(1, ipaddress.ip_address(address).packed)
    if local:
        out += nla(2, ipaddress.ip_address(local).packed)
    return out + nla(6, bytes(16)) + nla(8, struct.pack("=I", flags))


def cidr(data: bytes) -> str | None:
    found = decode(data, 0, len(data))
    return found and found.cidr


# --- one message ----------------------------------------------------------------------------------------------------


def test_an_ipv4_address_is_the_local_one_in_its_subnet() -> None:
    data = an_address("10.0.0.1", "10.0.0.1")
    assert decode(data, 0, len(data)) == Address(7, "10.0.0.1/24")


def test_an_ipv6_address_without_another_end_is_the_only_one_there_is() -> None:
    assert cidr(an_address(address="fd00::1", length=64)) == "fd00::1/64"


def test_an_address_with_the_other_end_outside_has_no_subnet() -> None:
    assert cidr(an_address("10.0.0.1", "10.0.0.2", 32)) == "10.0.0.1/32"
    assert cidr(an_address("10.0.0.1", "192.0.2.2", 24)) == "10.0.0.1/32"
    assert cidr(an_address("fd00::1", "fd00::2", 128)) == "fd00::1/128"


def test_two_ends_in_one_prefix_are_in_one_subnet() -> None:
    assert cidr(an_address("10.0.0.1", "10.0.0.2", 30)) == "10.0.0.1/30"


def test_an_address_that_is_tentative_or_deprecated_is_told_all_the_same() -> None:
    assert cidr(an_address(address="fe80::1", length=64, flags=TENTATIVE | DEPRECATED)) == "fe80::1/64"


def test_other_families_are_passed_over() -> None:
    assert decode(struct.pack("=BBBBI", 45, 8, 0, 0, 7) + nla(2, b"\1"), 0, 16) is None


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        bytes(7),
        an_address("10.0.0.1", "10.0.0.1", 33),
        struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, 7),
        struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, 7) + nla(2, bytes(16)),
        struct.pack("=BBBBI", socket.AF_INET6, 64, 0, 0, 7) + nla(1, bytes(4)),
        an_address("10.0.0.1")[:-1],
    ],
)
def test_a_message_that_says_no_address_is_an_error(bad: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(bad, 0, len(bad))


@given(st.data())
def test_a_message_with_bits_flipped_or_cut_short_is_an_error_or_a_result(data: st.DataObject) -> None:
    bad = bytearray(data.draw(st.sampled_from([an_address("10.0.0.1", "10.0.0.2"), an_address(address="fd00::1")])))
    for _ in range(data.draw(st.integers(0, 3))):
        bit = data.draw(st.integers(0, 8 * len(bad) - 1))
        bad[bit // 8] ^= 1 << bit % 8
    cut = data.draw(st.integers(0, len(bad)))
    with contextlib.suppress(DecodeError):
        found = decode(bad, 0, cut)
        assert found is None or ipaddress.ip_interface(found.cidr)


@given(st.binary(max_size=100))
def test_random_bytes_are_an_error_or_a_result(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        found = decode(data, 0, len(data))
        assert found is None or ipaddress.ip_interface(found.cidr)


# --- a dump ---------------------------------------------------------------------------------------------------------


def test_only_the_addresses_of_wanted_interfaces_are_read_ipv4_first() -> None:
    told = [
        an_address(address="fd00::1", length=64),
        an_address("10.0.0.1", "10.0.0.1"),
        an_address("10.1.0.1", "10.1.0.1", ifindex=8),
        an_address("10.0.1.1", "10.0.1.1"),
        an_address("10.2.0.1", "10.2.0.1", ifindex=9),
    ]
    kernel = FakeKernel(
        lambda request: [*(message(NEWADDR, request.sequence, one) for one in told), done(request.sequence)]
    )
    found = AddressReader(kernel.open).read({7, 9, 10})
    assert found == {7: ("10.0.0.1/24", "10.0.1.1/24", "fd00::1/64"), 9: ("10.2.0.1/24",)}


def test_an_interrupted_list_is_asked_for_again_and_given_up_after_three_times() -> None:
    wrong = 2

    def answer(request: Request) -> list[bytes]:
        flags = INTR if request.sequence <= wrong else 0
        return [message(NEWADDR, request.sequence, an_address("10.0.0.1")), done(request.sequence, 0, flags)]

    kernel = FakeKernel(answer)
    reader = AddressReader(kernel.open)
    assert reader.read({7}) == {7: ("10.0.0.1/24",)}
    assert len(kernel.requests) == 3
    wrong = 99
    with pytest.raises(InterruptedDumpError):
        reader.read({7})
    assert len(kernel.requests) == 6


def test_a_refusal_is_an_error_and_the_next_read_works() -> None:
    def answer(request: Request) -> list[bytes]:
        if request.sequence == 1:
            return [error(request.sequence, -errno.ENOMEM)]
        return [message(NEWADDR, request.sequence, an_address("10.0.0.1")), done(request.sequence)]

    reader = AddressReader(FakeKernel(answer).open)
    with pytest.raises(NetlinkError):
        reader.read({7})
    assert reader.read({7}) == {7: ("10.0.0.1/24",)}


# --- links with their addresses -------------------------------------------------------------------------------------


class Host:
    """A kernel with links and addresses, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.indices = [7]
        self.addresses = [an_address("10.0.0.1")]
        self.fails = False
        self.asked = 0
        kernel = FakeKernel(self._answer)
        self.ports = frozenset({51820})
        self.ports_fail = False
        self.source = InterfaceSource(lambda: self.now, kernel.open, self._bound)

    def read(self, after: float = 0.0) -> list[tuple[str, ...]]:
        self.now += after
        return [link.addresses for link in self.source.read()]

    def _bound(self) -> frozenset[int]:
        if self.ports_fail:
            raise SourceError("no /proc here")
        return self.ports

    def _answer(self, request: Request) -> list[bytes]:
        if request.kind == GETLINK:
            rows = [message(NEWLINK, request.sequence, a_link(index)) for index in self.indices]
            return [*rows, done(request.sequence)]
        self.asked += 1
        if self.fails:
            return [error(request.sequence, -errno.ENOMEM)]
        return [*(message(NEWADDR, request.sequence, one) for one in self.addresses), done(request.sequence)]


def a_link(index: int) -> bytes:
    header = struct.pack("=BxHiII", 0, 0xFFFE, index, 1, 0)
    return header + nla(3, b"wg%d\0" % index) + nla(18 | 0x8000, nla(1, b"wireguard"))


def test_addresses_are_read_once_in_four_seconds_however_often_links_are() -> None:
    host = Host()
    assert [host.read(0.5) for _ in range(8)] == [[("10.0.0.1/24",)]] * 8
    assert host.asked == 1
    host.addresses = [an_address("10.0.0.2")]
    assert host.read(0.4) == [("10.0.0.1/24",)]
    assert host.read(0.2) == [("10.0.0.2/24",)]
    assert host.asked == 2


def test_a_new_interface_has_its_addresses_at_once() -> None:
    host = Host()
    host.read()
    host.indices, host.addresses = [7, 8], [an_address("10.0.0.1"), an_address("10.0.8.1", ifindex=8)]
    assert host.read(0.1) == [("10.0.0.1/24",), ("10.0.8.1/24",)]


def test_an_index_that_is_gone_takes_its_addresses_along() -> None:
    host = Host()
    host.read()
    host.indices, host.addresses = [8], []
    assert host.read(0.1) == [()]
    host.indices = [7]
    assert host.read(0.1) == [()], "the index is another interface's now"


def test_the_same_addresses_are_the_same_object() -> None:
    host = Host()
    [first] = host.read()
    [second] = host.read(5)
    assert host.asked == 2
    assert first is second


def test_links_are_told_with_the_last_known_addresses_where_those_cannot_be_read() -> None:
    host = Host()
    host.fails = True
    assert host.read() == [()]
    host.fails = False
    assert host.read(5) == [("10.0.0.1/24",)]
    host.fails = True
    assert host.read(5) == [("10.0.0.1/24",)]
    assert "memory" in host.source.notes[0]
    host.fails = False
    host.read(5)
    assert host.source.notes == ()


def test_a_host_without_wireguard_is_not_asked_for_addresses() -> None:
    host = Host()
    host.indices = []
    assert host.read() == []
    assert host.asked == 0


def test_after_a_move_to_another_namespace_addresses_are_read_anew() -> None:
    host = Host()
    host.read()
    host.source.close()
    host.addresses = [an_address("10.0.0.9")]
    assert host.read(0.1) == [("10.0.0.9/24",)]


def test_ports_are_read_as_often_as_addresses_and_on_a_host_without_wireguard_too() -> None:
    host = Host()
    host.indices = []
    host.read()
    assert host.source.ports == {51820}
    host.ports = frozenset({53})
    host.read(1)
    assert host.source.ports == {51820}
    host.read(3)
    assert host.source.ports == {53}
    host.ports_fail = True
    host.read(4)
    assert host.source.ports == {53}
    assert host.source.notes == ("UDP ports in use: no /proc here",)


def test_the_ports_of_another_namespace_are_not_taken_along() -> None:
    host = Host()
    host.read()
    host.source.close()
    host.ports_fail = True
    host.read()
    assert host.source.ports is None


@given(st.lists(st.binary(max_size=60)))
def test_random_lines_are_no_ports_or_ports_that_there_can_be(lines: list[bytes]) -> None:
    assert all(0 < port < 65536 for port in ports_in(lines))


def test_ports_are_the_local_ones_of_the_list() -> None:
    lines = [
        b"   83: 00000000:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9 2 0 0",
        b" 3401: 0100007F:0035 0100007F:CA6D 01 00000000:00000000 00:00000000 00000000   101        0 9 2 0 0",
        b"",
        b"   84: 00000000 00000000:0001",
    ]
    assert ports_in(lines) == {51820, 53}


# --- the real kernel ------------------------------------------------------------------------------------------------


@pytest.fixture
def netns() -> Iterator[str]:
    """A namespace with two tun devices that have addresses of every sort."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and ip (iproute2)")
    name = f"wgad-{secrets.token_hex(3)}"
    ip("netns", "add", name)
    try:
        for device in ("wg0", "wg1"):
            ip("-n", name, "tuntap", "add", device, "mode", "tun")
            ip("-n", name, "link", "set", device, "up")
        ip("-n", name, "link", "set", "lo", "up")
        for address in (
            "10.0.0.1/24",
            "10.0.0.9/24",
            "10.1.0.1/30",
            "172.20.0.1/32",
            "fd00::1/64",
            "fd00:1::1/127",
            "fd00:2::1/128",
        ):
            ip("-n", name, "addr", "add", address, "dev", "wg0", *(["nodad"] if ":" in address else []))
        ip("-n", name, "addr", "add", "fd00:5::1/64", "dev", "wg0", "preferred_lft", "0", "nodad")
        ip("-n", name, "addr", "add", "10.9.0.1", "peer", "10.9.0.2/32", "dev", "wg1")
        ip("-n", name, "addr", "add", "10.9.1.1", "peer", "192.0.2.2/24", "dev", "wg1")
        ip("-n", name, "addr", "add", "10.9.2.1", "peer", "10.9.2.2/24", "dev", "wg1")
        ip("-n", name, "addr", "add", "fd00:9::1", "peer", "fd00:9::2/128", "dev", "wg1", "nodad")
        yield name
    finally:
        ip("netns", "del", name)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=60, text=True).stdout


def said(address: dict[str, Any]) -> str:
    """An address as `ip -j addr` tells it: `local`, and `address` where there is another end."""
    local, length = address["local"], address["prefixlen"]
    other = address.get("address")
    if other and ipaddress.ip_address(local) not in ipaddress.ip_network(f"{other}/{length}", strict=False):
        length = ipaddress.ip_address(local).max_prefixlen
    return f"{local}/{length}"


def links_inside(netns: str) -> list[Link]:
    """The links of a namespace with their addresses, read by a thread that goes there."""
    source = InterfaceSource(lambda: 0.0)
    namespace = Entrance(netns, str(Path("/run/netns") / netns))

    def read() -> list[Link]:
        try:
            namespace.enter()
            return source.read()
        finally:
            source.close()
            namespace.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(read).result(30)


def test_the_addresses_in_a_namespace_are_those_of_ip(netns: str) -> None:
    truth = {
        link["ifname"]: sorted(said(address) for address in link["addr_info"])
        for link in json.loads(ip("-n", netns, "-j", "addr"))
        if link["ifname"] != "lo"
    }
    assert len(truth["wg0"]) >= 8
    assert {link.name: sorted(link.addresses) for link in links_inside(netns)} == truth


def test_ends_of_point_to_point_addresses_are_not_taken_for_ones_own(netns: str) -> None:
    [found] = [link.addresses for link in links_inside(netns) if link.name == "wg1"]
    assert found[:4] == ("10.9.0.1/32", "10.9.1.1/32", "10.9.2.1/24", "fd00:9::1/128")


def test_bound_ports_are_those_of_the_namespace_that_the_thread_is_in(netns: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("127.0.0.1", 0))
        port = here.getsockname()[1]
        namespace = Entrance(netns, str(Path("/run/netns") / netns))

        def inside() -> tuple[frozenset[int], int, frozenset[int]]:
            namespace.enter()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
                before = udp_ports()
                there.bind(("127.0.0.1", port))
                found = before, port, udp_ports()
            namespace.close()
            return found

        with ThreadPoolExecutor(1) as pool:
            before, bound, after = pool.submit(inside).result(30)
        assert (before, after) == (frozenset(), {bound})
        assert port in udp_ports()


def test_a_missing_list_of_ports_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="udp: No such file"):
        udp_ports(tmp_path / "udp")


def test_reading_addresses_of_this_host_needs_no_permission() -> None:
    def read() -> dict[int, tuple[str, ...]]:
        reader = AddressReader()
        found = dict(reader.read({socket.if_nametoindex("lo")}))
        reader.close()
        return found

    [addresses] = read().values()
    assert "127.0.0.1/8" in addresses
