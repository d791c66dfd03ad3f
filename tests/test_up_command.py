"""`wg-exporter up`: its exit code is what scripts act on, so "can't tell" never looks like "down"."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.hosts import device, host, peer
from tests.serving import App, running
from wg_exporter.cli import ask, main
from wg_exporter.status import document
from wg_exporter.status.rows import Teller
from wg_exporter.web.unix import UnixSocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

A, B = (letter * 43 + "=" for letter in "AB")


class Office(App):
    """berlin is up, twin is on wg1 too, and hamburg has no fast echoes."""

    def __init__(self) -> None:
        super().__init__()
        self.fast = {("", "wg0", A): (True, "")}
        rows = [
            device(peer("berlin", key="A", age=1), peer("hamburg", key="B", age=1), name="wg0"),
            device(peer("far", key="A", age=1), name="wg0", netns="blue"),
        ]
        self.office = host(*rows)._replace(teller=Teller("1", "gw1", "", 1.0))

    def document(self, *, private: bool, round_trips: bool) -> list[bytes]:
        return [document.encode(self.office, endpoints="full")]


@contextmanager
def office(tmp_path: Path) -> Iterator[tuple[Office, str]]:
    socket = UnixSocket(str(tmp_path / "s"))
    app = Office()
    with running(app, unix=socket):
        yield app, socket.path
    socket.close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that fails over has two seconds for the answer; a busy machine may not."""
    real = ask._ask
    monkeypatch.setattr(ask, "_ask", lambda path, method, target, _within: real(path, method, target, 30.0))


def up(socket: str, *args: str) -> Result:
    return CliRunner().invoke(main, ["up", *args, "--socket", socket])


@pytest.mark.parametrize(
    ("state", "why", "code", "says"),
    [
        (True, "", 0, "up\n"),
        (False, "", 1, "down\n"),
        (False, "it has no endpoint", 1, "down: it has no endpoint\n"),
        (None, "nothing yet", 2, "Error: not known: nothing yet\n"),
    ],
)
def test_the_exit_code_says_how_it_is(tmp_path, state, why, code, says):
    with office(tmp_path) as (app, socket):
        app.fast["", "wg0", A] = state, why
        result = up(socket, "wg0", A)
    assert (result.exit_code, result.output) == (code, says)


@pytest.mark.parametrize("whom", ["berlin", A, A[:4]])
def test_the_peer_goes_by_name_key_or_the_start_of_its_key(tmp_path, whom):
    with office(tmp_path) as (_app, socket):
        assert up(socket, "wg0", whom).exit_code == 0


def test_its_key_is_asked_for_without_reading_all_the_host(tmp_path):
    with office(tmp_path) as (app, socket):
        app.gate.clear()  # the status document does not come
        assert up(socket, "wg0", A).exit_code == 0


def test_a_peer_in_another_namespace_is_asked_for_there(tmp_path):
    with office(tmp_path) as (app, socket):
        app.fast["blue", "wg0", A] = False, ""
        assert up(socket, "wg0", "far", "--netns", "blue").exit_code == 1
        assert up(socket, "wg0", A, "--netns=blue").exit_code == 1
        assert up(socket, "wg0", "berlin", "--netns", "blue").exit_code == 2


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("wg0", B), "fast: {}"),
        (("wg0", "hamburg"), "fast: {}"),
        (("wg0", "munich"), "if the peer may be gone, give its whole key"),
        (("wg7", "berlin"), "no WireGuard interface wg7 here; if it may be gone, give the whole key of the peer"),
    ],
)
def test_a_peer_that_has_no_fast_echoes_or_is_not_there_can_not_be_told_of(tmp_path, args, says):
    with office(tmp_path) as (_app, socket):
        result = up(socket, *args)
    assert result.exit_code == 2
    assert says in result.output
    assert result.output.count("\n") == 1


def test_without_an_exporter_or_with_something_else_there_nothing_can_be_told(tmp_path, monkeypatch):
    result = up(str(tmp_path / "none"), "wg0", A)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "no exporter runs here" in result.output
    assert "start it (systemctl start wg-exporter)" in result.output
    assert up("", "wg0", A).exit_code == 2
    with office(tmp_path) as (app, socket):
        app.fast["", "wg0", A] = True, ""
        monkeypatch.setattr(ask, "_PEERS", "/metrics?")  # what answers 200 and is no exporter of ours
        assert up(socket, "wg0", A).exit_code == 2


def test_wrong_usage_and_a_fault_of_our_own_are_no_outage(tmp_path, monkeypatch):
    assert up(str(tmp_path / "s")).exit_code == 2
    assert up(str(tmp_path / "s"), "wg0").exit_code == 2
    for error in (MemoryError(), RuntimeError("can't start new thread"), OSError(24, "Too many open files")):
        monkeypatch.setattr(ask, "up", lambda *_: (_ for _ in ()).throw(error))  # noqa: B023 - used at once
        result = up(str(tmp_path / "s"), "wg0", A)
        assert (result.exit_code, result.output.count("\n")) == (2, 1)


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_where_nothing_can_be_printed_the_exit_code_stays(tmp_path, redirection):
    with office(tmp_path) as (_app, socket):
        command = f'"$0" -m wg_exporter.cli up wg0 {A} --socket {socket} {redirection}'
        done = subprocess.run(["sh", "-c", command, sys.executable], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
