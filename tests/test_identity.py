"""What peers are called, and which of them should always be up."""

from __future__ import annotations

import pytest

from tests.rows import conf_file, declared, key, peer
from wg_exporter.config import Config, Expected, ExpectRule, PeerConfig
from wg_exporter.model import ConfFile
from wg_exporter.names.identity import Identity, PeerMeta

UP, ANY, AUTO = Expected.UP, Expected.ANY, Expected.AUTO


def rule(state, **conditions):
    return ExpectRule(state, **conditions)


def expected(row, *rules, conf=(), interface="wg0", netns="", name=None):
    peers = (PeerConfig(row.public_key, name=name),) if name else ()
    return Identity(Config(expect=rules, peers=peers), conf).meta(netns, interface, row).expected_up


# --- names ------------------------------------------------------------------------------------------------------------

FILES = (conf_file("wg1", declared(1, "in wg1")), conf_file("wg0", declared(1, "in wg0")))
ANYWHERE = PeerConfig(key(1), name="config")
ON_WG0 = PeerConfig(key(1), interface="wg0", name="config wg0")


@pytest.mark.parametrize(
    ("peers", "conf", "found"),
    [
        ((ANYWHERE, ON_WG0), FILES, "config wg0"),
        ((ON_WG0, ANYWHERE), FILES, "config wg0"),
        ((ANYWHERE,), FILES, "config"),
        ((PeerConfig(key(1), interface="wg9", name="elsewhere"),), FILES, "in wg0"),
        ((PeerConfig(key(1), target="10.0.0.1"), PeerConfig(key(2), name="other peer")), FILES, "in wg0"),
        ((), FILES, "in wg0"),
        ((), FILES[:1], "in wg1"),
        ((), (conf_file("wg0", declared(1)), conf_file("", declared(1, "notes"), path="/root/names")), "notes"),
        ((), (conf_file("", declared(1, "first")), conf_file("", declared(1, "second"))), "first"),
    ],
)
def test_the_nearest_name_wins(peers, conf, found):
    row = peer(1, persistent_keepalive=0)
    assert Identity(Config(peers=peers), conf).meta("", "wg0", row) == PeerMeta(found, True, False)


def test_a_peer_that_nobody_named_is_called_after_its_key_and_is_known_to_be_unnamed():
    meta = Identity(Config(), (conf_file("wg0", declared(2, "another")),)).meta(
        "", "wg0", peer(1, persistent_keepalive=0)
    )
    assert meta == PeerMeta(key(1)[:8], False, False)


def test_an_entry_without_a_name_does_not_hide_a_name_of_the_same_peer():
    config = Config(peers=(PeerConfig(key(1), interface="wg0", target="10.0.0.1"), ANYWHERE))
    assert Identity(config, ()).meta("", "wg0", peer(1)).name == "config"


# --- expected up: without rules ---------------------------------------------------------------------------------------

DESCRIBED = (conf_file("wg0", declared(1, endpoint="vpn.example:51820"), declared(2)),)


def test_without_a_file_keepalive_alone_decides():
    assert expected(peer(1))
    assert not expected(peer(1, persistent_keepalive=0))


def test_with_a_file_the_peer_must_also_have_an_endpoint_there():
    assert expected(peer(1), conf=DESCRIBED)
    assert not expected(peer(1, persistent_keepalive=0), conf=DESCRIBED)
    assert not expected(peer(2), conf=DESCRIBED)


def test_a_peer_that_the_file_of_its_device_does_not_know_is_not_expected():
    assert not expected(peer(3), conf=DESCRIBED)


def test_a_file_of_another_device_or_of_none_or_without_peers_does_not_decide():
    assert expected(peer(2), conf=(conf_file("wg1", declared(2)),))
    assert expected(peer(2), conf=(conf_file("", declared(2), path="/root/names"),))
    assert expected(peer(2), conf=(ConfFile("/etc/wireguard/wg0.conf", "wg0", (), ("no permission",)),))


def test_an_endpoint_that_another_devices_file_gives_does_not_count():
    conf = (conf_file("wg0", declared(1)), conf_file("wg1", declared(1, endpoint="vpn.example:51820")))
    assert not expected(peer(1), conf=conf)


