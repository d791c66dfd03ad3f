"""The prober in a process of its own, seen from the exporter: started, told what to probe, heard, started again.

A process, because round trips should not wait while 10,000 peers are rendered beside it, and because it needs another
set of privileges. A thread here looks after it, so nobody who calls ever waits: what is to be told gathers in a few
dictionaries, in which the newest replaces what the process has not been told yet, so a slow one costs no memory.

When the process dies, or says nothing for long, it is started again, after a pause that doubles. It knows nothing
then; what it had told is kept here, and what it counts from then on is added (`totals`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from wg_exporter.model import Probed
from wg_exporter.prober.process.messages import (
    PORTION,
    Connection,
    ConnectionEndedError,
    Counters,
    FromProber,
    Peers,
    Setup,
)
from wg_exporter.prober.process.totals import continued

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wg_exporter.config.probe import ProbeSettings
    from wg_exporter.model import PeerKey, ProbePeer

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds from a death to the next start
LONG_LIFE = 60.0  # seconds after which a death is the first one again
SILENCE = 30.0  # seconds: it reports twice a second
STOP_TIMEOUT = 2.0

_ROOT = str(Path(__file__).resolve().parents[3])


class ProberProcess:
    """Probes from now on until `stop`. Safe for several threads; only `stop` waits.

    The process is started when there is a first peer to probe.
    """

    def __init__(
        self,
        settings: ProbeSettings,
        namespaces: Mapping[str, str] | None = None,
        log: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """`log` gets a line, from another thread, when the process died or can't be started."""
        self._setup = Setup(settings.for_all(), dict(namespaces or {}))
        self._anew = False  # the process is to be started anew, for it is to probe in another way
        self._log = log
        self._lock = threading.Lock()
        self._peers: dict[PeerKey, ProbePeer] = {}
        self._numbers: dict[PeerKey, int] = {}
        self._keys: dict[int, PeerKey] = {}
        self._last_number = 0
        self._rows: dict[PeerKey, tuple[int, int]] = {}  # the byte counters as last read
        self._results: dict[PeerKey, Probed] = {}
        self._before: dict[PeerKey, Probed] = {}  # what earlier processes had told in the end
        self._put: dict[int, None] = {}  # what the process is still to be told
        self._gone: dict[int, None] = {}
        self._counted: dict[int, None] = {}
        self._heard = float("-inf")  # when the process last said something, by the monotonic clock
        self._delay = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._look_after, name="prober", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the process, None while there is none."""
        process = self._process
        return process.pid if process is not None else None

    def configure(self, settings: ProbeSettings, namespaces: Mapping[str, str]) -> None:
        """Probe in this way from now on. Counters go on; a histogram with other bounds begins at 0."""
        setup = Setup(settings.for_all(), dict(namespaces))
        with self._lock:
            if setup == self._setup:
                return
            if (bounds := setup.settings.rtt_buckets) != self._setup.settings.rtt_buckets:
                empty = (0,) * (len(bounds) + 1)
                for known in (self._results, self._before):
                    for key, (target, stats, mtu) in known.items():
                        known[key] = Probed(target, stats._replace(buckets=empty, rtt_sum=0.0), mtu)
            self._setup = setup
            self._anew = True
            self._rouse()

    def set_peers(self, peers: Iterable[ProbePeer]) -> None:
        """Probe exactly these. Cheap where the rows are the same objects as before."""
        wanted = {peer.key: peer for peer in peers}
        with self._lock:
            for key in self._peers.keys() - wanted.keys():
                self._forget(key)
            for key, peer in wanted.items():
                before = self._peers.get(key)
                if before is peer or before == peer:
                    continue
                if before is None:
                    self._last_number += 1
                    self._numbers[key] = self._last_number
                    self._keys[self._last_number] = key
                self._put[self._numbers[key]] = None
            self._peers = wanted
            self._rouse()

    def counters(self, rows: Mapping[PeerKey, tuple[int, int]]) -> None:
        """The byte counters (rx, tx) of peers, just read. Peers that could not be read are not among them.

        Told on is what changed, and what peers received that answer no probe: that it is nothing decides about them.
        """
        with self._lock:
            for key, row in rows.items():
                number = self._numbers.get(key)
                if number is None:
                    continue
                known = self._results.get(key)
                if self._rows.get(key) != row or known is None or not known.stats.up:
                    self._rows[key] = row
                    self._counted[number] = None
            self._rouse()

    def results(self) -> Mapping[PeerKey, Probed]:
        """The latest that is known of each peer; the same objects while nothing changed. A copy of the mapping.

        Nothing, when the process is gone or mute for longer than a new start takes: what was true once would look fine.
        """
        with self._lock:
            if time.monotonic() > self._heard + SILENCE:
                return MappingProxyType({})
            return MappingProxyType(self._results.copy())

    def scheduling_delay(self) -> float:
        """By how many seconds the latest small echo left after it was due, the worst since this was last asked."""
        with self._lock:
            worst, self._delay = self._delay, 0.0
            return worst

    def stop(self) -> None:
        """End the process and wait for it, at most some seconds."""
        self._stopping = True
        with self._lock:
            self._rouse()
        self._thread.join(2 * STOP_TIMEOUT)

    def _forget(self, key: PeerKey) -> None:
        number = self._numbers.pop(key)
        del self._keys[number]
        self._put.pop(number, None)
        self._counted.pop(number, None)
        self._gone[number] = None
        for known in (self._rows, self._results, self._before):
            known.pop(key, None)

    def _rouse(self) -> None:
        """Under the lock: the file is closed in the end, and its number may then be another's."""
        if self._wake >= 0:
            with contextlib.suppress(BlockingIOError):  # roused already
                os.eventfd_write(self._wake, 1)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        pause = FIRST_PAUSE
        self._wait_for_peers()
        while not self._stopping:
            started = time.monotonic()
            self._anew = False
            try:
                why = self._live()
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread is all that starts the process again
                self._process = None
                why = f"failed with an unexpected {type(error).__name__}"
            if self._stopping:
                break
            self._stop_silences()
            if self._anew:
                continue
            if time.monotonic() - started >= LONG_LIFE:
                pause = FIRST_PAUSE
            self._log(f"the prober {why}; it is started again in {pause:g} s")
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        with self._lock:
            os.close(self._wake)
            self._wake = -1

    def _wait_for_peers(self) -> None:
        """A host without anything to probe needs no process for it."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        while not self._stopping and not self._peers:
            poll.poll(1000)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _stop_silences(self) -> None:
        """While nobody probes, no silence may seem to last."""
        with self._lock:
            for key, known in self._results.items():
                if known.stats.silent_since is not None:
                    self._results[key] = known._replace(stats=known.stats._replace(silent_since=None))

    def _live(self) -> str:
        """One life of the process, from start to end; how it ended."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            return f"could not be started: {error}"
        with ours:
            try:
                with theirs:
                    process = _start(theirs.fileno())
            except OSError as error:
                return f"could not be started: {error}"
            self._process = process
            why = self._talk(Connection(ours, FromProber))
        try:
            code = process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(PermissionError):  # it became another user, and we may not; it ends without us too
                process.kill()
            code = process.wait()
        self._process = None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended ({why}, exit code {code})"

    def _talk(self, connection: Connection[FromProber]) -> str:
        """Tell and hear until one side ends it; why."""
        with self._lock:
            # Whatever ended the last life: what is known by now is what this one adds to.
            self._before = dict(self._results)
            self._put = dict.fromkeys(self._keys)
            self._counted = dict.fromkeys(self._numbers[key] for key in self._rows)
            self._gone.clear()
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        heard = time.monotonic()
        try:
            connection.send(self._setup)
            while not self._stopping and not self._anew:
                self._tell(connection)
                poll.register(connection, select.POLLIN | (0 if connection.idle else select.POLLOUT))
                if not connection.pending():
                    poll.poll(1000)
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
                connection.flush()
                while (message := connection.receive()) is not None:
                    heard = time.monotonic()
                    self._take(message)
                if time.monotonic() > heard + SILENCE:
                    return f"said nothing for {SILENCE:g} s"
        except ConnectionEndedError as error:
            return str(error)
        return "stopped"

    def _tell(self, connection: Connection[FromProber]) -> None:
        """As many portions as the socket takes now."""
        while connection.idle:
            with self._lock:
                message = self._portion()
            if message is None:
                return
            connection.send(message)

    def _portion(self) -> Peers | Counters | None:
        if self._put or self._gone:
            put, gone = _some(self._put), _some(self._gone)
            return Peers(tuple((number, self._peers[self._keys[number]]) for number in put), tuple(gone))
        if self._counted:
            counted = _some(self._counted)
            return Counters(tuple((number, *self._rows[self._keys[number]]) for number in counted))
        return None

    def _take(self, message: FromProber) -> None:
        with self._lock:
            if self._anew:
                return  # it counted by what no longer holds; what it had told before goes on
            self._heard = time.monotonic()
            self._delay = max(self._delay, message.delay)
            for number, probed in message.rows:
                key = self._keys.get(number)
                if key is None:
                    continue
                before, last = self._before.get(key), self._results.get(key)
                now = probed if before is None else continued(before, probed)
                if before is not None and before.mtu is not None and probed.mtu is not None:
                    self._before[key] = before._replace(mtu=None)  # from now on this process knows better
                if last is not None and last.mtu == now.mtu:
                    now = now._replace(mtu=last.mtu)
                if now != last:
                    self._results[key] = now


def _start(fd: int) -> subprocess.Popen[bytes]:
    """The process with its end of the socket. It looks for modules where this one found its own, nowhere else (-P)."""
    path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-P", "-m", "wg_exporter.prober", str(fd)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(fd,),
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C at the terminal is for us
    )


def _some(numbers: dict[int, None]) -> list[int]:
    """A portion, taken out."""
    some = list(islice(numbers, PORTION))
    for number in some:
        del numbers[number]
    return some
