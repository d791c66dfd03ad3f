"""What a stranger who reaches the port can do: nothing that keeps the next scrape from being answered."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, free_port, start_exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab import Exporter

NOTHING = 'interfaces: {include: ["no-such*"]}\nnames: []\n'
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    """The crowd is in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    with start_exporter(directory=tmp_path, config=NOTHING) as exporter:
        exporter.alone = max(scrape_seconds(exporter) for _ in range(3))
        yield exporter


def scrape_seconds(exporter: Exporter) -> float:
    begun = time.monotonic()
    assert exporter.get("/metrics").status == 200
    return time.monotonic() - begun


def processes(exporter: Exporter) -> list[int]:
    children = Path(f"/proc/{exporter.process.pid}/task/{exporter.process.pid}/children").read_text().split()
    return [exporter.process.pid, *map(int, children)]


def resident(exporter: Exporter) -> int:
    """Bytes of all its processes."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in processes(exporter))
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files(exporter: Exporter) -> int:
    """Of the process that serves."""
    return len(list(Path(f"/proc/{processes(exporter)[1]}/fd").iterdir()))


def connect(exporter: Exporter, receive_buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(30)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", exporter.port))
    return sock


def scraped_within(exporter: Exporter, seconds: float, times: int = 1, every: float = 0.0) -> None:
    """And ten times what a scrape took alone, as it is slow by itself on a busy machine."""
    for number in range(times):
        assert scrape_seconds(exporter) < seconds + 10 * getattr(exporter, "alone", 0.0), number
        time.sleep(every)


@contextlib.contextmanager
def crowd(exporter: Exporter, number: int, do: Callable[[socket.socket], object]) -> Iterator[None]:
    """So many clients that connect and then do this on and on, until the block ends."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            with contextlib.suppress(OSError), connect(exporter) as sock:
                while not stopping.is_set():
                    do(sock)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(30)


BOMB = zlib.compress(bytes(1 << 20))


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"Content-Encoding: deflate\r\nContent-Length: 999999999", BOMB),
        (b"Transfer-Encoding: chunked", b"1\r\nx\r\n" * 50),
        (b"Expect: 100-continue\r\nContent-Length: 10", b"x"),
    ],
    ids=["a bomb", "chunks of one byte", "asked for first"],
)
def test_a_body_is_never_read(exporter: Exporter, head: bytes, part: bytes) -> None:
    def send(sock: socket.socket) -> None:
        sock.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        for _ in range(100):
            sock.sendall(part)
            time.sleep(0.01)

    with crowd(exporter, 60, send):
        time.sleep(0.5)
        scraped_within(exporter, 1, times=8, every=0.2)


def test_heads_of_thousands_of_fields_keep_no_scrape_waiting(exporter: Exporter) -> None:
    """To read one of them took 5 ms of a core, in which nobody else was served."""
    head = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n"
    request = head + b"a:\r\n" * 4000 + b"\r\n"

    def ask(sock: socket.socket) -> None:
        sock.sendall(request)
        sock.recv(4096)
        raise OSError  # on a new connection

    with crowd(exporter, 30, ask):
        time.sleep(0.5)
        scraped_within(exporter, 2, times=4, every=0.2)


def test_new_connections_in_crowds_keep_no_scrape_out(exporter: Exporter) -> None:
    """They come by the thousand, ask nothing, and stay."""
    held: list[socket.socket] = []
    stopping = threading.Event()

    def flood() -> None:
        while not stopping.is_set():
            with contextlib.suppress(OSError):
                held.append(connect(exporter))
            if len(held) > 3000:
                held.pop(0).close()

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(held) > 300, within=60)
        scraped_within(exporter, 2, times=12, every=0.2)
    finally:
        stopping.set()
        for thread in threads:
            thread.join(30)
        for sock in held:
            sock.close()
    lines = [line for line in exporter.log().splitlines() if "cut off" in line]
    assert len(lines) <= 2


def test_followers_in_crowds_keep_no_scrape_out_and_nobody_else_from_following(tmp_path: Path) -> None:
    """Whoever asks for events as they happen is answered for as long as he stays."""
    path = tmp_path / "s"
    with start_exporter(f"--web.unix-socket={path}", directory=tmp_path, config=NOTHING) as exporter:
        held: list[socket.socket] = []
        for _ in range(220):
            with contextlib.suppress(OSError):
                held.append(connect(exporter))
                held[-1].sendall(b"GET /api/v1/events?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
        scraped_within(exporter, 2, times=8, every=0.1)
        assert exporter.get("/api/v1/events?follow=true").status == 429
        with socket.socket(socket.AF_UNIX) as own:
            own.settimeout(30)
            own.connect(str(path))
            own.sendall(b"GET /api/v1/events?follow=true HTTP/1.0\r\n\r\n")
            assert own.recv(12) == b"HTTP/1.1 200"
        assert resident(exporter) < 150 << 20
        begun = time.monotonic()
        assert exporter.stop() == 0
        assert time.monotonic() - begun < 8, "who follows does not keep it from ending"
        for sock in held:
            sock.close()


def test_heads_that_never_end_cost_little_memory_and_end_in_time(exporter: Exporter) -> None:
    """Each follows a good request, so that the connection is a trusted one."""
    before = resident(exporter)
    socks = []
    for _ in range(250):
        with contextlib.suppress(OSError):
            sock = connect(exporter)
            sock.sendall(GET)
            sock.recv(4096)
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"a" * 1_000_000)
            socks.append(sock)
    assert resident(exporter) - before < 40 << 20
    assert resident(exporter) < 150 << 20
    scraped_within(exporter, 1)
    for sock in socks:
        sock.close()
    # One that stays below every limit of size is closed in time.
    with connect(exporter) as sock:
        sock.sendall(GET)
        time.sleep(0.3)
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHo")
        begun = time.monotonic()
        sock.settimeout(120)
        with contextlib.suppress(OSError):
            while sock.recv(65536):
                pass
        assert 5 < time.monotonic() - begun < 60, "5 minutes are for who is idle"


