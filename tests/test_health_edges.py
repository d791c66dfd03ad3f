"""How peers are judged where things happen in an unlucky order: between two looks, or while something can't be read."""

from __future__ import annotations

import pytest

from tests.rows import SECOND, STATS, WALL, device, link, peer, snapshot
from tests.tunnels import INITIATION, KEEPALIVE, LIMITS, LINKS_READ, RESPONSE, Echoes, Judge, Tunnel, lively
from wg_exporter.health.states import Reason, State
from wg_exporter.model import SOME_TIME, Backend, FailedDevice, Failure
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import Probed, Verdict

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
    tunnel.tx(144)  # 128 could be keepalives
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


# --- a daemon that hangs ----------------------------------------------------------------------------------------------

HUNG = (FailedDevice("", "wg0", Backend.USERSPACE, "no answer", Failure.UNANSWERED),)


def hang(tunnel, echoes):
    """Its daemon answers nothing, and neither does any probe, from now on; when the first of these was sent."""
    echoes.lose = lambda _: True
    tunnel.present, tunnel.failed = False, HUNG
    return tunnel.now - tunnel.now % 5 + 2


def without_counters(tunnel, echoes):
    """Echoes go out, and nothing of them shows in counters that nobody can read."""
    row = tunnel.row

    def happens(second):
        echoes(second)
        tunnel.row = row

    return happens


def test_a_device_whose_daemon_hangs_is_down_25_to_33_seconds_later_for_all_that_are_expected_up():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(60, echoes)
    first = hang(tunnel, echoes)
    happens = without_counters(tunnel, echoes)
    tunnel.go(24, happens)
    assert tunnel.state is State.UP
    tunnel.go(60, happens)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.UNREADABLE)
    assert WALL + first + 25 <= tunnel.judged.changed_at <= WALL + first + 31
    assert "neither its daemon nor any probe answers" in tunnel.judged.evidence
    assert tunnel.judged.changes == 1


@pytest.mark.parametrize("how", ["answers", "another-failure", "not-expected", "not-probed"])
def test_a_device_that_can_not_be_read_is_not_known_to_hang_unless_all_its_probes_are_silent(how):
    tunnel = lively()
    echoes = Echoes(tunnel)
    if how != "not-probed":
        tunnel.go(60, echoes)
    hang(tunnel, echoes)
    if how == "answers":
        echoes.lose = lambda _: False
    elif how == "another-failure":
        tunnel.failed = UNREADABLE
    elif how == "not-expected":
        tunnel.meta = tunnel.meta._replace(expected_up=False)
    happens = without_counters(tunnel, echoes)
    tunnel.go(100, (lambda _: None) if how == "not-probed" else happens)
    assert tunnel.state is None or how == "not-expected"


def test_what_a_daemon_did_not_answer_while_it_hung_proves_nothing_when_it_goes_on():
    """The initiations of the peer, which waited in its socket, come all at once."""
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(60, echoes)
    hang(tunnel, echoes)
    tunnel.go(60, without_counters(tunnel, echoes))
    show(tunnel)
    before = len(tunnel.changes)
    for second in range(1, 5):
        tunnel.rx(INITIATION * (6 if second == 1 else 1))
        tunnel.tx(RESPONSE)
        tunnel.go(1)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.UNREADABLE)
    tunnel.shake()
    echoes.lose = lambda _: False
    tunnel.go(10, echoes)
    assert [(change.after, change.reason) for change in tunnel.changes[before:]] == [(State.UP, None)]


def test_a_daemon_that_answers_again_leaves_an_idle_peer_without_keepalive_idle():
    tunnel = lively(keepalive=0)
    echoes = Echoes(tunnel)
    tunnel.go(60, echoes)
    hang(tunnel, echoes)
    tunnel.go(60, without_counters(tunnel, echoes))
    assert tunnel.reason is Reason.UNREADABLE
    show(tunnel)
    tunnel.probed = None
    tunnel.go(300)
    assert tunnel.state is State.IDLE


def test_a_daemon_whose_peers_answer_again_does_not_hang_though_it_says_nothing():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(60, echoes)
    hang(tunnel, echoes)
    tunnel.go(60, without_counters(tunnel, echoes))
    assert tunnel.reason is Reason.UNREADABLE
    echoes.lose = lambda _: False
    tunnel.go(10, without_counters(tunnel, echoes))
    assert (tunnel.state, tunnel.reason) == (None, None), "nobody knows"


def test_one_lost_echo_beside_a_peer_that_was_dead_for_long_is_no_daemon_that_hangs():
    health, now = Judge(), 0.0
    rows = [peer(n, rx_bytes=1000, last_handshake_ns=int((WALL - 10) * SECOND)) for n in (1, 2)]
    metas = (PeerMeta("dead", True, True), PeerMeta("well", True, True))
    told = []

    def look(silent, *, hangs):
        nonlocal now
        now += 5
        rows[1] = rows[1]._replace(rx_bytes=rows[1].rx_bytes + KEEPALIVE)
        stats = [STATS._replace(silent_since=since) for since in silent]
        probed = {row.public_key: Probed("10.0.0.1", one, None) for row, one in zip(rows, stats, strict=True)}
        shown, failed = ((), HUNG) if hangs else ((device(*rows),), ())
        found = snapshot(*shown, at=now, links=(link(),), failed=failed, outcomes=(LINKS_READ,))
        told.extend(health.look(found, lambda _: metas, {("", "wg0"): probed}, {("", "wg0")}, LIMITS))

    for _ in range(4):
        look((2.0, None), hangs=False)
    for _ in range(12):
        look((2.0, None), hangs=True)
    look((2.0, now + 3), hangs=True)
    assert {change.name for change in told if change.after is State.DOWN} <= {"dead"}
    assert Reason.UNREADABLE not in {change.reason for change in told}


# --- stamps that daemons make -----------------------------------------------------------------------------------------


def test_a_stamp_that_moves_while_nothing_is_received_is_no_handshake_on_a_userspace_device():
    tunnel = lively(backend=Backend.USERSPACE)

    def wobbles(second):
        tunnel.call_in_vain(second)
        tunnel.row = tunnel.row._replace(last_handshake_ns=tunnel.row.last_handshake_ns + 3 * SECOND)

    tunnel.go(60, wobbles)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.HANDSHAKE_UNANSWERED)


def test_a_peer_that_was_heard_and_nobody_knows_when_is_idle_and_not_never():
    tunnel = Tunnel(expected=False, keepalive=0, age=SOME_TIME)
    assert tunnel.go(30).state is State.IDLE


def test_one_with_keepalive_that_should_be_up_was_silent_for_longer_than_a_session_lasts():
    """Daemons leave the stamp out once the session has ended."""
    tunnel = Tunnel(age=SOME_TIME).go(40)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.STALE_HANDSHAKE)
    assert "not known when" in tunnel.judged.evidence
