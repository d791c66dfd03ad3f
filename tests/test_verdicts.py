"""Every verdict over real tunnels, each with its path MTU and the MTU to set, which then is set and has to be right.

WireGuard here is wireguard-go, which is made to send without DF, as the kernel does, unless a test says `df=True`. The
same faults under the kernel's own WireGuard are in tests/vm/guest/guest_verdicts.py.
"""

from __future__ import annotations

import itertools
import math
import signal
import statistics
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.echoes import Capture
from tests.lab.paths import Path
from tests.lab.probing import Aim, Probing
from tests.lab.together import scenario
from wg_exporter.probed import Verdict
from wg_exporter.prober.mtu.advice import advise
from wg_exporter.prober.mtu.locate import Direction
from wg_exporter.prober.mtu.oracle import Oracle

if TYPE_CHECKING:
    from tests.lab import Lab

FAMILIES = ("ipv4", "ipv6")
OVERHEAD = {"ipv4": 60, "ipv6": 80}
SMALL = {"ipv4": 48, "ipv6": 64}  # bytes of an echo for a round trip

both_outside = pytest.mark.parametrize("outer", FAMILIES)
both_inside = pytest.mark.parametrize("inner", FAMILIES)


def alone(fitting: int) -> int:
    """What may be set on one side, where so much fits: the other side pads to 16 bytes."""
    return fitting // 16 * 16


def applied(probing: Probing, path: Path, mtu: int) -> Verdict:
    """The verdict after somebody has followed the advice on this side alone."""
    path.set_mtu(mtu, far=False)
    probing.refresh()
    report = probing.settled()
    assert (report.interface_mtu, report.path_inner, report.recommended) == (mtu, mtu, mtu)
    return report.verdict


@both_outside
@both_inside
@scenario()
def test_a_whole_path_is_ok(lab: Lab, outer, inner) -> None:
    path = Path(lab, outer=outer)
    with Probing(Aim(path, path.target(inner))) as probing:
        assert probing.report() is None
        report = probing.settled()
        assert report.verdict is Verdict.OK
        assert (report.path_inner, report.path_outer, report.path_slack, report.recommended) == (1420, 1500, 0, 1420)
        assert (report.needed, report.remote, report.shrinks_at) == (1420 + OVERHEAD[outer], None, "")
        probing.until(lambda: probing.probed().stats.up, within=60)


@pytest.mark.parametrize(
    ("mtu", "inner"), [(1347, "ipv4"), (1341, "ipv6"), (1399, "ipv4"), (1433, "ipv6"), (1479, "ipv4")]
)
@scenario()
def test_a_path_that_fragments_is_found_to_the_byte_and_leaves_no_trace_in_the_route_cache(
    lab: Lab, mtu, inner
) -> None:
    path = Path(lab, inner=(inner,)).narrow(mtu)
    before = path.route(path.endpoint), path.route(path.target(inner))
    with Probing(Aim(path)) as probing:
        report = probing.settled()
        assert report.verdict is Verdict.FRAGMENTED_PATH
        assert (report.path_outer, report.path_slack, report.recommended) == (mtu, 0, alone(mtu - 60))
        assert (report.path_inner, report.shrinks_at) == (1420, path.hop(1))
        probing.search()
        assert probing.settled().path_outer == mtu
        assert probing.hop() == path.hop(1)
        assert applied(probing, path, alone(mtu - 60)) is Verdict.OK
    assert (path.route(path.endpoint), path.route(path.target(inner))) == before


@pytest.mark.parametrize(("mtu", "inner"), [(1363, "ipv4"), (1361, "ipv6"), (1433, "ipv4"), (1499, "ipv6")])
@scenario()
def test_over_ipv6_this_host_fragments_once_a_router_told_it_to(lab: Lab, mtu, inner) -> None:
    path = Path(lab, outer="ipv6", inner=(inner,)).narrow(mtu)
    with Probing(Aim(path)) as probing:
        report = probing.settled()
        assert f"mtu {mtu}" in path.route(path.endpoint)
        assert report.verdict is Verdict.FRAGMENTED_LOCAL
        assert (report.path_outer, report.path_slack, report.recommended) == (mtu, 0, alone(mtu - 80))
        assert (report.path_inner, report.shrinks_at) == (1420, path.hop(1))
        assert applied(probing, path, alone(mtu - 80)) is Verdict.OK


