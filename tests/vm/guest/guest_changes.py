"""Devices that change while they are looked at: the peers served are always all that were there, or none."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.vm.guest.build import Keys, allowed_ips, device, peer, sh
from tests.vm.guest.serving import check_against_wg, scrape_at_rest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vm.guest.serving import Exporter


@contextmanager
def meanwhile(script: str) -> Iterator[None]:
    """Run a shell script beside the test, which ends by itself and must succeed."""
    with subprocess.Popen(["sh", "-ec", script], stdin=subprocess.DEVNULL) as process:
        yield
        assert process.wait(120) == 0


def _plain_device(name: str, keys: Keys, count: int) -> list[str]:
    public_keys = [keys() for _ in range(count)]
    peers = [peer(key, f"AllowedIPs = {allowed_ips(n, 2)}") for n, key in enumerate(public_keys)]
    device(name, f"[Interface]\nPrivateKey = {keys()}\n" + "".join(peers))
    return public_keys


def test_a_device_that_is_renamed_is_served_under_its_new_name_alone(exporter: Exporter) -> None:
    _plain_device("wg0", Keys(1), 2)
    assert check_against_wg(scrape_at_rest(exporter)) == 2
    sh("ip link set wg0 down; ip link set wg0 name office; ip link set office up")
    metrics = scrape_at_rest(exporter)
    assert check_against_wg(metrics) == 2
    assert metrics.all("wireguard_interface_up", interface="wg0") == []


def test_a_device_that_is_deleted_is_gone_and_one_of_the_same_name_starts_anew(exporter: Exporter) -> None:
    _plain_device("wg0", Keys(2), 5)
    assert check_against_wg(scrape_at_rest(exporter)) == 5
    sh("ip link del wg0")
    assert check_against_wg(scrape_at_rest(exporter)) == 0
    _plain_device("wg0", Keys(3), 3)
    assert check_against_wg(scrape_at_rest(exporter)) == 3


def test_peers_that_are_removed_added_or_replaced_are_followed(exporter: Exporter) -> None:
    keys = Keys(4)
    there = _plain_device("wg0", keys, 40)
    assert check_against_wg(scrape_at_rest(exporter)) == 40
    sh(f"wg set wg0 peer {there[7]} remove peer {there[39]} remove")
    assert check_against_wg(scrape_at_rest(exporter)) == 38
    sh(f"wg set wg0 peer {keys()} allowed-ips 10.200.0.1/32 peer {there[3]} persistent-keepalive 5")
    assert check_against_wg(scrape_at_rest(exporter)) == 39
    # An allowed IP moves from one peer to another: both have changed.
    sh(f"wg set wg0 peer {there[1]} allowed-ips {allowed_ips(2, 1)}")
    metrics = scrape_at_rest(exporter)
    assert check_against_wg(metrics) == 39
    assert metrics.one("wireguard_peer_allowed_ips", public_key=there[2]) == 1


def test_scrapes_while_devices_come_go_and_change_their_names_never_fail(exporter: Exporter) -> None:
    _plain_device("stays", Keys(5), 3)
    script = """
        for n in 1 2 3 4 5 6 7 8 9 10 11 12; do
            ip link add comes type wireguard; ip link set comes up
            ip link set comes down; ip link set comes name goes
            ip link del goes
        done
    """
    with meanwhile(script):
        for _ in range(15):
            metrics = exporter.scrape()
            assert metrics.one("wireguard_interface_peers", interface="stays") == 3
            assert metrics.one("wireguard_interface_read_success", interface="stays") == 1
            assert metrics.one("wireguard_exporter_source_success", source="kernel") == 1
    assert check_against_wg(scrape_at_rest(exporter)) == 3


def test_a_dump_that_is_interrupted_again_and_again_never_serves_a_part_of_the_peers(exporter: Exporter) -> None:
    """The kernel marks a dump during which the device changed (NLM_F_DUMP_INTR); so it is changed all the time."""
    _plain_device("wg0", Keys(6), 1500)
    check_against_wg(scrape_at_rest(exporter))
    stale = 0
    deadline = time.monotonic() + 40
    stir = "n = Netlink(NETLINK_GENERIC); n.stir(n.family('wireguard'), 'wg0', 60)"
    program = [sys.executable, "-c", f"from tests.vm.guest.rawnetlink import *; {stir}"]
    with subprocess.Popen(program) as stirring:
        while time.monotonic() < deadline and stale < 3:
            metrics = exporter.scrape()
            assert len(metrics.all("wireguard_peer_info", interface="wg0")) == 1500
            stale += metrics.one("wireguard_interface_read_success", interface="wg0") == 0
        stirring.terminate()
    assert stale, "no dump was interrupted three times in a row, so nothing was tested"
    metrics = scrape_at_rest(exporter)
    assert metrics.one("wireguard_interface_read_success", interface="wg0") == 1
    assert check_against_wg(metrics) == 1500
