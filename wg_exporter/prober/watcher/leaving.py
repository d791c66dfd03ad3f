"""When to look at what leaves, so that it costs little: always where little leaves, and in turns where much does.

Where a packet socket takes in what leaves, the kernel makes a clone of each such packet before any filter: 0.35 µs on a
processor of 2023, 6 to 10 % of what WireGuard in the kernel needs for a full packet. What arrives is not cloned. So
where much leaves, it is looked at for `TURN` in `EVERY` seconds, which is time for two tries of a handshake (5.0 to
5.3 s apart).

No clock and no sockets: `now` is monotonic seconds.
"""

from __future__ import annotations

from math import inf

BUSY = (
    10_000  # packets that leave in a second, on all interfaces of the namespace: 0.4 % of a processor if all are seen
)
CHECK = 1.0  # seconds between two looks at how many leave
FIRST_CHECK = 0.1  # and before the first decision
TURN, EVERY = 12.0, 30.0  # seconds
FIRST_TURN = 5.0  # seconds after the socket opened: WireGuard tries 15 s after data, and suspicion comes after 10


class Leaving:
    """Whether to look at what leaves, for one socket."""

    def __init__(self, opened: float, packets: int) -> None:
        """`packets` that have left so far."""
        self._opened = opened
        self._at, self._packets = opened, packets
        self._due = opened + FIRST_CHECK
        self._busy = True
        self.since: float | None = None
        """Since when it is looked at, None while it is not."""
        self.until = inf
        """Until when it was, inf while it is."""

    @property
    def due(self) -> float:
        """When `follow` wants to know how many have left."""
        return self._due

    def follow(self, packets: int, now: float) -> bool:
        """Decide, knowing how many have left. Returns whether anything changes."""
        if now > self._at:
            self._busy = (packets - self._packets) / (now - self._at) > BUSY
        self._at, self._packets, self._due = now, packets, now + CHECK
        turn = FIRST_TURN <= (now - self._opened) % EVERY < FIRST_TURN + TURN
        look, before = turn or not self._busy, self.looking
        if look and not before:
            self.since, self.until = now, inf
        elif before and not look:
            self.until = now
        return look is not before

    @property
    def looking(self) -> bool:
        """Whether it is looked at."""
        return self.since is not None and self.until == inf
