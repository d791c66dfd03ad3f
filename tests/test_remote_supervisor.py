"""The supervisor as the exporter sees it: one that says something too early, does not listen, or goes away."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import threading

import pytest

from wg_exporter.config import Config
from wg_exporter.messages.packets import FullError, Packets
from wg_exporter.messages.supervisor import Ended, Kill, Reload, Role, Start, Started, ToSupervisor
from wg_exporter.remote import process
from wg_exporter.remote.process import ended
from wg_exporter.remote.supervisor import Supervisor

CONFIG = Config()


class Stage:
    """An exporter's end, and a supervisor that a test plays."""

    def __init__(self) -> None:
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        self.packets = Packets(ours, ToSupervisor)
        self.exporter = Supervisor(theirs, CONFIG, "config.yml")
        self.reloads, self.ends = threading.Semaphore(0), threading.Semaphore(0)

    def listen(self) -> None:
        self.exporter.listen(self.reloads.release, self.ends.release)

    def heard(self) -> object:
        self.socket.settimeout(30)
        first = self.socket.recv(1, socket.MSG_PEEK)  # waits
        assert first
        self.socket.settimeout(0)
        message, files = self.packets.receive()
        for file in files:
            socket.close(file)
        return message

    def start(self) -> object:
        """A process that the exporter asks for."""
        found: list[object] = []
        ours, theirs = socket.socketpair()
        with ours, theirs:
            asking = threading.Thread(
                target=lambda: found.append(self.exporter.start(Role.READER, CONFIG, theirs.fileno()))
            )
            asking.start()
            while not isinstance(asked := self.heard(), Start):
                found.append(asked)
            self.packets.send(Started(asked.request, 4711))
            asking.join(30)
        return found


@pytest.fixture
def stage():
    stage = Stage()
    yield stage
    stage.exporter.close()
    stage.packets.close()


def test_a_reload_that_is_wanted_before_anybody_listens_is_not_lost_and_is_one(stage):
    stage.packets.send(Reload())
    stage.packets.send(Reload())
    stage.packets.send(Ended(1, 0))
    stage.start()  # so it has taken all of these
    stage.listen()
    assert stage.reloads.acquire(timeout=30)
    assert not stage.reloads.acquire(timeout=0.05)
    stage.packets.send(Reload())
    assert stage.reloads.acquire(timeout=30)


@pytest.mark.parametrize("early", [True, False])
def test_a_supervisor_that_is_gone_is_one_line_and_ends_the_exporter_and_nothing_is_raised(stage, caplog, early):
    if not early:
        stage.listen()
    stage.packets.close()
    stage.exporter._thread.join(30)
    stage.exporter.ready()
    if early:
        stage.listen()
    assert stage.ends.acquire(timeout=30)
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING] == [
        "the supervisor is gone, so this process ends"
    ]
    with pytest.raises(OSError, match="the supervisor"):
        stage.exporter.start(Role.READER, CONFIG, 0)


def test_an_exporter_that_ends_by_itself_says_nothing_of_the_supervisor(stage, caplog):
    stage.listen()
    stage.exporter.close()
    assert caplog.records == []
    assert not stage.ends.acquire(timeout=0.05)


def test_what_a_deaf_supervisor_was_to_kill_is_named_before_the_next_process_is_started(stage):
    (child,) = stage.start()
    with contextlib.suppress(FullError):
        while True:
            stage.exporter._packets.send(Kill(1))
    with pytest.raises(OSError, match="does not answer"):
        child.kill()
    while (found := stage.packets.receive()) is not None:
        assert found[0] == Kill(1)
    *before, other = stage.start()
    assert before == [Kill(4711)]
    assert other.pid == 4711
    assert stage.start()[:-1] == []


def test_a_process_whose_end_nobody_tells_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(process, "_TO_DIE", 0.01)

    class Undying:
        pid = 1
        killed = 0

        def wait(self, timeout=None):
            assert timeout is not None, "it waits for ever"
            raise subprocess.TimeoutExpired("it", timeout)

        def kill(self):
            self.killed += 1
            raise OSError("the supervisor does not answer")

    undying = Undying()
    assert ended(undying, 0.01, "said nothing for 30 s") == "said nothing for 30 s, and could not be killed"
    assert undying.killed == 1
