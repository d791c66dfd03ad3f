"""`wg-exporter quiet` at the terminal: whom it chooses, what it refuses, what it says; and how `show` marks it."""

from __future__ import annotations

import json
import re
import time

import msgspec
import pytest
from click.testing import CliRunner

from tests.hosts import NOW, device, host, peer
from tests.serving import App, running
from tests.test_show import styled, text
from wg_exporter.cli import main
from wg_exporter.cli.show.overview import select
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.quiet import Quiet, QuietNow
from wg_exporter.quiet.asked import Answer
from wg_exporter.status import document
from wg_exporter.status.reading import decode
from wg_exporter.status.rows import Teller
from wg_exporter.web.unix import UnixSocket

A, B, C = ((letter * 43) + "=" for letter in "ABC")
DOWN = PeerHealth(State.DOWN, Reason.ONE_WAY, evidence="3 initiations came from it")


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def quiet(public_key=A, *, interface="wg0", netns="", name="berlin", seconds=7200.0, reason="new router"):
    return Quiet(netns, interface, public_key, name if public_key else "", NOW - 60, NOW + seconds, reason)


def office(*quiets):
    """Two devices; `twin` is on both, and wg1 is in two namespaces."""
    now = QuietNow(quiets)

    def row(name, key, **more):
        return peer(name, key=key, age=1, expected=True, **more)

    rows = [
        device(row("berlin", "A", health=DOWN), row("twin", "B"), name="wg0"),
        device(row("twin", "C"), name="wg1"),
        device(row("far", "D"), name="wg1", netns="blue"),
    ]
    marked = [
        one._replace(
            quiet=now.interface((one.device.netns, one.device.name)),
            peers=tuple(
                p._replace(quiet=now.peer((one.device.netns, one.device.name), p.peer.public_key)) for p in one.peers
            ),
        )
        for one in rows
    ]
    return host(*marked)._replace(quiet=now, teller=Teller("1", "gw1", "", NOW - 99))


class Exporter(App):
    """Answers with a document, and does what it is asked for."""

    problem_said: str | None = None
    overview = office()

    def document(self, *, private, round_trips=False):
        return [document.encode(self.overview)]

    def quiet(self, asked, *, end):
        super().quiet(asked, end=end)
        seconds = float(asked.get("seconds", 0))
        return msgspec.json.encode(
            Answer(
                netns=asked.get("netns", ""), interface=asked["interface"], public_key=asked.get("public_key") or None,
                name="berlin" if asked.get("public_key") else None, since=NOW, until=NOW + seconds,
                reason=asked.get("reason") or None, problem=self.problem_said,
            )
        )  # fmt: skip


@pytest.fixture
def exporter(tmp_path):
    app = Exporter()
    app.path = str(tmp_path / "s")
    unix = UnixSocket(app.path)
    with running(app, unix=unix):
        yield app


