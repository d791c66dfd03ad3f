"""What a diagnosis says, as an object for scripts. Whoever prints the texts has to make them safe for a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.causes.cause import Cause

if TYPE_CHECKING:
    from wg_exporter.causes.cause import Finding
    from wg_exporter.cli.diagnose.choice import Chosen

FINE, FAULT, NOT_LOOKED = 0, 1, 2
"""Exit codes: nothing is wrong, a cause was found, nothing could be said."""


class Result(NamedTuple):
    """The finding, how long it took in seconds, and lines about the packets, if somebody wants to see them."""

    chosen: Chosen
    finding: Finding
    seconds: float
    not_looked: tuple[str, ...] = ()
    packets: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        if self.finding.cause.fault:
            return FAULT
        return NOT_LOOKED if self.finding.cause is Cause.UNKNOWN else FINE

    @property
    def uncertain(self) -> tuple[str, ...]:
        """What remains uncertain, a sentence each."""
        told = self.finding.uncertain
        unseen = [one for one in self.not_looked if one not in told]
        return tuple(filter(None, (told, *(f"Not looked at: {one}." for one in unseen))))


def to_json(result: Result) -> str:
    """The object that docs/cli.md describes. Only ASCII is written."""
    chosen, finding = result.chosen, result.finding
    netns, interface, public_key = chosen.key
    return json.dumps(
        {
            "interface": interface,
            "netns": netns,
            "public_key": public_key,
            "peer": chosen.name,
            "cause": finding.cause.value,
            "confidence": finding.confidence.value,
            "evidence": list(finding.evidence),
            "excluded": [{"cause": cause.value, "because": why} for cause, why in finding.excluded],
            "also": [cause.value for cause in finding.also],
            "fix": [line.replace("`", "") for line in finding.fix],
            "uncertain": list(result.uncertain),
            "state": chosen.health.state,
            "reason": chosen.health.reason,
            "elapsed_seconds": round(result.seconds, 3),
        },
        indent=2,
    )
