"""How peers are judged when their interface is down, gone, made anew, renamed or not to be read."""

from __future__ import annotations

import pytest

from tests.rows import SECOND, WALL, device, link, peer, snapshot
from tests.tunnels import INITIATION, KEEPALIVE, LIMITS, LINKS_READ, LINKS_UNREAD, Echoes, Judge, Tunnel, lively
from wg_exporter.health.states import Reason, State
from wg_exporter.model import Backend, FailedDevice
from wg_exporter.names.identity import PeerMeta


def test_an_interface_that_is_down_takes_its_peers_down_after_25_seconds():
    tunnel = lively()
    tunnel.link = tunnel.link._replace(up=False)
    assert tunnel.go(25).state is State.UP
    tunnel.go(10)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.INTERFACE_DOWN)
    tunnel.link = tunnel.link._replace(up=True)
    tunnel.go(30)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.INTERFACE_DOWN), "up again, and not heard yet"
    tunnel.shake()
    tunnel.go(5)
    assert tunnel.state is State.UP


def test_the_peers_of_an_interface_that_is_gone_stay_and_are_down():
    tunnel = lively()
    tunnel.present, tunnel.link = False, None
    tunnel.go(20)
    assert tunnel.state is State.UP
    tunnel.go(15)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.INTERFACE_GONE)
    (gone,) = tunnel.health.gone()
    assert (gone.name, gone.public_key, gone.metas) == ("wg0", (tunnel.row.public_key,), (tunnel.meta,))
    tunnel.go(86_400 / 10)
    assert tunnel.state is State.DOWN
    assert tunnel.judged.changes == 1


def test_an_interface_that_comes_back_anew_is_down_until_its_peers_are_heard():
    tunnel = lively()
    tunnel.present, before, tunnel.link = False, tunnel.link, None
    tunnel.go(60)
    tunnel.present, tunnel.link = True, before._replace(ifindex=9)
    tunnel.row = tunnel.row._replace(rx_bytes=0, tx_bytes=0, last_handshake_ns=0)
    tunnel.go(10)
    assert tunnel.state is State.DOWN
    assert tunnel.health.gone() == ()
    tunnel.shake()
    tunnel.go(5)
    assert tunnel.state is State.UP


def test_an_interface_that_is_made_anew_between_two_looks_is_no_outage():
    tunnel = lively()
    tunnel.link = tunnel.link._replace(ifindex=9)
    tunnel.row = tunnel.row._replace(rx_bytes=0, tx_bytes=0, last_handshake_ns=0)
    tunnel.go(10)
    tunnel.shake()
    tunnel.go(60, tunnel.talk)
    assert tunnel.judged.changes == 0


def test_without_keepalive_and_probes_an_interface_that_is_up_again_is_no_fault_any_more():
    tunnel = lively(keepalive=0)
    tunnel.link = tunnel.link._replace(up=False)
    assert tunnel.go(40).state is State.DOWN
    tunnel.link = tunnel.link._replace(up=True)
    assert tunnel.go(5).state is State.UP, "it was heard not long ago, and nothing else can be known"


def test_an_interface_that_is_renamed_keeps_what_is_known_of_its_peers():
    health, now = Judge(), 0.0
    row = peer(1, last_handshake_ns=int((WALL - 10) * SECOND))
    metas = (PeerMeta("berlin", True, True),)

    def look(name):
        health.look(
            snapshot(device(row, name=name), at=now, links=(link(name),), outcomes=(LINKS_READ,)),
            lambda _: metas,
            {},
            {("", name)},
            LIMITS,
        )
        return health.of(device(row, name=name))[0]

    look("wg0")
    for _ in range(12):
        now += 5
        row = row._replace(tx_bytes=row.tx_bytes + INITIATION)
        before = look("wg0")
    assert before.state is State.DOWN
    now += 5
    after = look("wan0")
    assert (after.state, after.reason) == (State.DOWN, Reason.HANDSHAKE_UNANSWERED)
    assert health.gone() == ()


