"""Which routes are looked at, and for whom the answers count: what is meant to be so is not asked."""

from __future__ import annotations

import pytest

from tests.rows import conf_file, declared, device, key, link, peer, snapshot
from wg_exporter.config import Config, Interfaces, InterfaceSettings, PeerConfig, Routes
from wg_exporter.health.states import UNKNOWN, Obstacle, Reason
from wg_exporter.history.devices import changes
from wg_exporter.model import Outcome, Peers, SourceName
from wg_exporter.names.table import Names
from wg_exporter.plan.planner import Planner
from wg_exporter.plan.routing import Routing

WG0 = ("", "wg0")
READ = (Outcome(SourceName.LINKS, "", True, 0.1),)


class Host:
    """A host with wg0, of which a plan is made, and what the reader answers."""

    def __init__(self, *peers, config=None, conf=(), **about):
        self.config = config or Config()
        self.device, self.conf, self.answers = device(*peers, **about), conf, {}
        self.planner, self.names, self.routing, self.known = (
            Planner(self.config),
            Names(self.config),
            Routing(self.config),
            {},
        )

    def look(self):
        place = link(self.device.name, addresses=("10.0.0.254/24", "fd00::1/64"))._replace(netns=self.device.netns)
        seen = snapshot(self.device, links=[place], conf=self.conf, outcomes=READ)
        seen = seen._replace(routes={self.device.netns: self.answers})
        self.names.use(seen.conf)
        found = changes(self.known, seen)
        self.known = {change.key: change.left for change in found}
        return self.planner.plan(found, seen, self.names.metas), seen

    def asked(self):
        plan, seen = self.look()
        return self.routing.questions(plan, seen.conf)

    def obstacles(self):
        plan, seen = self.look()
        return self.routing.obstacles(plan, seen)


def test_the_targets_that_are_probed_are_asked_for_with_their_device():
    host = Host(peer(1), peer(2), peer(3, persistent_keepalive=0), peer(4, endpoint=""))
    assert host.asked() == {"": ((7, "10.0.0.1"), (7, "10.0.0.2"))}


def test_they_are_asked_for_in_the_namespace_of_the_device():
    assert Host(peer(1), netns="blue").asked() == {"blue": ((7, "10.0.0.1"),)}


def test_the_questions_are_the_same_object_while_nothing_changes():
    host = Host(peer(1))
    first = host.asked()[""]
    host.device = host.device._replace(peers=Peers.of([peer(1, rx_bytes=5)], host.device.peers))
    assert host.asked()[""] is first
    host.conf = (conf_file("wg0", declared(1, endpoint="192.0.0.1:51820")),)
    assert host.asked()[""] is first
    host.device = host.device._replace(peers=Peers.of([peer(1), peer(2)], host.device.peers))
    host.conf = ()
    assert len(host.asked()[""]) == 2


@pytest.mark.parametrize(("table", "asked"), [(True, {}), (False, {"": ((7, "10.0.0.1"),)})])
def test_a_device_whose_file_has_a_table_of_its_own_is_not_judged(table, asked):
    file = conf_file("wg0", declared(1, endpoint="192.0.0.1:51820"))._replace(own_table=table)
    assert Host(peer(1), conf=(conf_file("wg9"), file)).asked() == asked


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ([("wg0", Routes.IGNORE)], False),
        ([("wg*", Routes.IGNORE)], False),
        ([("wg1", Routes.IGNORE)], True),
        ([("wg0", Routes.CHECK), ("*", Routes.IGNORE)], True),
    ],
)
def test_routes_ignore_of_the_first_entry_that_matches_the_interface_counts(settings, asked):
    entries = tuple(InterfaceSettings(interface=name, routes=routes) for name, routes in settings)
    host = Host(peer(1), config=Config(interfaces=Interfaces(settings=entries)))
    assert bool(host.asked()) is asked


def test_an_address_that_means_nothing_without_a_device_is_not_asked_for():
    assert Host(peer(1, allowed_ips=("fe80::2/128",))).asked() == {}
    assert Host(peer(1, allowed_ips=("fd00::2/128",))).asked() == {"": ((7, "fd00::2"),)}


