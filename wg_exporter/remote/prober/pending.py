"""What the prober's process has not been told yet: peers that are new, changed or gone, and their byte counters.

Only this module compares; the process takes what it is told. The newest value replaces one that was not told yet, so a
slow process costs no memory and nobody waits for it.

A peer has a number from when it is first asked for until it is asked for no more. The process knows it by this number
alone, because a key has 44 characters, and the byte counters of 10,000 peers are sent often.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from wg_exporter.messages.prober import PORTION, Counters, Peers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.model import PeerKey
    from wg_exporter.probed import Probed, ProbePeer


class Pending:
    """The peers that are asked for, and what the process does not know of them yet. Not thread-safe."""

    def __init__(self) -> None:
        self._asked: Sequence[ProbePeer] = ()
        self._numbers: dict[PeerKey, int] = {}
        self._peers: dict[int, ProbePeer] = {}
        self._bytes: dict[int, tuple[int, int]] = {}  # the byte counters as last read
        self._last_number = 0
        self._put: dict[int, None] = {}
        self._gone: dict[int, None] = {}
        self._counted: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def key(self, number: int) -> PeerKey | None:
        """The peer that has this number, None if it is asked for no more."""
        peer = self._peers.get(number)
        return peer.key if peer is not None else None

    def set_peers(self, peers: Sequence[ProbePeer]) -> list[PeerKey]:
        """Ask for exactly these from now on. Returns those that are dropped. Costs nothing if it is the same object."""
        if peers is self._asked:
            return []
        self._asked = peers
        wanted = {peer.key: peer for peer in peers}
        gone = [key for key in self._numbers if key not in wanted]
        for key in gone:
            self._forget(key)
        for key, peer in wanted.items():
            number = self._numbers.get(key)
            if number is None:
                self._last_number = number = self._last_number + 1
                self._numbers[key] = number
            elif self._peers[number] == peer:
                continue
            self._peers[number] = peer
            self._put[number] = None
        return gone

    def set_counters(self, rows: Mapping[PeerKey, tuple[int, int]], known: Mapping[PeerKey, Probed]) -> None:
        """Take the byte counters (rx, tx) of peers, which have just been read. `known` is what the process has told.

        Of a peer that does not answer, counters that did not move are told too: its verdict follows from nothing being
        received.
        """
        for key, row in rows.items():
            number = self._numbers.get(key)
            if number is None:
                continue
            if self._bytes.get(number) != row or (probed := known.get(key)) is None or not probed.stats.up:
                self._bytes[number] = row
                self._counted[number] = None

    def begin(self) -> None:
        """A new process has started and knows nothing, so everything is to be told again."""
        self._put = dict.fromkeys(self._peers)
        self._counted = dict.fromkeys(self._bytes)
        self._gone.clear()

    def take(self) -> Peers | Counters | None:
        """Take out the next portion to tell, None if there is nothing more."""
        if self._put or self._gone:
            return Peers({number: self._peers[number] for number in _some(self._put)}, tuple(_some(self._gone)))
        if self._counted:
            return Counters({number: self._bytes[number] for number in _some(self._counted)})
        return None

    def _forget(self, key: PeerKey) -> None:
        number = self._numbers.pop(key)
        del self._peers[number]
        self._bytes.pop(number, None)
        self._put.pop(number, None)
        self._counted.pop(number, None)
        self._gone[number] = None


def _some(numbers: dict[int, None]) -> list[int]:
    """At most `PORTION` numbers, taken out."""
    some = list(islice(numbers, PORTION))
    for number in some:
        del numbers[number]
    return some
