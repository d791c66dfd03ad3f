"""Routes to targets, asked of the real kernel in a namespace: where users' packets go, and what is not for us to judge.

A tun device without a daemon stands for WireGuard: routes know no difference.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from tests.lab import Lab, lab_prefix, missing
from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.namespaces import Entrance
from wg_exporter.linux.netlink import DecodeError, Netlink, attribute, open_socket
from wg_exporter.reader.links import lookups, routes, rules
from wg_exporter.reader.links.routes import LOOK_SECONDS, TARGETS_AT_ONCE, RouteReader, open_watch

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeVar

    T = TypeVar("T")

V4, V6 = "10.9.0.2", "fd09::2"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Host:
    """A namespace with a tunnel, `tun0`, that leads to both targets; and a reader of its routes, in a thread there."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.namespace = lab.namespace("host")
        self.clock, self.looks, self.watches = Clock(), 0, 0
        self.sockets = directory
        self._entrance = Entrance("host", f"/run/netns/{self.namespace.name}")
        self._pool = ThreadPoolExecutor(1)
        for name in ("tun0", "tun1", "lan"):
            self.ip("tuntap", "add", name, "mode", "tun")
            self.ip("link", "set", name, "up")
        self.ip("address", "add", "10.9.0.1/24", "dev", "tun0")
        self.ip("address", "add", "fd09::1/64", "dev", "tun0", "nodad")
        self.ip("address", "add", "192.0.2.1/24", "dev", "lan")
        self.ip("address", "add", "2001:db8::1/64", "dev", "lan", "nodad")
        self.tunnel = int(self.ip("-o", "link", "show", "tun0").split(":")[0])
        self.reader = RouteReader(self.clock, self._open, self._watch, cpu=lambda: 0.0, control_sockets=(self.sockets,))
        self.run(self._entrance.enter)

    def ip(self, *arguments: str) -> str:
        return self.namespace.ip(*arguments)

    def run(self, function: Callable[[], T]) -> T:
        return self._pool.submit(function).result(30)

    def read(self, *targets: str) -> dict[str, str]:
        """What stands in the way of each target; those of which nothing is known are left out."""
        if targets:
            self.reader.ask(tuple((self.tunnel, target) for target in targets))
        return {target: line for (_, target), line in self.run(self.reader.read).items()}

    def later(self, *targets: str, seconds: float = LOOK_SECONDS) -> dict[str, str]:
        self.clock.now += seconds
        return self.read(*targets)

    def close(self) -> None:
        self.run(self.reader.close)
        self.run(self._entrance.close)
        self._pool.shutdown()

    def _open(self, protocol: int) -> socket.socket:
        return open_socket(protocol)

    def _watch(self) -> socket.socket:
        self.looks += 1
        return open_watch()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if lacking := missing():
        pytest.skip("; ".join(lacking))
    with Lab(lab_prefix(), tmp_path / "lab", kernel=False) as lab, contextlib.closing(Host(lab, tmp_path)) as host:
        yield host


def family(target: str) -> tuple[str, ...]:
    return ("-6",) if ":" in target else ()


both = pytest.mark.parametrize("target", [V4, V6])


@both
def test_nothing_is_in_the_way_of_a_target_that_is_routed_into_its_device(host: Host, target: str) -> None:
    assert host.read(target) == {target: ""}


