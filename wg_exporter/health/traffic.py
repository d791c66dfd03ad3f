"""What the growth of a peer's byte counters was made of. WireGuard tells nothing else about a peer that fell silent.

Sizes as WireGuard counts them (drivers/net/wireguard/messages.h): an initiation 148 bytes, a response 92, a keepalive
32, data 32 more than what is inside, padded to 16. So between two looks at an otherwise silent tunnel the remainder by
16 tells handshakes from data: an initiation leaves 4, a response 12, all else 0, except a full packet where the MTU is
no multiple of 16. Initiations come REKEY_TIMEOUT apart or more, which limits how many fit between two looks.
"""

from __future__ import annotations

from typing import NamedTuple

from wg_exporter.wireguard import INITIATION, KEEPALIVE, RESPONSE

REKEY_TIMEOUT = 5.0


class Sent(NamedTuple):
    """What went to a peer between two looks: initiations of a handshake, and whether anything that is acknowledged."""

    initiations: int
    data: bool


def sent(grown: int, seconds: float, keepalive: int, inbound: int = 0) -> Sent:
    """What `grown` bytes to a peer were, in these seconds and with this persistent keepalive (seconds, 0 = off).

    A keepalive asks for no answer, so it is no data. `inbound` initiations came from the peer meanwhile, and were
    responded to.
    """
    if grown <= 0:
        return Sent(0, data=False)
    responses = min(inbound, grown // RESPONSE)
    grown -= responses * RESPONSE
    initiations = grown % 16 // 4 if grown % 4 == 0 else 0
    if initiations > _fitting(seconds) or initiations * INITIATION > grown:
        initiations = 0
    rest = grown - initiations * INITIATION
    # Without persistent keepalive there is still the passive one, that acknowledges what was received before.
    keepalives = 1 + int(seconds / keepalive) if keepalive else 1
    return Sent(initiations, data=rest % KEEPALIVE != 0 or rest > keepalives * KEEPALIVE)


def inbound_initiations(grown: int, seconds: float) -> int:
    """How many initiations `grown` bytes from a peer were; 0 if anything else was among them.

    A peer that initiates and sends nothing after it got no response: it can be heard, and does not hear us.
    """
    number, rest = divmod(grown, INITIATION)
    return number if not rest and 0 < number <= _fitting(seconds) else 0


def _fitting(seconds: float) -> int:
    """How many initiations one side can send in this time."""
    return 1 + int(seconds / REKEY_TIMEOUT)
