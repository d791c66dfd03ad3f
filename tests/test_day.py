"""A simulated day of 500 peers: every real outage is paged once, and nothing else.

`WG_DAY_SEED=7` lives through another day; so does `python -m tests.day --seed 7`, and tells of it.
"""

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from random import Random

import pytest

from tests.day.loop import Loop
from tests.day.pages import Page, episodes
from tests.day.plan import BLIP, FLEET, happenings, live
from tests.day.report import RULES, incidents, judged, lived, lived_at_both_ends
from tests.day.rules import matchers, paging
from tests.day.series import values
from tests.day.wireguard import INITIATION, KEEPALIVE, RESPONSE, Path, tunnel
from wg_exporter.health.states import Reason, State

SEED = int(os.environ.get("WG_DAY_SEED", "1"))
NOTICED = 300.0  # seconds, in which every outage is seen: without probes, a session has to run out first


# --- the tunnels move as the kernel's ---


class Pair:
    """Two ends that know each other, and their counters second by second."""

    def __init__(self, ours=0, theirs=0, loss=0.0):
        self.loop = Loop()
        self.path = Path(Random(1), loss, latency=0.02)
        self.here, self.there = tunnel(self.loop, self.path, ours, theirs)

    def grown(self, seconds):
        """By what tx and rx grew, each time they did."""
        steps = []
        for _ in range(int(seconds * 10)):
            before = self.here.tx, self.here.rx
            self.loop.run(self.loop.now + 0.1)
            step = self.here.tx - before[0], self.here.rx - before[1]
            if any(step):
                steps.append((round(self.loop.now, 1), *step))
        return steps


def test_a_first_packet_takes_a_handshake_and_a_keepalive_that_confirms_or_the_packet_itself():
    pair = Pair()
    pair.here.send(128)
    pair.loop.run(1)
    assert (pair.here.tx, pair.here.rx) == (INITIATION + 128, RESPONSE)
    assert pair.here.handshake_ns
    assert pair.there.handshake_ns > pair.here.handshake_ns, "it knows when the first packet comes"


def test_data_that_nobody_answers_is_acknowledged_after_ten_seconds():
    pair = Pair()
    pair.here.send(128)
    assert pair.grown(20)[1:] == [(10.1, 0, KEEPALIVE)]


def test_an_idle_tunnel_with_keepalive_sends_32_bytes_each_interval_and_shakes_hands_every_two_minutes():
    pair = Pair(ours=25)
    pair.grown(200)
    ages = []
    keepalives = 0
    for _, tx, rx in pair.grown(3600):
        keepalives += tx == KEEPALIVE
        if rx == RESPONSE:
            ages.append(pair.loop.now)
    assert 2400 / 25 < keepalives < 3600 / 25
    assert 3600 / 150 - 2 <= len(ages) <= 3600 / 120
    assert pair.loop.now - (pair.here.handshake_ns / 1e9 - 1_700_000_000) < 180 + 25


def test_initiations_in_vain_come_every_five_seconds_and_end_after_ninety():
    pair = Pair()
    pair.there.on = False
    pair.here.send(128)
    steps = pair.grown(600)
    assert {step[1:] for step in steps} == {(INITIATION, 0)}
    assert all(5.0 <= after[0] - before[0] <= 5.5 for before, after in pairwise(steps))
    assert 90 <= steps[-1][0] <= 110


def test_with_keepalive_initiations_in_vain_never_end_for_long():
    pair = Pair(ours=25)
    pair.there.on = False
    steps = pair.grown(3600)
    assert max(after[0] - before[0] for before, after in pairwise(steps)) < 35


def test_no_answer_for_fifteen_seconds_begins_a_handshake():
    pair = Pair()
    pair.here.send(128)
    pair.grown(30)
    pair.path.open[True] = False
    pair.here.send(128)
    begin = pair.loop.now
    ((at, *step),) = pair.grown(20)
    assert step == [INITIATION, 0]
    assert 15 <= at - begin <= 15.5


def test_calls_of_a_peer_that_does_not_hear_us_are_148_in_and_92_out():
    pair = Pair()
    pair.path.open[True] = False
    pair.there.send(128)
    steps = pair.grown(60)
    assert {step[1:] for step in steps} == {(RESPONSE, INITIATION)}
    assert not pair.here.handshake_ns


def test_a_peer_that_moved_is_heard_from_where_it_is_and_not_found_where_it_was():
    pair = Pair()
    pair.there.send(128)
    pair.grown(1)
    pair.there.address = 2
    before = pair.there.rx
    pair.here.send(128)
    pair.grown(1)
    assert pair.there.rx == before
    pair.there.send(128)
    pair.grown(1)
    pair.here.send(128)
    pair.grown(1)
    assert pair.here.endpoint == 2
    assert pair.there.rx == before + 128


# --- the series, and what is made of what fires ---


def test_a_lost_scrape_is_stale_once_and_then_missing():
    assert values([(0, 1.0), (4, 2.0)], [2, 3], 7) == "1+0x1 stale _ 2+0x2"
    assert values([(2, 1.0), (4, None)], [], 6) == "_x2 1+0x1 stale _"