# What was done to the host, in words of `ip`; {target} with its full prefix, {gateway} on the LAN.
IN_THE_WAY = {
    "no-route": (["route del {net} dev tun0"], "this host has no route to {target}"),
    "another-device": (
        ["route add {target} via {gateway} dev lan"],
        "this host sends packets to {target} out of lan, via {gateway}",
    ),
    "default-route": (
        ["route del {net} dev tun0", "route add default via {gateway}"],
        "this host sends packets to {target} out of lan, via {gateway}",
    ),
    "unreachable": (
        ["route add unreachable {target}"],
        "a route or rule of this host refuses packets to {target} (unreachable)",
    ),
    "blackhole": (
        ["route add blackhole {target}"],
        "a route or rule of this host refuses packets to {target} (blackhole)",
    ),
    "prohibit": (
        ["rule add to {target} prohibit"],
        "a route or rule of this host refuses packets to {target} (prohibit)",
    ),
    "a-rule": (
        ["route add default via {gateway} table 99", "rule add to {target} lookup 99"],
        "this host sends packets to {target} out of lan, via {gateway}, table 99",
    ),
    "its-own-address": (["address add {target} dev lan nodad"], "{target} is an address of this host itself"),
    # Rules that ask for something, and can't lead users' packets into the tunnel.
    "a-mark-that-leads-elsewhere": (
        [
            "route add {target} via {gateway} dev lan",
            "route add default via {gateway} table 98",
            "rule add fwmark 7 lookup 98",
        ],
        "this host sends packets to {target} out of lan, via {gateway}",
    ),
    "an-address-of-ours-that-leads-elsewhere": (
        [
            "route add {target} via {gateway} dev lan",
            "route add default via {gateway} table 98",
            "rule add from {own} lookup 98",
        ],
        "this host sends packets to {target} out of lan, via {gateway}",
    ),
    "a-rule-for-other-targets": (
        ["route add {target} via {gateway} dev lan", "rule add iif lan to {elsewhere} lookup 98"],
        "this host sends packets to {target} out of lan, via {gateway}",
    ),
}

NOT_FOR_US = {
    "from": ["rule add from {users} lookup 98"],
    "from-to": ["rule add from {users} to {net} lookup 98"],
    "iif": ["rule add iif lan lookup 98"],
    "a-user": ["rule add uidrange 4000-5000 lookup 98"],
    "not-from": ["rule add not from {users} lookup 98"],
    "not-from-an-address-of-ours": ["rule add not from {own} lookup 98"],
    "a-mark-that-leads-into-it": ["route add default dev tun0 table 98", "rule add fwmark 7 lookup 98"],
    "an-address-of-ours-that-leads-into-it": ["route add default dev tun0 table 98", "rule add from {own} lookup 98"],
}


def do(host: Host, target: str, lines: list[str]) -> dict[str, str]:
    """Do this to the host; returns the words of the lines."""
    six = ":" in target
    words = {
        "target": target,
        "gateway": "2001:db8::9" if six else "192.0.2.9",
        "own": "2001:db8::1" if six else "192.0.2.1",
        "net": "fd09::/64" if six else "10.9.0.0/24",
        "users": "fd77::/64" if six else "10.77.0.0/24",
        "elsewhere": "fd88::/64" if six else "10.88.0.0/24",
    }
    for line in lines:
        host.ip(*family(target), *line.format(**words).split())
    return words


@both
@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_stands_in_the_way_is_said(host: Host, target: str, case: str) -> None:
    lines, said = IN_THE_WAY[case]
    words = do(host, target, lines)
    assert host.read(target) == {target: said.format(**words)}


@both
@pytest.mark.parametrize("case", NOT_FOR_US)
def test_where_a_rule_may_lead_users_packets_into_the_tunnel_nothing_is_said(
    host: Host, target: str, case: str
) -> None:
    do(host, target, ["route add {target} via {gateway} dev lan"])
    assert host.read(target)[target]
    do(host, target, NOT_FOR_US[case])
    assert host.later(target) == {target: ""}


@both
def test_a_full_tunnel_with_marked_packets_outside_it_is_well(host: Host, target: str) -> None:
    do(
        host,
        target,
        [
            "route del {net} dev tun0",
            "route add default via {gateway}",
            "route add default dev tun0 table 51820",
            "rule add not fwmark 51820 table 51820",
            "rule add table main suppress_prefixlength 0",
        ],
    )
    assert host.read(target) == {target: ""}


