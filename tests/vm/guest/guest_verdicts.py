"""The main verdicts under the kernel's own WireGuard, whose DF behaviour is the real one, and round trips under netem.

All paths are probed at the same time by one prober, as the program does it, since most of the time goes by waiting.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab.paths import Path
from tests.lab.probing import Aim, Probing
from tests.vm.guest.build import sh
from wg_exporter.cli.netlab import Lab
from wg_exporter.probed import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.probed import MtuReport, ProbeStats

PATIENCE = 300.0  # seconds; everything is slow here, and slower beside other tests
ROUND_TRIP = 40.0  # ms: netem's delay, twice
OFTEN = {"ok": 1.0, "far": 0.2, "net": 0.1}  # seconds between small echoes


class Seen(NamedTuple):
    """What came of one path: the first settled report, that after the advice was followed, routes before and after."""

    path: Path
    first: MtuReport
    then: MtuReport
    stats: ProbeStats
    routes: tuple[str, str]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Seen]]:
    sh("modprobe sch_netem; modprobe nf_tables")
    directory = tmp_path_factory.mktemp("labs")
    labs = {
        name: Lab(f"{name}-", directory / name, kernel=True) for name in ("ok", "frag", "hole", "six", "far", "net")
    }
    try:
        yield _probe(labs)
    finally:
        for lab in labs.values():
            lab.close()


def _probe(labs: dict[str, Lab]) -> dict[str, Seen]:
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(lambda name: Path(labs[name], outer="ipv6" if name == "six" else "ipv4", df=True), labs)
        paths = dict(zip(labs, made, strict=True))
    paths["frag"].narrow(1433)
    paths["hole"].narrow(1437).drop_fragments()
    paths["six"].narrow(1441)
    paths["far"].far_mtu(1382)
    paths["far"].delay(ROUND_TRIP / 2)
    paths["net"].delay(ROUND_TRIP / 2, 3, "25%", "loss", "2%", "reorder", "10%", "duplicate", "2%")
    before = {name: path.route(path.endpoint) for name, path in paths.items()}
    places = {name: place for place, name in enumerate(paths)}
    aims = [Aim(path, interval=OFTEN.get(name, 5.0)) for name, path in paths.items()]
    with Probing(*aims) as probing:
        probing.settled(within=PATIENCE)
        first = {name: probing.report(place) for name, place in places.items()}
        for name in ("frag", "hole", "six"):
            paths[name].set_mtu(first[name].recommended or 1420)
        paths["far"].set_mtu(first["far"].recommended or 1420, far=False)
        ping = ["ping", "-n", "-q", "-i", "0.2", "-c", "100", paths["far"].target()]
        labs["far"].start(ping, log="ping", namespace=paths["far"].a)
        paths["ok"].cut()
        probing.refresh()
        probing.until(lambda: probing.report(places["ok"]).verdict is Verdict.UNREACHABLE, within=PATIENCE)
        then = {name: probing.report(place) for name, place in places.items()}
        stats = {name: probing.probed(place).stats for name, place in places.items()}
    return {
        name: Seen(path, first[name], then[name], stats[name], (before[name], path.route(path.endpoint)))
        for name, path in paths.items()
    }


def test_kernel_wireguard_over_a_whole_path_is_ok_and_cut_off_it_is_unreachable(seen: dict[str, Seen]) -> None:
    one = seen["ok"]
    assert (one.first.verdict, one.first.path_outer, one.first.recommended) == (Verdict.OK, 1500, 1420)
    assert (one.then.verdict, one.then.recommended) == (Verdict.UNREACHABLE, None)


def test_kernel_wireguard_over_a_path_that_fragments(seen: dict[str, Seen]) -> None:
    one = seen["frag"]
    assert (one.first.verdict, one.first.path_outer, one.first.recommended) == (Verdict.FRAGMENTED_PATH, 1433, 1360)
    assert (one.first.path_inner, one.first.shrinks_at) == (1420, one.path.hop(1))
    assert (one.then.verdict, one.then.interface_mtu) == (Verdict.OK, 1360)
    assert one.routes[0] == one.routes[1], "the route's PMTU cache is clean"


def test_kernel_wireguard_over_a_path_that_drops_fragments(seen: dict[str, Seen]) -> None:
    one = seen["hole"]
    assert (one.first.verdict, one.first.path_outer, one.first.recommended) == (Verdict.BLACKHOLE, 1437, 1376)
    assert (one.then.verdict, one.then.interface_mtu) == (Verdict.OK, 1376)
    assert one.routes[0] == one.routes[1], "the route's PMTU cache is clean"


def test_kernel_wireguard_over_a_small_ipv6_path_fragments_here(seen: dict[str, Seen]) -> None:
    one = seen["six"]
    assert (one.first.verdict, one.first.path_outer, one.first.recommended) == (Verdict.FRAGMENTED_LOCAL, 1441, 1360)
    assert (one.then.verdict, one.then.interface_mtu) == (Verdict.OK, 1360)


def test_kernel_wireguard_whose_far_side_has_a_smaller_mtu(seen: dict[str, Seen]) -> None:
    one = seen["far"]
    assert one.first.verdict is Verdict.REMOTE_SMALLER
    assert one.first.remote is not None
    assert one.first.remote <= 1382 <= one.first.remote + 7
    assert one.then.verdict is Verdict.OK


def test_round_trips_under_delay_are_those_of_ping(seen: dict[str, Seen]) -> None:
    one = seen["far"]
    said = (one.path.lab.directory / "ping").read_text()
    least, mean = map(float, re.search(r"= ([\d.]+)/([\d.]+)/", said).groups())
    assert least >= ROUND_TRIP
    assert one.stats.sent > 100
    assert one.stats.rtt_min * 1000 == pytest.approx(least, abs=2)
    assert one.stats.rtt_sum / (one.stats.sent - one.stats.lost) * 1000 == pytest.approx(mean, rel=0.1)
    assert one.stats.lost == 0


def test_loss_reordering_and_duplicates_are_counted_and_are_no_fault_of_the_mtu(seen: dict[str, Seen]) -> None:
    one = seen["net"]
    assert {one.first.verdict, one.then.verdict} == {Verdict.OK}
    assert one.stats.sent > 200
    lost, doubled = (1 - 0.98**2) * one.stats.sent, 0.04 * one.stats.sent
    # The guest itself may be busy for longer than an answer is waited for: those come late, and were not lost.
    assert abs(one.stats.lost - one.stats.late - lost) < 4.5 * lost**0.5
    assert abs(one.stats.duplicates - doubled) < 4.5 * doubled**0.5
