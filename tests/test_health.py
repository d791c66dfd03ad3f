"""How peers are judged: a tunnel is told what happens, second by second, and must be called what it is.

The counters move as those of the kernel do (sizes and timers of drivers/net/wireguard), the clock is a number.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import SECOND, STATS, WALL, device, link, peer, snapshot
from wg_exporter.config.health import HealthLimits
from wg_exporter.health import Health, traffic
from wg_exporter.health.rules import RULES
from wg_exporter.health.states import Reason, State
from wg_exporter.model import Backend, FailedDevice, MtuReport, Outcome, Probed, SourceName, Verdict
from wg_exporter.names.identity import PeerMeta

LIMITS = HealthLimits()
LINKS_READ = Outcome(SourceName.LINKS, "", True, 0.0)
LINKS_UNREAD = Outcome(SourceName.LINKS, "", False, 0.0, "busy")
KEEPALIVE, INITIATION, RESPONSE = 32, 148, 92


class Tunnel:
    """One peer on wg0, and what is seen of it every `every` seconds from time 0 on."""

    def __init__(self, *, expected=True, keepalive=25, age=None, rx=10_000, tx=10_000, limits=LIMITS, every=5):
        self.health, self.limits, self.every = Health(), limits, every
        self.now = 0.0
        self.meta = PeerMeta("berlin", True, expected)
        self.row = peer(1, persistent_keepalive=keepalive, rx_bytes=rx, tx_bytes=tx)
        self.row = self.row._replace(last_handshake_ns=0 if age is None else int((WALL - age) * SECOND))
        self.link = link()
        self.present, self.missed = True, True
        self.failed, self.outcomes = (), (LINKS_READ,)
        self.probed = None
        self.changes = []
        self.wall_offset = 0.0
        self.look()

    def look(self):
        shown = (device(self.row),) if self.present else ()
        found = snapshot(
            *shown,
            at=self.now,
            wall=WALL + self.now + self.wall_offset,
            links=(self.link,) if self.link else (),
            failed=self.failed,
            outcomes=self.outcomes,
        )
        probes = {("", "wg0"): {self.row.public_key: self.probed}} if self.probed else {}
        missed = {("", "wg0")} if self.missed else set()
        self.changes += self.health.update(found, lambda _: (self.meta,), probes, missed, self.limits)

    def rx(self, number=0):
        self.row = self.row._replace(rx_bytes=self.row.rx_bytes + number)

    def tx(self, number=0):
        self.row = self.row._replace(tx_bytes=self.row.tx_bytes + number)

    def shake(self):
        self.row = self.row._replace(last_handshake_ns=int((WALL + self.now) * SECOND))
        self.tx(INITIATION)
        self.rx(RESPONSE)

    def go(self, seconds, each=lambda second: None):
        """So many seconds pass; `each` happens in every one of them."""
        for _ in range(int(seconds)):
            self.now += 1
            each(self.now)
            if self.now % self.every == 0 or self.health.suspicious:
                self.look()
        return self

    @property
    def judged(self):
        gone = self.health.gone()
        return gone[0].rows[0] if gone else self.health.of(device(self.row))[0]

    @property
    def state(self):
        return self.judged.state

    @property
    def reason(self):
        return self.judged.reason

    # --- what can happen in a second ---

    def keepalives(self, second):
        if second % self.row.persistent_keepalive == 0:
            self.tx(KEEPALIVE)

    def talk(self, _second):
        self.tx(1000)
        self.rx(1000)

    def call_in_vain(self, second):
        """An initiation every 5.2 s, and no answer."""
        if int(second / 5.2) != int((second - 1) / 5.2):
            self.tx(INITIATION)

    def send_in_vain(self, _second):
        self.tx(128)


def lively(**changes):
    """A peer expected up that was heard since the exporter started."""
    tunnel = Tunnel(age=10, **changes).go(10, lambda _: None)
    tunnel.rx(KEEPALIVE)
    tunnel.go(5)
    assert tunnel.state is State.UP
    return tunnel


# --- who is well -----------------------------------------------------------------------------------------------------


def test_a_peer_that_is_heard_is_up_at_once():
    tunnel = Tunnel(age=10)
    assert tunnel.state is None, "a handshake of ten seconds ago proves nothing about now"
    tunnel.go(10, tunnel.talk)
    assert tunnel.state is State.UP
    assert tunnel.reason is None
    assert tunnel.judged.changes == 0
    assert tunnel.judged.changed_at == 0


def test_an_idle_peer_with_keepalive_is_up_as_long_as_its_handshakes_come():
    tunnel = lively()
    for _ in range(30):
        tunnel.go(120, tunnel.keepalives)
        tunnel.shake()
    assert tunnel.state is State.UP
    assert tunnel.changes[1:] == []


def test_an_idle_phone_goes_from_up_to_idle_and_never_down():
    tunnel = Tunnel(expected=False, keepalive=0, age=10).go(30)
    assert tunnel.state is State.UP
    tunnel.go(170)
    assert tunnel.state is State.IDLE
    tunnel.go(86_400 / 4)
    assert tunnel.state is State.IDLE
    assert tunnel.judged.changes == 1
    assert tunnel.judged.changed_at == WALL + 195


def test_a_phone_that_wakes_up_is_up_again():
    tunnel = Tunnel(expected=False, keepalive=0, age=10_000).go(35)
    assert tunnel.state is State.IDLE
    tunnel.rx(INITIATION)
    tunnel.tx(RESPONSE)
    tunnel.go(1)
    tunnel.shake()
    tunnel.go(5)
    assert tunnel.state is State.UP


def test_an_idle_peer_that_is_expected_up_without_keepalive_and_probes_can_not_be_judged_by_age():
    tunnel = lively(keepalive=0).go(3600)
    assert tunnel.state is State.IDLE


def test_a_laptop_that_never_came_is_never_and_from_the_first_look():
    tunnel = Tunnel(expected=False, keepalive=0, rx=0, tx=0)
    assert tunnel.state is State.NEVER
    assert tunnel.go(3600).state is State.NEVER
    assert tunnel.judged.changes == 0


# --- who is down, and why --------------------------------------------------------------------------------------------


def test_initiations_without_an_answer_are_down_after_25_seconds_of_them():
    tunnel = lively()
    start = tunnel.now
    tunnel.go(24, tunnel.call_in_vain)
    assert tunnel.state is State.UP
    tunnel.go(12, tunnel.call_in_vain)
    assert tunnel.state is State.DOWN
    assert tunnel.reason is Reason.HANDSHAKE_UNANSWERED
    change = tunnel.changes[-1]
    assert (change.before, change.after, change.name) == (State.UP, State.DOWN, "berlin")
    assert "initiations unanswered" in change.evidence
    assert tunnel.judged.changes == 1
    assert WALL + start + 25 <= tunnel.judged.changed_at <= WALL + start + 36


def test_data_without_an_answer_is_down_25_seconds_after_it_should_have_been_acknowledged():
    """WireGuard acknowledges it within ten seconds; before that nobody is late."""
    tunnel = lively(keepalive=0)
    start = tunnel.now
    tunnel.go(50, tunnel.send_in_vain)
    assert tunnel.reason is Reason.DATA_UNANSWERED
    assert WALL + start + 35 <= tunnel.judged.changed_at <= WALL + start + 41


def test_a_blip_of_20_seconds_that_takes_the_acknowledgement_with_it_is_no_outage():
    """Heard at 0 s; data from 5 s on, acknowledged at 15 s, handshakes from 20 s on, and a blip from 14 to 34 s."""
    tunnel = lively(keepalive=0)
    for _ in range(20):
        tunnel.rx(KEEPALIVE)
        tunnel.look()
        begin = tunnel.now

        def happens(now, begin=begin):
            if (now - begin) % 5 == 0:
                tunnel.tx(128 + (INITIATION if now - begin >= 20 else 0))

        tunnel.go(34, happens)
        tunnel.shake()
        tunnel.go(26, tunnel.talk)  # so that it is a full minute
    assert tunnel.judged.changes == 0


def test_a_blip_of_20_seconds_is_no_outage():
    tunnel = lively()
    for _ in range(50):
        tunnel.go(20, tunnel.send_in_vain)
        tunnel.rx(KEEPALIVE)
        tunnel.go(13, tunnel.talk)
    assert tunnel.judged.changes == 0


def test_keepalives_alone_ask_for_no_answer():
    tunnel = lively().go(140, lambda second: None)
    tunnel.go(60, tunnel.keepalives)
    assert tunnel.state is State.UP


def test_a_lost_packet_now_and_then_is_repaired_by_the_next_handshake_and_no_outage():
    """Data at 0 s, the handshake that nobody answers at 15 and 20, the one that works at 25."""
    tunnel = lively(keepalive=0)
    for _ in range(20):
        tunnel.tx(128)
        tunnel.go(15)
        tunnel.tx(INITIATION)
        tunnel.go(5)
        tunnel.tx(INITIATION)
        tunnel.go(6)
        tunnel.shake()
        tunnel.go(9)
    assert tunnel.judged.changes == 0


def test_a_peer_whose_calls_reach_us_and_who_does_not_hear_us_is_one_way():
    tunnel = lively()

    def knock(second):
        if second % 5 == 0:
            tunnel.rx(INITIATION)
            tunnel.tx(RESPONSE)

    tunnel.go(40, knock)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.ONE_WAY)
    assert "initiations came from it" in tunnel.judged.evidence


def test_a_peer_that_never_came_though_it_should_is_down_and_not_never():
    tunnel = Tunnel(rx=0, tx=0).go(24)
    assert tunnel.state is None
    tunnel.go(6)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.NEVER_HEARD)


def test_without_a_prober_the_age_of_a_peer_with_keepalive_decides():
    tunnel = lively()
    tunnel.go(180)
    assert tunnel.state is State.UP
    tunnel.go(60)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.STALE_HANDSHAKE)


def test_a_peer_that_is_not_expected_up_is_never_down_whatever_happens():
    tunnel = lively()
    tunnel.meta = tunnel.meta._replace(expected_up=False)
    tunnel.go(600, tunnel.call_in_vain)
    assert tunnel.state is State.IDLE
    tunnel.link = tunnel.link._replace(up=False)
    assert tunnel.go(60).state is State.IDLE


def test_a_peer_that_is_down_stays_down_until_it_is_heard():
    tunnel = lively()
    tunnel.go(120, tunnel.call_in_vain)
    tunnel.go(1000)  # WireGuard gave up and waits for data
    assert tunnel.state is State.DOWN
    assert tunnel.judged.down_seconds == pytest.approx(1085, abs=15)
    tunnel.shake()
    tunnel.go(5)
    assert tunnel.state is State.UP
    assert tunnel.judged.changes == 2
    before = tunnel.judged.down_seconds
    tunnel.go(60, tunnel.talk)
    assert tunnel.judged.down_seconds == before


# --- the interface ---------------------------------------------------------------------------------------------------


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
    health, now = Health(), 0.0
    row = peer(1, last_handshake_ns=int((WALL - 10) * SECOND))
    metas = (PeerMeta("berlin", True, True),)

    def look(name):
        health.update(
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


# --- the start -------------------------------------------------------------------------------------------------------


def test_a_start_in_the_middle_of_an_outage_never_calls_the_peer_up():
    tunnel = Tunnel(age=100)
    states = set()

    def watch(second):
        tunnel.call_in_vain(second)
        states.add(tunnel.state)

    tunnel.go(31, watch)
    assert tunnel.state is State.DOWN
    assert State.UP not in states
    assert tunnel.judged.changes == 0, "what was found is no change"
    assert tunnel.changes[-1].before is None


@pytest.mark.parametrize("expected", [True, False])
def test_without_anything_against_it_a_state_is_known_after_30_seconds(expected):
    tunnel = Tunnel(expected=expected, age=100)
    tunnel.go(29)
    assert tunnel.state is None
    tunnel.go(1)
    assert tunnel.state is State.UP


def test_a_wall_clock_that_jumps_changes_no_state():
    tunnel = lively()
    tunnel.wall_offset = 10 * 365 * 86_400.0
    tunnel.go(60, tunnel.talk)
    tunnel.wall_offset = -86_400.0
    tunnel.go(60, tunnel.talk)
    assert tunnel.judged.changes == 0


def test_a_handshake_in_the_future_is_not_older_than_one_of_now():
    tunnel = Tunnel(age=-3600).go(35)
    assert tunnel.state is State.UP


# --- probes ----------------------------------------------------------------------------------------------------------


class Echoes:
    """Small echoes, five seconds apart, of which the far side answers all but those that it is told to lose."""

    def __init__(self, tunnel, *, rtt=0.02):
        self.tunnel, self.rtt = tunnel, rtt
        self.sent = self.lost = 0
        self.rtt_sum = 0.0
        self.silent = None
        self.lose = lambda number: False
        self.verdict = Verdict.OK

    def __call__(self, second):
        if second % 5 == 2:
            self.sent += 1
            self.tunnel.tx(128)
            if self.lose(self.sent):
                self.lost += 1
                self.silent = self.silent or second
            else:
                self.silent = None
                self.rtt_sum += self.rtt
                self.tunnel.rx(128)
        stats = STATS._replace(sent=self.sent, lost=self.lost, rtt_sum=self.rtt_sum, silent_since=self.silent)
        report = MtuReport(self.verdict, 1420, None, None, 0, None, None, None, "", 0.0)
        self.tunnel.probed = Probed("10.0.0.1", stats, report)


def test_a_cut_is_dated_by_the_first_probe_that_found_no_answer():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(62, echoes)
    echoes.lose = lambda _: True
    first = tunnel.now + 5
    tunnel.go(40, echoes)
    assert tunnel.state is State.DOWN
    assert WALL + first + 25 <= tunnel.judged.changed_at <= WALL + first + 30


def test_probes_that_the_host_can_not_even_send_on_are_down_though_no_byte_is_counted():
    """The endpoint's route is gone: WireGuard sends nothing, counts nothing, and says nothing."""
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(62, echoes)
    echoes.lose = lambda _: True
    first, before = tunnel.now + 5, tunnel.row.tx_bytes

    def unsent(second):
        echoes(second)
        tunnel.row = tunnel.row._replace(tx_bytes=before)

    tunnel.go(24, unsent)
    assert tunnel.state is State.UP
    tunnel.go(16, unsent)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.NOT_SENT)
    assert WALL + first + 25 <= tunnel.judged.changed_at <= WALL + first + 31
    assert "probes unanswered" in tunnel.judged.evidence


