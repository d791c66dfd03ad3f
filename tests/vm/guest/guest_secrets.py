"""Keys that are secret appear nowhere, and an exporter without the right to look says so instead of serving nothing."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from tests.vm.guest.build import Keys, device, handshake, peer, sh, tunnel
from tests.vm.guest.serving import Exporter, wg

if TYPE_CHECKING:
    from pathlib import Path


def test_no_secret_key_is_in_any_answer_or_in_the_log_at_debug(log: Path) -> None:
    made = tunnel("wg0", Keys(1))
    device("wg1", "[Interface]\nPrivateKey = " + Keys(2)() + "\n" + peer(Keys(3)(), "PresharedKey = " + Keys(4)()))
    secrets = wg()[2] | set(made.secrets)
    assert len(secrets) >= 4
    with Exporter(log, "--log.level=debug") as exporter:
        handshake(made)
        said = "".join(exporter.get(p) for p in ("/", "/metrics", "/metrics/mindflavor", "/metrics/mdlayher"))
        sh("ip link del wg1")
        sh(f"wg set wg0 peer {made.far_key} remove")
        said += exporter.get("/metrics")
    said += exporter.log()
    assert made.far_key in said
    for secret in secrets:
        assert secret not in said
        assert secret.rstrip("=") not in said
        assert binascii.a2b_base64(secret).hex() not in said.lower()


def test_without_net_admin_the_source_fails_in_the_metrics_and_the_log_says_what_to_grant(log: Path) -> None:
    tunnel("wg0", Keys(5))
    with Exporter(log, before=["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]) as exporter:
        metrics = exporter.scrape()
        assert metrics.one("wireguard_exporter_source_success", source="kernel") == 0
        assert metrics.one("wireguard_exporter_capability", name="net_admin") == 0
        assert metrics.all("wireguard_peer_info") == []
    assert "CAP_NET_ADMIN" in exporter.log()


def test_without_net_admin_and_without_any_device_the_source_fails_too(log: Path) -> None:
    with Exporter(log, before=["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]) as exporter:
        assert exporter.scrape().one("wireguard_exporter_source_success", source="kernel") == 0
    assert "CAP_NET_ADMIN" in exporter.log()
