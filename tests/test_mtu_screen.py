"""What `wg-exporter mtu` prints: golden texts (refresh them with UPDATE_GOLDEN=1), and what must hold for any input."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.hosts import HOSTILE
from tests.test_mtu_results import BERLIN, NARROW, PARIS
from tests.test_prober_verdict import FINE, HOLE, IPV4, MUTE, evidences
from wg_exporter.cli.mtu.results import conclude, unprobed
from wg_exporter.cli.mtu.screen import Doing, LiveProgress, Phase, PlainProgress, show
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.probed import Verdict
from wg_exporter.prober.mtu.locate import Direction, Shrink

GOLDEN = Path(__file__).parent / "data" / "mtu"
TRICKY = st.sampled_from(["wg0", HOSTILE, "[bold]x[/bold]", "a b"]) | st.text(max_size=20)


def text(results, width=100):
    file = io.StringIO()
    show(results, Console(file=file, width=width, markup=False, emoji=False, highlight=False))
    return file.getvalue()


def check_golden(name, screen):
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(screen, encoding="utf-8")
    assert screen == path.read_text(encoding="utf-8")


def all_kinds():
    low = FINE._replace(tunnel=IPV4._replace(ipv6_inside=True), outer=1300, outer_full=False)
    lyon = PARIS._replace(netns="blue", interface="wg1", name="lyon")
    return [
        conclude(BERLIN, NARROW, Shrink("192.0.2.1", 1, certain=True), 0.61),
        conclude(PARIS, FINE, None, 0.12),
        conclude(lyon, HOLE._replace(direction=Direction.BACK, agreeing=True), None, 3.04),
        conclude(PARIS._replace(name="kiel"), HOLE._replace(direction=Direction.BACK), None, 14.2),
        conclude(PARIS._replace(name="oslo"), low, None, 0.5),
        conclude(PARIS._replace(name="rome"), MUTE, None, 26.2),
        unprobed(PARIS._replace(name="anna's phone", target="", problem="no allowed IPs")),
        unprobed(PARIS._replace(name="bob's phone", target="", problem="no endpoint yet", expected=False)),
    ]


@pytest.mark.parametrize("width", [70, 120])
def test_results_of_all_kinds_at_this_width(width):
    check_golden(f"results_{width}", text(all_kinds(), width))


def test_only_what_is_not_ok_is_red():
    def coloured(result):
        file = io.StringIO()
        show([result], Console(file=file, width=120, force_terminal=True, color_system="standard", highlight=False))
        return file.getvalue()

    red = "\x1b[1;31m"
    assert red not in coloured(conclude(PARIS, FINE, None, 0.12))
    assert coloured(conclude(BERLIN, NARROW, None, 0.61)).startswith(f"{red}! ")


def test_a_pipe_gets_each_sentence_in_one_line():
    sentence = NARROW_SENTENCE
    assert f"  {sentence}\n" in text(all_kinds(), 400)


NARROW_SENTENCE = (
    "The path to 198.51.100.2 carries 1400-byte packets from hop 192.0.2.1 on; wg0 sends up to 1480. "
    "Set its MTU to 1328, or to 1340 on both sides."
)


@pytest.mark.parametrize("width", [20, 40, 80])
def test_commands_are_never_broken_for_they_are_to_be_copied(width):
    lines = text(all_kinds(), width).splitlines()
    assert "    ip link set dev wg0 mtu 1328" in lines
    assert (
        "    ip6tables -t mangle -A POSTROUTING -o wg0 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1172" in lines
    )


def test_what_the_exporter_says_has_the_time_at_which_it_was_seen():
    health = PeerHealth(State.DOWN, Reason.ONE_WAY, evidence="last heard 34 s ago", reason_at=1_760_000_000.0)
    line = "The exporter says: down, one_way: last heard 34 s ago (seen 2025-10-09 08:53:20 UTC)"
    assert line in text([conclude(PARIS._replace(health=health), FINE, None, 0.12)], 200)


def test_no_line_ends_in_blanks():
    assert all(line == line.rstrip() for line in text(all_kinds(), 70).splitlines())


def test_the_device_that_would_lose_its_ipv6_addresses_is_never_offered_a_small_mtu():
    assert "mtu 1240" not in text([all_kinds()[4]])
    assert "An MTU below 1280 would remove the IPv6 addresses of wg0" in text([all_kinds()[4]])


@settings(max_examples=60)
@given(evidences, TRICKY, TRICKY, st.integers(20, 200))
def test_nothing_from_outside_reaches_the_terminal_as_more_than_text(findings, interface, name, width):
    findings = findings._replace(tunnel=findings.tunnel._replace(interface=interface))
    shown = text([conclude(BERLIN._replace(interface=interface, name=name), findings, None, 1.0)], width)
    assert all(character.isprintable() or character == "\n" for character in shown)


# --- progress -------------------------------------------------------------------------------------------------------


def lines_of(*steps, quiet=False):
    file = io.StringIO()
    with PlainProgress(Console(file=file, width=200), quiet=quiet) as progress:
        for doing in steps:
            progress.update(doing)
    return file.getvalue().splitlines()


def test_without_a_terminal_each_step_is_a_line_and_told_once():
    searching = [Doing(BERLIN, Phase.SEARCHING, 0.2), Doing(PARIS, Phase.SEARCHING, 0.2)]
    hop = [Doing(BERLIN, Phase.HOP, 0.4), searching[1]]
    done = [Doing(BERLIN, Phase.DONE, 0.61, verdict=Verdict.FRAGMENTED_PATH), searching[1]]
    assert lines_of(searching, searching, hop, done, done) == [
        "wg0 berlin: searching",
        "wg0 paris: searching",
        "wg0 berlin: looking for the router where it shrinks",
        "wg0 berlin: done: fragmented_path, 0.6 s",
    ]


def test_for_a_script_there_are_no_lines_without_a_terminal():
    assert lines_of([Doing(BERLIN, Phase.SEARCHING, 0.2)], quiet=True) == []


def terminal(width=80, height=10):
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)


def test_on_a_terminal_the_peers_at_work_and_how_many_are_done():
    doing = [
        Doing(BERLIN, Phase.SEARCHING, 0.3, "passed: 1360 bytes inside"),
        Doing(PARIS, Phase.DONE, 0.1, verdict=Verdict.OK),
        Doing(PARIS._replace(name="rome"), Phase.SILENT, 31.0),
    ]
    assert LiveProgress(terminal()).picture(doing).plain.splitlines() == [
        "wg0 berlin    0.3 s  searching; passed: 1360 bytes inside",
        "wg0 rome     31.0 s  watching its byte counters, one to two minutes",
        "1 of 3 peers done",
    ]


def test_more_peers_than_lines_do_not_overflow_the_terminal():
    doing = [Doing(BERLIN._replace(name=str(number)), Phase.SEARCHING, 1.0) for number in range(1_000)]
    assert len(LiveProgress(terminal(height=10)).picture(doing).plain.splitlines()) <= 10


def test_the_live_display_leaves_the_cursor_visible_also_after_an_interrupt():
    console = terminal()
    with contextlib.suppress(KeyboardInterrupt), LiveProgress(console) as progress:
        progress.update([Doing(BERLIN, Phase.SEARCHING, 0.3)])
        raise KeyboardInterrupt
    assert console.file.getvalue().rindex("\x1b[?25h") > console.file.getvalue().rindex("\x1b[?25l")
