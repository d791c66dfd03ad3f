"""The UAPI source against daemons that answer, hang, dribble, lie or are dead, and against a real wireguard-go."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serving import eventually
from wg_exporter.linux.errors import DeniedError, SourceError
from wg_exporter.model import Backend, FailedDevice, Failure
from wg_exporter.reader.userspace import source as userspace
from wg_exporter.reader.userspace.source import UserspaceSource

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE = "58c2a1f0" * 8
PRESHARED = "77d3e4b1" * 8
END = b"errno=0\n\n"
TIMEOUT = 1.5  # seconds; those that answer must not need it all, even if they have to wait for a processor


def peer_lines(i: int, allowed_ips: int = 2) -> str:
    return (
        f"public_key={i:064x}\npreshared_key={PRESHARED}\nprotocol_version=1\nendpoint=192.0.2.1:{i}\n"
        f"last_handshake_time_sec={i}\nlast_handshake_time_nsec=0\ntx_bytes={i * 3}\nrx_bytes={i * 7}\n"
        "persistent_keepalive_interval=25\n"
    ) + "".join(f"allowed_ip=10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32\n" for n in range(allowed_ips))


def good(*peers: str) -> bytes:
    return f"private_key={PRIVATE}\nlisten_port=51820\n{''.join(peers)}".encode() + END


Behaviour = Callable[[socket.socket, threading.Event], None]


def answers(data: bytes) -> Behaviour:
    return lambda connection, stop: connection.sendall(data)


def hangs(connection: socket.socket, stop: threading.Event) -> None:
    stop.wait(30)


def hangs_after(data: bytes) -> Behaviour:
    def behave(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(data)
        stop.wait(30)

    return behave


def dribbles(connection: socket.socket, stop: threading.Event) -> None:
    for byte in good():
        connection.sendall(bytes([byte]))
        if stop.wait(TIMEOUT / 6):
            return


def floods(connection: socket.socket, stop: threading.Event) -> None:
    while not stop.is_set():
        connection.sendall(b"x=" + b"y" * 65533 + b"\n")


class Daemons:
    """Fake daemons: each listens on a real socket and behaves as told once it has read the whole question."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []
        self.listeners: list[socket.socket] = []

    def listen(self, name: str, directory: Path | None = None, backlog: int = 16) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str((directory or self.directory) / f"{name}.sock"))
        listener.listen(backlog)
        self.listeners.append(listener)
        return listener

    def start(self, name: str, behave: Behaviour, directory: Path | None = None) -> None:
        self.serve(self.listen(name, directory), behave)

    def serve(self, listener: socket.socket, behave: Behaviour) -> None:
        thread = threading.Thread(target=self._serve, args=(listener, behave), daemon=True)
        thread.start()
        self.threads.append(thread)

    def _serve(self, listener: socket.socket, behave: Behaviour) -> None:
        while not self.stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # A reader that gave up resets the connection: the daemon does not care.
            with connection, contextlib.suppress(ConnectionError):
                question = b""
                while not question.endswith(b"\n\n") and (part := connection.recv(100)):
                    question += part
                if question == b"get=1\n\n":
                    behave(connection, self.stop)

    def kill(self, name: str) -> None:
        """A daemon that was killed: its socket file stays and refuses."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.directory / f"{name}.sock"))
        listener.close()

    def close(self) -> None:
        self.stop.set()
        for listener in self.listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not tmp_path: the path of a UNIX socket has only 107 bytes.
    with tempfile.TemporaryDirectory(prefix="uapi-") as path:
        yield Path(path)


@pytest.fixture
def daemons(directory: Path) -> Iterator[Daemons]:
    made = Daemons(directory)
    yield made
    made.close()


@pytest.fixture
def source(directory: Path) -> UserspaceSource:
    return UserspaceSource({Backend.USERSPACE: [str(directory)]}, timeout=TIMEOUT)


def only_failure(source: UserspaceSource) -> FailedDevice:
    devices, (failed,) = source.read()
    assert devices == []
    assert "\n" not in failed.problem
    assert PRIVATE not in failed.problem
    return failed


# What is there


def test_a_device_is_read_with_all_its_peers(daemons, source):
    daemons.start("wg0", answers(good(*(peer_lines(i) for i in range(1, 4)))))
    (device,), failed = source.read()
    assert failed == []
    assert device[:3] == ("", "wg0", Backend.USERSPACE)
    assert (device.listen_port, device.fwmark, device.fresh) == (51820, 0, True)
    assert len(device.public_key) == 44
    assert [peer.rx_bytes for peer in device.peers] == [7, 14, 21]


def test_what_did_not_change_is_the_same_object_at_the_next_read(daemons, source):
    replies = [good(peer_lines(1), peer_lines(2)), good(peer_lines(2), peer_lines(1)), good(peer_lines(1))]
    daemons.start("wg0", lambda connection, stop: connection.sendall(replies.pop(0)))
    ((first,), _), ((second,), _), ((third,), _) = source.read(), source.read(), source.read()
    assert second.peers is first.peers
    assert len(third.peers) == 1


def test_peers_keep_their_place_even_after_a_failure_between(daemons, source):
    replies = [good(peer_lines(1), peer_lines(2)), b"rubbish", good(peer_lines(3), peer_lines(1))]
    daemons.start("wg0", lambda connection, stop: connection.sendall(replies.pop(0)))
    (first,), _ = source.read()
    source_failed = only_failure(source)
    assert source_failed.name == "wg0"
    (third,), _ = source.read()
    assert third.peers[0] == first.peers[0]
    assert third.peers[1].public_key != first.peers[1].public_key


def test_2000_peers_and_a_peer_with_3000_allowed_ips_are_read(daemons, source):
    daemons.start("wg0", answers(good(*(peer_lines(i) for i in range(1, 2001)), peer_lines(3000, 3000))))
    (device,), _ = source.read()
    assert len(device.peers) == 2001
    assert len(set(device.peers[-1].allowed_ips)) == 3000


def test_the_same_name_in_both_directories_is_two_devices(daemons, directory):
    other = directory / "amneziawg"
    other.mkdir()
    daemons.start("wg0", answers(good()))
    daemons.start("wg0", answers(b"jc=4\njmin=40\n" + good(peer_lines(1))), other)
    source = UserspaceSource({Backend.USERSPACE: [str(directory)], Backend.AMNEZIAWG: [str(other)]})
    devices, _ = source.read()
    assert [(d.name, d.backend, len(d.peers)) for d in devices] == [
        ("wg0", Backend.USERSPACE, 0),
        ("wg0", Backend.AMNEZIAWG, 1),
    ]
    (line,) = source.doubles
    assert line.startswith("wg0: several daemons have this name, so rename all but one:")
    assert line.endswith(f"{directory}/wg0.sock (shown) and {other}/wg0.sock (not shown)")


def test_of_two_daemons_of_one_name_that_which_hangs_is_told_too_and_a_dead_socket_is_none(daemons, directory):
    other = directory / "amneziawg"
    other.mkdir()
    daemons.start("wg0", hangs)
    daemons.start("wg0", answers(good()), other)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "wg1.sock"))
    daemons.start("wg1", answers(good()), other)
    source = UserspaceSource({Backend.USERSPACE: [str(directory)], Backend.AMNEZIAWG: [str(other)]}, timeout=TIMEOUT)
    source.read()
    (line,) = source.doubles
    assert f"{directory}/wg0.sock (its daemon did not answer" in line
    assert line.endswith(f"{other}/wg0.sock (shown)")


def test_only_wanted_devices_are_asked(daemons, directory):
    daemons.start("wg0", answers(good()))
    daemons.start("wg1", hangs)
    source = UserspaceSource({Backend.USERSPACE: [str(directory)]}, wanted=lambda name: name != "wg1")
    assert source.left_out == frozenset()
    devices, failed = source.read()
    assert ([d.name for d in devices], failed) == (["wg0"], [])
    assert source.left_out == {"wg1"}


def test_a_missing_or_empty_directory_holds_no_devices(directory, source):
    assert source.read() == ([], [])
    assert UserspaceSource({Backend.USERSPACE: [str(directory / "none")]}).read() == ([], [])


def test_only_sockets_named_like_an_interface_are_asked(daemons, directory, source):
    (directory / "wg0.sock").write_text("a file")
    (directory / "wg1.sock").mkdir()
    daemons.start("elsewhere", answers(good()))
    (directory / "elsewhere.sock").rename(directory / "elsewhere")
    (directory / "wg2.sock").symlink_to(directory / "elsewhere")
    for name in ("sixteen-letters-", "a b", "a\nb", "a:b", ".", "..", "a\u200bb", os.fsdecode(b"\xff")):
        daemons.start(name, answers(good()))
    assert source.read() == ([], [])
    daemons.start("fifteen-letters", answers(good()))
    (device,), _ = source.read()
    assert device.name == "fifteen-letters"


# What is not well


def test_a_socket_without_a_daemon_is_no_device_but_is_named(daemons, directory, source):
    daemons.kill("wg0")
    daemons.start("wg1", answers(good()))
    devices, failed = source.read()
    assert ([d.name for d in devices], failed) == (["wg1"], [])
    assert source.leftovers == (str(directory / "wg0.sock"),)
    (directory / "wg0.sock").unlink()
    source.read()
    assert source.leftovers == ()


@pytest.mark.parametrize(
    "behave",
    [hangs, hangs_after(good(peer_lines(1))[:-1]), hangs_after(good()[:20]), dribbles],
    ids=["at once", "one byte before the end", "half way", "dribbling"],
)
def test_a_hanging_daemon_fails_alone_and_within_the_deadline(daemons, source, behave):
    daemons.start("wg0", behave)
    daemons.start("wg1", behave)
    daemons.start("wg2", answers(good(peer_lines(1))))
    begin = time.monotonic()
    devices, failed = source.read()
    assert time.monotonic() - begin < 2 * TIMEOUT, "not one after the other"
    assert [d.name for d in devices] == ["wg2"]
    assert [f.name for f in failed] == ["wg0", "wg1"]
    assert failed[0].problem == f"its daemon did not answer within {TIMEOUT} s; restart it if it hangs"
    assert failed[0].failure is Failure.UNANSWERED


def test_an_answer_in_many_pieces_is_put_together(daemons, source):
    def in_pieces(connection: socket.socket, stop: threading.Event) -> None:
        data = good(peer_lines(1), peer_lines(2))
        for i in range(0, len(data), 37):
            connection.sendall(data[i : i + 37])
            time.sleep(0.001)

    daemons.start("wg0", in_pieces)
    (device,), _ = source.read()
    assert len(device.peers) == 2


def test_an_end_that_comes_in_two_pieces_is_seen(daemons, source):
    def behave(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(good()[:-1])
        time.sleep(TIMEOUT / 4)
        connection.sendall(good()[-1:])
        stop.wait(30)

    daemons.start("wg0", behave)
    assert [d.name for d in source.read()[0]] == ["wg0"]


def test_a_socket_that_vanishes_after_it_was_listed_is_no_device(daemons, directory):
    def wanted(name: str) -> bool:
        (directory / f"{name}.sock").unlink()
        return True

    daemons.start("wg0", answers(good()))
    source = UserspaceSource({Backend.USERSPACE: [str(directory)]}, wanted)
    assert source.read() == ([], [])
    assert source.leftovers == ()


def test_the_connection_left_open_after_the_answer_is_not_waited_for(daemons, directory):
    daemons.start("wg0", hangs_after(good()))
    begin = time.monotonic()
    assert len(UserspaceSource({Backend.USERSPACE: [str(directory)]}, timeout=60).read()[0]) == 1
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "cut short"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "cut short"),
        (os.urandom(1000) + b"\n\n", "cut short"),
        (good(peer_lines(1))[: -len(END)], "cut short"),
        (b"errno=-1\n\n", "EPERM"),
        (good(peer_lines(1).replace("rx_bytes=7", "rx_bytes=x")), "line 10: rx_bytes"),
        (b"private_key=" + PRIVATE.encode() + b"0\n" + END, "private_key is not 64 hex digits"),
    ],
)
def test_rubbish_is_a_failed_device_with_one_line_why(daemons, source, data, says):
    daemons.start("wg0", answers(data))
    failed = only_failure(source)
    assert failed[:3] == ("", "wg0", Backend.USERSPACE)
    assert failed.problem.startswith("its answer cannot be used: ")
    assert says in failed.problem


def test_an_endless_answer_is_cut_off(daemons, directory, monkeypatch):
    monkeypatch.setattr(userspace, "MAX_ANSWER", 4 << 20)
    daemons.start("wg0", floods)
    daemons.start("wg1", answers(good()))
    begin = time.monotonic()
    devices, (failed,) = UserspaceSource({Backend.USERSPACE: [str(directory)]}, timeout=60).read()
    assert time.monotonic() - begin < 30
    assert [d.name for d in devices] == ["wg1"]
    assert failed.problem == "its daemon sent more than 4 MiB"


def test_all_together_take_no_more_than_a_limit_and_the_longest_goes(daemons, directory, monkeypatch):
    monkeypatch.setattr(userspace, "MAX_ANSWERS", 3 << 20)
    daemons.start("wg0", floods)
    daemons.start("wg1", answers(good()))
    daemons.start("wg2", floods)
    begin = time.monotonic()
    devices, failed = UserspaceSource({Backend.USERSPACE: [str(directory)]}, timeout=60).read()
    assert time.monotonic() - begin < 30
    assert [d.name for d in devices] == ["wg1"]
    assert [one.name for one in failed] == ["wg0", "wg2"]
    assert all("and all together more than 3 MiB" in one.problem for one in failed)


@pytest.mark.parametrize(
    "rubbish",
    [b"a=\n" * (10 << 20), b"public_key=" + b"ab" * 32 + b"\n" + b"allowed_ip=10.0.0.1/32\n" * 1_400_000],
    ids=["lines", "allowed IPs"],
)
def test_a_hostile_daemon_takes_neither_the_memory_nor_the_time_of_others(daemons, directory, rubbish):
    """The reading is done by another process, whose memory is its own."""
    daemons.start("wg0", answers(rubbish + END))
    daemons.start("wg1", answers(good()))
    code = (
        "import pathlib, sys, time\n"
        "from wg_exporter.model import Backend\n"
        "from wg_exporter.reader.userspace.source import UserspaceSource\n"
        "source = UserspaceSource({Backend.USERSPACE: [sys.argv[1]]})\n"
        "devices, failed = source.read()\n"
        "print(*(d.name for d in devices), *(f.name for f in failed), time.process_time(),\n"
        "      pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=True)
    good_one, bad_one, took, most = done.stdout.split()
    assert (good_one, bad_one) == ("wg1", "wg0")
    assert float(took) < 2.5, "of a processor; a busy machine takes longer"
    assert int(most) < 150 << 10


def test_a_full_backlog_is_waited_for_and_fails_at_the_deadline(daemons, source, directory):
    listener = daemons.listen("wg0", backlog=0)
    waiting = socket.socket(socket.AF_UNIX)
    with waiting:
        waiting.connect(str(directory / "wg0.sock"))
        assert "did not answer within" in only_failure(source).problem
        waker = threading.Timer(TIMEOUT / 3, lambda: daemons.serve(listener, answers(good())))
        waker.start()
        waiting.close()
        assert len(source.read()[0]) == 1
        waker.join()


def test_more_daemons_than_are_asked_at_once_are_all_asked(daemons, source, monkeypatch):
    monkeypatch.setattr(userspace, "MAX_AT_ONCE", 3)
    for i in range(10):
        daemons.start(f"wg{i}", answers(good()))
    assert [d.name for d in source.read()[0]] == [f"wg{i}" for i in range(10)]


def test_the_connection_to_a_daemon_that_hangs_is_closed(daemons, source):
    heard = []

    def listens(connection: socket.socket, stop: threading.Event) -> None:
        connection.settimeout(30)
        heard.append(connection.recv(1))

    daemons.start("wg0", listens)
    only_failure(source)
    eventually(lambda: bool(heard))
    assert heard == [b""]


# Permissions


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # takes the capabilities away too
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_directory_that_may_not_be_listed_is_an_error_with_its_fix(directory, source):
    directory.chmod(0)
    with unprivileged(), pytest.raises(DeniedError, match="permission denied; run as root") as caught:
        source.read()
    assert str(directory) in str(caught.value)


def test_a_file_in_place_of_the_directory_is_an_error(directory):
    (directory / "file").touch()
    with pytest.raises(SourceError, match="cannot be listed: Not a directory"):
        UserspaceSource({Backend.USERSPACE: [str(directory / "file")]}).read()


def test_permission_denied_on_every_socket_is_an_error_with_its_fix(daemons, directory, source):
    directory.chmod(0o755)
    for name in ("wg0", "wg1"):
        daemons.start(name, answers(good()))
        (directory / f"{name}.sock").chmod(0)
    with unprivileged(), pytest.raises(DeniedError, match=r"wg0\.sock: permission denied; run as root"):
        source.read()


def test_permission_denied_on_one_of_two_sockets_is_one_failed_device(daemons, directory, source):
    directory.chmod(0o755)
    for name, mode in (("wg0", 0), ("wg1", 0o777)):
        daemons.start(name, answers(good()))
        (directory / f"{name}.sock").chmod(mode)
    with unprivileged():
        devices, failed = source.read()
    assert [d.name for d in devices] == ["wg1"]
    assert failed == [FailedDevice("", "wg0", Backend.USERSPACE, userspace.NEEDS_ROOT, Failure.DENIED)]


def test_permission_denied_beside_another_failure_is_two_failed_devices(daemons, directory, source):
    directory.chmod(0o755)
    for name, mode in (("wg0", 0), ("wg1", 0o777)):
        daemons.start(name, answers(b"rubbish"))
        (directory / f"{name}.sock").chmod(mode)
    with unprivileged():
        devices, failed = source.read()
    assert (devices, [f.name for f in failed]) == ([], ["wg0", "wg1"])


# Secrets


def test_the_buffers_are_overwritten_before_read_returns(daemons, source, monkeypatch):
    kept = []
    forget = userspace._Conversation.forget

    def spy(self: userspace._Conversation) -> None:
        kept.append((bytes(self.answer), self.answer))
        forget(self)

    monkeypatch.setattr(userspace._Conversation, "forget", spy)
    daemons.start("wg0", answers(good(peer_lines(1))))
    daemons.start("wg1", hangs_after(good(peer_lines(1))[:200]))
    source.read()
    assert PRIVATE.encode() not in kept[0][0]  # decoded: its secrets were gone already
    assert PRIVATE.encode() in kept[1][0]
    assert all(len(before) == len(after) and not any(after) for before, after in kept)


def test_what_the_source_keeps_holds_no_secret(daemons, source):
    daemons.start("wg0", answers(good(peer_lines(1))))
    daemons.start("wg1", hangs_after(good(peer_lines(1))[:200]))
    text = repr(source.read()) + repr(vars(source))
    assert f"{1:064x}" in text
    assert PRIVATE not in text
    assert PRESHARED not in text


# A real wireguard-go


def run(*command: str, stdin: str = "") -> str:
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def missing_for_the_lab() -> str:
    if os.geteuid() != 0:
        return "needs root, to create a network namespace"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    tools = [tool for tool in ("wireguard-go", "wg", "ip") if shutil.which(tool) is None]
    return f"needs {', '.join(tools)} (Debian: wireguard-go wireguard-tools iproute2)" if tools else ""


class Lab:
    """Two wireguard-go devices, each the other's peer over loopback, in a network namespace of their own."""

    def __init__(self) -> None:
        self.netns = f"wgx{os.getpid()}"
        self.names = [f"wgx{os.getpid()}{suffix}"[:15] for suffix in "ab"]
        self.private = [run("wg", "genkey") for _ in self.names]
        self.preshared = run("wg", "genpsk")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.source = UserspaceSource(wanted=self.names.__contains__)

    def inside(self, *command: str, stdin: str = "") -> str:
        return run("ip", "netns", "exec", self.netns, *command, stdin=stdin)

    def start(self) -> None:
        run("ip", "netns", "add", self.netns)
        self.inside("ip", "link", "set", "lo", "up")
        for name in self.names:
            command = ["ip", "netns", "exec", self.netns, "wireguard-go", "-f", name]
            self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for i, name in enumerate(self.names):
            wait_for(userspace.DIRECTORIES[Backend.USERSPACE][0] + f"/{name}.sock")
            other = run("wg", "pubkey", stdin=self.private[1 - i])
            conf = (
                f"[Interface]\nPrivateKey={self.private[i]}\nListenPort={52000 + i}\nFwMark={16 * i}\n"
                f"[Peer]\nPublicKey={other}\nPresharedKey={self.preshared}\nEndpoint=127.0.0.1:{52001 - i}\n"
                f"AllowedIPs=10.9.0.{2 - i}/32, fd09::{2 - i}/128\nPersistentKeepalive={'1' if i else 'off'}\n"
                f"[Peer]\nPublicKey={run('wg', 'pubkey', stdin=run('wg', 'genkey'))}\nEndpoint=[fe80::1]:7\n"
                f"AllowedIPs=0.0.0.0/0,::/0\n"
                f"[Peer]\nPublicKey={run('wg', 'pubkey', stdin=run('wg', 'genkey'))}\n"
            )
            self.inside("wg", "setconf", name, "/dev/stdin", stdin=conf)
            self.inside("ip", "link", "set", name, "up")

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)
        for name in self.names:
            Path(userspace.DIRECTORIES[Backend.USERSPACE][0], f"{name}.sock").unlink(missing_ok=True)
        subprocess.run(["ip", "netns", "del", self.netns], capture_output=True, check=False, timeout=60)

    def dump(self) -> dict[str, list[list[str]]]:
        """`wg show` of our devices: the device's own line first, then its peers', sorted."""
        dumps = {name: self.inside("wg", "show", name, "dump").splitlines() for name in self.names}
        return {name: [line.split("\t") for line in [lines[0], *sorted(lines[1:])]] for name, lines in dumps.items()}


