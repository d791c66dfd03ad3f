"""What the watcher saw on the wire of one peer, as far as it tells whether the peer is well.

Byte counters say what WireGuard made; the wire says what left. And bulk data hides the sizes by which counters tell
handshakes, while nothing hides them from the watcher. Only what `sighted` calls proven decides anything here.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from wg_exporter.health.timing import (
    ANSWER_SECONDS,
    CALLS_LEFT_SECONDS,
    LOOK_SECONDS,
    MADE,
    RETRIED_SECONDS,
    RETRIES_SECONDS,
    WATCHED_SECONDS,
)
from wg_exporter.sighted import LAST

if TYPE_CHECKING:
    from wg_exporter.sighted import Sighting


class Wire:
    """What is known of one peer by the wire. Times are monotonic seconds."""

    __slots__ = ("_made", "row", "taken", "unsent_at")

    def __init__(self) -> None:
        self.row: Sighting | None = None
        self.taken: tuple[float, ...] = ()  # when each of its latest initiations was answered by WireGuard
        self.unsent_at: float | None = None  # when it was last certain that nothing leaves for it, though it should
        self._made: tuple[tuple[float, float], ...] = ()  # see `make`

    def make(self, earliest: float, latest: float) -> None:
        """By its counters, WireGuard made a handshake message for the peer between these times."""
        self._made = (*self._made, (earliest, latest))[-LAST:]

    def pass_handshake(self, now: float) -> None:
        """A handshake was made since the last look: one of its messages left."""
        if self.unsent_at is not None and self.unsent_at < now - LOOK_SECONDS - 1:
            self.unsent_at = None

    def take(self, row: Sighting, data_since: float | None, data_asked: float, shaken: float | None) -> None:
        """Take in what was seen. Data was sent last at `data_asked`, and was not answered since `data_since`; a
        handshake was last made at `shaken`.
        """
        self.row = row
        self.taken = (*self.taken, *(at for at in row.taken_at if at > max(self.taken, default=-inf)))[-LAST:]
        left_at = max((*row.sent_at[-1:], *row.taken_at[-1:]), default=-inf)
        if self.unsent_at is not None and left_at > self.unsent_at:
            self.unsent_at = None
        if row.missed:
            return
        quiet = max(row.began, row.out_from, left_at)
        until = min(row.began + row.seconds, row.out_to)
        made = sum(earliest >= quiet and latest <= until for earliest, latest in self._made)
        put_off = max(-inf if shaken is None else shaken, _put_off(row, quiet, data_since))
        if made >= MADE or until - quiet >= _overdue(quiet, until, data_since, data_asked, put_off):
            self.unsent_at = until

    def refutes(self, proven: float) -> bool:
        """Whether a later window shows that the peer does not call any more."""
        row = self.row
        return row is not None and row.began >= proven and row.seconds >= WATCHED_SECONDS and not row.taken_at


def _put_off(row: Sighting, quiet: float, data_since: float | None) -> float:
    """When the peer may last have put off our initiation, by one of its own that WireGuard accepted before `quiet`.

    One that it accepted later would have had a response. What came before the window is unknown: a peer that hears no
    data calls from 15 s on.
    """
    before = [at for at in row.received_at if at <= quiet]
    if not before and len(row.received_at) == LAST:  # the last ones alone are known
        return quiet
    late = [row.began] if data_since is not None and row.began > data_since + ANSWER_SECONDS else []
    return max((*row.taken_at[-1:], *before[-1:], *late), default=-inf)


def _overdue(quiet: float, until: float, data_since: float | None, data_asked: float, put_off: float) -> float:
    """How many seconds after `quiet` an initiation of ours would certainly have left by `until`; inf if none is due.

    While data goes unanswered WireGuard starts a handshake 15 s after it was sent, or after the last handshake message
    from the peer, and then every 5.0 to 5.3 s, for 90 s. Then it waits for more data, and for 15 s again (paper, 6.1,
    6.4).
    """
    if data_since is None or data_asked < until - LOOK_SECONDS - 1:
        return inf
    begun = max(data_since, put_off) + ANSWER_SECONDS + 1
    patience = RETRIED_SECONDS if until < data_since + RETRIES_SECONDS else CALLS_LEFT_SECONDS
    return max(begun - quiet, 0.0) + patience
