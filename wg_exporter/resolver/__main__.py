"""The resolver as a process of its own: forked by the supervisor or, where all else is one process, started by it as
`python -m wg_exporter.resolver FD`; never by hand.

It takes questions from the inherited socket and looks each name up as `wg setconf` does, by getaddrinfo(3): so the
files of the host (nsswitch.conf, hosts, resolv.conf) decide, and the answer is the one that WireGuard's tools would
use. That call waits as long as it likes, can't be cut short, keeps the resolv.conf that it has read, and takes bytes of
strangers apart. So each question has a child of its own, which begins anew, is killed when it is late, and takes nobody
along when it crashes.

It ends when the socket is closed. So it ignores the signals that end the whole process group.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from wg_exporter.hostnames import MOST_ADDRESSES, LookupFailure
from wg_exporter.linux import privileges
from wg_exporter.linux.usage import Meter
from wg_exporter.messages.channel import ConnectionEndedError
from wg_exporter.messages.packets import Packets
from wg_exporter.messages.resolver import MOST_AT_ONCE, Answer, Question, ToResolver
from wg_exporter.model import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 20.0  # seconds for an answer: two attempts at two dead servers, with the usual resolv.conf(5)
LONGEST = 16 << 10  # bytes of what a child says
CPU = 10  # seconds of processor time that a child may use

_FAILURES = {
    socket.EAI_NONAME: LookupFailure.NOT_FOUND,
    socket.EAI_NODATA: LookupFailure.NOT_FOUND,
    socket.EAI_ADDRFAMILY: LookupFailure.NOT_FOUND,
    socket.EAI_AGAIN: LookupFailure.NO_ANSWER,
    socket.EAI_SYSTEM: LookupFailure.NO_ANSWER,
    socket.EAI_FAIL: LookupFailure.REFUSED,
    socket.EAI_SERVICE: LookupFailure.NO_SERVICE,
}


class _Found(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a child says."""

    addresses: tuple[tuple[str, int], ...]
    failure: LookupFailure | None


class _Child(NamedTuple):
    pid: int
    number: int
    until: float


def look_up(host: str, port: str) -> _Found:
    """What getaddrinfo(3) says, asked as `wg` asks it (wireguard-tools, config.c, parse_endpoint). It may wait long."""
    try:
        # As bytes, for `wg` hands them on as they are, without IDNA.
        rows = socket.getaddrinfo(host.encode(), port.encode(), socket.AF_UNSPEC, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    except socket.gaierror as error:
        return _Found((), _FAILURES.get(error.errno or 0, LookupFailure.UNUSABLE))
    except OSError:
        return _Found((), LookupFailure.NO_ANSWER)
    except (UnicodeError, ValueError, OverflowError):
        return _Found((), LookupFailure.UNUSABLE)
    found = tuple(dict.fromkeys((str(row[4][0]), int(row[4][1])) for row in rows))
    return _Found(found, None) if 0 < len(found) <= MOST_ADDRESSES else _Found((), LookupFailure.UNUSABLE)


class Lookups:
    """Answers questions until the other end is closed, or says what is no question. `look` looks one up."""

    def __init__(self, sock: socket.socket, look: Callable[[str, str], _Found] = look_up) -> None:
        self._packets: Packets[ToResolver] = Packets(sock, ToResolver)
        self._look = look
        self._children: dict[int, _Child] = {}  # by the file descriptor that it says its answer on
        self._meter = Meter()
        self._poll = select.poll()
        self._poll.register(self._packets, select.POLLIN)

    def run(self) -> None:
        """Go on until the other end is gone. Nothing that was begun is left then."""
        try:
            with contextlib.suppress(ConnectionEndedError):
                while True:
                    self._step()
        finally:
            for file in list(self._children):
                self._end(file)
            self._packets.close()

    def _step(self) -> None:
        now = time.monotonic()
        left = min((child.until for child in self._children.values()), default=None)
        ready = {fd for fd, _ in self._poll.poll(None if left is None else max(0.0, left - now) * 1000 + 1)}
        now = time.monotonic()
        for file, child in list(self._children.items()):
            if file in ready:
                self._tell(child.number, self._heard(file))
            elif now >= child.until:
                self._end(file)
                self._tell(child.number, _Found((), LookupFailure.LATE))
        if self._packets.fileno() in ready:
            while (found := self._packets.receive()) is not None:
                os_files = found[1]
                for file in os_files:
                    os.close(file)
                self._begin(found[0], now)

    def _begin(self, question: Question, now: float) -> None:
        if len(self._children) >= MOST_AT_ONCE:
            raise ConnectionEndedError("too many questions")
        reads, writes = os.pipe2(os.O_CLOEXEC)
        us = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            os.close(reads)
            os.close(writes)
            self._tell(question.number, _Found((), LookupFailure.NO_ANSWER))
            return
        if not pid:
            self._child(question, writes, us)
        os.close(writes)
        self._children[reads] = _Child(pid, question.number, now + PATIENCE)
        self._poll.register(reads, select.POLLIN)

    def _child(self, question: Question, writes: int, parent: int) -> None:
        """Look one name up, and end."""
        try:
            privileges.die_with_parent(parent)
            self._packets.close()
            for file in self._children:
                os.close(file)
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
            os.write(writes, msgspec.msgpack.encode(self._look(question.host, question.port)))
        finally:
            os._exit(0)

    def _heard(self, file: int) -> _Found:
        """What a child said, in one write; it has ended, or is ended now."""
        try:
            found = msgspec.msgpack.decode(os.read(file, LONGEST), type=_Found)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            found = _Found((), LookupFailure.UNUSABLE)  # it crashed
        self._end(file)
        return found

    def _end(self, file: int) -> None:
        child = self._children.pop(file)
        self._poll.unregister(file)
        os.close(file)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)

    def _tell(self, number: int, found: _Found) -> None:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        usage = self._meter.read()
        usage = Usage(usage.cpu + children.ru_utime + children.ru_stime, *usage[1:])
        addresses = found.addresses if len(found.addresses) <= MOST_ADDRESSES else ()
        failure = found.failure if found.failure or addresses else LookupFailure.UNUSABLE
        self._packets.send(Answer(number, addresses, failure, usage))


def run(sock: socket.socket, drop: Callable[[], None]) -> None:
    """Answer questions on this socket until it is closed. `drop` gives up all rights."""
    drop()
    Lookups(sock).run()


def main(fd: int) -> None:
    """Answer questions on this file descriptor."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    privileges.name_process("wg-dns")
    run(socket.socket(fileno=fd), lambda: privileges.keep_only((), privileges.NOBODY))


if __name__ == "__main__":
    main(int(sys.argv[1]))
