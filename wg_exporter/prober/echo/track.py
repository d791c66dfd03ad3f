"""One target of small echoes: its counters, its recent past, and how soon it should be probed again.

A probe is counted when its fate is known: answered, or lost after the timeout. What could not be sent is counted as an
error instead, but is a miss like a loss.

While an answer is missing, probes are sent more often. Those in between are *extra*: they tell sooner whether the
target answers, and would count every outage many times. So they have counters of their own, and are in no loss figure
and no histogram.
"""

from __future__ import annotations

import math
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.probed import ProbeStats, SendError

if TYPE_CHECKING:
    from collections.abc import Hashable

UP_WINDOW = 5  # probes: a target is up if one of its last 5 was answered
SUSPECT_MISSES = 10  # misses in a row before a target may be probed more rarely, however long they took
PATIENT = 30.0  # seconds of silence before a target is probed more rarely; its peer is down after 25 s by default
LONGEST_INTERVAL = 30.0  # seconds between the echoes to a target that has been silent for long
BLOCKED_AFTER = 3  # probes in a row that this host refused to send

_RECENT = (1 << UP_WINDOW) - 1


class EchoTarget(NamedTuple):
    """Whom to ping, and how often. `id` is the caller's name for the target.

    `netns` is the name of the namespace of the device, empty for our own; `ifindex` is the device that the probe has to
    leave by, 0 while there is none. `interval` is in seconds. A paused target keeps its statistics and is not probed.
    """

    id: Hashable
    netns: str
    ifindex: int
    address: str
    interval: float = 5.0
    paused: bool = False


