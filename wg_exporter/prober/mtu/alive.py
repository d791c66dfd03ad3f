"""Is the peer alive, though it answers no probe? Its byte counter grows with whatever is received from it.

A peer that has a session sends something other than handshakes: at least a keepalive, 10 s after it received our probe.
One that starts handshakes again and again has none: perhaps it hears nothing from us.
"""

from __future__ import annotations

from wg_exporter.wireguard import INITIATION, RESPONSE

REKEY = 5.0  # seconds: a peer sends no two initiations within it (REKEY_TIMEOUT in messages.h)
ALIVE = 25.0  # seconds: a peer that gets data sends something back within 10 s (11.1 s seen); twice that, and a little
OFTEN_ASKED = 60.0  # seconds of silence in which small echoes come at most 10 s apart; later up to 30 s (echo.track)
ALIVE_RARELY_ASKED = 80.0  # seconds: up to 60 between two probes, and 20 for the answer and its reading


class Received:
    """What is received from one peer. `now` is monotonic seconds throughout.

    `since` is when the counter was read for the first time, None before.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self._rx = 0
        self._read_at = 0.0
        self._lived_at: float | None = None

    def read(self, rx: int, now: float) -> bool:
        """Take the counter of bytes received. Returns whether it grew since the last reading."""
        first = self.since is None
        grew = not first and rx > self._rx
        if first:
            self.since = now
        if grew and not _handshakes(rx - self._rx, now - self._read_at):
            self._lived_at = now
        self._rx, self._read_at = rx, now
        return grew

    def alive(self, silent_since: float | None, now: float) -> bool | None:
        """Whether more than handshakes was received within `ALIVE`, or `ALIVE_RARELY_ASKED` in a long silence.

        Small probes have been lost since `silent_since` (None: they are answered). Returns None if the counter has not
        been read for long enough to say so.
        """
        # A peer that has long been silent is asked more rarely, and so sends something back more rarely.
        rarely = silent_since is not None and now > silent_since + OFTEN_ASKED
        if self._lived_at is not None and now < self._lived_at + (ALIVE_RARELY_ASKED if rarely else ALIVE):
            return True
        if self.since is None or silent_since is None:
            return None
        # Without readings nobody knows that nothing was received.
        read_for = min(now, self._read_at) - max(self.since, silent_since)
        return None if read_for < ALIVE else False


def _handshakes(grown: int, seconds: float) -> bool:
    """Whether so many bytes, received within so many seconds, may be messages of handshakes alone."""
    most = int(seconds / REKEY) + 2  # of each kind
    return any(
        grown == INITIATION * initiations + RESPONSE * responses
        for initiations in range(most + 1)
        for responses in range(most + 1)
    )
