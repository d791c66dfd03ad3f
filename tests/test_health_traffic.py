"""What bytes were: handshakes, keepalives and data told apart by their sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import SECOND, WALL, device, link, peer, snapshot
from tests.tunnels import INITIATION, KEEPALIVE, LIMITS, LINKS_READ, RESPONSE, Judge
from wg_exporter.health import traffic
from wg_exporter.health.states import Reason, State
from wg_exporter.model import Backend
from wg_exporter.names.identity import PeerMeta


@given(st.integers(0, 1), st.integers(0, 1), st.lists(st.integers(0, 88), max_size=4))
def test_what_was_sent_is_told_apart_by_size(initiations, keepalives, packets):
    grown = initiations * INITIATION + keepalives * KEEPALIVE + sum(32 + 16 * size for size in packets if size)
    found = traffic.sent(grown, 5.0, 25)
    assert found.initiations == initiations
    if found.data:
        assert any(packets)
    if any(size > 4 for size in packets):
        assert found.data, "more than keepalives could be"


@given(st.integers(-(2**63), 2**63), st.floats(0, 1e6), st.integers(0, 65535), st.booleans())
def test_no_growth_of_a_counter_is_too_strange_to_be_told(grown, seconds, keepalive, handshake):
    came = traffic.received(grown, seconds, handshake=handshake)
    assert (came.initiations + came.responses + came.data > 0) is (grown > 0)
    found = traffic.sent(grown, seconds, keepalive, came)
    assert found.initiations >= 0
    assert (found.initiations or found.data) <= max(grown, 0)


@pytest.mark.parametrize(
    ("grown", "seconds", "initiations", "data"),
    [
        pytest.param(0, 5, 0, False, id="nothing"),
        pytest.param(148, 5, 1, False, id="an-initiation"),
        pytest.param(296, 5, 2, False, id="initiations-5-s-apart"),
        pytest.param(296, 4.9, 0, True, id="not-two-in-less"),
        pytest.param(444, 10, 3, False, id="three-in-10-s"),
        pytest.param(444, 9.9, 0, True, id="not-three-in-less"),
        pytest.param(150, 5, 0, True, id="wireguard-sends-multiples-of-four"),
        pytest.param(36, 5, 0, True, id="less-than-the-initiation-that-its-remainder-says"),
        pytest.param(1, 5, 0, True, id="the-least"),
        pytest.param(32 + 1420, 5, 0, True, id="a-full-packet-of-an-odd-mtu"),
        pytest.param(148 + 128, 5, 1, True, id="an-initiation-and-data"),
        pytest.param(148 + 32, 5, 1, False, id="an-initiation-and-a-keepalive"),
    ],
)
def test_bytes_to_a_peer_are_initiations_if_size_and_time_allow_them_and_else_data(grown, seconds, initiations, data):
    assert traffic.sent(grown, seconds, 25) == traffic.Sent(initiations, data)


@pytest.mark.parametrize(
    ("grown", "seconds", "keepalive", "more", "data"),
    [
        pytest.param(32, 60, 0, 0, False, id="no-data-is-as-short-as-a-keepalive"),
        pytest.param(64, 60, 0, 0, True, id="two-and-no-reason-for-any"),
        pytest.param(64, 60, 0, 2, False, id="one-that-confirms-a-session-and-a-passive-one"),
        pytest.param(96, 60, 0, 2, True, id="not-three-without-persistent-keepalive"),
        pytest.param(64, 5, 25, 0, True, id="one-persistent-one-in-5-s"),
        pytest.param(64, 5, 25, 1, False, id="and-another"),
        pytest.param(96, 5, 25, 2, False, id="and-two"),
        pytest.param(96, 5, 25, 0, True, id="a-bare-tcp-acknowledgement"),
        pytest.param(64, 25.1, 25, 0, False, id="two-in-more-than-25-s"),
        pytest.param(64, 25, 25, 0, True, id="not-in-25-s"),
        pytest.param(48, 60, 25, 2, True, id="the-smallest-data-however-many-keepalives-there-could-be"),
        pytest.param(INITIATION + KEEPALIVE + KEEPALIVE, 5, 25, 1, False, id="a-rekey-of-an-idle-tunnel-in-one-look"),
        pytest.param(80, 5, 25, 2, True, id="an-echo"),
    ],
)
def test_no_more_bytes_are_keepalives_than_there_was_reason_for(grown, seconds, keepalive, more, data):
    assert traffic.sent(grown, seconds, keepalive, more=more).data is data


@pytest.mark.parametrize(
    ("grown", "inbound", "data"),
    [
        pytest.param(184, 2, False, id="a-response-each"),
        pytest.param(184, 1, True, id="and-something-else"),
        pytest.param(92 + 32, 1, False, id="and-a-keepalive"),
        pytest.param(144, 2, True, id="data-when-there-is-room-for-one-response-only"),
        pytest.param(-100, 1, False, id="a-counter-that-went-back"),
    ],
)
def test_responses_to_a_peer_that_calls_ask_for_no_answer(grown, inbound, data):
    assert traffic.sent(grown, 5.0, 25, traffic.Received(inbound, 0, data=False)) == traffic.Sent(0, data)


@pytest.mark.parametrize(
    ("grown", "seconds", "handshake", "found"),
    [
        pytest.param(0, 5, False, (0, 0, False), id="nothing"),
        pytest.param(-INITIATION, 5, False, (0, 0, False), id="a-counter-that-went-back"),
        pytest.param(INITIATION, 5, False, (1, 0, False), id="an-initiation"),
        pytest.param(INITIATION, 0, False, (1, 0, False), id="at-once"),
        pytest.param(2 * INITIATION, 5, False, (2, 0, False), id="two-of-them-5-s-apart"),
        pytest.param(2 * INITIATION, 4.9, False, (0, 0, True), id="not-two-in-less"),
        pytest.param(RESPONSE, 5, True, (0, 1, False), id="a-response"),
        pytest.param(RESPONSE, 5, False, (0, 0, True), id="no-response-without-a-handshake"),
        pytest.param(INITIATION + RESPONSE, 5, True, (1, 1, False), id="both"),
        pytest.param(INITIATION + RESPONSE, 5, False, (0, 0, True), id="data-as-long-as-both"),
        pytest.param(2 * (INITIATION + RESPONSE), 5, True, (2, 2, False), id="both-twice"),
        pytest.param(KEEPALIVE, 5, False, (0, 0, True), id="a-keepalive"),
        pytest.param(RESPONSE + KEEPALIVE, 5, True, (0, 1, True), id="a-response-and-a-keepalive"),
        pytest.param(INITIATION + KEEPALIVE, 5, False, (1, 0, True), id="an-initiation-and-what-confirms-the-session"),
        pytest.param(INITIATION + 5 * 96, 5, False, (1, 0, True), id="an-initiation-and-data"),
        pytest.param(6 * 96, 5, False, (0, 0, True), id="data"),
        pytest.param(INITIATION + 1280, 5, False, (0, 0, True), id="full-packets-may-leave-any-remainder"),
        pytest.param(1, 5, False, (0, 0, True), id="the-least"),
        pytest.param(12 * INITIATION, 3600, False, (12, 0, False), id="as-many-as-are-told-apart"),
        pytest.param(13 * INITIATION, 3600, False, (0, 0, True), id="more-than-are-told-apart"),
    ],
)
def test_what_came_is_told_apart_by_size_and_is_data_only_if_handshakes_can_not_explain_it(
    grown, seconds, handshake, found
):
    assert traffic.received(grown, seconds, handshake=handshake) == found


def test_sizes_of_amneziawg_are_not_taken_for_those_of_wireguard():
    """It pads messages: an idle tunnel's keepalives look like data, and so would be unanswered for ever."""
    health, now = Judge(), 0.0
    row = peer(1, persistent_keepalive=15, last_handshake_ns=int((WALL - 10) * SECOND))

    def look(**changes):
        nonlocal now, row
        now, row = now + 5, row._replace(**changes)
        shown = device(row, backend=Backend.AMNEZIAWG)
        metas = (PeerMeta("berlin", True, True),)
        health.look(
            snapshot(shown, at=now, links=(link(),), outcomes=(LINKS_READ,)), lambda _: metas, {}, set(), LIMITS
        )
        return health.of(shown)[0]

    look(rx_bytes=row.rx_bytes + 44)
    for _ in range(36):
        found = look(tx_bytes=row.tx_bytes + 44)
    assert (found.state, found.changes) == (State.UP, 0)
    for _ in range(10):
        found = look(tx_bytes=row.tx_bytes + 212)
    assert (found.state, found.reason) == (State.DOWN, Reason.STALE_HANDSHAKE), "age still tells"
