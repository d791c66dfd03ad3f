"""The course of a diagnosis: look, watch, send one packet, wait until enough is known, decide.

Everything has a time after which it is not waited for, and all together end within `ALL` seconds. Nothing of the host
is changed: what is sent are a few echoes, and all sockets are closed at the end.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.causes.cause import Cause
from wg_exporter.causes.decide import decide
from wg_exporter.cli.diagnose import assemble, progress
from wg_exporter.cli.diagnose.assemble import Known
from wg_exporter.cli.diagnose.enough import Progress, enough
from wg_exporter.cli.diagnose.gather import Around, Gathering
from wg_exporter.cli.diagnose.packets import Keys, described
from wg_exporter.cli.diagnose.result import Result
from wg_exporter.cli.diagnose.wire import Wire
from wg_exporter.prober.wire.netns import Namespaces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wg_exporter.causes.cause import Finding
    from wg_exporter.causes.facts import Facts
    from wg_exporter.cli.diagnose.choice import Chosen
    from wg_exporter.config import Config
    from wg_exporter.model import Snapshot

ALL = 19.0  # seconds for everything, from the command on
LEAST_WATCHED = 16.6  # seconds for which packets may be watched, however long looking took on a busy host
FIRST_LOOKS = 2.0  # seconds for what has to be read before the first packet
LAST_LOOKS = 0.8  # and after the last one
ROUND = 0.02  # seconds between two rounds
DECIDE = 0.2  # between two decisions


class Options(NamedTuple):
    """What the user asked for: initiations opened, a file of packets, packets in words."""

    decrypt: bool = True
    pcap: Path | None = None
    packets: bool = False


class _Course:
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

    def over(self, gathering: Gathering, now: float, sent: float) -> bool:
        """Whether to stop looking."""
        if gathering.answered and self._answering is None:
            self._answering = now
        if self.facts is None or self.finding is None:
            return False
        answering = None if self._answering is None else now - self._answering
        how_far = Progress(now - sent, now - self._since, answering, gathering.measured, gathering.ready)
        return enough(how_far, self.facts, self.finding)


def run(
    chosen: Chosen,
    config: Config,
    look: Callable[[], Snapshot],
    tell: Callable[[float, str], None],
    *,
    first: Snapshot,
    around: Around,
    began: float,
    options: Options = Options(),  # noqa: B008 - a row, immutable
    warn: Callable[[str], None] = print,
) -> Result:
    """Diagnose one peer. `look` reads the devices, `first` is what it gave when the peer was chosen. `began` is when
    the command was given (monotonic seconds), `tell` gets (seconds since then, line). Raises CaptureError.
    """
    course = _Course(began, tell)
    wall = time.time() - (time.monotonic() - began)
    if chosen.device is None or chosen.peer is None:
        course.judge(Known(chosen, time.monotonic(), time.time(), first, first, names=around.names))
        return _result(chosen, course, began)
    with ExitStack() as stack:
        wire = _wire(stack, chosen, config, options)
        tap = wire.tap if wire and options.pcap else None
        gathering = stack.enter_context(
            closing(Gathering(chosen, config, look, first, around, decrypt=options.decrypt, tap=tap))
        )
        gathering.wait_for_host(FIRST_LOOKS)
        sent = time.monotonic()
        gathering.begin(sent, ALL)
        end, due = max(began + ALL - LAST_LOOKS, sent + LEAST_WATCHED), 0.0
        while (now := time.monotonic()) < end:
            gathering.step(ROUND, now)
            if wire is not None:
                wire.drain()
            if now >= due:
                due = now + DECIDE
                course.judge(gathering.known(now))
                if course.over(gathering, now, sent):
                    break
        gathering.finish(LAST_LOOKS)
        course.judge(known := gathering.known(time.monotonic()))
        if wire is not None:
            wire.drain()
        result = _result(chosen, course, began, known.not_looked)
    if wire is not None and wire.dropped:
        warn(f"the kernel dropped {wire.dropped:,} packets that could not be read in time")
    if wire is None or not options.packets:
        return result
    keys = Keys(chosen.device.public_key, chosen.key[2])
    return result._replace(packets=tuple(described(wire.shown, keys, wall)))


def _result(chosen: Chosen, course: _Course, began: float, not_looked: tuple[str, ...] = ()) -> Result:
    finding = course.finding
    assert finding is not None  # noqa: S101 - for the type checker
    if finding.cause is Cause.UNKNOWN and chosen.found is not None:
        finding = chosen.found._replace(evidence=(*chosen.found.evidence, "so says the exporter that runs here"))
    return Result(chosen, finding, time.monotonic() - began, not_looked)


def _wire(stack: ExitStack, chosen: Chosen, config: Config, options: Options) -> Wire | None:
    """What shows packets to people, if somebody wants to see them."""
    if not (options.pcap or options.packets) or chosen.device is None or chosen.underlay is None:
        return None
    namespaces = stack.enter_context(closing(Namespaces({place.name: place.path for place in config.namespaces})))
    wire = stack.enter_context(closing(Wire(options.pcap, namespaces.open)))
    wire.listen(chosen.key[0], chosen.key[1], chosen.underlay, chosen.device.listen_port)
    return wire
