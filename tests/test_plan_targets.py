"""Where to aim at a peer: at its own address inside the tunnel, never at another's, and never by a silent guess."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import device, key, peer
from wg_exporter.plan.targets import Origin, Targets, aim, parse

SUBNET = ("10.0.0.1/24", "fd00::1/64")


def target(*allowed, addresses=SUBNET, configured="", others=()):
    peers = [peer(1, allowed_ips=allowed), *(peer(n, allowed_ips=a) for n, a in enumerate(others, 2))]
    return aim(device(*peers), addresses, {key(1): configured})[key(1)]


def test_the_peers_address_in_the_interfaces_subnet_is_the_target():
    assert target("192.168.7.0/24", "203.0.113.5/32", "10.0.0.7/32") == ("10.0.0.7", Origin.IN_SUBNET, "")
    assert target("203.0.113.5/32", "fd00::7/128") == ("fd00::7", Origin.IN_SUBNET, "")


def test_an_only_single_address_outside_the_subnet_is_the_target():
    assert target("10.9.0.7/32", "192.168.7.0/24") == ("10.9.0.7", Origin.ONLY_HOST, "")
    assert target("10.9.0.7/32", addresses=()) == ("10.9.0.7", Origin.ONLY_HOST, "")


def test_of_two_single_addresses_outside_the_subnet_none_is_guessed():
    found = target("10.9.0.7/32", "10.9.0.8/32")
    assert (found.address, found.origin) == ("", Origin.NONE)
    assert "2 single addresses" in found.reason


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("10.0.0.1/30", "10.0.0.2"),
        ("10.0.0.2/30", "10.0.0.1"),
        ("10.0.0.4/31", "10.0.0.5"),
        ("10.0.0.5/31", "10.0.0.4"),
        ("fd00::1/126", "fd00::2"),
        ("fd00::/127", "fd00::1"),
    ],
)
def test_in_a_subnet_of_two_a_peer_with_networks_only_is_the_other_one(own, other):
    assert target("0.0.0.0/0", "::/0", addresses=(own,)) == (other, Origin.DERIVED, "")


@pytest.mark.parametrize("own", ["10.0.0.1/24", "10.0.0.1/32", "10.0.0.0/30", "10.0.0.3/30", "fd00::1/64"])
def test_a_peer_with_networks_only_in_a_larger_subnet_has_no_target(own):
    found = target("0.0.0.0/0", "::/0", addresses=(own,))
    assert (found.address, found.origin) == ("", Origin.NONE)
    assert "name one with `target`" in found.reason


def test_a_subnet_of_two_whose_other_address_is_another_peers_gives_no_target():
    assert target("0.0.0.0/0", addresses=("10.0.0.1/30",), others=[("10.0.0.2/32",)]).origin is Origin.NONE


def test_a_peer_without_allowed_ips_has_no_target():
    assert target().reason == "no allowed IPs: nothing can be sent to this peer"


def test_this_hosts_own_address_is_never_a_target():
    assert target("10.0.0.1/32").origin is Origin.NONE
    assert "own address" in target("10.0.0.0/24", configured="10.0.0.1").reason


def test_a_configured_target_wins_over_all_others():
    assert target("10.0.0.7/32", "192.168.7.0/24", configured="192.168.7.9") == (
        "192.168.7.9",
        Origin.CONFIGURED,
        "",
    )


def test_a_configured_target_of_another_peer_is_refused_for_the_longest_prefix_wins():
    found = target("192.168.0.0/16", configured="192.168.7.9", others=[("192.168.7.0/24",)])
    assert found == (
        "",
        Origin.NONE,
        f"target 192.168.7.9 is in the allowed IPs of another peer, {key(2)[:8]}",
    )
    assert target("192.168.7.9/32", configured="192.168.7.9", others=[("192.168.7.0/24",)]).origin is Origin.CONFIGURED


@pytest.mark.parametrize(
    "text", ["peer.example", "10.0.0", "10.0.0.7/24", "10.0.0.256", "::1::", "10.0.0.7\n", "\uff11.0.0.7"]
)
def test_a_configured_target_that_is_no_address_is_refused(text):
    found = target("0.0.0.0/0", configured=text)
    assert found.origin is Origin.NONE
    assert "is not an IP address" in found.reason
    assert "\n" not in found.reason


def test_a_configured_target_that_no_peer_is_allowed_is_refused():
    assert target("10.0.0.7/32", configured="172.16.0.1").reason == "target 172.16.0.1 is in no peer's allowed IPs"


def test_a_link_local_address_of_the_interface_does_no_harm():
    assert target("10.0.0.7/32", addresses=("fe80::1%wg0/64", "nonsense", "10.0.0.1/24")).origin is Origin.IN_SUBNET


def crowd(number):
    """Peers as on a large hub: an address and a few networks each."""
    return tuple(
        peer(n, allowed_ips=(f"10.{n >> 8}.{n & 255}.1/32", f"fd00::{n:x}/128", f"172.{16 + (n >> 12)}.{n & 255}.0/24"))
        for n in range(number)
    )


def test_ten_thousand_peers_each_have_their_own_and_the_same_mapping_when_nothing_changed():
    targets = Targets()
    hub = device(*crowd(10_000))
    first = targets.of(hub, ("10.255.0.1/8",), {})
    assert len({t.address for t in first.values()}) == 10_000
    assert {t.origin for t in first.values()} == {Origin.IN_SUBNET}
    assert targets.of(hub, ("10.255.0.1/8",), {}) is first


def test_counters_that_move_start_no_new_look():
    targets = Targets()
    first = targets.of(device(peer(1), peer(2)), SUBNET, {})
    assert targets.of(device(peer(1, rx_bytes=9), peer(2)), SUBNET, {}) is first


def test_whatever_a_target_depends_on_starts_a_new_look():
    targets = Targets()
    both = device(peer(1), peer(2))
    first = targets.of(both, SUBNET, {})
    assert targets.of(both, (), {}) is not first
    assert targets.of(both, (), {key(1): "10.0.0.2"})[key(1)].origin is Origin.NONE
    assert set(targets.of(device(peer(1)), (), {})) == {key(1)}
    assert targets.of(device(peer(1, allowed_ips=("10.7.7.7/32",))), (), {})[key(1)].address == "10.7.7.7"


def test_a_change_of_the_configured_targets_in_place_is_seen():
    targets = Targets()
    configured = {}
    one = device(peer(1))
    targets.of(one, SUBNET, configured)
    configured[key(1)] = "10.9.9.9"
    assert targets.of(one, SUBNET, configured)[key(1)].origin is Origin.NONE


def test_devices_that_are_gone_are_forgotten():
    targets = Targets()
    first = targets.of(device(peer(1)), SUBNET, {})
    targets.forget([("", "wg1")])
    assert targets.of(device(peer(1)), SUBNET, {}) is not first


cidrs = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 128)),
    st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.129"]).map(ipaddress.ip_address), st.integers(20, 32)),
).map(lambda pair: str(ipaddress.ip_network(pair, strict=False)))


@given(st.lists(st.lists(cidrs, max_size=4), max_size=5), st.lists(cidrs, max_size=2))
def test_a_target_always_belongs_to_its_peer_by_the_longest_prefix(allowed, addresses):
    peers = [peer(n, allowed_ips=tuple(ips)) for n, ips in enumerate(allowed)]
    for public_key, found in aim(device(*peers), addresses, {}).items():
        assert bool(found.address) is (found.origin is not Origin.NONE) is (not found.reason)
        if not found.address:
            continue
        address = ipaddress.ip_address(found.address)
        holders = [
            (ipaddress.ip_network(net).prefixlen, n, p.public_key)
            for n, p in enumerate(peers)
            for net in p.allowed_ips
            if address in ipaddress.ip_network(net)
        ]
        # Of two peers with the same prefix the later one has it, as in WireGuard itself.
        assert max(holders)[2] == public_key


@given(st.one_of(st.text(max_size=24), cidrs, st.text("0123456789./:af", max_size=20)))
def test_addresses_are_read_as_the_standard_library_reads_them(text):
    try:
        expected = ipaddress.ip_interface(text)
    except ValueError:
        expected = None
    found = parse(text)
    if expected is not None and "%" not in text and str(expected.ip) == text.partition("/")[0]:
        assert found == (expected.version, int(expected.ip), expected.network.prefixlen)
    elif found is not None and expected is not None:
        assert found[1] == int(expected.ip)


@given(st.lists(st.text(max_size=12), max_size=4), st.lists(st.text(max_size=12), max_size=3), st.text(max_size=12))
def test_nonsense_in_any_place_gives_a_reason_and_no_failure(allowed, addresses, configured):
    found = target(*allowed, addresses=tuple(addresses), configured=configured)
    assert "\n" not in found.reason