@scenario()
def test_wireguard_go_fragments_by_itself_too_once_it_was_told(lab: Lab) -> None:
    path = Path(lab, df=True).narrow(1433)
    with Probing(Aim(path)) as probing:
        report = probing.settled()
        assert "mtu 1433" in path.route(path.endpoint)
        assert report.verdict is Verdict.FRAGMENTED_LOCAL
        assert (report.path_outer, report.path_slack, report.recommended) == (1433, 0, 1360)
        assert applied(probing, path, 1360) is Verdict.OK


@both_outside
@both_inside
@scenario()
def test_an_exit_too_small_for_the_tunnel_is_fragmented_local(lab: Lab, outer, inner) -> None:
    path = Path(lab, outer=outer).narrow_exit(1411)
    with Probing(Aim(path, path.target(inner))) as probing:
        report = probing.settled()
        assert report.verdict is Verdict.FRAGMENTED_LOCAL
        fitting = 1411 - OVERHEAD[outer]
        assert (report.path_outer, report.path_slack, report.recommended) == (1411, 0, alone(fitting))
        assert applied(probing, path, alone(fitting)) is Verdict.OK


@both_outside
@both_inside
@scenario()
def test_dropped_fragments_are_a_black_hole_with_a_known_path_mtu(lab: Lab, outer, inner) -> None:
    path = Path(lab, outer=outer).narrow(1437).drop_fragments()
    with Probing(Aim(path, path.target(inner))) as probing:
        report = probing.settled()
        assert report.verdict is Verdict.BLACKHOLE
        fitting = 1437 - OVERHEAD[outer]
        assert (report.path_outer, report.path_slack, report.recommended) == (1437, 0, alone(fitting))
        assert fitting - 15 <= report.path_inner <= fitting
        assert report.shrinks_at == path.hop(1)
        assert applied(probing, path, alone(fitting)) is Verdict.OK


@both_outside
@scenario()
def test_a_silent_hole_is_found_to_the_byte_where_the_endpoint_answers(lab: Lab, outer) -> None:
    path = Path(lab, outer=outer, df=True).narrow(1443).drop_too_big()
    with Probing(Aim(path)) as probing:
        report = probing.settled()
        assert report.verdict is Verdict.BLACKHOLE
        fitting = 1443 - OVERHEAD[outer]
        assert (report.path_outer, report.path_slack, report.recommended) == (1443, 0, alone(fitting))
        assert probing.hop() == path.hop(1)
        assert applied(probing, path, alone(fitting)) is Verdict.OK


@both_outside
@scenario()
def test_a_packet_too_big_alone_tells_the_path_mtu_of_a_mute_endpoint(lab: Lab, outer) -> None:
    path = Path(lab, outer=outer).narrow(1427).drop_fragments().filter_icmp("outer")
    with Probing(Aim(path)) as probing:
        report = probing.settled()
        assert report.verdict is Verdict.BLACKHOLE
        fitting = 1427 - OVERHEAD[outer]
        assert (report.path_outer, report.path_slack, report.recommended) == (1427, 0, alone(fitting))
        assert applied(probing, path, alone(fitting)) is Verdict.OK


@both_outside
@pytest.mark.parametrize("mtu", [1433, 1455])
@scenario()
def test_a_silent_hole_before_a_mute_endpoint_is_known_up_to_the_padding(lab: Lab, outer, mtu) -> None:
    path = Path(lab, outer=outer, df=True).narrow(mtu).drop_too_big().filter_icmp("outer")
    with Probing(Aim(path)) as probing:
        report = probing.settled()
        assert report.verdict is Verdict.BLACKHOLE
        assert report.path_outer <= mtu <= report.path_outer + report.path_slack
        assert (report.path_slack, report.recommended) == (15, report.path_outer - OVERHEAD[outer])
        assert applied(probing, path, report.recommended) is Verdict.OK


@pytest.mark.parametrize("limit", [128, 1024, 1300])
@scenario(seconds=15)
def test_a_peer_that_drops_large_echoes_is_no_hole(lab: Lab, limit) -> None:
    path = Path(lab).drop_echoes(limit)
    with Probing(Aim(path)) as probing:
        report = probing.settled(within=60)
        assert (report.verdict, report.recommended) == (Verdict.FILTERED_LARGE, None)
        assert probing.findings().direction is Direction.BACK, "UDP of full size was refused, so it arrived"
        if limit == 1300:
            path.hole(1401, "towards")
            probing.search()
            probing.until(lambda: probing.report().verdict is Verdict.BLACKHOLE, within=60)


