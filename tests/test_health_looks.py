"""The looks themselves: how often they come, what they keep, and what they cost while nothing happens."""

from __future__ import annotations

import pytest

from tests.rows import SECOND, WALL, device, link, peer, snapshot
from tests.tunnels import INITIATION, LIMITS, LINKS_READ, Judge, Tunnel, lively
from wg_exporter.config.health import HealthLimits
from wg_exporter.health.rules import decide
from wg_exporter.health.states import Reason, State
from wg_exporter.names.identity import PeerMeta


def test_a_suspect_is_looked_at_every_second_and_a_decided_one_is_not():
    tunnel = lively()
    assert not tunnel.health.suspicious
    tunnel.go(16, tunnel.call_in_vain)
    assert tunnel.health.suspicious
    tunnel.go(60, tunnel.call_in_vain)
    assert tunnel.state is State.DOWN
    assert not tunnel.health.suspicious


def test_peers_that_come_and_go_keep_what_is_known_of_the_others():
    health, now = Judge(), 0.0
    rows = {n: peer(n, last_handshake_ns=int((WALL - 10) * SECOND)) for n in range(4)}

    def look(*numbers):
        shown = device(*(rows[n] for n in numbers))
        metas = tuple(PeerMeta(str(n), True, True) for n in numbers)
        health.look(
            snapshot(shown, at=now, links=(link(),), outcomes=(LINKS_READ,)), lambda _: metas, {}, {("", "wg0")}, LIMITS
        )
        return [row.state for row in health.of(shown)]

    look(0, 1, 2)
    for _ in range(20):
        now += 5
        rows = {
            n: row._replace(rx_bytes=row.rx_bytes + 32 * (n != 1), tx_bytes=row.tx_bytes + 148)
            for n, row in rows.items()
        }
        look(0, 1, 2)
    assert look(0, 1, 2) == [State.UP, State.DOWN, State.UP]
    assert look(2, 1, 3) == [State.UP, State.DOWN, None]
    assert look(1) == [State.DOWN]
    assert health.of(device(rows[0], rows[1]))[0].state is None


def test_while_nothing_happens_the_rows_are_the_same_object():
    tunnel = lively()
    before = tunnel.health.of(device(tunnel.row))
    tunnel.go(60)
    assert tunnel.health.of(device(tunnel.row)) is before


# --- a peer is judged when it moved, or when something may have come true by itself -----------------------------------


@pytest.fixture
def judgements(monkeypatch):
    """The moments at which a peer was judged by the table of rules."""
    found = []

    def counted(seen, now, limits):
        found.append(now)
        return decide(seen, now, limits)

    monkeypatch.setattr("wg_exporter.health.judge.decide", counted)
    return found


def asked_in_vain(tunnel):
    tunnel.tx(128)
    tunnel.go(5)
    return tunnel


def with_link_down(tunnel):
    tunnel.link = tunnel.link._replace(up=False)
    return tunnel.go(5)


@pytest.mark.parametrize(
    ("make", "state"),
    [
        pytest.param(lambda: lively(), State.UP, id="up"),  # noqa: PLW0108 - made when the test begins
        pytest.param(lambda: lively(keepalive=0).go(300), State.IDLE, id="idle-though-expected"),
        pytest.param(lambda: Tunnel(expected=False, age=9999).go(60), State.IDLE, id="idle"),
        pytest.param(lambda: Tunnel(expected=False, rx=0, tx=0).go(60), State.NEVER, id="never"),
        pytest.param(lambda: asked_in_vain(Tunnel(expected=False, age=9999).go(60)), State.IDLE, id="asked-in-vain"),
        pytest.param(lambda: with_link_down(Tunnel(expected=False, age=9999).go(60)), State.IDLE, id="link-down"),
    ],
)
def test_a_peer_at_rest_is_not_judged_again_and_again(judgements, make, state):
    tunnel = make()
    assert tunnel.state is state
    tunnel.go(30)
    del judgements[:]
    tunnel.go(100)
    assert judgements == []
    assert tunnel.state is state


def test_a_peer_that_was_just_heard_is_not_judged_as_long_as_its_interface_is_well(judgements):
    tunnel = lively()
    del judgements[:]
    tunnel.go(100, tunnel.talk)
    assert judgements == []
    tunnel.link = tunnel.link._replace(up=False)
    tunnel.go(20, tunnel.talk)
    assert len(judgements) == 1
    assert tunnel.go(10, tunnel.talk).reason is Reason.INTERFACE_DOWN


