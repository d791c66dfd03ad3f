"""The exporter over TLS and with passwords, for real: in several processes and in one, while its files change."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import bcrypt
import pytest

from tests.certificates import certificate
from tests.lab import eventually, free_port
from tests.serving import running
from wg_exporter.web.policy import made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTHING = 'interfaces: {include: ["no-such*"]}\nnames: []\n'
USERS = f"basic_auth_users: {{anna: '{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}'}}\n"
ANNA = {"Authorization": "Basic " + base64.b64encode(b"anna:secret").decode()}
TLS = "tls_server_config: {cert_file: c.pem, key_file: k.pem}\n"
BOTH = pytest.mark.parametrize("arguments", [(), ("--no-privsep",)], ids=["apart", "together"])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Root's alone, with c.pem and k.pem."""
    found = tmp_path / "web"
    found.mkdir(mode=0o700)
    certificate(found, "one")
    shutil.copy(found / "one.crt", found / "c.pem")
    shutil.copy(found / "one.key", found / "k.pem")
    (found / "k.pem").chmod(0o600)
    (found / "config.yml").write_text(NOTHING)
    return found


class Secured:
    """An exporter with a web configuration, and how to ask it."""

    def __init__(self, directory: Path, text: str, *arguments: str, listen: str = "127.0.0.1") -> None:
        self.directory, self.port = directory, free_port()
        self.configure(text)
        command = [sys.executable, "-m", "wg_exporter.cli", "serve", f"--web.listen-address={listen}:{self.port}"]
        command += ["--web.unix-socket=", f"--config.file={directory / 'config.yml'}"]
        command += [f"--web.config.file={directory / 'web.yml'}", *arguments]
        self.log_path = directory / "log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def configure(self, text: str) -> None:
        new = self.directory / "web.new"
        new.write_text(text)
        new.chmod(0o600)
        new.rename(self.directory / "web.yml")

    def log(self) -> str:
        return self.log_path.read_text()

    def logged(self, words: str) -> None:
        """Wait until it has said that: lines are written some time after the event."""
        eventually(lambda: words in self.log(), within=30)

    def ask(
        self, path: str = "/metrics", *, trust: str = "one", tls: bool = True, own: str = "", **headers: str
    ) -> int:
        """The status; raises OSError (ssl.SSLError is one) where there is none."""
        client: http.client.HTTPConnection
        if tls:
            context = ssl.create_default_context(cafile=str(self.directory / f"{trust}.crt"))
            if own:
                context.load_cert_chain(self.directory / f"{own}.crt", self.directory / f"{own}.key")
            client = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=context)
        else:
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(client):
            client.request("GET", path, headers=headers)
            answer = client.getresponse()
            self.headers = dict(answer.getheaders())
            self.body = answer.read()
            return answer.status

    def until(self, status: int, within: float = 30, **how: str) -> None:
        def asked() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.ask(**how) == status
            return False

        eventually(asked, within=within, every=0.1)


@contextlib.contextmanager
def secured(directory: Path, text: str, *arguments: str, **how: str) -> Iterator[Secured]:
    one = Secured(directory, text, *arguments, **how)
    try:
        yield one
    finally:
        one.process.terminate()
        one.process.wait(30)


@BOTH
def test_metrics_come_over_tls_to_who_knows_the_password(directory, arguments):
    with secured(
        directory, TLS + USERS + "http_server_config: {headers: {X-Frame-Options: deny}}\n", *arguments
    ) as one:
        one.until(200, **ANNA)
        assert b"wireguard_exporter_build_info" in one.body
        assert one.headers["X-Frame-Options"] == "deny"
        assert one.ask() == 401
        assert one.headers["WWW-Authenticate"] == 'Basic realm="wg-exporter"'
        assert b"wireguard" not in one.body
        assert one.ask("/-/healthy") == 401
        assert one.ask(tls=False, **ANNA) == 400
        assert b"wireguard" not in one.body
        assert "anybody who reaches" not in one.log()


