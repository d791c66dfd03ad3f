"""What is probed and what is not: a plan for every state of devices, links, names and configuration."""

from __future__ import annotations

import pytest

from tests.lab import Lab, keypair
from tests.rows import conf_file, declared, device, key, link, peer, snapshot
from wg_exporter.config import Config, NamespaceConfig, PeerConfig, ProbeSettings, Probing
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.history.devices import changes
from wg_exporter.model import FailedDevice, Failure, Outcome, Peers, SourceName
from wg_exporter.names.table import Names
from wg_exporter.plan.planner import NO_ENDPOINT, NO_INTERFACE, NOT_EXPECTED, TURNED_OFF, Planner
from wg_exporter.plan.targets import Origin
from wg_exporter.probed import ProbePeer
from wg_exporter.prober.mtu.advice import advise
from wg_exporter.prober.mtu.pairs import Big
from wg_exporter.prober.mtu.verdict import Findings
from wg_exporter.prober.path import tunnel
from wg_exporter.reader.host import host_sources

PLAIN = Config()
ADDRESSES = ("10.0.0.254/24", "fd00::1/64")
UNREAD = (Outcome(SourceName.LINKS, "", False, 2.5, "no answer within 2.5 s"),)
READ = (Outcome(SourceName.LINKS, "", True, 0.1),)


class Host:
    """A host with wg0, seen by a planner and its names as the exporter would use them."""

    def __init__(self, *peers, config=PLAIN, addresses=ADDRESSES, conf=(), **about):
        self.devices = [device(*peers, **about)]
        self.links = [link(addresses=addresses)]
        self.failed, self.conf, self.outcomes = (), conf, READ
        self.ports = {"": frozenset({51820})}
        self.planner, self.names, self.known = Planner(config), Names(config), {}

    def plan(self):
        seen = snapshot(*self.devices, links=self.links, failed=self.failed, conf=self.conf, outcomes=self.outcomes)
        seen = seen._replace(udp_ports=self.ports)
        self.names.use(seen.conf)
        devices = changes(self.known, seen)
        self.known = {change.key: change.left for change in devices}
        return self.planner.plan(devices, seen, self.names.metas)

    def change(self, *peers, **about):
        """The device as it is read next: these peers, columns shared with those of before."""
        self.devices[0] = self.devices[0]._replace(peers=Peers.of(peers, self.devices[0].peers), **about)


def idle(n, **changes):
    """A peer that nobody expects to be up."""
    return peer(n, persistent_keepalive=0, **changes)


def probed(plan):
    return [row.key[2] for row in plan.peers]


def configured(*peers, **settings):
    return Config(peers=peers, probe=ProbeSettings(**settings))


# --- who is probed --------------------------------------------------------------------------------------------------


def test_by_default_the_peers_expected_up_are_probed():
    plan = Host(peer(1), idle(2), peer(3)).plan()
    assert probed(plan) == [key(1), key(3)]
    assert plan.unprobed == {}


@pytest.mark.parametrize(("enabled", "who"), [(Probing.ON, [key(1), key(2)]), (Probing.OFF, [])])
def test_the_configuration_turns_all_on_or_off(enabled, who):
    assert probed(Host(peer(1), idle(2), config=configured(enabled=enabled)).plan()) == who


@pytest.mark.parametrize("enabled", list(Probing))
def test_a_peer_may_differ_from_the_rest(enabled):
    exceptions = (PeerConfig(key(1), probe=Probing.OFF), PeerConfig(key(2), probe=Probing.ON))
    assert probed(Host(peer(1), idle(2), config=configured(*exceptions, enabled=enabled)).plan()) == [key(2)]


def test_auto_for_one_peer_asks_whether_it_is_expected_up():
    auto = tuple(PeerConfig(key(n), probe=Probing.AUTO) for n in (1, 2))
    assert probed(Host(peer(1), idle(2), config=configured(*auto, enabled=Probing.ON)).plan()) == [key(1)]
    assert probed(Host(peer(1), idle(2), config=configured(*auto, enabled=Probing.OFF)).plan()) == [key(1)]


def test_what_is_said_of_a_peer_on_one_interface_goes_before_the_rest_setting_by_setting():
    said = (
        PeerConfig(key(1), interface="wg0", interval=2.0),
        PeerConfig(key(1), interval=30.0, target="10.0.0.1"),
        PeerConfig(key(1), interface="wg1", probe=Probing.OFF),
    )
    host = Host(peer(1), config=configured(*said))
    host.devices.append(device(peer(1), name="wg1"))
    host.devices.append(device(peer(1), name="wg2"))
    host.links += [link(name, addresses=ADDRESSES) for name in ("wg1", "wg2")]
    plan = host.plan()
    assert [(row.key[1], row.interval) for row in plan.peers] == [("wg0", 2.0), ("wg2", 30.0)]
    assert plan.targets["", "wg0"][key(1)].origin is Origin.CONFIGURED


