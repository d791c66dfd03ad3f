"""The prober as a process of its own: forked by the supervisor or, where all else is one process, started by it as
`python -m wg_exporter.prober FD`; never by hand.

It probes as the messages on the inherited socket say, and sends back what it finds. It ends when that socket is closed.
So it ignores the signals that end the whole process group: they are for the exporter, which closes the socket.

Everything is imported before privileges are dropped, because Python's own files may be out of reach afterwards.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from wg_exporter.linux import privileges
from wg_exporter.linux.scarcity import give_back
from wg_exporter.linux.usage import Meter
from wg_exporter.messages.channel import Connection, ConnectionEndedError
from wg_exporter.messages.prober import (
    Counters,
    FastPeers,
    FastStates,
    Peers,
    Results,
    Setup,
    ToProber,
    Watch,
    Watched,
)
from wg_exporter.prober.driver import Prober
from wg_exporter.prober.mtu.probes import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TELL = 0.5  # seconds between two results
ALIVE = 5.0  # seconds after the last results until there are some without a change: they say that this process lives
FAST_ALIVE = 0.5  # seconds after the last states of fast echoes until all are told again: a silence is no state
FAST_BUSY = 0.005  # seconds until the exporter is tried again with states that have changed
BUSY = 0.25  # seconds until the exporter is tried again, when it has not taken all of the last results yet
AT_ONCE = 100  # peers in one message, between two rounds of probing: 3 ms
SETUP_TIMEOUT = 10.0  # seconds until the first message
STEADY = 90.0  # seconds after the last change of peers: by then new ones were checked, and have all objects they need


class Child:
    """The prober with its connection. Peers are known by the numbers that the exporter gave them."""

    def __init__(self, connection: Connection[ToProber], prober: Prober[int]) -> None:
        self._connection = connection
        self._prober = prober
        self._meter = Meter()
        self._told_at = float("-inf")
        self._not_before = float("-inf")  # for the next results, while the exporter is busy
        self._steady_at = NEVER
        self._watched_due = float("-inf")  # for what was seen on the wire
        self._told_problem = ""  # of the watcher
        self._fast_due = float("-inf")  # for all states of fast echoes
        self._left = 0  # of the peers that had changed when results were due, how many are still to be sent

    def run(self) -> None:
        """Probe until the exporter is gone; then raise ConnectionEndedError."""
        self._prober.add_reader(self._connection.fileno(), self._hear)
        while True:
            self._prober.step(self._longest_sleep())
            if self._connection.pending():
                self._hear()
            self._tell_fast()
            self._tell()
            self._tell_watched()
            if time.monotonic() >= self._steady_at:
                # Otherwise the garbage collector goes through 10,000 peers every minute, which takes 0.2 s.
                self._steady_at = NEVER
                give_back()
                gc.freeze()

    @property
    def _due(self) -> float:
        """When results are sent, in monotonic seconds: soon if there are any."""
        return max(self._told_at + (TELL if self._prober.changed else ALIVE), self._not_before)

    def _longest_sleep(self) -> float:
        """Seconds. What wakes the prober before may bring the next results forward."""
        if self._connection.pending() or self._left:
            return 0.0
        due = min(self._due, self._watched_due) if self._watching else self._due
        if self._prober.fast.changed:  # which was not taken at once
            due = min(due, time.monotonic() + FAST_BUSY)
        elif len(self._prober.fast):
            due = min(due, self._fast_due)
        return max(due - time.monotonic(), 0.0)

    @property
    def _watching(self) -> bool:
        """Whether there is anything to tell of the watcher: that nothing was seen is told too."""
        watcher = self._prober.watcher
        return watcher.open or watcher.changed or watcher.problem != self._told_problem

    def _hear(self) -> None:
        """Take one message. Probes that are due go out before the next."""
        message = self._connection.receive()
        if isinstance(message, Peers):
            self._steady_at = time.monotonic() + STEADY
            self._prober.update(message.put, message.gone)
        elif isinstance(message, Counters):
            self._prober.counters(message.rows)
        elif isinstance(message, Watch):
            self._prober.watcher.watch(message.put, time.monotonic())
        elif isinstance(message, FastPeers):
            self._prober.ask_fast(message.peers)
            self._fast_due = float("-inf")
        elif message is not None:
            raise ConnectionEndedError("a second setup")

    def _tell_fast(self) -> None:
        """Send what has changed by fast echoes at once, before all else; and all of it now and then."""
        fast, now = self._prober.fast, time.monotonic()
        whole = now >= self._fast_due and len(fast) > 0
        if not (whole or fast.changed):
            return
        self._connection.flush()
        if not self._connection.idle:
            return
        if whole:
            self._fast_due = now + FAST_ALIVE
        self._connection.send(FastStates(fast.states() if whole else fast.changes()))

    def _tell(self) -> None:
        """Send one portion of the changes a round, until all peers that had changed when results were due are sent."""
        now = time.monotonic()
        due = self._due
        if now < due and not self._left:
            return
        self._connection.flush()
        if not self._connection.idle:  # the exporter is busy; changes gather
            self._left, self._not_before = 0, now + BUSY
            return
        if now >= due:
            self._left, self._told_at = self._prober.changed, now
        changes = self._prober.changes(AT_ONCE)
        self._left = max(self._left - AT_ONCE, 0)
        self._connection.send(
            Results(changes.echoes, changes.reports, self._prober.scheduling_delay(), self._meter.read())
        )

    def _tell_watched(self) -> None:
        """Send one portion of what was seen on the wire."""
        now = time.monotonic()
        if not self._watching or now < self._watched_due:
            return
        self._connection.flush()
        if not self._connection.idle:
            self._watched_due = now + BUSY
            return
        watcher = self._prober.watcher
        looked = watcher.changes(AT_ONCE, now)
        self._told_problem = watcher.problem
        self._connection.send(Watched(looked.rows, looked.callers, now, watcher.problem))
        self._watched_due = now + (0.0 if len(looked.rows) == AT_ONCE else TELL)


def setup(connection: Connection[ToProber]) -> Setup:
    """The first message. Raises ConnectionEndedError if there is none."""
    deadline = time.monotonic() + SETUP_TIMEOUT
    while time.monotonic() < deadline:
        message = connection.receive()
        if isinstance(message, Setup):
            return message
        if message is not None:
            break
        time.sleep(0.01)
    raise ConnectionEndedError("no setup")


def run(
    sock: socket.socket, namespaces: Mapping[str, str] | None = None, drop: Callable[[], None] | None = None
) -> None:
    """Probe as the other end of this socket says, until it is closed.

    `namespaces` are those to probe in, by name, whatever the other end says of them; `drop` gives up all rights that
    probing does not take.
    """
    connection: Connection[ToProber] = Connection(sock, ToProber)  # type: ignore[arg-type]
    with contextlib.suppress(ConnectionEndedError):
        told = setup(connection)
        places = told.namespaces if namespaces is None else namespaces
        prober: Prober[int] = Prober(told.settings, places)
        prober.prepare()
        (drop or partial(_drop, list(places.values())))()
        Child(connection, prober).run()


def _drop(paths: list[str]) -> None:
    user = privileges.NOBODY if all(map(privileges.open_to_all, paths)) else None
    privileges.keep_only(privileges.to_probe(paths, os.uname().release), user)


def main(fd: int) -> None:
    """Probe as the other end of this socket says."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    run(socket.socket(fileno=fd))


if __name__ == "__main__":
    main(int(sys.argv[1]))
