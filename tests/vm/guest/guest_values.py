"""Every number equal to what `wg` and `ip` say of the same kernel devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.vm.guest.build import Keys, allowed_ips, device, handshake, peer, sh, tunnel
from tests.vm.guest.serving import check_against_ip, check_against_wg, scrape_at_rest

if TYPE_CHECKING:
    from tests.vm.guest.serving import Exporter


def test_a_live_tunnel_is_served_with_the_values_of_wg_and_ip(exporter: Exporter) -> None:
    keys = Keys(1)
    silent = peer(keys(), "Endpoint = [2001:db8::2]:51821", "PersistentKeepalive = 25", "AllowedIPs = 10.9.1.0/24")
    made = tunnel("wg0", keys, more_peers=silent + peer(keys()))
    handshake(made)
    metrics = scrape_at_rest(exporter)
    assert check_against_wg(metrics) == 3
    check_against_ip(metrics, "wg0")
    assert metrics.one("wireguard_peer_receive_bytes_total", public_key=made.far_key) > 92
    assert metrics.one("wireguard_exporter_source_success", source="kernel") == 1


def test_two_thousand_peers_over_many_messages_are_all_there(exporter: Exporter) -> None:
    keys = Keys(2)
    peers = [
        peer(
            keys(),
            f"Endpoint = 198.51.100.{n % 250}:{1 + n}",
            f"PersistentKeepalive = {n % 3 * 20000}",
            f"AllowedIPs = {allowed_ips(n, 2)}",
        )
        for n in range(2000)
    ]
    # Left down, so that it does not try to reach 1,300 peers.
    sh("ip link add wg0 type wireguard")
    sh("wg setconf wg0 /dev/stdin", f"[Interface]\nPrivateKey = {keys()}\n" + "".join(peers))
    assert check_against_wg(scrape_at_rest(exporter)) == 2000


def test_a_peer_with_three_thousand_allowed_ips_is_one_peer(exporter: Exporter) -> None:
    keys = Keys(3)
    wide = [keys() for _ in range(3)]
    peers = [peer(key, f"AllowedIPs = {allowed_ips(n, 3000 if n == 1 else 1)}") for n, key in enumerate(wide)]
    device("wg0", f"[Interface]\nPrivateKey = {keys()}\n" + "".join(peers))
    metrics = scrape_at_rest(exporter)
    assert check_against_wg(metrics) == 3
    assert metrics.one("wireguard_peer_allowed_ips", public_key=wide[1]) == 3000


def test_several_devices_one_of_them_without_a_key_and_the_same_peer_on_two(exporter: Exporter) -> None:
    keys = Keys(4)
    both = keys()
    device("wg0", f"[Interface]\nPrivateKey = {keys()}\nListenPort = 51820\n" + peer(both, "AllowedIPs = 10.1.0.1/32"))
    device("wg1", f"[Interface]\nPrivateKey = {keys()}\n" + peer(both, "AllowedIPs = 10.1.0.2/32"))
    device("wg2", "[Interface]\n")
    metrics = scrape_at_rest(exporter)
    assert check_against_wg(metrics) == 2
    assert metrics.all("wireguard_interface_info", interface="wg2", public_key="")
    assert metrics.one("wireguard_exporter_devices") == 3


def test_handshakes_and_roaming_are_counted_without_any_scrape(exporter: Exporter) -> None:
    made = tunnel("wg0", Keys(5))
    scrape_at_rest(exporter)
    _wait_for_ticks()
    handshake(made)
    _wait_for_ticks()
    metrics = exporter.scrape()
    assert metrics.one("wireguard_peer_handshakes_total", public_key=made.far_key) == 1
    before = metrics.one("wireguard_peer_endpoint_changes_total", public_key=made.far_key)
    sh(f"wg set wg0 peer {made.far_key} endpoint 192.0.2.2:51999")
    _wait_for_ticks()
    after = exporter.scrape().one("wireguard_peer_endpoint_changes_total", public_key=made.far_key)
    assert after == before + 1


def _wait_for_ticks() -> None:
    """Longer than the background tick of 5 s."""
    sh("sleep 6.5")