class Track:
    """One target and all that is known of it. Times are monotonic seconds. `message` belongs to the sender."""

    __slots__ = (
        "address", "buckets", "duplicates", "errors", "extra_lost", "extra_sent", "fates", "heard", "heard_at",
        "history", "ident", "jitter", "late", "late_sum", "lost", "message", "missed_at", "misses", "missing_since",
        "period", "phase", "refusals", "refused", "resumed_at", "rtt_last", "rtt_min", "rtt_sum", "sent",
        "silent_since", "slot", "target", "tick", "unanswered",
    )  # fmt: skip

    def __init__(self, target: EchoTarget, buckets: int) -> None:
        """`buckets` is the number of bounds of the histogram. ValueError if the address is no IP address."""
        self.target = target
        self.address = ip_address(target.address).packed
        self.message: object = None
        self.ident = 0  # of its echoes from now on
        self.unanswered = 0  # lost in a row with this ident
        self.phase = 0  # its place in the interval, as a fraction of 2**32
        self.period = 0  # ticks between this probe and the next
        self.tick = -1  # when the next one is due; -1 = never
        self.slot = -1  # the interval in which the last probe was sent that is not extra
        self.history = 0  # the last fates, one bit each, 1 = answered
        self.fates = 0
        self.misses = 0  # in a row
        self.missing_since = 0.0  # when the first of them was due or sent
        self.missed_at = 0.0  # and the last one
        self.resumed_at = float("-inf")  # misses before it are no reason to back off
        self.heard = False
        self.heard_at = float("-inf")  # the latest answer: losing a probe that was sent before it begins no silence
        self.silent_since: float | None = None
        self.sent = self.lost = self.duplicates = self.late = self.extra_sent = self.extra_lost = 0
        self.refused: SendError | None = None
        self.refusals = 0  # in a row
        self.errors: dict[SendError, int] = {}
        self.buckets = [0] * (buckets + 1)
        self.rtt_sum = self.late_sum = 0.0
        self.rtt_min: float | None = None
        self.rtt_last: float | None = None
        self.jitter: float | None = None

    def count_answer(self, rtt: float, bucket: int) -> None:
        """Count a round trip of `rtt` seconds."""
        self.sent += 1
        self.buckets[bucket] += 1
        self.rtt_sum += rtt
        self._take(rtt)

    def count_extra_answer(self, rtt: float) -> None:
        """Count the answer to an extra probe."""
        self.extra_sent += 1
        self._take(rtt)

    def count_late(self, rtt: float, *, extra: bool) -> None:
        """Count an answer after the timeout to a probe that was counted as lost. The target is slow, and not silent."""
        if not extra:
            self.late += 1
            self.late_sum += rtt
        self._measure(rtt)
        self.history |= 1
        self.misses = self.unanswered = 0

    def count_loss(self, sent_at: float, *, extra: bool = False) -> None:
        """Count a probe that was sent at `sent_at` and not answered in time.

        It begins a silence only if no answer came since: a loss is known after the timeout, and a later probe may be
        answered before that.
        """
        if extra:
            self.extra_sent += 1
            self.extra_lost += 1
        else:
            self.sent += 1
            self.lost += 1
        if self.silent_since is None and sent_at >= self.heard_at:
            self.silent_since = sent_at
        self.refusals = 0
        self._miss(sent_at)

    def count_error(self, reason: SendError, due: float) -> None:
        """Count a probe that was due at `due` and could not be sent."""
        self.errors[reason] = self.errors.get(reason, 0) + 1
        self.refused = reason
        self.refusals += 1
        self._miss(due)

    def break_silence(self, now: float) -> None:
        """An answer came, in time or not, or probing was paused: only a later probe can begin a silence."""
        self.heard_at = now
        self.silent_since = None

    @property
    def up(self) -> bool:
        """Whether one of the last `UP_WINDOW` probes was answered."""
        return self.history != 0

    @property
    def tried(self) -> bool:
        """Whether the fate of a first probe is known. Before it, "not up" would be wrong."""
        return self.fates > 0

    @property
    def clean(self) -> bool:
        """Whether the last probes were all answered."""
        return self.history == _RECENT

    def wait(self, suspect_interval: float, longest: float = LONGEST_INTERVAL) -> float:
        """Seconds from one probe to the next: at most `suspect_interval` after a loss. From `PATIENT` on, the interval
        doubles whenever the silence has doubled, up to `longest`."""
        interval = self.target.interval
        silence = self.missed_at - max(self.missing_since, self.resumed_at) if self.misses else 0.0
        if self.misses >= SUSPECT_MISSES and (silence >= PATIENT or not self.heard):
            doubled = int(math.log2(silence / PATIENT)) + 1 if silence >= PATIENT else 0
            return min(interval * (1 << doubled), max(interval, longest))
        missed = ~self.history & ((1 << min(self.fates, UP_WINDOW)) - 1)
        return min(interval, suspect_interval) if self.heard and missed else interval

    def stats(self) -> ProbeStats:
        """What is known now."""
        return ProbeStats(
            up=self.up,
            sent=self.sent,
            lost=self.lost,
            duplicates=self.duplicates,
            late=self.late,
            errors=tuple(sorted(self.errors.items())),
            buckets=tuple(self.buckets),
            rtt_sum=self.rtt_sum,
            rtt_min=self.rtt_min,
            rtt_last=self.rtt_last,
            jitter=self.jitter,
            silent_since=self.silent_since,
            extra_sent=self.extra_sent,
            extra_lost=self.extra_lost,
            late_sum=self.late_sum,
            refused=self.refused if self.refusals >= BLOCKED_AFTER else None,
        )

    def _take(self, rtt: float) -> None:
        """An answer came in time."""
        self._measure(rtt)
        self._remember(hit=True)
        self.misses = self.refusals = self.unanswered = 0

    def _measure(self, rtt: float) -> None:
        """Take a round trip. Jitter: RFC 3550 section 6.4.1, from one round trip to the next."""
        if self.rtt_min is None or rtt < self.rtt_min:
            self.rtt_min = rtt
        if self.rtt_last is not None:
            jitter = self.jitter or 0.0
            self.jitter = jitter + (abs(rtt - self.rtt_last) - jitter) / 16
        self.rtt_last = rtt
        self.heard = True

    def _miss(self, due: float) -> None:
        self._remember(hit=False)
        if not self.misses:
            self.missing_since = due
        self.misses += 1
        self.missed_at = due

    def _remember(self, *, hit: bool) -> None:
        self.history = (self.history << 1 | hit) & _RECENT
        self.fates += 1
