"""Fast echoes between the exporter and the prober's process: what is asked, how soon it is told, and for how long it
holds.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually
from tests.probers import peer, played
from wg_exporter.config import ProbeSettings
from wg_exporter.config.fast import MOST_FAST
from wg_exporter.messages.channel import Connection
from wg_exporter.messages.prober import FastPeers, FastStates, FromProber, Results, ToProber
from wg_exporter.model import Usage
from wg_exporter.probed import FastPeer
from wg_exporter.prober import __main__ as process
from wg_exporter.prober.__main__ import FAST_BUSY, Child
from wg_exporter.prober.driver import Prober
from wg_exporter.remote.prober.fast import SILENCE, FastPeersAsked
from wg_exporter.remote.prober.handle import ProberProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.model import PeerKey

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: raw sockets")


def fast(number: int = 1, **fields: object) -> FastPeer:
    """A peer whose tunnel is the loopback device."""
    return FastPeer(("", "lo", f"k{number}"), 1, "127.0.0.1", 0.05, 4)._replace(**fields)


# --- what is kept of it -----------------------------------------------------------------------------------------------


def test_all_peers_are_told_whenever_one_of_them_changed_and_not_again():
    asked = FastPeersAsked()
    assert asked.take() is None
    peers = [fast(), fast(2)]
    asked.set_peers(peers)
    assert asked.take() == FastPeers({1: fast(), 2: fast(2)})
    asked.set_peers(peers)
    asked.set_peers(list(peers))
    assert asked.take() is None
    asked.set_peers([fast(2, interval=1.0), fast(3)])
    assert asked.take() == FastPeers({2: fast(2, interval=1.0), 3: fast(3)})
    asked.set_peers([])
    assert asked.take() == FastPeers({})


def test_a_state_holds_as_long_as_the_process_goes_on_speaking():
    asked = FastPeersAsked()
    asked.set_peers([fast(), fast(2)])
    asked.told(FastStates({1: True, 2: False}), 100.0)
    assert asked.states(100.0 + SILENCE) == {fast().key: True, fast(2).key: False}
    assert asked.states(100.1 + SILENCE) == {}
    asked.told(FastStates({2: None}), 103.0)
    assert asked.states(103.0) == {fast().key: True}


def test_states_of_peers_that_are_asked_no_more_or_never_were_are_none():
    asked = FastPeersAsked()
    asked.set_peers([fast(), fast(2)])
    asked.told(FastStates({1: True, 2: True, 7: True}), 100.0)
    asked.set_peers([fast(2)])
    assert asked.states(100.0) == {fast(2).key: True}
    asked.told(FastStates({1: True}), 100.0)
    assert asked.states(100.0) == {fast(2).key: True}


def test_while_nothing_changed_the_states_are_the_same_object():
    asked = FastPeersAsked()
    asked.set_peers([fast()])
    asked.told(FastStates({1: True}), 100.0)
    before = asked.states(100.0)
    asked.told(FastStates({1: True}), 100.5)
    assert asked.states(100.5) is before


def test_a_new_process_is_told_everything_and_knows_nothing():
    asked = FastPeersAsked()
    asked.set_peers([fast()])
    asked.take()
    asked.told(FastStates({1: True}), 100.0)
    asked.begin()
    assert asked.take() == FastPeers({1: fast()})
    assert asked.states(100.0) == {}


# --- with a process that the test plays -------------------------------------------------------------------------------


def test_fast_echoes_alone_start_a_process_and_each_change_is_passed_on_at_once():
    with played() as one:
        changes: list[dict[PeerKey, bool]] = []
        one.prober.listen_fast(lambda: changes.append(dict(one.prober.fast())))
        one.prober.ask_fast([fast()])
        life = one.life()
        life.hear()
        assert life.hear() == FastPeers({1: fast()})
        for up in (True, False):
            life.connection.send(FastStates({1: up}))
            eventually(lambda up=up: changes[-1:] == [{fast().key: up}], within=30, every=0.001)
        life.die()
        eventually(lambda: changes[-1] == {}, within=30)


def test_a_process_that_is_asked_for_a_flood_does_not_send_it():
    prober: Prober[int] = Prober()
    prober.ask_fast({n: fast(n, interval=0.0001, multiplier=10**6, target=f"127.0.0.{n}") for n in range(1, 200)})
    tracks = list(prober.fast.tracks())
    assert len(tracks) == MOST_FAST
    assert {(track.target.interval, track.target.multiplier) for track in tracks} == {(0.05, 50)}
    prober.ask_fast({1: fast(multiplier=-1), 2: fast(2, target="no address")})
    assert [(track.target.id, track.target.multiplier) for track in prober.fast.tracks()] == [(1, 1)]
    prober.close()


def test_while_the_exporter_takes_nothing_states_wait_and_the_newest_is_told_as_soon_as_it_does(monkeypatch):
    monkeypatch.setattr(process, "FAST_ALIVE", 600.0)  # for which all of them are told at the next time
    ours, theirs = socket.socketpair()
    here: Connection[ToProber] = Connection(ours, ToProber)
    there: Connection[FromProber] = Connection(theirs, FromProber)
    prober: Prober[int] = Prober()
    prober.ask_fast({1: fast()})
    child = Child(here, prober)
    child._tell_fast()  # all of them, at first
    usage = Usage()
    while here.idle:
        here.send(Results({}, dict.fromkeys(range(10_000)), 0.0, usage))
    for up in (True, False):
        prober.fast._changed[1] = up
        child._tell_fast()
        assert child._longest_sleep() <= FAST_BUSY
    told = []
    while not here.idle or not told or told[-1] != FastStates({1: False}):
        message = there.receive()
        told += [message] if isinstance(message, FastStates) else []
        child._tell_fast()
    assert told == [FastStates({1: None}), FastStates({1: False})]
    prober.close()
    ours.close()
    theirs.close()


# --- for real ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def prober() -> Iterator[ProberProcess]:
    found = ProberProcess(ProbeSettings())
    yield found
    found.stop()


@root
def test_who_answers_is_up_who_does_not_is_down_and_no_statistics_know_of_it(prober):
    prober.ask_fast(
        [fast(), fast(2, target="192.0.2.1"), fast(3, ifindex=0), fast(4, target="::1"), fast(5, target="x")]
    )
    expected = {fast().key: True, fast(2).key: False, fast(3).key: False, fast(4).key: True}
    eventually(lambda: prober.fast() == expected, within=30)
    begun = time.monotonic()
    prober.set_peers([peer(interval=0.5)])
    stats = eventually(
        lambda: (now := prober.results().get(("", "lo"), {}).get("k1")) and now.stats.sent >= 3 and now.stats, within=30
    )
    assert stats.sent + stats.extra_sent <= (time.monotonic() - begun) / 0.5 + 2, (
        "of the fast ones there are ten times as many"
    )
    assert stats.duplicates == stats.late == 0


@root
def test_a_change_is_told_within_the_time_that_it_takes_to_find_out(prober):
    """A quarter of a second is all that a busy machine may add; results have half a second."""
    told: list[tuple[float, bool | None]] = []
    prober.listen_fast(lambda: told.append((time.monotonic(), prober.fast().get(fast().key))))
    prober.ask_fast([fast()])
    eventually(lambda: prober.fast() == {fast().key: True}, within=30)
    delays = []
    for _ in range(3):
        cut = time.monotonic()
        prober.ask_fast([fast(ifindex=0)])  # nothing leaves any more
        eventually(lambda: told[-1][1] is False, within=30, every=0.005)
        delays.append(next(when for when, up in told if up is False and when > cut) - cut)
        prober.ask_fast([fast()])
        eventually(lambda: told[-1][1] is True, within=30, every=0.005)
    assert min(delays) < 0.25 + 0.25


@root
def test_of_a_process_that_hangs_nothing_is_known_and_one_that_died_is_started_again(prober):
    prober.ask_fast([fast()])
    eventually(lambda: prober.fast() == {fast().key: True}, within=30)
    os.kill(prober.pid, signal.SIGSTOP)
    eventually(lambda: prober.fast() == {}, within=SILENCE + 5)
    os.kill(prober.pid, signal.SIGCONT)
    eventually(lambda: prober.fast() == {fast().key: True}, within=30)
    os.kill(prober.pid, signal.SIGKILL)
    eventually(lambda: prober.fast() == {}, within=30)
    eventually(lambda: prober.fast() == {fast().key: True}, within=30)
