"""From rows to samples: which are there, with what labels and values, and which are left out."""

from __future__ import annotations

import pytest

from tests.rows import JUDGED, SECOND, WALL, device, device_view, flat, key, link, peer, probed, view
from wg_exporter.accounted import Packets
from wg_exporter.catalogue import LINK_COUNTERS, METRICS
from wg_exporter.causes.cause import Cause, Confidence, Finding
from wg_exporter.drift.kinds import Drift, Kind
from wg_exporter.exposition.fields import allowed_ips_label, endpoint_label
from wg_exporter.exposition.samples import samples
from wg_exporter.health import GoneDevice
from wg_exporter.health.states import State
from wg_exporter.history.counts import PeerCounts
from wg_exporter.hostnames import EndpointName
from wg_exporter.metric import Scope
from wg_exporter.model import Backend, FailedDevice
from wg_exporter.names.identity import PeerMeta
from wg_exporter.names.tunnel import tunnel_name
from wg_exporter.probed import FastFound
from wg_exporter.quiet import Quiet, QuietNow

ROW = peer(1, last_handshake_ns=int(WALL) * SECOND + 500_000_000, allowed_ips=("10.0.0.1/32", "fd00::/64"))
ANNA = device_view(device(ROW), (PeerMeta("anna", True, True),), (PeerCounts(3, 2),), link())


def found(shown, name):
    """Values of one metric by their labels."""
    return {tuple(sorted(labels)): value for metric, labels, value in flat(samples(shown)) if metric == name}


DRIFTS = {("", "wg0"): Drift("/etc/wireguard/wg0.conf", ((Kind.PEER_EXTRA, 2), (Kind.MTU, 0)))}
NAMED = (EndpointName("anna.example:51820", ("192.0.2.9:51820",), WALL, None, 0.0, True, True, 2),)
PACKETS = Packets(1, (5,), (6,))
QUIET = QuietNow(Quiet("", "wg0", public_key, "anna", WALL, WALL + 60, "") for public_key in (key(1), ""))


def of(shown, name):
    return sorted(found(shown, name).values())


def labelled(**labels):
    return tuple(sorted(labels.items()))


def test_drift_has_each_kind_that_could_be_judged_and_no_other():
    shown = view(ANNA, drifts=DRIFTS)
    assert found(shown, "wireguard_config_drift") == {
        labelled(interface="wg0", kind="peer_extra"): 2,
        labelled(interface="wg0", kind="mtu"): 0,
    }
    assert found(view(ANNA), "wireguard_config_drift") == {}


def test_every_metric_of_a_peer_has_its_own_field_as_its_value():
    values = {s.metric.name: s.value for s in samples(view(ANNA)) if s.metric.name.startswith("wireguard_peer_")}
    assert values == {
        "wireguard_peer_info": 1,
        "wireguard_peer_receive_bytes_total": 1001,
        "wireguard_peer_transmit_bytes_total": 2001,
        "wireguard_peer_last_handshake_timestamp_seconds": WALL + 0.5,
        "wireguard_peer_handshakes_total": 3,
        "wireguard_peer_endpoint_changes_total": 2,
        "wireguard_peer_persistent_keepalive_seconds": 25,
        "wireguard_peer_allowed_ips": 2,
        "wireguard_peer_expected_up": 1,
        "wireguard_peer_state": 0,  # the last of them is not the one that holds
        "wireguard_peer_reason": 1,
        "wireguard_peer_state_changes_total": 3,
        "wireguard_peer_down_seconds_total": 62.5,
        "wireguard_peer_state_last_change_timestamp_seconds": WALL + 0.25,
    }


def test_packets_are_there_only_where_they_are_counted():
    counted = view(ANNA._replace(device=ANNA.device._replace(packets=PACKETS)))
    for side, number in (("receive", 5), ("transmit", 6)):
        assert of(counted, f"wireguard_peer_{side}_packets_total") == [number]
        assert of(view(ANNA), f"wireguard_peer_{side}_packets_total") == []


