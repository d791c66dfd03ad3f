"""What was seen of one peer, as far as it tells whether the peer is well. What follows from it is in rules/.

What came from the peer (`hear`) ends every doubt. What went to it and asks for an answer (`move`, `probe`) begins one.
All times are monotonic seconds: a peer's age is the time since its stamp or its counter was *seen to change*. The wall
clock is used once, for the age of the handshake at the first look.
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


class Place:
    """What is known of a device, for all of its peers. Times are None while it is there, or up."""

    __slots__ = ("down_since", "gone_since", "opaque")

    opaque: bool

    def __init__(self) -> None:
        self.opaque = False  # messages have other sizes than WireGuard's, so bytes do not tell what they were
        self.down_since: float | None = None
        self.gone_since: float | None = None

    @property
    def well(self) -> bool:
        """Whether it is there and up, as far as is known."""
        return self.down_since is None and self.gone_since is None


class Evidence:
    """What is known of one peer. Times are None where there was no such moment."""

    __slots__ = (
        "attempts",  # unanswered packets that are lost independently of each other
        "data",  # looks at which unanswered data was found
        "expected",  # whether it should be up
        "expected_since",
        "first_seen",  # when it appeared, or its device was made anew
        "heard",  # when something last came that only a working session sends
        "inbound_initiations",  # how many came from the peer, without a session after them
        "initiations",  # how many of ours are unanswered
        "judged",  # whether it was heard or given a state since it appeared
        "keepalive",  # the persistent keepalive in seconds, 0 = off
        "lost_before",  # the prober's count of lost probes when waiting began
        "overdue_since",  # since when an answer is missing that is due at once: to an initiation, or to an echo
        "place",
        "probes",  # how many are unanswered
        "quality",  # of its probes; None = not probed
        "reason",  # of the last judgement
        "renewed",  # whether being heard makes the last judgement last longer, and changes nothing else
        "risen",  # when it last stopped being down
        "since",  # when the state was found
        "state",  # of the last judgement
        "target_silent_since",  # since when a target that used to answer does not
        "unanswered_since",  # since when something that asks for an answer has none
        "verdict",  # on the MTU
    )

    place: Place
    expected: bool
    first_seen: float
    judged: bool
    keepalive: int
    heard: float | None
    unanswered_since: float | None
    overdue_since: float | None
    initiations: int
    inbound_initiations: int
    data: int
    probes: int
    attempts: int
    lost_before: int | None

    def __init__(self, place: Place, peer: Peer, meta: PeerMeta, now: float, wall: float) -> None:
        self.place = place
        self.expected = meta.expected_up
        self.expected_since = now
        self.state: State | None = None
        self.reason: Reason | None = None
        self.since = now
        self.renewed = False
        self.risen = -inf
        self.quality: Quality | None = None
        self.target_silent_since: float | None = None
        self.verdict: Verdict | None = None
        self.appear(peer, now, wall)

    def appear(self, peer: Peer, now: float, wall: float) -> None:
        """The peer is seen for the first time, or on a device that was made anew: what was before does not count."""
        self.first_seen = now
        self.judged = False
        self.keepalive = peer.persistent_keepalive
        age = max(wall - peer.last_handshake_ns / 1e9, 0.0)
        self.heard = now - age if peer.last_handshake_ns else None
        self._wait_for_nothing()

    @property
    def probed(self) -> bool:
        """Whether the prober sends it echoes."""
        return self.quality is not None

    def expect(self, expected: bool, now: float) -> None:  # noqa: FBT001
        """Whether the peer should be up from now on."""
        if expected and not self.expected:
            self.expected_since = now
        self.expected = expected

    def hear(self, now: float) -> None:
        """Something came from the peer that only a working session sends."""
        self.heard = now
        self.judged = True
        self._wait_for_nothing()

    def forget(self) -> None:
        """Withdraw the state of the peer."""
        self.state = self.reason = None
        self.judged = self.renewed = False

    def move(self, received: int, sent: int, *, handshake: bool, now: float, seconds: float) -> bool:
        """The counters grew by `received` and `sent` bytes within `seconds`, or there was a handshake.

        Returns whether the peer has to be judged for it.
        """
        inbound = 0 if handshake or self.place.opaque else traffic.inbound_initiations(received, seconds)
        if handshake or (received > 0 and not inbound):
            self.hear(now)
            return not self.renewed
        if self.place.opaque:
            return False
        outgoing = traffic.sent(sent, seconds, self.keepalive, inbound)
        if not (outgoing.initiations or outgoing.data or inbound):
            return False
        if self.unanswered_since is None:
            self.unanswered_since = now
        if self.overdue_since is None and (outgoing.initiations or inbound):
            self.overdue_since = now
        self.inbound_initiations += inbound
        self.initiations += outgoing.initiations
        self.data += outgoing.data
        self.attempts += max(outgoing.initiations, inbound, int(outgoing.data))
        return True

    def probe(self, probed: Probed | None, now: float, limits: HealthLimits) -> None:
        """Take in what the prober knows of the peer; None if it is not probed."""
        if probed is None:
            self.quality = self.verdict = self.target_silent_since = None
            return
        stats = probed.stats
        self.verdict = probed.mtu.verdict if probed.mtu else None
        self.target_silent_since = stats.silent_since if stats.rtt_last is not None else None
        self._take_unanswered(stats, now)
        if self.quality is None:
            self.quality = Quality()
        if self.state is State.DOWN:
            self.quality.forget()
        self.quality.take(stats, now, limits)

    def _take_unanswered(self, stats: ProbeStats, now: float) -> None:
        """Take in probes without an answer. They count even if the byte counter does not move: if this host has no way
        to the endpoint, WireGuard sends nothing and counts nothing.
        """
        if self.lost_before is None or stats.lost < self.lost_before:
            self.lost_before = stats.lost
        self.probes = stats.lost - self.lost_before
        self.attempts = max(self.attempts, self.probes)
        silent, asked = stats.silent_since, self.unanswered_since
        if silent is None:
            return
        # The prober knows to the millisecond when it asked; the counters are read up to 5 s later.
        if silent >= (self.first_seen if self.heard is None else self.heard):
            if self.probes or asked is not None:
                self.unanswered_since = silent if asked is None else min(asked, silent)
                if stats.rtt_last is not None and (self.overdue_since is None or silent < self.overdue_since):
                    self.overdue_since = silent
        # The silence of a target that never answers may have begun before the peer was last heard.
        elif asked is None and self.probes >= 2:
            self.unanswered_since = now

    def told(self, now: float) -> str:
        """The evidence for the present state, in one line for a person."""
        parts = []
        if self.place.gone_since is not None:
            parts.append(f"interface gone{_for(now - self.place.gone_since)}")
        elif self.place.down_since is not None:
            parts.append(f"interface down{_for(now - self.place.down_since)}")
        if self.heard is None:
            parts.append("never heard")
        else:
            parts.append(f"last heard {_span(now - self.heard)} ago")
        if self.unanswered_since is not None:
            what = [_number(self.initiations, "handshake initiation")] if self.initiations else []
            what += ["data"] if self.data else []
            what += [_number(self.probes, "probe")] if self.probes else []
            if what:
                parts.append(f"{_listed(what)} unanswered{_for(now - self.unanswered_since)}")
            if self.inbound_initiations:
                parts.append(f"{_number(self.inbound_initiations, 'initiation')} came from it")
        if self.quality is not None and self.quality.lossy:
            parts.append(f"{self.quality.loss:.0%} of probes lost")
        if self.quality is not None and self.quality.slow and self.quality.rtt is not None:
            parts.append(f"round trips of {self.quality.rtt * 1e3:.1f} ms, usually {self.quality.usual * 1e3:.1f} ms")
        return ", ".join(parts)

    def _wait_for_nothing(self) -> None:
        """No answer is due."""
        self.unanswered_since = self.overdue_since = None
        self.initiations = self.data = self.inbound_initiations = self.attempts = self.probes = 0
        self.lost_before = None


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _for(seconds: float) -> str:
    """Empty if it is not known for how long."""
    return f" for {_span(seconds)}" if isfinite(seconds) else ""


def _span(seconds: float) -> str:
    """Seconds in whole units, cut. A larger unit is used from two of it on."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