def test_the_same_of_a_peer_that_never_answered_probes():
    tunnel = lively()
    echoes = Echoes(tunnel)
    echoes.lose = lambda _: True

    def deaf(second):
        echoes(second)
        tunnel.probed = tunnel.probed._replace(stats=tunnel.probed.stats._replace(rtt_last=None))

    def answered(second):
        deaf(second)
        if second % 10 == 0:
            tunnel.rx(KEEPALIVE)

    tunnel.go(120, answered)
    assert tunnel.state is State.UP
    before = tunnel.row.tx_bytes

    def unsent(second):
        deaf(second)
        tunnel.row = tunnel.row._replace(tx_bytes=before)

    tunnel.go(60, unsent)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.NOT_SENT)


def test_lost_probes_alone_never_make_down_while_anything_else_is_heard():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(60, echoes)
    echoes.lose = lambda _: True

    def deaf(second):
        echoes(second)
        if second % 10 == 0:
            tunnel.rx(KEEPALIVE)

    tunnel.go(600, deaf)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, Reason.TARGET_SILENT)
    assert State.DOWN not in {change.after for change in tunnel.changes}


def test_a_peer_that_never_answered_probes_is_up_by_its_counters():
    tunnel = lively()
    echoes = Echoes(tunnel)
    echoes.lose = lambda _: True

    def deaf(second):
        echoes(second)
        stats = tunnel.probed.stats._replace(rtt_last=None)
        tunnel.probed = tunnel.probed._replace(stats=stats)
        if second % 10 == 0:
            tunnel.rx(KEEPALIVE)

    tunnel.go(600, deaf)
    assert tunnel.state is State.UP


