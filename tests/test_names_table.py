"""Names and expectations are kept: right after every change, and the same objects where nothing changed."""

from __future__ import annotations

import pytest

from tests.rows import conf_file, declared, device, key, peer, snapshot
from wg_exporter.config import Config, Expected, ExpectRule, PeerConfig
from wg_exporter.history.devices import changes
from wg_exporter.names.identity import Identity
from wg_exporter.names.table import Names

CONFIG = Config(
    peers=(PeerConfig(key(1), name="anna"), PeerConfig(key(2), interface="wg1", name="only wg1")),
    expect=(ExpectRule(Expected.ANY, allowed_ip="10.99.0.0/16"),),
)


def fresh(row, conf=(), config=CONFIG):
    """What a table that never saw anything would say."""
    identity = Identity(config, conf)
    return tuple(identity.meta(row.netns, row.name, p) for p in row.peers)


@pytest.fixture
def names():
    return Names(CONFIG)


def test_each_peer_gets_its_own_name_in_the_order_of_the_device(names):
    metas = names.metas(device(peer(3), peer(1), peer(2)))
    assert [(meta.name, meta.named) for meta in metas] == [(key(3)[:8], False), ("anna", True), (key(2)[:8], False)]
    assert [meta.name for meta in names.metas(device(peer(2), name="wg1"))] == ["only wg1"]


def test_the_same_list_comes_back_while_only_counters_move(names):
    before = (peer(1), peer(2), peer(3))
    first = names.metas(device(*before))
    assert names.metas(device(*before)) is first
    moved = (before[0], before[1]._replace(rx_bytes=9, tx_bytes=9, last_handshake_ns=9, endpoint="[::1]:1"), before[2])
    assert names.metas(device(*moved)) is first
    same = device(*before).peers
    assert names.metas(device(*moved)._replace(peers=device(*moved).peers.sharing(same))) is first


def test_a_peer_whose_keepalive_or_allowed_ips_change_is_judged_again_and_the_others_keep_their_objects(names):
    one, two = peer(1), peer(2)
    first = names.metas(device(one, two))
    off = two._replace(persistent_keepalive=0)
    second = names.metas(device(one, off))
    assert [meta.expected_up for meta in second] == [True, False]
    third = names.metas(device(one._replace(allowed_ips=("10.99.0.1/32",)), off))
    assert [meta.expected_up for meta in third] == [False, False]
    assert second[0] is first[0]
    assert third[1] is second[1]


def test_peers_that_come_go_and_trade_places_keep_their_own_names(names):
    one, two = peer(1, allowed_ips=()), peer(2, allowed_ips=())
    three = peer(3, persistent_keepalive=0)
    for peers in ((one, two), (two, one), (two,), (two, three, one), (three, one), ()):
        row = device(*peers)
        assert tuple(names.metas(row)) == fresh(row)


def test_a_renamed_device_and_its_namesake_in_another_namespace_are_asked_for_on_their_own(names):
    row = device(peer(2))
    for changed in (row, row._replace(name="wg1"), row._replace(netns="blue"), row):
        assert tuple(names.metas(changed)) == fresh(changed)


def test_files_that_changed_are_heeded_at_once_and_unchanged_ones_cost_nothing(names):
    row = device(peer(2), peer(3))
    before = names.metas(row)
    names.use(())
    assert names.metas(row) is before
    conf = (conf_file("wg0", declared(3, "carl")),)
    names.use(conf)
    assert tuple(names.metas(row)) == fresh(row, conf)
    after = names.metas(row)
    names.use(conf)
    assert names.metas(row) is after


def test_a_device_that_is_gone_is_not_kept(names):
    wg0, wg1 = device(peer(1)), device(peer(2), name="wg1")
    first, other = names.metas(wg0), names.metas(wg1)
    names.follow(changes({}, snapshot(wg0)))
    assert names.metas(wg0) is first
    assert names.metas(wg1) is not other
    assert tuple(names.metas(wg1)) == other
