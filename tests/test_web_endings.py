"""Clients over TLS, and without, that end their side early, end it in the middle, or never end a handshake: none of
them costs a place, memory or the answer of another. On real sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import time
from collections import Counter
from typing import TYPE_CHECKING

import bcrypt
import pytest

from tests.certificates import certificate
from tests.forging import HANDSHAKE, KEY_UPDATE, Forger
from tests.serving import App, eventually, read_all, running
from wg_exporter.web.clients import READ_SIZE
from wg_exporter.web.encrypted import Encrypted
from wg_exporter.web.policy import made
from wg_exporter.web.server import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving import Running
    from wg_exporter.web.policy import Policy

CLOSE = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
STAY = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
USERS = f"basic_auth_users: {{anna: '{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}'}}\n"
WRONG = CLOSE.replace(b"Host: x", b"Host: x\r\nAuthorization: Basic YW5uYTp3cm9uZw==")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    certificate(tmp_path, "one")
    return tmp_path


def policy(directory: Path, more: str = "") -> Policy:
    paths = {"cert": str(directory / "one.crt"), "key": str(directory / "one.key")}
    return made("tls_server_config: {cert_file: c, key_file: k}\n" + more, "web.yml", paths)


def shake(server: Running, directory: Path, receive_buffer: int = 0) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(directory / "one.crt"))
    return context.wrap_socket(server.connect(receive_buffer), server_hostname="127.0.0.1")


def finish(sock: socket.socket) -> None:
    """A FIN of TCP, without the end of TLS."""
    socket.socket.shutdown(sock, socket.SHUT_WR)


def places(server: Running) -> tuple[int, int, int]:
    """Of all connections: how many there are, are queued, and are being answered."""
    clients = server.server._clients
    return len(clients), len(clients._queued), len(clients._busy)


@pytest.mark.parametrize("request_", [CLOSE, STAY], ids=["to be closed", "to be kept"])
def test_clients_that_end_their_side_while_they_are_answered_over_tls_get_the_answer_and_leave(directory, request_):
    app = App()
    app.gate.clear()
    with running(app, policy=policy(directory), limits=Limits(answers=4)) as server:
        socks = [shake(server, directory) for _ in range(12)]
        for sock in socks:
            sock.sendall(request_)
            finish(sock)
        eventually(lambda: places(server) == (12, 8, 4))
        time.sleep(0.1)  # the FIN is there
        app.gate.set()
        for sock in socks:
            assert read_all(sock).endswith(b"native text\n")
            sock.close()
        eventually(lambda: places(server) == (0, 0, 0))


def test_clients_with_wrong_passwords_that_end_their_side_leave_their_places(directory):
    with running(policy=policy(directory, USERS), limits=Limits(answers=4)) as server:
        for _ in range(12):
            sock = shake(server, directory)
            sock.sendall(WRONG)
            finish(sock)
            time.sleep(0.01)
            sock.close()
        eventually(lambda: places(server) == (0, 0, 0))


def test_a_client_that_ends_its_side_in_the_middle_of_a_large_answer_gets_all_of_it(directory):
    with running(App(lambda path, wanted: [b"x" * (1 << 20)] * 8), policy=policy(directory)) as server:
        sock = shake(server, directory, 4096)
        sock.sendall(CLOSE)
        assert sock.recv(1) == b"H"
        finish(sock)
        assert read_all(sock).count(b"x") >= 8 << 20
        sock.close()
        eventually(lambda: places(server) == (0, 0, 0))


def test_a_client_that_ends_its_side_and_takes_nothing_is_cut_off_for_others(directory):
    limits = Limits(answers=1, write=120)
    with running(App(lambda path, wanted: [b"x" * (1 << 20)] * 8), policy=policy(directory), limits=limits) as server:
        stuck = shake(server, directory, 4096)
        stuck.sendall(CLOSE)
        assert stuck.recv(1) == b"H"
        finish(stuck)
        other = shake(server, directory)
        other.sendall(CLOSE)
        begun = time.monotonic()
        assert len(read_all(other)) > 8 << 20
        assert time.monotonic() - begun < 60
        stuck.close()
        other.close()


def end_tls(sock: ssl.SSLSocket) -> None:
    """The end of TLS, and no answer to that is read."""
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.unwrap()
    sock.setblocking(True)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


ENDS = {"fin": finish, "close": lambda sock: sock.close(), "reset": reset, "end of tls": end_tls}
PARTS = {"nothing": b"", "half": STAY[:20], "one": STAY, "the last": CLOSE, "three": STAY * 3, "rubbish": b"\0\r\n\r\n"}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_in_whatever_state_a_connection_is_its_end_leaves_nothing(directory, tls, end, caplog):
    if end == "end of tls" and not tls:
        end = "fin"
    limits = Limits(answers=4, head=1.0, keepalive=1.0, write=1.0)
    with running(policy=policy(directory) if tls else None, limits=limits) as server:
        held = []
        for part in PARTS.values():
            for wait in (0.0, 0.01):
                for _ in range(6):
                    sock = shake(server, directory) if tls else server.connect()
                    with contextlib.suppress(OSError):
                        sock.sendall(part)
                        time.sleep(wait)
                        ENDS[end](sock)
                    held.append(sock)
        eventually(lambda: places(server)[1:] == (0, 0))
        eventually(lambda: places(server) == (0, 0, 0))
        for sock in held:
            sock.close()
        assert not [record for record in caplog.records if record.levelno > 20], caplog.text


def test_a_client_that_resets_a_large_answer_puts_nothing_into_the_log(directory, caplog):
    with running(App(lambda path, wanted: [b"x" * (1 << 20)] * 2), policy=policy(directory)) as server:
        for _ in range(20):
            sock = shake(server, directory)
            sock.sendall(CLOSE)
            reset(sock)
        eventually(lambda: places(server) == (0, 0, 0))
    assert not [record.getMessage() for record in caplog.records]


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
def test_failed_handshakes_and_bad_requests_leave_nothing_for_the_garbage_collector(directory):
    with running(policy=policy(directory)) as server:
        for data in (b"", b"\x16\x03\x01", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"):
            for end in (finish, reset):
                for _ in range(10):
                    sock = server.connect()
                    sock.sendall(data)
                    end(sock)
                    sock.close()
        for request in (CLOSE, b"\0\r\n\r\n", STAY + b"\0\r\n\r\n"):
            for _ in range(10):
                with shake(server, directory) as sock:
                    sock.sendall(request)
                    read_all(sock)
        eventually(lambda: places(server) == (0, 0, 0))
        eventually(lambda: not sum(isinstance(one, Encrypted) for one in gc.get_objects()))


def test_handshakes_count_as_connections_and_the_oldest_goes(directory, caplog):
    caplog.set_level("INFO")
    limits = Limits(connections=30, connections_each=20)
    with running(policy=policy(directory), limits=limits) as server:
        kept = shake(server, directory)
        kept.sendall(STAY)
        assert kept.recv(4096)
        eventually(lambda: places(server) == (1, 0, 0))
        silent = [server.connect() for _ in range(100)]
        eventually(lambda: places(server) == (11, 0, 0))
        for _ in range(3):
            with shake(server, directory) as sock:
                sock.sendall(CLOSE)
                assert read_all(sock).endswith(b"native text\n")
        kept.sendall(STAY)
        assert kept.recv(4096), "who has asked stays"
        assert Counter(record.fields["reason"] for record in caplog.records) == {"too many handshakes": 1}
        for sock in (*silent, kept):
            sock.close()


def test_silence_after_a_handshake_ends_in_time(directory):
    with running(policy=policy(directory), limits=Limits(head=0.3)) as server:
        socks = [shake(server, directory) for _ in range(20)]
        eventually(lambda: places(server) == (0, 0, 0))
        for sock in socks:
            sock.close()


def test_clients_that_begin_a_message_of_tls_and_do_not_end_it_hold_no_answer(directory):
    """OpenSSL writes nothing until it has the rest; and the kernel has room, so they did not count as stalled."""
    with running(policy=policy(directory), limits=Limits(answers=4, write=120)) as server:
        begun = []
        for _ in range(8):
            begun.append(Forger(server.connect(), directory))
            begun[-1].send(STAY)
            begun[-1].send(KEY_UPDATE[:4], HANDSHAKE)
        for _ in range(2):
            time.sleep(0.1)
            with shake(server, directory) as sock:
                asked = time.monotonic()
                sock.sendall(CLOSE)
                assert read_all(sock).endswith(b"native text\n")
                assert time.monotonic() - asked < 25
        eventually(lambda: places(server)[1:] == (0, 0))
        for one in begun:
            one.sock.close()


def test_a_whole_message_of_tls_beside_a_request_costs_no_answer(directory):
    with running(policy=policy(directory)) as server:
        client = Forger(server.connect(), directory)
        client.send(STAY)
        client.send(KEY_UPDATE, HANDSHAKE)
        eventually(lambda: bool(server.app.calls) and places(server) == (1, 0, 0))
        client.sock.close()


def test_little_is_kept_of_what_clients_send_over_tls_while_they_are_answered(directory):
    app = App()
    app.gate.clear()
    with running(app, policy=policy(directory)) as server:
        socks = [shake(server, directory) for _ in range(8)]
        for sock in socks:
            sock.sendall(STAY)
        eventually(lambda: places(server)[2] == 8)
        for sock in socks:
            sock.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                sock.sendall(bytes(8 << 20))
        kept = [one._incoming.pending for one in gc.get_objects() if isinstance(one, Encrypted)]
        assert len(kept) == 8
        assert max(kept) <= 2 * READ_SIZE
        app.gate.set()
        for sock in socks:
            sock.close()


def test_a_server_stops_although_one_client_over_tls_does_not_end_and_another_has_only_come(directory):
    """asyncio's TLS can be closed once: of a connection that was closed twice nothing can be asked any more."""
    with running(policy=policy(directory)) as server:
        kept = shake(server, directory)
        kept.sendall(STAY)
        assert kept.recv(4096)
        come = server.connect()
        eventually(lambda: places(server) == (2, 0, 0))
    kept.close()
    come.close()


