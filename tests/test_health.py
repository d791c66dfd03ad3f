"""How peers are judged: a tunnel is told what happens, second by second, and must be called what it is."""

from __future__ import annotations

import pytest

from tests.rows import SECOND, WALL
from tests.tunnels import INITIATION, KEEPALIVE, RESPONSE, Tunnel, lively
from wg_exporter.health.states import Reason, State
from wg_exporter.model import Backend

# --- who is well ------------------------------------------------------------------------------------------------------


def test_a_peer_that_is_heard_is_up_at_once():
    tunnel = Tunnel(age=10)
    assert tunnel.state is None, "a handshake of ten seconds ago proves nothing about now"
    tunnel.go(10, tunnel.talk)
    assert tunnel.state is State.UP
    assert tunnel.reason is None
    assert tunnel.judged.changes == 0
    assert tunnel.judged.changed_at == 0


def test_an_idle_peer_with_keepalive_is_up_as_long_as_its_handshakes_come():
    tunnel = lively()
    for _ in range(30):
        tunnel.go(120, tunnel.keepalives)
        tunnel.shake()
    assert tunnel.state is State.UP
    assert tunnel.changes[1:] == []


def test_an_idle_phone_goes_from_up_to_idle_and_never_down():
    tunnel = Tunnel(expected=False, keepalive=0, age=10).go(30)
    assert tunnel.state is State.UP
    tunnel.go(170)
    assert tunnel.state is State.IDLE
    tunnel.go(86_400 / 4)
    assert tunnel.state is State.IDLE
    assert tunnel.judged.changes == 1
    assert tunnel.judged.changed_at == WALL + 195


def test_a_phone_that_wakes_up_is_up_again():
    tunnel = Tunnel(expected=False, keepalive=0, age=10_000).go(35)
    assert tunnel.state is State.IDLE
    tunnel.rx(INITIATION)
    tunnel.tx(RESPONSE)
    tunnel.go(1)
    tunnel.shake()
    tunnel.go(5)
    assert tunnel.state is State.UP


def test_an_idle_peer_that_is_expected_up_without_keepalive_and_probes_can_not_be_judged_by_age():
    tunnel = lively(keepalive=0).go(3600)
    assert tunnel.state is State.IDLE


def test_a_laptop_that_never_came_is_never_and_from_the_first_look():
    tunnel = Tunnel(expected=False, keepalive=0, rx=0, tx=0)
    assert tunnel.state is State.NEVER
    assert tunnel.go(3600).state is State.NEVER
    assert tunnel.judged.changes == 0


# --- who is down, and why ---------------------------------------------------------------------------------------------


def test_initiations_without_an_answer_are_down_after_25_seconds_of_them():
    tunnel = lively()
    start = tunnel.now
    tunnel.go(24, tunnel.call_in_vain)
    assert tunnel.state is State.UP
    tunnel.go(12, tunnel.call_in_vain)
    assert tunnel.state is State.DOWN
    assert tunnel.reason is Reason.HANDSHAKE_UNANSWERED
    change = tunnel.changes[-1]
    assert (change.before, change.after, change.name) == (State.UP, State.DOWN, "berlin")
    assert "initiations unanswered" in change.evidence
    assert tunnel.judged.changes == 1
    assert WALL + start + 25 <= tunnel.judged.changed_at <= WALL + start + 36


def test_data_without_an_answer_is_down_25_seconds_after_it_should_have_been_acknowledged():
    """WireGuard acknowledges it within ten seconds; before that nobody is late."""
    tunnel = lively(keepalive=0)
    start = tunnel.now
    tunnel.go(50, tunnel.send_in_vain)
    assert tunnel.reason is Reason.DATA_UNANSWERED
    assert WALL + start + 35 <= tunnel.judged.changed_at <= WALL + start + 41


def test_a_blip_of_20_seconds_that_takes_the_acknowledgement_with_it_is_no_outage():
    """Heard at 0 s; data from 5 s on, acknowledged at 15 s, handshakes from 20 s on, and a blip from 14 to 34 s."""
    tunnel = lively(keepalive=0)
    for _ in range(20):
        tunnel.rx(KEEPALIVE)
        tunnel.look()
        begin = tunnel.now

        def happens(now, begin=begin):
            if (now - begin) % 5 == 0:
                tunnel.tx(128 + (INITIATION if now - begin >= 20 else 0))

        tunnel.go(34, happens)
        tunnel.shake()
        tunnel.go(26, tunnel.talk)  # so that it is a full minute
    assert tunnel.judged.changes == 0