def test_a_file_describes_the_device_of_this_namespace_not_its_namesake_in_another():
    assert not expected(peer(2), conf=DESCRIBED)
    assert expected(peer(2), conf=DESCRIBED, netns="blue")


def test_two_files_of_one_device_complete_each_other():
    """A host on its way from wg-quick to systemd-networkd has both, and neither order may lose what the other says."""
    bare, full = conf_file("wg0", declared(1)), conf_file("wg0", declared(1, "hub", "vpn.example:51820"))
    stranger = conf_file("wg1", declared(1, "elsewhere"))
    for conf in ((stranger, bare, full), (full, bare, stranger)):
        assert Identity(Config(), conf).meta("", "wg0", peer(1)) == PeerMeta("hub", True, True)


# --- expected up: rules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ((rule(ANY, public_key=key(1)), rule(UP)), False),
        ((rule(UP, public_key=key(1)), rule(ANY)), True),
        ((rule(UP, public_key=key(2)), rule(ANY)), False),
        ((rule(AUTO, interface="wg*"), rule(ANY)), True),  # the keepalive decides, and no later rule
        ((rule(ANY, interface="wg1"),), True),  # no rule matches: auto
        ((rule(ANY, interface="wg?"),), False),
        ((rule(ANY, interface="WG0"),), True),
        ((rule(ANY, interface="wg0", public_key=key(2)),), True),  # all conditions must hold
        ((rule(ANY, interface="wg0", public_key=key(1)),), False),
    ],
)
def test_the_first_rule_that_matches_decides(rules, found):
    assert expected(peer(1), *rules) is found


def test_up_and_any_ask_neither_keepalive_nor_file():
    assert expected(peer(2, persistent_keepalive=0), rule(UP), conf=DESCRIBED)
    assert not expected(peer(1), rule(ANY), conf=DESCRIBED)


def test_auto_in_a_rule_is_what_holds_without_one():
    assert expected(peer(1), rule(AUTO), conf=DESCRIBED)
    assert not expected(peer(2), rule(AUTO), rule(UP), conf=DESCRIBED)


def test_a_name_pattern_matches_real_names_only():
    key_like = rule(ANY, name=key(1)[:8])
    assert expected(peer(1), key_like)
    assert expected(peer(1), rule(ANY, name=f"{key(1)[0]}*"))
    assert not expected(peer(1), rule(ANY, name="phone-*"), name="phone-anna")
    assert expected(peer(1), rule(ANY, name="phone-*"), name="laptop")
    assert not expected(peer(1), rule(ANY, name="*"))  # the one pattern that a nameless peer matches


def test_a_name_from_a_file_is_matched_too():
    conf = (conf_file("", declared(1, "phone-anna"), path="/root/names"),)
    assert not expected(peer(1), rule(ANY, name="phone-*"), conf=conf)


@pytest.mark.parametrize(
    ("network", "allowed", "found"),
    [
        ("10.0.0.0/8", ("10.1.2.3/32",), True),
        ("10.0.0.0/8", ("10.0.0.0/8",), True),
        ("10.0.0.0/8", ("0.0.0.0/0",), False),
        ("10.0.0.0/8", ("11.0.0.1/32",), False),
        ("10.0.0.0/8", ("fd00::1/128", "10.9.9.9/32"), True),
        ("10.0.0.0/8", (), False),
        ("10.0.0.0/8", ("fd00::1/128",), False),
        ("fd00::/8", ("fd00:1::/64",), True),
        ("fd00::/8", ("10.1.2.3/32",), False),
        ("::/0", ("10.1.2.3/32",), False),
        ("fd00:1::/64", ("fd00::/8",), False),
        ("10.1.0.0/16", ("10.1.2.3/24",), True),  # host bits, as a userspace daemon could report them
    ],
)
def test_a_network_condition_wants_one_allowed_ip_within_it(network, allowed, found):
    row = peer(1, allowed_ips=allowed, persistent_keepalive=0)
    assert expected(row, rule(UP, allowed_ip=network)) is found