def ask(sock: socket.socket) -> bytes:
    """Empty: the connection is at its end."""
    with contextlib.suppress(OSError):
        sock.sendall(STAY)
        return sock.recv(65536)
    return b""


def use(server: Running, other: Policy) -> None:
    async def change() -> None:
        server.server.use(other)

    asyncio.run_coroutine_threadsafe(change(), server.server._acceptor._loop).result(30)


def test_who_is_connected_connects_anew_where_tls_is_wanted_now(directory):
    """Or a connection that was made before would be served in the clear for as long as it asks."""
    with running() as server, server.connect() as sock:
        assert ask(sock).startswith(b"HTTP/1.1 200")
        use(server, policy(directory))
        assert ask(sock) == b""


def test_who_came_when_nobody_needed_a_certificate_comes_again_with_one(directory):
    certificate(directory, "signer")
    wanted = "tls_server_config: {cert_file: c, key_file: k, client_auth_type: RequireAndVerifyClientCert, "
    files = {"cert": "one.crt", "key": "one.key", "client_ca": "signer.crt"}
    paths = {name: str(directory / file) for name, file in files.items()}
    with running(policy=policy(directory)) as server, shake(server, directory) as sock:
        assert ask(sock).startswith(b"HTTP/1.1 200")
        use(server, made(wanted + "client_ca_file: a}", "web.yml", paths))
        assert ask(sock) == b""


def test_where_only_a_certificate_was_renewed_the_next_answer_is_the_last(directory):
    with running(policy=policy(directory)) as server, shake(server, directory) as sock:
        assert b"Connection: close" not in ask(sock)
        use(server, policy(directory))
        answer = ask(sock)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in answer
        assert ask(sock) == b""


def test_where_a_password_was_changed_who_is_connected_stays(directory):
    with running(policy=policy(directory)) as server, shake(server, directory) as sock:
        assert ask(sock).startswith(b"HTTP/1.1 200")
        same = policy(directory, USERS)
        same.tls = server.server.policy.tls
        use(server, same)
        for _ in range(2):
            assert ask(sock).startswith(b"HTTP/1.1 401")
