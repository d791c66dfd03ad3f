"""What has been found, for a person: blocks with colours at a terminal, and a line for each finding in a pipe.

The severity is a word, so nothing is said by a colour alone. All text may come from files and other processes, so all
of it goes through `words.plain`.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from wg_exporter.cli.check.finding import WORST_FIRST, Severity
from wg_exporter.status import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from wg_exporter.cli.check.finding import Finding, NotKnown, Report

MOST = 10
"""Findings of one kind that are shown: a file may have a hundred lines that are not understood. JSON has all."""

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_INDENT = 9


def blocks(report: Report, encoding: str = "utf-8") -> Iterator[RenderableType]:
    """For a terminal: the worst first, what is not known after it, and the count as the last line."""

    def text(said: str, style: str = "") -> Text:
        return Text(words.plain(said, encoding), style)

    for finding in _shown(report):
        head = text(f"{finding.severity:<{_INDENT}}", _STYLES[finding.severity])
        head.append(words.plain(str(finding.where) or "this host", encoding), "bold").append(f"  {finding.id}", "dim")
        yield head
        yield Padding(text(finding.what), (0, 0, 0, _INDENT))
        yield Padding(text(f"fix: {finding.fix}"), (0, 0, 0, _INDENT))
    yield from (text(line, "dim") for line in _more(report))
    if report.not_known:
        yield text("not known", "bold")
    for unknown in report.not_known:
        yield Padding(text(f"{unknown.subject}: {unknown.why}"), (0, 0, 0, _INDENT))
    worst = report.worst()
    yield text(count(report), _STYLES[worst] if worst else "green")


def lines(report: Report) -> Iterator[str]:
    """For a pipe: one line for each finding, with its severity and its id first."""
    for finding in _shown(report):
        where = f"{finding.where}: " if str(finding.where) else ""
        yield words.plain(f"{finding.severity} {finding.id} {where}{finding.what}; fix: {finding.fix}")
    yield from _more(report)
    for unknown in report.not_known:
        yield words.plain(f"not known {_of(unknown)}")
    yield count(report)


def count(report: Report) -> str:
    """What all of it comes to: `2 errors, 1 warning; 31 checks, 2 of them incomplete`."""
    found = {severity: sum(one.severity is severity for one in report.findings) for severity in WORST_FIRST}
    parts = [words.count(number, name) for severity, number in found.items() if number for name in (_noun(severity),)]
    missing = len({unknown.subject for unknown in report.not_known})
    rest = f", {missing} not known" if missing else ""
    return f"{', '.join(parts) or 'nothing found'}: {words.count(report.done, 'check')}{rest}"


def _noun(severity: Severity) -> str:
    return "note" if severity is Severity.INFO else str(severity)


def _of(unknown: NotKnown) -> str:
    return f"{unknown.subject}: {unknown.why}"


def _shown(report: Report) -> Iterator[Finding]:
    return chain.from_iterable(found[:MOST] for found in _by_kind(report))


def _more(report: Report) -> Iterator[str]:
    for found in _by_kind(report):
        if len(found) > MOST:
            yield f"and {len(found) - MOST:,} more of {found[0].id}; --json has all"


def _by_kind(report: Report) -> list[list[Finding]]:
    kinds: dict[str, list[Finding]] = {}
    for finding in report.findings:
        kinds.setdefault(finding.id, []).append(finding)
    return list(kinds.values())
