"""How peers are judged by their probes: cuts, loss, latency, targets that fall silent, faults of the MTU."""

from __future__ import annotations

import pytest

from tests.rows import WALL
from tests.tunnels import KEEPALIVE, Echoes, lively
from wg_exporter.health.states import Reason, State
from wg_exporter.model import Backend, Verdict


def test_a_cut_is_dated_by_the_first_probe_that_found_no_answer():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(62, echoes)
    echoes.lose = lambda _: True
    first = tunnel.now + 5
    tunnel.go(40, echoes)
    assert tunnel.state is State.DOWN
    assert WALL + first + 25 <= tunnel.judged.changed_at <= WALL + first + 30


def test_probes_that_the_host_can_not_even_send_on_are_down_though_no_byte_is_counted():
    """The endpoint's route is gone: WireGuard sends nothing, counts nothing, and says nothing."""
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(62, echoes)
    echoes.lose = lambda _: True
    first, before = tunnel.now + 5, tunnel.row.tx_bytes

    def unsent(second):
        echoes(second)
        tunnel.row = tunnel.row._replace(tx_bytes=before)

    tunnel.go(24, unsent)
    assert tunnel.state is State.UP
    tunnel.go(16, unsent)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.NOT_SENT)
    assert WALL + first + 25 <= tunnel.judged.changed_at <= WALL + first + 31
    assert "probes unanswered" in tunnel.judged.evidence


def test_the_same_of_a_peer_that_never_answered_probes():
    tunnel = lively()
    echoes = Echoes(tunnel)
    echoes.lose = lambda _: True

    def deaf(second):
        echoes(second)
        tunnel.probed = tunnel.probed._replace(stats=tunnel.probed.stats._replace(rtt_last=None))

    def answered(second):
        deaf(second)
        if second % 10 == 0:
            tunnel.rx(KEEPALIVE)

    tunnel.go(120, answered)
    assert tunnel.state is State.UP
    before = tunnel.row.tx_bytes

    def unsent(second):
        deaf(second)
        tunnel.row = tunnel.row._replace(tx_bytes=before)

    tunnel.go(60, unsent)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.NOT_SENT)


def test_lost_probes_alone_never_make_down_while_anything_else_is_heard():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(60, echoes)
    echoes.lose = lambda _: True

    def deaf(second):
        echoes(second)
        if second % 10 == 0:
            tunnel.rx(KEEPALIVE)

    tunnel.go(600, deaf)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, Reason.TARGET_SILENT)
    assert State.DOWN not in {change.after for change in tunnel.changes}


def test_a_peer_that_never_answered_probes_is_up_by_its_counters():
    tunnel = lively()
    echoes = Echoes(tunnel)
    echoes.lose = lambda _: True

    def deaf(second):
        echoes(second)
        stats = tunnel.probed.stats._replace(rtt_last=None)
        tunnel.probed = tunnel.probed._replace(stats=stats)
        if second % 10 == 0:
            tunnel.rx(KEEPALIVE)

    tunnel.go(600, deaf)
    assert tunnel.state is State.UP


def test_loss_makes_a_peer_degraded_and_it_takes_half_of_it_to_end_that():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(400, echoes)
    assert tunnel.state is State.UP
    echoes.lose = lambda number: number % 8 == 0
    tunnel.go(600, echoes)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, Reason.LOSSY)
    assert "% of probes lost" in tunnel.judged.evidence
    changes = tunnel.judged.changes
    echoes.lose = lambda number: number % 12 == 0
    tunnel.go(600, echoes)
    assert (tunnel.state, tunnel.judged.changes) == (State.DEGRADED, changes), "8 % is not yet well"
    echoes.lose = lambda number: number % 50 == 0
    tunnel.go(600, echoes)
    assert tunnel.state is State.UP


def test_an_outage_is_not_loss_of_the_tunnel_that_came_back():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(400, echoes)
    echoes.lose = lambda _: True
    tunnel.go(200, echoes)
    assert tunnel.state is State.DOWN
    echoes.lose = lambda _: False
    tunnel.go(400, echoes)
    assert tunnel.state is State.UP
    assert [change.after for change in tunnel.changes if change.after is State.DEGRADED] == []


def test_round_trips_three_times_as_long_as_usual_are_slow_and_a_new_path_becomes_usual():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(1800, echoes)
    echoes.rtt = 0.1
    tunnel.go(600, echoes)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, Reason.SLOW)
    assert "usually" in tunnel.judged.evidence
    tunnel.go(3600, echoes)
    assert tunnel.state is State.UP


