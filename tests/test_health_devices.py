"""The devices of a host: which are there, gone, hidden or waited for, and what is told of their peers."""

from __future__ import annotations

import pytest

from tests.judging import WG0, WG1, Host
from tests.rows import device, key, peer
from tests.tunnels import LINKS_READ, LINKS_UNREAD
from wg_exporter.health.states import NOT_JUDGED, Reason, State
from wg_exporter.model import Failure, Outcome, SourceName

ABSENT = Outcome(SourceName.LINKS, "", False, 0.0, "no such namespace", Failure.NAMESPACE_GONE)


# --- who is there ----------------------------------------------------------------------------------------------------


def test_of_a_device_that_was_never_looked_at_nothing_is_said():
    host = Host(wg0=(1,))
    assert host.health.of(device(peer(1), peer(2), name="wg7")) == (NOT_JUDGED, NOT_JUDGED)


def test_peers_are_found_by_their_keys_whatever_their_order():
    host = Host(wg0=(1, 2, 11))
    host.mute = {2, 11}
    host.look(times=60)
    found = host.health.of(device(peer(11), peer(3), peer(2), peer(1)))
    assert [row.state for row in found] == [State.IDLE, None, State.DOWN, State.UP]


def test_of_a_device_that_is_gone_those_are_told_who_are_expected_up():
    host = Host(wg0=(11, 1, 12, 2), wg1=(3,))
    host.look()
    host.lose(WG0)
    host.look(times=6)
    assert host.gone() == {"wg0": (key(1), key(2))}
    [gone] = host.health.gone()
    assert [meta.name for meta in gone.metas] == ["1", "2"]
    assert [row.reason for row in gone.rows] == [Reason.INTERFACE_GONE] * 2
    told = {place[1]: tuple(keys) for place, keys, _metas, _rows in host.health.devices()}
    assert told == {"wg1": (key(3),), "wg0": (key(1), key(2))}
    assert host.states() == {"wg1": [State.UP], "wg0": [State.DOWN] * 2}


def test_whoever_is_not_there_at_a_scrape_is_told_of_before_a_tick_has_missed_it():
    host = Host(wg0=(1, 11), wg1=(12,))
    host.look()
    unseen = host.health.unseen(())
    assert [(gone.name, gone.public_key) for gone in unseen] == [("wg0", (key(1),))]
    assert host.health.unseen({WG1}) == unseen
    assert host.health.unseen({WG0}) == ()
    assert host.health.gone() == ()


def test_states_are_counted_over_all_devices():
    host = Host(wg0=(1, 2, 11), wg1=(3, 12))
    host.mute = {3, 11}
    host.look(times=60)
    assert {state: host.health.count(state) for state in State} == {
        State.UP: 3,
        State.DOWN: 1,
        State.IDLE: 1,
        State.DEGRADED: 0,
        State.NEVER: 0,
    }


@pytest.mark.parametrize("others", [(), (12,)])
def test_whoever_is_expected_from_a_look_on_that_finds_other_peers_too_is_waited_for(others):
    host = Host(wg0=(11,))
    host.mute = {11}
    host.look(times=60)
    host.devices[WG0], host.expected = (*others, 11), {11}
    host.look(times=6)
    assert (host.changes[-1].name, host.changes[-1].after) == ("11", State.DOWN)


# --- who is gone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcomes", [(LINKS_READ,), (ABSENT,)])
def test_a_device_is_gone_where_links_can_be_read_or_the_namespace_is_gone_too(outcomes):
    host = Host(wg0=(1,))
    host.lose(WG0)
    host.outcomes = outcomes
    host.look(times=6)
    assert host.states() == {"wg0": [State.DOWN]}


@pytest.mark.parametrize(
    "outcomes",
    [
        (),
        (LINKS_UNREAD,),
        (LINKS_READ._replace(source=SourceName.KERNEL),),
        (LINKS_READ._replace(netns="blue"), LINKS_UNREAD),
    ],
)
def test_a_device_is_not_gone_where_nobody_can_tell(outcomes):
    host = Host(wg0=(1,))
    host.lose(WG0)
    host.outcomes = outcomes
    host.look(times=6)
    assert host.gone() == {}


