"""The course of a diagnosis: look, watch, send one packet, wait until enough is known, decide.

Everything has a time after which it is not waited for, and all together end by one deadline: what could not be looked
at by then is said, and what was seen for too short a time is named with less confidence. Nothing of the host is
changed: what is sent are a few echoes, and all sockets are closed at the end.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple, Protocol

from wg_exporter.causes.cause import Cause
from wg_exporter.causes.decide import decide
from wg_exporter.cli.diagnose import assemble, host, packets, progress
from wg_exporter.cli.diagnose.assemble import Known
from wg_exporter.cli.diagnose.deadline import LAST_LOOKS, PROMISED
from wg_exporter.cli.diagnose.enough import DATA, Progress, enough, weakened
from wg_exporter.cli.diagnose.gather import Around, Gathering
from wg_exporter.cli.diagnose.packets import Keys
from wg_exporter.cli.diagnose.result import Result
from wg_exporter.cli.diagnose.wire import Wire
from wg_exporter.prober.wire.netns import Namespaces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wg_exporter.causes.cause import Finding
    from wg_exporter.causes.facts import Facts
    from wg_exporter.cli.diagnose.choice import Chosen
    from wg_exporter.cli.diagnose.deadline import Deadline
    from wg_exporter.config import Config
    from wg_exporter.model import Snapshot

FIRST_LOOKS = 2.0  # seconds for what has to be read before the first packet
LEAST = 1.5  # seconds of packets without which none is sent, as nothing would follow
ROUND = 0.02  # seconds between two rounds
DECIDE = 0.2  # between two decisions


class Options(NamedTuple):
    """What the user asked for: initiations opened, a file of packets, packets in words."""

    decrypt: bool = True
    pcap: Path | None = None
    packets: bool = False


class Looks(Protocol):
    """What looks: `Gathering`. All times are monotonic seconds."""

    def wait_for_host(self, seconds: float) -> None:
        """Wait until this host was read once; not for longer than that."""

    def begin(self, now: float, longest: float) -> None:
        """Watch the wire for so many seconds at most, then send the first packet."""

    def step(self, longest: float, now: float) -> None:
        """Send what is due, take what came, within so many seconds."""

    def finish(self, seconds: float) -> None:
        """Read everything once more, within so many seconds."""

    def known(self, now: float) -> Known:
        """All that is known at the moment."""

    @property
    def answered(self) -> bool:
        """Whether the target has answered."""

    @property
    def measured(self) -> bool:
        """Whether loss and sizes are known, or can't be."""

    @property
    def ready(self) -> bool:
        """Whether this host has been read again since the first packet."""


class Course:
    """The finding so far, and since when it is the same one."""

    def __init__(self, began: float, tell: Callable[[float, str], None]) -> None:
        self._began, self._tell = began, tell
        self._told: frozenset[str] = frozenset()
        self._since = 0.0
        self._answering: float | None = None
        self.facts: Facts | None = None
        self.finding: Finding | None = None

    def judge(self, known: Known) -> None:
        """Decide on what is known, and tell what is new."""
        facts = assemble.facts(known)
        finding = decide(facts)
        if self.finding is None or self.finding.cause is not finding.cause:
            self._since = known.now
        self.facts, self.finding = facts, finding
        fresh = list(progress.lines(facts, self._told))
        for line in fresh:
            self._tell(known.now - self._began, line)
        self._told |= frozenset(fresh)

    def progress(self, looks: Looks, now: float, sent: float) -> Progress:
        """How far it got."""
        if looks.answered and self._answering is None:
            self._answering = now
        answering = None if self._answering is None else now - self._answering
        return Progress(now - sent, now - self._since, answering, looks.measured, looks.ready)

    def over(self, looks: Looks, now: float, sent: float) -> bool:
        """Whether to stop looking."""
        how_far = self.progress(looks, now, sent)
        return self.facts is not None and self.finding is not None and enough(how_far, self.facts, self.finding)

    def cut(self, looks: Looks, now: float, sent: float) -> tuple[str, ...]:
        """It has to end though not enough was seen. Returns what was not looked at."""
        how_far = self.progress(looks, now, sent)
        if self.finding is None or how_far.seconds >= DATA:
            return ()
        self.finding = weakened(how_far, self.finding)
        if not how_far.seconds:
            return (f"what passes on the wire and what is answered, {NO_TIME}",)
        found = [f"what comes later than {how_far.seconds:.0f} s after the first packet, {NO_TIME}"]
        if how_far.answering is not None and not how_far.measured:
            found.append(f"loss, and whether packets of full size pass, {NO_TIME}")
        return tuple(found)