def test_the_labels_of_a_peer_are_interface_key_and_name_and_only_info_has_more():
    plain = labelled(interface="wg0", public_key=key(1), peer="anna")
    full = ANNA._replace(host_names=NAMED, device=ANNA.device._replace(packets=PACKETS))
    for metric in METRICS:
        if metric.scope is Scope.PEER and metric.labels == ("interface", "public_key", "peer"):
            assert list(found(view(full, quiet=QUIET), metric.name)) == [plain]
    info = {
        "tunnel": tunnel_name(ANNA.device.public_key, key(1)),
        "endpoint": "192.0.0.1:51820",
        "allowed_ips": "10.0.0.1/32,fd00::/64",
    }
    assert list(found(view(ANNA), "wireguard_peer_info")) == [labelled(**dict(plain), **info)]


def test_a_peer_that_never_shook_has_a_handshake_at_zero_and_not_none():
    assert of(view(device_view(device(peer(1)))), "wireguard_peer_last_handshake_timestamp_seconds") == [0]


def test_every_counter_of_a_link_has_its_own_field_as_its_value():
    values = {s.metric.name.removeprefix("wireguard_interface_"): s.value for s in samples(view(ANNA))}
    assert {name: values[name] for name in values if name.startswith(("receive", "transmit"))} == {
        "receive_packets_total": 11,
        "transmit_packets_total": 12,
        "receive_bytes_total": 13,
        "transmit_bytes_total": 14,
        "receive_errors_total": 15,
        "transmit_errors_total": 16,
        "receive_dropped_total": 17,
        "transmit_dropped_total": 18,
    }
    assert (values["mtu_bytes"], values["up"], values["peers"], values["read_success"]) == (1420, 1, 1, 1)


def test_a_devices_own_key_port_and_backend_are_labels_of_its_info():
    info = labelled(interface="wg0", public_key=key(999), listen_port="51820", backend="kernel")
    assert found(view(ANNA), "wireguard_interface_info") == {info: 1}
    amnezia = device_view(device(backend=Backend.AMNEZIAWG, public_key="", listen_port=0))
    info = labelled(interface="wg0", public_key="", listen_port="0", backend="amneziawg")
    assert found(view(amnezia), "wireguard_interface_info") == {info: 1}


def test_without_a_link_nothing_is_said_that_only_the_link_knows():
    shown = view(device_view(device(peer(1))))
    for name in ("up", "mtu_bytes", *(metric.name.removeprefix("wireguard_interface_") for metric, _ in LINK_COUNTERS)):
        assert found(shown, f"wireguard_interface_{name}") == {}
    assert of(shown, "wireguard_interface_read_success") == [1]


def test_an_interface_that_is_down_says_so():
    assert of(view(device_view(device(), at=link(up=False))), "wireguard_interface_up") == [0]


def test_a_missing_interface_is_down_and_nothing_else_is_known_of_it():
    shown = view(ANNA, missing=(("", "wg9"), ("blue", "wg9")))
    assert found(shown, "wireguard_interface_up") == {
        labelled(interface="wg0"): 1,
        labelled(interface="wg9"): 0,
        labelled(interface="wg9", netns="blue"): 0,
    }
    assert [
        dict(s.labels) for s in samples(shown) if ("interface", "wg9") in s.labels and "up" not in s.metric.name
    ] == []


def test_a_device_that_could_not_be_read_has_its_link_but_no_peers():
    lost = FailedDevice("", "wg1", Backend.USERSPACE, "no answer")
    shown = view(ANNA, failed=((lost, link("wg1", rx_bytes=99)),))
    assert found(shown, "wireguard_interface_read_success") == {
        labelled(interface="wg0"): 1,
        labelled(interface="wg1"): 0,
    }
    assert found(shown, "wireguard_interface_receive_bytes_total")[labelled(interface="wg1")] == 99
    assert labelled(interface="wg1") not in found(shown, "wireguard_interface_peers")
    assert of(shown, "wireguard_exporter_devices") == [2]


def test_peers_of_an_earlier_read_are_served_and_marked():
    shown = view(device_view(device(peer(1), fresh=False)))
    assert of(shown, "wireguard_interface_read_success") == [0]
    assert of(shown, "wireguard_peer_receive_bytes_total") == [1001]