def test_a_device_whose_link_is_there_is_not_gone():
    host = Host(wg0=(1,))
    del host.devices[WG0]
    host.look(times=10)
    assert host.gone() == {}


def test_a_device_that_is_read_is_not_gone_whatever_its_link():
    host = Host(wg0=(1,))
    del host.links[WG0]
    host.look(times=10)
    assert host.states() == {"wg0": [State.UP]}
    assert host.gone() == {}


@pytest.mark.parametrize(("numbers", "missed"), [((1,), set()), ((1,), {WG1}), ((11,), {WG0}), ((), {WG0})])
def test_a_device_that_nobody_misses_or_none_of_whose_peers_is_expected_is_forgotten(numbers, missed):
    host = Host(wg0=numbers)
    host.look()
    host.missed = missed
    host.lose(WG0)
    host.look()
    assert (host.gone(), host.states(), host.health.unseen(())) == ({}, {}, ())


def test_others_are_looked_at_when_one_is_forgotten():
    host = Host(wg0=(11,), wg1=(1,))
    host.lose(WG0)
    host.look()
    assert host.states() == {"wg1": [State.UP]}


@pytest.mark.parametrize("goes", ["gone", "down"])
def test_a_device_that_is_back_for_a_moment_is_missed_from_its_last_disappearance(goes):
    host = Host(wg0=(1,))
    host.mute = {1}
    host.look(times=6)

    def away():
        if goes == "gone":
            return host.lose(WG0)
        return host.down.add(WG0)

    def back(peers):
        host.down.clear()
        host.devices[WG0], host.links[WG0] = peers or (1,), 7

    peers = away()
    host.look(times=5)
    back(peers)
    host.look()
    away()
    host.look(times=5)
    assert host.health.count(State.DOWN) == 0
    host.look()
    assert host.health.count(State.DOWN) == 1


def test_an_interface_stays_down_while_links_can_not_be_read():
    host = Host(wg0=(1,))
    host.mute = {1}
    host.look(times=6)
    host.down = {WG0}
    host.look(times=2)
    host.outcomes, host.down = (LINKS_UNREAD,), set()
    host.look(times=3)
    assert host.health.count(State.DOWN) == 0
    host.look()
    assert host.changes[-1].reason is Reason.INTERFACE_DOWN
    host.outcomes = (LINKS_READ,)
    host.look()
    assert host.health.count(State.DOWN) == 1, "not heard yet"


def test_what_is_received_does_not_make_up_for_an_interface_that_is_down():
    host = Host(wg0=(1,))
    host.look()
    host.down = {WG0}
    host.look(times=6)
    assert host.states() == {"wg0": [State.DOWN]}


# --- what is told of a change ----------------------------------------------------------------------------------------


def test_a_change_says_who_it_was_and_what_it_was_seen_by():
    host = Host(wg0=(1,), wg1=(2,))
    host.look()
    host.mute = {2}
    host.look(times=60)
    first, second, third = host.changes
    assert first[:6] == ("", "wg0", key(1), "1", None, State.UP)
    assert (first.reason, first.evidence) == (None, "last heard 0 s ago")
    assert second[:6] == ("", "wg1", key(2), "2", None, State.UP)
    assert third[:7] == ("", "wg1", key(2), "2", State.UP, State.DOWN, Reason.STALE_HANDSHAKE)
    assert third.evidence == "last heard 3 min ago"


def test_one_suspect_on_any_device_is_reason_for_a_closer_look():
    host = Host(wg0=(1,), wg1=(2,))
    assert host.health.suspicious
    host.look()
    assert not host.health.suspicious
    host.devices[WG0] = (1, 3, 12)
    host.mute = {3, 12}
    host.look()
    assert host.health.suspicious, "of a new one nothing is known yet, and for the one after it nobody waits"
    host.devices[WG0] = (1,)
    host.look()
    assert not host.health.suspicious
