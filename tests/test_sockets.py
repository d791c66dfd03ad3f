"""Sockets that systemd passes: taken as they are, by every form of the exporter, or refused with a line."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOTHING = 'interfaces: {include: ["no-such*"]}\nnames: []\n'
BOTH = pytest.mark.parametrize("arguments", [(), ("--no-privsep",)], ids=["apart", "together"])

# Runs a command with these files as 3, 4, ..., as the service manager does; -1 is one that is not open.
PASS = """
import os, sys
files, pid, command = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
files = [int(file) for file in files if file]
moved = {at: os.dup2(file, 100 + at) for at, file in enumerate(files) if file >= 0}
for file in filter(lambda file: file >= 0, files):
    os.close(file)
for at, file in moved.items():
    os.dup2(file, 3 + at)
    os.close(file)
os.environ |= {"LISTEN_FDS": str(len(files)), "LISTEN_PID": pid or str(os.getpid()), "LISTEN_FDNAMES": "a:b"}
os.execv(command[0], command)
"""


class Started:
    """An exporter that is passed files."""

    def __init__(self, directory: Path, files: Sequence[int], *arguments: str, pid: str = "") -> None:
        self.directory = directory
        (directory / "config.yml").write_text(NOTHING)
        command = [sys.executable, "-c", PASS, ",".join(map(str, files)), pid]
        command += [sys.executable, "-m", "wg_exporter.cli", "serve", f"--config.file={directory / 'config.yml'}"]
        command += [f"--web.unix-socket={directory / 'own'}", *arguments]
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[file for file in files if file >= 0],
            )

    def log(self) -> str:
        return (self.directory / "log").read_text()


@contextlib.contextmanager
def started(*arguments: object, **how: str) -> Iterator[Started]:
    one = Started(*arguments, **how)
    try:
        yield one
    finally:
        one.process.terminate()
        one.process.wait(30)


def listening(family: int, address: object) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen()
    return sock


def ask(sock: socket.socket, path: str = "/-/healthy", method: str = "GET") -> int:
    """The status of a request to a listening socket of ours."""
    with socket.socket(sock.family) as client:
        client.settimeout(30)
        client.connect(sock.getsockname())
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        with client.makefile("rb") as answer:
            return int(answer.readline().split()[1])


@BOTH
def test_several_sockets_are_served_and_the_listen_address_is_not_used(tmp_path, arguments):
    unused = free_port()
    sockets = [
        listening(socket.AF_INET, ("127.0.0.1", 0)),
        listening(socket.AF_INET6, ("::1", 0)),
        listening(socket.AF_UNIX, str(tmp_path / "passed")),
        listening(socket.AF_UNIX, "\0wg-exporter-test-" + tmp_path.name),
    ]
    flags = ("--web.systemd-socket", f"--web.listen-address=127.0.0.1:{unused}", *arguments)
    with started(tmp_path, [sock.fileno() for sock in sockets], *flags) as one:
        assert [ask(sock) for sock in sockets] == [200] * 4  # who came before the start has waited
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", unused))
        log = one.log()
        assert f"address=127.0.0.1:{sockets[0].getsockname()[1]} " in log
        assert f"address=[::1]:{sockets[1].getsockname()[1]} " in log
        assert f"address=unix:{tmp_path / 'passed'} " in log
        assert "address=unix:@wg-exporter-test-" in log
        holders = [pid for pid in processes(one.process.pid) if holds(pid, sockets[0])]
        assert len(holders) == 1, "the process that serves alone"
        one.process.terminate()
        assert one.process.wait(30) == 0
    assert (tmp_path / "passed").exists(), "it is systemd's"
    assert ask_is_refused_or_waits(sockets[0])


def ask_is_refused_or_waits(sock: socket.socket) -> bool:
    """Nobody answers, but the socket is open, as somebody else holds it too."""
    with socket.create_connection(sock.getsockname(), timeout=1) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
    return True


def holds(pid: int, sock: socket.socket) -> bool:
    name = f"socket:[{os.fstat(sock.fileno()).st_ino}]"
    return any(str(file.readlink()) == name for file in Path(f"/proc/{pid}/fd").iterdir())


def processes(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(deeper for child in children for deeper in processes(int(child)))]


@BOTH
def test_whoever_comes_over_a_unix_socket_of_systemd_is_a_stranger(tmp_path, arguments):
    """Its mode is not ours to know: systemd's default is that all may."""
    passed = listening(socket.AF_UNIX, str(tmp_path / "passed"))
    with started(tmp_path, [passed.fileno()], "--web.systemd-socket", *arguments):
        assert ask(passed) == 200
        assert ask(passed, "/-/reload", "POST") == 403
        assert ask(passed, "/api/v1/pause", "POST") == 403
        with socket.socket(socket.AF_UNIX) as own:
            own.connect(str(tmp_path / "own"))
            own.sendall(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert own.recv(100).startswith(b"HTTP/1.1 200")


@BOTH
def test_without_sockets_it_is_one_line_and_exit_code_2(tmp_path, arguments):
    with started(tmp_path, [], "--web.systemd-socket", *arguments) as one:
        assert one.process.wait(30) == 2
        assert one.log() == (
            "Error: systemd passed no sockets: start wg-exporter.socket before the service, or leave out "
            "--web.systemd-socket\n"
        )
    passed = listening(socket.AF_INET, ("127.0.0.1", 0))
    with started(tmp_path, [passed.fileno()], "--web.systemd-socket", *arguments, pid="1") as one:
        assert one.process.wait(30) == 2, "they are another process's"
        assert "systemd passed no sockets" in one.log()


@pytest.mark.parametrize("kind", ["file", "datagram", "not listening", "connection", "not open"])
def test_what_is_no_listening_stream_socket_is_one_line_and_exit_code_2(tmp_path, kind):
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(listening(socket.AF_INET, ("127.0.0.1", 0)))
        if kind == "file":
            bad = stack.enter_context((tmp_path / "file").open("wb")).fileno()
        elif kind == "datagram":
            bad = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).fileno()
        elif kind == "not listening":
            bad = stack.enter_context(socket.socket()).fileno()
        elif kind == "connection":
            bad = stack.enter_context(socket.create_connection(good.getsockname())).fileno()
        else:
            bad = -1
        with started(tmp_path, [good.fileno(), bad], "--web.systemd-socket") as one:
            assert one.process.wait(30) == 2
            assert one.log() == (
                "Error: file 4, which systemd passed, is no stream socket that listens; in the socket unit use "
                "ListenStream= and Accept=no\n"
            )


