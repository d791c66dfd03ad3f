"""The silent-peer oracle against WireGuard's timers: what the byte counters can tell, and when they must not be asked.

`Tunnel` plays both ends by the rules of drivers/net/wireguard/timers.c: data is acknowledged by a keepalive after 10 s
of nothing to send, a sender that has heard nothing for 15 s starts a handshake, a persistent keepalive leaves when
nothing was sent or received for its interval, and any receive cancels the 15 s.
"""

from __future__ import annotations

import random

import pytest

from tests.pathsim import Path
from wg_exporter.probed import Verdict
from wg_exporter.prober.mtu.machine import PathMtu
from wg_exporter.prober.mtu.oracle import Oracle, SilentPeer
from wg_exporter.prober.mtu.probes import ProbeKind, Refused


class Tunnel:
    """A peer that answers no probe, and our end's counters. `keepalive` is the far side's persistent one."""

    def __init__(self, *, hole, keepalive=0, alive=True, traffic=0.0, loss=0.0, seed=1):
        self.hole, self.keepalive, self.alive, self.traffic, self.loss = hole, keepalive, alive, traffic, loss
        self.dice = random.Random(seed)
        self.rx = self.tx = 5000
        self.now = 0.0
        self.reply_at = None  # the far side's passive keepalive
        self.shake_at = None  # our new handshake
        self.persistent_at = keepalive * self.dice.random() if keepalive else None

    def data(self, size, *, big):
        self.tx += 32 + size
        self.shake_at = self.shake_at or self.now + 15.0 + self.dice.uniform(0, 0.3)
        if self.alive and not (big and self.hole) and self.dice.random() >= self.loss:
            self.reply_at = self.reply_at or self.now + 10.0 + self.dice.uniform(0, 0.2)
            self._far_timer()

    def step(self, seconds):
        self.now += seconds
        if self.reply_at and self.now >= self.reply_at:
            self._receive(32)
            self.reply_at = None
        if self.alive and self.persistent_at is not None and self.now >= self.persistent_at:
            self._receive(32)
        if self.shake_at and self.now >= self.shake_at:
            self.tx += 148
            self.shake_at = self.now + 5.2
            if self.alive:
                self._receive(92)
                self.tx += 32
        if self.traffic and self.dice.random() < self.traffic * seconds:
            self._receive(self.dice.choice([64, 128, 1452]))

    def _receive(self, size):
        if self.dice.random() < self.loss:
            return
        self.rx += size
        self.shake_at = None
        self._far_timer()

    def _far_timer(self):
        if self.keepalive:
            self.persistent_at = self.now + self.keepalive


def ask(tunnel, *, step=0.25, limit=400.0):
    oracle = SilentPeer(1420, tunnel.now)
    # The last small probes, still unanswered when the oracle begins.
    tunnel.data(112, big=False)
    sent = []
    while not oracle.done and tunnel.now < limit:
        for want in oracle.poll(tunnel.now):
            assert (want.kind, want.size) == (ProbeKind.INNER_UDP, 1420)
            sent.append(tunnel.now)
            tunnel.data(1424, big=True)
        oracle.counters(tunnel.rx, tunnel.tx, tunnel.now)
        tunnel.step(step)
    return oracle, sent


@pytest.mark.parametrize("keepalive", [0, 25, 30, 60])
@pytest.mark.parametrize("seed", range(8))
def test_a_hole_and_a_clean_tunnel_are_told_apart_or_nothing_is_said(seed, keepalive):
    for hole, truth in ((True, Oracle.LOST), (False, Oracle.ARRIVES)):
        oracle, sent = ask(Tunnel(hole=hole, keepalive=keepalive, seed=seed))
        if keepalive in (0, 25):
            assert oracle.result is truth
            assert len(sent) >= 3
        else:
            assert oracle.result in (truth, Oracle.INCONCLUSIVE)
        assert oracle.done


@pytest.mark.parametrize("keepalive", range(5, 130))
def test_no_rhythm_of_keepalives_makes_a_hole_look_passed(keepalive):
    """The trap: a keepalive 10 s after a lost datagram looks like its acknowledgement, and cancels the handshake."""
    for seed in range(4):
        oracle, _sent = ask(Tunnel(hole=True, keepalive=keepalive, seed=seed))
        assert oracle.result is not Oracle.ARRIVES


def test_keepalives_on_the_phase_of_the_answer_are_a_reason_to_say_nothing():
    oracle, sent = ask(Tunnel(hole=True, keepalive=10))
    assert (oracle.result, sent) == (Oracle.INCONCLUSIVE, [])
    assert "keepalive" in oracle.reason


