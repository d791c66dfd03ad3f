"""What the growth of a peer's byte counters was made of. WireGuard tells nothing else about a peer that fell silent.

The sizes of WireGuard's messages are in `wireguard`. Between two looks at an otherwise silent tunnel the remainder of
the growth by 16 tells handshakes from data: an initiation leaves 4, a response 12, all else 0, except a full packet if
the MTU is no multiple of 16. Initiations come at least `REKEY_TIMEOUT` apart, so few fit between two looks.
"""

from __future__ import annotations

from typing import NamedTuple

from wg_exporter.wireguard import INITIATION, KEEPALIVE, RESPONSE

REKEY_TIMEOUT = 5.0  # seconds (WireGuard paper, 6.1)


class Sent(NamedTuple):
    """What went to a peer between two looks: the number of initiations, and whether there was data to acknowledge."""

    initiations: int
    data: bool


def sent(grown: int, seconds: float, keepalive: int, inbound: int = 0) -> Sent:
    """What `grown` bytes to a peer were, sent in `seconds` with this persistent keepalive (seconds, 0 = off).

    A keepalive is no data, as it asks for no answer. `inbound` is the number of initiations that came from the peer
    meanwhile; each got a response.
    """
    if grown <= 0:
        return Sent(0, data=False)
    responses = min(inbound, grown // RESPONSE)
    grown -= responses * RESPONSE
    initiations = grown % 16 // 4 if grown % 4 == 0 else 0
    if initiations > _fitting(seconds) or initiations * INITIATION > grown:
        initiations = 0
    rest = grown - initiations * INITIATION
    # Besides the persistent keepalives there may be a passive one, which acknowledges what was received before.
    keepalives = 1 + int(seconds / keepalive) if keepalive else 1
    return Sent(initiations, data=rest % KEEPALIVE != 0 or rest > keepalives * KEEPALIVE)


def inbound_initiations(grown: int, seconds: float) -> int:
    """How many initiations `grown` bytes from a peer were, received in `seconds`; 0 if there was anything else.

    A peer that initiates and then sends nothing got no response: we receive from it, and it does not receive from us.
    """
    number, rest = divmod(grown, INITIATION)
    return number if not rest and 0 < number <= _fitting(seconds) else 0


def _fitting(seconds: float) -> int:
    """How many initiations one side can send in `seconds`."""
    return 1 + int(seconds / REKEY_TIMEOUT)
