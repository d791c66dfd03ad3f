"""What happened, for real: a night in a lab, at the terminal, over HTTP and on the page; and exporters that die."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, start_exporter, tunnel
from tests.lab.exporting import scrape, until
from tests.test_asking import CONFIG, run
from tests.test_systemd import UNIT, under_the_capabilities_of
from wg_exporter.events import NOT_STOPPED
from wg_exporter.events.file import NAME, decode
from wg_exporter.linux.storage import BELOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.lab import Exporter, Lab, Tunnel

NOTHING = "interfaces: {exclude: ['*']}\nnames: []\n"
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about processes of other users")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    found = tmp_path / "state"
    found.mkdir(mode=0o700)
    return found


@pytest.fixture
def start(tmp_path: Path, storage: Path) -> Callable[..., AbstractContextManager[Exporter]]:
    """Starts an exporter that has nothing to look at."""

    def begin(*more: str, config: str = NOTHING, **how: object) -> AbstractContextManager[Exporter]:
        flags = [f"--web.unix-socket={tmp_path / 's'}", f"--storage.path={storage}", *more]
        return start_exporter(*flags, directory=tmp_path, config=config, **how)

    return begin


def told(tmp_path: Path, *more: str) -> list[dict[str, object]]:
    code, out, err = run("events", f"--socket={tmp_path / 's'}", "--json", *more)
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def kill(exporter: Exporter) -> None:
    for pid in exporter.processes().values():
        os.kill(pid, signal.SIGKILL)
    exporter.process.wait(30)


def reload(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(path))
        sock.sendall(b"POST /-/reload HTTP/1.0\r\n\r\n")
        while sock.recv(4096):
            pass


# --- exporters that die -----------------------------------------------------------------------------------------------


def test_a_killed_exporter_loses_what_it_wrote_last_and_nothing_else_and_the_next_says_that_it_was_killed(
    start, tmp_path, storage
):
    file = storage / BELOW / NAME
    known: list[int] = []
    for n in range(3):
        with start() as exporter:
            rows = told(tmp_path)
            assert [row["number"] for row in rows][: len(known)] == known, "nothing of before is lost"
            begun = [row for row in rows if row.get("process") == "exporter"][-1]
            assert (begun["after"], begun.get("reason")) == ("started", NOT_STOPPED if n else None)
            for _ in range(4 + n):
                reload(tmp_path / "s")
            time.sleep(0.1 * n)
            kill(exporter)
        found = decode(file.read_bytes())
        assert found.bad == 0
        known = [one.number for one in found.events]
        assert known == list(range(1, len(known) + 1))
    with start() as exporter:
        assert exporter.stop() == 0
    last = decode(file.read_bytes()).events[-1]
    assert (last.process, last.after) == ("exporter", "stopped")


# Kills the process that writes at a byte of the first line that it adds to the file.
KILLS_ITSELF = """
import os, signal
real = os.write
def write(handle, data):
    if bytes(data[:10]) != b'{"number":':
        return real(handle, data)
    real(handle, bytes(data[:int(os.environ["TAKEN"])]))
    os.kill(os.getpid(), signal.SIGKILL)
os.write = write
"""


@root
def test_an_exporter_that_is_killed_in_the_middle_of_a_line_starts_again_and_has_lost_that_line_alone(
    start, tmp_path, storage
):
    file = storage / BELOW / NAME
    with start() as exporter:
        reload(tmp_path / "s")
        assert exporter.stop() == 0
    before = decode(file.read_bytes()).events
    (tmp_path / "sitecustomize.py").write_text(KILLS_ITSELF)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    for taken in (0, 1, 60, 100):
        command = [sys.executable, "-m", "wg_exporter.cli", "serve", "--web.listen-address=127.0.0.1:0"]
        command += ["--web.unix-socket=", f"--storage.path={storage}"]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": path, "TAKEN": str(taken)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "the exporter was killed" in done.stderr
        found = decode(file.read_bytes())
        assert (found.events, found.torn, found.bad) == (before, taken > 0, 0)
        with start() as exporter:
            rows = told(tmp_path)
            assert [row["number"] for row in rows][: len(before)] == [one.number for one in before]
            assert "Traceback" not in exporter.log()
            assert exporter.stop() == 0
        before = decode(file.read_bytes()).events


@root
def test_the_end_and_the_return_of_a_process_are_told_and_how_it_ended_to_the_owner_alone(start, tmp_path):
    with start() as exporter:
        os.kill(exporter.processes()["wg-read"], signal.SIGKILL)

        def lives() -> list[tuple[object, object]]:
            return [(row["process"], row["after"]) for row in told(tmp_path) if row["kind"] == "process"]

        eventually(
            lambda: lives() == [("exporter", "started"), ("reader", "failed"), ("reader", "recovered")], within=30
        )
        (failed,) = [row for row in told(tmp_path) if row.get("after") == "failed"]
        assert "was killed by SIGKILL" in failed["evidence"]
        strangers = exporter.get("/api/v1/events").text
        assert '"after":"failed"' in strangers
        assert "SIGKILL" not in strangers


def test_the_capabilities_of_the_unit_suffice_to_keep_events(start, tmp_path, storage):
    with start(wrapper=under_the_capabilities_of(UNIT)) as exporter:
        eventually((storage / BELOW / NAME).exists, within=30)
        assert "not kept across restarts" not in exporter.log()
    assert len(decode((storage / BELOW / NAME).read_bytes()).events) == 2


def test_in_one_process_they_are_kept_too(start, tmp_path):
    for n in range(2):
        with start("--no-privsep") as exporter:
            assert len(told(tmp_path)) == 1 + 2 * n
            assert exporter.stop() == 0


def test_where_no_exporter_runs_the_terminal_reads_what_the_last_one_kept(start, tmp_path, storage):
    with start() as exporter:
        reload(tmp_path / "s")
        assert exporter.stop() == 0
    code, out, err = run("events", f"--socket={tmp_path / 's'}", f"--storage.path={storage}")
    assert code == 0
    assert "these are the events that the last one kept" in err
    assert [line.split(None, 2)[2] for line in out.splitlines()[1:]][-2:] == [
        "configuration reloaded", "wg-exporter was stopped"
    ]  # fmt: skip


# --- a night ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(lab: Lab) -> Tunnel:
    found = tunnel(lab)
    found.ping()
    return found


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts what follows at the terminal; ended in the end."""
    made: list[subprocess.Popen[str]] = []

    def begin(*more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "wg_exporter.cli", "events", f"--socket={tmp_path / 's'}", "--follow", *more]
        made.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return made[-1]

    yield begin
    for one in made:
        one.kill()
        one.communicate()