@scenario(seconds=15)
def test_a_firewall_behind_the_peer_that_refuses_datagrams_proves_that_they_passed_the_tunnel(lab: Lab) -> None:
    path = Path(lab)
    target = path.behind(1500)
    path.firewall_behind(1024)
    with Probing(Aim(path, target)) as probing:
        report = probing.settled(within=60)
        assert (report.verdict, report.recommended) == (Verdict.FILTERED_LARGE, None)
        assert probing.findings().direction is Direction.BACK


@pytest.mark.parametrize("limit", [1280, 1472])
@both_outside
@scenario()
def test_an_endpoint_that_drops_large_echoes_fragments_nothing(lab: Lab, outer, limit) -> None:
    path = Path(lab, outer=outer).drop_echoes(limit, "outer")
    with Probing(Aim(path)) as probing:
        report = probing.settled()
        assert (report.verdict, report.recommended, report.path_outer) == (Verdict.OK, 1420, None)


@both_outside
@both_inside
@pytest.mark.parametrize(("way", "direction"), [("towards", Direction.TOWARDS), ("back", Direction.BACK)])
@scenario()
def test_the_direction_of_a_hole_is_told(lab: Lab, outer, inner, way, direction) -> None:
    path = Path(lab, outer=outer).hole(1401, way)
    with Probing(Aim(path, path.target(inner))) as probing:
        assert probing.settled().verdict is Verdict.BLACKHOLE
        assert probing.findings().direction is direction


@scenario()
def test_the_direction_is_left_open_where_a_refusal_would_not_come_back(lab: Lab) -> None:
    path = Path(lab).hole(1300, "back")  # ICMPv6 errors have 1280 bytes, 1340 in the tunnel
    with Probing(Aim(path, path.target("ipv6"))) as probing:
        assert probing.settled().verdict is Verdict.BLACKHOLE
        assert probing.findings().direction is not Direction.TOWARDS


@both_outside
@both_inside
@scenario()
def test_a_smaller_mtu_at_the_far_side_shows_in_the_fragments_of_its_answers(lab: Lab, outer, inner) -> None:
    path = Path(lab, outer=outer).far_mtu(1382)
    with Probing(Aim(path, path.target(inner))) as probing:
        report = probing.settled()
        assert report.verdict is Verdict.REMOTE_SMALLER
        assert report.remote <= 1382 <= report.remote + 7
        assert (report.recommended, report.path_outer) == (report.remote, 1500)
        path.set_mtu(report.recommended, far=False)
        probing.refresh()
        assert probing.settled().verdict is Verdict.OK


@both_outside
@both_inside
@scenario()
def test_a_small_link_behind_the_peer_is_told_from_the_path_under_the_tunnel(lab: Lab, outer, inner) -> None:
    path = Path(lab, outer=outer)
    target = path.behind(1307, inner)
    before = path.route(target)
    with Probing(Aim(path, target)) as probing:
        report = probing.settled()
        assert report.verdict is Verdict.INNER_PATH_SMALLER
        assert (report.path_inner, report.recommended, report.path_outer) == (1307, 1307, 1500)
        assert report.shrinks_at == path.target(inner)
        if inner == "ipv4":
            assert path.route(target) == before
        assert applied(probing, path, 1307) is Verdict.OK


@both_outside
@both_inside
@scenario()
def test_a_size_that_this_host_refuses_is_interface_above_route(lab: Lab, outer, inner) -> None:
    path = Path(lab, outer=outer)
    target = path.target(inner)
    path.a.ip("route", "replace", target, "dev", path.near.name, "mtu", "lock", "1333")
    with Probing(Aim(path, target)) as probing:
        report = probing.settled()
        assert report.verdict is Verdict.INTERFACE_ABOVE_ROUTE
        assert report.recommended == 1333
        assert applied(probing, path, 1333) is Verdict.OK


