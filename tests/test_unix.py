"""The Unix socket: who may connect, who keeps it, and what is answered there and not over TCP."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from tests.serving import App, eventually, running
from wg_exporter.cli import ask
from wg_exporter.web.unix import UnixSocket, UnixSocketError

KEY = ("", "wg0", "A" * 43 + "=")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "http.sock")


def leave_a_stale_socket(path):
    """What a process leaves behind that was killed."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)


# --- the file -------------------------------------------------------------------------------------------------------


def test_only_the_owner_may_connect_from_the_first_moment_on_whatever_the_umask_is(path):
    before = os.umask(0)
    try:
        unix = UnixSocket(path)
        assert os.umask(0) == 0  # it was put back
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(path).lstat().st_mode) == 0o600
    unix.socket.close()
    unix.close()
    assert not Path(path).exists()


def test_a_socket_on_which_nobody_listens_is_replaced(path):
    leave_a_stale_socket(path)
    unix = UnixSocket(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    unix.socket.close()


def test_a_second_exporter_leaves_the_socket_to_the_first_and_says_what_to_do(path):
    first = UnixSocket(path)
    with pytest.raises(UnixSocketError, match=r"another wg-exporter answers there.*--web\.unix-socket$"):
        UnixSocket(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    first.socket.close()


def test_one_that_is_too_busy_to_accept_is_a_second_exporter_too(path):
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(path)
            with pytest.raises(UnixSocketError, match="another wg-exporter answers there"):
                UnixSocket(path)
            assert Path(path).exists()


def test_of_many_that_start_at_once_exactly_one_gets_the_socket(path):
    leave_a_stale_socket(path)
    got, start = [], threading.Barrier(8)

    def begin():
        start.wait()
        try:
            got.append(UnixSocket(path))
        except UnixSocketError:
            got.append(None)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    [winner] = [unix for unix in got if unix]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    winner.socket.close()


def test_nobody_looks_at_the_socket_of_another_who_is_just_making_his(path):
    """Between finding a stale socket and binding, another one could take its place, and lose it again."""
    got = []
    handle = os.open(Path(path).parent, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    thread = threading.Thread(target=lambda: got.append(UnixSocket(path)))
    thread.start()
    thread.join(0.3)
    assert got == []
    assert not Path(path).exists()
    os.close(handle)
    thread.join(30)
    [unix] = got
    unix.socket.close()


def test_whoever_holds_a_lock_on_the_directory_keeps_no_exporter_from_starting(path):
    holder = os.open(Path(path).parent, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        with pytest.raises(UnixSocketError, match="another process holds a lock on its directory"):
            UnixSocket(path)
    finally:
        os.close(holder)
    UnixSocket(path).close()


def test_without_the_directory_it_says_which(path):
    missing = str(Path(path).parent / "none" / "http.sock")
    with pytest.raises(UnixSocketError, match=r"there is no directory \S+/none; make it \(the systemd unit does\)"):
        UnixSocket(missing)


def test_a_file_that_is_no_socket_is_left_alone(path):
    Path(path).write_text("precious")
    with pytest.raises(UnixSocketError, match="is no socket; remove it"):
        UnixSocket(path)
    assert Path(path).read_text() == "precious"


def test_a_link_to_something_else_is_not_followed(path, tmp_path):
    (tmp_path / "other").write_text("precious")
    Path(path).symlink_to(tmp_path / "other")
    with pytest.raises(UnixSocketError, match="is no socket"):
        UnixSocket(path)


def test_a_path_that_is_too_long_for_a_socket_is_one_line():
    with pytest.raises(UnixSocketError, match="at most 107 bytes; use a shorter one"):
        UnixSocket("/tmp/" + "x" * 103)


def test_at_the_end_only_its_own_file_is_removed(path):
    first = UnixSocket(path)
    first.socket.close()
    second = UnixSocket(path)  # nobody listens there any more
    first.close()
    assert Path(path).exists()
    second.close()
    assert not Path(path).exists()
    second.socket.close()


# --- what is answered where -----------------------------------------------------------------------------------------


@pytest.fixture
def server(path):
    app = App()
    with running(app, unix=UnixSocket(path)) as server:
        server.path = path
        yield server


def over_unix(path, method, target):
    status, body = ask._ask(path, method, target, 5.0)
    return status, body.decode()


def test_reading_is_answered_on_both_and_only_the_unix_socket_gets_the_private_document(server):
    answer = server.get("/api/v1/status")
    assert (answer.status, json.loads(answer.body)) == (200, {"private": False})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert over_unix(server.path, "GET", "/api/v1/status") == (200, '{"private":true}')
    assert over_unix(server.path, "GET", "/-/ready")[0] == 200
    assert f"unix:{server.path}" in server.server.addresses


def test_what_acts_is_answered_on_the_unix_socket_alone(server):
    query = "/api/v1/pause?interface=wg0&public_key=A&seconds=5"
    refused = server.get(query, "POST")
    assert (refused.status, refused.body) == (403, b"this acts, so it is answered on the Unix socket alone\n")
    assert server.app.paused == []
    assert over_unix(server.path, "POST", query) == (200, "done\n")
    assert server.app.paused == [{"interface": "wg0", "public_key": "A", "seconds": "5"}]
    assert over_unix(server.path, "GET", query)[0] == 405
    server.app.refusal = "name the peer"
    assert over_unix(server.path, "POST", query) == (400, "name the peer\n")


def test_quiet_is_begun_and_ended_on_the_unix_socket_alone(server):
    path = "/api/v1/quiet?interface=wg0&seconds=5&reason=new%20router"
    for method in ("POST", "DELETE"):
        refused = server.get(path, method)
        assert (refused.status, refused.body) == (403, b"this acts, so it is answered on the Unix socket alone\n")
    assert server.app.quieted == []
    assert over_unix(server.path, "POST", path) == (200, '{"done":true}')
    assert over_unix(server.path, "DELETE", "/api/v1/quiet?interface=wg0") == (200, '{"done":true}')
    asked = {"interface": "wg0", "seconds": "5", "reason": "new router"}
    assert server.app.quieted == [(asked, False), ({"interface": "wg0"}, True)]
    assert over_unix(server.path, "GET", path)[0] == 405
    server.app.refusal = "seconds is missing"
    assert over_unix(server.path, "POST", path) == (400, "seconds is missing\n")


def test_an_exporter_that_knows_no_quiet_is_told_from_none(path, server):
    with pytest.raises(ask.NotAskedError, match="no exporter"):
        ask.quiet(server.path, KEY, 5.0, "")  # it answers what is no answer of ours
    server.app.refusal = "it is not quiet"
    with pytest.raises(ask.RefusedError, match=r"^it is not quiet$"):
        ask.end_quiet(server.path, KEY)


def test_a_claim_to_be_local_does_not_help_over_tcp(server):
    for header in ({"Host": "localhost"}, {"X_Forwarded_For": "127.0.0.1"}, {"Forwarded": "for=unix"}):
        assert server.get("/api/v1/pause?interface=a&public_key=b&seconds=1", "POST", **header).status == 403


def test_before_the_first_look_the_status_is_503_with_the_reason(server):
    server.app.problem = "not read yet"
    answer = server.get("/api/v1/status")
    assert (answer.status, answer.body) == (503, b"not read yet\n")


def test_the_document_is_made_only_when_it_is_asked_for_and_once_for_all_who_ask_at_a_time(server):
    app, made = server.app, []
    document = app.document

    def counting(*, private, round_trips):
        made.append(private)
        return document(private=private, round_trips=round_trips)

    app.document = counting
    server.get("/metrics")
    server.get("/")
    assert made == []
    app.gate.clear()
    clients = [threading.Thread(target=server.get, args=("/api/v1/status",)) for _ in range(5)]
    for client in clients:
        client.start()
    app.begun.clear()
    eventually(lambda: made == [False])
    eventually(lambda: len(server.server._clients) >= 5)
    app.gate.set()
    for client in clients:
        client.join(30)
    assert made == [False]


def test_a_document_goes_compressed_to_those_who_take_it(server):
    import gzip

    answer = server.get("/api/v1/status", Accept_Encoding="gzip")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.body)) == {"private": False}


def test_a_document_that_can_not_be_made_is_an_error_of_one_line(server):
    def broken(*, private):
        raise RuntimeError("boom")

    server.app.document = broken
    assert server.get("/api/v1/status").status == 500
    assert server.get("/metrics").status == 200


# --- asking ---------------------------------------------------------------------------------------------------------


def raised(path, **more):
    with pytest.raises(ask.NotAskedError) as error:
        ask.status(path, **more)
    return str(error.value)


def test_whoever_is_not_there_is_named(path):
    assert raised(path) == f"no exporter runs here (there is no {path})"
    leave_a_stale_socket(path)
    assert raised(path) == f"no exporter runs here (nobody listens at {path})"
    assert raised("") == "no socket was named"
    Path(path).unlink()
    Path(path).write_text("")
    assert raised(path).startswith("no exporter runs here")


@pytest.fixture
def liar(path):
    """Something else listens there: `answer` is what it says, bit by bit, before it closes."""

    class Liar:
        parts: tuple[bytes, ...] = ()
        hang = threading.Event()

    liar = Liar()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()

        def serve():
            try:
                connection, _ = sock.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(1 << 16)  # else closing would be a reset
                    for part in liar.parts:
                        connection.sendall(part)
                        if part == b"":
                            liar.hang.wait(30)
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield liar
        liar.hang.set()
        sock.shutdown(socket.SHUT_RDWR)
        thread.join(30)


def test_an_exporter_that_hangs_is_waited_for_no_longer_than_the_deadline(liar, path):
    liar.parts = (b"",)
    assert raised(path, within=0.3) == f"the exporter at {path} did not answer within 0.3 s"


def test_one_that_sends_a_byte_now_and_then_has_the_same_deadline(liar, path):
    begun = time.monotonic()

    class Slowly:
        def __iter__(self):
            while not liar.hang.wait(0.05) and time.monotonic() < begun + 5:
                yield b"H"

    liar.parts = Slowly()
    assert "did not answer within 0.4 s" in raised(path, within=0.4)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100_000,
        b'HTTP/1.0 200 OK\r\n\r\n{"version": 1e999}',
        b"HTTP/1.0 200 OK\r\n\r\n\xff\xfe",
        b"HTTP/1.0 404 Not Found\r\n\r\n\x1b[2Jnot found",
        b"\0" * 1000,
    ],
)
def test_rubbish_is_one_line_and_no_traceback(liar, path, answer):
    liar.parts = (answer,) if answer else ()
    said = raised(path)
    assert path in said
    assert said.isprintable()


def test_a_pause_that_nobody_hears_says_why(path):
    assert ask.pause(path, KEY, 5.0).startswith("no exporter runs here")


def test_a_pause_names_the_peer_whatever_is_in_its_key(server):
    key = ("blue & green", "wg 0", "A+/=")
    assert ask.pause(server.path, key, 300.0) == ""
    assert server.app.paused == [{"netns": "blue & green", "interface": "wg 0", "public_key": "A+/=", "seconds": "300"}]
    server.app.refusal = "no"
    assert ask.pause(server.path, key, 300.0) == "no"