def wait_for(path: str) -> None:
    deadline = time.monotonic() + 30
    while not Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def wait_for_stop(pid: int) -> None:
    """Until all threads of a process have stopped: the signal is sent before they have."""
    deadline = time.monotonic() + 30
    tasks = Path(f"/proc/{pid}/task")
    while any(task.read_text().rpartition(")")[2].split()[0] != "T" for task in tasks.glob("*/stat")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def as_wg_show(device: userspace.Device) -> list[list[str]]:
    """The device as `wg show NAME dump` writes it, without the two kinds of secret key."""
    rows = [[device.public_key, str(device.listen_port), hex(device.fwmark) if device.fwmark else "off"]]
    return rows + [
        [
            peer.public_key,
            peer.endpoint or "(none)",
            ",".join(peer.allowed_ips) or "(none)",
            str(peer.last_handshake_ns // 10**9),
            str(peer.rx_bytes),
            str(peer.tx_bytes),
            str(peer.persistent_keepalive or "off"),
        ]
        for peer in sorted(device.peers)
    ]


def without_secrets(rows: list[list[str]]) -> list[list[str]]:
    return [rows[0][1:], *[[row[0], *row[2:]] for row in rows[1:]]]


@pytest.fixture
def lab() -> Iterator[Lab]:
    if reason := missing_for_the_lab():
        pytest.skip(reason)
    made = Lab()
    try:
        made.start()
        yield made
    finally:
        made.stop()


def quiet_read(lab: Lab) -> tuple[list[userspace.Device], dict[str, list[list[str]]]]:
    """A read and a dump between which nothing moved."""
    for _ in range(20):
        devices, failed = lab.source.read()
        dump = lab.dump()
        if lab.source.read() == (devices, failed) and not failed:
            return devices, dump
    raise AssertionError("the devices never stood still")


@pytest.mark.lab
def test_every_value_of_a_real_wireguard_go_is_that_of_wg_show(lab):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        devices, dump = quiet_read(lab)
        shaken = [any(p.last_handshake_ns and p.rx_bytes and p.tx_bytes for p in d.peers) for d in devices]
        if shaken == [True, True]:
            break
        time.sleep(0.2)
    assert shaken == [True, True]
    assert [d.name for d in devices] == lab.names
    for device in devices:
        assert as_wg_show(device) == without_secrets(dump[device.name])
    text = repr(devices) + repr(vars(lab.source))
    assert not [secret for secret in (*lab.private, lab.preshared) if secret in text]
    assert lab.private[0] == dump[lab.names[0]][0][0]  # that is: wg did show it to us


@pytest.mark.lab
def test_a_stopped_wireguard_go_fails_alone_and_a_killed_one_leaves_a_socket_that_is_no_device(lab):
    lab.source = UserspaceSource(wanted=lab.names.__contains__, timeout=0.5)
    stopped, running = lab.names
    lab.processes[0].send_signal(signal.SIGSTOP)
    wait_for_stop(lab.processes[0].pid)
    devices, failed = lab.source.read()
    assert ([d.name for d in devices], [f.name for f in failed]) == ([running], [stopped])
    assert "did not answer within 0.5 s" in failed[0].problem
    lab.processes[0].kill()
    lab.processes[0].wait(30)
    devices, failed = lab.source.read()
    assert ([d.name for d in devices], failed) == ([running], [])
    assert [Path(path).stem for path in lab.source.leftovers] == [stopped]
