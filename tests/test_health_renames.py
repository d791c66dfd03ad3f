"""Which device is which after a look: renamed, made anew, or another; and what a new configuration makes of each."""

from __future__ import annotations

import pytest

from tests.judging import WG0, WG1, Host
from tests.rows import key
from tests.tunnels import LINKS_READ, LINKS_UNREAD
from wg_exporter.health.states import State
from wg_exporter.names.identity import PeerMeta

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
    assert host.states() == {"wg0": [State.UP], "wg1": [None]}


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
    host.look()
    host.mute = {1}
    host.outcomes = (LINKS_UNREAD,)
    del host.links[WG0]
    host.look()
    assert not host.health.suspicious, "not to be read is not to be made anew"
    host.outcomes, host.links[WG0] = (LINKS_READ,), 8
    host.look()
    assert host.health.suspicious, "made anew meanwhile, so that nothing is known of its peers yet"


def test_a_device_whose_link_is_seen_for_the_first_time_is_the_same():
    host = Host(wg0=(1,))
    host.outcomes = (LINKS_UNREAD,)
    host.devices[WG1] = (2,)
    host.look(times=2)
    host.mute = {2}
    host.outcomes, host.links[WG1] = (LINKS_READ,), 8
    host.look()
    assert not host.health.suspicious


# --- a new configuration ---------------------------------------------------------------------------------------------


def test_a_new_configuration_decides_who_is_missed_and_how_they_are_called():
    host = Host(wg0=(1, 2), wg1=(3,))
    host.look()
    host.lose(WG0)
    host.look()
    host.health.reconsider(
        lambda place, row: PeerMeta(f"{place[1]}-{row.public_key[:3]}", True, row.public_key == key(2)), lambda _: True
    )()
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
    host.health.reconsider(lambda _place, _row: PeerMeta("another", True, False), lambda _: True)()
    [(_place, _keys, [meta], _rows)] = host.health.devices()
    assert meta.name == "1"


def test_devices_that_are_no_longer_wanted_are_forgotten():
    host = Host(wg0=(1,), wg1=(2,))
    host.look()
    host.lose(WG0)
    host.look()
    host.health.reconsider(lambda _place, _row: PeerMeta("", True, True), lambda place: place == WG1)()
    assert (host.gone(), host.states()) == ({}, {"wg1": [State.UP]})


def test_a_device_that_is_back_is_not_gone_though_links_can_not_be_read():
    host = Host(wg0=(1,))
    host.look()
    peers = host.lose(WG0)
    host.look(times=10)
    assert host.gone() == {"wg0": (key(1),)}
    host.devices[WG0], host.outcomes = peers, (LINKS_UNREAD,)
    host.look(times=3)
    assert host.gone() == {}
    assert host.states() == {"wg0": [State.UP]}
