"""How peers are judged where things happen in an unlucky order: between two looks, or while something can't be read."""

from __future__ import annotations

from tests.rows import STATS
from tests.tunnels import Tunnel, lively
from wg_exporter.health.states import Reason, State
from wg_exporter.model import Backend, FailedDevice, Probed

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