def test_a_blip_of_20_seconds_is_no_outage():
    tunnel = lively()
    for _ in range(50):
        tunnel.go(20, tunnel.send_in_vain)
        tunnel.rx(KEEPALIVE)
        tunnel.go(13, tunnel.talk)
    assert tunnel.judged.changes == 0


def test_keepalives_alone_ask_for_no_answer():
    tunnel = lively().go(140, lambda second: None)
    tunnel.go(60, tunnel.keepalives)
    assert tunnel.state is State.UP


def test_a_lost_packet_now_and_then_is_repaired_by_the_next_handshake_and_no_outage():
    """Data at 0 s, the handshake that nobody answers at 15 and 20, the one that works at 25, and then data again."""
    tunnel = lively(keepalive=0)
    for _ in range(20):
        tunnel.tx(128)
        tunnel.go(15)
        tunnel.tx(INITIATION)
        tunnel.go(5)
        tunnel.tx(INITIATION)
        tunnel.go(6)
        tunnel.shake()
        tunnel.go(4)
        tunnel.tx(128)
        tunnel.rx(128)
        tunnel.go(5)
    assert tunnel.judged.changes == 0


def test_a_peer_whose_calls_reach_us_and_who_does_not_hear_us_is_one_way():
    tunnel = lively()

    def knock(second):
        if second % 5 == 0:
            tunnel.rx(INITIATION)
            tunnel.tx(RESPONSE)

    tunnel.go(40, knock)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.ONE_WAY)
    assert "initiations came from it" in tunnel.judged.evidence


def test_a_peer_whose_calls_reach_us_while_nothing_leaves_this_host_is_not_sent():
    tunnel = lively()
    tunnel.go(40, lambda second: tunnel.rx(INITIATION if second % 5 == 0 else 0))
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.NOT_SENT)


def test_a_peer_of_which_handshakes_come_and_no_data_is_down_though_it_is_heard_again_and_again():
    """A filter on the way drops all but handshakes: whoever sends data starts one every 15 s, and each succeeds."""
    tunnel = lively(keepalive=0)
    start = tunnel.now

    def filtered(second):
        tunnel.tx(128)
        if (second - start) % 15 == 0:
            tunnel.shake()

    tunnel.go(74, filtered)
    assert tunnel.state is State.UP, "some acknowledgements may just have been lost"
    tunnel.go(20, filtered)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.DATA_UNANSWERED)
    assert WALL + start + 75 <= tunnel.judged.changed_at <= WALL + start + 81
    assert "last handshake" in tunnel.judged.evidence
    assert tunnel.judged.changes == 1
    tunnel.go(600, filtered)
    assert tunnel.judged.changes == 1, "it does not flap"
    tunnel.rx(KEEPALIVE)
    assert tunnel.go(5).state is State.UP


@pytest.mark.parametrize("ours", [True, False], ids=["our-keepalive", "theirs"])
def test_an_idle_tunnel_with_keepalive_on_one_side_only_is_up_for_half_an_hour(ours):
    """Every two minutes a handshake, what confirms it and a keepalive come in one look: that is no data."""
    tunnel = lively(keepalive=25 if ours else 0)

    def idle(second):
        if second % 25 == 0:
            (tunnel.tx if ours else tunnel.rx)(KEEPALIVE)
        if second % 120 == 0:
            tunnel.shake()
            tunnel.tx(2 * KEEPALIVE)

    tunnel.go(1800, idle)
    assert tunnel.state is State.UP
    assert tunnel.judged.changes == 0


@pytest.mark.parametrize("size", [240, 480, 128 + 112, 144 + 96])
def test_data_that_is_as_long_as_handshakes_is_data(size):
    tunnel = lively()

    def talks(second):
        if second % 5 == 0:
            tunnel.rx(size)
            tunnel.tx(96)

    tunnel.go(600, talks)
    assert (tunnel.state, tunnel.judged.changes) == (State.UP, 0)


