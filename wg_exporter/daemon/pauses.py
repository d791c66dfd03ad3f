"""Which peers are not probed for a while, because somebody on this host needs their tunnels quiet.

`wg-exporter mtu --silent-peers` reads byte counters that must not move by probes of ours. A pause ends by itself, so
that one who dies in the middle leaves nothing behind.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.model import DeviceKey, PeerKey
    from wg_exporter.probed import ProbePeer

LONGEST = 600.0  # seconds
MOST = 1000  # peers at a time


class PauseError(Exception):
    """The request can't be met. The message is one line that says why."""


class Pauses:
    """Until when each peer is paused, in monotonic seconds. Thread-safe: requests and ticks have each a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[PeerKey, float] = {}
        self._last: tuple[Sequence[ProbePeer], frozenset[PeerKey], Sequence[ProbePeer]] = ((), frozenset(), ())

    def ask(self, asked: Mapping[str, str], now: float, probed: Mapping[DeviceKey, Mapping[str, object]]) -> PeerKey:
        """Pause one peer of those `probed` as the parameters say; 0 seconds ends its pause. Returns which. Raises
        PauseError.
        """
        # A + that was not escaped arrives as a blank, which no key has.
        key = (asked.get("netns", ""), asked.get("interface", ""), asked.get("public_key", "").replace(" ", "+"))
        if not key[1] or not key[2]:
            raise PauseError("name the peer with interface, public_key and, where it is in another, netns")
        if key[2] not in probed.get(key[:2], {}):
            raise PauseError("no peer with this interface and public_key is probed here")
        try:
            seconds = float(asked.get("seconds", ""))
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= LONGEST:
            raise PauseError(f"seconds must be a number from 0 to {LONGEST:.0f}")
        with self._lock:
            self._lapse(now)
            if not seconds:
                self._until.pop(key, None)
            elif len(self._until) >= MOST and key not in self._until:
                raise PauseError(f"{MOST:,} peers are paused already")
            else:
                self._until[key] = now + seconds
        return key

    def apply(self, peers: Sequence[ProbePeer], now: float) -> Sequence[ProbePeer]:
        """These peers, those that are paused marked as such; the same object as before while nothing changed."""
        with self._lock:
            self._lapse(now)
            paused = frozenset(self._until)
        if not paused:
            return peers
        if self._last[0] is not peers or self._last[1] != paused:
            rows = tuple(peer._replace(paused=True) if peer.key in paused else peer for peer in peers)
            self._last = (peers, paused, rows)
        return self._last[2]

    def _lapse(self, now: float) -> None:
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]
