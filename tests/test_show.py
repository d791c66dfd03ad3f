"""`wg-exporter show`: golden screens (refresh them with UPDATE_GOLDEN=1), and what must hold for any input."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from wg_exporter import model, show

NOW = 1_760_000_000.0
GOLDEN = Path(__file__).parent / "data" / "show"


# --- a small language for hosts -------------------------------------------------------------------------------------


def peer(name="", *, key="A", age=None, keepalive=0, expected=False, rx=0, tx=0, endpoint="", ips=("10.8.0.2/32",)):
    """A peer whose key is one letter over and over; `age` is in seconds, None = never connected."""
    full = (key * 43)[:43] + "="
    stamp = 0 if age is None else int((NOW - age) * 1e9)
    row = model.Peer(full, endpoint, tuple(ips), keepalive, stamp, rx, tx)
    return show.PeerRow(row, name or full[:8], bool(name), expected)


def link(name="wg0", *, up=True, netns="", errors=0):
    return model.Link(netns, name, 3, "wireguard", up, 1420, 1234, 5678, 10, 20, 0, errors, 0, 0)


def device(*peers, name="wg0", netns="", up=True, backend=model.Backend.KERNEL, fresh=True, errors=0):
    rows = tuple(p.peer for p in peers)
    read = model.Device(netns, name, backend, "Z" * 43 + "=", 51820, 0, rows, fresh)
    return show.DeviceRow(read, None, link(name, up=up, netns=netns, errors=errors), tuple(peers))


def failed(problem, name="wg1", backend=model.Backend.USERSPACE):
    return show.DeviceRow(None, model.FailedDevice("", name, backend, problem), None, ())


def host(*devices, wall=NOW, outcomes=(), problems=(), hidden=()):
    return show.Overview(wall, devices, tuple(outcomes), tuple(problems), hidden)


def outcome(problem="", source=model.SourceName.KERNEL):
    return model.Outcome(source, "", not problem, 0.01, problem)


def office():
    """A hub on a bad night: of every kind of peer one."""
    lans = ("10.8.0.3/32", *(f"192.168.{third}.0/24" for third in range(40, 52)))
    v6 = "[2001:db8:1234:5678:9abc:def0:1234:5678]:40123"
    return host(
        device(
            peer("berlin-office", key="A", age=41, keepalive=25, expected=True, rx=123_456_789, tx=98_765_432,
                 endpoint="198.51.100.23:51820", ips=("10.8.0.2/32", "192.168.40.0/24", "fd00::2/128")),
            peer("lyon-office", key="B", age=10_800, keepalive=25, expected=True, rx=5_000_000_000, tx=7_000_000,
                 endpoint="203.0.113.77:51820", ips=lans),
            peer("paris", key="C", keepalive=25, expected=True, tx=14_800, endpoint="203.0.113.9:51820"),
            peer("anna's phone", key="D", age=3 * 86_400, rx=900_000, tx=12_000_000, endpoint=v6),
            peer(key="E"),
            peer("backup", key="F", age=4_000, expected=True, rx=1 << 40, tx=1 << 30, endpoint="192.0.2.2:51820"),
            errors=17,
        ),
        device(name="wg1", netns="blue", up=False, backend=model.Backend.USERSPACE),
        failed("/var/run/wireguard/utun9.sock: connection refused", name="utun9"),
        problems=("names.yml: no such file; remove it from `names`",),
    )  # fmt: skip


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


def check_golden(name, screen):
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(screen, encoding="utf-8")
    assert screen == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_bad_night_on_a_terminal_of_this_width(width):
    check_golden(f"office_{width}", text(office(), width))


def test_a_bad_night_while_watching():
    before = office()
    rows = tuple(p._replace(peer=p.peer._replace(rx_bytes=p.peer.rx_bytes * 9 // 10)) for p in before.devices[0].peers)
    before = before._replace(wall=NOW - 5, devices=(before.devices[0]._replace(peers=rows), *before.devices[1:]))
    check_golden("office_watched_120", text(office(), previous=before))


def test_the_office_in_json():
    check_golden("office_json", show.to_json(office()) + "\n")


# --- what is broken stands out --------------------------------------------------------------------------------------


def test_an_expected_peer_with_keepalive_is_fine_up_to_180_and_20_s_and_its_keepalive():
    fine = host(device(peer("berlin", age=225, keepalive=25, expected=True)))
    broken = host(device(peer("berlin", age=226, keepalive=25, expected=True)))
    assert "1 peer expected up, 0 not" in text(fine)
    assert "! 1 peer expected up, 1 not: berlin on wg0 (3 minutes ago)" in text(broken)
    assert styled(broken, "3 minutes ago") == "bold red"
    assert styled(fine, "3 minutes ago") == "green"


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
    screen = text(host(failed("Operation not permitted", name="wg7", backend=model.Backend.KERNEL)), 200)
    assert "Operation not permitted; this needs CAP_NET_ADMIN; run: sudo wg-exporter show" in screen
    assert "! 1 device could not be read: wg7" in screen


def test_a_problem_that_brings_its_own_fix_is_left_as_it_is():
    assert line_with("bad reply", host(failed("bad reply; restart the daemon")), 200).endswith("restart the daemon")


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

HOSTILE = "[red]\x1b]0;owned\x07\x1b[2J\n\u202e日本\ud83d"


def hostile_host(bad):
    row = peer(bad, age=1, endpoint=bad, ips=(bad, bad), expected=True)
    broken = peer(bad, key="B", expected=True)
    return host(
        device(row, broken, name=bad, netns=bad),
        failed(bad, name=bad),
        outcomes=[outcome(bad)],
        problems=[bad],
    )


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


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_json_is_ascii_without_control_characters_and_gives_the_text_back(bad):
    written = show.to_json(hostile_host(bad))
    assert all(" " <= c <= "~" or c == "\n" for c in written)
    assert json.loads(written)["devices"][0]["peers"][0]["endpoint"] == (bad or None)


# --- JSON -----------------------------------------------------------------------------------------------------------


def test_in_json_a_peer_that_never_connected_has_no_handshake_and_no_age():
    [row] = json.loads(show.to_json(host(device(peer()))))["devices"][0]["peers"]
    assert row["latest_handshake"] is None
    assert row["latest_handshake_age_seconds"] is None
    assert row["name"] is None


def test_in_json_a_handshake_is_unix_seconds_and_its_age_is_against_the_same_clock():
    [row] = json.loads(show.to_json(host(device(peer(age=90.5)))))["devices"][0]["peers"]
    assert row["latest_handshake"] == pytest.approx(NOW - 90.5)
    assert row["latest_handshake_age_seconds"] == pytest.approx(90.5)


def test_in_json_a_device_that_could_not_be_read_does_not_look_fine():
    [row] = json.loads(show.to_json(host(failed("connection refused"))))["devices"]
    assert (row["read_success"], row["problem"], row["up"], row["peers"]) == (False, "connection refused", None, [])


def test_in_json_a_list_of_peers_from_an_earlier_read_is_no_success():
    [row] = json.loads(show.to_json(host(device(peer("anna"), fresh=False))))["devices"]
    assert row["read_success"] is False
    assert len(row["peers"]) == 1


def test_json_does_not_even_hold_a_raw_delete_character():
    written = show.to_json(host(device(peer("a\x7fb"))))
    assert "\x7f" not in written
    assert json.loads(written)["devices"][0]["peers"][0]["name"] == "a\x7fb"


# --- selection ------------------------------------------------------------------------------------------------------


def two_devices():
    return host(
        device(peer("anna", key="A"), peer("bert", key="B")),
        device(peer("anna", key="C"), peer(key="D"), name="wg1"),
    )


def selected(interface=None, name=None):
    chosen = show.select(two_devices(), interface, name)
    return [(row.device.name, [p.peer.public_key[0] for p in row.peers]) for row in chosen.devices]


def test_without_a_choice_everything_is_selected():
    assert selected() == [("wg0", ["A", "B"]), ("wg1", ["C", "D"])]


def test_an_interface_is_selected_with_all_its_peers():
    assert selected("wg1") == [("wg1", ["C", "D"])]


def test_a_peer_is_found_by_name_on_every_device_that_has_one():
    assert selected(name="anna") == [("wg0", ["A"]), ("wg1", ["C"])]


@pytest.mark.parametrize("wanted", ["D" * 43 + "=", "DDDDDDDD", "D"])
def test_a_peer_is_found_by_its_key_or_the_start_of_it(wanted):
    assert selected(name=wanted) == [("wg1", ["D"])]


def test_a_name_wins_over_a_key_that_starts_with_it():
    overview = host(device(peer("B", key="A"), peer("bert", key="B")))
    assert [p.name for p in show.select(overview, None, "B").devices[0].peers] == ["B"]


def test_an_unknown_interface_is_answered_with_those_there_are():
    with pytest.raises(show.NothingSelected, match=r"^no WireGuard interface wg9; there is: wg0, wg1$"):
        selected("wg9")


def test_an_unknown_peer_is_answered_with_those_there_are():
    with pytest.raises(show.NothingSelected, match=r"^no peer zoe on wg1; there is: anna, DDDDDDDD$"):
        selected("wg1", "zoe")


def test_an_empty_peer_selects_nothing():
    with pytest.raises(show.NothingSelected):
        selected(name="")


def test_a_peer_may_hide_on_a_device_that_could_not_be_read_and_the_answer_says_so():
    with pytest.raises(show.NothingSelected, match=r"could not read wg1"):
        show.select(host(device(peer("anna")), failed("refused")), None, "zoe")


def test_the_answer_to_a_hostile_name_is_one_safe_line():
    with pytest.raises(show.NothingSelected) as caught:
        show.select(hostile_host(HOSTILE), None, "\x1b[2J\n")
    assert str(caught.value).isprintable()


# --- nothing there --------------------------------------------------------------------------------------------------


def test_where_something_is_shown_there_is_no_reason_for_nothing():
    assert show.reason_when_empty(host(device())) == ""


def test_without_any_device_the_reason_says_how_to_get_one():
    assert show.reason_when_empty(host(outcomes=[outcome()])).startswith("no WireGuard device here; bring one up")


def test_without_permission_the_reason_names_the_capability_and_the_command():
    reason = show.reason_when_empty(host(outcomes=[outcome("Operation not permitted")]))
    assert "CAP_NET_ADMIN" in reason
    assert "sudo wg-exporter show" in reason


def test_a_source_that_failed_otherwise_is_the_reason_with_its_own_words():
    reason = show.reason_when_empty(host(outcomes=[outcome("no answer in 3 s")]))
    assert reason == "no WireGuard device could be read: kernel: no answer in 3 s"


def test_conf_files_that_cannot_be_read_are_no_reason_for_missing_devices():
    failure = outcome("/etc/wireguard: is not a directory", model.SourceName.CONF)
    assert show.reason_when_empty(host(outcomes=[failure])).startswith("no WireGuard device here")


def test_devices_that_the_configuration_leaves_out_are_named_as_the_reason():
    reason = show.reason_when_empty(host(hidden=("wg0", "wg1")))
    assert "leaves out" in reason
    assert "(wg0, wg1)" in reason


def test_an_empty_host_is_one_line_on_the_screen():
    empty = host(outcomes=[outcome("Operation not permitted")])
    assert text(empty, 200).splitlines() == [show.reason_when_empty(empty)]


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
        from wg_exporter import show
        def read():
            print("reading", file=sys.stderr, flush=True)
            return show.Overview(0.0, (), (), ())
        show.watch(read, Console(force_terminal=True), 60, lambda: False)
        print("left", file=sys.stderr)
    """)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stderr.readline() == "reading\n"
        time.sleep(0.2)
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=10)
    finally:
        child.kill()
        child.wait()
    assert (child.returncode, err) == (0, "left\n")
    assert time.monotonic() - start < 2
    assert out.rindex("\x1b[?1049l") > out.rindex("\x1b[?1049h")


def test_a_stop_is_noticed_during_a_long_interval():
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    start = time.monotonic()
    show.watch(lambda: host(device()), Console(file=io.StringIO(), width=80), 3600, stop.is_set)
    assert time.monotonic() - start < 2


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
