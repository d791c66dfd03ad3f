"""The programs that are measured, and how: the lean HTTP client, the CPU account of a control group, spawning `wg`.

Every server runs in a control group of its own, whose `cpu.stat` counts microseconds and includes the processes that
the server starts (one of the contestants spawns `wg`).
"""

from __future__ import annotations

import base64
import os
import resource
import select
import socket
import subprocess
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Iterator, Sequence

CGROUPS = Path("/sys/fs/cgroup")
PAGE = resource.getpagesize()
_BUFFER = bytearray(1 << 20)


class Cost(NamedTuple):
    """What one scrape cost: wall clock and CPU in seconds, and the size of the body in bytes."""

    wall: float
    cpu: float
    size: int


class Client:
    """A client as lean as can be, which keeps its connection from scrape to scrape, as Prometheus does."""

    def __init__(
        self,
        port: int,
        timeout: float = 120,
        *,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        """Connects. Raises OSError if nobody listens, and later TimeoutError after `timeout` seconds of silence.

        `login` is a user and a password, given with each request.
        """
        self._port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        given = base64.b64encode(":".join(login).encode()).decode() if login else ""
        self._login = f"Authorization: Basic {given}\r\n" if login else ""

    def get(self, *, path: str = "/metrics", gzip: bool = False, keep: list[bytes] | None = None) -> int:
        """GET a page; the size of the body, with the frames of its chunks if the server sends it in such.

        Appends the answer to `keep`, if given. Raises OSError if the answer is not a 200, or has no end.
        """
        accept = "Accept-Encoding: gzip\r\n" if gzip else ""
        fields = f"Host: localhost\r\nAccept: text/plain\r\n{accept}{self._login}"
        self._socket.sendall(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode())
        head, size, length, tail = b"", 0, None, b""
        while length is None or (size < length if length >= 0 else tail != b"0\r\n\r\n"):
            count = self._socket.recv_into(_BUFFER)
            if count == 0:
                raise OSError(f"port {self._port}: the answer has no end")
            if keep is not None:
                keep.append(bytes(_BUFFER[:count]))
            size += count
            tail = (tail + _BUFFER[max(0, count - 5) : count])[-5:]
            if length is None:
                head += _BUFFER[:count]
                length, size = _length(head, size)
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(f"port {self._port}: {head[:60]!r}")
        return size

    def closed(self) -> bool:
        """Whether the server has hung up."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _length(head: bytes, size: int) -> tuple[int | None, int]:
    """The length of the body and how much of it has come: None before the head is whole, -1 if the end will tell."""
    end = head.find(b"\r\n\r\n")
    if end < 0:
        return None, size
    for line in head[:end].lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1]), size - end - 4
    return -1, size - end - 4


def get(
    port: int, *, path: str = "/metrics", gzip: bool = False, timeout: float = 120, keep: list[bytes] | None = None
) -> int:
    """One scrape over a connection of its own; see `Client.get`."""
    client = Client(port, timeout)
    try:
        return client.get(path=path, gzip=gzip, keep=keep)
    finally:
        client.close()


def _schedstats(pid: int) -> Iterator[Path]:
    """The scheduler's account of each thread (proc(5))."""
    return Path(f"/proc/{pid}/task").glob("*/schedstat")


def _computed(schedstat: Path) -> int:
    """Nanoseconds for which a thread has computed; 0 if it ended a moment ago."""
    try:
        return int(schedstat.read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _probes(pid: int) -> bool:
    """Whether this process is a prober of ours: by its name or, of older versions, by its command."""
    directory = Path(f"/proc/{pid}")
    command = (directory / "cmdline").read_bytes().split(b"\0")
    return (directory / "comm").read_text() == "wg-probe\n" or b"wg_exporter.prober" in command


def memory(pid: int, *, highest: bool = False) -> int:
    """KiB of one process: its share of what it shares with others (PSS), or the highest ever (VmHWM)."""
    file, field = ("status", "VmHWM:") if highest else ("smaps_rollup", "\nPss:")
    return int(Path(f"/proc/{pid}/{file}").read_text().split(field)[1].split()[0])


def memory_together(pids: Collection[int]) -> int:
    """KiB of these processes, as if nobody else had any of it: the pages that are nobody's file by PSS, those of files
    once each. PSS of files is less where others, such as whoever measures, run the same Python.
    """
    files = len({page for pid in pids for page in _pages_of_files(pid)}) * PAGE // 1024
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return files + sum(int(text.split("\nPss_Anon:")[1].split()[0]) for text in rollups)


def _pages_of_files(pid: int) -> Iterator[tuple[str, int]]:
    """The pages of mapped files that this process has in memory: the file, and the place in it (proc(5), pagemap)."""
    with Path(f"/proc/{pid}/pagemap").open("rb") as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, _rights, offset, _device, inode, *name = line.split(maxsplit=5)
            if inode == "0":
                continue
            start, end = (int(bound, 16) // PAGE for bound in span.split("-"))
            pagemap.seek(8 * start)
            for at, entry in enumerate(array("Q", pagemap.read(8 * (end - start))), int(offset, 16) // PAGE):
                if entry >> 63 and entry >> 61 & 1:  # it is there, and is the file's: nobody has written to it
                    yield name[0], at


class Server:
    """One exporter, running on a port of its own in a control group of its own."""

    def __init__(self, name: str, port: int, command: Sequence[str], log: Path) -> None:
        self.name, self.port = name, port
        self._group = CGROUPS / name
        self._group.mkdir(exist_ok=True)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=self._enter,  # noqa: PLW1509
            )
        self.pid = self._process.pid
        self._client: Client | None = None

    def _enter(self) -> None:
        (self._group / "cgroup.procs").write_text(str(os.getpid()))

    def wait(self, timeout: float = 60) -> None:
        """Until the first scrape succeeds. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                get(self.port, timeout=timeout)
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError(f"{self.name} did not answer on port {self.port}; exit code {self._process.poll()}")

    def cpu(self) -> float:
        """CPU seconds used so far, by the server and all that it started."""
        return int((self._group / "cpu.stat").read_text().split()[1]) / 1e6

    def cpu_of_prober(self) -> float:
        """CPU seconds used so far by the process that probes, by the scheduler's account of it."""
        probers = set(self._pids()) - set(self._others())
        return sum(_computed(path) for pid in probers for path in _schedstats(pid)) / 1e9

    def memory(self, *, highest: bool = False) -> int:
        """Memory in KiB of all processes but the one that probes: what they share counts once (PSS), but not in the
        highest ever (VmHWM).
        """
        return sum(memory(pid, highest=highest) for pid in self._others())

    def memory_of_all(self) -> int:
        """Memory (PSS) in KiB of the server and all that it started."""
        return sum(memory(pid) for pid in self._pids())

    def _pids(self) -> list[int]:
        return [int(pid) for pid in (self._group / "cgroup.procs").read_text().split()]

    def _others(self) -> list[int]:
        """All but the one that probes."""
        return [pid for pid in self._pids() if not _probes(pid)]

    def scrape(self, *, path: str = "/metrics", gzip: bool = False) -> Cost:
        """One scrape. CPU is read a moment later, when the server has put everything away."""
        client = self._connected()
        before, start = self.cpu(), time.perf_counter()
        try:
            size = client.get(path=path, gzip=gzip)
        except OSError:
            client.close()
            self._client = None
            raise
        wall = time.perf_counter() - start
        time.sleep(0.03)
        return Cost(wall, self.cpu() - before, size)

    def _connected(self) -> Client:
        """The kept connection, or a new one: a server may have closed it while nobody asked."""
        if self._client is not None and self._client.closed():
            self._client.close()
            self._client = None
        if self._client is None:
            self._client = Client(self.port)
        return self._client

    def rest(self) -> None:
        """Stop where it is: background work of one must not disturb the measurement of another."""
        (self._group / "cgroup.freeze").write_text("1")

    def wake(self) -> None:
        """Go on, and let the background work that was due be done before anything is measured.

        The processes that it started are not waited for: one that probes is never done.
        """
        (self._group / "cgroup.freeze").write_text("0")
        quiet, last = time.monotonic(), self.cpu() - self.cpu_of_prober()
        deadline = quiet + 10
        while time.monotonic() - quiet < 0.2 and time.monotonic() < deadline:
            time.sleep(0.02)
            if (now := self.cpu() - self.cpu_of_prober()) - last > 0.002:
                quiet = time.monotonic()
            last = now

    def stop(self, *, at_once: bool = False) -> None:
        """End it and all that it started."""
        (self._group / "cgroup.freeze").write_text("0")
        self._process.terminate()
        try:
            self._process.wait(0 if at_once else 10)
        except subprocess.TimeoutExpired:
            (self._group / "cgroup.kill").write_text("1")
            self._process.wait()


def wg(*, pipe: bool) -> Cost:
    """`wg show all dump` once, to /dev/null or a pipe that is read; exec included, as for all who run it."""
    before, start, size = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    if pipe:
        with subprocess.Popen(["wg", "show", "all", "dump"], stdout=subprocess.PIPE, bufsize=0) as child:
            while count := os.readv(child.stdout.fileno(), [_BUFFER]):  # type: ignore[union-attr]
                size += count
    else:
        subprocess.run(["wg", "show", "all", "dump"], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, size)