def test_netns_stands_on_everything_of_another_namespace_and_on_nothing_of_our_own():
    shown = view(ANNA, device_view(device(peer(1), netns="blue"), at=link(netns="blue")))
    for metric, labels, _ in flat(samples(shown)):
        names = dict(labels)
        if metric.startswith("wireguard_exporter_"):
            assert ("netns" in names) == (names.get("source") == "links")
    scoped = [
        dict(s.labels).get("netns") for s in samples(shown) if not s.metric.name.startswith("wireguard_exporter_")
    ]
    assert scoped.count("blue") == scoped.count(None) == 13 + 18


def test_two_peers_of_one_name_and_one_peer_on_two_devices_are_series_of_their_own():
    same = (PeerMeta("anna", True, True),) * 2
    shown = view(device_view(device(peer(1), peer(2)), same), device_view(device(peer(1), name="wg1"), same[:1]))
    assert of(shown, "wireguard_peer_receive_bytes_total") == [1001, 1001, 1002]
    keys = [(name, labels) for name, labels, _ in flat(samples(shown))]
    assert len(set(keys)) == len(keys)


def test_the_exporter_says_what_it_is_and_how_its_sources_do():
    shown = view()
    assert found(shown, "wireguard_exporter_build_info") == {labelled(version="1.2.3", python_version="3.11.2"): 1}
    assert found(shown, "wireguard_exporter_source_success") == {
        labelled(source="kernel"): 1,
        labelled(source="links", netns="blue"): 0,
    }
    assert of(shown, "wireguard_exporter_source_duration_seconds") == [0.25, 2.5]
    assert of(shown, "wireguard_exporter_devices") == [0]
    assert of(shown, "wireguard_exporter_config_last_reload_successful") == [1]
    assert of(shown, "wireguard_exporter_config_last_reload_success_timestamp_seconds") == [WALL]
    assert found(shown, "wireguard_exporter_capability") == {labelled(name="net_admin"): 1, labelled(name="netns"): 0}
    assert of(shown, "wireguard_exporter_clock_steps_total") == [2]


SILENT = Finding(Cause.SILENT, Confidence.LIKELY, ("3 initiations left, nothing came back",))


def test_a_cause_is_shown_only_of_peers_that_are_down_or_degraded_now():
    rows = device(*map(peer, range(1, 6)))
    states = (State.DOWN, State.DEGRADED, State.UP, State.IDLE, None)
    health = tuple(JUDGED._replace(state=state) for state in states)
    causes = {("", "wg0"): {key(n): SILENT for n in range(1, 6)} | {key(99): SILENT}, ("", "gone"): {key(1): SILENT}}
    shown = view(device_view(rows, health=health), causes=causes)
    assert {dict(labels)["public_key"] for labels in found(shown, "wireguard_peer_cause")} == {key(1), key(2)}
    assert {dict(labels)["cause"] for labels in found(shown, "wireguard_peer_cause")} == {"silent"}
    assert found(view(device_view(rows, health=health)), "wireguard_peer_cause") == {}
    unsure = {("", "wg0"): {key(1): SILENT._replace(confidence=Confidence.POSSIBLE)}}
    assert found(view(device_view(rows, health=health), causes=unsure), "wireguard_peer_cause") == {}


def test_the_cause_of_a_peer_that_is_gone_with_its_interface_or_from_it_is_shown():
    meta = PeerMeta("anna", True, True)
    gone = GoneDevice("", "wg9", (key(1),), (meta,), (JUDGED,))
    lacking = GoneDevice("", "wg0", (key(2),), (meta,), (JUDGED,))
    causes = {("", "wg9"): {key(1): SILENT}, ("", "wg0"): {key(2): SILENT}}
    shown = view(device_view(device(peer(1))), gone=(gone,), lacking=(lacking,), causes=causes)
    labels = [dict(labels) for labels in found(shown, "wireguard_peer_cause")]
    assert {(one["interface"], one["public_key"], one["peer"]) for one in labels} == {
        ("wg9", key(1), "anna"),
        ("wg0", key(2), "anna"),
    }


