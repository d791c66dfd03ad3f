"""Packets since the exporter started, whichever reader counted them."""

from __future__ import annotations

import pytest

from tests.rows import device, peer, snapshot
from wg_exporter.accounted import Packets
from wg_exporter.history import packets
from wg_exporter.history.packets import PacketTotals


@pytest.fixture
def totals() -> PacketTotals:
    return PacketTotals()


def shown(
    totals: PacketTotals, life: int, counts: dict[int, tuple[int, int]], name: str = "wg0", at: float = 0.0
) -> list[tuple[int, int]] | None:
    received, sent = zip(*counts.values(), strict=True) if counts else ((), ())
    row = device(*map(peer, counts), name=name, packets=Packets(life, tuple(received), tuple(sent)))
    (found,) = totals.take(snapshot(row, at=at)).devices
    return None if found.packets is None else [tuple(one) for one in found.packets]


def test_where_nobody_counts_the_snapshot_is_the_same_object(totals):
    found = snapshot(device(peer(1)))
    assert totals.take(found) is found


def test_what_one_reader_counted_is_shown_as_it_is_by_the_very_columns(totals):
    counted = Packets(1, (5,), (6,))
    (found,) = totals.take(snapshot(device(peer(1), packets=counted))).devices
    assert found.packets is counted


def test_a_reader_that_counts_anew_goes_on_from_what_was_shown_last(totals):
    assert shown(totals, 1, {1: (5, 6), 2: (7, 8)}) == [(5, 6), (7, 8)]
    assert shown(totals, 2, {1: (0, 0), 2: (1, 1)}) == [(5, 6), (8, 9)]
    assert shown(totals, 2, {1: (2, 0), 2: (1, 1)}) == [(7, 6), (8, 9)]
    assert shown(totals, 3, {1: (1, 1), 2: (0, 0)}) == [(8, 7), (8, 9)]


def test_a_look_that_comes_late_from_a_life_that_has_ended_is_not_added_once_more(totals):
    assert shown(totals, 1, {1: (1000, 1000)}, at=5) == [(1000, 1000)]
    assert shown(totals, 2, {1: (3, 3)}, at=10) == [(1003, 1003)]
    assert shown(totals, 1, {1: (1000, 1000)}, at=9) is None
    assert shown(totals, 2, {1: (4, 4)}, at=15) == [(1004, 1004)]


def test_of_two_looks_in_one_life_either_may_come_first(totals):
    shown(totals, 1, {1: (5, 6)}, at=5)
    assert shown(totals, 2, {1: (3, 3)}, at=15) == [(8, 9)]
    assert shown(totals, 2, {1: (2, 2)}, at=10) == [(7, 8)]


def test_a_peer_that_the_next_reader_shows_in_another_place_keeps_its_own_counts(totals):
    shown(totals, 1, {1: (5, 6), 2: (7, 8)})
    assert shown(totals, 2, {2: (0, 1), 3: (1, 0), 1: (0, 0)}) == [(7, 9), (1, 0), (5, 6)]


def test_peers_that_come_and_go_change_no_other_count(totals):
    shown(totals, 1, {1: (5, 6), 2: (7, 8)})
    shown(totals, 2, {1: (1, 1), 2: (1, 1)})
    assert shown(totals, 2, {2: (1, 1)}) == [(8, 9)]
    assert shown(totals, 2, {2: (1, 1), 1: (1, 1)}) == [(8, 9), (6, 7)]


def test_a_look_without_counts_forgets_nothing(totals):
    shown(totals, 1, {1: (5, 6)})
    totals.take(snapshot(device(peer(1))))
    totals.take(snapshot())
    assert shown(totals, 2, {1: (1, 1)}) == [(6, 7)]


def test_sums_that_did_not_change_are_the_same_object(totals):
    shown(totals, 1, {1: (5, 6)})
    counted = Packets(2, (1,), (1,))
    row = device(peer(1), packets=counted)
    first = totals.take(snapshot(row)).devices[0].packets
    assert totals.take(snapshot(row)).devices[0].packets is first
    more = totals.take(snapshot(device(peer(1), packets=Packets(2, (1,), (2,))))).devices[0].packets
    assert more.rx_packets is first.rx_packets


def test_devices_are_apart_and_not_ever_more_of_them_are_remembered(totals, monkeypatch):
    monkeypatch.setattr(packets, "MOST_DEVICES", 2)
    for name in ("wg0", "wg1", "wg2"):
        shown(totals, 1, {1: (5, 6)}, name)
    assert shown(totals, 2, {1: (1, 1)}, "wg2") == [(6, 7)]
    assert shown(totals, 2, {1: (1, 1)}, "wg0") == [(1, 1)], "it was seen longest ago"
