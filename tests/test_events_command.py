"""`wg-exporter events` at the terminal: which events it shows, in which words, whom it asks, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from tests.hosts import NOW, device, host, peer
from tests.serving import App, eventually, running
from wg_exporter.cli import ask, main
from wg_exporter.cli.events.when import since
from wg_exporter.cli.show.events import last_events
from wg_exporter.events import Kind, Level, Life, Process, event
from wg_exporter.events.book import Book
from wg_exporter.events.file import NAME, encode
from wg_exporter.linux.storage import BELOW
from wg_exporter.status import document
from wg_exporter.status.rows import Teller
from wg_exporter.web.unix import UnixSocket

A, B, C = ((letter * 43) + "=" for letter in "ABC")


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def state(key=A, name="berlin", interface="wg0", netns="", after="down", at=0.0, **more):
    return event(
        Kind.STATE, NOW + at, (netns, interface), public_key=key, name=name, before="up", after=after,
        reason="one_way", level=Level.WARN, evidence="3 initiations came from it", **more,
    )  # fmt: skip


NIGHT = (
    event(Kind.PROCESS, NOW - 7200, process=Process.EXPORTER, after=Life.STARTED, evidence="version 1"),
    state(name="bonn", at=-3600),  # as berlin was called then
    state(B, "twin", at=-1800),
    state(C, "twin", "wg1", at=-1700),
    state("D" * 43 + "=", "far", "wg1", "blue", at=-1600),
    event(Kind.DRIFT, NOW - 900, ("", "wg0"), after="mtu 1", evidence="/etc/wireguard/wg0.conf"),
    state(at=-60),
)


class Exporter(App):
    """Has a night behind it, and says who is on the host now."""

    def __init__(self) -> None:
        super().__init__()
        self.journal.add(NIGHT)

    def document(self, *, private, round_trips=False):
        rows = [
            device(peer("berlin", key="A"), peer("twin", key="B"), peer("new", key="N"), name="wg0"),
            device(peer("twin", key="C"), name="wg1"),
        ]
        return [document.encode(host(*rows)._replace(teller=Teller("1", "gw1", "", NOW - 99)))]


@pytest.fixture
def exporter(tmp_path):
    app = Exporter()
    app.path = str(tmp_path / "s")
    with running(app, unix=UnixSocket(app.path)) as app.server:
        yield app


def run(*arguments):
    """(exit code, standard output, standard error)."""
    done = CliRunner().invoke(main, ["events", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def asked(exporter, *arguments):
    code, out, err = run(f"--socket={exporter.path}", *arguments)
    assert (code, err) == (0, "")
    return out


def numbers(out):
    return [json.loads(line)["number"] for line in out.splitlines()]


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_night_is_a_table_in_words_the_oldest_first(exporter):
    assert asked(exporter).splitlines() == [
        "time                 interface    peer    what happened",
        "2025-10-09 06:53:20                       wg-exporter was started: version 1",
        "2025-10-09 07:53:20  wg0          bonn    down (was up): one_way: 3 initiations came from it",
        "2025-10-09 08:23:20  wg0          twin    down (was up): one_way: 3 initiations came from it",
        "2025-10-09 08:25:00  wg1          twin    down (was up): one_way: 3 initiations came from it",
        "2025-10-09 08:26:40  wg1 in blue  far     down (was up): one_way: 3 initiations came from it",
        "2025-10-09 08:38:20  wg0          (all)   differs from /etc/wireguard/wg0.conf: mtu 1",
        "2025-10-09 08:52:20  wg0          berlin  down (was up): one_way: 3 initiations came from it",
    ]


def test_nothing_is_a_line_too(exporter):
    exporter.journal = Book()
    assert asked(exporter) == "nothing happened yet\n"
    assert asked(exporter, "--since=1h") == "nothing happened since 1h\n"
    assert asked(exporter, "--json") == ""


def test_what_could_drive_the_terminal_is_spelled_out(exporter):
    exporter.journal.add([state(name="a\u202eb\x1b[2J")])
    assert "\x1b" not in asked(exporter)
    assert "\u202e" not in asked(exporter)


def test_json_is_a_line_for_each_as_the_api_has_it(exporter):
    first = json.loads(asked(exporter, "--json").splitlines()[1])
    assert (first["number"], first["name"], first["kind"], first["after"]) == (2, "bonn", "state", "down")
    assert first["text"] == "bonn on wg0: down (was up): one_way: 3 initiations came from it"


# --- which of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("wg0",), [2, 3, 6, 7]),
        (("wg0", "berlin"), [2, 6, 7]),  # also under the name of then, and what happened to all of wg0
        (("bonn",), [2, 6, 7]),  # and by the name of then alone
        (("wg0", A[:4]), [2, 6, 7]),
        ((A,), [2, 6, 7]),
        (("wg1", "twin"), [4]),
        (("far",), [5]),
        (("--netns=blue",), [5]),
        (("--netns=blue", "wg1"), [5]),
        (("new",), [6]),  # it is on the host, and nothing happened to it alone
        ((), [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_an_interface_or_a_peer_by_its_name_of_now_or_then_or_its_key(exporter, arguments, found):
    assert numbers(asked(exporter, "--json", *arguments)) == found


def test_what_there_is_not_is_said_with_what_there_is(exporter):
    code, out, err = run(f"--socket={exporter.path}", "lyon")
    assert (code, out) == (1, "")
    assert "no WireGuard interface and no peer lyon" in err
    assert "and no event names lyon" in err
    assert run(f"--socket={exporter.path}", "wg0", "lyon")[0] == 1


def test_a_crowd_is_shown_for_each_of_its_peers(exporter):
    exporter.journal.add([state(f"{n:>043}=", f"peer {n}") for n in range(50)])
    assert numbers(asked(exporter, "--json", "wg0", "berlin")) == [2, 6, 7, 8]
    assert asked(exporter, "wg0").splitlines()[-1].endswith("50 peers: down (was up): one_way")


@pytest.mark.parametrize(
    ("text", "seconds_ago"),
    [
        ("90m", 5400), ("1d", 86_400), ("2h30m", 9000),
        ("08:00", 3200), ("08:53:19", 1), ("22:00", 39_200),  # of last night
        ("today", 32_000), ("yesterday", 118_400),
        ("2025-10-09", 32_000), ("2025-10-08 22:00", 39_200), ("2025-10-09T08:00:00+02:00", 10_400),
    ],
)  # fmt: skip
def test_since_is_a_duration_a_time_of_day_or_a_date(text, seconds_ago):
    assert NOW == 1_760_000_000
    assert since(text, NOW) == NOW - seconds_ago


@pytest.mark.parametrize("text", ["", "soon", "25:00", "08:61", "-1h", "2025-13-01", "\u0661h", "9" * 30 + "y"])
def test_what_is_no_time_is_wrong_usage_that_says_what_is_one(exporter, text):
    code, out, err = run(f"--socket={exporter.path}", f"--since={text}")
    assert (code, out) == (2, "")
    assert err.startswith("--since: neither a time nor a duration; write a duration like 2h")


def test_only_what_happened_since_is_asked_for(exporter, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: NOW)
    assert numbers(asked(exporter, "--json", "--since=20m")) == [6, 7]
    assert numbers(asked(exporter, "--json", "--since=20m", "berlin")) == [6, 7]


# --- where no exporter runs -------------------------------------------------------------------------------------------


@pytest.fixture
def left(tmp_path):
    """What an exporter left that is not there any more."""
    book = Book()
    book.add(NIGHT)
    (tmp_path / BELOW).mkdir()
    (tmp_path / BELOW / NAME).write_bytes(encode(book.all) + b'{"torn')
    return tmp_path


def test_where_no_exporter_runs_it_shows_what_the_last_one_kept_and_says_so(left):
    code, out, err = run("--socket=/nowhere", f"--storage.path={left}", "--json", "bonn")
    assert (code, numbers(out)) == (0, [2, 6, 7])
    assert err == "no exporter runs here (there is no /nowhere): these are the events that the last one kept\n"


def test_where_there_is_nothing_to_read_it_says_both(tmp_path):
    code, out, err = run("--socket=/nowhere", f"--storage.path={tmp_path}")
    assert (code, out) == (1, "")
    assert "no exporter runs here (there is no /nowhere), and there are no events in" in err
    assert run("--socket=/nowhere", f"--storage.path={tmp_path}/none")[0] == 1
    assert run("--socket=/nowhere", "--storage.path=")[0] == 1


def test_nobody_can_be_followed_who_does_not_run(left):
    code, out, err = run("--socket=/nowhere", f"--storage.path={left}", "--follow")
    assert (code, out) == (1, "")
    assert "so there is nobody to follow; start it (systemctl start wg-exporter)" in err


def test_an_exporter_that_is_older_is_told_from_one_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(ask, "_ask", lambda *_: (404, b"not found"))
    code, _, err = run("--socket=/s")
    assert code == 1
    assert "is older than this command: restart it" in err


# --- as it happens ----------------------------------------------------------------------------------------------------


def test_who_follows_sees_what_there_is_then_what_comes_and_goes_on_with_the_next_exporter(tmp_path, monkeypatch):
    path = str(tmp_path / "s")
    command_line = [sys.executable, "-m", "wg_exporter.cli", "events", f"--socket={path}", "--follow", "wg0"]
    app = Exporter()
    with running(app, unix=UnixSocket(path)) as server:
        process = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = [process.stdout.readline() for _ in range(5)]
        assert lines[0].startswith("time ")
        assert "differs from /etc/wireguard/wg0.conf" in lines[3]
        server.happen(state(name="later"), state(C, "elsewhere", "wg1"))
        assert "later" in process.stdout.readline()
    assert "the exporter has ended; waiting for the next one" in process.stderr.readline()
    with running(app, unix=UnixSocket(path)) as server:
        server.happen(state(name="after all"))
        assert "after all" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")


def test_who_follows_and_leaves_gets_no_complaint(tmp_path):
    path = str(tmp_path / "s")
    with running(Exporter(), unix=UnixSocket(path)) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "wg_exporter.cli", "events", f"--socket={path}", "--follow", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert json.loads(process.stdout.readline())["number"] == 1
        process.stdout.close()

        def gone():
            server.happen(state())
            return process.poll() is not None

        eventually(gone, timeout=30)
        assert process.stderr.read() == b""
        assert process.returncode == 141
        process.stderr.close()


def test_too_many_that_follow_are_told_so(exporter, monkeypatch):
    def refused(_path, _query):
        raise ask.RefusedError("too many follow the events")

    monkeypatch.setattr(ask, "follow", refused)
    code, _, err = run(f"--socket={exporter.path}", "--follow")
    assert code == 1
    assert "too many follow the events" in err


# --- in `show` --------------------------------------------------------------------------------------------------------


def shown(exporter, *arguments):
    done = CliRunner().invoke(main, ["show", f"--socket={exporter.path}", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_show_has_the_last_events_of_one_peer_and_of_its_interface_and_says_how_to_see_more(exporter):
    exporter.journal.add([state(after=f"down{n}", at=n) for n in range(3)])
    lines = [line for line in shown(exporter, "wg0", "berlin").splitlines() if "  " in line]
    begin = lines.index("  last of `wg-exporter events wg0 berlin`:")
    said = lines[begin + 1 : begin + 6]
    assert [line.split("  ")[3].split(" ")[0] for line in said] == ["differs", "down", "down0", "down1", "down2"]
    assert said[-1] == ("    2025-10-09 08:53:22  down2 (was up): one_way: 3 initiations came from it")
    assert "twin" not in "".join(lines[begin:])


def test_show_of_several_peers_of_one_without_events_and_in_json_has_none(exporter):
    assert "last of" not in shown(exporter)
    assert "last of" not in shown(exporter, "wg0")
    assert json.loads(shown(exporter, "--json", "berlin"))["devices"][0]["peers"][0]["label"] == "berlin"


@pytest.mark.parametrize("rows", [(), (peer("berlin"), peer("lyon", key="B"))], ids=["none", "two"])
def test_of_no_peer_or_of_several_nobody_is_asked_what_happened(rows, monkeypatch):
    monkeypatch.setattr(ask, "events", lambda _path, _query: pytest.fail("it was asked"))
    assert last_events("s", host(device(*rows))._replace(teller=Teller("1", "gw1", "", NOW - 99))) == ()


def test_show_of_an_exporter_that_knows_no_events_shows_the_peer(exporter, monkeypatch):
    def refuse(_path, _query):
        raise ask.RefusedError("404")

    monkeypatch.setattr(ask, "events", refuse)
    out = shown(exporter, "berlin")
    assert "berlin" in out
    assert "last of" not in out
