"""What bytes were: handshakes, keepalives and data told apart by their sizes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.rows import SECOND, WALL, device, link, peer, snapshot
from tests.tunnels import INITIATION, KEEPALIVE, LIMITS, LINKS_READ
from wg_exporter.health import Health, traffic
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
    if any(size > 2 for size in packets):
        assert found.data, "more than keepalives could be"


@given(st.integers(-(2**63), 2**63), st.floats(0, 1e6), st.integers(0, 65535))
def test_no_growth_of_a_counter_is_too_strange_to_be_told(grown, seconds, keepalive):
    found = traffic.sent(grown, seconds, keepalive, traffic.inbound_initiations(grown, seconds))
    assert found.initiations >= 0
    assert (found.initiations or found.data) <= max(grown, 0)


def test_a_full_packet_of_an_odd_mtu_is_data_and_not_three_handshakes():
    assert traffic.sent(32 + 1420, 5.0, 25) == traffic.Sent(0, data=True)
    assert traffic.inbound_initiations(INITIATION, 5.0) == 1
    assert traffic.inbound_initiations(INITIATION + KEEPALIVE, 5.0) == 0


def test_sizes_of_amneziawg_are_not_taken_for_those_of_wireguard():
    """It pads messages: an idle tunnel's keepalives look like data, and so would be unanswered for ever."""
    health, now = Health(), 0.0
    row = peer(1, persistent_keepalive=15, last_handshake_ns=int((WALL - 10) * SECOND))

    def look(**changes):
        nonlocal now, row
        now, row = now + 5, row._replace(**changes)
        shown = device(row, backend=Backend.AMNEZIAWG)
        metas = (PeerMeta("berlin", True, True),)
        health.update(
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
