"""The exporter's small echoes to one peer, booked by the prober's own `Track`, which also sets their pace."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from wg_exporter.config.probe import RTT_BUCKETS, ProbeSettings
from wg_exporter.probed import MtuReport, Probed, SendError, Verdict
from wg_exporter.prober.echo.track import EchoTarget, Track

if TYPE_CHECKING:
    from random import Random

    from tests.day.loop import Loop
    from tests.day.wireguard import End

SETTINGS = ProbeSettings()
ECHO = 128  # bytes on the wire of the 96 that an echo has inside
FINE = MtuReport(Verdict.OK, 1420, 1420, 1500, 0, 1480, 1420, None, "", 0.0)


class Pinger:
    """Pings one peer through our end. A deaf one takes the echo and answers nothing."""

    def __init__(
        self, loop: Loop, rng: Random, here: End, target: str, *, deaf: bool, interval: float = SETTINGS.interval
    ) -> None:
        self.interval = interval
        self.loop, self.rng, self.here, self.target, self.deaf = loop, rng, here, target, deaf
        self._due = inf  # when the next one leaves
        self._life = 0
        self._found: Probed | None = None

    def start(self) -> None:
        """A prober is started, or told of the peer: nothing is known of it."""
        self._track = Track(EchoTarget(self.target, "", 7, self.target, self.interval), len(RTT_BUCKETS))
        self._life += 1
        self._found = None
        self._received = self.here.rx
        self._plan(self.rng.uniform(0, self._track.target.interval))

    def stop(self) -> None:
        """It is left alone."""
        self._life += 1
        self._due = inf

    @property
    def running(self) -> bool:
        """Whether it is probed."""
        return self._due != inf

    def look(self) -> None:
        """The exporter tells what it has read: if something came from the peer, it may answer again."""
        received = self.here.rx > self._received
        self._received = self.here.rx
        if received and self._track.misses:
            self._track.resumed_at = self.loop.now
            self._hasten()

    def found(self) -> Probed:
        """What is known."""
        if self._found is None:
            self._found = Probed(self.target, self._track.stats(), FINE if self._track.heard else None)
        return self._found

    def _plan(self, wait: float) -> None:
        self._due = self.loop.now + wait
        self.loop.at(self._due, self._ping, self._due)

    def _ping(self, due: float) -> None:
        if due != self._due:
            return
        slot = int(due / self._track.target.interval)
        extra, self._track.slot = slot == self._track.slot, slot
        waiting = [self._life, due, extra]
        if not self.here.on:
            self._track.count_error(SendError.NO_DEVICE, due)
            self._found = None
        elif self.deaf:
            self.here.send(ECHO)
            self.loop.at(due + SETTINGS.timeout, self._lost, waiting)
        else:
            self.here.send(ECHO, 1, lambda there: there.send(ECHO, 1, lambda _: self._answered(waiting)))
            self.loop.at(due + SETTINGS.timeout, self._lost, waiting)
        self._plan(self._track.wait(SETTINGS.suspect_interval))

    def _answered(self, waiting: list[float]) -> None:
        """`waiting` is the life of the prober that sent it, when, and whether it is extra, as another was sent in the
        same interval; a fourth item once its fate is known.
        """
        if waiting[0] != self._life:
            return
        self._found = None
        self._track.break_silence(self.loop.now)
        rtt, extra = self.loop.now - waiting[1], bool(waiting[2])
        if len(waiting) > 3:
            self._track.count_late(rtt, extra=extra)
            return
        waiting.append(1)
        if extra:
            self._track.count_extra_answer(rtt)
        else:
            self._track.count_answer(rtt, 5)
        if not self._track.clean:
            self._hasten()

    def _lost(self, waiting: list[float]) -> None:
        if waiting[0] != self._life or len(waiting) > 3:
            return
        waiting.append(0)
        self._found = None
        self._track.count_loss(waiting[1], extra=bool(waiting[2]))
        self._hasten()

    def _hasten(self) -> None:
        """After a loss the next one may be wanted sooner than it was planned."""
        wait = self._track.wait(SETTINGS.suspect_interval)
        if self._due - self.loop.now > wait:
            self._plan(self.rng.uniform(wait / 2, wait))
