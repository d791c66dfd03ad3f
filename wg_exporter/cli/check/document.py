"""The report as JSON, for scripts. In version 1 keys may be added, and none is removed or changes its meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wg_exporter.cli.check.finding import Finding, Report

VERSION = 1


def to_json(report: Report) -> str:
    """All findings, the worst first. Only ASCII is written; what does not apply to a place is left out of it."""
    said = {
        "version": VERSION,
        "findings": list(map(_finding, report.findings)),
        "not_known": [{"subject": one.subject, "why": one.why} for one in report.not_known],
        "checks_done": report.done,
    }
    return json.dumps(said, indent=2)


def _finding(finding: Finding) -> dict[str, object]:
    where = {name: value for name, value in finding.where._asdict().items() if value}
    return {
        "id": finding.id,
        "severity": str(finding.severity),
        "where": where,
        "what": finding.what,
        "fix": finding.fix,
    }
