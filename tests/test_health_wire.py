"""What the watcher saw on the wire decides what counters can't: on kernel devices, and under bulk data."""

from __future__ import annotations

from math import inf

import pytest

from tests.tunnels import INITIATION, KEEPALIVE, RESPONSE, Echoes, Tunnel, lively
from wg_exporter.health.evidence import Evidence
from wg_exporter.health.states import Reason, State
from wg_exporter.sighted import LAST, Sighting

BULK = 1_000_000


class Watched:
    """A tunnel whose peer is watched for 30 s when it comes under suspicion, and when its state changes, as
    `daemon.watching` has it done.

    The wire tells of each second what `left` and was `taken`, the others what the counters tell.
    """

    def __init__(self, *, seconds=30.0, missed=False, probes=True, out=(-inf, inf)):
        self.tunnel = lively()
        self.echoes = Echoes(self.tunnel) if probes else None
        self.tunnel.go(20, self.echoes or (lambda _second: None))
        self.broken = self.tunnel.now
        self.seconds, self.missed, self.out = seconds, missed, out
        self.began, self.until = None, -1.0
        self.sent, self.taken, self.received = [], [], []
        self.named = []

    def breaks(self, each, seconds=60, *, answered=False):
        """Echoes are lost from now on, unless `answered`, and `each` happens in every second since the fault."""
        if self.echoes:
            self.echoes.lose = lambda _number: not answered

        def second(now):
            if self.echoes:
                self.echoes(now)
            each(now - self.broken)
            self.watch(now)

        for _ in range(seconds):
            self.tunnel.go(1, second)
            if not self.named or self.named[-1][1:] != (self.tunnel.state, self.tunnel.reason):
                self.named.append((self.tunnel.now - self.broken, self.tunnel.state, self.tunnel.reason))
                self.until = max(self.until, self.tunnel.now + self.seconds if self.began is not None else -1.0)
        return self

    def open(self, now):
        self.began, self.until = now, now + self.seconds
        self.sent, self.taken, self.received = [], [], []

    def watch(self, now):
        if self.began is None and self.tunnel.health.suspicious:
            self.open(now)
        if self.began is not None and now <= self.until:
            self.tunnel.sighting = Sighting(
                self.began,
                now - self.began,
                initiations_sent=len(self.sent),
                responses_sent=len(self.taken),
                initiations_received=len(self.received),
                sent_at=tuple(self.sent[-LAST:]),
                taken_at=tuple(self.taken[-LAST:]),
                received_at=tuple(self.received[-LAST:]),
                missed=self.missed,
                out_from=self.broken + self.out[0],
                out_to=self.broken + self.out[1],
            )

    # What WireGuard does. Of what leaves, the counters tell; of what is on the wire, the watcher.

    def begins(self, since, *, leaves):
        """A handshake is begun 15 s after data that is not answered, and every 5 s."""
        if since >= 15 and since % 5 == 0:
            self.tunnel.tx(INITIATION)
            if leaves:
                self.sent.append(self.tunnel.now)

    def is_called(self, since, *, answers, count=True):
        """The peer hears nothing, and calls 15 s after that, and every 5 s."""
        if since >= 15 and since % 5 == 0:
            self.received.append(self.tunnel.now)
            if count:
                self.tunnel.rx(INITIATION)
                self.tunnel.tx(RESPONSE)
            if answers:
                self.taken.append(self.tunnel.now)

    def first(self, state, reason=None):
        """How many seconds after the fault this was named."""
        return next(at for at, *found in self.named if found == [state, reason])

    def reasons(self):
        return {reason for _, state, reason in self.named if state is State.DOWN}


def test_what_wireguard_counts_and_nobody_sees_leaving_is_not_sent_on_a_kernel_device():
    """Its own output filter: the kernel counts what that drops."""
    watched = Watched()
    watched.breaks(lambda since: watched.begins(since, leaves=False))
    assert watched.first(State.DOWN, Reason.NOT_SENT) <= 30
    assert watched.reasons() == {Reason.NOT_SENT}
    assert watched.tunnel.judged.evidence.endswith("nothing was seen leaving this host")


