"""All checks, in the order in which they are made and documented."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.cli.check import clock, config, failover, host, paging, service, web, wireguard
from wg_exporter.cli.check.finding import Check, Report, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.cli.check.facts import Facts

SUBJECTS: Mapping[str, Sequence[Check]] = {
    "Configuration": config.CHECKS,
    "Web configuration": web.CHECKS,
    "Files of WireGuard": wireguard.CHECKS,
    "This host": host.CHECKS,
    "The exporter": service.CHECKS,
    "Clock": clock.CHECKS,
    "Paging": paging.CHECKS,
    "Failover": failover.CHECKS,
}
_UNUSABLE = (config.UNUSABLE.id, web.UNUSABLE.id)


def judge(facts: Facts) -> Report:
    """What is wrong, by all checks that the facts are enough for."""
    every = [check for checks in SUBJECTS.values() for check in checks]
    return run([check for check in every if facts.host is not None or not check.host], facts)


def unusable(report: Report) -> bool:
    """Whether a configuration can't be used at all."""
    return any(finding.id in _UNUSABLE for finding in report.findings)