@both_outside
@scenario(seconds=35)
def test_a_peer_that_stops_answering_small_and_big_alike_is_unreachable(lab: Lab, outer) -> None:
    path = Path(lab, outer=outer)
    with Probing(Aim(path)) as probing:
        assert probing.settled().verdict is Verdict.OK
        path.cut()
        seen = set()

        def unreachable() -> bool:
            seen.add(probing.report().verdict)
            return Verdict.UNREACHABLE in seen

        probing.until(unreachable, within=60)
        assert seen <= {Verdict.OK, Verdict.INCONCLUSIVE, Verdict.UNREACHABLE}
        assert probing.report().recommended is None
        assert not probing.probed().stats.up
        path.mend()
        probing.until(lambda: probing.report().verdict is Verdict.OK, within=60)


@scenario(seconds=30)
def test_a_peer_that_never_answered_is_unreachable(lab: Lab) -> None:
    path = Path(lab).cut()
    with Probing(Aim(path)) as probing:
        probing.until(lambda: (report := probing.report()) and report.verdict is Verdict.UNREACHABLE, within=60)


@both_outside
@scenario(seconds=15)
def test_a_peer_that_lives_but_answers_no_probe_is_filtered(lab: Lab, outer) -> None:
    path = Path(lab, outer=outer).filter_icmp("inner")
    with Probing(Aim(path)) as probing:
        report = probing.settled(within=60)
        assert (report.verdict, report.path_outer) == (Verdict.FILTERED, 1500)


@scenario(seconds=25)
def test_a_living_peer_that_used_to_answer_and_no_longer_does_is_inconclusive(lab: Lab) -> None:
    path = Path(lab)
    with Probing(Aim(path)) as probing:
        assert probing.settled().verdict is Verdict.OK
        path.filter_icmp("inner")
        probing.until(lambda: probing.report().verdict is Verdict.INCONCLUSIVE, within=60)
        probing.run(3)
        assert (probing.report().verdict, probing.report().recommended) == (Verdict.INCONCLUSIVE, None)


@scenario(seconds=15)
def test_a_hole_on_a_path_that_loses_five_packets_of_six_is_inconclusive(lab: Lab) -> None:
    path = Path(lab)
    with Probing(Aim(path)) as probing:
        assert probing.settled().verdict is Verdict.OK
        path.loss(60, "both").hole(1300)
        probing.search()
        probing.until(lambda: probing.report().verdict is Verdict.INCONCLUSIVE, within=60)
        assert probing.report().recommended is None


@scenario(seconds=140)
def test_the_byte_counters_tell_that_full_packets_reach_a_silent_peer(lab: Lab) -> None:
    path = Path(lab).filter_icmp("inner")
    with Probing(Aim(path)) as probing:
        assert probing.settled(within=60).verdict is Verdict.FILTERED
        probing.ask_silent()
        report = probing.settled(within=200)
        assert probing.findings().oracle is Oracle.ARRIVES
        assert (report.verdict, report.recommended) == (Verdict.FILTERED, 1420)


@scenario(seconds=150)
def test_the_byte_counters_tell_of_a_hole_before_a_silent_peer(lab: Lab) -> None:
    path = Path(lab).hole(1400, "towards").filter_icmp("inner").filter_icmp("outer")
    with Probing(Aim(path)) as probing:
        assert probing.settled(within=60).verdict is Verdict.FILTERED
        probing.ask_silent()
        report = probing.settled(within=200)
        assert probing.findings().oracle is Oracle.LOST
        assert (report.verdict, report.recommended) == (Verdict.BLACKHOLE, None)


@scenario(seconds=60)
def test_the_byte_counters_of_a_tunnel_in_use_tell_nothing(lab: Lab) -> None:
    path = Path(lab).filter_icmp("inner")
    lab.start(["ping", "-q", "-i", "3", path.near_target()], log="ping", namespace=path.b)
    with Probing(Aim(path)) as probing:
        assert probing.settled(within=60).verdict is Verdict.FILTERED
        probing.ask_silent()
        assert probing.settled(within=200).verdict is Verdict.INCONCLUSIVE
        assert probing.findings().oracle is Oracle.INCONCLUSIVE


@both_outside
@scenario()
def test_outer_probes_pass_by_a_tunnel_that_takes_everything(lab: Lab, outer) -> None:
    path = Path(lab, outer=outer, fwmark=51820, everything=True).take_everything()
    assert path.near.name in path.route(path.endpoint)
    path.count(path.a, "output", f"oifname {path.near.name} {'ip' if outer == 'ipv4' else 'ip6'} daddr {path.endpoint}")
    with Probing(Aim(path, fwmark=0)) as probing:
        probing.settled()
    astray = path.counted(path.a)
    assert astray > 0, "without the mark they go into it"
    path.narrow(1433)
    with Probing(Aim(path)) as probing:
        report = probing.settled()
        assert (report.path_outer, report.path_slack, report.recommended) == (1433, 0, alone(1433 - OVERHEAD[outer]))
    assert path.counted(path.a) == astray