PIECE = 64 * 1024


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_pages_of_any_size_come_whole_over_tls_again_and_again(directory, version):
    files = {"cert": str(directory / "one.crt"), "key": str(directory / "one.key")}
    policy = made("tls_server_config: {cert_file: one.crt, key_file: one.key}", "web.yml", files)
    context = ssl.create_default_context(cafile=files["cert"])
    context.maximum_version = version
    with running(policy=policy) as server:
        client = http.client.HTTPSConnection("localhost", server.port, timeout=30, context=context)
        with contextlib.closing(client):
            for size in (0, 1, PIECE - 1, PIECE, PIECE + 1, 8_000_000, 5):
                server.app.body = lambda _path, _wanted, size=size: (
                    [b"x" * 10_000] * (size // 10_000) + [b"y" * (size % 10_000)]
                )
                client.request("GET", "/metrics")
                answer = client.getresponse().read()
                assert len(answer) == size
                assert answer.count(b"y") == size % 10_000


@BOTH
def test_a_certificate_and_a_password_are_exchanged_without_a_restart(directory, arguments):
    certificate(directory, "two")
    with secured(directory, TLS + USERS, *arguments) as one:
        one.until(200, **ANNA)
        shutil.copy(directory / "two.key", directory / "k.new")
        (directory / "k.new").rename(directory / "k.pem")
        shutil.copy(directory / "two.crt", directory / "c.new")
        (directory / "c.new").rename(directory / "c.pem")
        one.until(200, trust="two", **ANNA)
        with pytest.raises(ssl.SSLError):
            one.ask(trust="one", **ANNA)
        other = f"basic_auth_users: {{anna: '{bcrypt.hashpw(b'another', bcrypt.gensalt(4)).decode()}'}}\n"
        one.configure(TLS + other)
        one.until(401, trust="two", **ANNA)
        one.configure(TLS)
        one.until(200, trust="two")
        assert one.process.poll() is None


def put(directory: Path, name: str, place: str) -> None:
    shutil.copy(directory / name, directory / "new")
    (directory / "new").rename(directory / place)


@BOTH
def test_a_certificate_and_a_key_that_come_one_after_the_other_cost_no_request(directory, arguments):
    certificate(directory, "two")
    with secured(directory, TLS + USERS, *arguments) as one:
        one.until(200, **ANNA)
        for pairs, (first, then) in enumerate(((".crt", ".key"), (".key", ".crt")), 1):
            new, old = ("two", "one") if first == ".crt" else ("one", "two")
            places = {".crt": "c.pem", ".key": "k.pem"}
            put(directory, new + first, places[first])
            while one.log().count("certificate and key are no pair yet") < pairs:
                assert one.ask(trust=old, **ANNA) == 200
                time.sleep(0.05)
            assert one.ask(trust=old, **ANNA) == 200
            put(directory, new + then, places[then])
            one.until(200, trust=new, **ANNA)
        assert "level=error" not in one.log()
        assert one.log().count("certificate and key are no pair yet, those before stay in use") == 2


@BOTH
def test_a_certificate_whose_key_never_comes_is_500_after_a_while_and_the_log_says_why(directory, arguments):
    certificate(directory, "two")
    with secured(directory, TLS + USERS, *arguments) as one:
        one.until(200, **ANNA)
        put(directory, "two.crt", "c.pem")
        begun = time.monotonic()
        eventually(lambda: one.ask(**ANNA) == 500, within=30, every=0.1)
        assert time.monotonic() - begun > 8
        one.logged("cert_file and key_file: not a certificate and its key")
        put(directory, "two.key", "k.pem")
        one.until(200, trust="two", **ANNA)


@BOTH
def test_a_key_that_is_gone_for_a_moment_costs_no_request(directory, arguments):
    with secured(directory, TLS + USERS, *arguments) as one:
        one.until(200, **ANNA)
        (directory / "k.pem").unlink()
        one.logged("no pair yet")
        assert one.ask(**ANNA) == 200
        put(directory, "one.key", "k.pem")
        eventually(lambda: one.log().count("web configuration in use") == 1, within=30)
        assert one.ask(**ANNA) == 200


@BOTH
def test_a_password_that_was_taken_away_is_gone_at_once_even_while_a_pair_is_waited_for(directory, arguments):
    certificate(directory, "two")
    with secured(directory, TLS + USERS, *arguments) as one:
        one.until(200, **ANNA)
        put(directory, "two.crt", "c.pem")
        one.logged("no pair yet")
        other = f"basic_auth_users: {{anna: '{bcrypt.hashpw(b'another', bcrypt.gensalt(4)).decode()}'}}\n"
        one.configure(TLS + other)
        one.until(401, **ANNA)
        assert "not a certificate and its key" not in one.log(), "the pair is waited for still"


@BOTH
def test_while_the_files_are_bad_nobody_is_answered_and_the_log_says_why(directory, arguments):
    with secured(directory, TLS + USERS, *arguments) as one:
        one.until(200, **ANNA)
        one.configure(TLS + "nonsense: 1\n")
        one.until(500, **ANNA)
        assert b"the log of wg-exporter says why" in one.body
        one.logged("web.yml:2: nonsense: is not a known key")
        one.configure(TLS + USERS)
        one.until(200, **ANNA)
        (directory / "k.pem").write_text("no key\n")
        one.until(500, within=25, **ANNA)
        one.logged("cert_file and key_file: not a certificate and its key")
        (directory / "k.pem").unlink()
        one.logged("No such file")  # nothing is in use that could stay
        shutil.copy(directory / "one.key", directory / "k.pem")
        one.until(200, **ANNA)


@BOTH
def test_a_bad_web_configuration_at_the_start_is_exit_code_2_with_the_line(directory, arguments):
    for text, says in (
        ("nonsense: 1\n", "web.yml:1: nonsense: is not a known key"),
        ("tls_server_config: {cert_file: none.pem, key_file: k.pem}\n", "none.pem"),
        ("tls_server_config: {cert_file: c.pem, key_file: web.yml}\n", "not a certificate and its key"),
    ):
        with secured(directory, text, *arguments) as one:
            assert one.process.wait(30) == 2
            assert says in one.log()
            assert len(one.log().splitlines()) == 1, one.log()
            assert "ResourceWarning" not in one.log()


@BOTH
def test_a_client_needs_a_certificate_with_the_right_name(directory, arguments):
    certificate(directory, "ca")
    certificate(directory, "prom", signed_by="ca")
    certificate(directory, "other", signed_by="ca")
    certificate(directory, "stranger")
    mutual = TLS.replace(
        "}",
        ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt, client_allowed_sans: [prom]}",
    )
    with secured(directory, mutual, *arguments) as one:
        one.until(200, own="prom")
        for own in ("other", "stranger", ""):
            with pytest.raises((OSError, http.client.HTTPException)):
                one.ask(own=own)
        assert one.ask(own="prom") == 200
        one.logged("its certificate has none of client_allowed_sans")
        assert one.log().count("its certificate has none of client_allowed_sans") == 1


