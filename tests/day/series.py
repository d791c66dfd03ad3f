"""The series of a day in the notation of promtool's tests, with the gaps and stale markers of a real Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.day.rules import Rules
    from tests.day.scrapes import Scrapes

JOB = "wireguard"


def inputs(scrapes: Scrapes, rules: Rules) -> Iterator[tuple[str, str]]:
    """The series of one target that the rules read, and their values."""
    target = (("job", JOB), ("instance", scrapes.instance))
    yield named("up", target), up(scrapes)
    known: dict[tuple[tuple[int, float | None], ...], str] = {}  # most series are alike
    for (name, labels), points in scrapes.points.items():
        pairs = (*target, *labels)
        if rules.read(name, dict(pairs)):
            shape = tuple(points)
            if shape not in known:
                known[shape] = values(points, scrapes.lost, scrapes.number)
            yield named(name, pairs), known[shape]


def named(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """A series as it is written."""
    inside = ",".join(f'{label}="{value}"' for label, value in labels)
    return f"{name}{{{inside}}}"


def up(scrapes: Scrapes) -> str:
    """What Prometheus itself says of the target: it is there at every scrape."""
    return values([(0, 1.0)], (), scrapes.number, zeros=set(scrapes.lost))


def values(
    points: Sequence[tuple[int, float | None]], lost: Sequence[int], number: int, zeros: set[int] | None = None
) -> str:
    """The values at so many scrapes: `points` say when they change. What is lost, or gone, goes stale at once."""
    changes, missing = dict(points), set(lost)
    found: list[str] = []
    value: float | None = None
    for at in range(number):
        value = changes.get(at, value)
        if zeros is not None and at in zeros:
            found.append("0")
        elif at in missing or value is None:
            found.append("_")
        else:
            found.append(f"{value:.15g}")
    for at in range(1, number):
        if found[at] == "_" and found[at - 1] not in {"_", "stale"}:
            found[at] = "stale"
    return " ".join(_runs(found))


def _runs(found: Sequence[str]) -> Iterator[str]:
    """`ax3` is a, and a three times more."""
    begin = 0
    for at in range(1, len(found) + 1):
        if at == len(found) or found[at] != found[begin]:
            again = at - begin - 1
            if found[begin] == "stale" or not again:
                yield from (found[begin],) * (again + 1)
            else:
                yield f"_x{again + 1}" if found[begin] == "_" else f"{found[begin]}+0x{again}"
            begin = at