def test_so_it_is_under_bulk_data_which_hides_the_handshakes_in_the_counters():
    watched = Watched()

    def bulk(since):
        watched.begins(since, leaves=False)
        watched.tunnel.tx(BULK)

    watched.breaks(bulk)
    assert watched.first(State.DOWN, Reason.NOT_SENT) <= 34
    assert watched.tunnel.reason is Reason.NOT_SENT


@pytest.mark.parametrize("bulk", [0, BULK])
def test_what_was_seen_leaving_is_unanswered_and_not_unsent(bulk):
    watched = Watched()

    def send(since):
        watched.begins(since, leaves=True)
        watched.tunnel.tx(bulk)

    watched.breaks(send)
    assert Reason.NOT_SENT not in watched.reasons()
    assert watched.tunnel.state is State.DOWN
    assert "initiations seen leaving this host" in watched.tunnel.judged.evidence


@pytest.mark.parametrize("bulk", [0, BULK])
def test_nothing_is_concluded_where_the_kernel_dropped_messages_meanwhile(bulk):
    watched = Watched(missed=True)

    def send(since):
        watched.begins(since, leaves=False)
        watched.tunnel.tx(bulk)

    watched.breaks(send)
    assert Reason.NOT_SENT not in watched.reasons()


@pytest.mark.parametrize("bulk", [0, BULK])
@pytest.mark.parametrize(("out", "proves"), [((-inf, 19), False), ((26, inf), False), ((16, 31), True)])
def test_only_while_what_leaves_was_looked_at_it_proves_anything_that_nothing_was_seen(bulk, out, proves):
    """On a busy host it is looked at in turns."""
    watched = Watched(out=out)

    def send(since):
        if since <= 30:
            watched.begins(since, leaves=False)
        watched.tunnel.tx(bulk)

    watched.breaks(send, seconds=36)
    assert (Reason.NOT_SENT in watched.reasons()) is proves


def test_nothing_is_concluded_without_a_watcher():
    watched = Watched(seconds=-1.0)
    watched.breaks(lambda since: watched.begins(since, leaves=False))
    assert Reason.NOT_SENT not in watched.reasons()


def test_responses_that_do_not_leave_are_not_sent_though_the_peer_calls():
    watched = Watched()
    watched.breaks(lambda since: watched.is_called(since, answers=False), seconds=90)
    assert watched.tunnel.reason is Reason.NOT_SENT


def test_a_path_that_drops_data_alone_is_never_taken_for_one_on_which_nothing_leaves():
    """Handshakes pass every 15 s. A window between two of them sees nothing leave, and nothing has to."""
    for late in range(16):
        watched = Watched(seconds=20.0)

        def shake(since, watched=watched):
            if since >= 15 and since % 16 == 0:
                watched.tunnel.shake()
                watched.sent.append(watched.tunnel.now)
            watched.tunnel.tx(128)

        watched.breaks(shake, seconds=40 + late)
        watched.open(watched.tunnel.now)
        watched.breaks(shake, seconds=30)
        assert Reason.NOT_SENT not in watched.reasons(), late


def test_wireguard_gives_up_after_90_s_and_its_pause_is_not_taken_for_nothing_leaving():
    watched = Watched(seconds=20.0)

    def send(since):
        if since < 105 or since >= 125:
            watched.begins(since, leaves=True)
        watched.tunnel.tx(128)

    watched.breaks(send, seconds=105)
    watched.open(watched.tunnel.now)
    watched.breaks(send, seconds=30)
    assert Reason.NOT_SENT not in watched.reasons()


def test_a_call_of_before_the_window_may_have_put_ours_off():
    """Ours is due 15 s after the peer's last one, which nobody saw, and not when the window has been open for 11 s."""
    watched = Watched(seconds=-1.0)
    watched.breaks(lambda _since: watched.tunnel.tx(BULK), seconds=40)
    watched.open(watched.tunnel.now)
    watched.until = watched.tunnel.now + 25
    watched.breaks(lambda _since: watched.tunnel.tx(BULK), seconds=25)
    assert watched.tunnel.sighting.seconds > 20
    assert Reason.NOT_SENT not in watched.reasons()


def test_the_reason_stays_between_two_windows():
    watched = Watched()
    watched.breaks(lambda since: watched.begins(since, leaves=False), seconds=600)
    assert [reason for _, state, reason in watched.named if state is State.DOWN] == [Reason.NOT_SENT]


