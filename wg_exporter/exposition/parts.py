"""What a page is made of: samples one by one where there are few, and a `Section` where every peer has some.

A section says which metrics a peer has, and of which fields of its rows they are made. Two ways lead from there to
bytes. `samples_of` makes every sample, for other people's registries. `table` makes lines and keeps them, for scrapes.
The tests hold the two against each other.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from wg_exporter.catalogue import Metric, Point

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

    `who` makes the labels that tell the peers apart, of the interface's name and the peer's cell of each column of
    `Rows.who`. `value` makes the value of the fields; without it, the one field is the value. Where there are several
    `points`, it makes a tuple, with a value for each. None = absent. A metric whose other labels change has `labels` in
    place of `value`, which makes them of the fields: its value is always 1, and without any labels it is absent.
    """

    metric: Metric
    who: Callable[..., Pairs]
    row: type
    fields: tuple[str, ...]
    value: Callable[..., Any] | None = None
    points: tuple[Point, ...] = (Point(),)
    labels: Callable[..., Pairs] | None = None

    def series(self, row: object) -> Iterator[tuple[Point, float]]:
        """What there is of one peer."""
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
    """Peers by column; all columns run in parallel. Nothing is looked at in a column that is the object of last time.

    `who` are the columns that labels are made of; the first is of keys, of which no two are equal. `rows` are the
    rows of each type, `model.Peers` or a sequence.
    """

    who: tuple[Sequence[Any], ...]
    rows: Mapping[type, Sequence[Any]]


class Keep:
    """Calls functions, and gives what one gave last time where it is called with the very same objects again.

    A function gets the `Keep` before its arguments, for what it wants to keep itself.
    """

    def __init__(self) -> None:
        self._known: dict[object, tuple[tuple[object, ...], object]] = {}

    def __call__(self, function: Callable[..., Made], *of: object) -> Made:
        """What the function makes of these objects. They must not change: others have to come instead."""
        known = self._known.get(function)
        if known is None or not all(map(is_, known[0], of)):
            known = self._known[function] = (of, function(self, *of))
        return cast("Made", known[1])


class Source(NamedTuple):
    """The peers of one device: `make(keep, *of)`, which makes the same while `of` are the same objects."""

    netns: str
    interface: str
    make: Callable[..., Rows]
    of: tuple[object, ...]

    def rows(self, keep: Keep) -> Rows:
        """The peers; the same object as before for who keeps `keep`, while nothing changed."""
        return keep(self.make, *self.of)


class Section(NamedTuple):
    """Metrics of peers. A field that is the same object as before means what it meant before."""

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
