"""The names, labels and values of the two exporters whose dashboards people have, spelled out as those write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.rows import SECOND, WALL, device, device_view, flat, key, parsed, peer, view
from tests.worlds import World, steps
from wg_exporter.config import MindFlavor, parse
from wg_exporter.exposition import compat
from wg_exporter.exposition.parts import samples_of
from wg_exporter.exposition.table import BLOCK
from wg_exporter.exposition.writer import Writer, render
from wg_exporter.model import Backend, FailedDevice
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


# --- what the others do not say ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("exporter", HEADERS)
def test_both_say_which_devices_and_which_sources_could_not_be_read(exporter):
    unread = FailedDevice("blue", "wg1", Backend.USERSPACE, "its daemon did not answer")
    stale = device_view(device(SHAKEN, fresh=False), METAS[:1])
    shown = view(stale, failed=((unread, None),))
    page = exporter(shown, NOW) if exporter is compat.mindflavor else exporter(shown)
    told = {(name, *sorted(dict(labels).items())): value for name, labels, value in flat(samples_of(page[-1:]))}
    assert told == {
        ("wireguard_interface_read_success", ("interface", "wg0")): 0,
        ("wireguard_interface_read_success", ("interface", "wg1"), ("netns", "blue")): 0,
        ("wireguard_exporter_source_success", ("source", "kernel")): 1,
        ("wireguard_exporter_source_success", ("netns", "blue"), ("source", "links")): 0,
    }


# --- the options of MindFlavor's exporter -----------------------------------------------------------------------------


def labels_of(*rows, metas=(), endpoints="full", **options):
    """The labels of each peer, as they stand in the line."""
    shown = view(device_view(device(*rows), metas))._replace(endpoints=endpoints)
    parts_ = compat.mindflavor(shown, NOW, MindFlavor(**options))[:-1]
    written = b"".join(Writer().write(parts_, openmetrics=False)).decode().splitlines()
    lines_ = [line for line in written if line.startswith("wireguard_sent_bytes_total{")]
    return [line.partition("{")[2].rpartition("}")[0].replace(f'"{key(1)}"', "KEY") for line in lines_]


@pytest.mark.parametrize(
    ("endpoint", "endpoints", "found"),
    [
        ("192.0.2.7:51820", "full", ',remote_ip="192.0.2.7",remote_port="51820"'),
        ("[2001:db8::7]:51820", "full", ',remote_ip="2001:db8::7",remote_port="51820"'),
        ("[fe80::1%eth0]:51820", "full", ',remote_ip="fe80::1",remote_port="51820"'),
        ("192.0.2.7:51820", "address", ',remote_ip="192.0.2.7"'),
        ("[fe80::1%eth0]:51820", "address", ',remote_ip="fe80::1"'),
        ("192.0.2.7:51820", "off", ""),
        ("", "full", ""),
    ],
)
def test_with_r_the_endpoint_becomes_labels_as_far_as_it_may_be_seen(endpoint, endpoints, found):
    row = peer(1, endpoint=endpoint, allowed_ips=("10.0.0.1/32",))
    (with_r,) = labels_of(row, endpoints=endpoints, export_remote_ip_and_port=True)
    assert with_r == f'interface="wg0",public_key=KEY,allowed_ips="10.0.0.1/32"{found}'


def test_with_s_each_allowed_ip_has_two_labels():
    two = peer(1, allowed_ips=("10.70.0.2/32", "fd00::/64"))
    (split,) = labels_of(two, separate_allowed_ips=True)
    assert split == (
        'interface="wg0",public_key=KEY,allowed_ip_0="10.70.0.2",allowed_subnet_0="32",'
        'allowed_ip_1="fd00::",allowed_subnet_1="64"'
    )
    assert labels_of(peer(1, allowed_ips=()), separate_allowed_ips=True) == ['interface="wg0",public_key=KEY']


def test_all_of_it_stands_in_the_order_of_the_original():
    row = peer(1, endpoint="192.0.2.7:51820", allowed_ips=("10.70.0.2/32",))
    meta = PeerMeta("anna", True, True, (("id", "482217555"), ("username", "Dr")))
    (line,) = labels_of(row, metas=(meta,), export_remote_ip_and_port=True, separate_allowed_ips=True)
    assert line == (
        'interface="wg0",public_key=KEY,friendly_name="anna",remote_ip="192.0.2.7",allowed_ip_0="10.70.0.2",'
        'allowed_subnet_0="32",id="482217555",username="Dr",remote_port="51820"'
    )


def test_the_name_in_friendly_json_is_a_label_like_its_other_keys_and_no_friendly_name():
    row = peer(1, allowed_ips=())
    json = (("id", "7"), ("name", "anna"))
    start = 'interface="wg0",public_key=KEY,allowed_ips="(none)"'
    assert labels_of(row, metas=(PeerMeta("anna", True, True, json),)) == [f'{start},id="7",name="anna"']
    ours = PeerMeta("berta", True, True, json)
    assert labels_of(row, metas=(ours,)) == [f'{start},friendly_name="berta",id="7",name="anna"']
    unnamed = PeerMeta(key(1)[:8], False, True, json[:1])
    assert labels_of(row, metas=(unnamed,)) == [f'{start},id="7"']
    assert labels_of(row, metas=(ours,), friendly_json=False) == [f'{start},friendly_name="berta"']


def test_no_key_of_friendly_json_takes_the_place_of_a_label_that_tells_peers_apart():
    hostile = tuple((name, "x") for name in ("allowed_ips", "friendly_name", "interface", "netns", "public_key"))
    (line,) = labels_of(peer(1, allowed_ips=()), metas=(PeerMeta("anna", True, True, hostile),))
    assert line == 'interface="wg0",public_key=KEY,allowed_ips="(none)",friendly_name="anna"'


def test_the_options_come_from_the_configuration(rig):
    config = parse(
        "compat: {mindflavor: {export_remote_ip_and_port: true, separate_allowed_ips: true}}\n", "config.yml"
    )
    page = b"".join(rig.exporter(config).scrape("mindflavor")).decode()
    assert 'allowed_subnet_0="32"' in page
    assert 'remote_port="51820"' in page
    plain = b"".join(rig.exporter().scrape("mindflavor")).decode()
    assert "remote_" not in plain
    assert "allowed_subnet" not in plain


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
