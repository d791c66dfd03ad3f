"""Loss and latency of a peer over a window: when they are judged, by what, and what makes the window begin anew."""

from __future__ import annotations

import pytest

from tests.rows import STATS
from tests.tunnels import KEEPALIVE, Tunnel
from wg_exporter.config.health import HealthLimits
from wg_exporter.health.quality import Quality
from wg_exporter.probed import Probed

HOUR = 3600
SHORT = {"window": 100.0, "every": 20}
"""A window of which nothing is left after 120 s, read as often as readings of it are kept."""


class Probes:
    """One probe a second, read every `every` seconds; `rtt` and `loses` say how the next ones go."""

    def __init__(self, *, every=1, loses=lambda number: False, rtt=0.02, **limits):
        self.quality, self.limits = Quality(), HealthLimits(**limits)
        self.every, self.rtt, self.loses = every, rtt, loses
        self.now, self.sent, self.lost, self.rtt_sum = 0, 0, 0, 0.0
        self.read()

    def read(self, **changes):
        stats = STATS._replace(sent=self.sent, lost=self.lost, rtt_sum=self.rtt_sum, silent_since=None)
        self.quality.take(stats._replace(**changes), float(self.now), self.limits)

    def go(self, seconds):
        for _ in range(seconds):
            self.now += 1
            self.sent += 1
            if self.loses(self.sent):
                self.lost += 1
            else:
                self.rtt_sum += self.rtt
            if self.now % self.every == 0:
                self.read()
        return self.quality

    def begin_anew(self):
        self.sent = self.lost = 0
        self.rtt_sum = 0.0


def every(number):
    """Of so many probes one is lost."""
    return lambda sent: sent % number == 0


# --- loss ------------------------------------------------------------------------------------------------------------


def test_fewer_than_20_probes_say_nothing():
    probes = Probes(loses=every(2))
    assert (probes.go(19).lossy, probes.quality.loss, probes.quality.rtt) == (False, 0.0, None)
    assert (probes.go(1).lossy, probes.quality.loss) == (True, 0.5)


@pytest.mark.parametrize(("of_a_hundred", "lossy"), [(9, False), (10, True)])
def test_loss_of_just_the_limit_is_enough(of_a_hundred, lossy):
    probes = Probes(every=100, loses=lambda number: number % 100 < of_a_hundred)
    assert (probes.go(100).lossy, probes.quality.loss) == (lossy, of_a_hundred / 100)


@pytest.mark.parametrize(("of_a_hundred", "lossy"), [(4, False), (5, True)])
def test_what_is_lossy_stays_so_until_less_than_half_of_the_limit_is_lost(of_a_hundred, lossy):
    probes = Probes(loses=every(5), every=100)
    assert probes.go(100).lossy
    probes.loses = lambda number: number % 100 < of_a_hundred
    assert probes.go(600).lossy is lossy


def test_the_limit_is_the_configured_one():
    assert Probes(loses=every(4), loss=0.26).go(100).lossy is False
    assert Probes(loses=every(4), loss=0.25).go(100).lossy is True


def test_loss_is_that_of_the_window_which_moves_by_a_fifth():
    """Every second one of the first minute is lost, and none after it."""
    probes = Probes(window=300.0, loses=lambda number: number <= 60 and number % 2 == 0)
    assert probes.go(300).loss == 30 / 300
    assert probes.go(60).loss == 30 / 360, "the oldest reading is a window old, and up to a fifth more"
    assert probes.go(1).loss == 0.0


def test_the_window_is_the_configured_one():
    probes = Probes(window=60.0, loses=lambda number: number <= 60)
    assert probes.go(60).loss == 1.0
    assert probes.go(60).loss > 0.0
    assert probes.go(13).loss == 0.0


def test_looks_while_a_silence_lasts_are_no_readings():
    """Nobody knows yet whether this is loss or the end."""
    probes = Probes()
    probes.go(30)
    probes.loses = lambda number: True
    probes.every = 10**6
    probes.go(60)
    for _ in range(60):
        probes.now += 1
        probes.read(silent_since=30.0)
    assert (probes.quality.lossy, probes.quality.loss) == (False, 0.0)
    probes.read()
    assert (probes.quality.lossy, probes.quality.loss) == (True, 60 / 90)


def test_counters_that_begin_anew_begin_a_new_window():
    probes = Probes(loses=every(4))
    assert probes.go(100).lossy
    probes.begin_anew()
    probes.read()
    assert not probes.quality.lossy
    assert not probes.go(19).lossy
    assert probes.go(1).lossy, "what was counted before is not waited for"
    assert probes.quality.loss == 5 / 20


@pytest.mark.parametrize(("silence", "loss"), [(300, 300 / 311), (301, 0.0)])
def test_what_a_silence_longer_than_the_window_has_lost_is_no_loss_of_the_window_after_it(silence, loss):
    probes = Probes(window=300.0)
    probes.go(60)
    probes.every = 10**6
    probes.loses = lambda number: number <= 60 + silence
    probes.go(silence)
    probes.every = 1
    probes.read(silent_since=60.0)
    probes.read()
    assert probes.go(30).loss == pytest.approx(loss, abs=0.2)
    assert probes.quality.lossy is bool(loss)


