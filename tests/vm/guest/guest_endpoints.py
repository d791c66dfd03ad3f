"""The endpoint of a kernel peer is set, that and nothing else; and a tunnel whose name has moved comes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.vm.guest.build import Keys, device, peer, sh, tunnel
from tests.vm.guest.serving import Exporter
from wg_exporter.linux.errors import SourceError
from wg_exporter.model import Backend
from wg_exporter.reader.dns.setter import Setter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "far.guest.test"
RIGHT, WRONG = "192.0.2.2:51821", "192.0.2.77:51821"


def dump(interface: str) -> dict[str, list[str]]:
    """`wg show dump` by public key, the device's own line under an empty key."""
    own, *peers = [line.split("\t") for line in sh(f"wg show {interface} dump").splitlines()]
    return {"": own} | {one[0]: one for one in peers}


def test_of_a_kernel_device_one_endpoint_is_set_and_nothing_else() -> None:
    keys = Keys(11)
    first, second, gone = keys(), keys(), keys()
    conf = f"[Interface]\nPrivateKey = {keys()}\nListenPort = 51820\nFwMark = 0xca6c\n"
    conf += peer(first, f"PresharedKey = {keys()}", f"Endpoint = {WRONG}", "AllowedIPs = 10.9.0.2/32, fd00:9::2/128")
    conf += peer(second, "Endpoint = 192.0.2.9:1", "PersistentKeepalive = 25", "AllowedIPs = 10.9.0.3/32")
    device("wg0", conf)
    before, setter = dump("wg0"), Setter()
    for endpoint in (RIGHT, "[2001:db8::7]:40000", "127.0.0.1:1"):
        setter.set("wg0", Backend.KERNEL, first, endpoint)
        expected = {key: list(fields) for key, fields in before.items()}
        expected[first][2] = endpoint
        after = dump("wg0")
        assert after[""] == expected[""]
        assert after[first][:4] == expected[first][:4]
        assert after[first][7] == expected[first][7]
        assert after[second][:4] + after[second][7:] == expected[second][:4] + expected[second][7:]
    setter.set("wg0", Backend.KERNEL, gone, RIGHT)
    assert set(dump("wg0")) == {"", first, second}, "a peer that is not there is not made"
    with pytest.raises(SourceError):
        setter.set("wg9", Backend.KERNEL, first, RIGHT)
    setter.close()


@pytest.fixture
def host_name(tmp_path: Path) -> Iterator[str]:
    """A name that leads to the far side."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{RIGHT.partition(':')[0]} {HOST}\n")
    hosts.chmod(0o644)
    sh(f"mount --bind {hosts} /etc/hosts")
    yield HOST
    sh("umount /etc/hosts")


def test_a_tunnel_of_the_kernel_whose_name_has_moved_comes_back(host_name: str, tmp_path: Path) -> None:
    made = tunnel("wg0", Keys(12))
    sh(f"wg set wg0 peer {made.far_key} persistent-keepalive 5 endpoint {WRONG}")
    file = tmp_path / "wg0.conf"
    file.write_text(
        f"[Interface]\n[Peer]\n# friendly_name = far\nPublicKey = {made.far_key}\n"
        f"Endpoint = {host_name}:51821\nPersistentKeepalive = 5\nAllowedIPs = 10.9.0.2/32\n"
    )
    config = tmp_path / "config.yml"
    config.write_text(f"names: [{file}]\ninterfaces: {{include: [wg0]}}\ndns: {{reresolve: true}}\n")
    before = dump("wg0")
    with Exporter(tmp_path / "log", f"--config.file={config}", "--storage.path=") as exporter:
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            metrics = exporter.scrape()
            counts = metrics.all("wireguard_peer_endpoint_reresolved_total")
            up = metrics.all("wireguard_peer_state", state="up")
            if counts and counts[0][1] and up and up[0][1]:
                break
            time.sleep(2)
        assert counts[0][1] == 1, exporter.log()
        assert up[0][1] == 1, exporter.log()
        log = exporter.log()
    after = dump("wg0")
    assert after[made.far_key][2] == RIGHT
    assert after[""] == before[""]
    assert after[made.far_key][1] == before[made.far_key][1], "its preshared key"
    assert (after[made.far_key][3], after[made.far_key][7]) == (before[made.far_key][3], before[made.far_key][7])
    assert f"before={WRONG} after={RIGHT}" in log
    assert not [secret for secret in made.secrets if secret in log]
