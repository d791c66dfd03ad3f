"""How peers are judged by their probes: cuts, loss, latency, targets that fall silent, faults of the MTU."""

from __future__ import annotations

import pytest

from tests.rows import SECOND, WALL
from tests.tunnels import INITIATION, KEEPALIVE, RESPONSE, Echoes, Tunnel, lively
from wg_exporter.health.states import Reason, State
from wg_exporter.model import Backend
from wg_exporter.probed import SendError, Verdict


def probed():
    """A tunnel that was probed for a minute, and what probes it."""
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(62, echoes)
    return tunnel, echoes


def cut_off():
    """The same, of which no echo is answered from now on; the next leaves in 5 s."""
    tunnel, echoes = probed()
    echoes.lose = lambda _: True
    return tunnel, echoes


def test_a_cut_is_dated_by_the_first_probe_that_found_no_answer():
    tunnel, echoes = cut_off()
    first = tunnel.now + 5
    tunnel.go(40, echoes)
    assert tunnel.state is State.DOWN
    assert WALL + first + 25 <= tunnel.judged.changed_at <= WALL + first + 30


def test_probes_that_the_host_can_not_even_send_on_are_down_though_no_byte_is_counted():
    """The endpoint's route is gone: WireGuard sends nothing, counts nothing, and says nothing."""
    tunnel, echoes = cut_off()
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


@pytest.mark.parametrize(("lost", "down"), [(5, False), (0, True)], ids=["lost-one-before", "lost-none-before"])
def test_a_second_acknowledgement_is_waited_for_where_echoes_were_lost_before(lost, down):
    """The host behind the peer is off, the first acknowledgement is lost, and the handshake puts off the second one."""
    tunnel = lively()
    echoes = Echoes(tunnel)
    echoes.lose = lambda number: number == lost
    tunnel.go(130, echoes)
    echoes.lose = lambda _: True
    off, states = tunnel.now, set()

    def acknowledged(second):
        echoes(second)
        if second == off + 17:
            tunnel.shake()
        if second == off + 28:
            tunnel.rx(KEEPALIVE)
        states.add(tunnel.state)

    tunnel.go(35, acknowledged)
    assert (State.DOWN in states) is down


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


def test_handshakes_that_pass_while_probes_do_not_are_down_25_to_30_seconds_after_the_cut():
    tunnel, echoes = cut_off()
    first = tunnel.now + 5

    def filtered(second):
        echoes(second)
        if second > first and (second - first) % 15 == 0:
            tunnel.shake()

    tunnel.go(24, filtered)
    assert tunnel.state is State.UP
    tunnel.go(100, filtered)
    assert (tunnel.state, tunnel.reason, tunnel.judged.changes) == (State.DOWN, Reason.DATA_UNANSWERED, 1)
    assert WALL + first + 25 <= tunnel.judged.changed_at <= WALL + first + 30


def test_the_same_before_the_start_is_never_called_up():
    tunnel = Tunnel(age=7)
    echoes = Echoes(tunnel)
    echoes.lose = lambda _: True

    def filtered(second):
        echoes(second)
        tunnel.probed = tunnel.probed._replace(stats=tunnel.probed.stats._replace(rtt_last=None))
        if second % 15 == 8:
            tunnel.shake()

    tunnel.go(300, filtered)
    assert [change.after for change in tunnel.changes] == [State.DOWN], "a handshake is no sign of data"
    assert tunnel.reason is Reason.DATA_UNANSWERED


def test_one_that_goes_on_sending_and_calls_again_and_again_is_one_way():
    """Nothing that we send arrives: 15 s later it calls, and every 5 s from then on, while its old session lives."""
    tunnel, echoes = cut_off()
    cut = tunnel.now

    def deaf(second):
        echoes(second)
        tunnel.rx(96)
        if second >= cut + 15 and (second - cut) % 5 == 0:
            tunnel.rx(INITIATION)
            tunnel.tx(RESPONSE)

    tunnel.go(24, deaf)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, Reason.TARGET_SILENT)
    tunnel.go(16, deaf)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.ONE_WAY)
    assert tunnel.judged.changed_at <= WALL + cut + 35
    assert "starts handshakes again and again" in tunnel.judged.evidence
    tunnel.go(120, deaf)
    assert tunnel.judged.changes == 2
    echoes.lose = lambda _: False
    assert tunnel.go(10, echoes).state is State.UP


