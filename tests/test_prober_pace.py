"""How often the prober's process wakes and speaks: it must cost next to nothing while nothing changes."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from tests.probers import STATS
from wg_exporter.messages.channel import Connection, ConnectionEndedError
from wg_exporter.messages.prober import FromProber, ToProber
from wg_exporter.prober import __main__ as process
from wg_exporter.prober.driver import Changes


class NoFast(tuple):
    """Nobody has fast echoes."""

    changed = False


class Still:
    """Stands in for the prober: it sleeps as long as it may, by a clock of its own, and something changes when the test
    says so.
    """

    def __init__(self, wakes):
        self.wakes, self.sleeps, self.changed, self.now, self.fast = list(wakes), [], 0, 1000.0, NoFast()
        self.watcher = SimpleNamespace(open=False, changed=0, problem="")

    def add_reader(self, fd, callback):
        pass

    def step(self, longest):
        self.sleeps.append(longest)
        if not self.wakes:
            raise ConnectionEndedError("the test is over")
        wake = self.wakes.pop(0)
        self.now += longest if wake is None else min(wake, longest)
        self.changed += wake is not None

    def changes(self, most):
        echoes = {1: ("10.0.0.2", STATS)} if self.changed else {}
        self.changed = 0
        return Changes(echoes, {})

    def scheduling_delay(self):
        return 0.0


@pytest.fixture
def spoken(monkeypatch):
    """What a process says, and how long it wanted to sleep, when this wakes it; None is nothing at all."""
    monkeypatch.setattr(process, "ALIVE", 0.6)
    monkeypatch.setattr(process, "TELL", 0.2)

    def speak(*wakes):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            prober, heard = Still(wakes), Connection(ours, FromProber)
            monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: prober.now))
            with pytest.raises(ConnectionEndedError, match="the test is over"):
                process.Child(Connection(theirs, ToProber), prober).run()
            messages = []
            while (message := heard.receive()) is not None:
                messages.append(bool(message.echoes))
            return messages, prober.sleeps

    return speak


def test_a_prober_without_news_sleeps_until_it_has_to_say_that_it_lives(spoken):
    messages, sleeps = spoken(0.0, None, None)
    assert messages == [True, False, False]
    assert sleeps[1:] == pytest.approx([0.6, 0.6, 0.6])


def test_news_after_a_silence_are_told_at_once(spoken):
    messages, _ = spoken(0.0, 0.3)
    assert messages == [True, True]


def test_news_that_follow_each_other_are_told_together(spoken):
    messages, sleeps = spoken(0.0, 0.05, 0.05, None)
    assert messages == [True, True]
    assert max(sleeps[2:4]) <= 0.2