def test_only_rules_that_page_are_run_with_what_they_rest_on_and_the_series_that_they_read():
    rules = paging(RULES)
    alerts = {rule.get("alert") for group in rules.groups for rule in group["rules"]}
    assert {"WireGuardPeerDown", "WireGuardInterfaceDown", "WireGuardExporterDown"} < alerts
    assert "WireGuardHighLoss" not in alerts
    assert rules.read("wireguard_peer_state", {"state": "down"})
    assert not rules.read("wireguard_peer_state", {"state": "never"})
    assert not rules.read("wireguard_probe_lost_total", {})


def alert(name, **labels):
    return frozenset({"alertname": name, "severity": "critical", "job": "j", "instance": "i", **labels}.items())


def test_an_alert_that_stops_and_fires_again_is_two_pages():
    one = alert("A")
    firing = {at: {one} for at in (0.0, 15.0, 30.0, 90.0)}
    assert [(page.start, page.end) for page in episodes(firing, 15)] == [(0.0, 30.0), (90.0, 90.0)]


def test_matchers_are_those_of_prometheus_and_missing_labels_are_empty():
    one, two = matchers('a=~"x|yy", b!="1"')
    assert one.holds({"a": "yy"})
    assert not one.holds({"a": "y"})
    assert two.holds({})
    assert not two.holds({"b": "1"})


def test_a_page_for_nobody_and_an_outage_without_a_page_are_told():
    truth = happenings(SEED)
    cut = truth.outages[0]
    false = Page(alert("WireGuardPeerDown", instance="gateway", interface="wg0"), cut.start, cut.end)
    late = Page(alert("P", instance=cut.host, interface=cut.interface), cut.end + 3600, cut.end + 3700)
    verdict = judged(truth, [false, late])
    assert not verdict.right
    assert verdict.false == (false, late)
    assert verdict.missed == 2


def test_pages_of_both_ends_of_a_tunnel_at_one_time_are_one_incident_and_later_ones_another():
    one, other = (alert("P", instance=name, tunnel="0123456789ab") for name in ("hub", "branch"))
    found = [Page(one, 0.0, 100.0), Page(other, 50.0, 200.0), Page(one, 230.0, 300.0), Page(one, 900.0, 960.0)]
    assert [page.start for page in incidents(found)] == [0.0, 900.0]


# --- the day ---


def test_500_peers_are_there_and_another_seed_is_another_day():
    assert sum(group.number for group in FLEET) == 500
    assert happenings(1) == happenings(1)
    assert happenings(1) != happenings(2)
    kinds = {outage.kind for seed in range(40) for outage in happenings(seed).outages}
    assert kinds == {"dead", "cut", "away", "toward", "deleted"}


def test_without_a_prober_every_outage_is_seen_and_no_blip():
    day = live(SEED, ("core", "edge"), probing=False)
    gone_down = [noticed for noticed in day.noticed if noticed.change.after is State.DOWN]
    for outage in day.truth.outages:
        seen = {
            noticed.change.public_key: noticed.at
            for noticed in reversed(gone_down)
            if (noticed.host, noticed.change.interface) == (outage.host, outage.interface)
            and outage.start <= noticed.at <= outage.end + BLIP
        }
        assert seen.keys() == outage.keys
        assert max(seen.values()) <= outage.start + NOTICED
        gone_down = [noticed for noticed in gone_down if not outage.start <= noticed.at <= outage.end + BLIP]
    assert gone_down == []


@pytest.mark.prometheus
def test_in_a_day_of_500_peers_every_outage_is_paged_once_and_nothing_else():
    if not shutil.which("promtool"):
        pytest.skip("promtool: no such command; apt-get install prometheus")
    day, pages = lived(SEED, RULES)
    verdict = judged(day.truth, pages)
    assert verdict.right, f"seed {SEED}: {verdict}"
    found = [noticed.change.reason for noticed in day.downs if noticed.change.before is None]
    assert found, "the exporter that was restarted in the middle of an outage says again that there is one"
    assert {noticed.change.reason for noticed in day.downs} >= {Reason.INTERFACE_GONE}


@pytest.mark.slow
@pytest.mark.prometheus
def test_hubs_seen_from_both_ends_page_once_for_every_outage_and_nothing_else():
    """Every second exporter at a far end is scraped through its tunnel, and falls silent with it."""
    if not shutil.which("promtool"):
        pytest.skip("promtool: no such command; apt-get install prometheus")
    day, pages = lived_at_both_ends(SEED, RULES)
    verdict = judged(day.truth, pages)
    assert verdict.right, f"seed {SEED}: {verdict}"
    hosts = {noticed.host for noticed in day.downs}
    assert len(hosts) > 2, "outages were seen at far ends too"


@pytest.mark.slow
@pytest.mark.prometheus
def test_with_scrapes_of_60_s_every_outage_is_paged_once_and_nothing_else():
    if not shutil.which("promtool"):
        pytest.skip("promtool: no such command; apt-get install prometheus")
    day, pages = lived(SEED, RULES, scrape=60.0)
    verdict = judged(day.truth, pages, early=60.0)
    assert verdict.right, f"seed {SEED}: {verdict}"
