"""Whom the prober's process is told to watch for, and what is known of what it saw, over all of its lives."""

from __future__ import annotations

import time

import pytest

from tests.lab import eventually
from tests.probers import peer, played
from wg_exporter.messages.prober import PORTION, Peers, Setup, Watch, Watched
from wg_exporter.remote.prober.watched import KEPT_SECONDS, WatchedPeers
from wg_exporter.sighted import Caller, Callers, Sender, Sighting, WatchPeer


def row(number=1, **changes):
    return WatchPeer(("", "wg0", f"k{number}"), "", f"192.0.2.{number}:51820", 51820, "d")._replace(**changes)


ONE, TWO = row(), row(2)
CALLER = Caller(Sender("203.0.113.7", 9, "eth0", 1), True, b"")


def told(known, rows, now, callers=()):
    known.told(Watched(rows, callers, now))


def test_whoever_is_to_be_watched_is_told_with_the_seconds_that_are_left():
    known = WatchedPeers()
    known.watch([ONE, TWO], 30.0, 100.0)
    assert len(known) == 2
    assert known.take(101.0) == Watch({1: (ONE, 29.0), 2: (TWO, 29.0)})
    assert known.take(101.0) is None


def test_a_window_is_made_longer_and_never_shorter():
    known = WatchedPeers()
    known.watch([ONE], 30.0, 0.0)
    known.watch([ONE._replace(endpoint="192.0.2.9:1")], 20.0, 5.0)
    assert known.take(5.0) == Watch({1: (ONE._replace(endpoint="192.0.2.9:1"), 25.0)})
    known.watch([ONE], 40.0, 5.0)
    assert known.take(5.0) == Watch({1: (ONE, 40.0)})


def test_many_are_told_in_portions():
    known = WatchedPeers()
    known.watch([row(number) for number in range(PORTION + 1)], 30.0, 0.0)
    assert [len(known.take(0.0).put), len(known.take(0.0).put), known.take(0.0)] == [PORTION, 1, None]


def test_a_window_that_was_over_before_it_could_be_told_is_not():
    known = WatchedPeers()
    known.watch([ONE], 30.0, 0.0)
    assert known.take(31.0) is None


def test_what_was_seen_is_known_by_the_key_of_the_peer():
    known = WatchedPeers()
    known.watch([ONE, TWO], 30.0, 0.0)
    told(known, {2: Sighting(1.0, 2.0, initiations_sent=1)}, 3.0)
    assert known.sightings() == {TWO.key: Sighting(1.0, 2.0, initiations_sent=1)}
    assert known.sightings() is known.sightings()


def test_what_is_told_of_nobody_that_was_asked_for_is_not_known():
    known = WatchedPeers()
    told(known, {7: Sighting(1.0, 2.0)}, 3.0)
    assert known.sightings() == {}


def test_an_open_window_grows_while_the_process_says_that_it_saw_nothing():
    known = WatchedPeers()
    known.watch([ONE, TWO], 30.0, 0.0)
    told(known, {1: Sighting(1.0, 0.0), 2: Sighting(1.0, 3.0, open=False)}, 1.0)
    given = known.sightings()
    told(known, {}, 9.5)
    assert (known.sightings()[ONE.key].seconds, known.sightings()[TWO.key].seconds) == (8.5, 3.0)
    assert given[ONE.key].seconds == 0.0, "what was given never changes"


def test_a_window_ends_with_its_process_and_goes_on_in_the_next():
    known = WatchedPeers()
    known.watch([ONE], 30.0, 0.0)
    known.take(0.0)
    told(known, {1: Sighting(0.5, 0.0, initiations_sent=2)}, 6.5)
    known.end()
    assert known.sightings() == {ONE.key: Sighting(0.5, 6.0, open=False, initiations_sent=2)}
    known.begin()
    assert known.take(10.0) == Watch({1: (ONE, 20.0)})
    told(known, {1: Sighting(10.5, 1.0)}, 12.0)
    assert known.sightings() == {ONE.key: Sighting(10.5, 1.5)}


def test_a_sighting_is_forgotten_long_after_its_window_and_the_callers_of_its_device_too():
    known = WatchedPeers()
    known.watch([ONE, TWO], 30.0, 0.0)
    told(known, {1: Sighting(0.0, 30.0, open=False)}, 30.0, (Callers(("", "wg0"), (CALLER,)),))
    assert known.callers() == {("", "wg0"): (CALLER,)}
    known.watch([], 0.0, 29.0 + KEPT_SECONDS)
    assert (len(known.sightings()), len(known.callers())) == (1, 1)
    known.watch([], 0.0, 31.0 + KEPT_SECONDS)
    known.told(Watched({}, (), 31.0 + KEPT_SECONDS))
    assert (known.sightings(), known.callers(), known.take(0.0)) == ({}, {}, None)
    known.watch([ONE], 30.0, 31.0 + KEPT_SECONDS)
    assert list(known.take(31.0 + KEPT_SECONDS).put) == [3], "a number is never another peer's"


def test_callers_of_whom_none_is_left_are_not_told():
    known = WatchedPeers()
    told(known, {}, 1.0, (Callers(("", "wg0"), (CALLER,)), Callers(("", "wg1"), (CALLER,))))
    told(known, {}, 2.0, (Callers(("", "wg0"), ()),))
    assert list(known.callers()) == [("", "wg1")]


# --- over the socket --------------------------------------------------------------------------------------------------


@pytest.fixture
def stage():
    with played() as stage:
        yield stage


def test_a_peer_to_watch_for_starts_the_process_though_nobody_is_probed(stage):
    begun = time.monotonic()
    stage.prober.watch([ONE], 30.0)
    life = stage.life()
    assert isinstance(life.hear(), Setup)
    heard = life.hear()
    assert heard.put[1][0] == ONE
    assert 30.0 - (time.monotonic() - begun) <= heard.put[1][1] <= 30.0


def test_what_it_saw_comes_back_and_so_does_why_it_saw_nothing(stage):
    stage.prober.set_peers([peer()])
    stage.prober.watch([ONE], 30.0)
    life = stage.life()
    assert [type(life.hear()) for _ in range(3)] == [Setup, Peers, Watch]
    life.connection.send(Watched({1: Sighting(1.0, 2.0)}, (Callers(("", "wg0"), (CALLER,)),), 3.0, "no packet socket"))
    eventually(stage.prober.sightings, within=30)
    assert stage.prober.sightings() == {ONE.key: Sighting(1.0, 2.0)}
    assert stage.prober.callers() == {("", "wg0"): (CALLER,)}
    assert stage.prober.watch_problem == "no packet socket"


def test_a_process_that_dies_ends_the_windows_and_the_next_is_told_again(stage, monkeypatch):
    monkeypatch.setattr("wg_exporter.remote.prober.supervisor.FIRST_PAUSE", 0.05)
    stage.prober.watch([ONE], 30.0)
    life = stage.begun()
    life.connection.send(Watched({1: Sighting(1.0, 2.0)}, (), 3.0))
    eventually(stage.prober.sightings, within=30)
    life.die()
    eventually(lambda: not stage.prober.sightings()[ONE.key].open, within=30)
    second = stage.life(2)
    assert isinstance(second.hear(), Setup)
    assert second.hear().put[1][0] == ONE
