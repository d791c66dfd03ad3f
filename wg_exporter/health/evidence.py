"""What was seen of one peer, as far as it tells whether the peer is well.

Two things are kept apart: what came from the peer (`hear`), which ends every doubt, and what went to it and asks for an
answer (`ask`), which begins one. All times are monotonic readings in seconds: a peer's age is the time since its stamp
or its counter was *seen to change*. The wall clock is used once, to tell how old a handshake was at the first look.
"""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING

from wg_exporter.health import traffic
from wg_exporter.health.quality import Quality
from wg_exporter.health.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.states import Reason
    from wg_exporter.model import Peer, Probed, ProbeStats, Verdict
    from wg_exporter.names.identity import PeerMeta

# REJECT_AFTER_TIME, after which a session without a new handshake is dead, and time to make one (WireGuard paper, 6.1).
STALE_SECONDS = 200.0

# KEEPALIVE_TIMEOUT: a peer with nothing to say acknowledges data after so long. Only then is an answer late.
ACKNOWLEDGED_SECONDS = 10.0

# An answer to data is due after KEEPALIVE_TIMEOUT, 10 s, at the latest, and a handshake is tried again after 5.
ANSWER_SECONDS = 15.0

# What is unanswered for so long is worth a closer look.
SUSPECT_SECONDS = 10.0

# A peer has a state this many seconds after it was first seen, if not before.
JUDGED_SECONDS = 30.0

# Where one packet in twenty is lost each way, six attempts that have nothing to do with each other go unanswered once
# in a million, two once in a hundred.
ATTEMPTS = 6
FIRST_ATTEMPTS = 2  # after a start: a state has to be found within 30 s, and starts are rare


class Place:
    """What is known of a device, for all of its peers. None = it is there, and up."""

    __slots__ = ("down_since", "gone_since", "opaque")

    opaque: bool

    def __init__(self) -> None:
        self.opaque = False  # messages have other sizes than WireGuard's, so that bytes do not tell what they were
        self.down_since: float | None = None
        self.gone_since: float | None = None

    @property
    def well(self) -> bool:
        """Whether it is there and up, as far as anybody knows."""
        return self.down_since is None and self.gone_since is None