def test_loss_makes_a_peer_degraded_and_it_takes_half_of_it_to_end_that():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(400, echoes)
    assert tunnel.state is State.UP
    echoes.lose = lambda number: number % 8 == 0
    tunnel.go(600, echoes)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, Reason.LOSSY)
    assert "% of probes lost" in tunnel.judged.evidence
    changes = tunnel.judged.changes
    echoes.lose = lambda number: number % 12 == 0
    tunnel.go(600, echoes)
    assert (tunnel.state, tunnel.judged.changes) == (State.DEGRADED, changes), "8 % is not yet well"
    echoes.lose = lambda number: number % 50 == 0
    tunnel.go(600, echoes)
    assert tunnel.state is State.UP


def test_an_outage_is_not_loss_of_the_tunnel_that_came_back():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(400, echoes)
    echoes.lose = lambda _: True
    tunnel.go(200, echoes)
    assert tunnel.state is State.DOWN
    echoes.lose = lambda _: False
    tunnel.go(400, echoes)
    assert tunnel.state is State.UP
    assert [change.after for change in tunnel.changes if change.after is State.DEGRADED] == []


def test_round_trips_three_times_as_long_as_usual_are_slow_and_a_new_path_becomes_usual():
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(1800, echoes)
    echoes.rtt = 0.1
    tunnel.go(600, echoes)
    assert (tunnel.state, tunnel.reason) == (State.DEGRADED, Reason.SLOW)
    assert "usually" in tunnel.judged.evidence
    tunnel.go(3600, echoes)
    assert tunnel.state is State.UP