@pytest.mark.parametrize("net", ["10.66.0.0/24", "fd66::/64"])
def test_a_route_with_several_next_hops_is_well_if_one_of_them_is_the_device(host: Host, net: str) -> None:
    host.ip("address", "add", "fd55::1/64", "dev", "tun0", "nodad")
    hops = "via 2001:db8::9 nexthop via fd55::9" if ":" in net else "dev lan nexthop dev tun0"
    do(host, net, [f"route add {net} nexthop {hops}"])
    targets = [str(ip_network(net)[number]) for number in range(1, 17)]  # by their hash, each goes one of both ways
    assert host.read(*targets) == dict.fromkeys(targets, "")


def test_a_route_into_another_wireguard_device_is_meant(host: Host) -> None:
    host.ip("route", "add", V4, "dev", "tun1")
    assert host.read(V4) == {V4: f"this host sends packets to {V4} out of tun1"}
    (host.sockets / "tun1.sock").touch()
    assert host.later() == {V4: ""}


# In a real VRF: tests/vm/guest/guest_routes.py, for not every host's kernel has them.


def test_in_a_vrf_the_kernel_is_asked_for_packets_of_that_vrf() -> None:
    kind = attribute(lookups.IFLA_INFO_SLAVE_KIND, b"vrf\0")
    header = struct.pack("=BxHiII", 0, 0, 7, 0, 0)
    link = header + attribute(lookups.IFLA_MASTER, struct.pack("=i", 5)) + attribute(lookups.IFLA_LINKINFO, kind)
    assert lookups.decode_link(link).vrf == 5
    assert attribute(lookups.RTA_OIF, struct.pack("=i", 5)) in lookups.Asked(bytes(4), 5).request()
    bridged = link.replace(b"vrf\0", b"bri\0")
    assert lookups.decode_link(bridged).vrf == 0