def test_fast_echoes_are_told_of_peers_that_are_there_that_are_gone_and_that_are_lacking():
    meta = PeerMeta("anna", True, True)
    gone = GoneDevice("blue", "wg9", (key(1),), (meta,), (JUDGED,))
    lacking = GoneDevice("", "wg0", (key(2),), (meta,), (JUDGED,))
    states = {
        ("blue", "wg9"): {key(1): FastFound("10.0.0.1", False)},
        ("", "wg0"): {
            key(1): FastFound("10.0.0.2", True),
            key(2): FastFound("10.0.0.3", False),
            key(99): FastFound("10.0.0.4", True),
            key(3): FastFound("10.0.0.5", None, "its echoes have not said yet"),
            key(4): FastFound("", False, "nobody knows where to send to"),
        },
    }
    shown = view(device_view(device(peer(1), peer(3), peer(4))), gone=(gone,), lacking=(lacking,), fast=states)
    told = {
        (row["interface"], row["public_key"], row["target"], row.get("netns", "")): value
        for labels, value in found(shown, "wireguard_probe_fast_up").items()
        for row in [dict(labels)]
    }
    assert told == {
        ("wg9", key(1), "10.0.0.1", "blue"): 0,
        ("wg0", key(1), "10.0.0.2", ""): 1,
        ("wg0", key(2), "10.0.0.3", ""): 0,
    }
    assert found(view(device_view(device(peer(1)))), "wireguard_probe_fast_up") == {}


def test_all_families_of_the_catalogue_come_each_in_one_piece_and_in_its_order():
    up = JUDGED._replace(state=State.DEGRADED)  # of a peer that is down no sizes are told
    devices = (
        ANNA._replace(host_names=NAMED, device=ANNA.device._replace(packets=PACKETS)),
        device_view(device(peer(2), name="wg1"), at=link("wg1"), health=(up,)),
    )
    probes = {("", "wg0"): {key(1): probed()}, ("", "wg1"): {key(2): probed()}}
    more = {"quiet": QUIET, "drifts": DRIFTS, "causes": {("", "wg0"): {key(1): SILENT}}}
    more["fast"] = {("", "wg0"): {key(1): FastFound("10.0.0.1", True)}}
    names = [sample.metric for sample in samples(view(*devices, probes=probes, scheduling_delay=0.1, **more))]
    assert list(dict.fromkeys(names)) == list(METRICS)
    pieces = [metric for metric, before in zip(names, [None, *names], strict=False) if metric is not before]
    assert len(pieces) == len(METRICS)


@pytest.mark.parametrize(
    ("endpoint", "full", "address"),
    [
        ("192.0.2.1:51820", "192.0.2.1:51820", "192.0.2.1"),
        ("[2001:db8::1]:51820", "[2001:db8::1]:51820", "2001:db8::1"),
        ("[fe80::1%eth0]:51820", "[fe80::1%eth0]:51820", "fe80::1%eth0"),
        ("", "", ""),
    ],
)
def test_an_endpoint_is_shown_as_far_as_the_configuration_lets_it(endpoint, full, address):
    assert endpoint_label(endpoint, "full") == full
    assert endpoint_label(endpoint, "address") == address
    assert endpoint_label(endpoint, "off") == ""


@pytest.mark.parametrize("mode", ["full", "address", "off"])
def test_the_mode_of_endpoints_reaches_the_label(mode):
    (labels,) = found(view(ANNA, endpoints=mode), "wireguard_peer_info")
    assert dict(labels)["endpoint"] == endpoint_label(ROW.endpoint, mode)


def test_sixteen_allowed_ips_are_shown_and_of_more_their_number():
    ips = tuple(f"10.0.0.{n}/32" for n in range(20))
    assert allowed_ips_label(()) == ""
    assert allowed_ips_label(ips[:16]) == ",".join(ips[:16])
    assert allowed_ips_label(ips[:17]) == ",".join(ips[:16]) + ",+1"
    assert allowed_ips_label(ips) == ",".join(ips[:16]) + ",+4"
    assert of(view(device_view(device(peer(1, allowed_ips=ips)))), "wireguard_peer_allowed_ips") == [20]