def run(exporter, *arguments):
    """(exit code, standard output, standard error)."""
    done = CliRunner().invoke(main, ["quiet", f"--socket={exporter.path}", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def asked(exporter):
    ((found, _end),) = exporter.quieted
    return (found.get("netns", ""), found["interface"], found.get("public_key", ""))


# --- whom -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("berlin",), ("", "wg0", A)),
        (("wg0", "berlin"), ("", "wg0", A)),
        ((A,), ("", "wg0", A)),
        (("AAAA",), ("", "wg0", A)),
        (("wg0", "BBBB"), ("", "wg0", B)),
        (("wg1", "twin"), ("", "wg1", C)),
        (("far",), ("blue", "wg1", "D" * 43 + "=")),
        (("wg0",), ("", "wg0", "")),
        (("wg1", "--netns=blue"), ("blue", "wg1", "")),
        (("wg1", "--netns="), ("", "wg1", "")),
    ],
    ids=" ".join,
)
def test_a_peer_or_an_interface_is_chosen_as_in_show(exporter, arguments, key):
    assert run(exporter, *arguments, "--for=2h")[0] == 0
    assert asked(exporter) == key


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("paris",), "no WireGuard interface and no peer paris; there is: wg0, wg1; peers: berlin, twin, far\n"),
        (("wg0", "paris"), "no peer paris on wg0; there is: berlin, twin"),
        (("A",), "no WireGuard interface and no peer A; did you mean berlin?\n"),
        (("wg0", "AAA"), "no peer AAA on wg0; did you mean berlin?\n"),
        (("Ber",), "no WireGuard interface and no peer Ber; did you mean berlin?\n"),
        (("A", "--end"), "A is not quiet; what is: nothing\n"),
        (("twin",), "several peers are called twin; say which: wg0 B"),
        (("wg1",), "several are called wg1; say which: wg1, wg1 --netns=blue"),
        (("wg0", "--netns=red"), "no WireGuard interface in a namespace red"),
        (("wg0", "berlin", "--end"), "berlin is not quiet; what is: nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_whoever_is_not_there_or_not_the_only_one_is_told_in_one_line_with_exit_code_1(exporter, arguments, said):
    code, out, err = run(exporter, *arguments, *([] if "--end" in arguments else ["--for=2h"]))
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: {said}")
    assert err.count("\n") == 1
    assert exporter.quieted == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("berlin",), "say for how long: --for 2h, or --end to end it"),
        (("berlin", "--for=2"), "--for: not a duration; write it like 30m, 2h or 1d"),
        (("berlin", "--for=soon"), "--for: not a duration; write it like 30m, 2h or 1d"),
        (("berlin", "--for=31d"), "--for: from 1s to 30d"),
        (("berlin", "--for=0s"), "--for: from 1s to 30d"),
        (("berlin", "--for=2h", "--reason=a\x1b"), "--reason: one line of 200 characters at most"),
        (("berlin", "--for=2h", f"--reason={'x' * 201}"), "--reason: one line of 200 characters at most"),
        (("berlin", "--for=2h", "--end"), "--end takes no --for and no --reason"),
        (("--for=2h",), "name a peer or an interface: wg-exporter quiet [INTERFACE] PEER --for 2h"),
        (("--end",), "name a peer or an interface: wg-exporter quiet [INTERFACE] PEER --for 2h"),
    ],
    ids=lambda value: " ".join(value)[:30].replace("\x1b", "?") if isinstance(value, tuple) else "",
)
def test_a_wrong_use_is_one_line_with_exit_code_2_and_nobody_is_asked(exporter, arguments, said):
    assert run(exporter, *arguments) == (2, "", f"{said}\n")
    assert exporter.quieted == []


@pytest.mark.parametrize(("given", "seconds"), [("30m", 1800), ("2h", 7200), ("1d", 86400), ("1h30m", 5400)])
def test_a_duration_is_one_of_prometheus(exporter, given, seconds):
    code, out, _ = run(exporter, "berlin", f"--for={given}", "--reason=new router, größer & +")
    ((found, end),) = exporter.quieted
    assert (code, end, float(found["seconds"]), found["reason"]) == (0, False, seconds, "new router, größer & +")
    assert out.startswith("berlin on wg0 is quiet until ")


# --- what it says -----------------------------------------------------------------------------------------------------


def test_without_an_exporter_it_says_what_to_do(tmp_path):
    done = CliRunner().invoke(main, ["quiet", f"--socket={tmp_path}/none", "berlin", "--for=2h"])
    assert done.exit_code == 1
    assert done.stderr == (
        f"Error: no exporter runs here (there is no {tmp_path}/none); start it (systemctl start wg-exporter), or "
        "silence the alerts in Alertmanager (amtool silence add)\n"
    )


def test_what_will_not_survive_a_restart_is_told_beside_the_answer(exporter):
    exporter.problem_said = "there is no directory /x"
    code, out, err = run(exporter, "berlin", "--for=2h")
    assert (code, out) == (0, "berlin on wg0 is quiet until 10:53:20 (2 hours).\n")
    assert err == "It will not survive a restart of the exporter: there is no directory /x\n"


def test_a_refusal_of_the_exporter_is_one_line(exporter):
    exporter.refusal = "1,000 are quiet already\x1b[2J"
    assert run(exporter, "berlin", "--for=2h") == (1, "", "Error: 1,000 are quiet already?[2J\n")


def test_the_list_says_who_until_when_and_why_also_of_whom_there_is_not_any_more(exporter):
    assert run(exporter) == (0, "nothing is quiet\n", "")
    gone = quiet("X" * 43 + "=", interface="wg9", name="old \x1b[2J", seconds=3 * 86400, reason="")
    exporter.overview = office(quiet(), quiet("", interface="wg1", netns="blue"), gone)
    assert run(exporter)[1] == (
        "berlin on wg0 is quiet until 10:53:20 (2 hours), begun 60 seconds ago: new router\n"
        "all of wg1 in blue is quiet until 10:53:20 (2 hours), begun 60 seconds ago: new router\n"
        "old \\x1b[2J on wg9 is quiet until 2025-10-12 08:53:20 (3 days), begun 60 seconds ago\n"
    )
    found = json.loads(run(exporter, "--json")[1])["quiet"]
    assert [(one["interface"], one["public_key"]) for one in found] == [
        ("wg0", A),
        ("wg1", None),
        ("wg9", gone.public_key),
    ]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("berlin",), ("", "wg0", A)),
        (("AAAA",), ("", "wg0", A)),
        (("old",), ("", "wg9", "X" * 43 + "=")),
        (("wg9", "XXXX"), ("", "wg9", "X" * 43 + "=")),
        (("wg1",), ("blue", "wg1", "")),
    ],
    ids=" ".join,
)
def test_ended_is_what_is_quiet_whether_or_not_it_is_there_still(exporter, arguments, key):
    exporter.overview = office(
        quiet(), quiet("", interface="wg1", netns="blue"), quiet("X" * 43 + "=", interface="wg9", name="old")
    )
    assert run(exporter, *arguments, "--end")[0] == 0
    assert asked(exporter) == key
    assert exporter.quieted[0][1] is True


