"""`wg-exporter show`: golden screens (refresh them with UPDATE_GOLDEN=1), and what must hold for any input."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tests.hosts import HOSTILE, NOW, check_golden, device, failed, gone, host, hostile_host, office, outcome, peer
from wg_exporter import model
from wg_exporter.accounted import PeerPackets
from wg_exporter.cli.show import screen as show
from wg_exporter.cli.show.overview import reason_when_empty, select
from wg_exporter.health.quality import Window
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.plan.fast import NO_ANSWER_YET, NO_ENDPOINT
from wg_exporter.plan.planner import Aim
from wg_exporter.probed import FastFound, MtuReport, Verdict
from wg_exporter.status.rows import Echoes, Teller


def text(overview, width=120, **more):
    """What stands on a terminal without colours."""
    file = io.StringIO()
    Console(file=file, width=width).print(show.render(overview, **more))
    return file.getvalue()


def line_with(what, overview, width=120, **more):
    [line] = [line for line in text(overview, width, **more).splitlines() if what in line]
    return line


def styled(overview, what):
    """The style in which the first piece of text that starts with `what` is drawn."""
    console = Console(width=120, color_system="truecolor", force_terminal=True, file=io.StringIO())
    return next(str(s.style) for s in console.render(show.render(overview)) if s.text.startswith(what))


# --- golden screens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_bad_night_on_a_terminal_of_this_width(width):
    check_golden(f"office_{width}", text(office(), width))


def test_a_bad_night_while_watching():
    before = office()
    rows = tuple(p._replace(peer=p.peer._replace(rx_bytes=p.peer.rx_bytes * 9 // 10)) for p in before.devices[0].peers)
    before = before._replace(wall=NOW - 5, devices=(before.devices[0]._replace(peers=rows), *before.devices[1:]))
    check_golden("office_watched_120", text(office(), previous=before))


# --- how a peer is probed -------------------------------------------------------------------------------------------


def aimed(target="", origin="none", reason="", *, wanted=True):
    return Aim(target, origin, reason, wanted)


@pytest.mark.parametrize(
    ("aim", "said"),
    [
        (aimed("10.8.0.2", "in_subnet"), "probes go to 10.8.0.2, its address in the interface's subnet"),
        (aimed("10.8.0.2", "configured"), "probes go to 10.8.0.2, as the configuration says"),
        (aimed("10.8.0.2", "only_host"), "probes go to 10.8.0.2, the only single address among its allowed IPs"),
        (aimed("10.8.0.2", "derived"), "probes go to 10.8.0.2, the only other address in the interface's subnet"),
        (aimed(reason="it is not expected up", wanted=False), "not probed: it is not expected up"),
    ],
)
def test_a_single_peer_is_shown_with_its_target_and_where_that_came_from(aim, said):
    assert f"  {said}" in text(host(device(peer("berlin", aim=aim)))).splitlines()


def test_of_many_peers_no_target_is_shown():
    several = host(device(peer("berlin", aim=aimed("10.8.0.2", "in_subnet")), peer("lyon", key="B")))
    assert "probes go to" not in text(several)


def test_peers_that_are_to_be_probed_and_cannot_be_are_named_with_the_reason():
    networks, endpoint = aimed(reason="only networks"), aimed("10.8.0.9", "in_subnet", "no endpoint yet")
    screen = text(
        host(
            device(
                peer("berlin", key="A", aim=networks),
                peer("lyon", key="B", aim=endpoint),
                peer("paris", key="C", aim=networks),
                peer("phone", key="D", aim=aimed(reason="it is not expected up", wanted=False)),
            )
        )
    )
    assert "! 2 peers can't be probed: berlin, paris: only networks" in screen
    assert "! 1 peer can't be probed: lyon: no endpoint yet" in screen
    assert "not expected up" not in screen


def test_a_reason_for_each_of_a_thousand_peers_does_not_fill_the_screen():
    peers = [peer(f"p{n}", aim=aimed(reason=f"target 10.0.0.{n} is another's")) for n in range(1000)]
    assert text(host(device(*peers))).count("can't be probed") == 5


# --- what probes show -----------------------------------------------------------------------------------------------


def probed(row, window=None, mtu=None):
    return row._replace(echoes=Echoes(True, 100, 2, 0), window=window, mtu=mtu)


NARROW = MtuReport(Verdict.BLACKHOLE, 1420, 1380, None, 0, None, 1376, None, "", NOW)


def test_packets_have_columns_where_they_are_counted():
    found = device(peer("anna", age=1, expected=True), peer("bert", key="B", age=1))
    assert "packets in" not in text(host(found), 250)
    rows = (found.peers[0]._replace(packets=PeerPackets(1_234_567, 0)), found.peers[1])
    screen = text(host(found._replace(peers=rows)), 250)
    assert re.search(r"received +packets in +sent +packets out", screen)
    assert re.search(r"anna .* 1,234,567 .* 0 ", screen)
    assert re.search(r"bert .* - .* - ", screen)


def test_packets_of_one_direction_alone_are_never_shown():
    found = device(peer("anna", age=1, expected=True), peer("bert", key="B", age=1))
    counted = host(found._replace(peers=tuple(row._replace(packets=PeerPackets(5, 6)) for row in found.peers)))
    for width in range(60, 250):
        titles = next(line for line in text(counted, width).split("\n") if "latest handshake" in line)
        assert ("packets in" in titles) == ("packets out" in titles)


def test_what_the_only_peer_has_no_column_for_stands_below_it():
    found = device(peer("anna", age=1, expected=True))
    screen = text(host(found._replace(peers=(found.peers[0]._replace(packets=PeerPackets(5, 6)),))), 80)
    assert "packets in 5, packets out 6" in " ".join(screen.split())
    assert "no room" not in screen


def test_peers_of_a_userspace_device_are_shown_by_name_as_it_gives_them_in_another_order_each_time():
    found = device(peer("b-10"), peer("a", key="B"), peer("b-2", key="C"))
    userspace = found._replace(device=found.device._replace(backend=model.Backend.USERSPACE))
    kernel = found._replace(device=found.device._replace(backend=model.Backend.KERNEL))

    def names(row):
        return [one.name for one in select(host(row)).devices[0].peers]

    assert names(userspace) == ["a", "b-2", "b-10"]
    assert names(kernel) == ["b-10", "a", "b-2"]


def test_track_files_that_can_not_be_written_are_said_for_traffic_is_moved_by_them():
    teller = Teller("0.1.0", "gw1", "", 0.0, track_files="/t", track_files_problem="there is no directory /t")
    assert "! no track files: there is no directory /t" in text(host(device(peer("anna")))._replace(teller=teller))


def test_round_trip_loss_and_the_verdict_on_the_mtu_have_columns_where_there_are_any():
    found = device(peer("anna", age=1, expected=True), peer("bert", key="B", age=1))
    assert "round trip" not in text(host(found), 250)
    rows = (probed(found.peers[0], Window(0.02, 0.0123), NARROW), found.peers[1])
    screen = text(host(found._replace(peers=rows)), 250)
    assert re.search(r"anna .* 12\.3 ms +2\.0% +blackhole, set 1376 ", screen)
    assert re.search(r"bert .* - +- +- ", screen)


def test_of_a_single_peer_the_sizes_the_target_and_what_to_set_are_told():
    found = device(peer("anna", age=1, aim=aimed("10.8.0.2", "in_subnet")))
    alone = host(found._replace(peers=(probed(found.peers[0], None, NARROW),)))
    assert (
        "MTU blackhole: packets of 1420 bytes were sent to 10.8.0.2; 1380 bytes pass inside the tunnel; set 1376: "
        "`ip link set dev wg0 mtu 1376`" in text(alone, 250)
    )


def test_an_exporter_that_was_asked_is_named_with_the_time_for_which_it_has_run():
    overview = host(device(peer("anna", age=1, expected=True)))._replace(teller=Teller("1", "hub", "", NOW - 7200))
    assert "as the exporter on hub sees it, which has run for 2 hours" in text(overview)
    assert "looked for itself" not in text(overview)


# --- what is broken stands out --------------------------------------------------------------------------------------


def test_an_expected_peer_with_keepalive_is_fine_up_to_180_and_20_s_and_its_keepalive():
    fine = host(device(peer("berlin", age=224, keepalive=25, expected=True)))
    broken = host(device(peer("berlin", age=226, keepalive=25, expected=True)))
    assert "1 peer expected up, 0 not" in text(fine)
    said = "! 1 peer expected up, 1 not: berlin on wg0: down, stale_handshake: last heard 3 min ago"
    assert said in text(broken).splitlines()
    assert {styled(broken, what) for what in ("3 minutes ago", "down", "stale_handshake")} == {"bold red"}
    assert styled(fine, "3 minutes ago") == styled(fine, "up") == "green"


def test_who_is_down_is_a_line_each_with_the_reason_and_what_it_was_seen_by():
    unanswered = PeerHealth(
        State.DOWN, Reason.HANDSHAKE_UNANSWERED, evidence="5 handshake initiations unanswered for 27 s"
    )
    screen = text(
        host(
            device(
                peer("berlin", key="A", age=100, expected=True, health=unanswered),
                peer("lyon", key="B", expected=True),
                peer("paris", key="C", age=1, expected=True),
            )
        )
    )
    assert screen.endswith(
        "! 3 peers expected up, 2 not\n"
        "    berlin on wg0: down, handshake_unanswered: 5 handshake initiations unanswered for 27 s\n"
        "    lyon on wg0: down, never_heard: never heard\n"
    )


def test_who_is_judged_by_one_look_is_told_what_that_can_not_see():
    overview = host(device(peer("berlin", age=1, expected=True)))
    assert "--watch" not in text(overview)
    row = overview.devices[0]
    unknown = host(row._replace(peers=(row.peers[0]._replace(health=PeerHealth()),)))
    screen = text(unknown._replace(by_one_look=True, unasked="no exporter runs here"), 200)
    assert "looked for itself: no exporter runs here; one look can't tell whether a peer is up (?): start the" in screen
    assert "1 peer expected up, 0 not, 1 not known" in screen
    assert re.search(r"berlin +A+= +\? +1 second ago", screen)
    again = text(unknown._replace(by_one_look=True), 200, previous=unknown)
    assert "shows within half a minute" in again
    assert "--watch" not in again, "it is on"


def test_what_was_seen_while_watching_is_told_with_its_age():
    found = PeerHealth(State.DOWN, Reason.ONE_WAY, 1, 70.0, NOW - 70.5, "3 initiations came from it")
    screen = text(host(device(peer("berlin", age=100, expected=True, health=found))))
    assert "berlin on wg0: down, one_way: 3 initiations came from it (seen 08:52:09 UTC, 70 seconds" in screen


def test_an_outage_of_a_thousand_peers_does_not_fill_the_screen():
    screen = text(host(device(*(peer(f"p{n}", expected=True) for n in range(1000)))))
    assert screen.count(": down, never_heard") == 10
    assert screen.endswith("    and 990 more\n")


def test_a_degraded_peer_is_yellow_and_not_among_those_that_are_not_up():
    lossy = PeerHealth(State.DEGRADED, Reason.LOSSY, evidence="last heard 1 s ago, 12% of probes lost")
    overview = host(device(peer("berlin", age=1, expected=True, health=lossy)))
    assert styled(overview, "degraded") == styled(overview, "lossy") == "yellow"
    screen = text(overview)
    assert "! 1 peer degraded: berlin on wg0: degraded, lossy: last heard 1 s ago, 12% of probes lost" in screen
    assert "1 peer expected up, 0 not" in screen


def test_one_peer_alone_is_shown_with_the_evidence_and_what_to_do_about_it():
    alone = select(host(device(peer("anna's lab", expected=True), peer("lyon", key="B"))), "wg0", "anna's lab")
    lines = text(alone, 300).splitlines()
    at = lines.index("  never_heard: never heard")
    assert "endpoint and port (this output). Without an endpoint" in lines[at + 1], "it is no advice to do this again"


@pytest.mark.parametrize("changed_at", [0.0, NOW - 86_500], ids=["found at the start", "an older state"])
def test_evidence_comes_with_the_time_at_which_it_was_seen(changed_at):
    down = PeerHealth(State.DOWN, Reason.ONE_WAY, changed_at=changed_at, evidence="last heard 34 s ago")
    found = host(device(peer("berlin", age=1, expected=True, health=down._replace(reason_at=NOW - 300))))
    screen = text(found, 200)
    assert "  one_way: last heard 34 s ago (seen 08:48:20 UTC, 5 minutes ago)\n" in screen
    assert "berlin on wg0: down, one_way: last heard 34 s ago (seen 08:48:20 UTC, 5 minutes ago)\n" in screen
    older = host(device(peer("berlin", age=1, expected=True, health=down._replace(reason_at=NOW - 86_400))))
    assert "(seen 2025-10-08 08:53:20 UTC, 24 hours ago)" in text(older, 200)


def test_where_nobody_is_expected_up_the_last_line_says_that_nothing_can_page():
    last = text(host(device(peer("phone", age=5), peer("laptop", key="B"))), 200).splitlines()[-1]
    assert last == "nothing here can page: of 2 peers none is expected up"
    assert text(host(device()), 200).splitlines()[-1] == "nothing here can page: there is no peer"


def test_where_nothing_is_known_of_a_peer_its_state_is_open():
    overview = host(device(peer("paris", age=1), fresh=False))
    [row] = overview.devices[0].peers
    unknown = host(overview.devices[0]._replace(peers=(row._replace(health=PeerHealth()),)))
    assert re.search(r"paris +A+ +\? +1 second ago", line_with("paris", unknown))


def test_the_peers_of_a_device_that_is_gone_are_shown_without_what_nobody_knows_of_them():
    down = PeerHealth(State.DOWN, Reason.INTERFACE_GONE, evidence="interface gone for 27 s, last heard 31 s ago")
    screen = text(host(gone(peer("anna", expected=True, health=down)), device(), problems=["wg7 is gone"]), 200)
    assert "! wg7  GONE  1 peer expected up" in screen
    assert re.search(r"\n!  anna +\S+ +down +interface_gone  +-  +-  +-  +-", screen)
    assert "never connected" not in screen
    assert "0 B" not in screen
    assert "could not be read" not in screen
    assert "! 1 peer expected up, 1 not: anna on wg7: down, interface_gone: interface gone for 27 s" in screen


def test_reasons_have_a_column_where_there_is_one_and_room():
    assert "reason" in text(host(device(peer("paris", expected=True)))).splitlines()[3]
    assert "reason" not in text(host(device(peer("paris", age=1))))
    narrow = text(host(device(peer("paris", expected=True))), 60)
    two = host(device(peer("paris", expected=True), peer("rome", key="B")))
    assert "received, sent" in line_with("no room", two, 60), "they go first"
    assert "never_heard: never heard" in narrow


def test_without_keepalive_an_old_handshake_is_a_doubt_and_not_a_fault():
    quiet = host(device(peer("berlin", age=3_600, expected=True)))
    assert styled(quiet, "60 minutes ago") == "yellow"
    assert "1 peer expected up, 0 not" in text(quiet)
    assert "quiet" in line_with("berlin on wg0", quiet)


def test_a_peer_that_nobody_expects_is_never_an_alarm():
    idle = host(device(peer("phone", key="A", age=10**7), peer("tablet", key="B")))
    assert "!" not in text(idle)
    assert styled(idle, "never connected") == "dim"


def test_an_expected_peer_that_never_connected_is_red():
    assert styled(host(device(peer("paris", expected=True))), "never connected") == "bold red"


def test_an_expected_peer_behind_a_device_that_is_down_is_not_up_however_fresh_its_handshake():
    screen = text(host(device(peer("paris", age=5, keepalive=25, expected=True), up=False)))
    assert "! wg0  DOWN" in screen
    assert "1 peer expected up, 1 not" in screen


def test_a_broken_peer_is_marked_without_colour_too():
    overview = host(device(peer("paris", expected=True), peer("lyon", key="B", age=1, expected=True)))
    assert line_with("paris  ", overview).startswith("!  paris")
    assert line_with("lyon", overview).startswith("   lyon")


def test_a_handshake_after_the_clock_stepped_back_points_at_the_clock():
    assert "in the future (clock?)" in line_with("paris", host(device(peer("paris", age=-600))))


def test_a_device_that_could_not_be_read_says_why_and_what_to_do():
    screen = text(host(failed("Cannot allocate memory", name="wg7", backend=model.Backend.KERNEL)), 200)
    assert "Cannot allocate memory; compare with: wg show wg7" in screen
    assert "! 1 device could not be read: wg7" in screen


@pytest.mark.parametrize("failure", [model.Failure.DENIED, model.Failure.UNANSWERED])
def test_a_problem_that_brings_its_own_fix_is_left_as_it_is(failure):
    row = failed("it failed; do this", failure=failure)
    assert line_with("it failed", host(row), 200).endswith("it failed; do this")


def test_what_to_do_about_a_device_is_told_by_the_cause_and_not_by_words_in_the_problem():
    row = failed("permission refused; it timed out, said sudo")
    assert line_with("permission", host(row), 200).endswith("said sudo; compare with: wg show wg1")


def test_a_source_that_failed_is_told_even_if_devices_are_shown():
    overview = host(device(), outcomes=[outcome("dump was interrupted three times")])
    assert "! kernel: dump was interrupted three times" in text(overview)


def test_a_list_of_peers_from_an_earlier_read_is_called_that():
    assert "those of an earlier one" in text(host(device(fresh=False)))


def test_counters_that_are_zero_are_not_worth_a_word():
    assert "errors" not in text(host(device()))
    assert "errors 0 received, 3 sent" in text(host(device(errors=3)))


# --- room -----------------------------------------------------------------------------------------------------------


@given(st.integers(min_value=40, max_value=250))
@settings(max_examples=40, deadline=None)
def test_no_line_is_wider_than_the_terminal(width):
    for overview in (office(), hostile_host("[red]" + "東\u200d" * 40)):
        assert max(cell_len(line) for line in text(overview, width).split("\n")) <= width


def test_columns_without_room_are_named():
    assert "no room at 60 columns for: " in text(office(), 60)
    assert "no room" not in text(office(), 200)


def test_two_peers_of_one_name_are_told_apart_by_their_keys_on_a_narrow_terminal_too():
    screen = text(host(device(peer("phone", key="A"), peer("phone", key="B"))), 80)
    assert "AAAAAAAA" in screen
    assert "BBBBBBBB" in screen


def test_peers_keep_the_order_of_the_device():
    screen = text(host(device(*(peer(f"peer-{key}", key=key) for key in "QAZ"))))
    assert screen.index("peer-Q") < screen.index("peer-A") < screen.index("peer-Z")


def test_a_pipe_gets_every_column_and_no_escape_sequence(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    file = io.StringIO()
    console = show.console(file)
    console.print(show.render(office()))
    assert "no room" not in file.getvalue()
    assert "A" * 43 + "=" in file.getvalue()
    assert "\x1b" not in file.getvalue()


@pytest.mark.parametrize("columns", ["0", "00"])
def test_a_width_of_nothing_is_none(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    file = io.StringIO()
    console = show.console(file)
    console.print(show.render(office()))
    assert "A" * 43 + "=" in file.getvalue()


def test_a_reader_that_left_is_told_to_the_caller():
    class Left(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        show.console(Left()).print(show.render(office()))


def test_no_color_is_obeyed_on_a_terminal(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    Console(file=file, width=120, force_terminal=True).print(show.render(office()))
    assert "\x1b[31m" not in file.getvalue()
    assert "\x1b[1;31m" not in file.getvalue()


def test_ten_thousand_peers_are_drawn_in_under_three_seconds():
    one = peer("phone", age=50, endpoint="198.51.100.23:51820")
    peers = [one._replace(peer=one.peer._replace(public_key=f"{n:043d}=")) for n in range(10_000)]
    overview = host(device(*peers))
    start = time.process_time()
    assert text(overview).count("50 seconds ago") == 10_000
    assert time.process_time() - start < 3


# --- hostile text ---------------------------------------------------------------------------------------------------


def test_escape_sequences_and_markup_in_names_are_shown_and_not_obeyed():
    screen = text(host(device(peer(HOSTILE))), 200)
    assert r"[red]\x1b]0;owned\x07\x1b[2J\n\u202e日本\ud83d" in screen


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_text_from_outside_reaches_the_terminal_raw(bad):
    for screen in (text(hostile_host(bad)), text(hostile_host(bad), 60)):
        assert all(line.isprintable() for line in screen.split("\n"))


def test_a_terminal_that_is_not_unicode_gets_what_it_can_show():
    for encoding in ("ascii", "latin-1"):
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
        Console(file=file, width=60).print(show.render(hostile_host("Zürich 東京" * 9)))
        file.flush()
        assert rb"\u6771" in raw.getvalue()


# --- nothing there --------------------------------------------------------------------------------------------------


def test_an_empty_host_is_one_line_on_the_screen():
    empty = host(outcomes=[outcome("Operation not permitted", failure=model.Failure.DENIED)])
    assert text(empty, 200).splitlines() == [reason_when_empty(empty)]


# --- watching -------------------------------------------------------------------------------------------------------


def test_rates_are_between_this_reading_and_the_one_before():
    before = host(device(peer("anna", rx=1000)), wall=NOW - 2)
    after = host(device(peer("anna", rx=1000 + 4096), peer("new", key="B", rx=77)))
    assert "2.00 KiB/s" in line_with("anna", after, previous=before)
    assert "/s" not in line_with("new", after, previous=before)
    assert "receiving" not in text(after)


def test_watching_stops_when_told_to_and_shows_each_reading():
    readings = [host(device(peer("anna", rx=n * 4096)), wall=NOW + n) for n in range(3)]
    left = iter(readings)
    file = io.StringIO()
    show.watch(lambda: next(left), Console(file=file, width=120), 0.01, lambda: left.__length_hint__() == 0)
    assert file.getvalue().count("anna") == 3
    assert file.getvalue().count("4.00 KiB/s") == 2


def test_on_a_terminal_the_alternate_screen_is_left_again_even_if_reading_fails():
    file = io.StringIO()

    def read():
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        show.watch(read, Console(file=file, width=80, height=24, force_terminal=True), 1, lambda: False)
    assert file.getvalue().index("\x1b[?1049h") < file.getvalue().index("\x1b[?1049l")


def test_a_host_too_big_for_the_terminal_keeps_what_is_broken_in_view_and_says_that_more_follows():
    rows = [peer(f"peer-{n}", key="A", age=1) for n in range(500)] + [peer("last", key="B", expected=True)]
    file = io.StringIO()
    console = Console(file=file, width=80, height=6, force_terminal=True, color_system=None)
    seen = []
    problems = [f"problem {n}" for n in range(5)]
    show.watch(lambda: seen.append(1) or host(device(*rows), problems=problems), console, 0.01, lambda: bool(seen))
    assert "! 1 peer expected up, 1 not: last on wg0" in file.getvalue()
    assert "more does not fit" in file.getvalue()
    assert "peer-20 " not in file.getvalue()


def test_ctrl_c_ends_watching_at_once_and_without_a_traceback():
    program = textwrap.dedent("""
        import sys
        from rich.console import Console
        from wg_exporter.cli.show import overview
        from wg_exporter.cli.show import screen as show
        def read():
            print("reading", file=sys.stderr, flush=True)
            return overview.Overview(0.0, (), (), ())
        show.watch(read, Console(force_terminal=True), 60, lambda: False)
        print("left", file=sys.stderr)
    """)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stderr.readline() == "reading\n"
        time.sleep(0.2)
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert (child.returncode, err) == (0, "left\n")
    assert time.monotonic() - start < 30  # half of an interval
    assert out.rindex("\x1b[?1049l") > out.rindex("\x1b[?1049h")


def test_a_stop_is_noticed_during_a_long_interval():
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    start = time.monotonic()
    show.watch(lambda: host(device()), Console(file=io.StringIO(), width=80), 3600, stop.is_set)
    assert time.monotonic() - start < 30


def test_a_terminal_of_a_new_size_is_redrawn_without_waiting_for_the_next_reading():
    file = io.StringIO()
    console = Console(file=file, width=120, height=40, force_terminal=True, color_system=None)
    looks = []

    def stop():
        looks.append(1)
        console.width = 60 if len(looks) > 1 else 120  # after the first reading was drawn
        return len(looks) > 4

    show.watch(office, console, 3600, stop)
    assert "no room at 60 columns" in file.getvalue()


@pytest.mark.parametrize(
    ("fast", "says", "cell"),
    [
        (FastFound("10.0.0.1", True), "up by fast echoes to 10.0.0.1", "up"),
        (FastFound("10.0.0.1", False), "down by fast echoes to 10.0.0.1", "down"),
        (FastFound("", True), "up by fast echoes\n", "up"),  # as an older exporter says it
        (FastFound("", False, NO_ENDPOINT), f"down by fast echoes: {NO_ENDPOINT}", "down"),
        (FastFound("", None, "no single address"), "not known by fast echoes: no single address", "?"),
    ],
)
def test_what_fast_echoes_say_is_in_a_column_and_in_a_line_of_a_peer_alone_on_the_screen(fast, says, cell):
    berlin, hamburg = peer("berlin", age=2 * 86400)._replace(fast=fast), peer("hamburg", key="B", age=2 * 86400)
    assert says in text(host(device(berlin)))
    assert "fast" not in text(host(device(hamburg)))
    shown = text(host(device(berlin, hamburg)))
    assert says not in shown
    head, first, second = (line for line in shown.splitlines() if any(x in line for x in ("handshake", "days ago")))
    at = head.index("fast")
    assert (first[at:].split()[0], second[at:].split()[0]) == (cell, "-")


def test_peers_without_the_fast_echoes_that_they_should_have_are_named_with_the_reason():
    without = peer("berlin", age=1)._replace(fast=FastFound("", None, "no single address; give it a `target`"))
    waiting = peer("hamburg", key="B", age=1)._replace(fast=FastFound("10.0.0.2", None, NO_ANSWER_YET))
    shown = text(host(device(without, waiting)))
    assert "! 1 peer without fast echoes: berlin: no single address; give it a `target`" in shown
    assert NO_ANSWER_YET not in shown
