"""Clients that connect and ask nothing, ask too slowly or do not read, on real sockets."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from tests.certificates import certificate
from tests.serving import App, eventually, read_all, running
from wg_exporter.web.policy import Policy, made
from wg_exporter.web.server import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving import Running

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def serving(size: int) -> App:
    """Every scrape makes chunks of its own: memory that is really used."""
    return App(lambda path, wanted: [b"x" * (1 << 20) for _ in range(size >> 20)])


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        part = sock.recv(4096)
        assert part
        data += part
    return data


def closed(sock: socket.socket) -> bool:
    """Whether the server closed, told without reading what is still on its way."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return info[0] != 1  # TCP_ESTABLISHED, include/net/tcp_states.h


def test_silent_clients_do_not_keep_others_waiting():
    with running(limits=Limits(head=120)) as server:
        silent = [server.connect() for _ in range(50)]
        half = server.connect()
        half.sendall(b"GET /metrics HTTP/1.1\r\nHo")
        begun = time.monotonic()
        assert server.get().status == 200
        assert time.monotonic() - begun < 60, "and not after the head of another"
        for sock in (*silent, half):
            sock.close()


def test_a_client_that_asks_nothing_is_cut_off_in_time():
    with running(limits=Limits(head=0.2)) as server, server.connect() as sock:
        assert read_all(sock) == b""


def test_a_client_that_asks_one_byte_at_a_time_is_cut_off_in_time():
    with running(limits=Limits(head=0.3)) as server, server.connect() as sock:
        begun = time.monotonic()
        end = begun + 60
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < end:
                sock.sendall(b"x")
                time.sleep(0.02)
        assert time.monotonic() < end
        assert time.monotonic() - begun > 0.2


def test_a_client_with_a_good_request_may_stay_longer():
    with running(limits=Limits(head=1.5)) as server, server.connect() as sock:
        for _ in range(2):
            sock.sendall(REQUEST)
            assert read_until(sock, b"native text\n").startswith(b"HTTP/1.1 200")
            time.sleep(1.7)
        assert not closed(sock)


def test_an_idle_connection_is_closed_in_the_end():
    with running(limits=Limits(keepalive=0.2)) as server, server.connect() as sock:
        sock.sendall(REQUEST)
        assert read_all(sock).startswith(b"HTTP/1.1 200")


def test_the_newcomer_gets_in_when_there_are_too_many_and_the_oldest_silent_one_goes(caplog):
    caplog.set_level("INFO")
    with running(limits=Limits(connections=5)) as server:
        socks = [server.connect() for _ in range(5)]
        socks[0].sendall(REQUEST)
        read_until(socks[0], b"native text\n")
        assert server.get().status == 200
        eventually(lambda: closed(socks[1]))
        assert [closed(sock) for sock in socks] == [False, True, False, False, False]
        assert [r.fields for r in caplog.records] == [
            {"client": "127.0.0.1", "reason": "too many connections", "number": 1}
        ]
        for sock in socks:
            sock.close()


def test_a_client_that_stops_reading_is_cut_off_and_others_are_served_meanwhile(caplog):
    caplog.set_level("INFO")
    with running(serving(8 << 20), limits=Limits(write=2)) as server, server.connect(4096) as stuck:
        stuck.sendall(REQUEST)
        assert stuck.recv(1) == b"H"
        assert len(server.get().body) == 8 << 20
        assert not closed(stuck)
        eventually(lambda: closed(stuck))
        assert [r.fields["reason"] for r in caplog.records] == ["too slow"]


