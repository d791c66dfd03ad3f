"""What the exporter names by itself, for several broken tunnels at once: each in a world of its own, with an exporter
of its own that was there before the fault.

Nearly all of the time is waiting, so a dozen of them take little longer than one, and other things can be done
meanwhile.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from tests.causes_world import World
from tests.diagnosing import Said, diagnose
from tests.lab import lab_prefix
from wg_exporter.causes.cause import Confidence
from wg_exporter.cli.netlab import Lab, LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from tests.causes_lab import Scene

PATIENCE = 150.0  # seconds from the fault: loss is judged after 20 probes, 5 s apart
NOTHING_COMES = 100.0  # seconds after which nothing wrong was named where nothing is to be named
BUILDERS = 4  # worlds that are built at a time
EVERY = 1.0


class Named(NamedTuple):
    """A cause that was named, and how many seconds after the fault. Of one that is only possible nothing is said."""

    cause: str
    seconds: float


class Alone(NamedTuple):
    """What the exporter named, in order; and what `diagnose` then said, where it asks the exporter."""

    named: tuple[Named, ...]
    said: Said | None = None
    problem: str = ""

    @property
    def last(self) -> str:
        """What it says at the end; empty if nothing."""
        return self.named[-1].cause if self.named else ""


def watch(scenes: Sequence[Scene], directory: Path, meanwhile: Callable[[], None]) -> Mapping[str, Alone]:
    """Build all of these, and wait until each was named, or won't be. `meanwhile` is called once they are built."""
    with ExitStack() as stack, ThreadPoolExecutor(BUILDERS) as builders:
        labs = [stack.enter_context(Lab(lab_prefix(), directory / one.id, kernel=False)) for one in scenes]
        built = [builders.submit(_build, one, lab) for one, lab in zip(scenes, labs, strict=True)]
        with ThreadPoolExecutor(max(len(scenes), 1)) as followers:
            waits = [followers.submit(_follow, one, world) for one, world in zip(scenes, built, strict=True)]
            wait(built)
            meanwhile()
            found = {one.id: _result(told) for one, told in zip(scenes, waits, strict=True)}
        for one, world in zip(scenes, built, strict=True):
            if one.asks and not found[one.id].problem:
                found[one.id] = found[one.id]._replace(said=diagnose(world.result()))
        list(builders.map(Lab.close, labs))  # each waits for its processes
        return found


def _result(told: Future[Alone]) -> Alone:
    try:
        return told.result()
    except (AssertionError, LabError) as error:
        return Alone((), problem=str(error) or type(error).__name__)


def _build(scene: Scene, lab: Lab) -> World:
    world = World(lab, watched=True)
    scene.build(world)
    return world


def _follow(scene: Scene, building: Future[World]) -> Alone:
    """Look until the right cause is named, or until none is to be expected."""
    world = building.result()
    named: list[Named] = []
    named_right = {scene.cause.value, *(one.value for one in scene.also)}
    silent = bool(scene.alone) or not scene.cause.fault
    until = world.began + (NOTHING_COMES if silent else PATIENCE)
    while time.monotonic() < until:
        cause = next(_causes(world), "")
        if cause and (not named or named[-1].cause != cause):
            named.append(Named(cause, round(time.monotonic() - world.began, 1)))
        if named and named[-1].cause in named_right:
            break
        time.sleep(EVERY)
    return Alone(tuple(named))


def _causes(world: World) -> Iterator[str]:
    row = world.row()
    if row is not None and row.cause is not None and row.cause.confidence is not Confidence.POSSIBLE:
        yield row.cause.cause.value
