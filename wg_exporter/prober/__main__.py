"""The prober as a process of its own: `python -m wg_exporter.prober FD`, started by `process`, never by hand.

It does what the messages on the inherited socket say and tells what it finds. It ends when the exporter does: the
socket is closed then. Signals that mean "end" to the whole group are for the exporter, and come here that way.

All is imported before privileges are dropped: afterwards, Python's own files may be out of reach.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from wg_exporter.prober.driver import Prober
from wg_exporter.prober.mtu.probes import NEVER
from wg_exporter.prober.process import privileges
from wg_exporter.prober.process.messages import (
    Connection,
    ConnectionEndedError,
    Counters,
    Peers,
    Results,
    Setup,
    ToProber,
)

if TYPE_CHECKING:
    from wg_exporter.model import PeerKey

TELL = 0.5  # seconds between reports; with nothing new they say that we live
STEP = 0.25
AT_ONCE = 100  # peers that are reported on between two rounds of probing: 3 ms
SETUP_TIMEOUT = 10.0
SETTLE = 90.0  # seconds after which new peers have been checked and have all that they will need


class Child:
    """The prober with its connection."""

    def __init__(self, connection: Connection[ToProber], prober: Prober) -> None:
        self._connection = connection
        self._prober = prober
        self._keys: dict[int, PeerKey] = {}
        self._numbers: dict[PeerKey, int] = {}
        self._next_report = 0.0
        self._settled_at = NEVER
        self._left = 0  # peers that are still to be looked at for this report

    def run(self) -> None:
        """Probe until the exporter is gone. Raises ConnectionEndedError then."""
        self._prober.watch(self._connection.fileno(), self._hear)
        while True:
            self._prober.step(0.0 if self._connection.pending() or self._left else STEP)
            if self._connection.pending():
                self._hear()
            self._tell()
            if time.monotonic() >= self._settled_at:
                # Peers stay. Without this, the garbage collector looks through 10,000 of them every minute: 0.2 s.
                self._settled_at = NEVER
                gc.freeze()

    def _hear(self) -> None:
        """One message: probes have their turn before the next."""
        message = self._connection.receive()
        if isinstance(message, Peers):
            self._settled_at = time.monotonic() + SETTLE
            gone = [self._forget(number) for number in message.gone if number in self._keys]
            for number, peer in message.put:
                self._keys[number] = peer.key
                self._numbers[peer.key] = number
            self._prober.update([peer for _, peer in message.put], [key for key in gone if key not in self._numbers])
        elif isinstance(message, Counters):
            keys = self._keys
            self._prober.counters({keys[n]: (rx, tx) for n, rx, tx in message.rows if n in keys})
        elif message is not None:
            raise ConnectionEndedError("a second setup")

    def _forget(self, number: int) -> PeerKey:
        key = self._keys.pop(number)
        if self._numbers[key] == number:  # else it is back already, under another number
            del self._numbers[key]
        return key

    def _tell(self) -> None:
        """A portion of what is new, every round until all that was new when the report was due is told."""
        now = time.monotonic()
        if now < self._next_report and not self._left:
            return
        self._connection.flush()
        if not self._connection.idle:  # the exporter is busy; what is new waits and gathers
            self._left, self._next_report = 0, now + STEP
            return
        if now >= self._next_report:
            self._left, self._next_report = self._prober.news, now + TELL
        rows = tuple((self._numbers[key], probed) for key, probed in self._prober.changes(AT_ONCE).items())
        self._left = max(self._left - AT_ONCE, 0)
        self._connection.send(Results(rows, self._prober.scheduling_delay()))


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


def main(fd: int) -> None:
    """Probe as the other end of this socket says, until it is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection: Connection[ToProber] = Connection(socket.socket(fileno=fd), ToProber)  # type: ignore[arg-type]
    with contextlib.suppress(ConnectionEndedError):
        told = setup(connection)
        prober = Prober(told.settings, told.namespaces)
        prober.prepare()
        privileges.drop(told.namespaces.values())
        Child(connection, prober).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