def test_counters_that_stand_still_begin_nothing():
    probes = Probes(loses=every(4))
    assert probes.go(100).lossy
    for _ in range(100):
        probes.now += 1
        probes.read()
    assert probes.quality.lossy


# --- latency ---------------------------------------------------------------------------------------------------------


def learned(seconds=700, **more):
    """So long with round trips of 20 ms."""
    probes = Probes(**more)
    probes.go(seconds)
    return probes


def test_round_trips_are_the_mean_of_those_that_were_answered():
    quality = Probes(loses=every(2), rtt=0.02).go(100)
    assert quality.rtt == pytest.approx(0.02)


def test_where_all_are_lost_no_round_trip_is_known_and_nothing_is_slow():
    probes = learned(window=60.0)
    probes.rtt = 1.0
    assert probes.go(60).slow
    probes.loses = lambda number: True
    assert (probes.go(90).rtt, probes.quality.slow) == (None, False)
    usual = probes.quality.usual
    assert probes.go(600).usual == usual > 0.02, "and nothing is learned"


@pytest.mark.parametrize(("learned", "slow"), [(599, False), (600, True)])
def test_nothing_is_slow_before_round_trips_of_ten_minutes_were_learned(learned, slow):
    probes = Probes(window=5.0 * learned, every=learned)
    probes.go(learned)
    probes.rtt = 10.0
    assert probes.go(learned).slow is slow


@pytest.mark.parametrize(("rtt", "slow"), [(0.298, False), (0.304, True)])
def test_slow_is_three_times_what_is_usual(rtt, slow):
    probes = learned(4 * HOUR, rtt=0.1, **SHORT)
    probes.rtt = rtt
    assert probes.go(120).slow is slow


def test_so_many_times_as_configured():
    probes = learned(4 * HOUR, rtt=0.1, **SHORT, slow_factor=2.0)
    probes.rtt = 0.205
    assert probes.go(120).slow


@pytest.mark.parametrize(("rtt", "slow"), [(0.0205, False), (0.025, True)])
def test_where_round_trips_are_short_slow_is_20_ms_more(rtt, slow):
    probes = learned(rtt=0.001, **SHORT)
    probes.rtt = rtt
    assert probes.go(120).slow is slow


@pytest.mark.parametrize(("rtt", "slow"), [(0.197, False), (0.212, True)])
def test_what_is_slow_stays_so_until_half_of_what_was_added_is_gone(rtt, slow):
    probes = learned(4 * HOUR, rtt=0.1, **SHORT)
    probes.rtt = 0.5
    assert probes.go(120).slow
    probes.rtt = rtt
    assert probes.go(120).slow is slow


def test_what_is_usual_is_the_mean_of_all_so_far_in_the_first_hours():
    probes = Probes(**SHORT)
    assert probes.quality.usual == 0.0
    probes.go(1000)
    assert probes.quality.usual == pytest.approx(0.02)
    probes.rtt = 0.05
    probes.go(2000)
    assert probes.quality.usual == pytest.approx(0.02 + 0.03 * 1950 / 3000, rel=0.01), "the window is 50 s late"


def test_what_is_usual_follows_within_six_hours_and_not_within_minutes():
    probes = learned(8 * HOUR, **SHORT)
    probes.rtt = 0.05
    probes.go(600)
    assert probes.quality.usual == pytest.approx(0.02 + 0.03 / 36, rel=0.02)
    probes.go(6 * HOUR - 600)
    assert probes.quality.usual == pytest.approx(0.05 - 0.03 / 2.718, rel=0.02)


def test_a_new_window_keeps_what_is_usual():
    probes = learned()
    probes.rtt = 1.0
    assert probes.go(100).slow
    probes.quality.forget()
    assert not probes.quality.slow
    probes.begin_anew()
    assert not probes.go(20).slow
    assert probes.go(1).slow


# --- what is of now --------------------------------------------------------------------------------------------------


def test_loss_and_round_trip_are_told_from_20_probes_on_and_not_while_answers_are_missing():
    probes = Probes(loses=every(4))
    assert probes.go(19).window() is None
    found = probes.go(1).window()
    assert (found.loss, found.rtt) == (0.25, pytest.approx(0.02))
    probes.read(silent_since=19.0)
    assert probes.quality.window() is None
    assert probes.go(1).window() is not None
    probes.quality.forget()
    assert probes.quality.window() is None


def test_the_evidence_of_a_peer_that_went_down_says_nothing_of_the_loss_it_had_before():
    tunnel = Tunnel(age=5)
    sent = lost = 0

    def probe(silent=None):
        tunnel.probed = Probed("10.0.0.2", STATS._replace(
            up=silent is None, sent=sent, lost=lost, rtt_sum=0.02 * (sent - lost), rtt_last=0.02, silent_since=silent,
        ), None)  # fmt: skip

    for _ in range(30):
        sent, lost = sent + 5, lost + 1
        probe()
        tunnel.rx(KEEPALIVE)
        tunnel.go(5)
    assert "20% of probes lost" in tunnel.judged.evidence
    silent = tunnel.now
    for _ in range(12):
        sent, lost = sent + 5, lost + 5
        tunnel.tx(128)
        probe(silent)
        tunnel.go(5)
    assert tunnel.judged.state == "down"
    assert "of probes lost" not in tunnel.judged.evidence