@pytest.mark.parametrize("hole", [True, False])
def test_other_traffic_is_a_reason_to_say_nothing(hole):
    for seed in range(20):
        oracle, _sent = ask(Tunnel(hole=hole, traffic=0.1, seed=seed))
        assert oracle.result is Oracle.INCONCLUSIVE
        assert oracle.reason


def test_a_peer_that_is_gone_is_neither():
    oracle, sent = ask(Tunnel(hole=False, alive=False))
    assert oracle.result is Oracle.INCONCLUSIVE
    assert len(sent) == 1


@pytest.mark.parametrize("seed", range(30))
def test_a_clean_tunnel_that_loses_packets_is_never_called_a_hole(seed):
    oracle, _sent = ask(Tunnel(hole=False, loss=0.1, seed=seed))
    assert oracle.result is not Oracle.LOST


def test_counters_read_too_rarely_prove_nothing():
    for hole in (True, False):
        assert ask(Tunnel(hole=hole), step=3.0)[0].result is Oracle.INCONCLUSIVE


def test_counters_that_jump_back_end_it():
    oracle = SilentPeer(1420, 0.0)
    oracle.counters(100, 100, 0.0)
    oracle.counters(50, 120, 1.0)
    assert (oracle.done, oracle.result, oracle.reason) == (True, Oracle.INCONCLUSIVE, "the counters were reset")
    assert oracle.poll(60.0) == []


def test_a_refusal_ends_it_at_once():
    oracle = SilentPeer(1420, 0.0)
    now, wants = 0.0, []
    while not wants:
        now = oracle.next_time()
        oracle.counters(1, 1, now)
        wants = oracle.poll(now)
    oracle.handle(wants[0], Refused(1), now + 0.1)
    assert (oracle.done, oracle.result) == (True, Oracle.ARRIVES)


@pytest.mark.parametrize(("hole", "verdict"), [(True, Verdict.BLACKHOLE), (False, Verdict.FILTERED)])
def test_while_the_oracle_listens_nothing_else_is_sent_to_the_peer(hole, verdict):
    tunnel = Tunnel(hole=hole)
    machine = PathMtu(Path().tunnel(), 0.0)
    asked = None
    while tunnel.now < 400:
        if tunnel.now == 40.0:
            machine.ask_silent(tunnel.now)
            asked = tunnel.now
        for send in machine.poll(tunnel.now):
            if send.kind in (ProbeKind.INNER_ECHO, ProbeKind.INNER_UDP):
                assert not machine.pause_echoes or send == send._replace(kind=ProbeKind.INNER_UDP, size=1420)
                tunnel.data(send.size, big=send.size > 1300)
        if not machine.pause_echoes and tunnel.now % 5 == 0:
            tunnel.data(112, big=False)  # the small echo that goes on beside all this
        machine.counters(tunnel.rx, tunnel.tx, tunnel.now)
        tunnel.step(0.25)
        if asked and not machine.pause_echoes:
            break
    assert machine.report(tunnel.now).verdict is verdict
    assert machine.report(tunnel.now).recommended is None or not hole


def trial_begun():
    """An oracle that has just sent its first datagram, on a quiet tunnel; and when that was."""
    oracle = SilentPeer(1420, 0.0)
    wants, now = [], 0.0
    while not wants:
        now = oracle.next_time()
        oracle.counters(1000, 1000, now)
        wants = oracle.poll(now)
    return oracle, now


@pytest.mark.parametrize("after", [3.0, 9.0, 12.5])
def test_a_keepalive_at_any_other_time_is_no_acknowledgement(after):
    oracle, now = trial_begun()
    rx = 1000
    for _ in range(3):
        rx += 32
        oracle.counters(rx - 32, 1000, now + after - 0.1)
        oracle.counters(rx, 1000, now + after)
        while not oracle.done and not oracle.poll(now):
            now = max(now + 0.1, oracle.next_time())
            oracle.counters(rx, 1000, now)
    assert oracle.result is Oracle.INCONCLUSIVE


def test_traffic_while_it_watches_ends_it():
    oracle = SilentPeer(1420, 0.0)
    for now, rx in ((0.0, 1000), (13.0, 1000), (14.0, 1128)):
        oracle.poll(now)
        oracle.counters(rx, 1000, now)
    assert (oracle.done, oracle.reason) == (True, "the tunnel carries other traffic")