def test_once_something_leaves_again_the_reason_is_another():
    watched = Watched()
    watched.breaks(lambda since: watched.begins(since, leaves=False), seconds=60)
    watched.open(watched.tunnel.now)
    watched.breaks(lambda since: watched.begins(since, leaves=True), seconds=30)
    assert watched.tunnel.reason is Reason.HANDSHAKE_UNANSWERED


def test_what_was_seen_in_an_earlier_outage_is_no_evidence_of_a_later_one():
    watched = Watched()
    watched.breaks(lambda since: watched.begins(since, leaves=True), seconds=45)
    assert "seen leaving" in watched.tunnel.judged.evidence
    watched.tunnel.shake()
    watched.breaks(lambda _since: watched.tunnel.rx(KEEPALIVE), seconds=30, answered=True)
    assert watched.tunnel.state is State.UP
    watched.seconds = watched.until = -1.0
    watched.broken = watched.tunnel.now
    watched.breaks(lambda since: watched.begins(since, leaves=True), seconds=60)
    assert watched.tunnel.state is State.DOWN
    assert "seen leaving" not in watched.tunnel.judged.evidence


# --- it hears nothing -------------------------------------------------------------------------------------------------


def bulk_from(watched, **how):
    """The peer sends bulk data all the while, which hides its calls in the counters."""

    def each(since):
        watched.is_called(since, **how)
        watched.tunnel.rx(BULK)

    return each


def test_a_peer_that_hears_nothing_is_found_under_its_own_bulk_data():
    watched = Watched()
    watched.breaks(bulk_from(watched, answers=True, count=False))
    assert watched.first(State.DOWN, Reason.ONE_WAY) <= 30
    assert watched.tunnel.reason is Reason.ONE_WAY
    assert "seen leaving this host" in watched.tunnel.judged.evidence


def test_calls_that_wireguard_does_not_answer_may_be_a_strangers_and_decide_nothing():
    watched = Watched()
    watched.breaks(bulk_from(watched, answers=False, count=False))
    assert (watched.tunnel.state, watched.tunnel.reason) == (State.DEGRADED, Reason.TARGET_SILENT)
    assert watched.reasons() == set()


def test_handshakes_that_complete_are_no_sign_of_deafness_while_echoes_are_answered():
    watched = Watched()
    watched.open(watched.tunnel.now)

    def shake(since):
        watched.is_called(since, answers=True, count=False)
        if since % 5 == 0:
            watched.tunnel.shake()
        watched.tunnel.rx(BULK)

    watched.breaks(shake, answered=True)
    assert watched.tunnel.state is State.UP


def test_a_peer_that_hears_handshakes_and_no_data_is_found_under_bulk_data_too():
    """It makes a handshake every 16 s, for it hears nothing in between."""
    watched = Watched()

    def shake(since):
        if since in (15, 31, 47):
            watched.taken.append(watched.tunnel.now)
            watched.tunnel.shake()
        watched.tunnel.rx(BULK)

    watched.breaks(shake, seconds=50)
    assert watched.first(State.DOWN, Reason.ONE_WAY) <= 50


def test_it_stays_down_between_windows_until_one_sees_no_call():
    watched = Watched()
    still = bulk_from(watched, answers=True, count=False)
    watched.breaks(still, seconds=400)
    watched.open(watched.tunnel.now)
    watched.seconds = 20.0
    watched.breaks(still, seconds=30)
    assert watched.named[-1][:2] == (30.0, State.DOWN)
    watched.open(watched.tunnel.now)
    watched.breaks(lambda _since: watched.tunnel.rx(BULK), seconds=30)
    assert watched.tunnel.state is not State.DOWN


def test_it_is_up_as_soon_as_a_handshake_is_made_and_an_echo_answered():
    watched = Watched()
    watched.breaks(bulk_from(watched, answers=True, count=False), seconds=40)
    assert watched.tunnel.state is State.DOWN
    watched.tunnel.shake()
    watched.breaks(lambda _since: watched.tunnel.rx(BULK), seconds=15, answered=True)
    assert watched.tunnel.state is State.UP


