"""What was seen of one peer, as far as it tells whether the peer is well. What follows from it is in rules/.

What came from the peer (`hear`) ends every doubt, a handshake (`shake`) only that about handshakes. What went to it and
asks for an answer (`move`, `probe`) begins one.
All times are monotonic seconds: a peer's age is the time since its stamp or its counter was *seen to change*. The wall
clock is used once, for the age of the handshake at the first look.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from wg_exporter.health import traffic
from wg_exporter.health.quality import Quality
from wg_exporter.health.states import UNKNOWN, Reason, State
from wg_exporter.health.timing import (
    ANSWER_SECONDS,
    LOOK_SECONDS,
    MORE_CALLS,
    MORE_WOKEN,
    SETTLED_SECONDS,
    STALE_SECONDS,
)
from wg_exporter.health.wire import Wire
from wg_exporter.model import SOME_TIME
from wg_exporter.probed import SendError

if TYPE_CHECKING:
    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.place import Place
    from wg_exporter.health.states import Obstacle
    from wg_exporter.model import Peer
    from wg_exporter.names.identity import PeerMeta
    from wg_exporter.probed import Probed, ProbeStats, Verdict
    from wg_exporter.sighted import Sighting


# What probes find that is no loss of the tunnel's, and not counted as that afterwards. So is `down`, and what was lost
# before a target answered for the first time.
_OUTAGES = frozenset({Reason.TARGET_SILENT, Reason.PROBES_BLOCKED, Reason.NOT_ROUTED})


class Evidence:
    """What is known of one peer. Times are None where there was no such moment.

    There are two doubts. Initiations, ours or the peer's, may come to no handshake: a handshake ends that. What we send
    may not arrive: only data or a keepalive from the peer ends that, for there are filters that let handshakes through
    and drop the rest.
    """

    __slots__ = (
        "answered",  # the prober's count of answers at the last look
        "attempts",  # unanswered packets that are lost independently of each other
        "called_at",  # when the latest of these initiations was found
        "called_since",  # since when initiations, of either side, have come to no handshake
        "calls",  # when each of the peer's latest initiations came without a handshake
        "data",  # looks at which unanswered data was found
        "data_asked",  # when data, or a probe that is unanswered, was last found
        "data_since",  # since when data or a probe has no answer
        "echo_since",  # since when an echo is missing that is due at once, as its target used to answer
        "echoed_at",  # when an echo was last found to be answered
        "expected",  # whether it should be up
        "expected_since",
        "first_seen",  # when it appeared, or its device was made anew
        "heard",  # when something last came that only a working session sends, or a handshake was made
        "heard_data",  # when data or a keepalive was last found to have come
        "heard_from",  # the earliest time at which that may have come: the look before
        "inbound_initiations",  # how many came from the peer, without a session after them
        "initiations",  # how many of ours are unanswered
        "judged",  # whether it was heard or given a state since it appeared
        "keepalive",  # the persistent keepalive in seconds, 0 = off
        "left_at",  # when anything was last found to have left for it
        "lost_at",  # when probes were last found to be lost
        "lost_before",  # the prober's count of lost probes when waiting began
        "lost_total",  # and at the last look
        "obstacle",  # what keeps users' packets from it
        "obstructed_since",
        "place",
        "probes",  # how many are unanswered
        "quality",  # of its probes; None = not probed
        "reason",  # of the last judgement
        "refused",  # why this host refuses to send probes
        "renewed",  # whether being heard makes the last judgement last longer, and changes nothing else
        "risen",  # when it last stopped being down
        "shaken",  # when a handshake was last made
        "silent_since",  # since when probes have no answer
        "since",  # when the state was found
        "state",  # of the last judgement
        "target_silent_since",  # since when a target that used to answer does not
        "verdict",  # on the MTU
        "wire",  # what the watcher saw
        "woken",  # when each of the latest handshakes was made that the peer began
    )

    place: Place
    expected: bool
    first_seen: float
    judged: bool
    keepalive: int
    heard: float | None
    heard_data: float | None
    heard_from: float
    shaken: float | None
    answered: int
    called_at: float
    called_since: float | None
    data_since: float | None
    data_asked: float
    left_at: float
    lost_at: float
    echo_since: float | None
    echoed_at: float
    initiations: int
    inbound_initiations: int
    data: int
    probes: int
    attempts: int
    lost_before: int | None
    lost_total: int
    wire: Wire
    calls: tuple[float, ...]
    woken: tuple[float, ...]

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
        self.silent_since: float | None = None
        self.refused: SendError | None = None
        self.obstacle: Obstacle | None = None
        self.obstructed_since = now
        self.target_silent_since: float | None = None
        self.verdict: Verdict | None = None
        self.appear(peer, now, wall)

    def appear(self, peer: Peer, now: float, wall: float) -> None:
        """The peer is seen for the first time, or on a device that was made anew: what was before does not count."""
        self.first_seen = now
        self.judged = False
        self.keepalive = peer.persistent_keepalive
        age = max(wall - peer.last_handshake_ns / 1e9, 0.0)
        self.heard = self.shaken = now - age if peer.last_handshake_ns else None
        if peer.last_handshake_ns == SOME_TIME:
            self.heard = self.shaken = -inf
        self.heard_data = None
        self.heard_from = now
        self.left_at = self.lost_at = self.echoed_at = -inf
        self.lost_total = self.answered = 0
        self.calls = self.woken = ()
        self.wire = Wire()
        self._wait_for_nothing()

    @property
    def probed(self) -> bool:
        """Whether the prober sends it echoes."""
        return self.quality is not None

    @property
    def ever_answered(self) -> bool:
        """Whether an echo was ever answered."""
        return self.answered > 0

    @property
    def unanswered_since(self) -> float | None:
        """Since when something that asks for an answer has none."""
        return _earlier(self.called_since, self.data_since)

    @property
    def overdue_since(self) -> float | None:
        """Since when an answer is missing that is due at once: to an initiation, or to an echo."""
        return _earlier(self.called_since, self.echo_since)

    @property
    def lapses(self) -> float:
        """When the doubts end by themselves.

        That about handshakes, when nobody tries any more: they are tried every 5 s. Whoever is `down` stays so. That
        about data: a handshake was made since, and no data was sent that could show whether it arrives. Where just
        this made the peer `down`, it takes longer, for users may have given up.
        """
        if self.called_since is not None:
            return inf if self.state is State.DOWN else self.called_at + SETTLED_SECONDS
        if self.data_since is None:
            return inf
        if self.shaken is None or self.shaken < self.data_asked:
            return inf
        given_up = self.state is State.DOWN and self.reason is Reason.DATA_UNANSWERED
        return self.shaken + (STALE_SECONDS if given_up else ANSWER_SECONDS)

    def expect(self, expected: bool, now: float) -> None:  # noqa: FBT001
        """Whether the peer should be up from now on."""
        if expected and not self.expected:
            self.expected_since = now
        self.expected = expected

    def hear(self, now: float, seconds: float = LOOK_SECONDS) -> None:
        """Data or a keepalive came from the peer within `seconds`, which only a working session sends."""
        self.heard = self.heard_data = now
        # After a longer pause it would prove nothing that an echo was sent since, for data may have come after that.
        self.heard_from = now - min(seconds, LOOK_SECONDS + 1)
        self.judged = True
        self._wait_for_nothing()

    def shake(self, now: float, *, by_peer: bool) -> None:
        """A handshake was made; `by_peer`: the peer began it. It proves nothing about data that was sent."""
        self.heard = self.shaken = now
        self.wire.pass_handshake(now)
        if by_peer:
            self.woken = (*self.woken, now)[-MORE_WOKEN:]
        self.called_since = None
        self.calls = ()
        self.initiations = self.inbound_initiations = 0
        self.attempts = max(self.data, self.probes)

    def resume(self) -> None:
        """Its device could not be read for a while, and its daemon stood still: what it did not answer meanwhile proves
        nothing.
        """
        self.calls = ()
        self._wait_for_nothing()

    def lapse(self, now: float) -> None:
        """Give up the doubt about data, if nothing was sent that could end it (`lapses`)."""
        if now >= self.lapses:
            self._wait_for_nothing()

    def forget(self) -> None:
        """Withdraw the state of the peer."""
        self.state = self.reason = None
        self.judged = self.renewed = False

    def move(self, received: int, sent: int, *, handshake: bool, now: float, seconds: float) -> bool:
        """The counters grew by `received` and `sent` bytes within `seconds`, or there was a handshake.

        Returns whether the peer has to be judged for it.
        """
        if sent > 0:
            self.left_at = now
        if self.place.opaque:
            return self._move_opaque(received, handshake=handshake, now=now, seconds=seconds)
        if traffic.shook(sent):
            self.wire.make(now - seconds, now)
        self.lapse(now)
        came = traffic.received(received, seconds, handshake=handshake)
        if handshake:
            self.shake(now, by_peer=bool(came.initiations or self.calls))
        elif came.initiations:
            self.calls = (*self.calls, *(now,) * came.initiations)[-MORE_CALLS:]
        if came.data:
            self.hear(now, seconds)
            return not self.renewed
        more = int(self._lately(self.shaken, now, seconds)) + int(self._lately(self.heard_data, now, seconds))
        went = traffic.sent(sent, seconds, self.keepalive, came, more)
        return self._ask(came, went, now, handshake=handshake)

    def _lately(self, moment: float | None, now: float, seconds: float) -> bool:
        """Whether a keepalive for what came then may have been sent since the last look, which was `seconds` ago."""
        return moment is not None and now - moment <= seconds + ANSWER_SECONDS

    def _move_opaque(self, received: int, *, handshake: bool, now: float, seconds: float) -> bool:
        """The same where sizes tell nothing. What comes with a handshake may be no more than that."""
        if handshake:
            self.shake(now, by_peer=False)
        elif received > 0:
            self.hear(now, seconds)
        return (handshake or received > 0) and not self.renewed

    def _ask(self, came: traffic.Received, went: traffic.Sent, now: float, *, handshake: bool) -> bool:
        """Take in what asks for an answer. An initiation that led to a handshake does not."""
        inbound = 0 if handshake else came.initiations
        initiations = 0 if handshake else went.initiations
        if initiations or inbound:
            self.called_since = now if self.called_since is None else self.called_since
            self.called_at = now
        if went.data:
            self.data_since = now if self.data_since is None else self.data_since
            self.data_asked = now
        self.inbound_initiations += inbound
        self.initiations += initiations
        self.data += went.data
        self.attempts += max(initiations, inbound, int(went.data))
        return handshake or bool(initiations or went.data or inbound)

    def probe(self, probed: Probed | None, now: float, limits: HealthLimits) -> None:
        """Take in what the prober knows of the peer; None if it is not probed."""
        if probed is None:
            self.quality = self.verdict = self.silent_since = self.target_silent_since = self.refused = None
            return
        stats = probed.stats
        self.verdict = probed.mtu.verdict if probed.mtu else None
        self.silent_since = stats.silent_since
        self.refused = None if stats.refused is SendError.NO_DEVICE else stats.refused
        self.target_silent_since = stats.silent_since if stats.rtt_last is not None else None
        self._take_unanswered(stats, now)
        if self.quality is None:
            self.quality = Quality()
        if self.state is State.DOWN or self.reason in _OUTAGES or stats.rtt_last is None:
            self.quality.forget()
        self.quality.take(stats, now, limits)

    def _take_unanswered(self, stats: ProbeStats, now: float) -> None:
        """Take in probes without an answer. They count even if the byte counter does not move: if this host has no way
        to the endpoint, WireGuard sends nothing and counts nothing.
        """
        self.lapse(now)
        lost = stats.lost + stats.extra_lost
        answered = stats.sent + stats.extra_sent + stats.late - lost
        if answered > self.answered > 0 and stats.silent_since is None:
            self.hear(now)  # an echo is as good as what the counters tell, and never mistaken
            self.echoed_at = now
        self.answered = answered
        if lost > self.lost_total:
            self.lost_at = now
        self.lost_total = lost
        if self.lost_before is None or lost < self.lost_before:
            self.lost_before = lost
        before, self.probes = self.probes, lost - self.lost_before
        self.attempts = max(self.attempts, self.probes)
        silent = stats.silent_since
        if silent is None:
            return
        if self.probes > before:
            self.data_asked = now
        asked = self.unanswered_since
        # The prober knows to the millisecond when it asked. What the counters tell may have come up to a look earlier.
        if silent >= self.heard_from:
            if self.probes or asked is not None:
                self.data_since = silent if self.data_since is None else min(self.data_since, silent)
                if stats.rtt_last is not None and (self.echo_since is None or silent < self.echo_since):
                    self.echo_since = silent
        # The silence of a target that never answers may have begun before the peer was last heard.
        elif asked is None and self.probes >= 2:
            self.data_since = now

    def sight(self, row: Sighting) -> None:
        """Take in what the watcher saw of it."""
        self.wire.take(row, self.data_since, self.data_asked, self.shaken)

    def obstruct(self, obstacle: Obstacle | None, now: float) -> None:
        """Take in what keeps users' packets from it; None if nothing does."""
        if obstacle is not UNKNOWN:
            if self.obstacle is None or obstacle is None or obstacle.reason is not self.obstacle.reason:
                self.obstructed_since = now
            self.obstacle = obstacle

    def _wait_for_nothing(self) -> None:
        """No answer is due."""
        self.called_since = self.data_since = self.echo_since = None
        self.data_asked = self.called_at = -inf
        self.initiations = self.data = self.inbound_initiations = self.attempts = self.probes = 0
        self.lost_before = None


def _earlier(first: float | None, second: float | None) -> float | None:
    return second if first is None else first if second is None else min(first, second)