def test_nobody_waits_for_an_interface_without_expected_peers():
    tunnel = Tunnel(expected=False, age=10).go(40)
    tunnel.present, tunnel.link = False, None
    tunnel.go(5)
    assert tunnel.health.gone() == ()


def test_what_can_not_be_read_keeps_what_fires_and_says_nothing_else():
    tunnel = lively()
    tunnel.present, tunnel.failed = False, (FailedDevice("", "wg0", Backend.KERNEL, "no permission"),)
    tunnel.go(20)
    assert tunnel.state is State.UP
    tunnel.go(30)
    assert tunnel.state is None, "nobody knows"
    tunnel.present, tunnel.failed = True, ()
    tunnel.rx(KEEPALIVE)
    tunnel.go(5)
    assert tunnel.state is State.UP
    tunnel.go(60, tunnel.call_in_vain)
    assert tunnel.state is State.DOWN
    tunnel.present, tunnel.failed = False, (FailedDevice("", "wg0", Backend.KERNEL, "no permission"),)
    assert tunnel.go(600).state is State.DOWN


def test_where_links_can_not_be_read_nothing_is_gone():
    tunnel = lively()
    tunnel.present, tunnel.link, tunnel.outcomes = False, None, (LINKS_UNREAD,)
    tunnel.go(60)
    assert tunnel.state is None
    assert tunnel.health.gone() == ()


# --- a second fault right after the interface was made anew -----------------------------------------------------------


def made_anew(gone_for, *, probed):
    """A tunnel whose interface was gone for a while, and whose peer made a handshake as soon as it was there again."""
    tunnel = lively()
    before = tunnel.link
    if gone_for:
        tunnel.present, tunnel.link = False, None
        tunnel.go(gone_for)
    tunnel.present, tunnel.link = True, before._replace(ifindex=9)
    tunnel.row = tunnel.row._replace(rx_bytes=0, tx_bytes=0, last_handshake_ns=0)
    tunnel.now += 1
    tunnel.shake()
    tunnel.look()
    return tunnel, Echoes(tunnel) if probed else None


@pytest.mark.parametrize("gone_for", [0, 3, 8, 20, 27, 40, 60])
@pytest.mark.parametrize("sends", ["probes", "data", "nothing"])
@pytest.mark.parametrize("filtered", [True, False], ids=["handshakes-pass", "cut"])
@pytest.mark.parametrize("lived", [0, 1, 4, 9])
def test_a_peer_that_came_back_in_between_is_down_once_and_stays_down(gone_for, sends, filtered, lived):
    """Handshakes alone pass from the second fault on, or nothing does. Whoever is down then is never called `up`."""
    if sends == "nothing" and filtered:
        return  # of that nothing can be known
    tunnel, echoes = made_anew(gone_for, probed=sends == "probes")
    cut = tunnel.now + lived
    states = []

    def second_fault(second):
        if second > cut + tunnel.every:  # by then all that came before was seen
            states.append(tunnel.state)
        if echoes is not None:
            echoes.lose = (lambda _: True) if second > cut else (lambda _: False)
            echoes(second)
        elif sends == "data":
            tunnel.tx(1000)
            tunnel.rx(1000 if second <= cut else 0)
        if second > cut and filtered and (second - cut) % 15 == 0:
            tunnel.shake()
        elif second > cut + 15 and not filtered:
            tunnel.call_in_vain(second)

    tunnel.go(lived + 200, second_fault)
    assert tunnel.state is State.DOWN
    assert State.UP not in states[states.index(State.DOWN) :]
    bound = 75 if filtered and sends == "data" and lived else 35 if sends != "nothing" else 50
    assert states.index(State.DOWN) + tunnel.every <= bound + 10


def test_a_peer_that_came_back_and_is_heard_is_up_at_once():
    tunnel, echoes = made_anew(60, probed=True)
    assert tunnel.state is State.DOWN
    tunnel.go(10, echoes)
    assert tunnel.state is State.UP
