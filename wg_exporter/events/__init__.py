"""What happened to the tunnels of this host: one row for each event, whoever tells of it.

An event is made in one place (`daemon/happened.py` for what a tick finds, and whoever reloads, begins a quiet, hears
fast echoes or starts a process), and read in three: the log, the journal that survives a restart, and all that shows
the journal. This file has the row; `book` keeps the last of them, `file` writes them down and reads them again, `words`
tells them to people, `told` leaves out what strangers may not see, `asked` has what may be asked for.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from wg_exporter.quiet import LONGEST_NAME, plain

MOST = 1000  # events that are kept
ALIKE = 20  # events of one look that differ in the peer alone; more of them become one

LONGEST_PLACE = 300  # characters of an endpoint, a verdict, a list of differences
LONGEST_LINE = 1000  # characters of evidence
LATEST = 2.0**37  # seconds since the epoch, some time in the year 6325: a time that a calendar can tell


class Kind(StrEnum):
    """What kind of thing happened. Which fields an event has follows from it."""

    STATE = "state"  # a peer's state: `before`, `after`; `reason`, `cause` and `evidence` where it is unhealthy
    REASON = "reason"  # the reason of a state that stayed: the same fields
    CAUSE = "cause"  # was found: `cause`, `confidence`, `evidence`
    ROAMING = "roaming"  # a peer's endpoint: `before`, `after`
    MTU = "mtu"  # the verdict on a tunnel's MTU: `before`, `after`, `evidence`
    FAST = "fast"  # whether a peer answers fast echoes: `before` and `after` are `up` or `down`; `evidence` is why not
    DRIFT = "drift"  # of a device from its file: `before` and `after` as counts by kind; `evidence` is the file
    QUIET = "quiet"  # `after` is `begun` or `ended`; `until`; `evidence` is why, as somebody wrote it
    RELOAD = "reload"  # of the configuration: `after` is `success` or `failure`; `evidence` is what is wrong
    PROCESS = "process"  # of ours, `process`: `after` is a `Life`; `evidence` is how it ended


MOST_OF = {Kind.ROAMING: 500, Kind.FAST: 200, Kind.PROCESS: 200, Kind.QUIET: 200, Kind.RELOAD: 100}
"""How many of a kind are kept, of those that somebody or something may repeat on and on: a phone that wanders, a
link that flaps ten times a second, or a process that dies every minute must not push out what happened last night."""

MOST_OF_PEER = 200
"""How many events of one peer are kept where others have to go for it: one that goes up and down all night is no reason
to forget the rest. A host that has only the one keeps all of them."""


class Process(StrEnum):
    """The processes of the exporter that may die."""

    EXPORTER = "exporter"  # all of them
    READER = "reader"
    PROBER = "prober"
    RESOLVER = "resolver"


class Life(StrEnum):
    """What becomes of a process."""

    STARTED = "started"
    STOPPED = "stopped"  # as somebody wanted
    FAILED = "failed"  # it died, hangs or can't be started; it is started again
    RECOVERED = "recovered"


NOT_STOPPED = "not_stopped"
"""The `reason` of an exporter's start where the one before was killed, or the host with it."""


class Level(StrEnum):
    """How loud it is, as in the log."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


_Time = Annotated[float, Meta(ge=0, le=LATEST)]
_Word = Annotated[str, Meta(max_length=64)]
_NEVER = 0.0  # one object, as a default is left out where the value is that object
_Place = Annotated[str, Meta(max_length=LONGEST_PLACE)]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One event, at `time` (seconds since the epoch, by the clock of then). Numbers rise without a gap as events are
    added, across restarts too, so they tell the order also where the clock was set back; 0: not added yet.

    An empty `public_key`: it is about the whole interface, and without an `interface` about the exporter. `name` is
    what the peer was called then. `peers`: so many had the same at once, of whom `name` has the first; 0: it is one.
    `quiet`: somebody worked on it, and nobody was paged.
    """

    number: Annotated[int, Meta(ge=1, le=2**53)]
    time: _Time
    kind: Kind
    level: Level = Level.INFO
    interface: Annotated[str, Meta(max_length=15)] = ""
    netns: Annotated[str, Meta(max_length=255)] = ""
    public_key: Annotated[str, Meta(pattern="^([A-Za-z0-9+/]{43}=)?\\Z", max_length=44)] = ""
    name: Annotated[str, Meta(max_length=LONGEST_NAME)] = ""
    process: Process | None = None
    before: _Place = ""
    after: _Place = ""
    reason: _Word = ""
    cause: _Word = ""
    confidence: _Word = ""
    evidence: Annotated[str, Meta(max_length=LONGEST_LINE)] = ""
    until: _Time = _NEVER
    quiet: bool = False
    peers: Annotated[int, Meta(ge=0, le=2**32)] = 0


def event(
    kind: Kind,
    time: float,
    device: tuple[str, str] = ("", ""),
    *,
    level: Level = Level.INFO,
    public_key: str = "",
    name: str = "",
    process: Process | None = None,
    before: str = "",
    after: str = "",
    reason: str = "",
    cause: str = "",
    confidence: str = "",
    evidence: str = "",
    until: float = 0.0,
    quiet: bool = False,
) -> Event:
    """An event that is not numbered yet. `device` is namespace and interface. What is no plain line becomes one, and
    what is too long is cut.
    """
    netns, interface = device
    return Event(
        number=0,
        time=round(max(time, 0.0), 3),
        kind=kind,
        level=level,
        interface=plain(interface)[:15],
        netns=plain(netns),
        public_key=public_key,
        name=plain(name),
        process=process,
        before=plain(before, LONGEST_PLACE),
        after=plain(after, LONGEST_PLACE),
        reason=str(reason),
        cause=str(cause),
        confidence=str(confidence),
        evidence=plain(evidence, LONGEST_LINE),
        until=round(until, 3) if until > 0 else _NEVER,
        quiet=quiet,
    )
