"""Routes to targets behind kernel devices, also in a VRF, which other machines may lack: where users' packets go."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.vm.guest.build import sh
from wg_exporter.reader.links.routes import RouteReader

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGETS = ("10.9.0.2", "fd09::2")


@pytest.fixture
def reader() -> Iterator[RouteReader]:
    """A reader that looks at both targets, behind wg7."""
    sh(
        "modprobe vrf; modprobe dummy; ip link add wg7 type wireguard; ip link set wg7 up;"
        "ip addr add 10.9.0.1/24 dev wg7; ip addr add fd09::1/64 dev wg7; ip link add lan7 type dummy;"
        "ip link set lan7 up; ip addr add 192.0.2.1/24 dev lan7; ip addr add 2001:db8:7::1/64 dev lan7 nodad"
    )
    seconds = itertools.count(1000, 2)  # it looks once a second at most, and here each look takes long
    with closing(RouteReader(lambda: float(next(seconds)), cpu=lambda: 0.0)) as reader:
        ifindex = int(sh("cat /sys/class/net/wg7/ifindex"))
        reader.ask(tuple((ifindex, target) for target in TARGETS))
        yield reader
    sh("for name in lan7 blue7 wg8; do ip link del $name 2>/dev/null || true; done")


def look(reader: RouteReader) -> dict[str, str]:
    return {target: line for (_, target), line in reader.read().items()}


def test_in_a_vrf_its_own_table_decides_and_no_route_outside_it(reader: RouteReader) -> None:
    sh("ip link add blue7 type vrf table 77; ip link set blue7 up; ip link set wg7 master blue7")
    sh("ip addr replace fd09::1/64 dev wg7")  # the kernel takes IPv6 addresses away when a link changes its master
    sh("ip route add 10.9.0.2 dev lan7; ip -6 route add fd09::2 dev lan7")
    assert look(reader) == dict.fromkeys(TARGETS, "")
    sh("ip route add vrf blue7 10.9.0.2 dev lan7; ip -6 route add vrf blue7 fd09::2 dev lan7")
    assert look(reader) == {target: f"this host sends packets to {target} out of lan7, table 77" for target in TARGETS}
    sh("ip route replace vrf blue7 unreachable 10.9.0.2; ip -6 route del vrf blue7 fd09::2")
    refused = "a route or rule of this host refuses packets to 10.9.0.2 (unreachable)"
    assert look(reader) == {"10.9.0.2": refused, "fd09::2": ""}


def test_a_route_into_another_kernel_device_is_meant_and_one_out_of_the_host_is_not(reader: RouteReader) -> None:
    sh("ip link add wg8 type wireguard; ip link set wg8 up")
    sh("ip route add 10.9.0.2 dev wg8; ip -6 route add fd09::2 dev lan7")
    assert look(reader) == {"10.9.0.2": "", "fd09::2": "this host sends packets to fd09::2 out of lan7"}
    sh("ip route del 10.9.0.2 dev wg8; ip route del 10.9.0.0/24 dev wg7; ip -6 route del fd09::2 dev lan7")
    assert look(reader) == {"10.9.0.2": "this host has no route to 10.9.0.2", "fd09::2": ""}