@pytest.mark.lab
def test_a_night_is_told_by_the_terminal_over_http_and_by_the_page_and_by_the_log_in_the_same_rows(
    start, pair, tmp_path, following
):
    config = CONFIG.format(interface=pair.hub.name, file=pair.hub.conf) + "metrics: {endpoint: 'off'}\n"
    with start(config=config, namespace=pair.hub.namespace) as exporter:
        until(exporter, "wireguard_peer_state", 1, state="up", within=60)
        follow = following("spoke")
        assert follow.stdout
        assert follow.stdout.readline().startswith("time ")
        pair.spoke.namespace.run(["wg", "set", pair.spoke.name, "listen-port", "50123"])
        pair.ping()
        cut = "add table inet cut\nadd chain inet cut in { type filter hook input priority 0; policy drop; }\n"
        pair.spoke.namespace.run(["nft", "-f", "-"], stdin=cut)
        until(exporter, "wireguard_peer_state", 1, state="down", within=60)
        pair.spoke.namespace.run(["nft", "delete", "table", "inet", "cut"])
        until(exporter, "wireguard_peer_state", 1, state="up", within=60)
        eventually(
            lambda: [row["after"] for row in told(tmp_path, "spoke") if row["kind"] == "state"][-1] == "up", within=30
        )
        rows = told(tmp_path, pair.hub.name, "spoke")
        (roamed,) = [row for row in rows if row["kind"] == "roaming"]
        assert roamed["after"].endswith(":50123")
        # On a busy machine it may be unhealthy when it is first judged, which has no state before it.
        states = [(row.get("before"), row["after"]) for row in rows if row["kind"] == "state"]
        assert ("up", "down") in states
        assert states[-1][1] == "up"
        down = next(row for row in rows if row.get("after") == "down")
        assert down["reason"] in exporter.logged('msg="peer changed"', "after=down")[0]
        assert roamed["after"] in exporter.logged('msg="peer roamed"')[0]
        # Over TCP without an address.
        data = exporter.get("/api/v1/events").text
        strangers = [json.loads(line) for line in data.splitlines()]
        assert {row["kind"] for row in strangers} >= {"state", "roaming"}
        assert (":50123" in data, roamed["after"].rpartition(":")[0] in data) == (False, False)
        assert "spoke on" in exporter.get("/").text.partition('id="events"')[2]
        assert "roamed to" in follow.stdout.readline()
        while "down (was up): " not in follow.stdout.readline():
            assert follow.poll() is None
        follow.send_signal(signal.SIGINT)
        assert follow.wait(30) == 130


@pytest.mark.lab
def test_while_followers_hold_all_their_places_scrapes_are_answered(start, pair, tmp_path):
    config = CONFIG.format(interface=pair.hub.name, file=pair.hub.conf)
    with start(config=config, namespace=pair.hub.namespace) as exporter:
        held = []
        for _ in range(16):
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].settimeout(30)
            held[-1].connect(str(tmp_path / "s"))
            held[-1].sendall(b"GET /api/v1/events?follow=true HTTP/1.0\r\n\r\n")
            assert held[-1].recv(12) == b"HTTP/1.1 200"
        for _ in range(10):
            assert scrape(exporter).one("wireguard_interface_up") == 1
        code, _, err = run("events", f"--socket={tmp_path / 's'}", "--follow")
        assert (code, "too many follow the events" in err) == (1, True)
        for sock in held:
            sock.close()
