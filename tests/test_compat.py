"""The names, labels and values of the two exporters whose dashboards people have, spelled out as those write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.rows import SECOND, WALL, device, device_view, key, parsed, peer, view
from tests.worlds import World, steps
from wg_exporter.exposition import compat
from wg_exporter.exposition.parts import samples_of
from wg_exporter.exposition.table import BLOCK
from wg_exporter.exposition.writer import Writer, render
from wg_exporter.model import Backend
from wg_exporter.names.identity import PeerMeta

NOW = WALL + 90.9
SHAKEN = peer(1, last_handshake_ns=int(WALL) * SECOND + 999_999_999, allowed_ips=("10.0.0.1/32", "fd00::/64"))
NEVER = peer(2, endpoint="", allowed_ips=())
METAS = (PeerMeta("anna", True, True), PeerMeta(key(2)[:8], False, False))
SHOWN = view(device_view(device(SHAKEN, NEVER), METAS))
BLUE = view(device_view(device(SHAKEN, netns="blue"), METAS[:1]))

HEADERS = {
    compat.mindflavor: {
        "wireguard_sent_bytes_total": "counter",
        "wireguard_received_bytes_total": "counter",
        "wireguard_latest_handshake_seconds": "gauge",
        "wireguard_latest_handshake_delay_seconds": "gauge",
    },
    compat.mdlayher: {
        "wireguard_device_info": "gauge",
        "wireguard_peer_info": "gauge",
        "wireguard_peer_allowed_ips_info": "gauge",
        "wireguard_peer_receive_bytes_total": "counter",
        "wireguard_peer_transmit_bytes_total": "counter",
        "wireguard_peer_last_handshake_seconds": "gauge",
    },
}


def parts(exporter, shown=SHOWN, now=NOW):
    """The page, but for what we add at its end."""
    return (exporter(shown, now) if exporter is compat.mindflavor else exporter(shown))[:-1]


def lines(exporter, shown=SHOWN, *, openmetrics=False):
    return b"".join(Writer().write(parts(exporter, shown), openmetrics=openmetrics)).decode().splitlines()


def without_headers(exporter, shown=SHOWN):
    return [line for line in lines(exporter, shown) if not line.startswith("#")]


def test_mindflavor_has_four_values_of_each_peer_and_a_friendly_name_only_where_there_is_one():
    one = f'{{interface="wg0",public_key="{key(1)}",allowed_ips="10.0.0.1/32,fd00::/64",friendly_name="anna"}}'
    two = f'{{interface="wg0",public_key="{key(2)}",allowed_ips="(none)"}}'
    assert without_headers(compat.mindflavor) == [
        f"wireguard_sent_bytes_total{one} 2001",
        f"wireguard_sent_bytes_total{two} 2002",
        f"wireguard_received_bytes_total{one} 1001",
        f"wireguard_received_bytes_total{two} 1002",
        f"wireguard_latest_handshake_seconds{one} 1700000000",
        f"wireguard_latest_handshake_seconds{two} 0",
        f"wireguard_latest_handshake_delay_seconds{one} 90",
        f"wireguard_latest_handshake_delay_seconds{two} 1700000090",
    ]


def test_mindflavor_shows_all_allowed_ips_however_many():
    ips = tuple(f"10.0.0.{n}/32" for n in range(20))
    shown = view(device_view(device(peer(1, allowed_ips=ips))))
    lines = without_headers(compat.mindflavor, shown)
    assert [f'allowed_ips="{",".join(ips)}"' in line for line in lines] == [True] * 4


def test_a_handshake_of_the_future_is_not_a_negative_age():
    shown = view(device_view(device(peer(1, last_handshake_ns=int(WALL + 3600) * SECOND))))
    assert without_headers(compat.mindflavor, shown)[-1].endswith("} 0")


def test_mdlayher_has_devices_peers_and_a_sample_for_each_allowed_ip():
    one, two = f'device="wg0",public_key="{key(1)}"', f'device="wg0",public_key="{key(2)}"'
    assert without_headers(compat.mdlayher) == [
        f'wireguard_device_info{{device="wg0",public_key="{key(999)}"}} 1',
        f'wireguard_peer_info{{{one},endpoint="192.0.0.1:51820",name="anna"}} 1',
        f'wireguard_peer_info{{{two},endpoint="",name=""}} 1',
        f'wireguard_peer_allowed_ips_info{{{one},allowed_ips="10.0.0.1/32",family="IPv4"}} 1',
        f'wireguard_peer_allowed_ips_info{{{one},allowed_ips="fd00::/64",family="IPv6"}} 1',
        f"wireguard_peer_receive_bytes_total{{{one}}} 1001",
        f"wireguard_peer_receive_bytes_total{{{two}}} 1002",
        f"wireguard_peer_transmit_bytes_total{{{one}}} 2001",
        f"wireguard_peer_transmit_bytes_total{{{two}}} 2002",
        f"wireguard_peer_last_handshake_seconds{{{one}}} 1700000000",
        f"wireguard_peer_last_handshake_seconds{{{two}}} 0",
    ]


@pytest.mark.parametrize("exporter", HEADERS)
def test_types_are_theirs_and_every_family_is_one_piece(exporter):
    two_devices = SHOWN._replace(devices=(*SHOWN.devices, device_view(device(SHAKEN, name="wg1"), METAS[:1])))
    types = [line.split()[2:] for line in lines(exporter, two_devices) if line.startswith("# TYPE")]
    assert types == [list(pair) for pair in HEADERS[exporter].items()]
    helps = [line.split(maxsplit=3) for line in lines(exporter, two_devices) if line.startswith("# HELP")]
    assert [line[2] for line in helps] == list(HEADERS[exporter])
    assert all(len(line) == 4 for line in helps)


@pytest.mark.parametrize("exporter", HEADERS)
def test_devices_of_another_namespace_are_told_apart_by_a_label_that_the_others_do_not_have(exporter):
    inside, own = without_headers(exporter, BLUE), without_headers(exporter)
    assert inside
    assert [line for line in inside if not line.partition("} ")[0].endswith(',netns="blue"')] == []
    assert own
    assert [line for line in own if "netns" in line] == []


@pytest.mark.parametrize("mode", ["address", "off"])
def test_an_address_that_is_not_to_be_seen_is_not_seen_here_either(mode):
    shown = SHOWN._replace(endpoints=mode)
    text = "\n".join(without_headers(compat.mdlayher, shown))
    assert "51820" not in text
    assert ("192.0.0.1" in text) is (mode == "address")


@pytest.mark.parametrize("exporter", HEADERS)
def test_both_are_sound_in_openmetrics_too(exporter):
    read = parsed(Writer().write(parts(exporter), openmetrics=True), openmetrics=True)
    assert {name for name, _, _ in read} == set(HEADERS[exporter])
    assert len(read) == len(set(read)) == len(without_headers(exporter))


def test_userspace_devices_are_served_like_all_others():
    shown = view(device_view(device(SHAKEN, backend=Backend.USERSPACE), METAS[:1]))
    assert without_headers(compat.mdlayher, shown)[0] == without_headers(compat.mdlayher)[0]


# --- what is kept from scrape to scrape -------------------------------------------------------------------------------


def anew(exporter, shown, now, *, openmetrics):
    """The same page without anything kept: every sample rendered from scratch."""
    body = b"".join(render(samples_of(parts(exporter, shown, now)), openmetrics=openmetrics))
    return body + b"# EOF\n" if openmetrics else body


@pytest.mark.parametrize("exporter", HEADERS)
@settings(max_examples=100, deadline=None)
@given(sequence=steps)
def test_the_writer_says_what_the_samples_say_whatever_changes_in_whatever_order(exporter, sequence):
    world, writer = World(), Writer()
    for index, step in enumerate(sequence):
        world.step(*step)
        openmetrics, now = bool(index % 2), NOW + index / 2
        body = b"".join(writer.write(parts(exporter, world.view(), now), openmetrics=openmetrics))
        assert body == anew(exporter, world.view(), now, openmetrics=openmetrics)


@pytest.mark.parametrize(("exporter", "fields"), [(compat.mindflavor, 4), (compat.mdlayher, 5)])
def test_of_peers_at_rest_only_the_delay_is_written_again(exporter, fields):
    """Each second it is another for everybody; the other blocks are the very objects of the scrape before."""
    rows = device(*(peer(n, last_handshake_ns=int(WALL) * SECOND) for n in range(BLOCK)))
    shown, writer = view(device_view(rows)), Writer()
    first = [chunk for chunk in writer.write(parts(exporter, shown), openmetrics=False) if len(chunk) > 10_000]
    again = {id(chunk): chunk for chunk in writer.write(parts(exporter, shown, NOW + 1), openmetrics=False)}
    assert len(first) == fields
    moved = [chunk for chunk in first if id(chunk) not in again]
    assert [chunk.split(b"{")[0].strip() for chunk in moved] == (
        [b"wireguard_latest_handshake_delay_seconds"] if exporter is compat.mindflavor else []
    )