def test_a_peer_that_falls_silent_is_judged_at_the_end_of_its_time(judgements):
    tunnel = lively(keepalive=10)
    tunnel.go(50, tunnel.talk)
    heard = tunnel.now
    del judgements[:]
    tunnel.go(205)
    assert tunnel.state is State.UP
    assert len(judgements) == 1, "at the deadline it had before it was heard again"
    del judgements[:]
    tunnel.go(5)
    assert judgements == [heard + 210]
    tunnel.go(5)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.STALE_HANDSHAKE)


@pytest.mark.parametrize("keepalive", [0, 25])
def test_after_the_last_of_six_attempts_nothing_has_to_move_for_a_peer_to_go_down(keepalive):
    tunnel = lively(keepalive=keepalive)
    start = tunnel.now
    for _ in range(3):
        tunnel.tx(2 * INITIATION)
        tunnel.go(5)
    tunnel.go(10)
    assert tunnel.state is State.UP
    tunnel.go(5)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.HANDSHAKE_UNANSWERED)
    assert tunnel.judged.changed_at == WALL + start + 30


def test_a_peer_of_which_nothing_was_heard_is_down_at_the_end_of_down_after_however_long_that_is(judgements):
    tunnel = Tunnel(age=10, keepalive=0, limits=HealthLimits(down_after=60.0)).go(300)
    tunnel.link = tunnel.link._replace(ifindex=9)
    tunnel.row = tunnel.row._replace(last_handshake_ns=0, rx_bytes=0, tx_bytes=0)
    tunnel.go(5)
    anew = tunnel.now
    tunnel.go(35)
    del judgements[:]
    tunnel.go(20)
    assert judgements == []
    assert tunnel.state is State.IDLE
    tunnel.go(5)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.NEVER_HEARD)
    assert tunnel.judged.changed_at == WALL + anew + 60


@pytest.mark.parametrize("age", [None, 9999])
def test_a_peer_that_begins_to_be_expected_is_down_25_seconds_later_and_nothing_has_to_move(age):
    tunnel = Tunnel(expected=False, age=age).go(300)
    tunnel.meta = tunnel.meta._replace(expected_up=True)
    tunnel.go(5)
    begun = tunnel.now
    tunnel.go(20)
    assert tunnel.judged.changes == 0
    tunnel.go(5)
    assert (tunnel.state, tunnel.judged.changed_at) == (State.DOWN, WALL + begun + 25)


def test_a_peer_that_is_no_longer_expected_is_not_down_from_the_next_look_on():
    tunnel = lively()
    tunnel.go(60, tunnel.call_in_vain)
    assert tunnel.state is State.DOWN
    tunnel.meta = tunnel.meta._replace(expected_up=False)
    assert tunnel.go(5).state is State.UP, "it was heard less than 225 s ago"


def test_another_keepalive_is_another_time_to_wait():
    tunnel = lively(keepalive=0).go(300)
    assert tunnel.state is State.IDLE
    tunnel.row = tunnel.row._replace(persistent_keepalive=25)
    tunnel.go(5)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.STALE_HANDSHAKE)


# --- what is told of a peer ------------------------------------------------------------------------------------------


def test_time_down_counts_from_the_look_that_found_it_to_the_look_that_found_it_well():
    tunnel = lively()
    tunnel.go(60, tunnel.call_in_vain)
    since = tunnel.judged.changed_at - WALL
    assert tunnel.judged.down_seconds == tunnel.now - since
    tunnel.go(100)
    assert tunnel.judged.down_seconds == tunnel.now - since
    tunnel.shake()
    tunnel.go(5)
    assert tunnel.judged.down_seconds == tunnel.now - since
    assert (tunnel.judged.changed_at, tunnel.judged.changes) == (WALL + tunnel.now, 2)
    assert tunnel.go(50, tunnel.talk).judged.down_seconds == tunnel.now - 50 - since


def test_another_reason_is_told_with_its_evidence_and_is_no_change_of_state():
    tunnel = lively()
    tunnel.go(60, tunnel.call_in_vain)
    before = tunnel.judged
    tunnel.present, tunnel.link = False, None
    tunnel.go(40)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.INTERFACE_GONE)
    assert tunnel.judged.evidence.startswith("interface gone for 25 s, last heard ")
    assert (tunnel.judged.changes, tunnel.judged.changed_at) == (before.changes, before.changed_at)


def test_a_peer_that_is_well_has_no_reason_and_no_evidence():
    tunnel = lively()
    tunnel.go(60, tunnel.call_in_vain)
    assert tunnel.judged.evidence.startswith("last heard ")
    tunnel.shake()
    tunnel.go(5)
    assert (tunnel.reason, tunnel.judged.evidence) == (None, "")