def test_a_limit_of_requests_holds_for_all_together(directory):
    with secured(directory, "rate_limit: {interval: 1h, burst: 5}\n") as one:
        one.until(200, tls=False)
        statuses = [one.ask(tls=False) for _ in range(8)]
        assert statuses.count(429) >= 4


def test_listening_everywhere_without_tls_and_password_is_said_once(directory):
    for text, said in (("", True), (TLS, True), (TLS + USERS, False)):
        with secured(directory, text, listen="") as one:
            eventually(lambda one=one: "msg=listening" in one.log() and "msg=peers" in one.log(), within=30)
            assert one.log().count("anybody who reaches the port can read all metrics") == said


def test_a_handshake_that_never_ends_keeps_nobody_out(directory):
    with secured(directory, TLS) as one:
        one.until(200)
        socks = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(200)]
        for sock in socks:
            with contextlib.suppress(ConnectionError):  # the oldest ones had to go
                sock.sendall(b"\x16\x03\x01")
        begun = time.monotonic()
        assert one.ask() == 200
        assert time.monotonic() - begun < 8, "and not after 10 s, when the others go"
        for sock in socks:
            sock.close()
        with socket.create_connection(("127.0.0.1", one.port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.settimeout(30)
            with contextlib.suppress(ConnectionError):
                assert not sock.recv(100).startswith(b"HTTP/1.1 200")
        assert "Traceback" not in one.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be several users")
def test_a_key_that_only_root_may_read_is_in_no_memory_but_that_of_the_process_that_serves(directory):
    """And the supervisor never holds it: the kernel copies it."""
    from tests.test_privsep import memory

    with secured(directory, TLS + USERS) as one:
        one.until(200, **ANNA)
        lines = (directory / "k.pem").read_text().splitlines()[1:-1]
        assert lines[0].encode() not in memory(one.process.pid)
        os.kill(one.process.pid, signal.SIGTERM)
        assert one.process.wait(30) == 0


def _one_answers(directory: Path):
    files = {"cert": str(directory / "one.crt"), "key": str(directory / "one.key")}
    return running(policy=made("tls_server_config: {cert_file: one.crt, key_file: one.key}", "web.yml", files))


def test_http_at_a_port_of_tls_is_answered_with_what_is_wrong(directory):
    with (
        _one_answers(directory) as server,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as client,
    ):
        client.request("GET", "/metrics", headers=ANNA)
        answer = client.getresponse()
        said = answer.read()
        assert (answer.status, said) == (400, b"Client sent an HTTP request to an HTTPS server.\n")


@pytest.mark.parametrize("sent", [b"", b"G", b"nonsense", b"\x16\x03", b"GET /" + b"x" * 100_000])
def test_whoever_sends_neither_there_is_let_go_and_keeps_nobody_waiting(directory, sent):
    with _one_answers(directory) as server, socket.create_connection(("127.0.0.1", server.port), timeout=30) as other:
        with contextlib.suppress(OSError):  # it may be gone before it has sent all
            other.sendall(sent)
            other.shutdown(socket.SHUT_WR)
        context = ssl.create_default_context(cafile=str(directory / "one.crt"))
        client = http.client.HTTPSConnection("localhost", server.port, timeout=30, context=context)
        with contextlib.closing(client):
            client.request("GET", "/metrics")
            assert client.getresponse().status == 200
        with contextlib.suppress(ConnectionError):
            while other.recv(1 << 16):
                pass  # until it is closed


def test_a_client_that_sends_nothing_has_no_longer_than_a_handshake(directory, monkeypatch):
    monkeypatch.setattr("wg_exporter.web.encrypted.HANDSHAKE", 0.2)
    with _one_answers(directory) as server, socket.create_connection(("127.0.0.1", server.port), timeout=30) as silent:
        try:
            said = silent.recv(1)
        except ConnectionError:
            said = b""
        assert said == b""