# --- what the prober is told ----------------------------------------------------------------------------------------


def test_a_row_says_where_to_aim_and_how():
    [row] = Host(peer(1), fwmark=0x51, config=configured(interval=7.0)).plan().peers
    assert row == ProbePeer(
        key=("", "wg0", key(1)),
        ifindex=7,
        mtu=1420,
        target="10.0.0.1",
        ipv6_inside=True,
        endpoint="192.0.0.1",
        fwmark=0x51,
        underlay="",
        roams=False,
        interval=7.0,
    )


@pytest.mark.parametrize(
    ("addresses", "clamped"),
    [
        (("10.0.0.254/24", "fe80::1/64"), False),
        (("10.0.0.254/24", "FEBF::1/64"), False),
        (("10.0.0.254/24", "fec0::1/64"), True),
        (("10.0.0.254/24", "fe80::1/64", "fd00::1/64"), True),
    ],
)
def test_an_mtu_below_1280_is_advised_only_where_the_kernel_gives_back_the_ipv6_addresses_it_takes(addresses, clamped):
    [row] = Host(peer(1), addresses=addresses).plan().peers
    narrow = Findings(tunnel(row), big=Big.HOLE, ever=True, outer=1311, outer_full=False, inner=1251, agreeing=True)
    advice = advise(narrow)
    assert advice.mtu == (None if clamped else 1248)
    assert bool(advice.caution) == clamped
    assert advice.commands[0].startswith("iptables" if clamped else "ip link set dev wg0 mtu 1248")


def test_the_same_device_in_two_namespaces_is_two():
    host = Host(peer(1))
    host.devices.append(device(peer(1), netns="blue"))
    host.links.append(link(ifindex=3, netns="blue", addresses=("10.0.0.9/24",)))
    plan = host.plan()
    assert [(row.key[0], row.ifindex, row.underlay, row.ipv6_inside) for row in plan.peers] == [
        ("", 7, "", True),
        ("blue", 3, "blue", False),
    ]


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [("192.0.2.1:51820", "192.0.2.1"), ("[2001:db8::1]:1", "2001:db8::1"), ("[fe80::1%3]:1", "fe80::1%3")],
)
def test_an_endpoint_is_told_without_its_port(endpoint, address):
    assert [row.endpoint for row in Host(peer(1, endpoint=endpoint)).plan().peers] == [address]


def test_a_peer_roams_if_the_file_of_its_device_does_not_know_where_it_is():
    conf = (conf_file("wg0", declared(1, endpoint="192.0.2.1:51820"), declared(2)), conf_file("wg1", declared(3)))
    host = Host(peer(1), peer(2), config=configured(enabled=Probing.ON), conf=conf)
    assert [row.roams for row in host.plan().peers] == [False, True]
    host.conf = ()
    assert [row.roams for row in host.plan().peers] == [False, False], "where no file tells, nobody knows"


# --- where the device has its UDP socket ----------------------------------------------------------------------------


def outside(host):
    """From which namespace which endpoints are probed."""
    return [(row.underlay, row.endpoint) for row in host.plan().peers]


def moved(**ports):
    """A host whose device was moved to the namespace `blue`, and the ports that are bound in each."""
    host = Host(peer(1), netns="blue")
    host.links = [link(netns="blue", addresses=ADDRESSES)]
    host.ports = {netns.replace("host", ""): frozenset(bound) for netns, bound in ports.items()}
    return host


def test_outer_probes_leave_where_the_port_of_the_device_is_bound():
    assert outside(moved(host=[53], blue=[51820])) == [("blue", "192.0.0.1")]
    assert outside(moved(host=[53, 51820], blue=[53])) == [("", "192.0.0.1")]
    assert outside(moved(host=[51820], red=[], blue=[51820])) == [("blue", "192.0.0.1")]


def test_a_port_that_is_bound_nowhere_or_in_several_other_namespaces_allows_no_outer_probes():
    assert outside(moved(host=[53], blue=[])) == [("", "")]
    assert outside(moved(host=[51820], red=[51820], blue=[])) == [("", "")]


def test_where_ports_cannot_be_read_the_socket_is_where_it_was_or_with_the_device():
    host = moved(host=[51820])
    assert outside(host) == [("blue", "192.0.0.1")]
    host.ports = {"": frozenset({51820}), "blue": frozenset()}
    assert outside(host) == [("", "192.0.0.1")]
    host.ports = {}
    assert outside(host) == [("", "192.0.0.1")]


