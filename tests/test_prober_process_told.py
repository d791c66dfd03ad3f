"""What a process of the prober is told, and what becomes of what it says; the process is played by the test."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from tests.probers import SILENT, STATS, peer, played, probed, report
from wg_exporter.config import MtuProbe, ProbeSettings
from wg_exporter.messages.prober import PORTION, Counters, Peers, Setup
from wg_exporter.probed import Verdict
from wg_exporter.remote.prober import handle
from wg_exporter.remote.prober import supervisor as process

ONE, TWO = peer(), peer(2)
CROWD = [peer(n) for n in range(1, 12_001)]
"""More than fits into a socket at once."""


@pytest.fixture
def stage():
    with played() as stage:
        yield stage


# --- what it is told --------------------------------------------------------------------------------------------------


def test_a_process_first_hears_how_to_probe_then_whom():
    settings = ProbeSettings(
        timeout=0.5, suspect_interval=0.25, rtt_buckets=(0.1, 0.2), mtu=MtuProbe(inner_interval=7.0, outer_interval=8.0)
    )
    with played(settings, {"blue": "/run/netns/blue"}) as stage:
        stage.prober.set_peers([ONE, TWO])
        life = stage.life()
        assert life.hear() == Setup(settings, {"blue": "/run/netns/blue"})
        assert life.hear() == Peers({1: ONE, 2: TWO}, ())


def test_a_peer_is_told_of_again_only_when_its_row_has_changed(stage):
    stage.prober.set_peers([ONE, TWO])
    life = stage.begun()
    stage.prober.set_peers([ONE, peer(2)])
    stage.prober.set_peers([ONE, peer(2, mtu=1380)])
    assert life.hear() == Peers({2: peer(2, mtu=1380)}, ())


def test_a_peer_that_is_gone_is_told_by_its_number_and_has_another_when_it_is_back(stage):
    stage.prober.set_peers([ONE, TWO])
    life = stage.begun()
    stage.prober.set_peers([TWO])
    assert life.hear() == Peers({}, (1,))
    stage.prober.set_peers([ONE, TWO])
    assert life.hear() == Peers({3: ONE}, ())


def test_who_came_and_went_before_it_could_be_told_is_only_told_to_be_gone(stage):
    """It reads no more than how to probe at first, so that all of this gathers. Before that nothing was to be told."""
    stage.prober.set_peers(CROWD)
    life = stage.life()
    assert isinstance(life.hear(), Setup)
    guest = peer(99_999)
    stage.prober.set_peers([*CROWD, guest])
    stage.prober.counters({guest.key: (1, 2), ONE.key: (3, 4)})
    stage.prober.set_peers(CROWD)
    told = [life.hear()]
    while not isinstance(told[-1], Counters):
        told.append(life.hear())
    assert [number for message in told[:-1] for number in message.put] == list(range(1, len(CROWD) + 1))
    assert [number for message in told[:-1] for number in message.gone] == [len(CROWD) + 1]
    assert told[-1] == Counters({1: (3, 4)})
    assert stage.lines == []


def test_byte_counters_are_told_when_they_have_changed(stage):
    stage.prober.set_peers([ONE, TWO])
    life = stage.begun()
    life.tell((1, probed()), (2, probed()))
    stage.known(ONE.key)
    stage.prober.counters({ONE.key: (10, 20), TWO.key: (30, 40)})
    assert life.hear() == Counters({1: (10, 20), 2: (30, 40)})
    stage.prober.counters({ONE.key: (10, 20), TWO.key: (30, 40)})
    stage.prober.counters({ONE.key: (11, 20), TWO.key: (30, 40)})
    assert life.hear() == Counters({1: (11, 20)})
    stage.prober.counters({ONE.key: (11, 20), TWO.key: (30, 41)})
    assert life.hear() == Counters({2: (30, 41)})


def test_unchanged_byte_counters_are_told_each_time_of_who_answers_nothing_or_is_not_known_yet(stage):
    """That nothing was received is what the verdict on a silent peer rests on."""
    three = peer(3)
    stage.prober.set_peers([ONE, TWO, three])
    life = stage.begun()
    life.tell((1, probed()), (2, probed(SILENT)))
    stage.known(TWO.key)
    rows = {ONE.key: (1, 1), TWO.key: (2, 2), three.key: (3, 3)}
    stage.prober.counters(rows)
    assert life.hear() == Counters({1: (1, 1), 2: (2, 2), 3: (3, 3)})
    stage.prober.counters(rows)
    assert life.hear() == Counters({2: (2, 2), 3: (3, 3)})


def test_byte_counters_of_who_is_not_probed_are_not_told(stage):
    stage.prober.set_peers([ONE])
    life = stage.begun()
    stage.prober.counters({TWO.key: (5, 5), ONE.key: (6, 6)})
    assert life.hear() == Counters({1: (6, 6)})


def test_peers_are_told_before_their_counters_and_both_in_portions():
    crowd = [peer(n) for n in range(1, 2 * PORTION + 11)]
    with played() as stage:
        stage.prober.set_peers(crowd)
        stage.prober.counters({one.key: (n, n) for n, one in enumerate(crowd, 1)})
        life = stage.life()
        life.hear()
        told = [life.hear() for _ in range(6)]
    assert [type(message) for message in told] == [Peers] * 3 + [Counters] * 3
    assert [len(message.put) for message in told[:3]] == [PORTION, PORTION, 10]
    assert [len(message.rows) for message in told[3:]] == [PORTION, PORTION, 10]
    assert [row for message in told[:3] for row in message.put.items()] == list(enumerate(crowd, 1))
    assert [row for message in told[3:] for row in message.rows.items()] == [
        (n, (n, n)) for n in range(1, len(crowd) + 1)
    ]


def test_a_process_that_reads_again_hears_the_rest_at_once():
    with played() as stage:
        stage.prober.set_peers(CROWD)
        life = stage.life()
        gaps, put = [], 0
        while put < len(CROWD):
            begun = time.monotonic()
            heard = life.hear()
            gaps.append(time.monotonic() - begun)
            put += len(heard.put) if isinstance(heard, Peers) else 0
    assert max(gaps) < 0.5, "the thread was roused by the socket, and did not look by chance"


def test_what_a_busy_process_has_not_taken_is_replaced_by_what_is_newer():
    """It reads nothing: the socket fills, and what is to be told gathers as one row for each peer."""
    with played() as stage:
        stage.prober.set_peers(CROWD)
        life = stage.life()
        for turn in range(20):
            stage.prober.counters({one.key: (turn, turn) for one in CROWD})
        seen: dict[int, int] = {}
        taken = 0
        while not (len(seen) == len(CROWD) and set(seen.values()) == {19}):
            heard = life.hear()
            if isinstance(heard, Counters):
                taken += len(heard.rows)
                seen.update((number, rx) for number, (rx, _) in heard.rows.items())
    assert taken < 3 * len(CROWD)


# --- what it says -----------------------------------------------------------------------------------------------------


def test_what_it_says_is_known_by_peer_and_what_it_does_not_say_stays(stage):
    stage.prober.set_peers([ONE, TWO])
    life = stage.begun()
    assert dict(stage.results()) == {}
    life.tell((1, probed()))
    stage.known(ONE.key)
    life.tell((2, probed(SILENT)))
    stage.known(TWO.key)
    assert dict(stage.results()) == {ONE.key: probed(), TWO.key: probed(SILENT)}


def test_what_was_taken_does_not_change_under_the_reader(stage):
    stage.prober.set_peers([ONE])
    life = stage.begun()
    life.tell((1, probed()))
    stage.known(ONE.key)
    before = stage.prober.results()
    life.tell((1, probed(SILENT)))
    stage.known(ONE.key, SILENT)
    device, public_key = ONE.key[:2], ONE.key[2]
    assert before[device][public_key].stats == STATS
    with pytest.raises(TypeError):
        before["", "wg9"] = {}
    with pytest.raises(TypeError):
        before[device][TWO.key[2]] = probed()


def test_a_report_beside_new_numbers_is_the_same_object(stage):
    stage.prober.set_peers([ONE])
    life = stage.begun()
    life.tell((1, probed(mtu=report())))
    first = stage.known(ONE.key)
    life.tell((1, probed(SILENT)))
    second = stage.known(ONE.key, SILENT)
    assert second.mtu is first.mtu
    life.tell((1, probed(STATS, report(Verdict.BLACKHOLE))))
    assert stage.known(ONE.key, STATS).mtu == report(Verdict.BLACKHOLE)


def test_of_a_peer_that_is_gone_nothing_is_known_and_nothing_is_taken(stage):
    stage.prober.set_peers([ONE, TWO])
    life = stage.begun()
    life.tell((1, probed()), (2, probed()))
    stage.known(ONE.key)
    stage.prober.set_peers([TWO])
    assert set(stage.results()) == {TWO.key}
    life.tell((1, probed(SILENT)), (2, probed(SILENT)))
    stage.known(TWO.key, SILENT)
    stage.prober.set_peers([ONE, TWO])
    assert set(stage.results()) == {TWO.key}, "it begins anew"


def test_the_worst_delay_since_it_was_last_asked_is_told_once(stage):
    stage.prober.set_peers([ONE])
    life = stage.begun()
    assert stage.prober.scheduling_delay() == 0.0
    life.tell((1, probed(SILENT)), delay=0.25)
    stage.known(ONE.key, SILENT)
    life.tell((1, probed()), delay=0.125)
    stage.known(ONE.key, STATS)
    assert stage.prober.scheduling_delay() == 0.25
    assert stage.prober.scheduling_delay() == 0.0


def test_nothing_is_known_any_more_once_it_has_been_mute_for_long(stage, monkeypatch):
    stage.prober.set_peers([ONE])
    life = stage.begun()
    assert process.SILENCE == 30.0
    life.tell((1, probed()))
    stage.known(ONE.key)
    now = time.monotonic()
    for later, known in ((29.0, True), (30.5, False)):
        monkeypatch.setattr(handle, "time", SimpleNamespace(monotonic=lambda later=later: now + later))
        assert bool(stage.results()) is known
    monkeypatch.undo()
