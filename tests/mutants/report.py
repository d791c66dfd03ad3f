"""What became of the drawn changes: the count, and a page with every change that nobody noticed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.mutants.judge import OVERDUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.mutants.judge import Outcome

EXPLAINED = Path(__file__).with_name("explained.toml")
GOAL = 95.0  # per cent of the changes that change something


class Explained(NamedTuple):
    """A change that changes nothing, and why."""

    file: str
    change: str
    reason: str


def explained(text: str) -> list[Explained]:
    """What explained.toml says."""
    return [Explained(row["file"], row["change"], row["reason"]) for row in tomllib.loads(text).get("mutant", ())]


class Report:
    """The outcomes, with those explained that are known to change nothing."""

    def __init__(self, outcomes: Iterable[Outcome], known: Iterable[Explained]) -> None:
        reasons = {(row.file, row.change): row.reason for row in known}
        self.outcomes = sorted(outcomes, key=lambda outcome: outcome.mutant.name)
        self.noticed: list[Outcome] = []
        self.survived: list[Outcome] = []
        self.equivalent: list[tuple[Outcome, str]] = []
        for outcome in self.outcomes:
            reason = reasons.get((outcome.mutant.file, outcome.mutant.change))
            if outcome.by:
                self.noticed.append(outcome)
            elif reason:
                self.equivalent.append((outcome, reason))
            else:
                self.survived.append(outcome)

    def count(self) -> str:
        """The count, in a line for each place and one for all."""
        places = list(dict.fromkeys(outcome.mutant.place.name for outcome in self.outcomes))
        lines = [self._count(place, [place]) for place in places]
        return "\n".join(lines if len(lines) == 1 else [*lines, self._count("all", places)])

    def _count(self, title: str, places: Sequence[str]) -> str:
        noticed = [outcome for outcome in self.noticed if outcome.mutant.place.name in places]
        survived = sum(outcome.mutant.place.name in places for outcome in self.survived)
        equivalent = sum(outcome.mutant.place.name in places for outcome, _ in self.equivalent)
        typed = sum(outcome.by == "mypy" for outcome in noticed)
        late = sum(OVERDUE in outcome.by for outcome in noticed)
        share = 100 * len(noticed) / (len(noticed) + survived) if noticed or survived else 100.0
        by = f"{typed} by mypy alone, {late} by taking long"
        return (
            f"{title}: noticed {len(noticed)} ({by}), survived {survived}, equivalent {equivalent}; "
            f"noticed of those that change something: {share:.1f} %"
        )

    def page(self, title: str) -> str:
        """All of it as Markdown."""
        counts = "".join(f"- {line}\n" for line in self.count().splitlines())
        return "\n".join([f"# {title}\n", counts, f"Goal: {GOAL:g} %.\n", *self._parts()])

    def _parts(self) -> Iterator[str]:
        yield "## Survived\n"
        for outcome in self.survived:
            yield f"{outcome.mutant.name}\n\n```diff\n{outcome.mutant.diff}```\n"
        yield "## Equivalent\n"
        for outcome, reason in self.equivalent:
            yield f"{outcome.mutant.name}: {reason}\n\n```diff\n{outcome.mutant.diff}```\n"
        yield "## All\n"
        yield "| place | where | noticed by | seconds |\n| --- | --- | --- | --- |"
        for mutant, by, seconds in self.outcomes:
            yield f"| {mutant.place.name} | {mutant.name} | {by.replace('|', '/') or '-'} | {seconds:.0f} |"
        yield ""
