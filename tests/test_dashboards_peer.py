"""The dashboard of single peers shows the numbers of a network that is known: see tests/dashboards_known.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.grafana import Grafana

pytestmark = pytest.mark.prometheus

PEERS = ("alice", "bob", "carol", "dave", "erin", "frank")


def per_peer(texts: dict[str, str], what: str = "") -> list[tuple[str, str]]:
    """As a graph has it: each peer with its host."""
    return [(f"{name} on hub {what}".strip(), text) for name, text in texts.items()]


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        (
            "State",
            {
                "alice": "up green",
                "bob": "down red",
                "carol": "degraded orange",
                "dave": "idle blue",
                "erin": "never #6e7680",
                "frank": "up green",
            },
        ),
        ("Since", {"bob": "90 s ago", "carol": "700 s ago", "dave": "800 s ago"}),
        ("Last handshake", {"alice": "30 s", "bob": "400 s", "carol": "60 s", "dave": "1000 s", "frank": "10 s"}),
        ("Round trip", {"alice": "0.02 s", "carol": "0.08 s", "frank": "0.12 s"}),
        ("Loss", {"alice": "0 % green", "bob": "100 % red", "carol": "25 % orange", "frank": "1.2 % yellow"}),
        ("Expected", {name: "may be off" if name in ("dave", "erin") else "up" for name in PEERS}),
    ],
)
def test_the_big_numbers_are_those_of_each_peer(grafana: Grafana, title: str, shown: dict[str, str]) -> None:
    assert grafana.stat("peer", title) == [f"{name} on hub: {text}" for name, text in shown.items()]


def test_reason_and_verdict_are_words_in_the_colour_of_how_bad_they_are(grafana: Grafana) -> None:
    assert grafana.stat("peer", "Reason") == ["lossy orange", "unreachable red"]
    verdicts = ["fragmented_path orange", "ok green", "remote_smaller yellow", "unreachable #6e7680"]
    assert grafana.stat("peer", "MTU") == verdicts


def test_below_the_states_are_the_reasons_in_the_colours_of_the_states(grafana: Grafana) -> None:
    *states, _alice_fast, _bob_fast, bob, carol, why = grafana.timeline("peer", "State and reason")
    assert [f"{name}: {text}" for name, text in states] == grafana.stat("peer", "State")
    assert (bob, carol) == (("bob: unreachable", "down red"), ("carol: lossy", "degraded orange"))
    assert why == ("bob: silent", "cause yellow")


def test_peers_with_fast_echoes_have_a_row_for_them_beside_their_state(grafana: Grafana) -> None:
    shown = [row for row in grafana.timeline("peer", "State and reason") if row[0].endswith("fast echoes")]
    assert shown == [("alice: fast echoes", "up green"), ("bob: fast echoes", "down orange")]


def test_handshakes_are_shown_by_age_in_seconds_and_by_number(grafana: Grafana) -> None:
    ages = {"alice": "30 s", "bob": "400 s", "carol": "60 s", "dave": "1000 s", "frank": "10 s"}
    assert grafana.graph("peer", "Age of the handshake") == per_peer(ages)
    assert grafana.graph("peer", "Handshakes") == per_peer(dict.fromkeys(PEERS, "0") | {"alice": "2"})


def test_traffic_is_in_bits_in_upwards_and_out_downwards(grafana: Grafana) -> None:
    received = {"alice": "8000", "bob": "0", "carol": "2400", "dave": "0", "erin": "0", "frank": "56"}
    sent = {"alice": "-2000", "bob": "-320", "carol": "-4800", "dave": "0", "erin": "0", "frank": "-40"}
    assert grafana.graph("peer", "Traffic") == [
        *per_peer({name: f"{number} bit/s" for name, number in received.items()}, "in"),
        *per_peer({name: f"{number} bit/s" for name, number in sent.items()}, "out"),
    ]


def test_packets_and_their_size_are_shown_of_those_that_are_counted(grafana: Grafana) -> None:
    """A peer without packets has no size."""
    assert grafana.graph("peer", "Packets") == [
        *per_peer({"alice": "1.25 packets/s", "bob": "0 packets/s"}, "in"),
        *per_peer({"alice": "-5 packets/s", "bob": "0 packets/s"}, "out"),
    ]
    assert grafana.graph("peer", "Average packet") == [
        *per_peer({"alice": "800 bytes"}, "in"),
        *per_peer({"alice": "-50 bytes"}, "out"),
    ]


def test_round_trips_are_counted_by_how_long_they_took(grafana: Grafana) -> None:
    bands = [("0.016 s", "30"), ("0.064 s", "75"), ("0.256 s", "163.8"), ("inf s", "163.8")]
    assert grafana.heatmap("peer", "Round trips") == bands


def test_median_99_of_100_and_shortest_round_trip_are_told_apart(grafana: Grafana) -> None:
    assert grafana.graph("peer", "Round trip: median, 99 of 100, shortest") == [
        *per_peer({"alice": "0.016 s", "carol": "0.112 s", "frank": "0.16 s"}, "median"),
        *per_peer({"alice": "0.06304 s", "carol": "0.25312 s", "frank": "0.25408 s"}, "99 %"),
        *per_peer({"alice": "0.0125 s", "carol": "0.03 s", "frank": "0.15 s"}, "shortest"),
    ]


def test_loss_is_a_part_and_jitter_a_time(grafana: Grafana) -> None:
    assert grafana.graph("peer", "Loss") == per_peer({"alice": "0 %", "bob": "100 %", "carol": "25 %", "frank": "2 %"})
    assert grafana.graph("peer", "Jitter") == per_peer({"alice": "0.001 s", "carol": "0.012 s", "frank": "0.002 s"})


def test_probes_that_went_wrong_are_counted_by_what_went_wrong(grafana: Grafana) -> None:
    shown = grafana.graph("peer", "Odd probes")
    assert [row for row in shown if row[1] != "0"] == [
        ("carol not sent: no_buffer", "3"),
        ("carol not sent: no_route", "6"),
        ("carol late", "12"),
        ("carol twice", "2"),
    ]
    assert [name for name, _ in shown if name.startswith("bob")] == [
        "bob not sent: no_buffer",
        "bob not sent: no_route",
        "bob late",
        "bob twice",
    ]


def test_each_size_of_the_advice_is_in_its_column(grafana: Grafana) -> None:
    head, *rows = grafana.table("peer", "Verdict and advice")
    assert head[:4] == ("Peer", "Instance", "Interface", "Verdict")
    assert [row[:4] for row in rows] == [
        ("alice", "hub", "wg0", "ok green"),
        ("bob", "hub", "wg0", "unreachable"),
        ("carol", "hub", "wg0", "fragmented_path orange"),
        ("frank", "hub", "wg1", "remote_smaller yellow"),
    ]
    sizes = ("Interface's MTU", "Set", "Needed outside", "Path outside", "Path inside", "Far side", "Looked at")
    assert head[4:] == sizes
    assert [row[4:] for row in rows] == [
        ("1420", "1421", "1480", "1500", "1420", "1422", "600 s ago"),
        ("-", "-", "-", "-", "-", "-", "-"),
        ("1420", "1353", "1492", "1433", "1412", "-", "120 s ago"),
        ("1380", "1381", "1440", "1460", "1380", "1379", "240 s ago"),
    ]


def test_sizes_inside_and_outside_are_told_apart(grafana: Grafana) -> None:
    shown = dict(grafana.graph("peer", "Sizes"))
    assert {name: text for name, text in shown.items() if name.startswith("carol")} == {
        "carol on hub path inner": "1412",
        "carol on hub path outer": "1433",
        "carol on hub needed outside": "1492",
        "carol on hub to set": "1353",
    }
    assert len(shown) == 12


def test_a_verdict_is_shown_by_what_it_asks_of_a_person(grafana: Grafana) -> None:
    assert grafana.timeline("peer", "Verdict") == [
        ("alice: ok", "right green"),
        ("bob: unreachable", "not known #6e7680"),
        ("carol: fragmented_path", "fault orange"),
        ("frank: remote_smaller", "far side yellow"),
    ]


def test_endpoints_that_are_known_are_shown_with_how_often_they_changed(grafana: Grafana) -> None:
    assert [name for name, _ in grafana.timeline("peer", "Endpoints")] == [
        "alice: 192.0.2.1:51820",
        "bob: 192.0.2.2:51820",
        "carol: [2001:db8::3]:51820",
        "dave: 192.0.2.4:51820",
        "frank: 192.0.2.6:51820",
    ]
    assert {text for _, text in grafana.timeline("peer", "Endpoints")} == {"  blue"}
    assert grafana.graph("peer", "Changes of the endpoint") == per_peer(dict.fromkeys(PEERS, "0") | {"carol": "1"})


def test_names_that_lead_elsewhere_or_nowhere_are_shown_with_where_they_lead(grafana: Grafana) -> None:
    assert grafana.timeline("peer", "Host names") == [
        ("alice on hub", "leads here green"),
        ("bob on hub", "leads elsewhere orange"),
        ("dave on hub", "does not resolve orange"),
        ("bob: bob.example is 192.0.2.99", "leads elsewhere orange"),
    ]


def test_what_happened_to_these_peers_is_marked_on_their_graphs(grafana: Grafana) -> None:
    bob = grafana._replace(values={"peer": {**grafana.values["peer"], "peer": "BOB.+"}})
    assert bob.events("peer") == [
        ("WireGuardPeerDown", "bob", "red"),
        ("down", "bob on hub, 90 s ago", "yellow"),
        ("silent", "bob on hub", "orange"),
        ("down by fast echoes", "bob on hub", "orange"),
    ]
    carol = grafana._replace(values={"peer": {**grafana.values["peer"], "peer": "CAROL.+"}})
    marks = carol.events("peer")
    assert ("degraded", "carol on hub, 700 s ago", "yellow") in marks
    assert ("roamed", "carol on hub", "blue") in marks
    assert [title for title, _, color in marks if color == "orange"][-1].startswith("MTU ")
