"""The devices of a host: which are there, gone, hidden, renamed or waited for, and what is told of their peers."""

from __future__ import annotations

import pytest

from tests.rows import SECOND, WALL, device, key, link, peer, snapshot
from tests.tunnels import KEEPALIVE, LIMITS, LINKS_READ, LINKS_UNREAD
from wg_exporter.health import Health
from wg_exporter.health.states import NOT_JUDGED, Reason, State
from wg_exporter.identity import PeerMeta
from wg_exporter.model import Outcome, SourceName

WG0, WG1 = ("", "wg0"), ("", "wg1")


class Host:
    """Devices by key with their peers' numbers; peers below 10 are expected up and heard at each look but the `mute`.

    `links` has the index of each link that is there.
    """

    def __init__(self, **devices):
        self.health, self.now = Health(), 0.0
        self.devices = {("", name): numbers for name, numbers in devices.items()}
        self.links = {place: 7 + number for number, place in enumerate(self.devices)}
        self.down, self.mute, self.missed = set(), set(), None
        self.outcomes = (LINKS_READ,)
        self.received = dict.fromkeys(range(100), 1000)
        self.changes = []
        self.look(0)

    def shown(self, place):
        rows = (
            peer(n, rx_bytes=self.received[n], last_handshake_ns=int((WALL - 10) * SECOND)) for n in self.devices[place]
        )
        return device(*rows, name=place[1])._replace(netns=place[0])

    def look(self, after=5, times=1):
        for _ in range(times):
            self.now += after
            for n in self.received.keys() - self.mute:
                self.received[n] += KEEPALIVE
            links = [
                link(name, ifindex)._replace(netns=netns, up=(netns, name) not in self.down)
                for (netns, name), ifindex in self.links.items()
            ]
            found = snapshot(*map(self.shown, self.devices), at=self.now, links=links, outcomes=self.outcomes)
            missed = {WG0, WG1} if self.missed is None else self.missed
            self.changes += self.health.update(found, metas, {}, missed, LIMITS)
        return self

    def lose(self, place):
        """The device and its link."""
        del self.links[place]
        return self.devices.pop(place)

    def gone(self):
        return {device.name: device.public_key for device in self.health.gone()}

    def states(self):
        return {name: [row.state for row in rows] for (_, name), _keys, _metas, rows in self.health.devices()}


def metas(shown):
    numbers = [peer_number(each) for each in shown.peers.public_key]
    return tuple(PeerMeta(str(n), True, n < 10) for n in numbers)


def peer_number(public_key):
    return next(n for n in range(100) if key(n) == public_key)


ABSENT = Outcome(SourceName.LINKS, "", False, 0.0, "no such namespace", absent=True)


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


# --- renamed, and made anew ------------------------------------------------------------------------------------------


def renamed(host, before, after):
    host.devices[after], host.links[after] = host.devices.pop(before), host.links.pop(before)
    host.look()
    return host


def test_a_renamed_device_takes_its_peers_along():
    host = Host(wg0=(1,), wg1=(2,))
    host.mute = {1}
    host.look(times=60)
    assert host.health.count(State.DOWN) == 1
    renamed(host, WG0, ("", "office"))
    assert host.states() == {"wg1": [State.UP], "office": [State.DOWN]}
    assert host.gone() == {}


def test_a_device_with_the_same_index_in_another_namespace_is_another():
    host = Host(wg0=(1,))
    host.mute = {1}
    host.look(times=60)
    host.outcomes = (LINKS_READ, LINKS_READ._replace(netns="blue"))
    renamed(host, WG0, ("blue", "wg0"))
    assert host.gone() == {"wg0": (key(1),)}
    assert host.health.count(State.DOWN) == 1


def test_a_device_with_another_index_is_another():
    host = Host(wg0=(1,))
    host.look()
    host.links[WG0] = 70
    host.devices[WG1], host.links[WG1] = host.devices.pop(WG0), host.links.pop(WG0) + 1
    host.look()
    assert host.gone() == {"wg0": (key(1),)}


@pytest.mark.parametrize("kept", ["links", "devices"])
def test_a_device_that_is_still_there_was_not_renamed(kept):
    """Between two dumps, or in an unlucky order, one may be seen under both names."""
    host = Host(wg0=(1,))
    host.look()
    host.devices[WG1], host.links[WG1] = (1,), host.links[WG0]
    for other in {"links", "devices"} - {kept}:
        del getattr(host, other)[WG0]
    host.look()
    assert set(host.states()) == {"wg0", "wg1"}


def test_a_device_that_was_gone_before_was_not_renamed():
    host = Host(wg0=(1,))
    host.look()
    peers = host.lose(WG0)
    host.look()
    host.devices[WG1], host.links[WG1] = peers, 7
    host.look()
    assert host.gone() == {"wg0": (key(1),)}


def test_a_device_without_a_link_is_not_a_renamed_one():
    host = Host(wg0=(1,))
    del host.links[WG0]
    host.look()
    host.devices[WG1] = host.devices.pop(WG0)
    host.look()
    assert host.gone() == {"wg0": (key(1),)}


def test_a_device_without_peers_may_be_renamed_too():
    host = Host(wg0=())
    renamed(host, WG0, WG1)
    host.devices[WG1] = (1,)
    host.look(times=2)
    assert host.states() == {"wg1": [State.UP]}


def test_a_device_keeps_its_index_while_its_link_can_not_be_read():
    host = Host(wg0=(1,))
    host.outcomes = (LINKS_UNREAD,)
    del host.links[WG0]
    host.look()
    host.outcomes, host.links[WG0] = (LINKS_READ,), 8
    host.mute = {1}
    host.look()
    assert host.health.suspicious, "made anew meanwhile, so that nothing is known of its peers yet"


# --- a new configuration ---------------------------------------------------------------------------------------------


def test_a_new_configuration_decides_who_is_missed_and_how_they_are_called():
    host = Host(wg0=(1, 2), wg1=(3,))
    host.look()
    host.lose(WG0)
    host.look()
    host.health.reconsider(
        lambda place, row: PeerMeta(f"{place[1]}-{row.public_key[:3]}", True, row.public_key == key(2)), lambda _: True
    )
    [gone] = host.health.gone()
    assert gone.public_key == (key(2),)
    assert gone.metas[0].name == f"wg0-{key(2)[:3]}"
    host.look(times=6)
    assert [(change.public_key, change.after) for change in host.changes if change.before is State.UP] == [
        (key(2), State.DOWN)
    ]


def test_a_new_configuration_leaves_the_peers_of_devices_that_are_there_to_the_next_look():
    host = Host(wg0=(1,))
    host.look()
    host.health.reconsider(lambda _place, _row: PeerMeta("another", True, False), lambda _: True)
    [(_place, _keys, [meta], _rows)] = host.health.devices()
    assert meta.name == "1"


def test_devices_that_are_no_longer_wanted_are_forgotten():
    host = Host(wg0=(1,), wg1=(2,))
    host.look()
    host.lose(WG0)
    host.look()
    host.health.reconsider(lambda _place, _row: PeerMeta("", True, True), lambda place: place == WG1)
    assert (host.gone(), host.states()) == ({}, {"wg1": [State.UP]})


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
    host.devices[WG0] = (1, 3)
    host.mute = {3}
    host.look()
    assert host.health.suspicious, "of a new one nothing is known yet"
    host.devices[WG0] = (1,)
    host.look()
    assert not host.health.suspicious
