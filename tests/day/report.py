"""A whole day on two cores, from the seed to the verdict: what was paged, held against what happened."""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.day.pages import pages
from tests.day.plan import Truth, live
from tests.day.rules import paging

if TYPE_CHECKING:
    from tests.day.host import Noticed
    from tests.day.pages import Page

ALERTS = Path(__file__).parents[2] / "alerts"
RULES = ALERTS / "wireguard.rules.yml"

# The rules know nothing that is true of two of these hosts at once, so each half has an engine of its own. Where nobody
# is expected up, it is enough to ask every minute: seconds between two evaluations.
HALVES = {("core", "edge"): 15, ("gateway",): 60}


class Lived(NamedTuple):
    """A day, as far as it can be told. `downs` are the moments at which peers went down or came back."""

    truth: Truth
    downs: tuple[Noticed, ...]


class Verdict(NamedTuple):
    """How pages and outages fit together. `paged` has the number of pages of each outage."""

    false: tuple[Page, ...]
    paged: tuple[int, ...]

    @property
    def right(self) -> bool:
        """Every outage was paged once, and nothing else."""
        return not self.false and all(number == 1 for number in self.paged)

    @property
    def missed(self) -> int:
        """How many outages woke nobody."""
        return self.paged.count(0)

    def __str__(self) -> str:
        told = "".join(f"\nfalse: {page}" for page in self.false)
        return f"pages of each outage: {self.paged}, missed: {self.missed}, false pages: {len(self.false)}{told}"


def judged(truth: Truth, found: list[Page]) -> Verdict:
    """Hold pages against the truth."""
    false = tuple(page for page in found if not any(page.of(outage) for outage in truth.outages))
    return Verdict(false, tuple(sum(page.of(outage) for page in found) for outage in truth.outages))


def lived(seed: int, rules: Path, *, probing: bool = True) -> tuple[Lived, list[Page]]:
    """Live through the day of this seed, with these rules."""
    with ProcessPoolExecutor(len(HALVES)) as pool:
        halves = [pool.submit(_half, seed, names, every, rules, probing) for names, every in HALVES.items()]
        done = [half.result() for half in halves]
    downs = tuple(chain.from_iterable(day.downs for day, _ in done))
    return Lived(done[0][0].truth, downs), [page for _, found in done for page in found]


def _half(seed: int, names: tuple[str, ...], every: int, rules: Path, probing: bool) -> tuple[Lived, list[Page]]:
    day = live(seed, names, probing=probing)
    with tempfile.TemporaryDirectory(prefix="wg-day-") as directory:
        found = pages(day.scrapes, paging(rules), Path(directory), every)
    return Lived(day.truth, tuple(noticed for noticed in day.noticed if noticed.down)), found
