"""The file of wg-quick against the kernel device that wg-quick made of it: none at first, then each kind of drift, and
none again after the commands that are printed. On one kernel (`ONCE` of tests/test_vm.py), as it takes a minute or two:
what is read of a device is tested on each (guest_values.py, guest_secrets.py).
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.lab import eventually
from tests.vm.guest.build import Keys, device, peer, public, sh
from wg_exporter.cli.program import main
from wg_exporter.drift.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vm.guest.serving import Exporter

WITHIN = 120.0  # seconds; all is slow here
# Those that the exporter compares at each look; keys every 30 s, which would be waited for.
AT_ONCE = frozenset(Kind) - {Kind.PRIVATE_KEY, Kind.PRESHARED_KEY}
KEYS = Keys(21)
# Any 32 bytes: the kernel stores a private key with five of its bits set, so that it is never as in the file.
OWN, FAR, PRESHARED = KEYS(), KEYS(), KEYS()
SECOND, THIRD = KEYS(), KEYS()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[str]:
    """A device that `wg-quick up` made from a file in /etc/wireguard, and a far side that calls."""
    text = f"[Interface]\nAddress = 10.9.0.1/24, fd00:9::1/64\nPrivateKey = {OWN}\nListenPort = 51820\nFwMark = 0x10\n"
    text += "MTU = 1400\n"
    text += peer(public(FAR), f"PresharedKey = {PRESHARED}", "AllowedIPs = 10.9.0.2/32,fd00:9:0::2")
    text += peer(SECOND, "Endpoint = 192.0.2.9:51820", "PersistentKeepalive = 25", "AllowedIPs = 10.9.7.1/24")
    text += peer(THIRD, "AllowedIPs = 10.9.8.0/24")
    (tmp_path / "office.conf").write_text(text)
    (tmp_path / "office.conf").chmod(0o600)
    sh("ip netns add far; ip link add near0 type veth peer name far0 netns far")
    sh("ip addr add 192.0.2.1/24 dev near0; ip link set near0 up")
    sh("ip -n far link set lo up; ip -n far addr add 192.0.2.2/24 dev far0; ip -n far link set far0 up")
    sh(f"mount --bind {tmp_path} /etc/wireguard")
    try:
        sh("wg-quick up office 2>&1")
        to_near = peer(public(OWN), f"PresharedKey = {PRESHARED}", "Endpoint = 192.0.2.1:51820", "AllowedIPs = ::/0")
        device("far1", f"[Interface]\nPrivateKey = {FAR}\n{to_near}", "far")
        sh("ip -n far addr add fd00:9::2/64 dev far1 nodad")
        yield "office"
    finally:
        sh("umount /etc/wireguard")


def drift(*flags: str) -> tuple[int, str]:
    """The exit code of `wg-exporter drift office`, which looks for itself, and what it prints.

    It is asked again where it could not look (2), as a guest may take longer to answer than it waits.
    """
    for _ in range(10):
        result = CliRunner().invoke(main, ["drift", "office", "--socket=", *flags])
        assert not isinstance(result.exception, Exception), result.exception
        if result.exit_code != 2:
            break
    return result.exit_code, result.stdout


def counted(exporter: Exporter, kinds: frozenset[Kind] = frozenset(Kind)) -> dict[str, float] | None:
    """Those of these kinds that differ, as the exporter has them; None while it has not compared all of them."""
    samples = exporter.scrape().all("wireguard_config_drift", interface="office")
    found = {labels["kind"]: value for labels, value in samples if labels["kind"] in kinds}
    return {kind: value for kind, value in found.items() if value} if found.keys() == kinds else None


def call() -> str:
    """The far side calls until there is a handshake. Returns from where it called, as WireGuard has it."""
    sh("ip netns exec far ping -n -c 1 -w 60 fd00:9::1")
    endpoints = dict(line.split("\t") for line in sh("wg show office endpoints").splitlines())
    return endpoints[public(FAR)].rpartition(":")[0]


def test_what_wg_quick_made_is_as_its_file_says_and_so_it_is_after_a_peer_has_roamed(
    office: str, exporter: Exporter
) -> None:
    same = (0, f"{office} is as /etc/wireguard/{office}.conf says.\n")
    assert drift() == same
    assert call() == "192.0.2.2"
    sh("ip -n far addr del 192.0.2.2/24 dev far0; ip -n far addr add 192.0.2.3/24 dev far0")
    assert call() == "192.0.2.3"
    assert drift() == same
    assert eventually(lambda: counted(exporter) == {}, within=WITHIN, every=1)


def test_each_kind_is_told_of_a_kernel_device_and_the_printed_commands_undo_it(
    office: str, exporter: Exporter, tmp_path: Path
) -> None:
    other = tmp_path / "key"
    other.write_text(KEYS())
    sh(f"wg set {office} listen-port 51999 fwmark 0x20 private-key {other}")
    sh(f"wg set {office} peer {public(FAR)} allowed-ips 10.9.0.2/32 preshared-key {other}")
    sh(f"wg set {office} peer {SECOND} endpoint 192.0.2.10:51820 persistent-keepalive 7 peer {THIRD} remove")
    sh(f"wg set {office} peer {KEYS()} allowed-ips 10.9.8.7/32")
    sh(f"ip link set {office} mtu 1300; ip addr del 10.9.0.1/24 dev {office}")
    assert eventually(lambda: counted(exporter, AT_ONCE) == dict.fromkeys(AT_ONCE, 1), within=WITHIN, every=1)
    code, text = drift()
    assert code == 1
    assert "in 11 places" in text
    assert not [secret for secret in (OWN, FAR, PRESHARED, other.read_text()) if secret in text]
    (found,) = json.loads(drift("--json")[1])["interfaces"]
    assert found["drift"]["counts"] == dict.fromkeys(Kind, 1)
    for command in found["load"]:
        subprocess.run(["bash", "-ec", command], check=True)
    assert drift()[0] == 0
    assert eventually(lambda: counted(exporter, AT_ONCE) == {}, within=WITHIN, every=1)
