"""The MTU machine against simulated paths: right verdict, exact size, no false alarm, nothing to be had by lying."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pathsim import HOUR, Path, World
from wg_exporter.config import MtuProbe, ProbeSettings
from wg_exporter.probed import SendError, Verdict
from wg_exporter.prober.mtu.advice import advise
from wg_exporter.prober.mtu.locate import Direction
from wg_exporter.prober.mtu.machine import PathMtu
from wg_exporter.prober.mtu.probes import (
    SMALL,
    Layer,
    LocalTooBig,
    NotSent,
    Passed,
    Patience,
    ProbeKind,
    Refused,
    Route,
    TimeExceeded,
    TooBig,
    Want,
)
from wg_exporter.prober.mtu.search import ROUND_BYTES, SENDS, Pace, Search
from wg_exporter.prober.mtu.verdict import recommended_together

EVERY_VERDICT = {
    "ok": (Path(), Verdict.OK),
    "ok_though_the_endpoint_answers_no_echo": (Path(endpoint_echoes=False), Verdict.OK),
    "fragments_leave_this_host": (Path(links=(1400, 1500)), Verdict.FRAGMENTED_LOCAL),
    "this_host_was_told_of_a_small_path": (Path(cached=1400), Verdict.FRAGMENTED_LOCAL),
    "a_router_fragments": (Path(links=(1500, 1433, 1500)), Verdict.FRAGMENTED_PATH),
    "a_router_fragments_the_endpoint_is_mute": (
        Path(links=(1500, 1433), endpoint_echoes=False),
        Verdict.FRAGMENTED_PATH,
    ),
    "a_mute_router_fragments": (Path(links=(1500, 1433), says=False), Verdict.OK),  # nobody can tell
    "far_mtu_smaller": (Path(far_mtu=1380), Verdict.REMOTE_SMALLER),
    "fragments_dropped": (Path(links=(1500, 1433), drops_fragments=True), Verdict.BLACKHOLE),
    "fragments_dropped_in_silence": (Path(links=(1500, 1433), drops_fragments=True, says=False), Verdict.BLACKHOLE),
    "userspace_sets_df": (Path(links=(1500, 1433), df=True), Verdict.BLACKHOLE),
    "hole_towards_the_peer": (Path(hole_towards=1400), Verdict.BLACKHOLE),
    "hole_on_the_way_back": (Path(hole_back=1400), Verdict.BLACKHOLE),
    "smaller_behind_the_peer": (Path(behind=1391), Verdict.INNER_PATH_SMALLER),
    "smaller_behind_the_peer_in_silence": (Path(behind=1391, behind_says=False), Verdict.BLACKHOLE),
    "route_to_the_target_smaller": (Path(local_route=1391), Verdict.INTERFACE_ABOVE_ROUTE),
    "peer_gone": (Path(alive=False), Verdict.UNREACHABLE),
    "peer_mute": (Path(peer_echoes=False, refuses=False), Verdict.FILTERED),
    "large_echoes_dropped": (Path(echo_limit=1024), Verdict.FILTERED_LARGE),
    "large_echoes_dropped_and_no_datagram_refused": (Path(echo_limit=1300, refuses=False), Verdict.FILTERED_LARGE),
    "large_echoes_dropped_outside_alone": (Path(outer_echo_limit=1300), Verdict.OK),
    "hole_on_the_way_back_the_endpoint_is_mute": (
        Path(hole_back=1400, endpoint_echoes=False),
        Verdict.FILTERED_LARGE,
    ),
    "small_ones_lossy_too": (Path(loss=0.65, hole_towards=1400), Verdict.INCONCLUSIVE),
}

# Where a number is to be set; of the others nothing is known.
CURABLE = [
    name
    for name, (_, verdict) in EVERY_VERDICT.items()
    if verdict not in (Verdict.UNREACHABLE, Verdict.INCONCLUSIVE, Verdict.FILTERED, Verdict.FILTERED_LARGE)
]


def settled(path, **kwargs):
    world = World(path, **kwargs)
    world.run(0.5)
    world.settle()
    return world


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("name", EVERY_VERDICT)
def test_every_verdict_is_reached(name, ipv6):
    path, verdict = EVERY_VERDICT[name]
    # Over IPv6 this host does the fragmenting, once a router has told it to; routers never do.
    if ipv6:
        path = Path(**{**path.__dict__, "ipv6": True})
        if path.hole_towards == path.hole_back and path.outer_mtu < 1500 and not path.says:
            verdict = Verdict.BLACKHOLE  # nobody tells this host to fragment
        elif verdict is Verdict.FRAGMENTED_PATH:
            verdict = Verdict.FRAGMENTED_LOCAL
    world = settled(path, seed=3)
    world.watch(30)
    assert world.report().verdict is verdict


def test_nothing_is_known_before_the_first_probe():
    report = World(Path()).report()
    assert report.verdict is Verdict.UNKNOWN
    assert (report.checked, report.recommended, report.path_inner) == (0.0, None, None)


def test_the_last_check_is_stamped_with_when_a_pair_became_known_and_not_with_now():
    world = World(Path(), settings=ProbeSettings(mtu=MtuProbe(inner_interval=3600.0)))
    world.run(1)
    wall = world.report().checked
    assert wall == pytest.approx(1.7e9 - 1, abs=0.2)
    world.run(20)
    assert world.report().checked == pytest.approx(wall - 20, abs=0.01), "the wall clock stands still here"


def search_rounds(world):
    """Bytes of searching within any 50 ms."""
    most = 0
    window = []
    for when, send in world.sent:
        window = [(w, s) for w, s in window if when - w < 0.05]
        window.append((when, send.size))
        most = max(most, sum(size for _, size in window))
    return most


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize(
    ("says", "echoes", "drops"),
    [(True, True, False), (True, False, False), (False, True, False), (True, True, True), (False, True, True)],
)
def test_the_path_mtu_is_exact_for_every_size_where_anything_answers(says, echoes, drops, ipv6):
    for size in range(1280 + 80 * ipv6, 1501):
        path = Path(links=(1500, size, 1500), says=says, endpoint_echoes=echoes, drops_fragments=drops, ipv6=ipv6)
        world = World(path)
        world.run(0.5)
        took = world.settle()
        report = world.report()
        full = path.mtu + path.overhead
        # From a mute endpoint nothing comes back at all, where the path carries everything that this host can send.
        # And where fragments pass and no router says anything, large echoes outside may just be dropped.
        hidden = not says and not drops and not ipv6 and size < full
        expected = None if hidden or (size == 1500 and not echoes) else size
        assert (report.path_outer, report.path_slack) == (expected, 0), path
        fits = size >= full or hidden
        assert (report.verdict is Verdict.OK) == fits, path
        assert report.recommended == (path.mtu if fits else (size - path.overhead) // 16 * 16), path
        if says and echoes and not drops and not ipv6:
            assert took <= 3 * path.rtt + 1, path
        assert took < (7 if size == full - 1 or size == 1499 else 3), path


def test_from_inside_alone_the_path_mtu_lies_in_the_padding_that_is_told():
    for size in range(1280, 1480):
        path = Path(links=(1500, size), says=False, endpoint_echoes=False, drops_fragments=True)
        report = settled(path).report()
        assert report.verdict is Verdict.BLACKHOLE
        assert report.path_slack == 15
        assert report.path_outer <= size <= report.path_outer + 15
        assert report.recommended == report.path_inner == report.path_outer - 60


def test_two_narrow_links_behind_each_other_are_both_found():
    for first in (1491, 1433):
        for second in (1432, 1401, 1290):
            world = World(Path(links=(1500, first, second, 1500)))
            world.run(0.5)
            assert world.settle() <= 3 * 0.04 + 1
            report = world.report()
            assert (report.path_outer, report.shrinks_at) == (second, "192.0.2.2")


def test_jumbo_paths_are_exact_too():
    for size in (8999, 4567, 1500, 1280):
        path = Path(links=(9000, size), mtu=8920, far_mtu=8920)
        assert settled(path).report().path_outer == size


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("name", CURABLE)
def test_a_recommendation_that_is_applied_here_alone_or_on_both_sides_makes_it_ok(name, ipv6, both):
    path = Path(**{**EVERY_VERDICT[name][0].__dict__, "ipv6": ipv6})
    world = settled(path)
    world.run(30)
    recommended = world.report().recommended
    after = Path(**{**path.__dict__, "mtu": recommended, "cached": None})
    if both:
        recommended = after.mtu = after.far_mtu = recommended_together(world.machine.findings(world.now))
    world = settled(after)
    assert world.report().verdict is Verdict.OK
    assert world.report().recommended == recommended


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("loss", [0.05, 0.2, 0.4])
def test_ten_thousand_probes_over_a_lossy_clean_path_never_look_like_a_hole(loss, seed):
    per_way = 1 - (1 - loss) ** 0.5
    world = World(Path(loss=per_way), seed=seed, settings=ProbeSettings(mtu=MtuProbe(5.0, 3600.0)))
    world.tick = 20.0
    seen = Counter()
    while world.inner_echoes < 10_000:
        world.run(5)
        seen[world.report().verdict] += 1
    assert set(seen) <= {Verdict.OK, Verdict.UNKNOWN, Verdict.INCONCLUSIVE}
    assert seen[Verdict.OK] > 0.95 * seen.total()


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
def test_a_hole_is_found_over_a_lossy_path_too(loss):
    for seed in range(20):
        path = Path(hole_towards=1433, endpoint_echoes=False, loss=1 - (1 - loss) ** 0.5)
        world = World(path, seed=seed)
        world.run(60)
        report = world.report()
        assert report.verdict is Verdict.BLACKHOLE
        assert report.recommended <= 1373


def test_a_new_hole_is_told_with_its_size_within_3_s_of_the_first_lost_probe_and_over_after_3_good_ones():
    world = World(Path())
    world.run(90)
    assert world.report().verdict is Verdict.OK
    world.path.hole_towards = 1433
    sent = len(world.sent)
    world.run(until=lambda: world.report().verdict is Verdict.BLACKHOLE and not world.machine.busy(world.now))
    first_lost = next(when for when, send in world.sent[sent:] if send.size == 1420)
    assert world.now - first_lost <= 3.0
    assert (world.report().path_outer, world.report().recommended) == (1433, 1360)

    world.path.hole_towards = 1 << 16
    sent = len(world.sent)
    world.run(until=lambda: world.report().verdict is Verdict.OK)
    good = [send for _, send in world.sent[sent:] if send.kind is ProbeKind.INNER_ECHO and send.size == 1420]
    assert len(good) == 3


def test_a_hole_that_becomes_smaller_is_measured_again():
    world = World(Path(hole_towards=1433, endpoint_echoes=False))
    world.run(10)
    world.path.hole_towards = 1401
    world.run(400)
    assert world.report().recommended == 1328


def test_one_lost_big_probe_changes_no_verdict_and_brings_five_more_pairs():
    world = World(Path())
    world.run(90)
    world.path.hole_towards = 1433
    world.watch(31)
    world.verdicts.clear()
    start = len(world.sent)
    world.path.hole_towards = 1 << 16
    world = World(Path())
    world.run(59.0)
    world.path.hole_towards = 1433
    world.run(until=lambda: any(s.size == 1420 and w > 1059 for w, s in world.sent))
    world.path.hole_towards = 1 << 16
    start = len(world.sent)
    world.watch(20)
    assert world.verdicts == [Verdict.OK]
    pairs = [when for when, send in world.sent[start:] if send.kind is ProbeKind.INNER_ECHO and send.size == 1420]
    assert 1 <= len(pairs) <= 5


def test_a_big_probe_and_its_small_twin_leave_together():
    world = World(Path())
    world.run(130)
    echoes = [(when, send.size) for when, send in world.sent if send.kind is ProbeKind.INNER_ECHO]
    big = [when for when, size in echoes if size == 1420]
    small = [when for when, size in echoes if size == SMALL]
    assert big == small == [1000.0, 1060.0, 1120.0]


def test_an_answer_later_than_expected_still_ends_the_suspicion():
    world = World(Path())
    world.run(59)
    world.path.rtt = 2.6  # and the machine has learnt to wait 0.3 s
    world.watch(20)
    assert set(world.verdicts) == {Verdict.OK}


def test_a_search_sends_no_more_than_a_round_and_paces_it():
    for path in (Path(hole_towards=1400), Path(links=(9000, 9000), mtu=8920, far_mtu=8920, hole_towards=3000)):
        world = settled(path)
        assert search_rounds(world) <= ROUND_BYTES + 2 * (path.mtu + SMALL)
        sizes = Counter((send.kind, send.size) for _, send in world.sent if send.kind is ProbeKind.OUTER_ECHO)
        assert sum(1 for n in sizes.values() if n > 4) == 0


def test_the_route_and_the_endpoint_are_looked_at_again_when_they_change():
    path = Path()
    world = World(path)
    world.run(70)
    outer = [send for _, send in world.sent if send.kind is ProbeKind.OUTER_ECHO]
    assert {send.size for send in outer} == {SMALL, 1480, 1500}
    asked = [when - 1000 for when, send in world.sent if send.kind is ProbeKind.ROUTE]
    assert asked == pytest.approx([0, 0, 60, 60], abs=0.5), "every minute, and when what was sent has been answered"
    path.links = (1492, 1492)
    world.run(60)
    assert 1492 in {send.size for when, send in world.sent if send.kind is ProbeKind.OUTER_ECHO and when > 1070}

    sent = len(world.sent)
    world.machine.change(world.path.tunnel()._replace(endpoint="203.0.113.9"), world.now)
    assert world.report().verdict is Verdict.UNKNOWN
    world.run(1)
    assert world.report().verdict is Verdict.OK
    assert {send.kind for _, send in world.sent[sent:]} == {ProbeKind.ROUTE, ProbeKind.INNER_ECHO, ProbeKind.OUTER_ECHO}


def test_a_tunnel_that_is_as_it_was_is_not_started_afresh():
    world = settled(Path())
    world.machine.change(world.path.tunnel(), world.now)
    assert world.report().verdict is Verdict.OK


def test_a_peer_without_an_endpoint_gets_no_outer_probes():
    machine = PathMtu(Path().tunnel()._replace(endpoint=""), 0.0)
    sends = [send for now in (0.0, 0.1, 1.0, 3.0, 301.0) for send in machine.poll(now)]
    machine.search(302.0)
    sends += machine.poll(302.0)
    assert ProbeKind.OUTER_ECHO not in {send.kind for send in sends}


@pytest.mark.parametrize(("hole", "way"), [("hole_towards", "on the way to"), ("hole_back", "on the way back from")])
def test_the_direction_of_a_hole_is_named(hole, way):
    from wg_exporter.prober.mtu.advice import advise

    world = settled(Path(**{hole: 1400}))
    assert way in advise(world.machine.findings(world.now)).sentence


@pytest.mark.parametrize("says", [True, False])
def test_the_hop_where_the_path_shrinks_is_found(says):
    world = settled(Path(links=(1500, 1500, 1500, 1400, 1500), says=says))
    world.machine.find_hop(world.now)
    took = world.run(until=lambda: not world.machine.busy(world.now))
    shrink = world.machine.shrink()
    # A router that says nothing is still the last one that full-size packets reached.
    assert (shrink.hop, shrink.certain) == ("192.0.2.3", says)
    assert world.report().shrinks_at == "192.0.2.3"
    assert took < 1


def test_there_is_no_such_hop_on_a_wide_path():
    world = settled(Path())
    world.machine.find_hop(world.now)
    world.run(3)
    assert world.machine.shrink() is None


def test_probes_that_could_not_be_sent_say_nothing():
    machine = PathMtu(Path().tunnel(), 0.0)
    now = 0.0
    while now < 200:
        for send in machine.poll(now):
            machine.handle(NotSent(send.probe, SendError.NO_DEVICE), now)
        now += 0.1
    assert machine.report(now).verdict is Verdict.UNKNOWN


def test_a_peer_that_stops_answering_is_inconclusive_until_its_silence_is_certain():
    world = World(Path())
    world.run(90)
    world.path.alive = False
    world.watch(120)
    assert world.verdicts == [Verdict.OK, Verdict.INCONCLUSIVE, Verdict.UNREACHABLE]
    world.path.alive = True
    world.machine.check(world.now)
    world.run(1)
    assert world.report().verdict is Verdict.OK


def test_a_too_big_that_ipv6_remembers_is_not_this_hosts_fault():
    """The kernel refuses the size by itself after the first packet-too-big, for ten minutes."""
    path = Path(behind=1391, ipv6=True)
    world = World(path)
    world.run(0.2)
    path.local_route = 1391
    world.run(600)
    assert world.report().verdict is Verdict.INNER_PATH_SMALLER
    assert world.report().recommended == 1391


LIES = [0, 1, 68, 296, 551, 552, 576, 1280, 1300, 1419, 1420, 1479, 1480, 1500, 65535, 2**32 - 1]


def liar(world, values=LIES):
    """Too-bigs for every probe, in both layers, for probes that never were, and from strangers."""

    def noise(send, now):
        mtu = world.dice.choice(values)
        return [
            TooBig(None, "203.0.113.66", mtu, Layer.INNER),
            TooBig(send.probe + 1000, "203.0.113.66", mtu, Layer.OUTER),
            TooBig(send.probe, "203.0.113.66", mtu, Layer.INNER),
            TooBig(send.probe, "203.0.113.66", mtu, Layer.OUTER),
            TimeExceeded(send.probe, "203.0.113.66"),
        ]

    return noise


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["ok", "a_router_fragments", "far_mtu_smaller", "fragments_leave_this_host"])
def test_lies_about_probes_that_are_answered_change_nothing(name, seed):
    path, verdict = EVERY_VERDICT[name]
    world = World(path, seed=seed)
    world.noise = liar(world)
    world.run(0.5)
    world.settle()
    world.run(400)
    assert world.report().verdict is verdict
    assert world.report().recommended == settled(EVERY_VERDICT[name][0]).report().recommended
    assert world.most_in_flight < 120


@pytest.mark.parametrize("mtu", [0, 68, 65535])
@pytest.mark.parametrize("name", EVERY_VERDICT)
def test_impossible_sizes_change_no_verdict_at_all(name, mtu):
    path, verdict = EVERY_VERDICT[name]
    world = World(Path(**path.__dict__), seed=3)
    world.noise = liar(world, [mtu])
    world.run(0.5)
    world.settle()
    world.watch(30)
    assert world.report().verdict is verdict


def answers(probe):
    sizes = st.one_of(st.sampled_from(LIES), st.integers(0, 2**32 - 1))
    text = st.text(max_size=5)
    return st.one_of(
        st.builds(TooBig, probe, text, sizes, st.sampled_from(Layer)),
        st.builds(LocalTooBig, probe, sizes),
        st.builds(TimeExceeded, probe, text),
        st.builds(Refused, probe),
        st.builds(Route, probe, sizes, st.none() | sizes, text),
        st.builds(NotSent, probe, st.sampled_from(SendError)),
        st.builds(Passed, probe, st.floats(0, 3), st.none() | st.integers(0, 65535)),
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2), answers(st.none() | st.integers(0, 60))), max_size=80), st.booleans())
def test_whatever_comes_in_the_machine_stands_and_stays_small(script, on_demand):
    machine = PathMtu(Path().tunnel(), 0.0)
    now = 0.0
    machine.counters(0, 0, now)
    if on_demand:
        machine.search(now)
        machine.find_hop(now)
    for wait, answer in script:
        now += wait
        sends = machine.poll(now)
        assert sum(send.size for send in sends) <= 2 * ROUND_BYTES
        machine.handle(answer, now)
        assert machine.next_time() >= 0
        report = machine.report(now)
        assert report.recommended is None or 0 < report.recommended <= 1420
    for _ in range(100):
        now += 0.1
        machine.poll(now)
    assert len(machine._in_flight) < 512


def test_a_peer_that_never_answers_costs_the_same_after_ten_thousand_rounds():
    def size_after(rounds):
        machine = PathMtu(Path().tunnel(), 0.0, settings=ProbeSettings(mtu=MtuProbe(1.0, 5.0)))
        now = 0.0
        tracemalloc.start()
        for _ in range(rounds):
            machine.poll(now)
            now = max(machine.next_time(), now + 0.01)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    assert size_after(10_000) < 2 * size_after(300) < 400_000


def test_a_single_claim_is_not_believed_where_the_endpoint_is_mute():
    world = World(Path(endpoint_echoes=False))
    told = []

    def noise(send, now):
        if send.kind is ProbeKind.OUTER_ECHO and send.size == 1480 and not told:
            told.append(send)
            return [TooBig(send.probe, "203.0.113.66", 1300, Layer.OUTER)]
        return []

    world.noise = noise
    world.run(30)
    assert told
    assert world.report()[:4] == (Verdict.OK, 1420, 1420, None)


def test_a_lie_about_a_near_hop_does_not_hide_where_the_path_shrinks():
    world = settled(Path(links=(1500, 1500, 1500, 1400, 1500)))

    def noise(send, now):
        return [TooBig(send.probe, "203.0.113.66", 1300, Layer.OUTER)] if send.ttl == 1 else []

    world.noise = noise
    world.machine.find_hop(world.now)
    world.run(3)
    assert world.machine.shrink().hop == "192.0.2.3"


def test_sizes_below_one_that_passed_are_not_sent_again():
    world = World(Path(hole_towards=1400))
    world.run(0.5)
    world.dice.seed(5)
    world.path.loss = 0.3
    sent = len(world.sent)
    world.machine.search(world.now)
    world.run(until=lambda: not world.machine.busy(world.now))
    world.path.loss = 0.0
    copies = Counter(send.size for _, send in world.sent[sent:] if send.kind is ProbeKind.OUTER_ECHO)
    assert sum(copies[size] for size in (1006, 1180, 768, 576, 296)) <= 5 + 1


def test_a_search_for_a_peer_of_whom_nothing_is_known_yet_looks_outside_but_once():
    """It waits for the route, and so begins with sizes up to what that carries."""
    world = World(Path(links=(1500, 1433, 1500), says=False, drops_fragments=True))
    assert world.settle() < 4.0
    assert world.report()[:4] == (Verdict.BLACKHOLE, 1420, 1360, 1433)
    copies = Counter(send.size for _, send in world.sent if send.kind is ProbeKind.OUTER_ECHO)
    assert max(copies) == 1500
    assert max(copies.values()) == SENDS


def test_a_search_goes_on_where_the_route_cannot_be_looked_up():
    machine = PathMtu(Path().tunnel(), 0.0)
    machine.search(0.0)
    (lookup,) = [send for send in machine.poll(0.0) if send.kind is ProbeKind.ROUTE]
    machine.handle(NotSent(lookup.probe, SendError.NO_ROUTE), 0.0)
    assert [send for send in machine.poll(0.1) if send.kind is ProbeKind.OUTER_ECHO]


# --- what a host can't do or see --------------------------------------------------------------------------------------


def test_a_peer_that_answers_no_echo_stays_alive_while_it_is_asked_but_once_a_minute():
    """Small echoes to a peer that never answers come ever more rarely, and so does what it sends back."""
    machine = PathMtu(Path().tunnel(), 0.0)
    verdicts, rx = [], 1000
    for second in range(1800):
        machine.poll(float(second))
        if second % (10 if second < 100 else 60) == 0:
            rx += 32
        if second % 5 == 0:
            machine.counters(rx, 1000, float(second))
        if second > 30:
            verdicts.append(machine.report(float(second)).verdict)
    assert set(verdicts) == {Verdict.FILTERED}
    for second in range(1800, 2000):
        machine.poll(float(second))
        machine.counters(rx, 1000, float(second))
    assert machine.report(2000.0).verdict is Verdict.UNREACHABLE


def test_byte_counters_that_cannot_be_read_make_nobody_unreachable():
    machine = PathMtu(Path().tunnel(), 0.0)
    machine.counters(1000, 1000, 0.0)
    for second in range(300):
        machine.poll(float(second))
    assert machine.report(300.0).verdict is not Verdict.UNREACHABLE


def test_a_verdict_does_not_outlive_the_way_to_send_probes():
    world = World(Path(), settings=ProbeSettings(mtu=MtuProbe(5.0)))
    world.settle()
    assert world.report().verdict is Verdict.OK
    now = world.now
    for _ in range(60):
        now += 1.0
        for send in world.machine.poll(now):
            world.machine.handle(NotSent(send.probe, SendError.NO_DEVICE), now)
    assert world.machine.report(now).verdict is Verdict.UNKNOWN


def test_why_this_host_sends_no_probes_is_known_within_a_second_and_until_one_leaves():
    world = World(Path())
    now, machine = world.now, world.machine
    while now < world.now + 1.0:
        for send in machine.poll(now):
            machine.handle(NotSent(send.probe, SendError.NO_PERMISSION), now)
        now += 0.05
    assert machine.findings(now).unsent is SendError.NO_PERMISSION
    world.now = now
    machine.check(now)
    world.run(2)
    assert machine.findings(world.now).unsent is None


def test_a_size_that_could_not_be_sent_is_not_lost():
    """A firewall of this host that refuses large echoes says nothing of the path."""
    search = Search(Layer.OUTER, 1500, Patience(3.0), Pace(), first=(100, 1480, 1500))
    now = 0.0
    while not search.done and now < 60:
        for want in search.poll(now):
            refused = want.size > 1000
            search.handle(want, NotSent(None, SendError.NO_PERMISSION) if refused else Passed(None, 0.01), now)
        now += 0.05
    assert search.done
    assert search.found().limit is None


def test_a_copy_that_never_left_is_no_loss_of_its_size():
    search = Search(Layer.OUTER, 1500, Patience(3.0), Pace(), first=(100, 1500))
    left, now = [], 0.0
    search.handle(search.poll(now)[0], NotSent(None, SendError.NO_BUFFER), now)
    while not search.done and now < 60:
        now += 0.05
        for want in search.poll(now):
            if want.size == 1500:
                left.append(now)
            else:
                search.handle(want, Passed(None, 0.01), now)
        if search.found().limit == 1500:
            break
    assert len(left) == SENDS == 2
    assert now > left[-1] + Patience(3.0).wait()


# --- filters of echoes, and full lines, which are no holes ------------------------------------------------------------

LIMITS = (128, 576, 1024, 1280, 1300, 1400)


@pytest.mark.parametrize(("ipv6", "refuses"), [(False, True), (True, True), (False, False)])
@pytest.mark.parametrize("outer", [1 << 16, 1024, 1300, 1472])
@pytest.mark.parametrize("inner", LIMITS)
def test_a_filter_of_large_echoes_is_no_hole_and_no_mtu_is_made_of_its_limit(inner, outer, refuses, ipv6):
    path = Path(echo_limit=inner, outer_echo_limit=outer, refuses=refuses, ipv6=ipv6)
    world = settled(path)
    world.watch(700)
    assert set(world.verdicts) == {Verdict.FILTERED_LARGE}
    report = world.report()
    assert (report.recommended, report.path_inner) == (None, inner // 16 * 16)
    assert report.path_outer is None or report.path_outer >= report.needed


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("outer", [128, 1024, 1280, 1300, 1400, 1472])
def test_large_echoes_lost_outside_are_no_fragmentation(outer, ipv6):
    """Endpoints drop pings above some size, and no fragment is ever seen."""
    world = settled(Path(outer_echo_limit=outer, ipv6=ipv6))
    world.watch(700)
    assert set(world.verdicts) == {Verdict.OK}
    assert world.report().recommended == 1420


@pytest.mark.parametrize("limit", [1024, 1300])
def test_a_hole_behind_a_filter_of_echoes_is_found_by_datagrams_and_no_mtu_is_made_of_the_filters_limit(limit):
    world = settled(Path(hole_towards=1400, echo_limit=limit, outer_echo_limit=limit))
    assert world.report().verdict is Verdict.BLACKHOLE
    assert world.report().recommended == limit // 16 * 16, "no more is known to pass"
    assert world.report().path_outer == limit // 16 * 16 + 60


def test_that_full_size_packets_arrive_is_not_said_for_longer_than_it_is_true():
    world = settled(Path(echo_limit=1024))
    assert world.machine.findings(world.now).direction is Direction.BACK
    world.path.hole_towards, world.path.refuses = 1400, False
    world.settle()
    assert world.machine.findings(world.now).direction is Direction.UNKNOWN
    assert world.report().verdict is Verdict.FILTERED_LARGE


def test_a_hole_on_the_way_back_is_proven_where_inside_and_outside_agree():
    world = settled(Path(hole_back=1400))
    assert (world.report().verdict, world.report().recommended) == (Verdict.BLACKHOLE, 1328)
    assert world.machine.findings(world.now).direction is Direction.BACK
    other = settled(Path(hole_back=1400, outer_echo_limit=1300))
    assert (other.report().verdict, other.report().recommended) == (Verdict.FILTERED_LARGE, None)


@pytest.mark.parametrize("refuses", [True, False])
@pytest.mark.parametrize("rate", [1000.0, 1500.0, 3000.0])
def test_echoes_that_are_policed_by_bytes_are_no_hole_and_known_by_their_pace(rate, refuses):
    world = World(Path(policed=rate, refuses=refuses))
    world.watch(900)
    assert set(world.verdicts) <= {Verdict.UNKNOWN, Verdict.OK, Verdict.FILTERED_LARGE}
    assert world.verdicts[-1] is Verdict.OK
    world.path.loss = 0.3  # now suspicions begin, and quick pairs never pass
    world.watch(60)
    world.path.loss = 0.0
    world.watch(300)
    assert Verdict.BLACKHOLE not in world.verdicts
    assert world.verdicts[-1] is Verdict.OK


def test_large_echoes_that_pass_after_a_rest_are_known_on_demand():
    world = World(Path(policed=800.0))
    world.machine.search(world.now)
    world._allowed = 0
    world.settle()
    assert world.report().verdict is Verdict.OK
    assert world.now < 1060


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("room", [1500, 1700, 2500])
def test_a_full_thin_line_is_no_hole(room, seed):
    """Its queue counts bytes, so large packets find no room most of the time, and small ones some of the time."""
    world = World(Path(), seed=seed, settings=ProbeSettings(mtu=MtuProbe(20.0, 100.0)))
    world.run(60)
    world.path.room = room
    world.watch(900)
    assert not set(world.verdicts) & {Verdict.BLACKHOLE, Verdict.FRAGMENTED_PATH}
    assert not world.report().recommended or world.report().recommended == 1420


def test_a_packet_too_big_has_to_be_repeated():
    """One that comes once may be an old one, or a lie; a router that sends few of them is asked again."""
    world = World(Path(endpoint_echoes=False))
    told = []

    def noise(send, now):
        if send.kind is ProbeKind.OUTER_ECHO and send.size == 1500 and len(told) < most:
            told.append(now)
            return [TooBig(send.probe, "192.0.2.1", 1499 - 30, Layer.OUTER)]
        return []

    most = 1
    world.noise = noise
    world.run(30)
    assert told
    assert world.report().verdict is Verdict.OK
    most = 2
    world.run(400)
    assert world.report().verdict is Verdict.OK, "another one, minutes later, is one again"


def test_a_router_that_says_too_big_but_once_in_a_while_is_believed_in_the_next_look():
    world = World(Path(links=(1500, 1499)))
    world.run(0.5)
    world.settle()
    world.run(10)
    assert world.report().verdict is Verdict.OK, "1480 bytes fit"
    world = World(Path(links=(1480, 1479)))
    world.run(10)
    assert (world.report().verdict, world.report().path_outer) == (Verdict.FRAGMENTED_PATH, 1479)


# --- what is not believed for ever -----------------------------------------------------------------------------------


class OneSmallLost(World):
    """The third small echo, in the first suspicion, is lost by chance."""

    smalls = 0

    def _carry(self, send):
        if send.kind is ProbeKind.INNER_ECHO and send.size == SMALL:
            self.smalls += 1
            if self.smalls == 3:
                self.sent.append((self.now, send))
                return
        super()._carry(send)


def test_one_large_echo_that_passes_a_hole_is_forgotten_after_a_while():
    world = World(Path(hole_towards=1400, hole_back=1400))
    world.watch(HOUR)
    assert world.report().verdict is Verdict.BLACKHOLE
    world.run(world.machine._pairs._due - world.now - 0.01)
    world.path.hole_towards = world.path.hole_back = 1 << 16
    world.run(0.1)
    world.path.hole_towards = world.path.hole_back = 1400
    world.watch(HOUR)
    assert (world.report().verdict, world.report().recommended) == (Verdict.BLACKHOLE, 1328)


def test_one_small_echo_that_was_lost_at_the_start_does_not_make_it_inconclusive_for_ever():
    world = OneSmallLost(Path(echo_limit=1024))
    world.watch(2 * HOUR)
    assert world.report().verdict is Verdict.FILTERED_LARGE


@pytest.mark.parametrize(
    "changes", [{"links": (1500, 1500, 1400, 1500), "df": True}, {"hole_towards": 1400, "hole_back": 1400}]
)
def test_what_fits_alone_is_told_where_the_answers_are_padded_past_our_mtu(changes):
    world = World(Path(mtu=1340, **changes))
    world.settle()
    world.run(1800)
    assert (world.report().verdict, world.report().recommended) == (Verdict.BLACKHOLE, 1328)
    sentence = advise(world.machine.findings(world.now)).sentence
    assert "above 1328 bytes" in sentence


@pytest.mark.parametrize("limit", [1280, 1472])
def test_a_packet_too_big_that_repeats_is_believed_though_the_endpoint_drops_large_echoes(limit):
    world = World(Path(links=(1500, 1500, 1400, 1500), outer_echo_limit=limit))
    world.settle()
    assert (world.report().verdict, world.report().recommended) == (Verdict.FRAGMENTED_PATH, 1328)


@pytest.mark.parametrize(
    "changes", [{"hole_towards": 1440, "hole_back": 1440}, {"local_route": 1400}, {"behind": 1400}], ids=str
)
def test_what_is_recommended_is_no_more_than_the_far_side_sends_in_one_piece(changes):
    world = World(Path(far_mtu=1300, **changes))
    world.settle()
    world.run(1800)
    assert world.report().recommended == 1300


class OneClaimALook(World):
    """A router that sends one packet-too-big in two seconds."""

    last = -9.0

    def _outer_echo(self, send):
        answer = super()._outer_echo(send)
        if isinstance(answer, TooBig):
            if self.now - self.last < 2:
                return None
            self.last = self.now
        return answer


def test_a_path_that_becomes_narrower_still_is_known_in_seconds_also_where_a_router_says_it_once_a_look():
    world = OneClaimALook(Path(links=(1500, 1400, 1500)))
    world.watch(HOUR)
    assert world.report().recommended == 1328
    world.path.links = (1500, 1300, 1500)
    world.machine.check(world.now)
    world.run(20)
    assert (world.report().verdict, world.report().recommended) == (Verdict.FRAGMENTED_PATH, 1232)


def test_the_router_that_says_too_big_is_named_though_this_host_refused_a_larger_one_with_the_same_size():
    search = Search(Layer.OUTER, 1580, Patience(2.0), Pace(), (100, 1500, 1580))
    search.handle(Want(ProbeKind.OUTER_ECHO, 1580, tag=1580), LocalTooBig(1, 1400), 0.0)
    search.handle(Want(ProbeKind.OUTER_ECHO, 1500, tag=1500), TooBig(2, "192.0.2.1", 1400, Layer.OUTER), 0.0)
    search.handle(Want(ProbeKind.OUTER_ECHO, 1401, tag=1401), TooBig(3, "192.0.2.9", 1400, Layer.OUTER), 0.0)
    search.handle(Want(ProbeKind.OUTER_ECHO, 1400, tag=1400), Passed(4, 0.01), 0.0)
    found = search.found()
    assert (found.claim, found.reporter, found.repeats) == (1400, "192.0.2.1", True)