def test_a_third_of_a_millisecond_tripled_is_not_slow():
    tunnel = lively()
    echoes = Echoes(tunnel, rtt=0.0003)
    tunnel.go(1800, echoes)
    echoes.rtt = 0.002
    tunnel.go(900, echoes)
    assert tunnel.state is State.UP


@pytest.mark.parametrize("verdict", Verdict)
def test_a_fault_of_the_mtu_makes_degraded_with_the_verdict_as_the_reason(verdict):
    tunnel = lively()
    echoes = Echoes(tunnel)
    echoes.verdict = verdict
    tunnel.go(60, echoes)
    faults = {reason.removeprefix("mtu_"): reason for reason in Reason if reason.startswith("mtu_")}
    assert set(faults) < set(Verdict)
    assert tunnel.state is (State.DEGRADED if verdict in faults else State.UP)
    assert tunnel.reason is faults.get(verdict)


def test_a_target_that_is_asked_late_after_an_outage_is_not_silent():
    """The tunnel is heard again by its handshake; the prober, backed off, asks up to half a minute later."""
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(62, echoes)
    echoes.lose = lambda _: True
    tunnel.go(120, echoes)
    assert tunnel.state is State.DOWN
    tunnel.shake()
    tunnel.go(5)
    assert tunnel.state is State.UP
    echoes.lose = lambda _: False
    tunnel.go(60, echoes)
    assert [change.after for change in tunnel.changes][-2:] == [State.DOWN, State.UP]


def test_a_probed_peer_whose_message_sizes_say_nothing_is_down_by_its_probes():
    """Of AmneziaWG nobody knows what the bytes are, so not that nothing was sent either."""
    tunnel = lively(backend=Backend.AMNEZIAWG)
    echoes = Echoes(tunnel)
    tunnel.go(62, echoes)
    echoes.lose = lambda _: True
    tunnel.go(60, echoes)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.DATA_UNANSWERED)


def test_a_target_is_not_silent_in_the_first_half_minute_after_an_outage():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(62, echoes)
    echoes.lose = lambda _: True
    tunnel.go(60, echoes)
    assert tunnel.state is State.DOWN
    tunnel.shake()
    tunnel.go(5)
    back = len(tunnel.changes)
    assert tunnel.changes[-1].after is State.UP

    def heard(second):
        echoes(second)
        if second % 5 == 0:
            tunnel.rx(KEEPALIVE)

    tunnel.go(25, heard)
    assert tunnel.changes[back:] == []
    tunnel.go(10, heard)
    assert [change.reason for change in tunnel.changes[back:]] == [Reason.TARGET_SILENT]


def test_loss_is_judged_again_within_minutes_of_a_prober_that_counts_from_zero():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(1000, echoes)
    echoes.sent = echoes.lost = 0
    echoes.rtt_sum = 0.0
    echoes.lose = lambda number: number % 4 == 0
    tunnel.go(200, echoes)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, Reason.LOSSY)


@pytest.mark.parametrize("reason", [Reason.LOSSY, Reason.SLOW])
def test_what_was_wrong_before_an_outage_is_not_said_of_the_tunnel_that_came_back(reason):
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(1800, echoes)
    echoes.lose = lambda number: reason is Reason.LOSSY and number % 4 == 0
    echoes.rtt = 0.1 if reason is Reason.SLOW else 0.02
    tunnel.go(400, echoes)
    assert tunnel.reason is reason
    echoes.lose = lambda _: True
    tunnel.go(60, echoes)
    assert tunnel.state is State.DOWN
    echoes.lose = lambda _: False
    before = len(tunnel.changes)
    tunnel.go(15, echoes)
    assert [change.after for change in tunnel.changes[before:]] == [State.UP]


def test_a_target_that_was_silent_for_an_hour_is_not_lossy_when_it_answers_again():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(600, echoes)
    echoes.lose = lambda _: True

    def heard(second):
        echoes(second)
        if second % 10 == 0:
            tunnel.rx(KEEPALIVE)

    tunnel.go(3600, heard)
    assert tunnel.reason is Reason.TARGET_SILENT
    echoes.lose = lambda _: False
    before = len(tunnel.changes)
    tunnel.go(15, heard)
    assert tunnel.state is State.UP
    tunnel.go(600, heard)
    assert [change.after for change in tunnel.changes[before:]] == [State.UP]
