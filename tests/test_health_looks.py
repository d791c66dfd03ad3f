"""The looks themselves: how often they come, what they keep, and what they cost while nothing happens."""

from __future__ import annotations

from tests.rows import SECOND, WALL, device, link, peer, snapshot
from tests.tunnels import LIMITS, LINKS_READ, lively
from wg_exporter.health import Health
from wg_exporter.health.states import State
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
    health, now = Health(), 0.0
    rows = {n: peer(n, last_handshake_ns=int((WALL - 10) * SECOND)) for n in range(4)}

    def look(*numbers):
        shown = device(*(rows[n] for n in numbers))
        metas = tuple(PeerMeta(str(n), True, True) for n in numbers)
        health.update(
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
