"""Whom the prober's process is to watch for on the wire, and what it has told of them.

A window belongs to one process: where that dies, its windows end as they were last told, and what is left of them is
opened anew in the next one, which begins at nothing. No clock: `now` is monotonic seconds.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.messages.prober import PORTION, Watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wg_exporter.messages.prober import Watched
    from wg_exporter.model import DeviceKey, PeerKey
    from wg_exporter.sighted import Caller, Sighting, WatchPeer

KEPT_SECONDS = 1200.0  # a sighting is known for so long after its window, in which there is usually another one


class _Window(NamedTuple):
    """A peer that is watched until then."""

    peer: WatchPeer
    until: float


class WatchedPeers:
    """The windows that are open, and the sightings of the last ones. Not thread-safe."""

    def __init__(self) -> None:
        self._windows: dict[int, _Window] = {}
        self._numbers: dict[PeerKey, int] = {}
        self._keys: dict[int, PeerKey] = {}
        self._last_number = 0
        self._untold: dict[int, None] = {}
        self._rows: dict[PeerKey, Sighting] = {}
        self._callers: dict[DeviceKey, tuple[float, tuple[Caller, ...]]] = {}
        self._heard = 0.0
        self._given: Mapping[PeerKey, Sighting] | None = None
        self.problem = ""
        """Why the last window could not be opened."""

    def __len__(self) -> int:
        """How many peers the process has not been told of yet."""
        return len(self._untold)

    def watch(self, peers: Iterable[WatchPeer], seconds: float, now: float) -> None:
        """Watch for these, for so long from now on or as long as was said before."""
        self._forget(now)
        for peer in peers:
            number = self._numbers.get(peer.key)
            if number is None:
                self._last_number = number = self._last_number + 1
                self._numbers[peer.key], self._keys[number] = number, peer.key
            before = self._windows.get(number)
            self._windows[number] = _Window(peer, max(now + seconds, before.until if before else 0.0))
            self._untold[number] = None

    def begin(self) -> None:
        """A new process has started: what is left of the windows is to be told again."""
        self._untold = dict.fromkeys(self._windows)

    def end(self) -> None:
        """The process is gone."""
        self._measure()
        self._rows = {key: row._replace(open=False) for key, row in self._rows.items()}
        self._given = None

    def take(self, now: float) -> Watch | None:
        """Take out the next portion to tell, None if there is nothing more."""
        put: dict[int, tuple[WatchPeer, float]] = {}
        while self._untold and len(put) < PORTION:
            number = next(iter(self._untold))
            del self._untold[number]
            window = self._windows.get(number)
            if window is not None and window.until > now:
                put[number] = (window.peer, window.until - now)
        return Watch(put) if put else None

    def told(self, message: Watched) -> None:
        """Take what the process tells."""
        self._heard = message.now
        self.problem = message.problem
        for number, row in message.rows.items():
            key = self._keys.get(number)
            if key is not None:
                self._rows[key] = row
        for device, callers in message.callers:
            self._callers[device] = (message.now, callers)
        self._given = None

    def sightings(self) -> Mapping[PeerKey, Sighting]:
        """The last window of each peer. It never changes; the same object until more is told."""
        if self._given is None:
            self._measure()
            self._given = MappingProxyType(self._rows.copy())
        return self._given

    def callers(self) -> dict[DeviceKey, tuple[Caller, ...]]:
        """Who sends messages to each device and is no watched peer's endpoint, as last told."""
        return {device: callers for device, (_, callers) in self._callers.items() if callers}

    def _measure(self) -> None:
        """An open window is as long as the process was last heard."""
        for key, row in self._rows.items():
            if row.open and (seconds := self._heard - row.began) > row.seconds:
                self._rows[key] = row._replace(seconds=seconds)

    def _forget(self, now: float) -> None:
        """Drop what is over for long."""
        for number in [number for number, window in self._windows.items() if window.until <= now]:
            del self._windows[number]
        old = now - KEPT_SECONDS
        kept = self._windows.keys()
        for key, number in list(self._numbers.items()):
            row = self._rows.get(key)
            if number not in kept and (row is None or row.began + row.seconds < old):
                del self._numbers[key], self._keys[number]
                self._rows.pop(key, None)
        self._callers = {device: known for device, known in self._callers.items() if known[0] >= old}
