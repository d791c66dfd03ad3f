"""What is counted between two looks, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import SECOND, WALL, device, key, link, peer, snapshot
from tests.tunnels import LINKS_READ, LINKS_UNREAD
from wg_exporter.history import history
from wg_exporter.history.counts import PeerCounts
from wg_exporter.history.history import History
from wg_exporter.model import Backend, FailedDevice

START = int(WALL) * SECOND
LINKS = (LINKS_READ, LINKS_READ._replace(netns="blue"))


class Host:
    """A history with a look every five seconds, at which all links are read."""

    def __init__(self):
        self.history = History()
        self.now = 0.0

    def look(self, *devices, expecting=(), after=5.0, outcomes=LINKS, **parts):
        self.now += after
        found = snapshot(*devices, at=self.now, outcomes=outcomes, **parts)
        self.devices = self.history.update(found, {("", name) for name in expecting})
        return self

    def counts(self, *peers, **parts):
        return list(self.history.counts_of(device(*peers, **parts)))

    def handshakes(self, *peers, **parts):
        return [counts.handshakes for counts in self.counts(*peers, **parts)]


@pytest.fixture
def host():
    return Host()


def shaken(n, seconds, **changes):
    """Peer `n`, its last handshake that many seconds after the start."""
    return peer(n, last_handshake_ns=START + int(seconds * SECOND), **changes)


# --- handshakes -------------------------------------------------------------------------------------------------------


def test_a_peer_that_never_shook_has_a_known_zero(host):
    assert host.look(device(peer(1))).counts(peer(1)) == [PeerCounts(0, 0)]


def test_a_handshake_from_before_the_start_is_not_counted(host):
    assert host.look(device(shaken(1, -60))).handshakes(peer(1)) == [0]


def test_each_new_handshake_is_counted_once_however_often_it_is_seen(host):
    for seconds, count in ((-60, 0), (7, 1), (7, 1), (7.5, 2), (130, 3)):
        assert host.look(device(shaken(1, seconds))).handshakes(peer(1)) == [count]


def test_the_first_handshake_of_a_known_peer_is_counted(host):
    assert host.look(device(peer(1))).look(device(shaken(1, 7))).handshakes(peer(1)) == [1]


def test_a_new_peer_that_shook_since_the_start_counts_and_one_moved_here_with_an_old_handshake_does_not(host):
    host.look(device(peer(1)))
    host.look(device(peer(1), shaken(2, 7), shaken(3, -60)))
    assert host.handshakes(peer(1), peer(2), peer(3)) == [0, 1, 0]


def test_a_handshake_stamped_back_by_the_clock_is_still_one(host):
    host.look(device(shaken(1, 7)))
    assert host.look(device(shaken(1, -3600))).handshakes(peer(1)) == [2]


def test_a_device_set_up_anew_goes_on_where_it_was(host):
    host.look(device(peer(1))).look(device(shaken(1, 7)))
    assert host.look(device(peer(1, rx_bytes=0, tx_bytes=0))).handshakes(peer(1)) == [1]
    assert host.look(device(shaken(1, 20))).handshakes(peer(1)) == [2]


# --- roaming ----------------------------------------------------------------------------------------------------------


def test_every_move_to_another_endpoint_is_counted(host):
    for endpoint, count in (("a:1", 0), ("b:1", 1), ("b:1", 1), ("b:2", 2), ("a:1", 3)):
        host.look(device(peer(1, endpoint=endpoint)))
        assert host.counts(peer(1)) == [PeerCounts(0, count)]


def test_an_endpoint_that_is_learnt_lost_or_back_is_not_roaming(host):
    for endpoint in ("", "a:1", "", "", "a:1"):
        host.look(device(peer(1, endpoint=endpoint)))
    assert host.counts(peer(1)) == [PeerCounts(0, 0)]


# --- peers that come, go and trade places -----------------------------------------------------------------------------


def test_counts_follow_the_peer_not_its_place(host):
    host.look(device(peer(1), peer(2))).look(device(shaken(1, 7), peer(2)))
    host.look(device(peer(3), peer(2), shaken(1, 7)))
    assert host.handshakes(peer(3), peer(2), peer(1)) == [0, 0, 1]
    host.look(device(shaken(2, 20), shaken(1, 7)))
    assert host.handshakes(peer(1), peer(2)) == [1, 1]


def test_a_scrape_may_see_other_peers_than_the_last_tick_did(host):
    host.look(device(peer(1), peer(2))).look(device(shaken(1, 7), peer(2)))
    assert host.handshakes(peer(2), peer(4), peer(1)) == [0, 0, 1]
    assert host.handshakes(peer(1), name="never-seen") == [0]


def test_a_peer_that_was_removed_begins_again_at_zero(host):
    host.look(device(peer(1))).look(device(shaken(1, 7))).look(device(peer(2)))
    assert host.look(device(peer(1), peer(2))).handshakes(peer(1), peer(2)) == [0, 0]


def test_the_same_peer_on_two_devices_and_in_two_namespaces_has_its_own_counts(host):
    rows = [device(peer(1)), device(peer(1), name="wg1"), device(peer(1), netns="blue")]
    host.look(*rows).look(rows[0], device(shaken(1, 7), name="wg1"), rows[2])
    assert [host.history.counts_of(row)[0].handshakes for row in rows] == [0, 1, 0]


def test_the_same_object_comes_back_while_no_count_changed_and_unmoved_peers_keep_theirs(host):
    one, two = peer(1), peer(2)
    row = device(one, two)
    before = host.look(row).history.counts_of(row)
    moved = device(one, two._replace(rx_bytes=77))
    assert host.look(moved).history.counts_of(moved) is before
    after = host.look(device(one, shaken(2, 9))).history.counts_of(row)
    assert after[1] == PeerCounts(1, 0)
    assert after[0] is before[0]


# --- devices that can't be read, vanish, or change their names --------------------------------------------------------


def test_the_list_of_an_earlier_read_counts_nothing(host):
    host.look(device(shaken(1, 7)))
    assert host.look(device(peer(1), fresh=False)).look(device(shaken(1, 7), fresh=False)).handshakes(peer(1)) == [1]
    assert host.look(device(shaken(1, 7))).handshakes(peer(1)) == [1], "what the stale list held was never looked at"


def test_a_device_that_vanished_is_remembered_for_an_hour(host):
    host.look(device(peer(1))).look(device(shaken(1, 7))).look(after=3600)
    assert host.handshakes(peer(1)) == [1]
    assert host.look(device(peer(1))).handshakes(peer(1)) == [1]
    assert host.look(after=3601).handshakes(peer(1)) == [0]


def test_a_device_that_can_not_be_read_for_hours_is_not_one_that_vanished(host):
    broken = (FailedDevice("", "wg0", Backend.USERSPACE, "no answer"),)
    host.look(device(shaken(1, 7)))
    for _ in range(3):
        host.look(failed=broken, after=3000)
    assert host.look().handshakes(peer(1)) == [1], "the hour begins when it vanishes"


def test_a_device_with_a_peer_expected_up_is_remembered_for_good(host):
    host.look(device(peer(1)), links=[link()], expecting=["wg0"]).look(after=1e7)
    assert host.history.expecting() == {("", "wg0")}


def test_a_device_is_no_longer_expected_once_it_came_back_without_such_a_peer(host):
    links = [link(ifindex=7), link("wg1", ifindex=8)]
    host.look(device(peer(1)), device(peer(2), name="wg1"), links=links, expecting=["wg0", "wg1"])
    host.look(device(peer(1)), device(peer(2), name="wg1"), links=links, expecting=["wg1"])
    assert host.history.expecting() == {("", "wg1")}


def test_a_renamed_device_takes_its_counts_along_and_is_not_missed(host):
    host.look(device(peer(1)), links=[link(ifindex=7)], expecting=["wg0"])
    host.look(device(shaken(1, 7)), links=[link(ifindex=7)], expecting=["wg0"])
    host.look(device(shaken(1, 7), name="office"), links=[link("office", ifindex=7)], expecting=["office"])
    assert host.handshakes(peer(1), name="office") == [1]
    assert host.history.expecting() == {("", "office")}


def test_a_rename_is_seen_even_if_links_could_not_be_read_just_before(host):
    host.look(device(peer(1)), links=[link(ifindex=7)], expecting=["wg0"]).look(device(shaken(1, 7)), expecting=["wg0"])
    host.look(device(shaken(1, 7), name="office"), links=[link("office", ifindex=7)], expecting=["office"])
    assert host.handshakes(peer(1), name="office") == [1]
    assert host.history.expecting() == {("", "office")}


def test_two_devices_of_unknown_index_are_not_one_that_was_renamed(host):
    host.look(device(peer(1))).look(device(shaken(1, 7))).look(device(peer(1), name="wg1"))
    assert host.handshakes(peer(1), name="wg1") == [0]
    assert host.handshakes(peer(1)) == [1]


def test_a_device_whose_link_was_never_seen_can_not_be_missed(host):
    assert host.look(device(peer(1)), expecting=["wg0"]).history.expecting() == set()


def test_a_device_is_missed_even_if_its_link_could_not_be_read_just_before_it_went(host):
    host.look(device(peer(1)), links=[link()], expecting=["wg0"]).look(device(peer(1)), expecting=["wg0"]).look()
    assert host.history.expecting() == {("", "wg0")}


def test_the_same_index_in_another_namespace_is_another_device(host):
    host.look(device(shaken(1, 2)), links=[link(ifindex=7)], expecting=["wg0"])
    host.look(device(peer(1), netns="blue", name="wg1"), links=[link("wg1", ifindex=7, netns="blue")])
    assert host.history.expecting() == {("", "wg0")}
    assert host.handshakes(peer(1), name="wg1", netns="blue") == [0]


def test_devices_of_namespaces_no_longer_configured_are_forgotten(host):
    blue, own = device(peer(1), netns="blue"), device(peer(1))
    host.look(blue, own).look(device(shaken(1, 7), netns="blue"), device(shaken(1, 7)))
    host.history.reconsider({"", "green"}, lambda _key, _peer: True)()
    assert [host.history.counts_of(row)[0].handshakes for row in (blue, own)] == [0, 1]


def test_a_device_that_is_gone_is_missed_no_longer_where_a_new_configuration_expects_none_of_its_peers(host):
    links = [link(ifindex=7), link("wg1", ifindex=8), link("wg2", ifindex=9)]
    devices = [device(peer(n), name=f"wg{n}") for n in range(3)]
    host.look(*devices, links=links, expecting=["wg0", "wg1", "wg2"])
    host.look(devices[2], links=links[2:], expecting=["wg2"])
    host.history.reconsider({""}, lambda key, _peer: key == ("", "wg1"))()
    assert host.history.expecting() == {("", "wg1")}, "one that is there may be left out of the next look"


def test_a_device_long_gone_is_not_renamed_by_a_stranger_with_its_index(host):
    host.look(device(peer(1)), links=[link(ifindex=7)], expecting=["wg0"]).look()
    host.look(device(peer(2), name="wg1"), links=[link("wg1", ifindex=7)])
    assert host.history.expecting() == {("", "wg0")}


def test_of_more_devices_than_are_remembered_the_one_that_is_gone_longest_is_forgotten(host, monkeypatch):
    monkeypatch.setattr(history, "MAX_DEVICES", 3)
    for number in range(3):
        host.look(device(peer(number), name=f"wg{number}"))
        host.look(device(shaken(number, host.now), name=f"wg{number}"))
    host.look(device(peer(9), name="new"))
    assert [host.handshakes(peer(n), name=f"wg{n}") for n in range(3)] == [[0], [1], [1]]


# --- the clock --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("readings", "steps"),
    [
        ([(0, 0), (5, 5), (10, 10)], 0),
        ([(0, 0), (5, 5.9), (10, 10.1)], 0),
        ([(0, 0), (5, 6.5), (10, 11.5)], 1),
        ([(0, 0), (5, 3.5)], 1),
        ([(0, 0), (5, 1e9), (10, 5), (15, 10)], 2),
        ([(0, 0), (86400, 86400)], 0),
    ],
)
def test_jumps_of_the_wall_clock_are_counted_and_drift_is_not(readings, steps):
    seen = History()
    for monotonic, wall in readings:
        seen.update(snapshot(at=monotonic, wall=WALL + wall), ())
    assert seen.clock_steps == steps


# --- whatever happens -------------------------------------------------------------------------------------------------

looks = st.lists(
    st.lists(st.tuples(st.integers(1, 4), st.integers(-2, 6)), max_size=4, unique_by=lambda pair: pair[0]),
    max_size=8,
)


@given(looks)
def test_counts_of_a_peer_that_stays_never_go_down_and_always_run_in_parallel_to_the_peers(sequence):
    host = Host()
    before: dict[str, int] = {}
    for peers in sequence:
        rows = [shaken(n, t) if t else peer(n) for n, t in peers]
        host.look(device(*rows))
        found = dict(zip([key(n) for n, _ in peers], host.handshakes(*rows), strict=True))
        assert all(found[k] - count in (0, 1) for k, count in before.items() if k in found)
        before = found


# --- what became of a device ------------------------------------------------------------------------------------------


def told(host, name="wg0"):
    """What the last look told of a device: whether it is there, gone, renamed, made anew."""
    (change,) = (change for change in host.devices if change.key == ("", name))
    return (change.device is not None, change.gone, change.renamed, change.anew)


THERE, UNREAD, GONE = (True, False, False, False), (False, False, False, False), (False, True, False, False)
RENAMED, ANEW = (True, False, True, False), (True, False, False, True)


def test_a_device_appears_stays_goes_and_comes_back(host):
    shown, links = device(peer(1)), [link(ifindex=7)]
    assert told(host.look(shown, links=links)) == THERE
    assert host.devices[0].before is None
    assert told(host.look(shown, links=links)) == THERE
    assert told(host.look()) == GONE
    assert told(host.look(shown, links=links)) == THERE


def test_where_links_can_not_be_read_nothing_is_gone(host):
    host.look(device(peer(1)), links=[link(ifindex=7)])
    assert told(host.look(outcomes=(LINKS_UNREAD,))) == UNREAD
    assert told(host.look(links=[link(ifindex=7)])) == UNREAD


def test_a_device_that_is_made_anew_is_told_once_and_when_its_peers_are_read(host):
    host.look(device(peer(1)), links=[link(ifindex=7)])
    assert told(host.look(device(peer(1), fresh=False), links=[link(ifindex=8)])) == THERE
    assert told(host.look(device(peer(1)), links=[link(ifindex=8)])) == ANEW
    assert told(host.look(device(peer(1)), links=[link(ifindex=8)])) == THERE


def test_a_renamed_device_is_told_under_its_new_name_alone(host):
    host.look(device(peer(1)), links=[link(ifindex=7)])
    assert told(host.look(device(peer(1), name="office"), links=[link("office", ifindex=7)]), "office") == RENAMED
    assert [(change.was, change.key) for change in host.devices] == [(("", "wg0"), ("", "office"))]
    assert told(host.look(device(peer(1), name="office"), links=[link("office", ifindex=7)]), "office") == THERE


def test_a_device_may_be_renamed_while_nothing_can_be_read(host):
    host.look(device(shaken(1, 2)), links=[link(ifindex=7)], expecting=["wg0"])
    host.look(outcomes=(LINKS_UNREAD,))
    host.look(device(shaken(1, 2), name="office"), links=[link("office", ifindex=7)], expecting=["office"])
    assert told(host, "office") == RENAMED
    assert host.history.expecting() == {("", "office")}


def test_a_device_may_get_the_name_of_one_that_is_gone(host):
    """Its counts come along, and its old name is missed by nobody."""
    one, other = device(peer(1)), device(peer(2), name="new")
    host.look(one, other, links=[link(ifindex=7), link("new", ifindex=8)], expecting=["wg0", "new"])
    host.look(one, device(shaken(2, 7), name="new"), links=[link(ifindex=7), link("new", ifindex=8)], expecting=["new"])
    host.look(device(shaken(2, 7), name="new"), links=[link("new", ifindex=8)], expecting=["new"])
    host.look(device(shaken(2, 7)), links=[link(ifindex=8)], expecting=["wg0"])
    assert told(host) == RENAMED
    assert host.handshakes(peer(2)) == [1]
    assert host.history.expecting() == {("", "wg0")}


def test_two_devices_that_trade_names_take_what_is_known_along(host):
    one, other = device(shaken(1, 7)), device(peer(2), name="wg1")
    host.look(one, other, links=[link(ifindex=7), link("wg1", ifindex=8)])
    host.look(device(peer(2)), device(shaken(1, 7), name="wg1"), links=[link(ifindex=8), link("wg1", ifindex=7)])
    assert (told(host), told(host, "wg1")) == (RENAMED, RENAMED)
    assert host.handshakes(peer(1), name="wg1") == [1]


def test_names_that_move_up_by_one_leave_nobody_missed(host):
    links = [link("wg1", ifindex=7), link("wg2", ifindex=8)]
    host.look(device(peer(1), name="wg1"), device(peer(2), name="wg2"), links=links, expecting=["wg1", "wg2"])
    host.look(
        device(peer(1)),
        device(peer(2), name="wg1"),
        links=[link(ifindex=7), link("wg1", ifindex=8)],
        expecting=["wg0", "wg1"],
    )
    assert (told(host), told(host, "wg1")) == (RENAMED, RENAMED)
    assert host.history.expecting() == {("", "wg0"), ("", "wg1")}
    assert len(host.devices) == 2


def test_another_interface_may_take_the_old_name_of_a_renamed_device_at_once(host):
    host.look(device(peer(1)), links=[link(ifindex=7)], expecting=["wg0"])
    links = [link("office", ifindex=7), link("wg0", ifindex=9, kind="dummy")]
    host.look(device(peer(1), name="office"), links=links, expecting=["office"])
    assert told(host, "office") == RENAMED
    assert host.history.expecting() == {("", "office")}
    assert len(host.devices) == 1


def test_a_new_device_may_take_the_old_name_of_a_renamed_one_at_once(host):
    host.look(device(shaken(1, 7)), links=[link(ifindex=7)])
    links = [link("office", ifindex=7), link(ifindex=9)]
    host.look(device(shaken(1, 7), name="office"), device(peer(2)), links=links)
    assert (told(host), told(host, "office")) == (THERE, RENAMED)
    assert host.handshakes(peer(1), name="office") == [1]
    assert host.handshakes(peer(2)) == [0]


def test_a_rename_is_found_when_links_can_be_read_though_the_new_name_was_seen_before(host):
    host.look(device(peer(1)), links=[link(ifindex=7)], expecting=["wg0"])
    renamed = device(peer(1), name="office")
    host.look(renamed, outcomes=(LINKS_UNREAD,), expecting=["office"])
    host.look(renamed, links=[link("office", ifindex=7)], expecting=["office"])
    assert told(host, "office") == RENAMED
    assert host.history.expecting() == {("", "office")}


def test_a_device_may_be_renamed_while_it_can_not_be_read(host):
    host.look(device(peer(1)), links=[link(ifindex=7)], expecting=["wg0"])
    failed = (FailedDevice("", "office", Backend.KERNEL, "busy"),)
    host.look(links=[link("office", ifindex=7)], failed=failed)
    host.look(device(peer(1), name="office"), links=[link("office", ifindex=7)], expecting=["office"])
    assert host.history.expecting() == {("", "office")}


def test_an_interface_that_is_no_device_is_not_a_renamed_one(host):
    """Indices start anew in a namespace that was made anew."""
    host.look(device(peer(1)), links=[link(ifindex=7)], expecting=["wg0"])
    assert told(host.look(links=[link("eth0", ifindex=7, kind="veth")])) == GONE
    assert host.history.expecting() == {("", "wg0")}


def test_a_device_with_a_peer_expected_up_is_remembered_though_its_link_was_never_seen(host):
    host.look(device(peer(1)), expecting=["wg0"]).look(after=1e7)
    assert told(host) == GONE


def test_where_links_can_not_be_read_devices_that_vanished_are_forgotten_all_the_same(host):
    host.look(device(peer(1)), outcomes=(LINKS_UNREAD,)).look(outcomes=(LINKS_UNREAD,), after=3601)
    assert host.look(outcomes=(LINKS_UNREAD,)).devices == ()


def test_of_more_devices_than_are_remembered_those_that_somebody_waits_for_go_last(host, monkeypatch):
    monkeypatch.setattr(history, "MAX_DEVICES", 2)
    host.look(device(peer(1)), links=[link()], expecting=["wg0"])
    for number in range(4):
        host.look(device(peer(2), name=f"new{number}"))
    assert host.history.expecting() == {("", "wg0")}


def test_one_that_had_the_index_itself_is_not_another_by_a_new_name(host):
    """No kernel gives an index twice, but nobody is taken for another if one did."""
    links = [link(ifindex=7), link("wg1", ifindex=7)]
    host.look(device(peer(1)), device(peer(2), name="wg1"), links=links, expecting=["wg0", "wg1"])
    host.look(device(peer(1)), links=links[:1], expecting=["wg0"])
    assert (told(host), told(host, "wg1")) == (THERE, GONE)