def test_a_device_that_has_no_port_yet_is_taken_to_have_its_socket_with_it():
    host = moved(host=[], blue=[])
    host.devices[0] = host.devices[0]._replace(listen_port=0)
    assert outside(host) == [("blue", "192.0.0.1")]


@pytest.mark.lab
def test_a_real_device_that_was_moved_has_its_socket_where_its_daemon_is(lab: Lab):
    outside, inside = lab.namespace("out"), lab.namespace("in")
    far = keypair().public
    name = lab.wireguard(
        outside,
        "wg0",
        f"""
        [Interface]
        PrivateKey = {keypair().private}
        ListenPort = 51820
        [Peer]
        PublicKey = {far}
        Endpoint = 192.0.2.1:51820
        AllowedIPs = 10.7.0.2/32
        PersistentKeepalive = 25
        """,
    ).name
    outside.ip("link", "set", name, "netns", inside.name)
    inside.ip("link", "set", name, "up")
    inside.ip("addr", "add", "10.7.0.1/24", "dev", name)
    config = Config(namespaces=(NamespaceConfig("out", netns=outside.name), NamespaceConfig("in", netns=inside.name)))
    exporter = Exporter(config, None, host_sources)
    try:
        seen, _view, _config = exporter.look()
    finally:
        exporter.stop()
    plan = Planner(config).plan(changes({}, seen), seen, Names(config).metas)
    [row] = [row for row in plan.peers if row.key[1] == name]
    assert row.key == ("in", name, far)
    assert (row.target, row.underlay, row.endpoint) == ("10.7.0.2", "out", "192.0.2.1")
    assert plan.targets["in", name][far].origin is Origin.IN_SUBNET


# --- why not --------------------------------------------------------------------------------------------------------


def reasons(plan):
    return {key[2]: why for key, why in plan.unprobed.items()}


def test_a_peer_without_an_endpoint_is_not_probed():
    plan = Host(peer(1, endpoint=""), peer(2)).plan()
    assert probed(plan) == [key(2)]
    assert reasons(plan) == {key(1): NO_ENDPOINT}


def test_a_peer_without_a_target_is_not_probed_and_the_reason_is_that_of_the_target():
    plan = Host(peer(1, allowed_ips=("0.0.0.0/0",)), peer(2)).plan()
    assert probed(plan) == [key(2)]
    assert "name one with `target`" in reasons(plan)[key(1)]


def test_a_configured_target_that_is_another_peers_is_refused():
    host = Host(peer(1), peer(2), config=configured(PeerConfig(key(1), target="10.0.0.2")))
    assert probed(host.plan()) == [key(2)]
    assert "another peer" in reasons(host.plan())[key(1)]


def test_a_device_without_a_link_is_not_probed():
    host = Host(peer(1), idle(2))
    host.links = []
    assert host.plan().peers == ()
    assert reasons(host.plan()) == {key(1): NO_INTERFACE}


def test_whoever_is_not_wanted_needs_no_reason():
    plan = Host(idle(1, endpoint=""), idle(2, allowed_ips=())).plan()
    assert (plan.peers, plan.unprobed, plan.targets) == ((), {}, {})


def test_a_link_that_is_down_is_probed_all_the_same_for_its_peers_are_not_up():
    host = Host(peer(1))
    host.links = [link(up=False, addresses=ADDRESSES)]
    assert len(host.plan().peers) == 1


# --- for a person ---------------------------------------------------------------------------------------------------


def test_every_peer_has_its_target_or_its_reason():
    host = Host(
        peer(1),
        peer(2, endpoint=""),
        peer(3, allowed_ips=("10.3.0.0/16",)),
        idle(4),
        peer(5),
        config=configured(PeerConfig(key(5), probe=Probing.OFF)),
    )
    host.plan()
    aims = host.planner.aims()
    assert {k: aim.wanted for (_, _, k), aim in aims.items()} == {
        key(1): True,
        key(2): True,
        key(3): True,
        key(4): False,
        key(5): False,
    }
    assert aims["", "wg0", key(1)] == ("10.0.0.1", "in_subnet", "", True)
    assert aims["", "wg0", key(2)] == ("10.0.0.2", "in_subnet", NO_ENDPOINT, True)
    assert "only networks" in aims["", "wg0", key(3)].reason
    assert aims["", "wg0", key(4)].reason == NOT_EXPECTED
    assert aims["", "wg0", key(5)].reason == TURNED_OFF


# --- what could not be read stays as it was -------------------------------------------------------------------------