def test_an_answer_counts_for_the_peers_that_are_probed_there():
    host = Host(peer(1), peer(2), peer(3))
    host.answers = {(7, "10.0.0.1"): "", (7, "10.0.0.2"): "no route", (8, "10.0.0.3"): "of another device"}
    assert host.obstacles() == {WG0: {key(2): Obstacle(Reason.NOT_ROUTED, "no route"), key(3): UNKNOWN}}


def test_what_is_in_the_way_is_the_same_object_until_an_answer_changes():
    host = Host(peer(1))
    host.answers = {(7, "10.0.0.1"): "no route"}
    first = host.obstacles()
    assert host.obstacles() is first
    host.answers = {(7, "10.0.0.1"): "no route", (7, "10.0.0.9"): ""}
    assert host.obstacles()[WG0] is first[WG0]
    host.answers = {(7, "10.0.0.1"): ""}
    assert host.obstacles() == {}


# --- allowed IPs ----------------------------------------------------------------------------------------------------


def aimed(target):
    return Config(peers=(PeerConfig(public_key=key(1), target=target),))


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("10.0.0.9", "target 10.0.0.9 is in no peer's allowed IPs"),
        ("10.0.0.2", f"target 10.0.0.2 is in the allowed IPs of another peer, {key(2)[:8]}"),
        ("10.0.0.254", None),  # of the interface itself: a mistake in the configuration
        ("10.0.0.1", None),
    ],
)
def test_a_target_that_allowed_ips_do_not_give_to_the_peer(target, line):
    host = Host(peer(1), peer(2), config=aimed(target))
    host.answers = {(7, "10.0.0.1"): "", (7, "10.0.0.2"): ""}
    assert host.obstacles() == ({WG0: {key(1): Obstacle(Reason.NOT_ALLOWED, line)}} if line else {})


def test_a_peer_whose_only_allowed_ip_another_one_took_is_told_with_who_has_it():
    conf = (
        conf_file(
            "wg0",
            declared(1, endpoint="192.0.0.1:51820", allowed_ips=("10.0.0.2/32",)),
            declared(2, endpoint="192.0.0.2:51820"),
        ),
    )
    host = Host(peer(1, allowed_ips=()), peer(2), conf=conf)
    host.answers = {(7, "10.0.0.2"): ""}
    said = host.obstacles()[WG0][key(1)]
    assert said.reason is Reason.NOT_ALLOWED
    assert said.line == (
        "no allowed IPs: nothing can be sent to this peer; 10.0.0.2/32, which its file gives to it, is in the allowed "
        f"IPs of another peer, {key(2)[:8]}"
    )


def test_what_the_peer_has_is_not_called_taken_because_another_has_a_part_of_it():
    file = conf_file("wg0", declared(1, endpoint="192.0.0.1:51820", allowed_ips=("10.1.0.1/16",)))
    peers = (peer(1, allowed_ips=("10.1.0.0/16",)), peer(2, allowed_ips=("10.1.0.0/24",)))
    host = Host(*peers, config=aimed("10.9.0.1"), conf=(file,))
    assert host.obstacles()[WG0][key(1)].line == "target 10.9.0.1 is in no peer's allowed IPs"


@pytest.mark.parametrize("meant", ["routes", "table"])
def test_allowed_ips_that_are_meant_so_are_no_fault(meant):
    settings = (InterfaceSettings(interface="wg0", routes=Routes.IGNORE),) if meant == "routes" else ()
    config = Config(peers=aimed("10.0.0.9").peers, interfaces=Interfaces(settings=settings))
    conf = (conf_file("wg0", declared(2))._replace(own_table=meant == "table"),)
    assert Host(peer(1), peer(2), config=config, conf=conf).obstacles() == {}


def test_a_peer_with_networks_alone_is_no_fault():
    assert Host(peer(1, allowed_ips=("10.1.0.0/16",))).obstacles() == {}


def test_nobody_is_told_of_a_peer_that_nobody_waits_for():
    assert Host(peer(1, allowed_ips=(), persistent_keepalive=0)).obstacles() == {}