def test_a_third_of_a_millisecond_tripled_is_not_slow():
    tunnel = lively()
    echoes = Echoes(tunnel, rtt=0.0003)
    tunnel.go(1800, echoes)
    echoes.rtt = 0.002
    tunnel.go(900, echoes)
    assert tunnel.state is State.UP


@pytest.mark.parametrize("verdict", Verdict)
def test_a_fault_of_the_mtu_makes_degraded_with_the_verdict_as_the_reason(verdict):
    tunnel = lively()
    echoes = Echoes(tunnel)
    echoes.verdict = verdict
    tunnel.go(60, echoes)
    faults = {reason.removeprefix("mtu_"): reason for reason in Reason if reason.startswith("mtu_")}
    assert set(faults) < set(Verdict)
    assert tunnel.state is (State.DEGRADED if verdict in faults else State.UP)
    assert tunnel.reason is faults.get(verdict)


def test_a_target_that_is_asked_late_after_an_outage_is_not_silent():
    """The tunnel is heard again by its handshake; the prober, backed off, asks up to half a minute later."""
    tunnel = lively()
    echoes = Echoes(tunnel)
    tunnel.go(62, echoes)
    echoes.lose = lambda _: True
    tunnel.go(120, echoes)
    assert tunnel.state is State.DOWN
    tunnel.shake()
    tunnel.go(5)
    assert tunnel.state is State.UP
    echoes.lose = lambda _: False
    tunnel.go(60, echoes)
    assert [change.after for change in tunnel.changes][-2:] == [State.DOWN, State.UP]


# --- the looks themselves --------------------------------------------------------------------------------------------


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


def test_every_state_and_every_reason_has_a_rule_and_the_last_always_holds():
    assert {rule.state for rule in RULES} == set(State)
    assert {rule.reason for rule in RULES} == {None, *Reason}
    assert len([rule for rule in RULES if rule.reason]) == len(Reason)
    assert RULES[-1].state is State.IDLE
    for rule in RULES:
        assert (rule.reason is None) or rule.state in {State.DOWN, State.DEGRADED}
        assert rule.meaning.endswith(".")


# --- what bytes were -------------------------------------------------------------------------------------------------


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
    found = traffic.sent(grown, seconds, keepalive, traffic.knocks(grown, seconds))
    assert found.initiations >= 0
    assert (found.initiations or found.data) <= max(grown, 0)


def test_a_full_packet_of_an_odd_mtu_is_data_and_not_three_handshakes():
    assert traffic.sent(32 + 1420, 5.0, 25) == traffic.Sent(0, data=True)
    assert traffic.knocks(INITIATION, 5.0) == 1
    assert traffic.knocks(INITIATION + KEEPALIVE, 5.0) == 0
