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
    from tests.day.pages import Labels, Page

ALERTS = Path(__file__).parents[2] / "alerts"
RULES = ALERTS / "wireguard.rules.yml"

GROUPED = 60.0  # seconds after the end of an alert in which another one of its group is the same incident

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


def judged(truth: Truth, found: list[Page], early: float = 0.0) -> Verdict:
    """Hold pages against the truth; they may begin this many seconds `early` (see `Page.of`)."""
    false = tuple(page for page in found if not any(page.of(outage, early) for outage in truth.outages))
    first = incidents(found)
    return Verdict(false, tuple(sum(page.of(outage, early) for page in first) for outage in truth.outages))


def incidents(found: list[Page]) -> list[Page]:
    """The first page of each incident: what is grouped with one that still fires is none of its own."""
    first: list[Page] = []
    open_: dict[Labels, float] = {}
    for page in found:
        end = open_.get(page.incident)
        if end is None or page.start > end + GROUPED:
            first.append(page)
        open_[page.incident] = max(page.end, end or 0.0)
    return first


def lived(seed: int, rules: Path, *, probing: bool = True, scrape: float = 15.0) -> tuple[Lived, list[Page]]:
    """Live through the day of this seed, with these rules."""
    with ProcessPoolExecutor(len(HALVES)) as pool:
        halves = [pool.submit(_half, seed, names, every, rules, probing, scrape) for names, every in HALVES.items()]
        done = [half.result() for half in halves]
    downs = tuple(chain.from_iterable(day.downs for day, _ in done))
    return Lived(done[0][0].truth, downs), [page for _, found in done for page in found]


def lived_at_both_ends(seed: int, rules: Path, *, scrape: float = 15.0) -> tuple[Lived, list[Page]]:
    """The same, where hubs and some of their peers have exporters, of these every second scraped through its tunnel."""
    return _half(seed, ("core", "edge"), 15, rules, True, scrape, both_ends=True)


def _half(
    seed: int, names: tuple[str, ...], every: int, rules: Path, probing: bool, scrape: float, *, both_ends: bool = False
) -> tuple[Lived, list[Page]]:
    day = live(seed, names, probing=probing, scrape=scrape, both_ends=both_ends)
    with tempfile.TemporaryDirectory(prefix="wg-day-") as directory:
        found = pages(day.scrapes, paging(rules), Path(directory), every)
    return Lived(day.truth, tuple(noticed for noticed in day.noticed if noticed.down)), found
