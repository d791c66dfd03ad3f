"""The table of metrics against the contract with dashboards, rules and users, spelled out here once more by hand."""

from __future__ import annotations

import re

from wg_exporter.catalogue import METRICS
from wg_exporter.metric import Kind, Scope
from wg_exporter.probed import SendError

INTERFACE = "interface"
PEER = "interface,public_key,peer"
PROBE = f"{PEER},target"

CONTRACT = {
    "wireguard_interface_info": ("gauge", f"{INTERFACE},public_key,listen_port,backend"),
    "wireguard_interface_up": ("gauge", INTERFACE),
    "wireguard_interface_read_success": ("gauge", INTERFACE),
    "wireguard_interface_mtu_bytes": ("gauge", INTERFACE),
    "wireguard_interface_peers": ("gauge", INTERFACE),
    "wireguard_interface_quiet": ("gauge", INTERFACE),
    "wireguard_interface_receive_bytes_total": ("counter", INTERFACE),
    "wireguard_interface_transmit_bytes_total": ("counter", INTERFACE),
    "wireguard_interface_receive_packets_total": ("counter", INTERFACE),
    "wireguard_interface_transmit_packets_total": ("counter", INTERFACE),
    "wireguard_interface_receive_errors_total": ("counter", INTERFACE),
    "wireguard_interface_transmit_errors_total": ("counter", INTERFACE),
    "wireguard_interface_receive_dropped_total": ("counter", INTERFACE),
    "wireguard_interface_transmit_dropped_total": ("counter", INTERFACE),
    "wireguard_config_drift": ("gauge", f"{INTERFACE},kind"),
    "wireguard_peer_info": ("gauge", f"{PEER},tunnel,endpoint,allowed_ips"),
    "wireguard_peer_receive_bytes_total": ("counter", PEER),
    "wireguard_peer_transmit_bytes_total": ("counter", PEER),
    "wireguard_peer_receive_packets_total": ("counter", PEER),
    "wireguard_peer_transmit_packets_total": ("counter", PEER),
    "wireguard_peer_last_handshake_timestamp_seconds": ("gauge", PEER),
    "wireguard_peer_handshakes_total": ("counter", PEER),
    "wireguard_peer_endpoint_changes_total": ("counter", PEER),
    "wireguard_peer_endpoint_dns_mismatch": ("gauge", PEER),
    "wireguard_peer_endpoint_dns_success": ("gauge", PEER),
    "wireguard_peer_endpoint_dns_info": ("gauge", f"{PEER},host,resolves_to"),
    "wireguard_peer_endpoint_reresolved_total": ("counter", PEER),
    "wireguard_peer_persistent_keepalive_seconds": ("gauge", PEER),
    "wireguard_peer_allowed_ips": ("gauge", PEER),
    "wireguard_peer_expected_up": ("gauge", PEER),
    "wireguard_peer_state": ("gauge", f"{PEER},state"),
    "wireguard_peer_reason": ("gauge", f"{PEER},state,reason"),
    "wireguard_peer_state_changes_total": ("counter", PEER),
    "wireguard_peer_down_seconds_total": ("counter", PEER),
    "wireguard_peer_state_last_change_timestamp_seconds": ("gauge", PEER),
    "wireguard_peer_cause": ("gauge", f"{PEER},cause"),
    "wireguard_peer_quiet": ("gauge", PEER),
    "wireguard_probe_fast_up": ("gauge", PROBE),
    "wireguard_probe_up": ("gauge", PROBE),
    "wireguard_probe_sent_total": ("counter", PROBE),
    "wireguard_probe_lost_total": ("counter", PROBE),
    "wireguard_probe_duplicates_total": ("counter", PROBE),
    "wireguard_probe_late_total": ("counter", PROBE),
    "wireguard_probe_extra_sent_total": ("counter", PROBE),
    "wireguard_probe_extra_lost_total": ("counter", PROBE),
    "wireguard_probe_errors_total": ("counter", f"{PROBE},reason"),
    "wireguard_probe_rtt_seconds": ("histogram", PROBE),
    "wireguard_probe_jitter_seconds": ("gauge", PROBE),
    "wireguard_probe_rtt_min_seconds": ("gauge", PROBE),
    "wireguard_probe_last_rtt_seconds": ("gauge", PROBE),
    "wireguard_mtu_verdict": ("gauge", f"{PEER},verdict"),
    "wireguard_mtu_path_bytes": ("gauge", f"{PEER},layer"),
    "wireguard_mtu_needed_bytes": ("gauge", PEER),
    "wireguard_mtu_recommended_bytes": ("gauge", PEER),
    "wireguard_mtu_remote_bytes": ("gauge", PEER),
    "wireguard_mtu_last_check_timestamp_seconds": ("gauge", PEER),
    "wireguard_exporter_build_info": ("gauge", "version,python_version"),
    "wireguard_exporter_source_success": ("gauge", "source"),
    "wireguard_exporter_source_duration_seconds": ("gauge", "source"),
    "wireguard_exporter_devices": ("gauge", ""),
    "wireguard_exporter_config_last_reload_successful": ("gauge", ""),
    "wireguard_exporter_config_last_reload_success_timestamp_seconds": ("gauge", ""),
    "wireguard_exporter_capability": ("gauge", "name"),
    "wireguard_exporter_probe_scheduling_delay_seconds": ("gauge", ""),
    "wireguard_exporter_clock_steps_total": ("counter", ""),
}


