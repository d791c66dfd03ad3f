"""The ident of the MTU probes of one peer, inside or outside: random, and another one when nothing comes back.

NATs and connection trackers know an echo by its addresses and its ident. An entry that was made while the way was
another one leads all later echoes nowhere, and each of them keeps it alive. All echoes of a search have the same ident,
so that they need one entry and take one way. Small echoes do the same in `echo.book`.

No clock: times are monotonic seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RENEW_AFTER = 3  # echoes in a row without a reply


class Ident:
    """An odd ident: even ones are those of small echoes."""

    __slots__ = ("_since", "_unanswered", "_value")

    def __init__(self) -> None:
        self._value = 0  # none yet
        self._unanswered = 0  # sent since the last reply
        self._since = 0.0  # when the first of them was

    def take(self, now: float, timeout: float, random_bytes: Callable[[int], bytes]) -> int:
        """The ident of an echo that leaves now. It is a new one if the last ones have all been lost by now."""
        lost = self._unanswered >= RENEW_AFTER and now >= self._since + timeout
        if lost or not self._value:
            self._value = int.from_bytes(random_bytes(2), "big") | 1
            self._unanswered = 0
        if not self._unanswered:
            self._since = now
        self._unanswered += 1
        return self._value

    def replied(self) -> None:
        """An echo was answered, so the ident is good."""
        self._unanswered = 0
