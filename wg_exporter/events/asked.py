"""What may be asked for of the journal: the parameters of `/api/v1/events`, checked."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.events import MOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.events import Event

_NUMBER = re.compile("[0-9]{1,15}")
_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class AskedError(ValueError):
    """This can't be answered. The message is one line that says why, and quotes nothing."""


class Asked(NamedTuple):
    """Which events: those `since` a time (seconds since the epoch) and `after` a number; of them the `last` ones.
    `follow`: then also those to come.
    """

    since: float = -math.inf
    after: int = 0
    last: int = MOST
    follow: bool = False

    def of(self, events: Sequence[Event]) -> Sequence[Event]:
        """Those of `events`, which come after the number, that are asked for."""
        found = [one for one in events if one.time >= self.since] if self.since > -math.inf else events
        return found[len(found) - min(self.last, len(found)) :]


def asked(parameters: Mapping[str, str]) -> Asked:
    """The parameters of a request; others than these are none of ours. Raises AskedError."""
    found = Asked()
    if (text := parameters.get("since")) is not None:
        if not _TIME.fullmatch(text):
            raise AskedError("since is a time in seconds since the epoch")
        found = found._replace(since=float(text))
    if (text := parameters.get("after")) is not None:
        if not _NUMBER.fullmatch(text):
            raise AskedError("after is the number of an event")
        found = found._replace(after=int(text))
    if (text := parameters.get("last")) is not None:
        if not _NUMBER.fullmatch(text) or int(text) > MOST:
            raise AskedError(f"last is a number from 0 to {MOST}")
        found = found._replace(last=int(text))
    if (text := parameters.get("follow")) is not None:
        if text not in {"true", "false"}:
            raise AskedError("follow is true or false")
        found = found._replace(follow=text == "true")
    return found
