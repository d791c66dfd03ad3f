"""Devices in other network namespaces, named by name, by path and by the pid of a process in them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.vm.guest.build import Keys, handshake, sh, tunnel
from tests.vm.guest.serving import Exporter

if TYPE_CHECKING:
    from pathlib import Path


def test_a_tunnel_between_two_namespaces_is_served_at_both_ends(log: Path, tmp_path: Path) -> None:
    made = tunnel("wg0", Keys(1))
    link = tmp_path / "namespace"
    link.symlink_to("/run/netns/far")
    with subprocess.Popen(["ip", "netns", "exec", "far", "sleep", "300"]) as inside:
        config = tmp_path / "config.yml"
        config.write_text(
            "namespaces:\n"
            "  - {name: by-name, netns: far}\n"
            f"  - {{name: by-path, path: {link}}}\n"
            f"  - {{name: by-pid, pid: {inside.pid}}}\n"
            "  - {name: missing, netns: nowhere}\n"
        )
        try:
            with Exporter(log, f"--config.file={config}") as exporter:
                handshake(made)
                metrics = exporter.scrape()
                far = sh("ip netns exec far wg show far1 dump").splitlines()[1].split("\t")
                (near,) = [line.split("\t") for line in sh("wg show wg0 dump").splitlines()[1:]]
                assert metrics.one("wireguard_peer_receive_bytes_total", interface="wg0") == float(near[5])
                for name in ("by-name", "by-path", "by-pid"):
                    labels = {"netns": name, "interface": "far1", "public_key": made.near_key}
                    assert metrics.one("wireguard_peer_receive_bytes_total", **labels) == float(far[5])
                    assert metrics.one("wireguard_peer_transmit_bytes_total", **labels) == float(far[6])
                    assert metrics.one("wireguard_interface_up", netns=name, interface="far1") == 1
                    assert metrics.one("wireguard_exporter_source_success", source="kernel", netns=name) == 1
                own = [labels for labels, _ in metrics.all("wireguard_interface_info", interface="wg0")]
                assert len(own) == 1
                assert "netns" not in own[0]
                assert metrics.one("wireguard_exporter_source_success", source="kernel", netns="missing") == 0
                assert "nowhere" in exporter.log()
        finally:
            inside.terminate()
