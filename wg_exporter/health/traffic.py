"""What the growth of a peer's byte counters was made of. WireGuard tells nothing else about a peer that fell silent.

The sizes of WireGuard's messages are in `wireguard`. The remainder of the growth by 16 tells handshakes from data: an
initiation leaves 4, a response 12, all else 0, except a full packet if the MTU is no multiple of 16. Initiations come
at least `REKEY_TIMEOUT` apart, so few fit between two looks.

A growth that handshake messages alone can explain is taken for them. So it is not proof that data passes: filters that
let handshakes through and drop data are common.
"""

from __future__ import annotations

from functools import cache
from math import ceil
from typing import NamedTuple

from wg_exporter.wireguard import INITIATION, KEEPALIVE, RESPONSE

REKEY_TIMEOUT = 5.0  # seconds (WireGuard paper, 6.1)

# More initiations between two looks are not told apart: after a minute without a look, sizes prove little.
MOST_INITIATIONS = 12

# With less than this there is no full packet in it, whose size may leave any remainder: the least MTU of IPv6.
NO_FULL_PACKET = 1280


class Sent(NamedTuple):
    """What went to a peer between two looks: the number of initiations, and whether there was data to acknowledge."""

    initiations: int
    data: bool


class Received(NamedTuple):
    """What came from a peer between two looks.

    initiations, responses: how many of these, as far as sizes tell; 0 where large packets hide them.
    data: whether more came than handshake messages can explain: data or a keepalive, which only a session has.
    """

    initiations: int
    responses: int
    data: bool


NOTHING = Received(0, 0, data=False)


def received(grown: int, seconds: float, *, handshake: bool) -> Received:
    """What `grown` bytes from a peer were, received in `seconds`. `handshake`: one was made meanwhile, without which
    there can be no response.
    """
    if grown <= 0:
        return NOTHING
    fitting = _fitting(seconds)
    if alone := _handshakes(fitting, responses=fitting if handshake else 0).get(grown):
        return Received(*alone, data=False)
    if grown >= NO_FULL_PACKET:
        return Received(0, 0, data=True)
    return Received(*_beside_data(grown, handshake=handshake), data=True)


def sent(grown: int, seconds: float, keepalive: int, came: Received = NOTHING, more: int = 0) -> Sent:
    """What `grown` bytes to a peer were, sent in `seconds` with this persistent keepalive (seconds, 0 = off).

    `came` is what came from the peer meanwhile: each of its initiations got a response. A keepalive is no data, as it
    asks for no answer. `more` is how many there may be besides the persistent ones: one confirms a new session, and a
    passive one acknowledges what was received.
    """
    if grown <= 0:
        return Sent(0, data=False)
    grown -= min(came.initiations, grown // RESPONSE) * RESPONSE
    initiations = grown % 16 // 4 if grown % 4 == 0 else 0
    if initiations > _fitting(seconds) or initiations * INITIATION > grown:
        initiations = 0
    rest = grown - initiations * INITIATION
    keepalives = max(1, more + (ceil(seconds / keepalive) if keepalive else 0))  # no data is as short as one
    return Sent(initiations, data=rest % KEEPALIVE != 0 or rest > keepalives * KEEPALIVE)


def shook(grown: int) -> bool:
    """Whether there was certainly a handshake message in what went to a peer. Not knowing is False."""
    return 0 < grown < NO_FULL_PACKET and grown % 16 != 0


def _fitting(seconds: float) -> int:
    """How many initiations one side can send in `seconds`."""
    return 1 + int(min(seconds / REKEY_TIMEOUT, MOST_INITIATIONS - 1))


@cache
def _handshakes(fitting: int, *, responses: int) -> dict[int, tuple[int, int]]:
    """Every growth that initiations and responses alone can make: how many of each, the fewest messages first."""
    found: dict[int, tuple[int, int]] = {}
    counts = [(calls, answers) for calls in range(fitting + 1) for answers in range(responses + 1)]
    for calls, answers in sorted(counts[1:], key=sum):
        found.setdefault(calls * INITIATION + answers * RESPONSE, (calls, answers))
    return found


def _beside_data(grown: int, *, handshake: bool) -> tuple[int, int]:
    """How many initiations and responses came with data, by the remainder: no more than one is told."""
    for (calls, answers), size in (((1, 0), INITIATION), ((0, 1), RESPONSE)):
        rest = grown - size
        if (calls or handshake) and rest >= KEEPALIVE and rest % 16 == 0:
            return calls, answers
    return 0, 0