def test_few_open_files_and_idle_clients_lock_nobody_out(tmp_path: Path) -> None:
    with start_exporter(directory=tmp_path, config=NOTHING, wrapper=["prlimit", "--nofile=64:64"]) as exporter:
        idle = []
        for _ in range(80):
            with contextlib.suppress(OSError):
                idle.append(connect(exporter))
        scraped_within(exporter, 2, times=3)
        for sock in idle:
            sock.close()
        assert "Traceback" not in exporter.log()
        assert len(exporter.log().splitlines()) < 10


def test_a_log_that_nobody_reads_hangs_nothing(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "config.yml"
    config.write_text(NOTHING)
    command = [sys.executable, "-m", "wg_exporter.cli", "serve", f"--web.listen-address=127.0.0.1:{port}"]
    command += ["--web.unix-socket=", f"--config.file={config}", "--log.level=debug"]
    read, write = os.pipe()
    with subprocess.Popen(command, stderr=write, stdout=write, stdin=subprocess.DEVNULL) as process:
        os.close(write)
        try:
            answered = lambda: ask(port)  # noqa: E731
            eventually(answered, within=30)
            for _ in range(900):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
                    sock.sendall(b"nonsense\r\n\r\n")
            for _ in range(1500):  # a line each, more than any pipe takes
                process.send_signal(signal.SIGHUP)
                time.sleep(0.001)
            assert answered()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
    os.set_blocking(read, False)
    assert os.read(read, 1 << 20).startswith(b"ts=")
    os.close(read)


def ask(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(b"GET /-/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return sock.recv(100).startswith(b"HTTP/1.1 200")
    return False


def test_two_thousand_slow_clients_and_two_hundred_scrapers_at_once_are_held(exporter: Exporter) -> None:
    clients: list[socket.socket] = []
    try:
        for _ in range(2000):
            with contextlib.suppress(OSError):
                clients.append(connect(exporter))
                clients[-1].sendall(b"GET /metrics HTTP/1.1\r\nHo")
        scraped_within(exporter, 2)
        for _ in range(250):
            with contextlib.suppress(OSError):
                clients.append(connect(exporter, 2048))
                clients[-1].sendall(GET * 20)
        scraped_within(exporter, 2)
        answers: list[int | str] = []

        def scrape() -> None:
            try:
                answers.append(exporter.get("/metrics").status)
            except (OSError, http.client.HTTPException) as error:
                answers.append(repr(error))

        threads = [threading.Thread(target=scrape) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert Counter(answers) == {200: 100}, exporter.log()
        assert resident(exporter) < 200 << 20
    finally:
        for sock in clients:
            sock.close()
    scraped_within(exporter, 2)
    eventually(lambda: open_files(exporter) < 60, within=30)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"z" * 5000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"\0\1zzzz\r\n\r\n",
        b"GET /zzzz HTTP/1.1\r\nConnection: close\r\nBad Header: zzzz\r\n\r\n",
        b"GET /metrics?zzzz=1 HTTP/2.0\r\nHost: x\r\n\r\n",
        b"zzzz /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /" + b"z" * 50_000,
    ],
)
def test_an_error_says_nothing_of_the_program_and_repeats_nothing(exporter: Exporter, request_: bytes) -> None:
    with connect(exporter) as sock:
        sock.sendall(request_)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65536):
                answer += part
    assert re.match(rb"HTTP/1\.1 [45]\d\d ", answer), answer[:100]
    assert b"zz" not in answer
    assert not re.search(rb"python|h11|aiohttp|[0-9]+\.[0-9]+\.[0-9]+", answer, re.IGNORECASE)
    assert len(answer) < 500


@pytest.mark.parametrize("mebibytes", [200, 100])
def test_little_address_space_is_enough(tmp_path: Path, mebibytes: int) -> None:
    """Python's own threads would reserve 64 MiB each for their heaps, and 8 for their stacks."""
    wrapper = ["prlimit", f"--as={mebibytes << 20}"]
    with start_exporter(directory=tmp_path, config=NOTHING, wrapper=wrapper) as exporter:
        time.sleep(6)  # longer than a tick
        scraped_within(exporter, 2, times=3)
        assert "level=error" not in exporter.log()


def test_without_memory_it_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    """From what is enough down to where Python itself does not start."""
    config = tmp_path / "config.yml"
    config.write_text(NOTHING)
    seen = set()
    for mebibytes in range(44, 20, -4):
        command = [sys.executable, "-m", "wg_exporter.cli", "serve", f"--web.listen-address=127.0.0.1:{free_port()}"]
        command += ["--web.unix-socket=", f"--config.file={config}"]
        done = subprocess.run(
            ["timeout", "-s", "TERM", "8", "prlimit", f"--as={mebibytes << 20}", *command],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if "msg=listening" not in done.stderr and "memory; raise the limits" in done.stderr:
            seen.add((done.returncode, len(done.stderr.splitlines())))
    assert seen == {(1, 1)}
