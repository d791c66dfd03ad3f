"""What a page is made of: samples one by one where there are few, and a `Section` where every peer has some.

A section says which metrics a peer has, and of which fields of its rows they are made. It is written in two ways.
`samples_of` makes every sample, for other people's registries. `table` makes lines and keeps them, for scrapes. The
tests compare the two.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from wg_exporter.metric import Metric, Point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Made = TypeVar("Made")

Pairs = tuple[tuple[str, str], ...]
"""Labels: names and values, in the order in which they are written."""


class Sample(NamedTuple):
    """One sample. `suffix` is what follows the name of the metric: `_bucket`, `_sum` or `_count` in a histogram."""

    metric: Metric
    labels: Pairs
    value: float
    suffix: str = ""


class Field(NamedTuple):
    """A metric that is made, for each peer, of these `fields` of its row of the type `row`.

    `who` makes the labels that tell the peers apart, from the interface's name and the peer's cell of each column of
    `Rows.who`. `value` makes the value from the fields, None = absent; without it, the one field is the value. With
    several `points` it makes a tuple with a value for each. A metric whose other labels change has `labels` in place of
    `value`, which makes these labels from the fields; its value is 1, and it is absent if there are none.
    """

    metric: Metric
    who: Callable[..., Pairs]
    row: type
    fields: tuple[str, ...]
    value: Callable[..., Any] | None = None
    points: tuple[Point, ...] = (Point(),)
    labels: Callable[..., Pairs] | None = None

    def series(self, row: object) -> Iterator[tuple[Point, float]]:
        """The points of one peer, each with its value."""
        cells = [getattr(row, field) for field in self.fields]
        if self.labels is not None:
            if pairs := self.labels(*cells):
                yield Point("", pairs), 1
            return
        value = cells[0] if self.value is None else self.value(*cells)
        for point, one in zip(self.points, value if len(self.points) > 1 else (value,), strict=True):
            if one is not None:
                yield point, one


class Rows(NamedTuple):
    """Peers by column; all columns run in parallel. A column that is the same object as last time is not looked at.

    `who` are the columns that labels are made of; the first has the public keys, no two equal. `rows` are the rows of
    each type, as `model.Peers` or a sequence.
    """

    who: tuple[Sequence[Any], ...]
    rows: Mapping[type, Sequence[Any]]


class Keep:
    """Calls functions, and returns the last result again if a function is called with the same objects as last time.

    A function gets the `Keep` before its arguments, to keep results of its own.
    """

    def __init__(self) -> None:
        self._known: dict[object, tuple[tuple[object, ...], object]] = {}

    def __call__(self, function: Callable[..., Made], *of: object) -> Made:
        """The function's result for these objects, which must never change."""
        known = self._known.get(function)
        if known is None or not all(map(is_, known[0], of)):
            known = self._known[function] = (of, function(self, *of))
        return cast("Made", known[1])


class Source(NamedTuple):
    """The peers of one device: `make(keep, *of)`, whose result depends on `of` alone."""

    netns: str
    interface: str
    make: Callable[..., Rows]
    of: tuple[object, ...]

    def rows(self, keep: Keep) -> Rows:
        """The peers; with the same `keep`, the same object as before while nothing changed."""
        return keep(self.make, *self.of)


class Section(NamedTuple):
    """Metrics of peers. A field that changes its meaning has to be another object."""

    fields: Sequence[Field]
    sources: Sequence[Source]

    def samples(self) -> Iterator[Sample]:
        """All samples, each family's together."""
        made = [(source, source.rows(Keep())) for source in self.sources]
        for field in self.fields:
            for source, rows in made:
                netns = (("netns", source.netns),) if source.netns else ()
                for *cells, row in zip(*rows.who, rows.rows.get(field.row, ()), strict=field.row in rows.rows):
                    who = field.who(source.interface, *cells)
                    for point, value in field.series(row):
                        yield Sample(field.metric, (*who, *point.labels, *netns), value, point.suffix)


Parts = tuple["Section | Iterable[Sample]", ...]
"""A page, from top to bottom."""


def samples_of(parts: Parts) -> Iterator[Sample]:
    """All samples of a page."""
    for part in parts:
        yield from part.samples() if isinstance(part, Section) else part