def test_a_device_that_could_not_be_read_is_probed_on():
    host = Host(peer(1))
    before = host.plan()
    was = host.devices.pop()
    host.failed = (FailedDevice("", "wg0", was.backend, "busy"),)
    assert host.plan() is before


def test_a_device_that_is_gone_with_its_link_is_not():
    host = Host(peer(1))
    host.plan()
    host.devices, host.links = [], []
    assert host.plan().peers == ()


def test_links_that_could_not_be_read_change_nothing():
    host = Host(peer(1))
    before = host.plan()
    links, host.links, host.outcomes = host.links, [], UNREAD
    assert host.plan() is before
    host.devices.clear()
    assert host.plan() is before
    host.links, host.outcomes = links, READ
    assert host.plan() is before


def test_links_of_another_namespace_that_could_not_be_read_do_not_matter():
    host = Host(peer(1))
    host.plan()
    host.devices, host.links = [], []
    host.outcomes = (*READ, UNREAD[0]._replace(netns="blue"))
    assert host.plan().peers == ()


def test_a_namespace_that_is_gone_takes_its_devices_along():
    host = Host(peer(1))
    host.plan()
    host.devices, host.links, host.outcomes = [], [], (UNREAD[0]._replace(failure=Failure.NAMESPACE_GONE),)
    assert host.plan().peers == ()


def test_an_unreadable_device_that_was_made_anew_has_its_new_index():
    host = Host(peer(1))
    host.plan()
    host.devices, host.links = [], [link(ifindex=9, addresses=ADDRESSES)]
    assert [row.ifindex for row in host.plan().peers] == [9]


# --- the same object ------------------------------------------------------------------------------------------------


def test_while_only_counters_move_the_plan_is_the_same_object():
    host = Host(peer(1), peer(2), idle(3))
    before = host.plan()
    host.change(peer(1, rx_bytes=10**9), peer(2, last_handshake_ns=5), idle(3, tx_bytes=10**6))
    host.links = [host.links[0]._replace(rx_packets=99, tx_bytes=10**9)]
    assert host.plan() is before


def test_what_is_new_about_an_unprobed_peer_leaves_the_rows_the_same_object():
    host = Host(peer(1), idle(2), peer(3, endpoint=""))
    before = host.plan()
    host.change(peer(1), idle(2, endpoint="203.0.113.7:1"), peer(3, endpoint=""))
    assert host.plan() is before
    host.change(peer(1), idle(2), peer(3, endpoint="", allowed_ips=()))
    after = host.plan()
    assert after.peers is before.peers
    assert after.unprobed != before.unprobed


@pytest.mark.parametrize(
    "change",
    [
        lambda host: host.change(peer(1, endpoint="203.0.113.7:1"), peer(2)),
        lambda host: host.change(peer(1, allowed_ips=("10.0.0.77/32",)), peer(2)),
        lambda host: host.change(peer(1), peer(2, persistent_keepalive=0)),
        lambda host: host.change(peer(1), peer(2), peer(3)),
        lambda host: host.change(peer(2), peer(1)),
        lambda host: host.change(peer(1), peer(2), fwmark=5),
        lambda host: host.links.__setitem__(0, link(ifindex=8, addresses=ADDRESSES)),
        lambda host: host.links.__setitem__(0, link(mtu=1400, addresses=ADDRESSES)),
        lambda host: host.links.__setitem__(0, link(addresses=("10.0.0.254/24",))),
        lambda host: setattr(host, "conf", (conf_file("wg0", declared(1, endpoint="x:1")),)),
        lambda host: host.links.clear(),
        lambda host: host.ports.update({"": frozenset()}),
        lambda host: (host.devices.append(device(peer(9), name="wg1")), host.links.append(link("wg1", 8))),
    ],
)
def test_whatever_counts_makes_a_new_plan_that_a_fresh_planner_would_make_too(change):
    host = Host(peer(1), peer(2))
    before = host.plan()
    change(host)
    after = host.plan()
    assert after.peers != before.peers
    host.planner = Planner(Config())
    assert host.plan() == after


def test_a_device_that_went_and_came_back_is_planned_again():
    host = Host(peer(1))
    before = host.plan()
    devices, links = host.devices, host.links
    host.devices, host.links = [], []
    host.plan()
    host.devices, host.links = devices, links
    assert host.plan() == before


def test_of_ten_thousand_peers_whose_counters_move_the_plan_is_the_same_object():
    rows = [peer(n) if n < 500 else idle(n) for n in range(10_000)]
    host = Host(*rows, addresses=("10.0.255.254/16",))
    before = host.plan()
    assert len(before.peers) == 500
    host.change(*(row._replace(rx_bytes=row.rx_bytes + 1) for row in rows))
    assert host.plan() is before