NO_TIME = f"as this host is so busy that {PROMISED:g} s were over"


def observe(
    looks: Looks, course: Course, deadline: Deadline, drain: Callable[[], None] = lambda: None
) -> tuple[str, ...]:
    """Look until enough is known, or until the time is over. Returns what was not looked at; the finding is in
    `course`.
    """
    looks.wait_for_host(deadline.left(FIRST_LOOKS))
    deadline.first_packet()
    sent = deadline.now()
    if deadline.looks_until() - sent < LEAST:
        course.judge(known := looks.known(sent))
        return (*known.not_looked, *course.cut(looks, sent, sent))
    looks.begin(sent, deadline.left(PROMISED))
    due, enough_seen = 0.0, False
    while not enough_seen and (now := deadline.now()) < deadline.looks_until():
        looks.step(ROUND, now)
        drain()
        if now >= due:
            due = now + DECIDE
            course.judge(looks.known(now))
            enough_seen = course.over(looks, now, sent)
        deadline.took(deadline.now() - now - ROUND)
    looks.finish(deadline.left(LAST_LOOKS))
    now = deadline.now()
    course.judge(known := looks.known(now))
    drain()
    return known.not_looked if enough_seen else (*known.not_looked, *course.cut(looks, now, sent))


def run(
    chosen: Chosen,
    config: Config,
    look: Callable[[], Snapshot],
    tell: Callable[[float, str], None],
    *,
    first: Snapshot,
    around: Around,
    deadline: Deadline,
    options: Options = Options(),  # noqa: B008 - a row, immutable
    warn: Callable[[str], None] = print,
) -> Result:
    """Diagnose one peer by the deadline. `look` reads the devices, `first` is what it gave when the peer was chosen.
    `tell` gets (seconds since the command was given, line). Raises CaptureError.
    """
    course = Course(deadline.began, tell)
    wall = time.time() - deadline.elapsed()
    if chosen.device is None or chosen.peer is None:
        course.judge(Known(chosen, deadline.now(), time.time(), first, first, names=around.names))
        return _result(chosen, course, deadline)
    reading = host.Job("scapy", packets.load) if options.packets else None
    with ExitStack() as stack:
        wire = _wire(stack, chosen, config, options)
        tap = wire.tap if wire and options.pcap else None
        gathering = stack.enter_context(
            closing(Gathering(chosen, config, look, first, around, decrypt=options.decrypt, tap=tap))
        )
        not_looked = observe(gathering, course, deadline, wire.drain if wire is not None else lambda: None)
    if wire is not None and wire.dropped:
        warn(f"the kernel dropped {wire.dropped:,} packets that could not be read in time")
    if wire is None or reading is None:
        return _result(chosen, course, deadline, not_looked)
    keys = Keys(chosen.device.public_key, chosen.key[2])
    if (described := reading.wait(deadline.left(PROMISED))) is None:
        why = reading.problem or NO_TIME
        return _result(chosen, course, deadline, (*not_looked, f"what the messages on the wire mean ({why})"))
    lines = tuple(described(wire.shown, keys, wall))
    return _result(chosen, course, deadline, not_looked)._replace(packets=lines)


def _result(chosen: Chosen, course: Course, deadline: Deadline, not_looked: tuple[str, ...] = ()) -> Result:
    finding = course.finding
    assert finding is not None  # noqa: S101 - for the type checker
    if finding.cause is Cause.UNKNOWN and chosen.found is not None:
        finding = chosen.found._replace(evidence=(*chosen.found.evidence, "so says the exporter that runs here"))
    return Result(chosen, finding, deadline.elapsed(), not_looked)


def _wire(stack: ExitStack, chosen: Chosen, config: Config, options: Options) -> Wire | None:
    """What shows packets to people, if somebody wants to see them."""
    if not (options.pcap or options.packets) or chosen.device is None or chosen.underlay is None:
        return None
    namespaces = stack.enter_context(closing(Namespaces({place.name: place.path for place in config.namespaces})))
    wire = stack.enter_context(closing(Wire(options.pcap, namespaces.open)))
    wire.listen(chosen.key[0], chosen.key[1], chosen.underlay, chosen.device.listen_port)
    return wire