@scenario()
def test_two_devices_with_the_same_addresses_are_judged_apart(lab: Lab) -> None:
    path = Path(lab)
    twin = path.twin()
    twin.hole_to_twin(1300)
    with Probing(Aim(path), Aim(twin)) as probing:
        probing.settled()
        verdicts = [probing.report(place).verdict for place in (0, 1)]
        assert verdicts == [Verdict.OK, Verdict.BLACKHOLE]


@scenario()
def test_advice_for_a_path_too_small_for_ipv6_is_not_the_command_that_takes_the_addresses(lab: Lab) -> None:
    path = Path(lab).narrow(1311)
    with Probing(Aim(path)) as probing:
        report = probing.settled()
        assert (report.verdict, report.path_outer, report.recommended) == (Verdict.FRAGMENTED_PATH, 1311, None)
        advice = advise(probing.findings())
        assert not any("ip link" in command for command in advice.commands)
        assert all("--set-mss" in command for command in advice.commands)
        assert "fd00:9::1" in path.a.ip("address", "show", path.near.name)
        path.set_mtu(1251, far=False)  # what the command would have done
        assert "fd00:9::1" not in path.a.ip("address", "show", path.near.name)


@both_inside
@scenario(seconds=8)
def test_a_round_trip_is_that_of_the_same_echo_in_a_capture(lab: Lab, inner) -> None:
    path = Path(lab)
    capture = Capture(lab, path.near)
    told: dict[int, float] = {}  # the last round trip, by how many there were
    looks, stopped = itertools.count(), 0.0  # until when the far side sleeps
    with Probing(Aim(path, path.target(inner), interval=0.05)) as probing:
        probing.settled()

        def enough() -> bool:
            # The far side sleeps now and then, so that there are long round trips as well as short ones.
            nonlocal stopped
            if time.monotonic() >= stopped:
                sleeps = not next(looks) % 4
                stopped = time.monotonic() + 0.06 if sleeps else 0.0
                path.far.process.send_signal(signal.SIGSTOP if sleeps else signal.SIGCONT)
            stats = probing.probed().stats
            if stats.sent:
                told[stats.sent] = stats.rtt_last
            return len(told) >= 60

        probing.until(enough, within=60)
        stats = probing.probed().stats
    captured = capture.round_trips(SMALL[inner], stats.sent)[: stats.sent]
    assert stats.lost == 0
    # The kernel stamps an answer once, for the prober and the capture alike. A probe is stamped by the prober before
    # it leaves: a moment earlier than in the capture, and longer only where the prober lost the processor in between.
    earlier = [rtt - captured[count - 1] for count, rtt in told.items()]
    assert min(earlier) > -0.000_005  # stamps in a capture are in microseconds
    assert statistics.median(earlier) < 0.000_5
    assert max(captured) > 0.02
    assert stats.rtt_sum > sum(captured) - 0.000_005 * stats.sent
    assert stats.rtt_min > min(captured) - 0.000_005


@scenario(seconds=25)
def test_loss_is_what_the_firewall_dropped(lab: Lab) -> None:
    path = Path(lab)
    assert path.passes(path.target(), 100)
    path.loss(8, length=108)  # a small echo: 48 bytes and what WireGuard adds
    path.count(path.r, "forward", "iifname to-a meta l4proto udp meta length 108")
    with Probing(Aim(path, interval=0.02)) as probing:
        probing.run(20)
        seen, dropped = path.counted(path.r), path.lost()
        path.mend()
        probing.run(3.5)
        probing.until(lambda: probing.probed().stats.lost >= dropped, within=60)
        stats = probing.probed().stats
        sent = path.counted(path.r)
    assert stats.lost == dropped
    assert seen > 500  # 1000, where nothing holds them up
    assert abs(dropped - 0.08 * seen) < 4.5 * math.sqrt(seen * 0.08 * 0.92)
    assert 0.9 * sent < stats.sent <= sent