def test_the_variables_are_taken_out_of_the_environment_and_the_files_are_for_no_child():
    script = (
        "import os, subprocess, sys\n"
        "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid()), 'LISTEN_FDNAMES': 'a'}\n"
        "from wg_exporter.linux.systemd import passed_sockets\n"
        "import socket\n"
        "made = socket.create_server(('127.0.0.1', 0))\n"
        "os.dup2(made.fileno(), 3, inheritable=True)\n"
        "sock, = passed_sockets()\n"
        "print([name for name in os.environ if name.startswith('LISTEN_')], os.get_inheritable(3), sock.fileno())\n"
        "print(passed_sockets())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[] False 3", "[]"], done.stderr


def test_sockets_that_nobody_asked_for_are_told_of(tmp_path):
    passed = listening(socket.AF_INET, ("127.0.0.1", 0))
    with started(tmp_path, [passed.fileno()], f"--web.listen-address=127.0.0.1:{free_port()}") as one:
        eventually(lambda: "msg=listening" in one.log(), within=30)
        said = 'msg="sockets of systemd not used" fix="start with --web.systemd-socket"'
        eventually(lambda: said in one.log(), within=30)


@BOTH
def test_systemd_socket_activate_starts_it_at_the_first_request(tmp_path, arguments):
    port = free_port()
    (tmp_path / "config.yml").write_text(NOTHING)
    command = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", f"--listen={tmp_path / 'passed'}"]
    command += [sys.executable, "-m", "wg_exporter.cli", "serve", "--web.systemd-socket", "--web.unix-socket="]
    command += [f"--config.file={tmp_path / 'config.yml'}", *arguments]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(lambda: "Listening on" in (tmp_path / "log").read_text(), within=30)
        time.sleep(0.2)
        assert "msg=listening" not in (tmp_path / "log").read_text()
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request("GET", "/metrics")
        answer = client.getresponse()
        assert answer.status == 200
        assert b"wireguard_exporter_build_info" in answer.read()
        client.close()
    finally:
        process.terminate()
        assert process.wait(30) == 0