class Encrypted:
    """How to serve over TLS, or not, and how to ask then."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.policy: Policy | None = None
        self._context: ssl.SSLContext | None = None
        if kind == "tls":
            certificate(directory, "one")
            paths = {"cert": str(directory / "one.crt"), "key": str(directory / "one.key")}
            self.policy = made("tls_server_config: {cert_file: c, key_file: k}\n", "web.yml", paths)
            self._context = ssl.create_default_context(cafile=paths["cert"])

    def connect(self, server: Running, receive_buffer: int = 0) -> socket.socket:
        sock = server.connect(receive_buffer)
        return self._context.wrap_socket(sock, server_hostname="127.0.0.1") if self._context else sock

    def ask(self, server: Running) -> bytes:
        with self.connect(server) as sock:
            sock.sendall(REQUEST.replace(b"Host: x", b"Host: x\r\nConnection: close"))
            return read_all(sock)


@pytest.fixture(params=["plain", "tls"])
def encrypted(request, tmp_path) -> Encrypted:
    return Encrypted(tmp_path, request.param)


def test_a_client_that_takes_nothing_is_cut_off_as_soon_as_others_wait(encrypted, caplog):
    caplog.set_level("INFO")
    with running(serving(8 << 20), limits=Limits(answers=1, write=120), policy=encrypted.policy) as server:
        stuck = encrypted.connect(server, 4096)
        stuck.sendall(REQUEST)
        assert stuck.recv(1) == b"H"
        begun = time.monotonic()
        assert len(encrypted.ask(server)) > 8 << 20
        assert time.monotonic() - begun < 60, "and not after the time that a response may take"
        assert [r.fields["reason"] for r in caplog.records] == ["too slow while others wait"]
        stuck.close()


def test_a_client_that_is_slow_but_takes_on_and_on_is_not_cut_off(encrypted, caplog):
    caplog.set_level("INFO")
    with running(
        App(lambda path, wanted: [b"x" * (400 << 10)]), limits=Limits(answers=1), policy=encrypted.policy
    ) as server:
        for sock in server.server._acceptor._sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)  # a large one is filled in long steps
        slow = encrypted.connect(server, 16 << 10)
        slow.sendall(REQUEST)
        got = len(slow.recv(1))
        other = threading.Thread(target=lambda: answers.append(len(encrypted.ask(server))))
        answers: list[int] = []
        other.start()
        begun = time.monotonic()
        while got < 400 << 10:
            part = slow.recv(16 << 10)
            assert part, "it was cut off"
            got += len(part)
            time.sleep(0.2)
        assert time.monotonic() - begun > 3, "longer than anybody may take nothing"
        other.join(30)
        assert answers[0] > 400 << 10
        assert not caplog.records
        slow.close()


def test_a_client_that_reads_a_trickle_is_cut_off_too():
    with running(serving(16 << 20), limits=Limits(write=0.5)) as server, server.connect(4096) as slow:
        slow.sendall(REQUEST)
        begun = time.monotonic()
        try:
            while slow.recv(100):
                time.sleep(0.02)
                assert time.monotonic() - begun < 60, "all of it takes an hour"
        except ConnectionError:
            pass


def test_a_client_that_asks_on_and_on_and_reads_nothing_is_cut_off():
    with running(limits=Limits(write=0.5)) as server, server.connect(4096) as sock:
        sock.settimeout(60)  # for the test to fail at all; the server cuts off after half a second
        try:
            for _ in range(20_000):
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        except ConnectionError:
            pass
        eventually(lambda: closed(sock))
        assert server.get().status == 200


@pytest.fixture
def traced():
    """The bytes of Python objects that are alive; no garbage collection helps."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    gc.enable()


def test_slow_readers_of_different_bodies_hold_no_more_memory_than_the_limit(traced):
    size = 8 << 20
    with running(serving(size), limits=Limits(unsent_bytes=20 << 20)) as server:
        slow = []
        for _ in range(5):  # each of them gets a body of its own
            slow.append(server.connect(4096))
            slow[-1].sendall(REQUEST)
            assert slow[-1].recv(1) == b"H"  # the sending has begun
        eventually(lambda: [closed(sock) for sock in slow] == [True] * 3 + [False] * 2)
        eventually(lambda: traced() < 20 << 20)
        assert len(server.get().body) == size
        for sock in slow:
            sock.close()


def test_clients_that_are_too_slow_or_gone_leave_no_body_behind(traced):
    with running(serving(8 << 20), limits=Limits(write=0.3)) as server:
        for leave in (True, False) * 3:
            sock = server.connect(4096)
            sock.sendall(REQUEST)
            sock.recv(1000)
            if leave:
                sock.close()
            else:
                eventually(lambda sock=sock: closed(sock))
                sock.close()
        eventually(lambda: traced() < 4 << 20)


def test_a_client_that_closes_in_the_middle_of_a_body_does_no_harm(caplog):
    caplog.set_level("INFO")
    with running(serving(16 << 20)) as server:
        for _ in range(20):
            with server.connect(4096) as sock:
                sock.sendall(REQUEST)
                sock.recv(1000)
        assert len(server.get().body) == 16 << 20
    assert [r.getMessage() for r in caplog.records] == []


def test_a_stop_does_not_wait_for_a_client_that_does_not_read():
    with running(serving(16 << 20), limits=Limits(stop=0.2, write=120)) as server:
        stuck = server.connect(4096)
        stuck.sendall(REQUEST)
        assert stuck.recv(1) == b"H"
        begun = time.monotonic()
    assert time.monotonic() - begun < 25
    stuck.close()


def slow(server: Running, address: str) -> socket.socket:
    """A client with this address that asks for a lot and takes nothing of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.bind((address, 0))
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(REQUEST)
    return sock


def test_a_crowd_of_slow_readers_of_one_address_keeps_nobody_else_waiting():
    """They all wait for a place, or take nothing in theirs."""
    with running(serving(8 << 20), limits=Limits(answers=8, unsent_bytes=1 << 40, write=600)) as server:
        crowd = [slow(server, "127.0.0.2") for _ in range(40)]
        eventually(lambda: len(server.server._clients._queued) >= 24)
        time.sleep(1.5)
        for _ in range(3):
            begun = time.monotonic()
            assert server.get("/-/healthy").status == 200
            assert time.monotonic() - begun < 25, "and not when those before it had their time"
        for sock in crowd:
            sock.close()


def test_a_crowd_of_slow_readers_of_many_addresses_goes_as_soon_as_others_wait():
    limits = Limits(answers=8)
    with running(serving(8 << 20), limits=limits) as server:
        crowd = [slow(server, f"127.0.1.{number}") for number in range(1, 41)]
        eventually(lambda: len(server.server._clients._queued) >= 24)
        begun = time.monotonic()
        with server.connect() as sock:
            sock.settimeout(30)
            sock.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert time.monotonic() - begun < 25, "5 times as many as are answered at a time; one by one, half a minute"
        for sock in crowd:
            sock.close()
