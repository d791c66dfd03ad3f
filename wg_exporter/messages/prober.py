"""What the exporter and its prober process say to each other. Peers are known by number (see `remote.prober.pending`).

The only paths in these messages are those of namespaces in `Setup`, the first one. Large sets are cut into portions, so
that taking one does not delay probes.
"""

from __future__ import annotations

from wg_exporter.config.probe import ProbeSettings  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.messages.channel import Message
from wg_exporter.model import Usage
from wg_exporter.probed import FastPeer, MtuReport, ProbePeer, ProbeStats  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.sighted import Callers, Sighting, WatchPeer  # noqa: TC001 - msgspec reads the annotations

PORTION = 500  # peers in a message, which are 200,000 bytes


class Setup(Message):
    """The first message: how to probe, and the path of each network namespace by its name."""

    settings: ProbeSettings
    namespaces: dict[str, str]


class Peers(Message):
    """New or changed peers by number, and the numbers of those that are not probed any more."""

    put: dict[int, ProbePeer]
    gone: tuple[int, ...]


class Counters(Message):
    """The byte counters (rx, tx) of peers by number, which have just been read."""

    rows: dict[int, tuple[int, int]]


class Watch(Message):
    """Whom to watch for on the wire, by number, each for so many seconds from now on, or as long as was said before.

    These numbers are others than those of the peers that are probed.
    """

    put: dict[int, tuple[WatchPeer, float]]


class FastPeers(Message):
    """Whom to send fast echoes to, by number: exactly these from now on. They are few, so it is always all of them.

    These numbers are others than those of the peers that are probed or watched for.
    """

    peers: dict[int, FastPeer]


class FastStates(Message):
    """By their fast echoes: who is up (True), who is down (False), of whom nothing is known yet (None), by number.

    `peers` has all of them or, as soon as one has changed, those that have.
    """

    peers: dict[int, bool | None]


class Results(Message):
    """What changed of some peers, by number (see `driver.Changes`).

    `delay` is the worst scheduling delay since the last message, in seconds. `usage` is what the process has cost.
    """

    echoes: dict[int, tuple[str, ProbeStats]]
    reports: dict[int, MtuReport | None]
    delay: float
    usage: Usage = Usage()


class Watched(Message):
    """What the watcher saw: sightings that changed, by number, and callers of the devices where they changed.

    `now` is monotonic: all windows that are open are so until then at least. `problem` is why the last one could not be
    opened, empty if it could.
    """

    rows: dict[int, Sighting]
    callers: tuple[Callers, ...]
    now: float
    problem: str = ""


ToProber = Setup | Peers | Counters | Watch | FastPeers
FromProber = Results | Watched | FastStates
