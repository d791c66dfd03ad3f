"""The silent-peer oracle (P8): does a full-size packet reach a peer that answers no probe at all?

WireGuard itself answers data: a peer with nothing to send returns a keepalive 10 s after it received some
(KEEPALIVE_TIMEOUT). And a sender that has heard nothing for 15 s after it sent data starts a handshake. So after one
full-size datagram to a closed port, and nothing else, the byte counters tell what became of it:

- arrived: rx grows by `KEEPALIVE` between `ARRIVED_FROM` and `ARRIVED_TO`;
- lost, and the peer alive: rx stays for 15 s, then grows by `RESPONSE`, the answer to our new handshake.

Two things can mislead. *Anything* received cancels the 15 s, so small probes pause. And a persistent keepalive of the
peer that comes 10 s after the datagram looks like "arrived". So the rhythm of the peer's keepalives is learned first.
If there is one, a trial begins right after a keepalive; else trials come at uneven distances. A trial in which anything
else is received is void. Only `TRIALS` results that agree are told; everything else is inconclusive. It takes one to
three minutes, and is done only on demand.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from wg_exporter.prober.mtu.probes import NEVER, ProbeKind, Refused, Want
from wg_exporter.wireguard import INITIATION, KEEPALIVE, RESPONSE

if TYPE_CHECKING:
    from wg_exporter.prober.mtu.probes import Answer

DRAIN = 12.0  # seconds until the answers to what was sent before are in
LISTEN = 27.0  # seconds: long enough to see the usual keepalive of 25 s
SHORTEST = 22.0  # seconds: a keepalive more frequent than this falls into every trial
ARRIVED_FROM, ARRIVED_TO = 9.5, 11.5  # seconds after the datagram
SHAKE_FROM, SHAKE_TO = 14.5, 21.5  # seconds after the datagram: 15 s, and one retry of the handshake after 5.3 s
TRIALS = 3
MOST_VOID = 3
PAUSES = (1.0, 9.0, 4.0)  # seconds between trials; uneven, so that a rhythm of the peer can't meet all three


class Oracle(StrEnum):
    """What the byte counters told of full-size packets to a silent peer."""

    ARRIVES = "arrives"
    LOST = "lost"
    INCONCLUSIVE = "inconclusive"


class _Step(StrEnum):
    DRAIN = "drain"
    LISTEN = "listen"
    ALIGN = "align"
    TRIAL = "trial"


class SilentPeer:
    """The trials with one peer. Until it is `done`, no small probes may be sent, and `counters` has to be called at
    least twice a second. Then read `result` and, if that is inconclusive, `reason`."""

    def __init__(self, size: int, now: float) -> None:
        """Trials with datagrams of `size` bytes, a whole IP packet."""
        self.done = False
        self.result = Oracle.INCONCLUSIVE
        self.reason = ""
        self._size = size
        self._step = _Step.DRAIN
        self._until = now + DRAIN
        self._seen: tuple[float, int, int] | None = None  # the last counters: when, rx, tx
        self._keepalives: list[float] = []
        self._aligned = False
        self._sent: float | None = None
        self._shake = False  # our handshake was seen to leave in this trial
        self._results: list[Oracle] = []
        self._void = 0

    def poll(self, now: float) -> list[Want]:
        """The datagram of the next trial."""
        if self.done or now < self._until:
            return []
        if self._step is _Step.DRAIN:
            self._step, self._until = _Step.LISTEN, now + LISTEN
        elif self._step is _Step.LISTEN:
            self._listened(now)
        elif self._step is _Step.ALIGN:
            self._finish("the peer's keepalive stopped")
        elif self._sent is None:
            self._sent, self._shake = now, False
            self._until = now + SHAKE_TO + 0.5
            return [Want(ProbeKind.INNER_UDP, self._size)]
        else:
            self._finish("nothing was received after a lost datagram: the peer may be gone")
        return []

    def next_time(self) -> float:
        """When the next step begins or a trial is over."""
        return NEVER if self.done else self._until

    def handle(self, want: Want, answer: Answer, now: float) -> None:  # noqa: ARG002 - all machines have this shape
        """A refusal of the datagram proves that it arrived: the peer isn't silent after all."""
        if isinstance(answer, Refused) and not self.done:
            self.done, self.result = True, Oracle.ARRIVES

    def counters(self, rx: int, tx: int, now: float) -> None:
        """Take the peer's byte counters, read at `now`."""
        before, self._seen = self._seen, (now, rx, tx)
        if self.done or before is None:
            return
        since, rx_grown, tx_grown = before[0], rx - before[1], tx - before[2]
        if rx_grown < 0 or tx_grown < 0:
            self._finish("the counters were reset")
        elif self._step is _Step.LISTEN and rx_grown:
            if rx_grown != KEEPALIVE:
                self._finish("the tunnel carries other traffic")
            self._keepalives.append(now)
        elif self._step is _Step.ALIGN and rx_grown:
            self._begin(now + 0.5) if rx_grown == KEEPALIVE else self._finish("the tunnel carries other traffic")
        elif self._step is _Step.TRIAL and self._sent is not None:
            self._shake = self._shake or (tx_grown >= INITIATION and now >= self._sent + SHAKE_FROM)
            if rx_grown:
                self._received(rx_grown, since - self._sent, now - self._sent, now)

    def _listened(self, now: float) -> None:
        gaps = [b - a for a, b in zip(self._keepalives, self._keepalives[1:], strict=False)]
        if len(self._keepalives) > 2 or any(gap < SHORTEST for gap in gaps):
            self._finish("the peer's keepalive falls on the time of the answer")
        elif self._keepalives:
            self._aligned = True
            self._align(now)
        else:
            self._begin(now)

    def _align(self, now: float) -> None:
        self._step, self._until = _Step.ALIGN, now + 2 * LISTEN

    def _begin(self, at: float) -> None:
        self._step, self._until, self._sent = _Step.TRIAL, at, None

    def _received(self, grown: int, earliest: float, latest: float, now: float) -> None:
        """Something was received between `earliest` and `latest` seconds after the datagram."""
        if grown == KEEPALIVE and earliest >= ARRIVED_FROM and latest <= ARRIVED_TO:
            self._result(Oracle.ARRIVES, now)
        elif grown == RESPONSE and self._shake and earliest >= SHAKE_FROM and latest <= SHAKE_TO:
            self._result(Oracle.LOST, now)
        else:
            self._void += 1
            if self._void > MOST_VOID:
                self._finish("something else is received in every trial")
            else:
                self._next(now)

    def _result(self, result: Oracle, now: float) -> None:
        self._results.append(result)
        if result is not self._results[0]:
            self._finish("the trials disagree")
        elif len(self._results) == TRIALS:
            self.done, self.result = True, result
        else:
            self._next(now)

    def _next(self, now: float) -> None:
        if self._aligned:
            self._align(now)
        else:
            self._begin(now + DRAIN + PAUSES[(len(self._results) + self._void) % len(PAUSES)])

    def _finish(self, reason: str) -> None:
        self.done, self.result, self.reason = True, Oracle.INCONCLUSIVE, reason
