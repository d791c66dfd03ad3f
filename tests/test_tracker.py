"""What is counted between two looks, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import SECOND, WALL, device, key, link, peer, snapshot
from wg_exporter.history import tracker
from wg_exporter.history.tracker import PeerCounts, Tracker
from wg_exporter.model import Backend, FailedDevice

START = int(WALL) * SECOND


class Watch:
    """A tracker with a look every five seconds."""

    def __init__(self):
        self.tracker = Tracker()
        self.now = 0.0

    def look(self, *devices, expecting=(), after=5.0, **snapshot_parts):
        self.now += after
        self.tracker.update(snapshot(*devices, at=self.now, **snapshot_parts), {("", name) for name in expecting})
        return self

    def counts(self, *peers, **parts):
        return list(self.tracker.counts_of(device(*peers, **parts)))

    def handshakes(self, *peers, **parts):
        return [counts.handshakes for counts in self.counts(*peers, **parts)]


@pytest.fixture
def watch():
    return Watch()


def shaken(n, seconds, **changes):
    """Peer `n`, its last handshake that many seconds after the start."""
    return peer(n, last_handshake_ns=START + int(seconds * SECOND), **changes)


# --- handshakes -------------------------------------------------------------------------------------------------------


def test_a_peer_that_never_shook_has_a_known_zero(watch):
    assert watch.look(device(peer(1))).counts(peer(1)) == [PeerCounts(0, 0)]


def test_a_handshake_from_before_the_start_is_not_counted(watch):
    assert watch.look(device(shaken(1, -60))).handshakes(peer(1)) == [0]


def test_each_new_handshake_is_counted_once_however_often_it_is_seen(watch):
    for seconds, count in ((-60, 0), (7, 1), (7, 1), (7.5, 2), (130, 3)):
        assert watch.look(device(shaken(1, seconds))).handshakes(peer(1)) == [count]


def test_the_first_handshake_of_a_known_peer_is_counted(watch):
    assert watch.look(device(peer(1))).look(device(shaken(1, 7))).handshakes(peer(1)) == [1]


def test_a_new_peer_that_shook_since_the_start_counts_and_one_moved_here_with_an_old_handshake_does_not(watch):
    watch.look(device(peer(1)))
    watch.look(device(peer(1), shaken(2, 7), shaken(3, -60)))
    assert watch.handshakes(peer(1), peer(2), peer(3)) == [0, 1, 0]


def test_a_handshake_stamped_back_by_the_clock_is_still_one(watch):
    watch.look(device(shaken(1, 7)))
    assert watch.look(device(shaken(1, -3600))).handshakes(peer(1)) == [2]


def test_a_device_set_up_anew_goes_on_where_it_was(watch):
    watch.look(device(peer(1))).look(device(shaken(1, 7)))
    assert watch.look(device(peer(1, rx_bytes=0, tx_bytes=0))).handshakes(peer(1)) == [1]
    assert watch.look(device(shaken(1, 20))).handshakes(peer(1)) == [2]


# --- roaming ----------------------------------------------------------------------------------------------------------


def test_every_move_to_another_endpoint_is_counted(watch):
    for endpoint, count in (("a:1", 0), ("b:1", 1), ("b:1", 1), ("b:2", 2), ("a:1", 3)):
        watch.look(device(peer(1, endpoint=endpoint)))
        assert watch.counts(peer(1)) == [PeerCounts(0, count)]


def test_an_endpoint_that_is_learnt_lost_or_back_is_not_roaming(watch):
    for endpoint in ("", "a:1", "", "", "a:1"):
        watch.look(device(peer(1, endpoint=endpoint)))
    assert watch.counts(peer(1)) == [PeerCounts(0, 0)]


# --- peers that come, go and trade places -----------------------------------------------------------------------------


def test_counts_follow_the_peer_not_its_place(watch):
    watch.look(device(peer(1), peer(2))).look(device(shaken(1, 7), peer(2)))
    watch.look(device(peer(3), peer(2), shaken(1, 7)))
    assert watch.handshakes(peer(3), peer(2), peer(1)) == [0, 0, 1]
    watch.look(device(shaken(2, 20), shaken(1, 7)))
    assert watch.handshakes(peer(1), peer(2)) == [1, 1]


def test_a_scrape_may_see_other_peers_than_the_last_tick_did(watch):
    watch.look(device(peer(1), peer(2))).look(device(shaken(1, 7), peer(2)))
    assert watch.handshakes(peer(2), peer(4), peer(1)) == [0, 0, 1]
    assert watch.handshakes(peer(1), name="never-seen") == [0]


def test_a_peer_that_was_removed_begins_again_at_zero(watch):
    watch.look(device(peer(1))).look(device(shaken(1, 7))).look(device(peer(2)))
    assert watch.look(device(peer(1), peer(2))).handshakes(peer(1), peer(2)) == [0, 0]


def test_the_same_peer_on_two_devices_and_in_two_namespaces_has_its_own_counts(watch):
    rows = [device(peer(1)), device(peer(1), name="wg1"), device(peer(1), netns="blue")]
    watch.look(*rows).look(rows[0], device(shaken(1, 7), name="wg1"), rows[2])
    assert [watch.tracker.counts_of(row)[0].handshakes for row in rows] == [0, 1, 0]


def test_the_same_object_comes_back_while_no_count_changed_and_unmoved_peers_keep_theirs(watch):
    one, two = peer(1), peer(2)
    row = device(one, two)
    before = watch.look(row).tracker.counts_of(row)
    moved = device(one, two._replace(rx_bytes=77))
    assert watch.look(moved).tracker.counts_of(moved) is before
    after = watch.look(device(one, shaken(2, 9))).tracker.counts_of(row)
    assert after[1] == PeerCounts(1, 0)
    assert after[0] is before[0]


# --- devices that can't be read, vanish, or change their names --------------------------------------------------------


def test_the_list_of_an_earlier_read_counts_nothing(watch):
    watch.look(device(shaken(1, 7)))
    assert watch.look(device(peer(1), fresh=False)).look(device(shaken(1, 7), fresh=False)).handshakes(peer(1)) == [1]
    assert watch.look(device(shaken(1, 7))).handshakes(peer(1)) == [1], "what the stale list held was never looked at"


def test_a_device_that_vanished_is_remembered_for_an_hour(watch):
    watch.look(device(peer(1))).look(device(shaken(1, 7))).look(after=3600)
    assert watch.handshakes(peer(1)) == [1]
    assert watch.look(device(peer(1))).handshakes(peer(1)) == [1]
    assert watch.look(after=3601).handshakes(peer(1)) == [0]


def test_a_device_that_can_not_be_read_for_hours_is_not_one_that_vanished(watch):
    broken = (FailedDevice("", "wg0", Backend.USERSPACE, "no answer"),)
    watch.look(device(shaken(1, 7)))
    for _ in range(3):
        watch.look(failed=broken, after=3000)
    assert watch.look().handshakes(peer(1)) == [1], "the hour begins when it vanishes"


def test_a_device_with_a_peer_expected_up_is_remembered_for_good(watch):
    watch.look(device(peer(1)), links=[link()], expecting=["wg0"]).look(after=1e7)
    assert watch.tracker.expecting() == {("", "wg0")}


def test_a_device_is_no_longer_expected_once_it_came_back_without_such_a_peer(watch):
    links = [link(ifindex=7), link("wg1", ifindex=8)]
    watch.look(device(peer(1)), device(peer(2), name="wg1"), links=links, expecting=["wg0", "wg1"])
    watch.look(device(peer(1)), device(peer(2), name="wg1"), links=links, expecting=["wg1"])
    assert watch.tracker.expecting() == {("", "wg1")}


def test_a_renamed_device_takes_its_counts_along_and_is_not_missed(watch):
    watch.look(device(peer(1)), links=[link(ifindex=7)], expecting=["wg0"])
    watch.look(device(shaken(1, 7)), links=[link(ifindex=7)], expecting=["wg0"])
    watch.look(device(shaken(1, 7), name="office"), links=[link("office", ifindex=7)], expecting=["office"])
    assert watch.handshakes(peer(1), name="office") == [1]
    assert watch.tracker.expecting() == {("", "office")}


def test_a_rename_is_seen_even_if_links_could_not_be_read_just_before(watch):
    watch.look(device(peer(1)), links=[link(ifindex=7)], expecting=["wg0"]).look(
        device(shaken(1, 7)), expecting=["wg0"]
    )
    watch.look(device(shaken(1, 7), name="office"), links=[link("office", ifindex=7)], expecting=["office"])
    assert watch.handshakes(peer(1), name="office") == [1]
    assert watch.tracker.expecting() == {("", "office")}


def test_two_devices_of_unknown_index_are_not_one_that_was_renamed(watch):
    watch.look(device(peer(1))).look(device(shaken(1, 7))).look(device(peer(1), name="wg1"))
    assert watch.handshakes(peer(1), name="wg1") == [0]
    assert watch.handshakes(peer(1)) == [1]


def test_a_device_whose_link_was_never_seen_can_not_be_missed(watch):
    assert watch.look(device(peer(1)), expecting=["wg0"]).tracker.expecting() == set()


def test_a_device_is_missed_even_if_its_link_could_not_be_read_just_before_it_went(watch):
    watch.look(device(peer(1)), links=[link()], expecting=["wg0"]).look(device(peer(1)), expecting=["wg0"]).look()
    assert watch.tracker.expecting() == {("", "wg0")}


def test_the_same_index_in_another_namespace_is_another_device(watch):
    watch.look(device(shaken(1, 2)), links=[link(ifindex=7)], expecting=["wg0"])
    watch.look(device(peer(1), netns="blue", name="wg1"), links=[link("wg1", ifindex=7, netns="blue")])
    assert watch.tracker.expecting() == {("", "wg0")}
    assert watch.handshakes(peer(1), name="wg1", netns="blue") == [0]


def test_devices_of_namespaces_no_longer_configured_are_forgotten(watch):
    blue, own = device(peer(1), netns="blue"), device(peer(1))
    watch.look(blue, own).look(device(shaken(1, 7), netns="blue"), device(shaken(1, 7)))
    watch.tracker.reconsider({"", "green"}, lambda _key, _peer: True)()
    assert [watch.tracker.counts_of(row)[0].handshakes for row in (blue, own)] == [0, 1]


def test_a_device_that_is_gone_is_missed_no_longer_where_a_new_configuration_expects_none_of_its_peers(watch):
    links = [link(ifindex=7), link("wg1", ifindex=8), link("wg2", ifindex=9)]
    devices = [device(peer(n), name=f"wg{n}") for n in range(3)]
    watch.look(*devices, links=links, expecting=["wg0", "wg1", "wg2"])
    watch.look(devices[2], links=links[2:], expecting=["wg2"])
    watch.tracker.reconsider({""}, lambda key, _peer: key == ("", "wg1"))()
    assert watch.tracker.expecting() == {("", "wg1"), ("", "wg2")}, "what is there is asked at the next look"


def test_a_device_long_gone_is_not_renamed_by_a_stranger_with_its_index(watch):
    watch.look(device(peer(1)), links=[link(ifindex=7)], expecting=["wg0"]).look()
    watch.look(device(peer(2), name="wg1"), links=[link("wg1", ifindex=7)])
    assert watch.tracker.expecting() == {("", "wg0")}


def test_of_more_devices_than_are_remembered_the_one_that_is_gone_longest_is_forgotten(watch, monkeypatch):
    monkeypatch.setattr(tracker, "MAX_DEVICES", 3)
    for number in range(3):
        watch.look(device(peer(number), name=f"wg{number}"))
        watch.look(device(shaken(number, watch.now), name=f"wg{number}"))
    watch.look(device(peer(9), name="new"))
    assert [watch.handshakes(peer(n), name=f"wg{n}") for n in range(3)] == [[0], [1], [1]]


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
    tracker = Tracker()
    for monotonic, wall in readings:
        tracker.update(snapshot(at=monotonic, wall=WALL + wall), ())
    assert tracker.clock_steps == steps


# --- whatever happens -------------------------------------------------------------------------------------------------

looks = st.lists(
    st.lists(st.tuples(st.integers(1, 4), st.integers(-2, 6)), max_size=4, unique_by=lambda pair: pair[0]),
    max_size=8,
)


@given(looks)
def test_counts_of_a_peer_that_stays_never_go_down_and_always_run_in_parallel_to_the_peers(sequence):
    watch = Watch()
    before: dict[str, int] = {}
    for peers in sequence:
        rows = [shaken(n, t) if t else peer(n) for n, t in peers]
        watch.look(device(*rows))
        found = dict(zip([key(n) for n, _ in peers], watch.handshakes(*rows), strict=True))
        assert all(found[k] - count in (0, 1) for k, count in before.items() if k in found)
        before = found