def test_names_types_and_labels_are_those_of_the_contract():
    assert {metric.name: (str(metric.kind), ",".join(metric.labels)) for metric in METRICS} == CONTRACT


def test_no_name_is_there_twice_neither_as_a_metric_nor_as_a_family():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert len({metric.family for metric in METRICS}) == len(METRICS)


def test_counters_and_only_counters_end_in_total():
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), metric.name
        assert not metric.family.endswith("_total")


def test_units_are_base_units_at_the_end_of_the_family_name():
    units = {metric.name: metric.unit for metric in METRICS if metric.unit}
    assert set(units.values()) == {"bytes", "seconds"}
    assert units["wireguard_interface_mtu_bytes"] == "bytes"
    assert units["wireguard_peer_receive_bytes_total"] == "bytes"
    assert units["wireguard_exporter_source_duration_seconds"] == "seconds"
    for metric in METRICS:
        assert not metric.unit or metric.family.endswith(f"_{metric.unit}")
        for foreign in ("milliseconds", "minutes", "kilobytes", "_ms", "_kb", "_ns", "_bits"):
            assert not metric.family.endswith(foreign), metric.name


def test_help_is_one_line_of_whole_sentences():
    for metric in METRICS:
        assert metric.help.endswith("."), metric.name
        assert "\n" not in metric.help
        assert "  " not in metric.help
        assert metric.help == metric.help.strip()


def test_help_says_in_what_an_easily_confused_value_is_counted():
    text = {metric.name: metric.help for metric in METRICS}
    assert "not an age" in text["wireguard_peer_last_handshake_timestamp_seconds"]
    assert "since the exporter started" in text["wireguard_peer_handshakes_total"]
    assert "since the exporter started" in text["wireguard_peer_endpoint_changes_total"]
    assert "this host's direction" in text["wireguard_mtu_verdict"]
    assert "ok can't exclude" in text["wireguard_mtu_verdict"]


def test_the_scope_of_a_metric_stands_in_its_name_and_scopes_follow_each_other():
    prefixes = {
        Scope.INTERFACE: "wireguard_interface_",
        Scope.DRIFT: "wireguard_config_",
        Scope.PEER: "wireguard_peer_",
        Scope.PROBE: "wireguard_probe_",
        Scope.MTU: "wireguard_mtu_",
        Scope.EXPORTER: "wireguard_exporter_",
    }
    assert all(metric.name.startswith(prefixes[metric.scope]) for metric in METRICS)
    assert list(dict.fromkeys(metric.scope for metric in METRICS)) == list(Scope)


def test_help_names_every_reason_why_a_probe_could_not_be_sent():
    text = next(metric.help for metric in METRICS if metric.name == "wireguard_probe_errors_total")
    assert [word for word in re.findall(r"\w+", text) if word in set(SendError)] == list(SendError)


def test_what_changes_over_a_peers_life_is_a_label_of_the_info_metric_alone():
    for metric in METRICS:
        if {"tunnel", "endpoint", "allowed_ips"} & set(metric.labels):
            assert metric.name == "wireguard_peer_info"
        assert "netns" not in metric.labels