def test_a_peer_that_is_quiet_with_its_interface_can_not_be_ended_alone(exporter):
    exporter.overview = office(quiet(""))
    code, _, err = run(exporter, "berlin", "--end")
    said = "berlin is quiet with all of wg0; end that: wg-exporter quiet wg0 --end"
    assert (code, err) == (1, f"Error: {said}\n")
    exporter.overview = office(quiet("", interface="wg1", netns="blue"))
    assert run(exporter, "far", "--end")[2].endswith("end that: wg-exporter quiet wg1 --netns=blue --end\n")
    assert exporter.quieted == []


def test_who_stays_quiet_after_an_end_is_said(exporter):
    exporter.overview = office(quiet(), quiet("", seconds=3600.0))
    ended = "berlin on wg0: its own quiet has ended; it stays quiet with all of wg0 until 09:53:20 (60 minutes).\n"
    assert run(exporter, "berlin", "--end") == (0, ended, "")
    some = "All of wg0 pages again, but for what is quiet by itself: berlin until 10:53:20 (2 hours).\n"
    assert run(exporter, "wg0", "--end") == (0, some, "")
    exporter.overview = office(quiet())
    assert run(exporter, "berlin", "--end") == (0, "berlin on wg0 pages again.\n", "")


def test_whoever_may_not_ask_is_told_the_same_command_as_root(exporter, monkeypatch):
    def refused(*_):
        raise PermissionError

    monkeypatch.setattr("wg_exporter.cli.ask._exchange", refused)
    monkeypatch.setattr("sys.argv", ["wg-exporter", "quiet", "berlin", "--for=2h", "--reason=new router"])
    said = f"only root may ask the exporter at {exporter.path}; run: sudo wg-exporter quiet berlin --for=2h"
    assert run(exporter, "berlin", "--for=2h") == (1, "", f"Error: {said} '--reason=new router'\n")


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_marks_what_is_quiet_and_keeps_its_state():
    found = office(quiet())
    screen = text(found, 200)
    assert re.search(r"^~ +berlin +\S+ +down +one_way +10:53:20 \(2 hours\) ", screen, re.MULTILINE)
    assert "quiet until" in screen
    assert "~ 1 is quiet: berlin on wg0 until 10:53:20 (2 hours): new router; it is down, one_way\n" in screen
    assert screen.endswith("4 peers expected up, 0 not, 1 quiet (1 down)\n")
    assert styled(found, "down") == "cyan"
    assert "quiet" not in text(office(), 200)
    assert text(office(), 200).splitlines()[-1].startswith("! 4 peers expected up, 1 not: berlin on wg0: down")


def test_show_names_an_interface_that_is_quiet_and_how_many_of_its_peers_are_down():
    screen = text(office(quiet("")), 200)
    assert "~ 1 is quiet: all of wg0 until 10:53:20 (2 hours): new router; 1 peer down or degraded\n" in screen
    assert screen.endswith("4 peers expected up, 0 not, 2 quiet (1 down)\n")


def test_of_one_peer_show_says_since_when_until_when_and_why_and_nothing_of_others():
    found = select(office(quiet(), quiet(C, interface="wg1", name="twin")), "berlin")
    screen = text(found, 200)
    assert "  quiet, until 10:53:20 (2 hours), begun 60 seconds ago: new router\n" in screen
    assert "1 is quiet: berlin" in screen
    whole = text(select(office(quiet("")), "berlin"), 200)
    assert "  quiet, with the whole interface, until 10:53:20 (2 hours), begun" in whole


def test_the_document_brings_back_what_is_quiet():
    found = office(quiet(), quiet("", interface="wg1", netns="blue"))
    back = decode(document.encode(found))
    assert back.quiet == found.quiet
    assert [[p.quiet for p in row.peers] for row in back.devices] == [[p.quiet for p in r.peers] for r in found.devices]
    assert [row.quiet for row in back.devices] == [row.quiet for row in found.devices]