def test_rules_cost_a_look_so_many_lookups_and_of_targets_beyond_that_nothing_is_said(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mark in (1, 2):
        host.ip("rule", "add", "fwmark", str(mark), "lookup", "98")
        host.ip("rule", "add", "fwmark", str(mark), "lookup", "99")  # the same question
    targets = [f"10.99.0.{number}" for number in range(1, 6)]
    assert len(host.read(*targets)) == 5
    monkeypatch.setattr(routes, "MOST_TRIES", 6)
    assert list(host.later(*targets)) == targets[:3]


# --- when it looks --------------------------------------------------------------------------------------------------


def test_nothing_is_asked_while_nothing_changes_and_the_answer_is_the_same_object(host: Host) -> None:
    host.read(V4, V6)
    first = host.run(host.reader.read)
    for _ in range(11):
        host.later(seconds=5)
    assert (host.looks, host.run(host.reader.read) is first) == (1, True)
    host.later(seconds=5)
    assert (host.looks, host.run(host.reader.read) is first) == (2, True)


def test_a_change_of_routes_is_seen_at_the_next_read_and_not_twice_in_a_second(host: Host) -> None:
    assert host.read(V4) == {V4: ""}
    host.ip("route", "add", "unreachable", V4)
    assert host.later(seconds=0.9) == {V4: ""}
    assert host.later(seconds=0.1)[V4]
    host.ip("route", "del", "unreachable", V4)
    assert host.later(seconds=1) == {V4: ""}
    assert host.looks == 3


@pytest.mark.parametrize(
    "change",
    [
        "rule add to 10.9.0.2 prohibit",
        "-6 rule add prohibit pref 4000",
        "link set lan down",
        "address del 192.0.2.1/24 dev lan",
    ],
)
def test_rules_links_and_addresses_are_changes_too(host: Host, change: str) -> None:
    host.read(V4)
    host.later(seconds=2)
    assert host.looks == 1
    host.ip(*change.split())
    host.later(seconds=2)
    assert host.looks == 2


def test_more_changes_than_the_socket_holds_are_a_change_once(host: Host) -> None:
    host.read(V4)
    lines = "".join(f"route add 10.{n // 250}.{n % 250}.1/32 dev lan\n" for n in range(3000))
    host.namespace.run(["ip", "-batch", "-"], stdin=lines + f"route add unreachable {V4}\n")
    assert host.later(seconds=1)[V4]
    host.later(seconds=1)
    assert host.looks == 2


def test_looks_take_no_more_than_a_fiftieth_of_a_processor(host: Host) -> None:
    spent = iter(range(1000))
    host.reader._cpu = lambda: float(next(spent))  # each look takes a second
    host.read(V4)
    host.ip("route", "add", "unreachable", V4)
    assert host.later(seconds=49) == {V4: ""}
    assert host.later(seconds=2)[V4]


def test_other_targets_are_looked_at_when_they_are_asked_for(host: Host) -> None:
    assert host.read(V4) == {V4: ""}
    assert host.later(V4, V6, seconds=1) == {V4: "", V6: ""}
    assert host.later(V6, seconds=1) == {V6: ""}
    host.reader.ask(())
    assert host.read() == {}


def test_thousands_of_targets_are_looked_at_in_parts_and_told_when_all_are_known(host: Host) -> None:
    targets = [f"10.9.{n // 250}.{n % 250 + 1}" for n in range(TARGETS_AT_ONCE + 10)]
    host.ip("address", "add", "10.9.0.1/16", "dev", "tun0")
    assert host.read(*targets[1:]) == {}
    assert set(host.read().values()) == {""}
    assert len(host.read()) == TARGETS_AT_ONCE + 9


def test_a_device_that_is_gone_has_no_answer(host: Host) -> None:
    host.read(V4)
    host.ip("link", "del", "tun0")
    assert host.later(seconds=1) == {}


# --- what goes wrong ------------------------------------------------------------------------------------------------


class Deaf:
    """A socket of which the kernel does not answer."""

    def __init__(self, error: int) -> None:
        self.error = error

    def send(self, _data: bytes) -> None:
        raise OSError(self.error, "no")

    def close(self) -> None:
        pass


def test_a_kernel_that_refuses_is_a_failure_of_this_look_alone() -> None:
    refusing = [True]

    def opened(protocol: int) -> socket.socket:
        return Deaf(errno.EPERM) if refusing else open_socket(protocol)  # type: ignore[return-value]

    reader = RouteReader(Clock(), opened)
    reader.ask(((1, "127.0.0.1"),))
    with pytest.raises(SourceError, match="not permitted"):
        reader.read()
    refusing.clear()
    assert reader.read() == {(1, "127.0.0.1"): "127.0.0.1 is an address of this host itself"}
    reader.close()


def test_without_a_socket_that_hears_of_changes_it_looks_every_minute() -> None:
    def no_watch() -> socket.socket:
        raise OSError(errno.EMFILE, "too many")

    clock = Clock()
    reader = RouteReader(clock, open_watch=no_watch)
    reader.ask(((1, "127.0.0.1"),))
    first = reader.read()
    clock.now += 30
    assert reader.read() is first
    reader.close()


@pytest.mark.parametrize("size", range(12))
def test_cut_off_answers_are_refused(size: int) -> None:
    for decode in (lookups.decode_route, lookups.decode_link, lambda data: rules.decode(data, 0, len(data))):
        with pytest.raises(DecodeError):
            decode(bytes(size))


def test_an_error_that_says_nothing_of_routes_is_not_known() -> None:
    assert lookups.refusal(errno.ENOBUFS) == lookups.refusal(errno.EAFNOSUPPORT) == ""


def test_many_questions_are_answered_in_their_order() -> None:
    netlink = Netlink(0)
    with contextlib.closing(netlink):
        links = [1, 999999, 1] * 40
        answers = netlink.ask(lookups.RTM_GETLINK, [lookups.link_request(ifindex) for ifindex in links])
    found = [answer if isinstance(answer, int) else lookups.decode_link(answer).name for answer in answers]
    assert found == ["lo", errno.ENODEV, "lo"] * 40
