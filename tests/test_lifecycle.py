"""POST /-/reload: who may, and that the answer is the outcome of a reload that began after it was asked for."""

from __future__ import annotations

import asyncio
import base64
import http.client
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import bcrypt
import pytest

from tests.lab import start_exporter
from tests.serving import App, eventually, running
from wg_exporter.daemon.reloads import Reloads
from wg_exporter.web.clients import Limits
from wg_exporter.web.server import MOST_RELOADING

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = 'interfaces: {include: ["no-such*"]}\nnames: []\n'
PATH = "/-/reload"
BOTH = pytest.mark.parametrize("arguments", [(), ("--no-privsep",)], ids=["apart", "together"])


class Slow(App):
    """Its reloads wait for a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.clear()

    async def reloaded(self) -> None:
        await asyncio.to_thread(self.gate.wait, 10)


# --- the server -------------------------------------------------------------------------------------------------------


def test_over_tcp_nobody_reloads_unless_it_was_switched_on():
    with running() as server:
        answer = server.get(PATH, "POST")
        assert answer.status == 403
        assert answer.body.startswith(b"Lifecycle API is not enabled")
        assert server.app.reloads == 0
    with running(lifecycle=True) as server:
        for method in ("POST", "PUT"):
            answer = server.get(PATH, method)
            assert (answer.status, answer.body) == (200, b"configuration reloaded\n")
        assert server.app.reloads == 2
        assert server.get(PATH, "POST", Origin="https://evil.example").status == 403
        answer = server.get(PATH)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST, PUT")
        assert server.app.reloads == 2


def test_what_is_wrong_is_one_line():
    app = App()
    with running(app, lifecycle=True) as server:
        app.refusal = "c.yml:1: a: is not a known key\nc.yml:2: b: is not a known key\nc.yml:3: c"
        answer = server.get(PATH, "POST")
    assert answer.status == 500
    assert answer.body == (
        b"configuration not reloaded: c.yml:1: a: is not a known key (and 2 more; the log of wg-exporter has all)\n"
    )


def test_a_reload_that_takes_its_time_keeps_nobody_waiting_and_has_an_end():
    with running(Slow(), limits=Limits(reload=2.0), lifecycle=True) as server:
        asked = threading.Thread(target=lambda: answers.append(server.get(PATH, "POST")))
        answers: list[object] = []
        asked.start()
        eventually(lambda: server.app.reloads == 1)
        assert server.get("/-/healthy").status == 200
        asked.join(30)
        assert answers[0].status == 503
        assert b"has not ended yet" in answers[0].body
        server.app.gate.set()
        assert server.get(PATH, "POST").status == 200


def test_a_crowd_that_waits_for_a_reload_leaves_room_for_scrapes():
    with running(Slow(), lifecycle=True) as server:
        statuses: list[int] = []
        crowd = [
            threading.Thread(target=lambda: statuses.append(server.get(PATH, "POST").status))
            for _ in range(MOST_RELOADING + 20)
        ]
        for one in crowd:
            one.start()
        eventually(lambda: statuses.count(429) == 20)
        server.app.gate.set()
        for one in crowd:
            one.join(30)
        assert statuses.count(200) == MOST_RELOADING


# --- one at a time ----------------------------------------------------------------------------------------------------


def test_whoever_asks_during_a_reload_gets_the_outcome_of_the_next_one():
    """The one under way may have read the file before it was changed."""
    begun: list[threading.Event] = []

    def reload() -> str:
        number = len(begun)
        begun.append(threading.Event())
        assert begun[number].wait(30)
        return f"outcome {number}"

    async def ask() -> None:
        reloads = Reloads(reload)
        first = reloads.ask()
        while not begun:
            await asyncio.sleep(0.01)
        later = [reloads.ask() for _ in range(5)]
        begun[0].set()
        assert await first == "outcome 0"
        while len(begun) < 2:
            await asyncio.sleep(0.01)
        last = reloads.ask()
        begun[1].set()
        assert [await one for one in later] == ["outcome 1"] * 5
        while len(begun) < 3:
            await asyncio.sleep(0.01)
        begun[2].set()
        assert await last == "outcome 2"
        await asyncio.sleep(0.1)
        assert len(begun) == 3

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_who_asks_while_it_ends_is_told_so_and_nothing_begins_any_more():
    """By then the loop takes no work any more."""
    going = threading.Event()

    async def ask() -> None:
        reloads = Reloads(lambda: "" if going.wait(30) else "too late")
        first, second = reloads.ask(), reloads.ask()
        reloads.stop()
        third = reloads.ask()
        going.set()
        await asyncio.get_running_loop().shutdown_default_executor()
        assert [await first, await second, await third] == ["", *["the exporter is ending"] * 2]
        assert await reloads.ask() == "the exporter is ending"

    asyncio.run(asyncio.wait_for(ask(), 60))


# --- the exporter -----------------------------------------------------------------------------------------------------


class _Local(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def post(connection: http.client.HTTPConnection, **headers: str) -> tuple[int, str]:
    connection.request("POST", PATH, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


@BOTH
def test_the_answer_comes_when_the_new_configuration_is_in_force(tmp_path, arguments):
    config = tmp_path / "config.yml"
    config.write_text(NOTHING)
    flags = ("--web.enable-lifecycle", f"--web.unix-socket={tmp_path / 's'}", *arguments)
    with start_exporter(*flags, directory=tmp_path, config=config) as exporter:
        for number, connection in enumerate((_Local(tmp_path / "s"), _tcp(exporter.port))):
            config.write_text(NOTHING + f"metrics: {{exclude: [wireguard_exporter_*]}}\n# {number}\n")
            assert post(connection) == (200, "configuration reloaded\n")
            assert "wireguard_exporter" not in exporter.get("/metrics").text
            config.write_text("no such key: 1\n")
            status, said = post(connection)
            assert status == 500
            assert said.startswith(f"configuration not reloaded: {config}:1: ")
            assert said.count("\n") == 1
            assert "wireguard_exporter" not in exporter.get("/metrics").text, "nothing has changed"
            config.write_text(NOTHING)
            assert post(connection)[0] == 200
            assert "wireguard_exporter" in exporter.get("/metrics").text
        assert "unexpected" not in exporter.log()


@BOTH
def test_without_a_file_there_is_nothing_to_reload(tmp_path, arguments):
    with start_exporter(f"--web.unix-socket={tmp_path / 's'}", *arguments, directory=tmp_path) as exporter:
        status, said = post(_Local(tmp_path / "s"))
        assert status == 500
        assert "no configuration file was given" in said
        assert post(_tcp(exporter.port))[0] == 403


def test_behind_a_password_it_takes_the_password_too(tmp_path):
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    web = tmp_path / "web.yml"
    config = tmp_path / "config.yml"
    config.write_text(NOTHING)
    flags = ("--web.enable-lifecycle", f"--web.config.file={web}")
    web.write_text("")
    with start_exporter(*flags, directory=tmp_path, config=config) as exporter:
        assert post(_tcp(exporter.port))[0] == 200
        web.write_text(f"basic_auth_users: {{anna: '{hashed}'}}\n")
        eventually(lambda: exporter.get("/-/healthy").status == 401, timeout=30)
        assert post(_tcp(exporter.port))[0] == 401
        assert len(exporter.logged("configuration reloaded")) == 1
        anna = {"Authorization": "Basic " + base64.b64encode(b"anna:secret").decode()}
        assert post(_tcp(exporter.port), **anna)[0] == 200


def test_a_pipe_in_place_of_the_file_is_answered_in_time(tmp_path):
    config = tmp_path / "config.yml"
    config.write_text(NOTHING)
    with start_exporter("--web.enable-lifecycle", directory=tmp_path, config=config) as exporter:
        config.unlink()
        os.mkfifo(config)
        begun = time.monotonic()
        assert post(_tcp(exporter.port))[0] == 500
        assert time.monotonic() - begun < 10


def _tcp(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=30)