def test_one_that_goes_on_sending_while_only_our_data_is_lost_is_one_way_too():
    """Our responses arrive, so its handshakes succeed, one every 15 s."""
    tunnel, echoes = cut_off()
    cut = tunnel.now

    def deaf(second):
        echoes(second)
        tunnel.rx(96)
        if (second - cut) % 16 == 0:
            tunnel.row = tunnel.row._replace(last_handshake_ns=int((WALL + second) * SECOND))
            tunnel.rx(INITIATION)
            tunnel.tx(RESPONSE)

    tunnel.go(45, deaf)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.ONE_WAY)


def test_a_gap_of_22_seconds_is_no_loss_of_minutes():
    """While an answer is missing more probes are sent, and they would count one gap many times."""
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(400, echoes)
    gap = tunnel.now
    extra = 0

    def gone(second):
        nonlocal extra
        echoes.lose = lambda _: gap <= second < gap + 22
        extra += gap + 3 <= second < gap + 22
        echoes(second)
        stats = tunnel.probed.stats._replace(extra_sent=extra, extra_lost=extra)
        tunnel.probed = tunnel.probed._replace(stats=stats)

    tunnel.go(600, gone)
    assert tunnel.judged.changes == 0


def test_answers_after_the_timeout_are_slow_and_not_lost():
    """A line full of buffers: every round trip takes 4 s."""
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(1800, echoes)
    before, late = echoes.rtt_sum, 0

    def full(second):
        nonlocal late
        echoes(second)
        late += second % 5 == 2
        stats = tunnel.probed.stats._replace(lost=late, late=late, late_sum=4.0 * late, rtt_sum=before)
        tunnel.probed = tunnel.probed._replace(stats=stats)

    tunnel.go(300, full)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, Reason.SLOW)
    assert "lost" not in tunnel.judged.evidence


@pytest.mark.parametrize("refused", SendError)
def test_probes_that_this_host_refuses_prove_nothing_about_the_tunnel(refused):
    tunnel, _ = probed()

    def blocked(second):
        tunnel.probed = tunnel.probed._replace(stats=tunnel.probed.stats._replace(refused=refused))
        if second % 25 == 0:
            tunnel.rx(KEEPALIVE)

    tunnel.go(120, blocked)
    found = (tunnel.state, tunnel.reason, refused in tunnel.judged.evidence)
    gone = refused is SendError.NO_DEVICE  # the interface itself says so
    assert found == ((State.UP, None, False) if gone else (State.DEGRADED, Reason.PROBES_BLOCKED, True))


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
    """The handshake tells that the peer is back; the prober, backed off, may ask half a minute later."""
    tunnel, echoes = cut_off()

    def outage(second):
        echoes(second)
        tunnel.call_in_vain(second)

    tunnel.go(120, outage)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.HANDSHAKE_UNANSWERED)
    tunnel.shake()
    tunnel.go(10)
    found = (tunnel.state, tunnel.reason)
    assert found == (State.DOWN, Reason.HANDSHAKE_UNANSWERED), "whether data passes is not known yet"
    tunnel.go(10)
    assert tunnel.state is State.UP
    echoes.lose = lambda _: False
    tunnel.go(60, echoes)
    assert [change.after for change in tunnel.changes if change.after is not change.before][-2:] == [
        State.DOWN,
        State.UP,
    ]


def test_a_probed_peer_whose_message_sizes_say_nothing_is_down_by_its_probes():
    """Of AmneziaWG nobody knows what the bytes are, so not that nothing was sent either."""
    tunnel = lively(backend=Backend.AMNEZIAWG)
    echoes = Echoes(tunnel)
    tunnel.go(62, echoes)
    echoes.lose = lambda _: True
    tunnel.go(60, echoes)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.DATA_UNANSWERED)


def test_a_target_is_not_silent_in_the_first_half_minute_after_an_outage():
    tunnel, echoes = cut_off()
    tunnel.go(60, echoes)
    assert tunnel.state is State.DOWN
    tunnel.shake()
    tunnel.rx(KEEPALIVE)
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
