"""Whom the prober's process is to send fast echoes to, and what it last said of them.

What it said holds as long as it goes on speaking, which it does twice a second: of a process that hangs or died nothing
is known, and what nobody knows moves no traffic. No clock: `now` is monotonic seconds.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from wg_exporter.messages.prober import FastPeers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.messages.prober import FastStates
    from wg_exporter.model import PeerKey
    from wg_exporter.probed import FastPeer

SILENCE = 2.0  # seconds without a word, after which nothing is known

_NOTHING: Mapping[PeerKey, bool] = MappingProxyType({})


class FastPeersAsked:
    """The peers that are asked for, and their states. Not thread-safe, but for `states`."""

    def __init__(self) -> None:
        self._asked: Sequence[FastPeer] = ()
        self._numbers: dict[PeerKey, int] = {}
        self._peers: dict[int, FastPeer] = {}
        self._last_number = 0
        self._untold = False
        self._states: Mapping[PeerKey, bool] = _NOTHING
        self._heard_at = float("-inf")

    def __len__(self) -> int:
        return len(self._peers)

    def set_peers(self, peers: Sequence[FastPeer]) -> None:
        """Ask for exactly these from now on. Costs nothing if it is the same object."""
        if peers is self._asked:
            return
        self._asked = peers
        wanted = {peer.key: peer for peer in peers}
        before = self._peers
        numbers = {}
        for key in wanted:
            number = self._numbers.get(key)
            if number is None:
                self._last_number = number = self._last_number + 1
            numbers[key] = number
        self._numbers = numbers
        self._peers = {numbers[key]: peer for key, peer in wanted.items()}
        self._untold = self._untold or self._peers != before
        if not self._states.keys() <= wanted.keys():
            self._states = MappingProxyType({key: up for key, up in self._states.items() if key in wanted})

    def begin(self) -> None:
        """A new process has started, which knows nothing."""
        self._untold = bool(self._peers)
        self.end()

    def end(self) -> None:
        """The process is gone."""
        self._states = _NOTHING

    def take(self) -> FastPeers | None:
        """Take out what is to be told, None if there is nothing."""
        if not self._untold:
            return None
        self._untold = False
        return FastPeers(dict(self._peers))

    def told(self, message: FastStates, now: float) -> None:
        """Take what the process says."""
        self._heard_at = now
        changed = dict(self._states)
        for number, up in message.peers.items():
            peer = self._peers.get(number)
            if peer is None:
                continue
            if up is None:
                changed.pop(peer.key, None)
            else:
                changed[peer.key] = up
        if changed != self._states:
            self._states = MappingProxyType(changed)

    def states(self, now: float) -> Mapping[PeerKey, bool]:
        """Who is up and who is down, without those of whom that is not known now. It never changes."""
        return self._states if now <= self._heard_at + SILENCE else _NOTHING
