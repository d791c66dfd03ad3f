"""The dashboard of all hosts shows the numbers of a network that is known: see tests/dashboards_known.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.grafana import Grafana

pytestmark = pytest.mark.prometheus


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Peers down", ["1 red"]),  # bob
        ("Peers degraded", ["3 orange"]),  # carol, zoe and tim
        ("Interfaces down", ["1 red"]),  # spoke's wg5
        ("MTU faults", ["2 orange"]),  # carol's and zoe's
        ("Exporters silent", ["1 red"]),  # gone; what is no exporter is not meant
        ("Not read", ["5 red"]),  # sources of hub and blind, devices of hub, spoke and deaf
        ("Alerts firing", ["5 red"]),  # neither the one that is pending nor those of other rules
        ("Peers", ["expected up: 8", "configured: 10"]),
    ],
)
def test_a_number_says_how_many_there_are(grafana: Grafana, title: str, shown: list[str]) -> None:
    assert grafana.stat("fleet", title) == shown


def test_what_is_broken_is_listed_by_kind_the_newest_first(grafana: Grafana) -> None:
    unread, unseen = "see the log of the exporter", "before it was watched"
    assert grafana.table("fleet", "Broken now") == [
        ("State", "What", "Instance", "Netns", "Interface", "Peer", "Reason", "Cause", "Since"),
        ("not read red", "interface", "deaf", "red", "wg0", "-", unread, "-", unseen),
        ("not read red", "interface", "hub", "-", "wg9", "-", unread, "-", unseen),
        ("not read red", "interface", "spoke", "-", "wg2", "-", unread, "-", unseen),
        ("not read red", "source", "blind", "-", "-", "-", "userspace", "-", unseen),
        ("not read red", "source", "hub", "-", "-", "-", "userspace", "-", unseen),
        ("no answer red", "exporter", "gone", "-", "-", "-", "no scrape succeeds", "-", "600 s ago"),
        ("down red", "peer", "hub", "-", "wg0", "bob", "unreachable", "silent", "90 s ago"),
        ("down red", "interface", "spoke", "-", "wg5", "-", "down or gone", "-", "480 s ago"),  # to the minute
        ("degraded orange", "peer", "hub", "-", "wg0", "carol", "lossy", "-", "700 s ago"),
        ("degraded orange", "peer", "hub", "-", "wg9", "zoe", "slow", "-", unseen),
        ("degraded orange", "peer", "tired", "-", "wg0", "tim", "slow", "-", unseen),
    ]


def test_alerts_are_listed_with_the_critical_ones_first(grafana: Grafana) -> None:
    assert grafana.table("fleet", "Firing alerts") == [
        ("Severity", "Alert", "Instance", "Peer", "Since"),
        ("critical red", "WireGuardHubDown", "several", "key BOBAAAAA", "45 s ago"),
        ("critical red", "WireGuardPeerDown", "hub", "bob", "60 s ago"),
        ("critical red", "WireGuardPeerDown", "hub", "bob", "75 s ago"),  # of another job: all are listed
        ("info yellow", "WireGuardClockStep", "spoke", "-", "15 s ago"),
        ("warning orange", "WireGuardHighLoss", "hub", "carol", "300 s ago"),
    ]


def test_a_host_is_as_bad_as_its_worst_part(grafana: Grafana) -> None:
    assert grafana.timeline("fleet", "Hosts") == [
        ("blind", "not read yellow"),
        ("deaf", "not read yellow"),
        ("gone", "no answer purple"),
        ("hub", "down red"),
        ("spoke", "down red"),
        ("tired", "degraded orange"),
        ("well", "fine green"),
    ]


def test_outages_are_in_seconds_of_the_range_that_is_shown(grafana: Grafana) -> None:
    assert grafana.table("fleet", "Outages in this range of time") == [
        ("Instance", "Peer", "Down for", "Changes"),
        ("hub", "bob", "90.0 s", "1"),
    ]


def test_traffic_of_a_host_is_in_bits_in_upwards_and_out_downwards(grafana: Grafana) -> None:
    assert grafana.graph("fleet", "Traffic") == [
        ("deaf in", "0 bit/s"),
        ("hub in", "11904 bit/s"),  # 8 x (1300 + 77 + 111)
        ("spoke in", "1600 bit/s"),
        ("tired in", "0 bit/s"),
        ("well in", "0 bit/s"),
        ("deaf out", "0 bit/s"),
        ("hub out", "-8624 bit/s"),  # 8 x (890 + 55 + 133)
        ("spoke out", "-2400 bit/s"),
        ("tired out", "0 bit/s"),
        ("well out", "0 bit/s"),
    ]


def test_loss_and_round_trip_of_a_host_are_those_of_its_worst_tunnel(grafana: Grafana) -> None:
    assert grafana.graph("fleet", "Loss, worst tunnel of each host") == [("hub", "100 %"), ("tired", "4 %")]
    assert grafana.graph("fleet", "Round trip, slowest tunnel of each host") == [("hub", "1 s"), ("tired", "0.4 s")]


def test_hosts_that_have_ended_can_be_chosen_too_and_only_those_of_the_job(grafana: Grafana) -> None:
    hosts = {"hub", "spoke", "tired", "blind", "deaf", "well", "gone", "elsewhere"}
    assert set(grafana.choices("fleet", "job")) == {"wg", "other"}
    assert set(grafana.choices("fleet", "instance")) == hosts
    other = grafana._replace(values={"fleet": {**grafana.values["fleet"], "job": "node"}})
    assert other.choices("fleet", "instance") == {}


def test_nothing_is_marked_on_graphs_of_all_hosts(grafana: Grafana) -> None:
    assert grafana.events("fleet") == []
