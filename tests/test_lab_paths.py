"""The faults of tests/lab/paths.py are what they say: shown with ping and the kernel's counters, without our code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.paths import Path
from tests.lab.together import scenario

if TYPE_CHECKING:
    from tests.lab import Lab

FAMILIES = ("ipv4", "ipv6")
OVERHEAD = {"ipv4": 60, "ipv6": 80}
FRAGMENTS = {"ipv4": "ip frag-off & 0x3fff != 0", "ipv6": "exthdr frag exists"}

both_outside = pytest.mark.parametrize("outer", FAMILIES)
both_inside = pytest.mark.parametrize("inner", FAMILIES)


@both_outside
@scenario()
def test_a_path_carries_whole_packets_outside_and_inside(lab: Lab, outer) -> None:
    path = Path(lab, outer=outer)
    assert path.passes(path.endpoint, 1500)
    for inner in FAMILIES:
        assert path.passes(path.target(inner), 1420)
    assert "mtu" not in path.route(path.endpoint)


@both_outside
@pytest.mark.parametrize("mtu", [1281, 1433])
@scenario()
def test_a_narrow_link_carries_its_mtu_and_its_router_says_so(lab: Lab, outer, mtu) -> None:
    path = Path(lab, outer=outer).narrow(mtu)
    assert path.passes(path.endpoint, mtu)
    said = path.ping(path.endpoint, mtu + 1)
    assert f"From {path.hop(1)} " in said
    assert re.search(rf"mtu ?= ?{mtu}\b", said)


@both_outside
@scenario()
def test_where_too_bigs_are_dropped_nobody_says_anything(lab: Lab, outer) -> None:
    path = Path(lab, outer=outer).narrow(1433).drop_too_big()
    assert path.passes(path.endpoint, 1433)
    said = path.ping(path.endpoint, 1434)
    assert "100% packet loss" in said
    assert "errors" not in said
    assert "mtu" not in path.route(path.endpoint)


@scenario()
def test_a_tunnel_without_df_is_fragmented_by_the_router_and_one_with_df_by_this_host(lab: Lab) -> None:
    path = Path(lab).narrow(1433)
    path.count(path.r, "forward", f"iifname to-a {FRAGMENTS['ipv4']}")
    path.count(path.s, "forward", f"iifname to-r {FRAGMENTS['ipv4']}")
    assert path.passes(path.target(), 1420)
    assert path.counted(path.s) >= 2
    assert path.counted(path.r) == 0
    assert "mtu" not in path.route(path.endpoint)


@scenario()
def test_a_tunnel_with_df_is_fragmented_by_this_host_once_it_was_told(lab: Lab) -> None:
    path = Path(lab, df=True).narrow(1433)
    path.count(path.r, "forward", f"iifname to-a {FRAGMENTS['ipv4']}")
    assert path.passes(path.target(), 100)
    assert "100% packet loss" in path.ping(path.target(), 1420)
    assert "mtu 1433" in path.route(path.endpoint)
    assert path.passes(path.target(), 1420)
    assert path.counted(path.r) >= 2


@both_outside
@scenario()
def test_dropped_fragments_leave_what_fits_in_one_piece(lab: Lab, outer) -> None:
    path = Path(lab, outer=outer).narrow(1440).drop_fragments()
    fitting = 1440 - OVERHEAD[outer]
    assert path.passes(path.target(), fitting - fitting % 16)
    assert not path.passes(path.target(), 1420)
    path.set_mtu(fitting)
    assert path.passes(path.target(), fitting)


@both_outside
@pytest.mark.parametrize(("way", "arrives"), [("towards", False), ("back", True), ("both", False)])
@scenario()
def test_a_hole_takes_what_is_larger_on_its_way_alone(lab: Lab, outer, way, arrives) -> None:
    path = Path(lab, outer=outer).hole(1300, way)
    path.count(path.b, "input", "iifname to-s meta length > 1300")
    assert path.passes(path.endpoint, 1300)
    assert not path.passes(path.endpoint, 1301)
    assert (path.counted(path.b) > 0) is arrives


@both_outside
@both_inside
@scenario()
def test_a_filter_outside_leaves_the_tunnel_and_a_filter_inside_leaves_the_endpoint(lab: Lab, outer, inner) -> None:
    path = Path(lab, outer=outer).filter_icmp("outer")
    assert not path.passes(path.endpoint, 100)
    assert path.passes(path.target(inner), 1420)
    path.mend().filter_icmp("inner")
    assert path.passes(path.endpoint, 100)
    assert not path.passes(path.target(inner), 100)


@both_inside
@scenario()
def test_answers_of_a_far_side_with_a_smaller_mtu_come_in_fragments(lab: Lab, inner) -> None:
    path = Path(lab).far_mtu(1380)
    path.count(path.a, "prerouting", f"iifname {path.near.name} {FRAGMENTS[inner]}")
    assert path.passes(path.target(inner), 1372)
    assert path.counted(path.a) == 0
    assert path.passes(path.target(inner), 1420)
    assert path.counted(path.a) == 2


@both_inside
@scenario()
def test_a_small_link_behind_the_peer_is_told_of_by_the_peer(lab: Lab, inner) -> None:
    path = Path(lab)
    target = path.behind(1307, inner)
    assert path.passes(target, 1307)
    said = path.ping(target, 1308)
    assert f"From {path.target(inner)} " in said
    assert re.search(r"mtu ?= ?1307\b", said)


@scenario()
def test_loss_is_what_ping_misses(lab: Lab) -> None:
    path = Path(lab)
    assert path.passes(path.target(), 100)
    path.loss(20, length=172)  # 100 bytes, padded to 112
    said = path.a.run(["ping", "-q", "-i", "0.01", "-c", "300", "-W", "1", "-s", "72", path.target()], timeout=60)
    sent, received = re.search(r"(\d+) packets transmitted, (\d+) received", said).groups()
    assert int(sent) - int(received) == path.lost()
    assert 25 < path.lost() < 95


@both_outside
@scenario()
def test_a_cut_path_carries_nothing_until_it_is_mended(lab: Lab, outer) -> None:
    path = Path(lab, outer=outer)
    assert path.passes(path.target(), 100)
    path.cut()
    assert not path.passes(path.endpoint, 100)
    assert not path.passes(path.target(), 100)
    path.mend()
    assert path.passes(path.target(), 100)


@scenario()
def test_twins_have_the_same_addresses_and_different_paths(lab: Lab) -> None:
    path = Path(lab)
    twin = path.twin().hole_to_twin(1300)
    for one, whole in ((path, True), (twin, False)):
        assert path.passes(one.target(), 100, device=one.near.name)
        assert path.passes(one.target(), 1420, device=one.near.name) is whole
