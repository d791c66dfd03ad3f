"""Who gets fast echoes, and how the others stand that should: a plan for every state of devices and links."""

from __future__ import annotations

import pytest

from tests.rows import device, key, link, peer, snapshot
from wg_exporter.config import Config, Fast, PeerConfig, ProbeSettings, Probing
from wg_exporter.config.fast import MOST_FAST
from wg_exporter.history.devices import changes
from wg_exporter.model import FailedDevice, Failure, Outcome, Peers, SourceName
from wg_exporter.plan.fast import (
    MOST_MET,
    NO_ENDPOINT,
    NO_INTERFACE,
    NOT_READ,
    NOT_THERE,
    TOO_MANY,
    FastPlanner,
    Unasked,
)
from wg_exporter.probed import FastPeer

ADDRESSES = ("10.0.0.254/24",)
READ = (Outcome(SourceName.KERNEL, "", True, 0.1), Outcome(SourceName.LINKS, "", True, 0.1))
UNREAD = (Outcome(SourceName.KERNEL, "", False, 2.5, "no answer"), Outcome(SourceName.LINKS, "", False, 2.5, "no"))
ENTRY = (PeerConfig(key(1), fast=Fast()),)


class Host:
    """A host with wg0, seen by a planner as the exporter would use it."""

    def __init__(self, *peers, fast=ENTRY, **settings):
        self.devices, self.links = [device(*peers)], [link(addresses=ADDRESSES)]
        self.outcomes, self.failed = READ, ()
        self.planner, self.known = FastPlanner(Config(peers=fast, probe=ProbeSettings(**settings))), {}

    def plan(self):
        seen = snapshot(*self.devices, links=self.links, failed=self.failed, outcomes=self.outcomes)
        devices = changes(self.known, seen)
        self.known = {change.key: change.left for change in devices}
        return self.planner.plan(devices, seen)

    def vanish(self):
        self.devices, self.links = [], []
        return self


def who(plan):
    return [(row.key[1], row.key[2]) for row in plan.peers]


@pytest.mark.parametrize("enabled", list(Probing))
def test_the_peers_with_fast_in_their_entry_get_fast_echoes_and_no_others(enabled):
    plan = Host(peer(1), peer(2), enabled=enabled).plan()
    assert plan.peers == (FastPeer(("", "wg0", key(1)), 7, "10.0.0.1", 0.1, 6),)
    assert plan.unasked == {}


def test_without_fast_echoes_there_is_nothing_to_plan():
    host = Host(peer(1), fast=())
    assert host.plan() == ((), {}, frozenset())
    assert host.plan() is host.plan()


def test_an_entry_for_one_interface_goes_before_the_one_for_all():
    here = PeerConfig(key(1), interface="wg1", fast=Fast(0.2, 3), target="10.0.0.1")
    host = Host(peer(1), fast=(PeerConfig(key(1), fast=Fast(1.0, 2)), here))
    host.devices.append(device(peer(1), name="wg1"))
    host.links.append(link("wg1"))
    assert [(row.key[1], row.interval, row.multiplier) for row in host.plan().peers] == [
        ("wg0", 1.0, 2),
        ("wg1", 0.2, 3),
    ]


def test_while_only_counters_move_the_plan_is_the_same_object():
    host = Host(peer(1))
    first = host.plan()
    host.devices[0] = host.devices[0]._replace(peers=Peers.of([peer(1, rx_bytes=99)], host.devices[0].peers))
    assert host.plan() is first


def test_while_those_that_are_asked_stay_the_same_the_prober_gets_the_same_object():
    host = Host(peer(1), peer(2), fast=(*ENTRY, PeerConfig(key(2), fast=Fast())))
    host.devices[0] = device(peer(1), peer(2, endpoint=""))
    first = host.plan()
    host.devices[0] = device(peer(1))
    second = host.plan()
    assert second.unasked != first.unasked
    assert second.peers is first.peers


def test_a_peer_that_nothing_can_be_sent_to_is_down():
    assert Host(peer(1, endpoint="")).plan().unasked == {
        ("", "wg0", key(1)): Unasked(down=True, why=NO_ENDPOINT, target="10.0.0.1")
    }


def test_a_peer_without_a_target_is_not_known():
    [row] = Host(peer(1, allowed_ips=("0.0.0.0/0",))).plan().unasked.values()
    assert not row.down
    assert "target" in row.why or "address" in row.why


