"""What a check finds: rows, not exceptions, so that all that is wrong is said at once and a program can read it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wg_exporter.cli.check.facts import Facts


class Severity(StrEnum):
    """How bad it is. The worst comes first."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


WORST_FIRST = tuple(Severity)


class Where(NamedTuple):
    """What a finding is about: whatever of this applies. `line` is that of the file, 0 = none."""

    file: str = ""
    line: int = 0
    netns: str = ""
    interface: str = ""
    peer: str = ""
    address: str = ""

    def __str__(self) -> str:
        file = f"{self.file}:{self.line}" if self.line else self.file
        interface = f"{self.interface} in {self.netns}" if self.interface and self.netns else self.interface
        return " ".join(filter(None, (file, interface or self.netns, self.peer, self.address)))


NOWHERE = Where()


class Finding(NamedTuple):
    """One thing that is wrong, or worth knowing: one line each for `what` is wrong and how to `fix` it."""

    id: str
    severity: Severity
    where: Where
    what: str
    fix: str


class Kind(NamedTuple):
    """What can be found: its id, how bad it is, what it means, and what to do about it. The last two are for people who
    look the id up; a finding has what is so here, and may have a fix of its own.
    """

    id: str
    severity: Severity
    meaning: str
    fix: str

    def at(self, where: Where, what: str, fix: str = "") -> Finding:
        """A finding of this kind."""
        return Finding(self.id, self.severity, where, what, fix or self.fix)


class NotKnown(NamedTuple):
    """What could not be found out, and why."""

    subject: str
    why: str


Judged = Finding | NotKnown


class Check(NamedTuple):
    """One question to the facts. `kinds` are all that it may find. `host`: it is about this host, not about files "
    "alone."""

    subject: str
    kinds: tuple[Kind, ...]
    judge: Callable[[Facts], Iterator[Judged]]
    host: bool = True


class Report(NamedTuple):
    """What came of all checks. `done` is the number of those of which everything could be found out."""

    findings: tuple[Finding, ...]
    not_known: tuple[NotKnown, ...]
    done: int

    def worst(self) -> Severity | None:
        """The severity of the worst finding; None without any."""
        return self.findings[0].severity if self.findings else None


def run(checks: Iterable[Check], facts: Facts) -> Report:
    """Judge the facts by all of the checks; the worst findings first, else in the order of the checks."""
    findings: list[Finding] = []
    not_known: dict[NotKnown, None] = {}
    done = 0
    for check in checks:
        found = list(check.judge(facts))
        unknown = [one for one in found if isinstance(one, NotKnown)]
        not_known.update(dict.fromkeys(unknown))
        findings += [one for one in found if isinstance(one, Finding)]
        done += not unknown
    findings.sort(key=lambda finding: WORST_FIRST.index(finding.severity))
    return Report(tuple(findings), tuple(not_known), done)
