"""Route look-ups against `ip route get` in a namespace, with marks, metrics and what the kernel learned."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import Lab, eventually, lab_prefix
from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.netlink import open_socket
from wg_exporter.prober.wire import routes as netroute
from wg_exporter.prober.wire.netns import Namespaces
from wg_exporter.prober.wire.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.prober.wire.routes import RouteAnswer

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

MARK = 0xCA6C


class Host:
    """a - r - b, and from a a second way by r2, which packets with a mark take; the link r - b takes 1300 bytes."""

    def __init__(self, lab: Lab) -> None:
        self.a, self.r, self.b = (lab.namespace(name) for name in "arb")
        other = lab.namespace("r2")
        self.first, _ = lab.link(self.a, self.r, "192.0.2.1/30", "192.0.2.2/30")
        self.second, _ = lab.link(self.a, other, "192.0.2.9/30", "192.0.2.10/30", mtu=1450)
        last, _ = lab.link(self.r, self.b, "192.0.2.5/30", "192.0.2.6/30", mtu=1300)
        for namespace, device, address in (
            (self.a, self.first, "2001:db8:a::1/64"),
            (self.r, "to-a", "2001:db8:a::2/64"),
            (self.r, last, "2001:db8:b::2/64"),
            (self.b, "to-r", "2001:db8:b::1/64"),
        ):
            namespace.ip("address", "add", address, "dev", device, "nodad")
        self.r.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        self.a.ip("route", "add", "default", "via", "192.0.2.2")
        self.a.ip("-6", "route", "add", "default", "via", "2001:db8:a::2")
        self.b.ip("route", "add", "default", "via", "192.0.2.5")
        self.b.ip("-6", "route", "add", "default", "via", "2001:db8:b::2")
        self.a.ip("route", "add", "default", "via", "192.0.2.10", "table", "7")
        self.a.ip("rule", "add", "fwmark", str(MARK), "table", "7")
        namespaces = Namespaces({"a": f"/run/netns/{self.a.name}"})
        self.routes = Routes(lambda protocol: namespaces.inside("a", lambda: open_socket(protocol)))

    def asked(self, address: str, mark: int = 0) -> RouteAnswer:
        return self.routes.look_up(ip_address(address).packed, mark)

    def ip_says(self, address: str, mark: int = 0) -> dict:
        options = ["mark", str(mark)] if mark else []
        (found,) = json.loads(self.a.ip("-j", "route", "get", address, *options))
        (link,) = json.loads(self.a.ip("-j", "link", "show", found["dev"]))
        mtu = next((metric["mtu"] for metric in found.get("metrics", []) if "mtu" in metric), None)
        return {"ifindex": link["ifindex"], "gateway": found.get("gateway", ""), "device": link["mtu"], "mtu": mtu}


@pytest.fixture
def host(tmp_path) -> Iterator[Host]:
    with Lab(lab_prefix(), tmp_path / "lab") as lab:
        host = Host(lab)
        yield host
        host.routes.close()


@root
@pytest.mark.parametrize(
    ("address", "mark"),
    [("192.0.2.6", 0), ("192.0.2.6", MARK), ("192.0.2.2", 0), ("127.0.0.1", 0), ("2001:db8:b::1", 0), ("::1", 0)],
)
def test_the_way_is_the_one_that_ip_route_get_tells(host, address, mark):
    found, said = host.asked(address, mark), host.ip_says(address, mark)
    assert found.ifindex == said["ifindex"]
    assert found.gateway == (ip_address(said["gateway"]).packed if said["gateway"] else b"")
    assert (found.egress, found.cached) == (said["mtu"] or said["device"], None)
    assert found.via == f"{said['ifindex']} {said['gateway']}"


@root
def test_a_route_may_have_an_mtu_of_its_own(host):
    host.a.ip("route", "add", "192.0.2.6", "via", "192.0.2.2", "mtu", "1234")
    host.a.ip("-6", "route", "add", "2001:db8:b::1", "via", "2001:db8:a::2", "mtu", "1290")
    for address, mtu in (("192.0.2.6", 1234), ("2001:db8:b::1", 1290)):
        assert host.ip_says(address)["mtu"] == mtu
        assert (host.asked(address).egress, host.asked(address).cached) == (mtu, None)


@root
@pytest.mark.parametrize("address", ["192.0.2.6", "2001:db8:b::1"])
@pytest.mark.parametrize("own", [0, 1480])
def test_what_the_kernel_learned_is_told_apart_from_what_the_route_says(host, address, own):
    if own:
        gateway = "192.0.2.2" if "." in address else "2001:db8:a::2"
        host.a.ip("route", "replace", "default", "via", gateway, "mtu", "1480")
    ping = ["ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1400", address]
    host.a.run(["sh", "-c", f"{' '.join(ping)} || true"])
    eventually(lambda: host.ip_says(address)["mtu"] == 1300, within=30)
    assert (host.asked(address).egress, host.asked(address).cached) == (own or 1500, 1300)
    assert host.asked(address).size == 1300
    host.a.ip("-6" if ":" in address else "-4", "route", "flush", "cache")
    eventually(lambda: host.asked(address).cached is None, within=30)
    assert host.asked(address).egress == (own or 1500)


@root
def test_over_ipv6_what_routers_advertise_is_part_of_the_device(host):
    host.a.run(["sysctl", "-qw", f"net.ipv6.conf.{host.first}.mtu=1480"])
    assert host.asked("2001:db8:b::1").egress == 1480
    assert host.asked("192.0.2.6").egress == 1500


@root
def test_no_route_is_an_error_with_its_reason_and_the_next_question_is_answered(host):
    host.a.ip("route", "delete", "default")
    host.a.ip("route", "add", "unreachable", "198.51.100.0/24")
    host.a.ip("-6", "route", "add", "blackhole", "2001:db8:dead::/48")
    for address, numbers in (
        ("203.0.113.1", {errno.ENETUNREACH}),
        ("198.51.100.1", {errno.EHOSTUNREACH, errno.ENETUNREACH}),
        ("2001:db8:dead::1", {errno.EINVAL, errno.ENETUNREACH}),
    ):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is looked at
            host.asked(address)
        assert caught.value.errno in numbers
    assert host.asked("192.0.2.2").egress == 1500


@root
def test_one_device_alone_can_be_asked_about(host):
    index = host.ip_says("192.0.2.10")["ifindex"]
    assert host.routes.look_up(ip_address("192.0.2.10").packed, ifindex=index).egress == 1450


@given(st.binary(max_size=200))
def test_whatever_a_message_holds_it_is_read_or_refused(data):
    for ipv6 in (False, True):
        try:
            netroute._found(data, ipv6=ipv6)
        except SourceError:
            continue


def test_a_gateway_of_the_other_family_is_read():
    gateway = ip_address("fe80::1").packed
    message = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    message += struct.pack("=HHH", 22, 18, socket.AF_INET6) + gateway + bytes(2)
    assert netroute._found(message, ipv6=False).gateway == gateway


@root
def test_the_kind_of_a_device_is_that_which_ip_shows(host) -> None:
    host.a.ip("tuntap", "add", "some-tun", "mode", "tun")
    links = json.loads(host.a.ip("-j", "-d", "link", "show"))
    kinds = {link["ifname"]: link.get("linkinfo", {}).get("info_kind", "") for link in links}
    assert {name: kinds[name] for name in ("lo", host.first, "some-tun")} == {
        "lo": "", host.first: "veth", "some-tun": "tun",
    }  # fmt: skip
    assert {link["ifname"]: host.routes.kind(link["ifindex"]) for link in links} == kinds
    with pytest.raises(OSError, match=r".") as caught:
        host.routes.kind(999_999)
    assert caught.value.errno == errno.ENODEV
