"""Who is woken: Prometheus evaluates the rules over the day, and what is critical is a page, for none is inhibited.

`promtool test rules` is the engine of Prometheus, with its staleness, on made series. It is asked at each evaluation
what fires, told to expect nothing, and so prints all that does.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tests.day.loop import BEGIN, DAY
from tests.day.series import inputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.day.plan import Outage
    from tests.day.rules import Rules
    from tests.day.scrapes import Scrapes

FIRING = 'ALERTS{alertstate="firing",severity="critical"}'
AFTERWARDS = 600.0  # seconds for which an alert may go on after the outage has ended
_ASKED = re.compile(r"\btime: (\S+),$", re.MULTILINE)
_SAMPLE = re.compile(r"\{(__name__=.*?)\} 1E\+00")
_PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

Labels = frozenset[tuple[str, str]]


class Page(NamedTuple):
    """An alert that fired from one moment to another, in seconds since the tunnels were set up."""

    labels: Labels
    start: float
    end: float

    def of(self, outage: Outage, early: float = 0.0) -> bool:
        """Whether it speaks of this outage. It may begin this many seconds `early`, for promtool has the scrapes of all
        hosts at the beginning of their interval.
        """
        labels = dict(self.labels)
        if not outage.start <= self.start + early <= outage.end + AFTERWARDS + early:
            return False
        if labels.get("instance") == outage.host:
            return labels.get("interface") == outage.interface and labels.get("public_key", "") in {"", *outage.keys}
        # As the far ends see it.
        return labels.get("tunnel") in outage.tunnels or labels.get("hub") == outage.hub

    @property
    def incident(self) -> Labels:
        """What the example of an Alertmanager groups it by."""
        labels = dict(self.labels)
        for name in ("tunnel", "hub"):
            if name in labels:
                return frozenset({("job", labels["job"]), (name, labels[name])})
        return self.labels

    def __str__(self) -> str:
        labels = dict(self.labels)
        what = " ".join(labels.get(name, "-") for name in ("alertname", "instance", "interface", "public_key"))
        return f"{what} from {self.start:.0f} to {self.end:.0f} s"


def evaluate(
    series: Sequence[tuple[str, str]],
    rules: Rules,
    directory: Path,
    *,
    every: int,
    query: str = FIRING,
    scrape: float = 15.0,
) -> dict[float, set[Labels]]:
    """What the query finds, by default what fires, at each evaluation of the rules, `every` so many seconds. A value
    of a series is that of one scrape, and these are `scrape` seconds apart.
    """
    (directory / "rules.yml").write_text(rules.text())
    last = int(DAY)
    test = directory / "day.yml"
    with test.open("w") as out:
        out.writelines(_test(series, every, last, query, scrape))
    command = ["promtool", "test", "rules", str(test)]
    lavish = os.environ | {
        "GOGC": "400"
    }  # garbage is collected less often: half a GB of memory for a fifth of the time
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=lavish, check=False)
    printed = done.stdout + done.stderr
    # Before each answer stands when it was asked.
    parts = _ASKED.split(printed)
    found = {
        BEGIN + _seconds(time): {frozenset(_PAIR.findall(text)) for text in _SAMPLE.findall(answer)}
        for time, answer in zip(parts[1::2], parts[2::2], strict=True)
    }
    if done.returncode and not found:
        raise RuntimeError(printed[-2000:])
    return found


def _test(series: Sequence[tuple[str, str]], every: int, last: int, query: str, scrape: float) -> Iterator[str]:
    yield f"rule_files: [rules.yml]\nevaluation_interval: {every}s\ntests:\n- interval: {scrape:.0f}s\n"
    yield "  input_series:\n"
    anchors: dict[str, str] = {}
    for name, values in series:
        yield f"  - series: '{name}'\n"
        if values in anchors:
            yield f"    values: *{anchors[values]}\n"
        else:
            anchors[values] = f"v{len(anchors)}"
            yield f"    values: &{anchors[values]} '{values}'\n"
    yield "  promql_expr_test:\n"
    for at in range(0, last, every):
        yield f"  - {{expr: {query!r}, eval_time: {at}s}}\n"


def _seconds(time: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|[dhms])", time))


def episodes(firing: dict[float, set[Labels]], every: float) -> list[Page]:
    """Each alert from its first evaluation to its last, without a break between."""
    open_: dict[Labels, list[float]] = {}
    done: list[Page] = []
    for at in sorted(firing):
        for labels in firing[at]:
            span = open_.get(labels)
            if span and at - span[1] <= every * 1.5:
                span[1] = at
            else:
                if span:
                    done.append(Page(labels, *span))
                open_[labels] = [at, at]
    done += [Page(labels, *span) for labels, span in open_.items()]
    return sorted(done, key=lambda page: page.start)


def pages(scrapes: Sequence[Scrapes], rules: Rules, directory: Path, every: int) -> list[Page]:
    """All pages of a day."""
    series = [found for one in scrapes for found in inputs(one, rules)]
    (scrape,) = {one.seconds for one in scrapes}
    return episodes(evaluate(series, rules, directory, every=every, scrape=scrape), every)
