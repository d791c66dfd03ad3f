"""When enough is known to say it. No clock: seconds are handed in.

WireGuard has its own times, and what is waited for follows from them: it tries a handshake again after 5 to 5.33 s, it
begins one when data was not answered for 15 s, and a peer that got data and has none to send says so after 10 s
(protocol, section 6; drivers/net/wireguard/timers.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.causes import seen
from wg_exporter.causes.cause import Cause, Confidence

if TYPE_CHECKING:
    from wg_exporter.causes.cause import Finding
    from wg_exporter.causes.facts import Facts

LEAST = 1.0  # seconds: what comes together comes within it
STEADY = 0.5  # seconds for which a certain cause is the same one, before it is believed
LIKELY, LIKELY_STEADY = 4.5, 3.0  # seconds after which a likely one is, if it was the same one for so long
HANDSHAKES = 6.6  # a second initiation was sent, and had its time
AGAIN = 12.0  # what came once has come again, if it comes every five seconds
DATA = 16.0  # data was not acknowledged, and a new handshake was begun
LONGEST = 17.5
MEASURED = 9.0  # after the first answer: loss and sizes are known, or won't be


class Progress(NamedTuple):
    """How far it got, in seconds since the first packet; `since` is how long the finding has been the same one.

    `answering`: since the target answered for the first time, None if it does not. `measured`: loss and sizes are
    known. `ready`: what the host says of itself was read.
    """

    seconds: float
    since: float
    answering: float | None = None
    measured: bool = False
    ready: bool = True


def enough(progress: Progress, facts: Facts, finding: Finding) -> bool:
    """Whether to stop looking."""
    if progress.seconds >= LONGEST:
        return True
    if not progress.ready and progress.seconds < HANDSHAKES:
        return False
    if progress.seconds < LEAST:
        return False
    if finding.cause.fault and _believed(progress, finding.confidence):
        return True
    if progress.answering is not None:
        return progress.measured or progress.answering >= MEASURED
    if facts.session or (facts.session is None and seen.shakes(facts)):
        return _of_data(progress, facts)
    return progress.seconds >= (AGAIN if _came_once(facts) else HANDSHAKES)


def weakened(progress: Progress, finding: Finding) -> Finding:
    """The finding of a look that had to end before it was enough: no surer than that. What is likely may be another
    thing a moment later, and a tunnel that answers may still lose what is large.
    """
    if finding.cause.fault:
        less = Confidence.LIKELY if finding.confidence is Confidence.CERTAIN else Confidence.POSSIBLE
        return finding._replace(confidence=less)
    if finding.cause is Cause.FINE and not progress.measured:
        return finding._replace(confidence=Confidence.LIKELY)
    return finding


def _believed(progress: Progress, confidence: Confidence) -> bool:
    """Whether nothing is to be expected that would change it."""
    if confidence is Confidence.CERTAIN:
        return progress.since >= STEADY
    return confidence is Confidence.LIKELY and progress.seconds >= LIKELY and progress.since >= LIKELY_STEADY


def _came_once(facts: Facts) -> bool:
    """Whether something came a single time, which proves little: it may be lost, or forged."""
    sighting = facts.sighting
    return sighting is not None and 1 in (sighting.initiations_received, sighting.misdirected, sighting.answered)


def _of_data(progress: Progress, facts: Facts) -> bool:
    """There is a session, and the target is silent: is what was sent acknowledged at least?"""
    if progress.seconds < HANDSHAKES:
        return False
    return bool(seen.data_came(facts)) or progress.seconds >= DATA
