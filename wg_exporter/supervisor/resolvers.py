"""Connects each reader with a resolver of its own, which is started when the reader asks the first question.

The supervisor holds the resolver's end of the socket and looks only at whether something waits there. So the two talk
past the process that answers strangers, which can neither ask for a resolver nor hear or change what one says.
"""

from __future__ import annotations

import select
import socket
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from wg_exporter.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds from the end of a resolver to its next start
LONG_LIFE = 60.0  # seconds: after a longer life the pause begins at `FIRST_PAUSE` again


class Link:
    """The two ends of one connection. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.reader = self.resolver = 0  # process ids; 0 = there is none
        self.watched = False
        self.begun = self.not_before = -inf
        self.pause = FIRST_PAUSE

    def take(self) -> socket.socket:
        """The reader's end, in the reader: another object each time. Raises OSError."""
        return self._near.dup()

    def hung_up(self) -> bool:
        """Whether the reader's end is closed everywhere."""
        poll = select.poll()
        poll.register(self.far, 0)
        return bool(poll.poll(0))

    def close_near(self) -> None:
        """Let go of the reader's end, which the reader has."""
        self._near.close()

    def close(self) -> None:
        """Let go of both."""
        self._near.close()
        self.far.close()


class Resolvers:
    """The links of all readers, and which resolvers run. `body` is what a resolver does with its end of a socket."""

    def __init__(self, body: Callable[[socket.socket], None]) -> None:
        self._body = body
        self._links: list[Link] = []
        self._new: Link | None = None
        self._log = Log(__name__)
        self.told: Callable[[float], object] = lambda _pause: None
        """Called when one has ended, or could not be started, with the seconds to the next start."""
        self.running: set[int] = set()
        """The processes that have not ended."""

    def connect(self) -> Link:
        """A link for the reader that is forked next. Raises OSError."""
        self._new = Link()
        return self._new

    def begun(self, reader: int) -> None:
        """The reader for which `connect` was called runs as this process; 0 = it could not be started."""
        link, self._new = self._new, None
        if link is None:
            return
        if not reader:
            link.close()
            return
        link.close_near()
        link.reader = reader
        self._links.append(link)

    def files(self) -> list[int]:
        """The open files that are the supervisor's alone."""
        links = self._links if self._new is None else [*self._links, self._new]
        return [link.far.fileno() for link in links]

    def watch(self, poll: select.poll, now: float) -> float:
        """Have those ends watched for which no resolver runs. Returns when to call this again, at the latest."""
        again = inf
        for link in self._links:
            wanted = not link.resolver and now >= link.not_before
            if wanted and not link.watched:
                poll.register(link.far, select.POLLIN)
            elif link.watched and not wanted:
                poll.unregister(link.far)
            link.watched = wanted
            if not link.resolver and not wanted:
                again = min(again, link.not_before)
        return again

    def start(self, ready: Mapping[int, int], now: float, fork: Callable[[Callable[[], None]], int]) -> None:
        """Start a resolver for each reader that asks something. `ready` has the events by file descriptor."""
        for link in self._links:
            events = ready.get(link.far.fileno(), 0) if link.watched else 0
            if events & ~select.POLLIN:
                link.not_before = inf  # the other end is closed: its reader has ended, or a resolver has shut it down
            if events != select.POLLIN:
                continue
            try:
                with link.far.dup() as end:
                    link.resolver = fork(partial(self._body, end))
            except OSError as error:
                self._log.warn("no resolver of host names", problem=error.strerror or str(error))
                self._wait(link, now)
            else:
                link.begun = now
                self.running.add(link.resolver)

    def ended(self, pid: int, now: float, poll: select.poll) -> None:
        """This process has ended."""
        self.running.discard(pid)
        for link in [link for link in self._links if pid in {link.reader, link.resolver}]:
            if pid == link.reader:
                if link.watched:
                    poll.unregister(link.far)
                link.close()
                self._links.remove(link)
                continue
            link.resolver = 0
            if link.hung_up():
                link.not_before = inf  # as above
                continue
            if now - link.begun >= LONG_LIFE:
                link.pause = FIRST_PAUSE
            self._log.warn("the resolver of host names ended", again_in_seconds=link.pause)
            self._wait(link, now)

    def _wait(self, link: Link, now: float) -> None:
        self.told(link.pause)
        link.not_before = now + link.pause
        link.pause = min(2 * link.pause, LONGEST_PAUSE)
