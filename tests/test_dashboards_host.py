"""The dashboard of one host shows the numbers of a network that is known: see tests/dashboards_known.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.dashboards_known import KEYS

if TYPE_CHECKING:
    from tests.grafana import Grafana

pytestmark = pytest.mark.prometheus


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Exporter", ["answers green"]),
        ("Peers by state", ["down: 1 red", "degraded: 1 orange", "up: 2 green", "idle: 1 blue", "never: 1 #6e7680"]),
        ("Interfaces down", ["0 green"]),
        ("MTU faults", ["1 orange"]),  # carol's
        ("Worst loss", ["100 % red"]),  # bob's
        ("Not read", ["1 red"]),  # the source; the device is one that is not chosen
    ],
)
def test_a_number_says_how_many_there_are(grafana: Grafana, title: str, shown: list[str]) -> None:
    assert grafana.stat("host", title) == shown


def test_the_worst_loss_is_that_of_the_last_five_minutes_and_not_of_the_last_one(grafana: Grafana) -> None:
    wg1 = grafana._replace(values={"host": {**grafana.values["host"], "interface": "wg1"}})
    assert wg1.stat("host", "Worst loss") == ["1.2 % yellow"]


def test_an_exporter_that_is_silent_is_said_not_to_answer(grafana: Grafana) -> None:
    gone = grafana._replace(values={"host": {**grafana.values["host"], "instance": "gone"}})
    assert gone.stat("host", "Exporter") == ["no answer red"]


def test_peers_are_listed_from_down_to_up_with_their_numbers(grafana: Grafana) -> None:
    head, *rows = grafana.table("host", "Peers")
    assert head[:8] == ("State", "Peer", "Interface", "Netns", "Reason", "Cause", "Fast", "Handshake")
    assert [row[:8] for row in rows] == [
        ("down red", "bob", "wg0", "-", "unreachable", "silent", "down orange", "400.0 s"),
        ("degraded orange", "carol", "wg0", "-", "lossy", "-", "-", "60.0 s"),
        ("never #6e7680", "erin", "wg0", "-", "-", "-", "-", "-"),
        ("idle blue", "dave", "wg0", "-", "-", "-", "-", "1000.0 s"),
        ("up green", "alice", "wg0", "-", "-", "-", "up green", "30.0 s"),
        ("up green", "frank", "wg1", "blue", "-", "-", "-", "10.0 s"),
        ("-", "gil", "wg0", "-", "-", "-", "-", "-"),
    ]
    assert head[8:] == ("Receive", "Transmit", "Round trip", "Loss", "MTU", "Endpoint", "Expected")
    assert [row[8:] for row in rows] == [
        ("0 bit/s", "320 bit/s", "-", "100.0 % red", "unreachable", "192.0.2.2:51820", "up text"),
        (
            "2400 bit/s", "4800 bit/s", "0.08 s", "25.0 % orange", "fragmented_path orange", "[2001:db8::3]:51820",
            "up text",
        ),
        ("0 bit/s", "0 bit/s", "-", "-", "-", "-", "no text"),
        ("0 bit/s", "0 bit/s", "-", "-", "-", "192.0.2.4:51820", "no text"),
        ("8000 bit/s", "2000 bit/s", "0.02 s", "0.0 % green", "ok green", "192.0.2.1:51820", "up text"),
        ("56 bit/s", "40 bit/s", "0.12 s", "1.2 % yellow", "remote_smaller yellow", "192.0.2.6:51820", "up text"),
        ("0 bit/s", "0 bit/s", "-", "-", "-", "-", "up text"),
    ]  # fmt: skip


def test_the_state_of_each_peer_is_shown_with_its_colour(grafana: Grafana) -> None:
    assert grafana.timeline("host", "State of the peers") == [
        ("alice wg0", "up green"),
        ("bob wg0", "down red"),
        ("carol wg0", "degraded orange"),
        ("dave wg0", "idle blue"),
        ("erin wg0", "never #6e7680"),
        ("frank blue wg1", "up green"),
    ]


def test_interfaces_are_listed_with_mtu_peers_and_port(grafana: Grafana) -> None:
    assert grafana.table("host", "Interfaces") == [
        ("Interface", "Netns", "Up", "MTU", "Peers", "Port", "Drift", "Backend"),
        ("wg0", "-", "up green", "1420", "6", "51820", "3 yellow", "kernel"),
        ("wg1", "blue", "up green", "1380", "1", "51821", "-", "userspace"),
    ]


def test_an_interface_that_is_down_is_the_first_of_the_list(grafana: Grafana) -> None:
    spoke = grafana._replace(values={"host": {**grafana.values["host"], "instance": "spoke", "interface": ".+"}})
    _, *rows = spoke.table("host", "Interfaces")
    assert [(row[0], row[1]) for row in rows] == [("wg5", "down red"), ("wg2", "up green")]
    assert spoke.stat("host", "Interfaces down") == ["1 red"]


@pytest.mark.parametrize(
    ("title", "wg0", "wg1"),
    [
        ("Throughput", ("10400 bit/s", "-7120 bit/s"), ("616 bit/s", "-440 bit/s")),
        ("Packets", ("13 packets/s", "-9 packets/s"), ("7 packets/s", "-5 packets/s")),
        ("Errors", ("0.2 packets/s", "-0.4 packets/s"), ("0.6 packets/s", "-0.5 packets/s")),
        ("Drops", ("0.1 packets/s", "-0.3 packets/s"), ("0.7 packets/s", "-0.9 packets/s")),
    ],
)
def test_an_interface_shows_what_came_in_upwards_and_what_went_out_downwards(
    grafana: Grafana, title: str, wg0: tuple[str, str], wg1: tuple[str, str]
) -> None:
    assert dict(grafana.graph("host", title)) == {
        "wg0 in": wg0[0],
        "wg0 out": wg0[1],
        "blue wg1 in": wg1[0],
        "blue wg1 out": wg1[1],
    }


@pytest.mark.parametrize(
    ("title", "alice", "bob", "carol", "frank"),
    [
        ("Receive", "8000 bit/s", "0 bit/s", "2400 bit/s", "56 bit/s"),
        ("Transmit", "2000 bit/s", "320 bit/s", "4800 bit/s", "40 bit/s"),
        ("Round trip", "0.02 s", None, "0.08 s", "0.2 s"),
        ("Loss", "0 %", "100 %", "25 %", "2 %"),
    ],
)
def test_traffic_and_quality_of_each_peer_have_their_units(
    grafana: Grafana, title: str, alice: str, bob: str | None, carol: str, frank: str
) -> None:
    shown = grafana.graph("host", title)
    expected = {"alice wg0": alice, "bob wg0": bob, "carol wg0": carol, "frank blue wg1": frank}
    assert [row for row in shown if row[1] != "0 bit/s"] == [
        (name, text) for name, text in expected.items() if text not in (None, "0 bit/s")
    ]


def test_packets_are_shown_of_the_peers_whose_packets_are_counted(grafana: Grafana) -> None:
    assert grafana.graph("host", "Packets received") == [("alice wg0", "1.25 packets/s"), ("bob wg0", "0 packets/s")]
    assert grafana.graph("host", "Packets sent") == [("alice wg0", "5 packets/s"), ("bob wg0", "0 packets/s")]


def test_the_exporter_says_how_long_it_reads_how_late_it_probes_and_what_it_takes(grafana: Grafana) -> None:
    times = [("kernel", "0.004 s"), ("links blue", "0.008 s"), ("userspace", "2.25 s")]
    assert grafana.graph("host", "Time to read") == times
    assert grafana.graph("host", "Probes sent late") == [("hub", "0.003 s")]
    # Of exporters alone, though Prometheus knows the same of other programs.
    everything = grafana._replace(values={"host": {**grafana.values["host"], "instance": "hub|other:9100"}})
    assert everything.graph("host", "CPU") == [("hub", "2 %")]
    assert everything.graph("host", "Memory") == [("hub", "5e+07 bytes")]


def test_what_happened_at_the_host_is_marked_on_its_graphs(grafana: Grafana) -> None:
    assert grafana.events("host") == [
        ("WireGuardHighLoss", "carol", "red"),
        ("WireGuardPeerDown", "bob", "red"),
        ("exporter started", "hub, 1100 s ago", "blue"),
        ("configuration in use", "hub, 500 s ago", "blue"),
        ("differs from its file", "wg0", "yellow"),
    ]


def test_interfaces_of_this_host_alone_can_be_chosen(grafana: Grafana) -> None:
    assert set(grafana.choices("host", "interface")) == {"wg0", "wg1", "wg9"}
    deaf = grafana._replace(values={"host": {**grafana.values["host"], "instance": "deaf"}})
    assert set(deaf.choices("host", "interface")) == {"wg0"}


def test_keys_and_not_names_of_peers_are_chosen(grafana: Grafana) -> None:
    assert grafana.choices("peer", "peer") == {
        name: key for name, key in KEYS.items() if name not in ("zoe", "tim", "wim")
    }