def test_a_peer_whose_interface_has_no_known_addresses_is_not_known():
    host = Host(peer(1))
    host.links = []
    assert list(host.plan().unasked.values()) == [Unasked(down=False, why=NO_INTERFACE)]


@pytest.mark.parametrize("interface", [None, "wg0"])
def test_a_peer_that_was_there_is_down_once_its_interface_is_gone_for_certain(interface):
    host = Host(peer(1), fast=(PeerConfig(key(1), interface=interface, fast=Fast()),))
    assert who(host.plan()) == [("wg0", key(1))]
    plan = host.vanish().plan()
    assert (plan.peers, plan.unasked) == (
        (),
        {("", "wg0", key(1)): Unasked(down=True, why=NOT_THERE, target="10.0.0.1")},
    )


def test_a_peer_that_was_removed_from_its_interface_is_down():
    host = Host(peer(1), peer(2))
    host.plan()
    host.devices[0] = device(peer(2))
    assert host.plan().unasked == {("", "wg0", key(1)): Unasked(down=True, why=NOT_THERE, target="10.0.0.1")}


def test_a_peer_that_never_was_there_is_down_if_its_entry_says_where_it_should_be():
    assert Host(fast=(PeerConfig(key(1), interface="wg0", fast=Fast()),)).vanish().plan().unasked == {
        ("", "wg0", key(1)): Unasked(down=True, why=NOT_THERE)
    }
    assert Host(fast=(PeerConfig(key(1), fast=Fast()),)).vanish().plan() == ((), {}, {("", key(1))})


def test_what_can_not_be_read_stays_as_it_was_and_is_not_known_before_the_first_time():
    entry = (PeerConfig(key(1), interface="wg0", fast=Fast()),)
    host = Host(peer(1), fast=entry)
    before = host.plan()
    host.vanish().outcomes = UNREAD
    assert host.plan() == before
    host = Host(peer(1), fast=entry).vanish()
    host.failed = (FailedDevice("", "wg0", Failure.OTHER, "hangs"),)
    assert host.plan().unasked == {("", "wg0", key(1)): Unasked(down=False, why=NOT_READ)}


def test_a_device_whose_link_could_not_be_read_is_asked_as_before():
    host = Host(peer(1))
    before = host.plan()
    host.links, host.outcomes = [], UNREAD
    assert host.plan() == before


@pytest.mark.parametrize(("interval", "most"), [(0.1, MOST_FAST), (0.05, MOST_FAST // 2), (10.0, MOST_FAST)])
def test_an_entry_that_means_too_many_peers_or_echoes_is_for_the_first_of_them(interval, most):
    host = Host(peer(1), fast=(PeerConfig(key(1), fast=Fast(interval)),))
    for number in range(most):
        host.devices.append(device(peer(1), name=f"x{number}"))
        host.links.append(link(f"x{number}", addresses=ADDRESSES))
    plan = host.plan()
    assert (len(plan.peers), list(plan.unasked.values())) == (most, [Unasked(down=False, why=TOO_MANY)])


def test_interfaces_that_come_and_go_under_ever_other_names_do_not_make_ever_more_peers():
    host = Host(peer(1))
    for number in range(MOST_MET + 9):
        host.devices = [device(peer(1)), device(peer(1), name=f"x{number}")]
        host.links = [link(addresses=ADDRESSES), link(f"x{number}", addresses=ADDRESSES)]
        host.plan()
    plan = host.vanish().plan()
    gone = [interface for _, interface, _ in plan.unasked]
    assert len(gone) == MOST_MET
    assert {"wg0", f"x{number}", "x10"} <= set(gone)
    assert "x0" not in gone


@pytest.mark.parametrize(
    ("fast", "gone"),
    [
        (ENTRY, ["wg0"]),
        ((PeerConfig(key(1), interface="wg0", fast=Fast()),), ["wg0"]),
        ((PeerConfig(key(1), interface="wg1", fast=Fast()),), ["wg1"]),
        ((PeerConfig(key(2), fast=Fast()),), []),
        ((), []),
    ],
)
def test_after_a_reload_a_peer_that_was_met_is_known_to_be_gone_if_it_is_still_wanted(fast, gone):
    host = Host(peer(1))
    host.plan()
    before, host.planner = host.planner, FastPlanner(Config(peers=fast))
    host.planner.follow(before)
    assert [interface for _, interface, _ in host.vanish().plan().unasked] == gone