def test_who_called_in_vain_and_sleeps_now_is_idle_after_a_while_and_not_down_at_the_next_call():
    tunnel = lively(keepalive=0)
    for _ in range(5):
        tunnel.rx(INITIATION)
        tunnel.tx(RESPONSE)
        tunnel.go(5)
    tunnel.go(600)
    assert tunnel.state is State.IDLE
    assert not tunnel.health.suspicious
    tunnel.rx(INITIATION)
    tunnel.tx(RESPONSE)
    assert tunnel.go(5).state is State.IDLE


def test_small_packets_in_vain_are_data_and_not_keepalives():
    """A SYN or a bare acknowledgement of TCP is 96 bytes, three times a keepalive."""
    tunnel = lively()
    start = tunnel.now

    def filtered(second):
        if second % 5 == 0:
            tunnel.tx(96)
        if (second - start) % 16 == 0:
            tunnel.shake()

    tunnel.go(120, filtered)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.DATA_UNANSWERED)


def test_a_device_that_counts_what_is_inside_its_messages_and_no_handshakes_is_up_by_its_stamps():
    tunnel = lively(backend=Backend.USERSPACE, opaque=True)
    for _ in range(20):
        tunnel.row = tunnel.row._replace(last_handshake_ns=int((WALL + tunnel.now) * SECOND))
        tunnel.go(120)
    assert (tunnel.state, tunnel.judged.changes) == (State.UP, 0)


def test_a_peer_that_never_came_though_it_should_is_down_and_not_never():
    tunnel = Tunnel(rx=0, tx=0).go(24)
    assert tunnel.state is None
    tunnel.go(6)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.NEVER_HEARD)


def test_without_a_prober_the_age_of_a_peer_with_keepalive_decides():
    tunnel = lively()
    tunnel.go(180)
    assert tunnel.state is State.UP
    tunnel.go(60)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.STALE_HANDSHAKE)


def test_a_peer_that_is_not_expected_up_is_never_down_whatever_happens():
    tunnel = lively()
    tunnel.meta = tunnel.meta._replace(expected_up=False)
    tunnel.go(600, tunnel.call_in_vain)
    assert tunnel.state is State.IDLE
    tunnel.link = tunnel.link._replace(up=False)
    assert tunnel.go(60).state is State.IDLE


def test_a_peer_that_is_down_stays_down_until_it_is_heard():
    tunnel = lively()
    tunnel.go(120, tunnel.call_in_vain)
    tunnel.go(1000)  # WireGuard gave up and waits for data
    assert tunnel.state is State.DOWN
    assert tunnel.judged.down_seconds == pytest.approx(1085, abs=15)
    tunnel.shake()
    tunnel.go(5)
    assert tunnel.state is State.UP
    assert tunnel.judged.changes == 2
    before = tunnel.judged.down_seconds
    tunnel.go(60, tunnel.talk)
    assert tunnel.judged.down_seconds == before


# --- the start --------------------------------------------------------------------------------------------------------


def test_a_start_in_the_middle_of_an_outage_never_calls_the_peer_up():
    tunnel = Tunnel(age=100)
    states = set()

    def watch(second):
        tunnel.call_in_vain(second)
        states.add(tunnel.state)

    tunnel.go(31, watch)
    assert tunnel.state is State.DOWN
    assert State.UP not in states
    assert tunnel.judged.changes == 0, "what was found is no change"
    assert tunnel.changes[-1].before is None


@pytest.mark.parametrize("expected", [True, False])
def test_without_anything_against_it_a_state_is_known_after_30_seconds(expected):
    tunnel = Tunnel(expected=expected, age=100)
    tunnel.go(29)
    assert tunnel.state is None
    tunnel.go(1)
    assert tunnel.state is State.UP


def test_a_wall_clock_that_jumps_changes_no_state():
    tunnel = lively()
    tunnel.wall_offset = 10 * 365 * 86_400.0
    tunnel.go(60, tunnel.talk)
    tunnel.wall_offset = -86_400.0
    tunnel.go(60, tunnel.talk)
    assert tunnel.judged.changes == 0


def test_a_handshake_in_the_future_is_not_older_than_one_of_now():
    tunnel = Tunnel(age=-3600).go(35)
    assert tunnel.state is State.UP
