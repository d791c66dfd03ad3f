"""A thread of the exporter that starts the prober's process, talks to it, and starts it again when it dies.

When the process dies, or says nothing for `SILENCE`, it is started again after a pause that doubles each time. The new
process is told everything again (`pending`), and what it counts is added to what was known (`known`).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter.messages.channel import Connection, ConnectionEndedError
from wg_exporter.messages.prober import FastStates, FromProber, Watched
from wg_exporter.remote.prober.fast import FastPeersAsked
from wg_exporter.remote.prober.known import Known
from wg_exporter.remote.prober.pending import Pending
from wg_exporter.remote.prober.watched import WatchedPeers
from wg_exporter.remote.process import ended, overslept

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.messages.prober import Setup
    from wg_exporter.model import Usage
    from wg_exporter.remote.process import Process

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds from a death to the next start
LONG_LIFE = 60.0  # seconds: after a longer life the pause begins at `FIRST_PAUSE` again
SILENCE = 30.0  # seconds without a message, of which there is one every 5 s at least
IDLE = 1.0  # seconds between two looks at whether there is a peer, if nothing rouses the thread
STOP_TIMEOUT = 2.0  # seconds for the process to end before it is killed

_ROOT = str(Path(__file__).resolve().parents[3])


class Supervisor:
    """The thread, and what it shares with the handle: `pending`, `known`, `watched`, `fast`, `setup`, all under `lock`.

    It holds no reference to the handle, so that a dropped handle is collected.
    """

    def __init__(self, setup: Setup, log: Callable[[str], None], start: Callable[[int], Process]) -> None:
        """`start` starts the process; it gets the file descriptor of the process's end of the socket."""
        self.lock = threading.Lock()
        self.setup = setup
        self.pending = Pending()
        self.known = Known()
        self.watched = WatchedPeers()
        self.fast = FastPeersAsked()
        self.on_fast: Callable[[], object] = lambda: None
        """Called by the thread, without the lock, when states of fast echoes may have changed."""
        self.heard_at = float("-inf")  # when the process last said something, by the monotonic clock
        self.usage: Usage | None = None  # of the process, None while there is none
        self.delay = 0.0  # the worst scheduling delay since it was last asked for, in seconds
        self.process: Process | None = None
        self.stopping = False
        self._restart = False  # `setup` is another one than the process was started with
        self._log = log
        self._start = start
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Wake the thread to tell something. Under the lock: once closed, the descriptor may be another file's."""
        if self._wake >= 0:
            with contextlib.suppress(BlockingIOError):  # it is awake already
                os.eventfd_write(self._wake, 1)

    def restart(self, setup: Setup) -> None:
        """Start the process anew with this setup. Under the lock."""
        self.setup = setup
        self._restart = True
        self.wake()

    def stop(self, timeout: float) -> None:
        """End the process, and wait for it for at most `timeout` seconds."""
        self.stopping = True
        with self.lock:
            self.wake()
        self._thread.join(timeout)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_PAUSE
        self._wait_for_peers()
        while not self.stopping:
            started = time.monotonic()
            self._restart = False
            try:
                why = self._live()
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread is all that starts the process again
                self.process = self.usage = None
                why = f"failed with an unexpected {type(error).__name__}"
            if self.stopping:
                break
            with self.lock:
                self.known.end_silences()
                self.watched.end()
                self.fast.end()
            self.on_fast()
            if self._restart:
                continue
            if time.monotonic() - started >= LONG_LIFE:
                pause = FIRST_PAUSE
            self._log(f"the prober {why}; it is started again in {pause:g} s")
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        with self.lock:
            os.close(self._wake)
            self._wake = -1

    def _wait_for_peers(self) -> None:
        """A host without peers to probe or to watch for needs no process."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        while not self.stopping and not self.pending and not self.watched and not self.fast:
            poll.poll(IDLE * 1000)
            self._clear_wake()

    def _clear_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stopping and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _live(self) -> str:
        """Run one process from its start to its end. Returns how it ended."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            return f"could not be started: {error}"
        with ours:
            try:
                with theirs:
                    process = self._start(theirs.fileno())
            except OSError as error:
                return f"could not be started: {error}"
            self.process = process
            why = self._talk(Connection(ours, FromProber))  # type: ignore[arg-type]
        how = ended(process, STOP_TIMEOUT, why)
        self.process = self.usage = None
        return how

    def _talk(self, connection: Connection[FromProber]) -> str:
        """Send and receive until one side ends it. Returns why."""
        with self.lock:
            self.known.begin()
            self.pending.begin()
            self.watched.begin()
            self.fast.begin()
            setup = self.setup
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        heard = time.monotonic()
        try:
            connection.send(setup)
            while not self.stopping and not self._restart:
                self._tell(connection)
                poll.register(connection, select.POLLIN | (0 if connection.idle else select.POLLOUT))
                if not connection.pending():
                    poll.poll(max(heard + SILENCE - time.monotonic(), 0.0) * 1000 + 1)
                self._clear_wake()
                connection.flush()
                while (message := connection.receive()) is not None:
                    heard = time.monotonic()
                    self._take(message)
                if overslept(heard + SILENCE, now := time.monotonic()):
                    heard = now
                if now >= heard + SILENCE:
                    return f"said nothing for {SILENCE:g} s"
        except ConnectionEndedError as error:
            return str(error)
        return "stopped"

    def _tell(self, connection: Connection[FromProber]) -> None:
        """Send as many portions as the socket takes now."""
        while connection.idle:
            with self.lock:
                message = self.fast.take() or self.pending.take() or self.watched.take(time.monotonic())
            if message is None:
                return
            connection.send(message)

    def _take(self, message: FromProber) -> None:
        if isinstance(message, FastStates):
            with self.lock:
                self.fast.told(message, time.monotonic())
            self.on_fast()
            return
        with self.lock:
            if self._restart:
                return  # it still counts by the old setup; what it told earlier stays
            if isinstance(message, Watched):
                self.watched.told(message)
                return
            self.heard_at = time.monotonic()
            self.delay = max(self.delay, message.delay)
            self.usage = message.usage
            key = self.pending.key
            self.known.take(
                {peer: row for number, row in message.echoes.items() if (peer := key(number))},
                {peer: report for number, report in message.reports.items() if (peer := key(number))},
            )


def start(fd: int) -> subprocess.Popen[bytes]:
    """Start the process with its end of the socket. It finds modules only where this process does (-P). OSError."""
    path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-P", "-m", "wg_exporter.prober", str(fd)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(fd,),
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C at the terminal is for us
    )
