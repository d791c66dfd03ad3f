"""How peers are judged where things happen in an unlucky order: between two looks, or while something can't be read."""

from __future__ import annotations

import pytest

from tests.rows import SECOND, STATS, WALL, device
from tests.tunnels import INITIATION, KEEPALIVE, Echoes, Tunnel, lively
from wg_exporter.health.states import Reason, State
from wg_exporter.model import Backend, FailedDevice, Probed, Verdict

UNREADABLE = (FailedDevice("", "wg0", Backend.KERNEL, "no permission"),)


def test_an_idle_peer_has_a_state_again_when_its_device_can_be_read_again():
    tunnel = Tunnel(expected=False, keepalive=0, age=1000).go(60)
    assert tunnel.state is State.IDLE
    tunnel.present, tunnel.failed = False, UNREADABLE
    assert tunnel.go(60).state is None
    tunnel.present, tunnel.failed = True, ()
    assert tunnel.go(30).state is State.IDLE


def test_a_prober_that_stands_still_proves_nothing():
    tunnel = lively()
    tunnel.probed = Probed("10.0.0.1", STATS._replace(sent=9, lost=1, silent_since=tunnel.now), None)
    tunnel.go(100, tunnel.keepalives)
    assert tunnel.state is State.UP


def test_a_peer_is_not_down_the_moment_somebody_begins_to_wait_for_it():
    """Between two writes of its file a phone may look as if it should be up."""
    tunnel = Tunnel(expected=False, age=100_000).go(60)
    assert tunnel.state is State.IDLE
    tunnel.meta = tunnel.meta._replace(expected_up=True)
    tunnel.go(10)
    assert tunnel.state is State.IDLE
    tunnel.meta = tunnel.meta._replace(expected_up=False)
    tunnel.go(60)
    assert tunnel.judged.changes == 0
    tunnel.meta = tunnel.meta._replace(expected_up=True)
    tunnel.go(35)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.STALE_HANDSHAKE)


def test_time_that_a_peer_was_down_while_its_device_could_not_be_read_counts():
    tunnel = lively()
    tunnel.go(60, tunnel.call_in_vain)
    assert tunnel.state is State.DOWN
    before = tunnel.judged.down_seconds
    tunnel.present, tunnel.failed = False, UNREADABLE
    tunnel.go(600)
    tunnel.present, tunnel.failed = True, ()
    tunnel.go(5)
    assert tunnel.judged.down_seconds == before + 605


def test_a_lost_packet_without_anything_after_it_does_not_keep_a_peer_open_for_ever():
    tunnel = Tunnel(age=100).go(3)
    tunnel.tx(128)
    tunnel.go(120)
    assert tunnel.state is not None


# --- while nothing can be read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["missing", "stale"])
def test_what_can_not_be_read_is_as_it_was_for_half_a_minute_and_then_unknown(how):
    tunnel = lively(keepalive=0)
    hide(tunnel, how)
    tunnel.go(30)
    assert tunnel.state is State.UP
    tunnel.go(5)
    assert tunnel.state is None


def hide(tunnel, how="missing"):
    """Its device can't be read: it is left out, or shown as it was."""
    tunnel.present, tunnel.fresh = how == "stale", how != "stale"
    tunnel.failed = UNREADABLE if how == "missing" else ()


def show(tunnel):
    tunnel.present, tunnel.fresh, tunnel.failed = True, True, ()


def test_what_was_counted_is_still_told_of_a_peer_that_can_not_be_read():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(60, echoes)
    echoes.verdict = Verdict.BLACKHOLE
    tunnel.go(20, echoes)
    before = tunnel.judged
    assert before.evidence
    hide(tunnel)
    tunnel.go(60)
    assert tunnel.judged == before._replace(state=None, reason=None, evidence="")


def test_a_peer_that_is_down_is_the_same_row_while_it_can_not_be_read():
    tunnel = lively()
    tunnel.go(60, tunnel.call_in_vain)
    before = tunnel.health.of(device(tunnel.row))
    hide(tunnel)
    tunnel.go(600)
    assert tunnel.health.of(device(tunnel.row)) is before


def test_a_peer_that_can_be_read_again_is_as_at_a_start_and_judged_by_what_it_was_last_heard():
    tunnel = Tunnel(expected=False, keepalive=0, age=10).go(40)
    hide(tunnel)
    tunnel.go(60)
    show(tunnel)
    before = tunnel.judged.changes
    assert tunnel.go(5).state is State.UP
    assert tunnel.judged.changes == before, "it was not known, so it did not change"


def test_a_peer_that_can_be_read_again_is_not_up_before_what_was_sent_meanwhile_is_answered():
    tunnel = lively()
    hide(tunnel)
    tunnel.go(60)
    tunnel.tx(128)
    show(tunnel)
    assert tunnel.go(5).state is None
    tunnel.rx(KEEPALIVE)
    assert tunnel.go(5).state is State.UP


def test_initiations_that_went_out_meanwhile_are_told_from_data_by_the_time_that_has_passed():
    tunnel = lively()
    hide(tunnel)
    tunnel.tx(3 * INITIATION)
    tunnel.go(10)
    show(tunnel)
    tunnel.go(5)
    tunnel.go(20, tunnel.call_in_vain)
    tunnel.go(20)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.HANDSHAKE_UNANSWERED)
    assert "7 handshake initiations unanswered" in tunnel.judged.evidence


# --- made anew -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["rx_bytes", "tx_bytes"])
def test_a_peer_whose_counter_went_back_was_made_anew_and_nothing_before_counts(column):
    tunnel = lively()
    assert not tunnel.health.suspicious
    tunnel.row = tunnel.row._replace(**{column: getattr(tunnel.row, column) - 1})
    tunnel.go(5)
    assert tunnel.health.suspicious, "nothing is known of it yet"
    tunnel.go(25)
    assert tunnel.judged.changes == 0


def test_a_handshake_that_is_forgotten_is_none():
    tunnel = lively()
    tunnel.go(60, tunnel.call_in_vain)
    tunnel.row = tunnel.row._replace(last_handshake_ns=0)
    tunnel.go(10)
    assert tunnel.state is State.DOWN


def test_a_handshake_is_news_though_no_byte_was_counted_with_it():
    tunnel = lively()
    tunnel.go(60, tunnel.call_in_vain)
    tunnel.row = tunnel.row._replace(last_handshake_ns=int((WALL + tunnel.now) * SECOND))
    tunnel.go(5)
    assert tunnel.state is State.UP


def test_whoever_is_no_longer_probed_is_judged_without_what_probes_said():
    tunnel = lively()
    echoes = Echoes(tunnel)
    echoes.verdict = Verdict.BLACKHOLE
    tunnel.go(60, echoes)
    assert tunnel.state is State.DEGRADED
    tunnel.probed = None
    assert tunnel.go(5).state is State.UP
