"""What was found of each interface, and the exit code that follows."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.model import SourceName
from wg_exporter.status.rows import whose

if TYPE_CHECKING:
    from wg_exporter.status.rows import DeviceRow, Overview

OTHER_NAMESPACE = "not compared, for files describe the interfaces of this host's own network namespace"
NO_FILE = "no file describes it, so nothing was compared"


class Found(StrEnum):
    """What came of one interface."""

    SAME = "same"
    DRIFT = "drift"
    NO_FILE = "no_file"
    UNREADABLE = "unreadable"


class Result(NamedTuple):
    """One interface. `problem` says why it was not compared, without a full stop."""

    row: DeviceRow
    found: Found
    problem: str = ""

    @property
    def netns(self) -> str:
        """The namespace of it."""
        return whose(self.row)[0]

    @property
    def name(self) -> str:
        """The name of it."""
        return whose(self.row)[1]


def title(result: Result) -> str:
    """The interface as a person knows it."""
    return f"{result.name} in {result.netns}" if result.netns else result.name


def results(overview: Overview) -> list[Result]:
    """What was found, by interface."""
    failed = next((row.problem for row in overview.outcomes if row.source is SourceName.CONF and not row.success), "")
    return [_result(row, overview, failed) for row in overview.devices]


def _result(row: DeviceRow, overview: Overview, failed: str) -> Result:
    netns, name = whose(row)
    if row.drift is not None:
        return Result(row, Found.DRIFT if row.drift.total else Found.SAME)
    if row.device is None:
        why = f"could not be read: {row.failed.problem}" if row.failed else "the interface is gone"
        return Result(row, Found.UNREADABLE, why)
    if netns:
        return Result(row, Found.NO_FILE, OTHER_NAMESPACE)
    # A file that can't be read describes nothing; most are called after the interface.
    unread = failed or next((line for line in overview.problems if f"/{name}.conf: " in line), "")
    if unread:
        return Result(row, Found.UNREADABLE, f"its file could not be read: {unread}")
    return Result(row, Found.NO_FILE, NO_FILE)


def exit_code(found: list[Result], asked: str | None) -> int:
    """0: all that could be compared is as its file says; 1: something differs; 2: something could not be looked at, or
    nothing could. An interface without a file is no mistake, unless it was asked for by its name (`asked`).
    """
    kinds = {one.found for one in found}
    if Found.DRIFT in kinds:
        return 1
    if Found.UNREADABLE in kinds or Found.SAME not in kinds or (asked and Found.NO_FILE in kinds):
        return 2
    return 0
