"""Peers whose tunnel works while routes or allowed IPs keep users' packets from it: how they are judged."""

from __future__ import annotations

import pytest

from tests.judging import WG0, Host
from tests.rows import key
from tests.tunnels import Echoes, lively
from wg_exporter.health.states import UNKNOWN, Obstacle, Reason, State
from wg_exporter.probed import SendError, Verdict

AWAY = Obstacle(Reason.NOT_ROUTED, "this host has no route to 10.0.0.1")
TAKEN = Obstacle(Reason.NOT_ALLOWED, "target 10.0.0.1 is in no peer's allowed IPs")

both = pytest.mark.parametrize("obstacle", [AWAY, TAKEN], ids=lambda obstacle: obstacle.reason)


def heard():
    """A tunnel that is heard and not probed."""
    tunnel = lively()
    tunnel.go(60, tunnel.talk)
    return tunnel


def probed():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(60, echoes)
    return tunnel, echoes


@both
def test_what_is_in_the_way_for_15_seconds_makes_degraded_and_is_named(obstacle):
    tunnel, echoes = probed()
    tunnel.obstacle = obstacle
    tunnel.go(15, echoes)
    assert tunnel.state is State.UP
    tunnel.go(5, echoes)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, obstacle.reason)
    assert tunnel.judged.evidence.startswith(obstacle.line)


@both
def test_it_is_up_again_at_once_when_nothing_is_in_the_way(obstacle):
    tunnel, echoes = probed()
    tunnel.obstacle = obstacle
    tunnel.go(300, echoes)
    tunnel.obstacle = None
    tunnel.go(10, echoes)
    assert (tunnel.state, tunnel.reason) == (State.UP, None)
    assert [change.after for change in tunnel.changes[-2:]] == [State.DEGRADED, State.UP]


@both
def test_what_is_in_the_way_for_a_moment_is_not_said(obstacle):
    """So it is while an interface is set up, and while a daemon of routing starts anew."""
    tunnel, echoes = probed()
    for _ in range(20):
        tunnel.obstacle = obstacle
        tunnel.go(10, echoes)
        tunnel.obstacle = None
        tunnel.go(10, echoes)
    assert State.DEGRADED not in {change.after for change in tunnel.changes}


@both
def test_a_peer_that_is_not_probed_is_judged_for_it_too(obstacle):
    tunnel = heard()
    tunnel.obstacle = obstacle
    tunnel.go(20, tunnel.talk)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, obstacle.reason)


@both
def test_while_nobody_knows_it_stays_as_it_was(obstacle):
    """The configuration was read again, or the kernel gives no answer."""
    tunnel, echoes = probed()
    tunnel.obstacle = UNKNOWN
    tunnel.go(300, echoes)
    assert tunnel.state is State.UP
    tunnel.obstacle = obstacle
    tunnel.go(60, echoes)
    tunnel.obstacle = UNKNOWN
    tunnel.go(300, echoes)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, obstacle.reason)


def test_another_line_of_the_same_reason_is_no_change_and_another_reason_is_one_after_15_seconds():
    tunnel, echoes = probed()
    tunnel.obstacle = AWAY
    tunnel.go(60, echoes)
    before = len(tunnel.changes)
    tunnel.obstacle = Obstacle(Reason.NOT_ROUTED, "another way")
    tunnel.go(60, echoes)
    assert len(tunnel.changes) == before
    tunnel.obstacle = TAKEN
    tunnel.go(20, echoes)
    assert tunnel.reason is Reason.NOT_ALLOWED


def test_it_goes_before_what_probes_find_and_after_what_makes_down():
    tunnel, echoes = probed()
    tunnel.obstacle = AWAY
    tunnel.go(20, echoes)
    for change in ({"refused": SendError.NO_ROUTE}, {"silent_since": tunnel.now - 5}):
        tunnel.probed = tunnel.probed._replace(stats=tunnel.probed.stats._replace(**change))
        tunnel.go(5, tunnel.talk)
        assert tunnel.reason is Reason.NOT_ROUTED
    tunnel.link = tunnel.link._replace(up=False)
    tunnel.go(30)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.INTERFACE_DOWN)
    assert AWAY.line not in tunnel.judged.evidence


def test_a_verdict_on_the_mtu_does_not_hide_it():
    tunnel, echoes = probed()
    echoes.verdict = Verdict.BLACKHOLE
    tunnel.go(20, echoes)
    assert tunnel.reason is Reason.MTU_BLACKHOLE
    tunnel.obstacle = AWAY
    tunnel.go(20, echoes)
    assert tunnel.reason is Reason.NOT_ROUTED


def test_what_probes_lost_meanwhile_is_no_loss_of_the_tunnel_afterwards():
    tunnel, echoes = probed()
    tunnel.obstacle = AWAY
    tunnel.go(20, echoes)
    echoes.lose = lambda second: second % 10 < 5
    tunnel.go(300, echoes)
    echoes.lose = lambda _: False
    tunnel.obstacle = None
    tunnel.go(300, echoes)
    assert Reason.LOSSY not in {change.reason for change in tunnel.changes}


def test_a_peer_that_was_away_from_the_device_takes_in_what_stands_in_its_way():
    """The obstacles are the same object all the time."""
    host = Host(wg0=[1, 2])
    obstacles = {WG0: {key(2): TAKEN}}
    look = host.health.look
    host.health.look = lambda *about: look(*about, obstacles)
    host.look(times=6)
    assert [row.reason for row in host.health.of(host.shown(WG0))] == [None, Reason.NOT_ALLOWED]
    host.devices[WG0] = [1]
    host.look()
    host.devices[WG0] = [1, 2]
    host.look(times=6)
    assert [row.reason for row in host.health.of(host.shown(WG0))] == [None, Reason.NOT_ALLOWED]