def test_it_stays_up_when_what_was_seen_before_is_told_after_it_answered_on_its_old_session():
    """That session lasts for three minutes, and the peer calls again only up to 5 s after the mending."""
    watched = Watched(seconds=-1.0)  # nothing is told at first
    watched.breaks(
        lambda since: (watched.is_called(since, answers=True), watched.tunnel.rx(KEEPALIVE)),
        seconds=40,
    )
    assert watched.tunnel.state is State.DOWN
    begun, watched.until = len(watched.named), watched.tunnel.now + 20
    watched.breaks(lambda _since: watched.tunnel.rx(KEEPALIVE), seconds=15, answered=True)
    assert len(watched.tunnel.sighting.taken_at) >= 3
    assert [state for _, state, _ in watched.named[begun:]] == [State.UP]


def test_one_that_is_not_probed_is_found_too_once_it_is_watched():
    watched = Watched(probes=False)
    watched.open(watched.tunnel.now)
    watched.breaks(bulk_from(watched, answers=True, count=False), seconds=45)
    assert watched.tunnel.reason is Reason.ONE_WAY
    evidence = watched.tunnel.judged.evidence
    assert evidence.endswith("it starts handshakes again and again, 4 responses seen leaving this host")


def test_one_that_is_down_stays_so_when_it_calls_again_after_a_pause():
    """It gives up after 90 s, and begins again when there is more to send."""
    watched = Watched(probes=False, seconds=100.0)
    watched.open(watched.tunnel.now)

    def call(since):
        if not 40 < since < 65:
            watched.is_called(since, answers=True, count=False)
        watched.tunnel.rx(BULK)

    watched.breaks(call, seconds=90)
    states = [state for _, state, _ in watched.named]
    assert states[states.index(State.DOWN) :] == [State.DOWN]


def test_a_device_that_was_made_anew_is_not_judged_by_what_was_seen_of_the_old_one():
    watched = Watched()
    watched.breaks(lambda since: watched.begins(since, leaves=False), seconds=40)
    tunnel = watched.tunnel
    assert tunnel.reason is Reason.NOT_SENT
    tunnel.row = tunnel.row._replace(rx_bytes=0, tx_bytes=0)
    tunnel.link = tunnel.link._replace(ifindex=99)
    tunnel.go(5)
    (judged,) = tunnel.health._devices.values()
    seen = judged._seen[0]
    assert isinstance(seen, Evidence)
    assert (seen.wire.unsent_at, seen.wire.taken) == (None, ())


def test_keepalives_alone_ask_for_no_handshake():
    """Nothing has to leave for a peer to which only keepalives go."""
    watched = Watched(probes=False)
    watched.open(watched.tunnel.now)
    watched.breaks(lambda since: watched.tunnel.tx(KEEPALIVE if since % 25 == 0 else 0), seconds=120)
    (judged,) = watched.tunnel.health._devices.values()
    assert judged._seen[0].wire.unsent_at is None


# --- who is in doubt --------------------------------------------------------------------------------------------------


def doubtful(tunnel):
    return [(key, health.state) for _, key, health in tunnel.health.doubtful()]


def test_a_peer_that_is_well_or_of_which_nothing_is_known_yet_is_not_in_doubt():
    new = Tunnel()
    assert (doubtful(new), new.health.suspicious) == ([], True)
    assert doubtful(lively().go(30, lambda _second: None)) == []


def test_a_new_peer_is_in_doubt_as_soon_as_something_is_unanswered():
    tunnel = Tunnel()
    tunnel.go(8, tunnel.call_in_vain)
    assert doubtful(tunnel) == [(tunnel.row.public_key, None)]


def test_a_peer_is_in_doubt_from_the_first_suspicion_until_it_is_heard():
    tunnel = lively()
    tunnel.go(16, tunnel.call_in_vain)
    assert doubtful(tunnel) == [(tunnel.row.public_key, State.UP)]
    tunnel.go(30, tunnel.call_in_vain)
    assert doubtful(tunnel) == [(tunnel.row.public_key, State.DOWN)]
    tunnel.rx(KEEPALIVE)
    tunnel.go(10, lambda _second: None)
    assert doubtful(tunnel) == []


def test_a_peer_whose_target_alone_is_silent_is_in_doubt():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(20, echoes)
    echoes.lose = lambda _number: True

    def heard(second):
        echoes(second)
        tunnel.rx(KEEPALIVE)

    tunnel.go(40, heard)
    assert (tunnel.reason, doubtful(tunnel)) == (Reason.TARGET_SILENT, [(tunnel.row.public_key, State.DEGRADED)])
