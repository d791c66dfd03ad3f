"""All peers with fast echoes: whom to ask when, which answer is whose, and who has changed.

They are few, and they have nothing in common with the small echoes of `prober.echo` but the sockets: their own idents,
their own tokens, their own memory. What is found here goes into no figure of loss. An echo is known by its token
alone, 64 random bits that only those know who saw it; it is forgotten once it is answered, or after `LONGEST_WAIT`.

No clock, no socket: `now` is a monotonic reading in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.prober.fast.track import LONGEST_WAIT, FastTrack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wg_exporter.prober.fast.track import FastTarget

TICK = 0.01  # seconds: echoes due within one tick are sent together
NEVER = float("inf")

_GOLDEN = 0.6180339887498949  # the fractional parts of its multiples are spread evenly, however many there are


class FastEcho(NamedTuple):
    """One echo to send now."""

    track: FastTrack
    ident: int
    sequence: int
    token: int


class FastBook:
    """The caller's round: `answer` for each reply received, `look`, `due`; then sleep until `next_event`.

    Answers go first: one that came in time and was read late keeps its peer up.
    """

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._tracks: dict[int, FastTrack] = {}
        self._waiting: dict[int, tuple[FastTrack, int]] = {}  # by token: whose echo, and its number
        self._sent: deque[tuple[float, int]] = deque()  # when it was sent, and its token
        self._changed: dict[int, bool | None] = {}
        self._added = 0

    def __len__(self) -> int:
        return len(self._tracks)

    @property
    def changed(self) -> bool:
        """Whether there are `changes`."""
        return bool(self._changed)

    def put(self, target: FastTarget, now: float) -> FastTrack:
        """Ask this peer from now on, in place of an earlier one with its id. Its state goes on, unless the address or
        the namespace is another. ValueError if the address is no IP address; nothing has changed then.
        """
        old = self._tracks.get(target.id)
        if old is not None and (old.target.address, old.target.netns) == (target.address, target.netns):
            if old.target.interval != target.interval:
                old.due = min(old.due, now + target.interval)
            old.aim(target)
            return old
        track = FastTrack(target, self._ident(), int.from_bytes(self._random_bytes(2), "big"))
        track.due = now + self._added * _GOLDEN % 1 * target.interval
        self._added += 1
        self._tracks[target.id] = track
        self._changed[target.id] = None
        return track

    def remove(self, name: int) -> None:
        """Leave this peer alone from now on. KeyError if there is none."""
        del self._tracks[name]
        self._changed.pop(name, None)

    def track(self, name: int) -> FastTrack | None:
        """What is known of a peer; None if there is none."""
        return self._tracks.get(name)

    def tracks(self) -> Iterable[FastTrack]:
        """All peers."""
        return self._tracks.values()

    def answer(self, sender: bytes, ident: int, token: int, arrived: float) -> bool:
        """An echo reply came, and the kernel got it at `arrived`. False, and nothing has changed, if it answers no echo
        that is remembered.
        """
        track, number = self._waiting.get(token, (None, 0))
        if track is None or sender != track.address or ident & 1:
            return False
        del self._waiting[token]
        before = track.up
        track.answer(number, arrived)
        self._tell(track, before)
        return True

    def look(self, now: float) -> None:
        """Find out who has gone down."""
        while self._sent and self._sent[0][0] + LONGEST_WAIT <= now:
            self._waiting.pop(self._sent.popleft()[1], None)
        for track in self._tracks.values():
            before = track.up
            if track.look(now):
                self._tell(track, before)

    def due(self, now: float) -> list[FastEcho]:
        """The echoes to send now. One that is late is sent once, and those after it keep their times."""
        return [self._launch(track, now) for track in self._tracks.values() if track.due <= now]

    def failed(self, echo: FastEcho) -> None:
        """The echo could not be sent, as nobody else's packet could be: nobody will answer it."""
        self._waiting.pop(echo.token, None)

    def impossible(self, echo: FastEcho) -> None:
        """This host has no socket to send it by, so nothing can be known of the peer."""
        self.failed(echo)
        before = echo.track.up
        echo.track.restart()
        self._tell(echo.track, before)

    def next_event(self) -> float:
        """When to call again at the latest, `NEVER` without peers."""
        event = NEVER
        for track in self._tracks.values():
            event = min(event, math.ceil(track.due / TICK) * TICK)
            deadline = track.deadline()
            if deadline is not None:
                event = min(event, deadline)
        return event

    def states(self) -> dict[int, bool | None]:
        """Who is up (True) and who is down (False); None: nothing is known yet."""
        self._changed.clear()
        return {name: track.up for name, track in self._tracks.items()}

    def changes(self) -> dict[int, bool | None]:
        """Take out who has changed, as in `states`."""
        changed, self._changed = self._changed, {}
        return changed

    def _launch(self, track: FastTrack, now: float) -> FastEcho:
        interval = track.target.interval
        track.due += interval * (int((now - track.due) / interval) + 1)
        if track.stale:
            track.ident, track.renewed_at = self._ident(), track.number
        number = track.send(now)
        token = int.from_bytes(self._random_bytes(8), "big")
        self._waiting[token] = track, number
        self._sent.append((now, token))
        track.sequence = (track.sequence + 1) & 0xFFFF
        return FastEcho(track, track.ident, track.sequence, token)

    def _ident(self) -> int:
        """An even one, as all echoes have that are no MTU probes."""
        return int.from_bytes(self._random_bytes(2), "big") & ~1

    def _tell(self, track: FastTrack, before: bool | None) -> None:  # noqa: FBT001 - a state, not a switch
        if track.up is not before and self._tracks.get(track.target.id) is track:
            self._changed[track.target.id] = track.up
