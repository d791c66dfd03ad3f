"""Errors that quote too little to hold a probe's token: one proves nothing, two about different probes are believed.

Such an error fits a probe by numbers of 48 bits, over IPv6 of 32, which could be guessed, by luck or by sending many.
Nobody guesses two in a row. Routers that quote so little do it always, so their next error confirms the first one; what
is sent only once is sent again when it seems lost.

No clock: times are monotonic seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from wg_exporter.prober.wire.packet import IcmpKind

if TYPE_CHECKING:
    from wg_exporter.prober.wire.in_flight import Outgoing
    from wg_exporter.prober.wire.packet import IcmpAnswer

KEPT = 10.0  # seconds for which an error waits to be confirmed, and the next ones are believed at once

Owner = TypeVar("Owner")


class Arrived(NamedTuple, Generic[Owner]):
    """An answer, the packet that it is about, and when it came."""

    outgoing: Outgoing[Owner]
    answer: IcmpAnswer
    when: float


class _Claim(NamedTuple, Generic[Owner]):
    last: Arrived[Owner]
    confirmed: bool


class Repeats(Generic[Owner]):
    """The errors without a token that came lately: one for each owner, layer and kind, so memory is bounded."""

    def __init__(self) -> None:
        self._claims: dict[object, _Claim[Owner]] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._claims)

    def take(self, arrived: Arrived[Owner]) -> tuple[Arrived[Owner], ...]:
        """What can be believed now that this has come: nothing yet, this, or the one before it too."""
        outgoing, answer, now = arrived
        if answer.token is not None:
            return (arrived,)
        self._expire(now)
        # A refusal says that its very size arrived; of other errors the claimed MTU has to be the same.
        size = outgoing.send.size if answer.kind is IcmpKind.UNREACHABLE else 0
        key = outgoing.owner, outgoing.layer, answer.kind, size
        before = self._claims.pop(key, None)
        if before is None or before.last.answer.mtu != answer.mtu:
            self._claims[key] = _Claim(arrived, confirmed=False)
            return ()
        if before.confirmed:
            self._claims[key] = _Claim(arrived, confirmed=True)
            return (arrived,)
        if before.last.outgoing is outgoing:  # the same packet, quoted twice
            self._claims[key] = before
            return ()
        self._claims[key] = _Claim(arrived, confirmed=True)
        return before.last, arrived

    def _expire(self, now: float) -> None:
        while self._claims:
            key, claim = next(iter(self._claims.items()))
            if now < claim.last.when + KEPT:
                return
            del self._claims[key]