class Evidence:
    """One peer. `state` and `reason` are the last judgement, made at `since`."""

    __slots__ = (
        "asked",
        "attempts",
        "called",
        "data",
        "expected",
        "expected_since",
        "first_seen",
        "heard",
        "initiations",
        "judged",
        "keepalive",
        "knocks",
        "lost_before",
        "place",
        "probed",
        "probes",
        "quality",
        "reason",
        "risen",
        "since",
        "state",
        "target_silent",
        "verdict",
    )

    place: Place
    risen: float
    expected: bool
    expected_since: float
    since: float
    target_silent: bool
    keepalive: int
    first_seen: float
    judged: bool
    heard: float | None
    asked: float | None
    called: float | None
    initiations: int
    data: int
    knocks: int
    probes: int
    lost_before: int | None
    attempts: int

    def __init__(self, place: Place, peer: Peer, meta: PeerMeta, now: float, wall: float) -> None:
        self.place = place
        self.expected = meta.expected_up
        self.expected_since = now
        self.state: State | None = None
        self.reason: Reason | None = None
        self.since = now
        self.risen = -inf  # when it was last down no more
        self.probed = False
        self.target_silent = False
        self.verdict: Verdict | None = None
        self.quality: Quality | None = None
        self.appear(peer, now, wall)

    def appear(self, peer: Peer, now: float, wall: float) -> None:
        """The peer is seen for the first time, or on a device that was made anew: nothing before counts."""
        self.first_seen = now
        self.judged = False
        self.keepalive = peer.persistent_keepalive
        age = max(wall - peer.last_handshake_ns / 1e9, 0.0)
        self.heard = now - age if peer.last_handshake_ns else None
        self._settle()

    def expect(self, expected: bool, now: float) -> None:  # noqa: FBT001
        """Whether the peer should be up from now on."""
        if expected and not self.expected:
            self.expected_since = now
        self.expected = expected

    def hear(self, now: float) -> None:
        """Something came from the peer that only a working session sends."""
        self.heard = now
        self.judged = True
        self._settle()

    def move(self, received: int, sent: int, *, shaken: bool, now: float, seconds: float) -> None:
        """The counters grew by so many bytes in so many seconds, or (`shaken`) there was a handshake."""
        knocks = 0 if shaken or self.place.opaque else traffic.knocks(received, seconds)
        if shaken or (received > 0 and not knocks):
            self.hear(now)
            return
        if self.place.opaque:
            return
        outgoing = traffic.sent(sent, seconds, self.keepalive, knocks)
        if outgoing.initiations or outgoing.data or knocks:
            if self.asked is None:
                self.asked = now
            if self.called is None and (outgoing.initiations or knocks):
                self.called = now
            self.knocks += knocks
            self.initiations += outgoing.initiations
            self.data += outgoing.data
            self.attempts += max(outgoing.initiations, knocks, int(outgoing.data))

    def probe(self, probed: Probed | None, now: float, limits: HealthLimits) -> None:
        """What the prober knows of the peer; None if it is not probed."""
        self.probed = probed is not None
        if probed is None:
            self.quality, self.verdict, self.target_silent = None, None, False
            return
        stats = probed.stats
        self.verdict = probed.mtu.verdict if probed.mtu else None
        silent = stats.silent_since
        self._ask(stats, now)
        if self.quality is None:
            self.quality = Quality()
        if self.state is State.DOWN:
            self.quality.forget()
        self.quality.take(stats, now, limits)
        # After an outage it takes the prober a moment to ask again: that is no silence of the target.
        settled = self.state is not State.DOWN and now - self.risen >= 2 * ANSWER_SECONDS
        self.target_silent = (
            settled
            and stats.rtt_last is not None  # it answered once
            and silent is not None
            and self.heard is not None
            and self.heard - silent >= ANSWER_SECONDS
        )

    def _ask(self, stats: ProbeStats, now: float) -> None:
        """Take in probes without an answer. They ask whether or not the byte counter moves: where the host has no way
        to the endpoint, WireGuard sends nothing and counts nothing.
        """
        if self.lost_before is None or stats.lost < self.lost_before:
            self.lost_before = stats.lost
        self.probes = stats.lost - self.lost_before
        self.attempts = max(self.attempts, self.probes)
        silent = stats.silent_since
        # The prober knows to the millisecond when it asked; a look at counters comes up to 5 s later.
        if silent is not None and silent >= (self.first_seen if self.heard is None else self.heard):
            if self.probes or self.asked is not None:
                self.asked = silent if self.asked is None else min(self.asked, silent)
                if stats.rtt_last is not None and (self.called is None or silent < self.called):
                    self.called = silent
        # A target that never answers has long been silent, and its first lost probe may be older than the last sign.
        elif silent is not None and self.asked is None and self.probes >= 2:
            self.asked = now

    def recent(self, now: float) -> bool:
        """Whether the peer was heard within the time in which a session that is well is heard."""
        return self.heard is not None and now - self.heard <= self.stale_after

    @property
    def stale_after(self) -> float:
        """The age in seconds that a peer which keeps its session alive does not reach."""
        return STALE_SECONDS + self.keepalive

    def unanswered(self, now: float, limits: HealthLimits) -> bool:
        """Whether enough was sent for long enough without an answer."""
        if self.asked is None:
            return False
        if self.judged:
            return now - self._due_since(self.asked) >= limits.down_after and self.attempts >= ATTEMPTS
        left = self.first_seen + JUDGED_SECONDS - self.asked
        return now - self.asked >= min(limits.down_after, max(left, ANSWER_SECONDS)) and self.attempts >= FIRST_ATTEMPTS

    def _due_since(self, asked: float) -> float:
        """Since when an answer is due: to an initiation, or a probe of a target that answers, at once (`called`)."""
        acknowledged = asked + ACKNOWLEDGED_SECONDS
        return acknowledged if self.called is None else min(self.called, acknowledged)

    def open(self, now: float) -> bool:
        """Whether it is too early to say anything."""
        return not self.judged and (
            now - self.first_seen < JUDGED_SECONDS
            or (self.expected and self.asked is not None and now - self.asked < JUDGED_SECONDS)
        )

    def suspect(self, now: float) -> bool:
        """Whether a closer look is worth its price: the answer is overdue, and nothing is decided."""
        if not self.expected:
            return False
        return not self.judged or (
            self.asked is not None and self.attempts >= FIRST_ATTEMPTS and now - self.asked >= SUSPECT_SECONDS
        )

    def told(self, now: float) -> str:
        """What speaks for the present state, for a person."""
        parts = []
        if self.place.gone_since is not None:
            parts.append(f"interface gone{_for(now - self.place.gone_since)}")
        elif self.place.down_since is not None:
            parts.append(f"interface down{_for(now - self.place.down_since)}")
        if self.heard is None:
            parts.append("never heard")
        else:
            parts.append(f"last heard {_span(now - self.heard)} ago")
        if self.asked is not None:
            what = [_number(self.initiations, "handshake initiation")] if self.initiations else []
            what += ["data"] if self.data else []
            what += [_number(self.probes, "probe")] if self.probes else []
            if what:
                parts.append(f"{_listed(what)} unanswered{_for(now - self.asked)}")
            if self.knocks:
                parts.append(f"{_number(self.knocks, 'initiation')} came from it")
        if self.quality is not None and self.quality.lossy:
            parts.append(f"{self.quality.loss:.0%} of probes lost")
        if self.quality is not None and self.quality.slow and self.quality.rtt is not None:
            parts.append(f"round trips of {self.quality.rtt * 1e3:.1f} ms, usually {self.quality.usual * 1e3:.1f} ms")
        return ", ".join(parts)

    def _settle(self) -> None:
        """Nothing is waited for."""
        self.asked = self.called = None
        self.initiations = self.data = self.knocks = self.attempts = self.probes = 0
        self.lost_before = None


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _for(seconds: float) -> str:
    """Nothing where nobody knows for how long."""
    return f" for {_span(seconds)}" if isfinite(seconds) else ""


def _span(seconds: float) -> str:
    """Cut to whole units, the next of which begins at two of it."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
