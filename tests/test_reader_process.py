"""The reader in a process of its own, as the exporter sees it: asked, answered, dead, hung, and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually
from tests.rows import FakeHost, FakeTime, device, link, peer
from tests.threads import inside
from wg_exporter.config import Config
from wg_exporter.model import Failure, SourceName
from wg_exporter.reader import process, reader
from wg_exporter.remote.reader import handle
from wg_exporter.remote.reader.handle import ReaderProcess
from wg_exporter.sources import OnePass, StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.model import Snapshot


class Life:
    """A process of the reader, played by a thread; `process` is there for its sake until the thread ends."""

    def __init__(self, fd: int, host: FakeHost, clock: FakeTime) -> None:
        self.sock = socket.socket(fileno=os.dup(fd))
        self.pid, self.code, self.killed = 4711, 0, False
        sources = host.sources(Config(), clock.clock)
        self.thread = threading.Thread(target=process.run, args=(self.sock, sources), daemon=True)
        self.thread.start()

    def die(self, code: int = -signal.SIGKILL) -> None:
        self.code = code
        self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(30)

    def wait(self, timeout: float | None = None) -> int:
        self.thread.join(timeout)
        if self.thread.is_alive() and not self.killed:
            raise subprocess.TimeoutExpired("reader", timeout or 0.0)
        return self.code

    def kill(self) -> None:
        self.killed, self.code = True, -signal.SIGKILL


class Played:
    """A `ReaderProcess` over a fake host, whose processes are threads."""

    def __init__(self) -> None:
        self.host, self.time = FakeHost(), FakeTime()
        self.host.devices, self.host.links = [device(peer(1), peer(2))], [link()]
        self.lives: list[Life] = []
        self.lines: list[str] = []
        self.refuse = ""
        self.reader = ReaderProcess(self._start, self.time.clock, self._tell)

    def _start(self, fd: int) -> Life:
        if self.refuse:
            raise OSError(self.refuse)
        self.lives.append(Life(fd, self.host, self.time))
        return self.lives[-1]

    def _tell(self, problem: str, sources: str) -> None:
        self.lines.append(problem)
        self.concerned = sources

    def outcomes(self, snapshot: Snapshot) -> set[bool]:
        return {outcome.success for outcome in snapshot.outcomes}


@pytest.fixture
def played() -> Iterator[Played]:
    one = Played()
    yield one
    for event in one.host.stuck.values():
        event.set()
    one.reader.stop()
    for life in one.lives:
        life.thread.join(30)


def test_a_pass_brings_what_the_sources_say(played):
    assert not played.lives, "nobody has asked yet"
    snapshot = played.reader.read()
    assert [one.peers.public_key for one in snapshot.devices] == [device(peer(1), peer(2)).peers.public_key]
    assert played.outcomes(snapshot) == {True}
    assert played.reader.problem == ""
    again = played.reader.read()
    assert again.devices[0].peers is snapshot.devices[0].peers
    assert played.reader.usage.resident > 0
    assert len(played.lives) == 1


def test_those_who_ask_at_once_share_a_pass(played):
    played.reader.read()
    gate = played.host.stuck[SourceName.CONF] = threading.Event()
    before = played.host.reads[SourceName.CONF]
    found: list[Snapshot] = []
    threads = [threading.Thread(target=lambda: found.append(played.reader.read())) for _ in range(5)]
    for thread in threads:
        thread.start()
    eventually(lambda: played.host.reads[SourceName.CONF] == before + 1, within=30)
    eventually(lambda: sum(inside(one, OnePass.read, Future.result) for one in threads) == 4, within=30)  # of the fifth
    gate.set()
    for thread in threads:
        thread.join(30)
    assert len({id(one) for one in found}) == 1
    assert played.host.reads[SourceName.CONF] == before + 1


def test_what_the_start_has_freed_is_given_back_once_and_what_lasts_is_left_alone_by_the_collector(played, monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(process, "give_back", lambda: done.append("give back"))
    monkeypatch.setattr(process.gc, "freeze", lambda: done.append("freeze"))
    for _ in range(process.STEADY - 1):
        played.reader.read()
    assert not done
    for _ in range(3):
        played.reader.read()
    assert done == ["give back", "freeze"]


def test_routes_are_asked_for_with_the_next_pass_and_again_of_a_new_process(played):
    question = (3, "10.0.0.2")
    played.host.routes = {question: "leads into eth0"}
    assert played.reader.read().routes == {"": {}}
    played.reader.ask({"": (question,)})
    assert played.reader.read().routes == {"": {question: "leads into eth0"}}
    played.lives[0].die()
    played.reader.read()
    played.time.advance(handle.FIRST_PAUSE)
    assert played.reader.read().routes == {"": {question: "leads into eth0"}}


def test_who_is_not_well_is_told_with_the_next_pass_and_again_to_a_new_process(played, monkeypatch):
    told: list[frozenset[tuple[str, str, bool]]] = []
    monkeypatch.setattr(reader.Reader, "unwell", lambda _self, peers: told.append(peers))
    played.reader.read()
    peers = frozenset({("wg0", "key", True)})
    played.reader.unwell(peers)
    assert not told
    for _ in range(3):
        played.reader.read()
    assert told == [peers]
    played.lives[0].die()
    played.reader.read()
    played.time.advance(1.5)
    played.reader.read()
    assert told == [peers, peers]
    played.reader.unwell(frozenset())
    played.reader.read()
    assert told == [peers, peers, frozenset()]


def test_when_it_dies_nothing_is_read_what_was_there_is_not_gone_and_it_is_started_again(played):
    first = played.reader.read()
    played.lives[0].die()
    lost = played.reader.read()
    assert played.outcomes(lost) == {False}
    assert {one.source for one in lost.outcomes} == {one.source for one in first.outcomes}
    assert lost.devices == ()
    assert lost.links == {}
    assert [(one.netns, one.name, one.failure) for one in lost.failed] == [("", "wg0", Failure.OTHER)]
    line = "the reader was killed by SIGKILL; it is started again in 1 s"
    assert [one.problem for one in lost.failed] == [line]
    assert played.reader.problem == line
    assert lost.unread
    assert played.lines == [line]
    assert played.concerned == ", ".join(one.source for one in first.outcomes)
    assert played.reader.usage is None
    # Not before its time; and it still says so.
    played.time.advance(handle.FIRST_PAUSE - 0.1)
    assert played.reader.read().failed == lost.failed
    assert len(played.lives) == 1
    played.time.advance(0.1)
    back = played.reader.read()
    assert back.devices == first.devices
    assert played.reader.problem == ""
    assert len(played.lives) == 2
    assert not back.unread
    assert played.lines == [line, ""], "it is back"


def test_the_pause_doubles_until_one_lives_long(played):
    pauses = []
    for _ in range(8):
        played.reader.read()
        played.lives[-1].die(code=3)
        played.reader.read()
        pauses.append(played.reader._pause)
        played.time.advance(handle.LONGEST_PAUSE)
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert "the reader ended (it closed the connection, exit code 3)" in played.lines[0]
    played.reader.read()
    played.time.advance(handle.LONG_LIFE)
    played.lives[-1].die()
    played.reader.read()
    assert played.lines[-1].endswith("in 1 s")


def test_one_that_can_not_be_started_is_tried_again(played):
    played.refuse = "no more processes"
    assert played.outcomes(played.reader.read()) == {False}
    assert played.reader.problem == "the reader could not be started: no more processes; it is started again in 1 s"
    assert {one.source for one in played.reader.read().outcomes} >= {SourceName.KERNEL, SourceName.LINKS}
    played.refuse = ""
    played.time.advance(handle.FIRST_PAUSE)
    assert played.outcomes(played.reader.read()) == {True}


class RealTime(Played):
    """With a clock that runs, and limits that are short."""

    def __init__(self) -> None:
        super().__init__()
        self.reader.stop()
        from wg_exporter.sources import SYSTEM_CLOCK

        self.reader = ReaderProcess(self._start, SYSTEM_CLOCK, self._tell)


@pytest.fixture
def real(monkeypatch) -> Iterator[RealTime]:
    """It has read once, and has less time from now on."""
    one = RealTime()
    eventually(lambda: one.outcomes(one.reader.read()) == {True}, within=30)
    one.lines.clear()
    monkeypatch.setattr(handle, "DEADLINE", 0.1)
    yield one
    for event in one.host.stuck.values():
        event.set()
    one.reader.stop()


def test_one_that_hangs_is_said_to_and_its_late_answer_is_the_next_pass(real):
    gate = real.host.stuck[SourceName.CONF] = threading.Event()
    reads = real.host.reads[SourceName.CONF]
    late = real.reader.read()
    assert real.outcomes(late) == {False}
    assert real.reader.problem == "the reader gave no answer within 0.1 s"
    assert [one.name for one in late.failed] == ["wg0"]
    real.reader.read()  # waits for the same answer, and asks for no other
    gate.set()
    found = eventually(lambda: (now := real.reader.read()) and real.outcomes(now) == {True} and now, within=30)
    assert found.devices
    assert real.reader.problem == ""
    assert real.lines == ["the reader gave no answer within 0.1 s", ""], "once, however many passes it costs"
    assert real.host.reads[SourceName.CONF] <= reads + 2
    assert len(real.lives) == 1


def test_a_pass_during_which_the_whole_host_was_paused_is_waited_for(played, monkeypatch):
    played.reader.read()
    monkeypatch.setattr(handle, "DEADLINE", 0.2)
    gate = played.host.stuck[SourceName.CONF] = threading.Event()
    reads = played.host.reads[SourceName.CONF]
    found: list[Snapshot] = []
    thread = threading.Thread(target=lambda: found.append(played.reader.read()))
    thread.start()
    eventually(lambda: played.host.reads[SourceName.CONF] > reads, within=30)
    played.time.advance(handle.SILENCE + 10)
    thread.join(0.5)
    gate.set()
    thread.join(30)
    assert found[0].devices
    assert played.host.reads[SourceName.CONF] == reads + 1, "the answer is not taken for one of long ago"
    assert (len(played.lives), played.lines) == (1, [])


def test_one_that_hangs_for_long_is_killed_and_replaced(real, monkeypatch):
    monkeypatch.setattr(handle, "SILENCE", 0.2)
    monkeypatch.setattr(handle, "STOP_TIMEOUT", 0.05)
    monkeypatch.setattr(handle, "FIRST_PAUSE", 0.05)
    real.reader._pause = 0.05
    real.host.stuck[SourceName.CONF] = threading.Event()
    died = "the reader said nothing for 0.2 s, and was killed; it is started again in 0.05 s"
    eventually(lambda: real.reader.read() and died in real.lines, within=30)
    assert real.lives[0].killed
    real.host.stuck[SourceName.CONF].set()
    del real.host.stuck[SourceName.CONF]
    eventually(lambda: real.outcomes(real.reader.read()) == {True}, within=30)


def test_after_stop_nobody_gets_a_pass_and_the_process_ends(played):
    played.reader.read()
    played.reader.stop()
    with pytest.raises(StoppedError):
        played.reader.read()
    played.lives[0].thread.join(30)
    assert not played.lives[0].thread.is_alive()


def test_a_stop_in_the_middle_of_a_pass_waits_for_nothing_and_ends_the_process_afterwards(played):
    played.reader.read()
    gate = played.host.stuck[SourceName.CONF] = threading.Event()
    reads = played.host.reads[SourceName.CONF]
    thread = threading.Thread(target=played.reader.read)
    thread.start()
    eventually(lambda: played.host.reads[SourceName.CONF] > reads, within=30)
    played.reader.stop()
    assert thread.is_alive()
    gate.set()
    thread.join(30)
    played.lives[0].thread.join(30)
    assert not played.lives[0].thread.is_alive()


def test_what_is_no_message_ends_it(played):
    played.reader.read()
    life = played.reader._life
    with contextlib.closing(socket.socket(fileno=os.dup(life._connection.fileno()))) as sock:
        sock.sendall(b"\0\0\0\1\xc1")
    played.lives[0].thread.join(30)
    assert not played.lives[0].thread.is_alive()


def test_the_host_is_looked_at_for_a_peer_while_passes_go_on(played):
    played.reader.read()
    asked = ("", "wg0", peer(1).public_key)
    played.reader.inspect([asked] * 9)
    found = []

    def look() -> bool:
        assert played.outcomes(played.reader.read()) == {True}
        found.extend(played.reader.inspected())
        return bool(found)

    eventually(look, within=30)
    assert {row.key for row in found} == {asked}
    assert played.reader.inspected() == ()


def test_what_a_dead_reader_found_is_lost_and_nobody_minds(played):
    assert played.reader.inspected() == ()
    played.reader.read()
    played.reader.inspect([("", "wg0", peer(1).public_key)])
    played.lives[0].die()
    assert played.outcomes(played.reader.read()) == {False}
    assert played.reader.inspected() == ()
