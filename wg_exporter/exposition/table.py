"""The lines of one device's peers, kept from scrape to scrape: a column of them for each metric.

A scrape of 10,000 peers is 160,000 lines, of which few differ from the scrape before. Names and labels stay while
values move. So kept are the labels of each peer, the text of each value, and the blocks of bytes that they were joined
to when last asked for. What is the very object of last time is not looked at, and a block in which nothing moved is the
same object as last time, for those who compress it.
"""

from __future__ import annotations

from itertools import chain, compress, repeat
from operator import floordiv, is_, is_not
from typing import TYPE_CHECKING, Any, NamedTuple

from wg_exporter.exposition.text import NOT_UNICODE, escape, inner
from wg_exporter.model import Peer, Peers, differences, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wg_exporter.catalogue import Metric
    from wg_exporter.exposition.parts import Field, Pairs, Rows, Source

# Lines that are joined and kept as one piece. Writes of half a megabyte keep a socket busy, and a peer that moves
# costs no more than that to join again.
BLOCK = 4096

_PIECES = 4  # of a line: its name with the line feed before it, the labels of the peer, those of the line, the value


class Column:
    """The lines of one metric, as many for each peer as it has points. `heads` are the labels of the peers."""

    __slots__ = ("_blocks", "_heads", "_names", "_peers", "_tails", "_texts", "field")

    def __init__(self, field: Field, heads: list[str], netns: str) -> None:
        self.field = field
        own = f',netns="{escape(netns)}"' if netns else ""
        self._heads = heads
        self._names = [f"\n{field.metric.name}{point.suffix}" for point in field.points]
        self._tails = [f"{_continued(point.labels)}{own}}} " for point in field.points]
        if field.labels is not None:
            self._tails = [f"{own}}} 1"]
        self._texts = [""] * (len(heads) * len(field.points))
        self._peers = max(1, BLOCK // len(field.points))  # in a block
        self._blocks: list[bytes | None] = [None] * -(-len(heads) // self._peers)

    def put(self, places: Sequence[int], cells: Sequence[Sequence[Any]]) -> None:
        """What the fields of these peers are now, by column. The peers are in order."""
        texts, points = _texts(self.field, cells), len(self._names)
        if len(places) == len(self._heads):
            self._texts = texts
        elif points == 1:
            for place, text in zip(places, texts, strict=True):
                self._texts[place] = text
        else:
            for number, place in enumerate(places):
                self._texts[place * points : (place + 1) * points] = texts[number * points : (number + 1) * points]
        self.forget(places)

    def forget(self, places: Sequence[int]) -> None:
        """The lines of these peers have to be joined again."""
        for block in set(map(floordiv, places, repeat(self._peers))):
            self._blocks[block] = None

    def blocks(self) -> list[bytes]:
        """All lines, in few chunks; none if no peer has one."""
        for number, block in enumerate(self._blocks):
            if block is None:
                self._blocks[number] = self._joined(number * self._peers, (number + 1) * self._peers)
        return [block for block in self._blocks if block]

    def _joined(self, first: int, end: int) -> bytes:
        """The lines of the peers from `first` to before `end`. Done for all at once, in C: this is most of a scrape of
        a busy device."""
        points, heads = len(self._names), self._heads[first:end]
        texts = self._texts[first * points : end * points]
        columns = [self._names * len(heads), heads, self._tails * len(heads), texts]
        if points > 1:
            columns[1] = [*chain.from_iterable(zip(*repeat(heads, points), strict=True))]
        if not all(texts):  # some are absent
            columns = [[*compress(column, texts)] for column in columns]
        if self.field.labels is not None:  # these are labels, and go before the tail
            columns[2], columns[3] = columns[3], columns[2]
        pieces = [""] * (_PIECES * len(columns[0]))
        for at, column in enumerate(columns):
            pieces[at::_PIECES] = column
        return "".join(pieces).encode(errors=NOT_UNICODE)


def _texts(field: Field, cells: Sequence[Sequence[Any]]) -> list[str]:
    """The text of each value, empty where it is absent."""
    if field.labels is not None:
        return [*map(_continued, map(field.labels, *cells))]
    values: Iterable[Any] = cells[0] if field.value is None else map(field.value, *cells)
    if len(field.points) > 1:
        values = chain.from_iterable(values)
    texts = [*map(repr, values)]
    return ["" if text == "None" else text for text in texts] if "None" in texts else texts


def _continued(pairs: Pairs) -> str:
    """Labels that follow others."""
    return f",{inner(pairs)}" if pairs else ""


class Table:
    """The lines of one device's peers. Not thread-safe."""

    def __init__(self) -> None:
        self._of: tuple[object, ...] = ()
        self._rows: Rows | None = None
        self._heads: dict[Callable[..., Pairs], list[str]] = {}
        self._columns: dict[Metric, Column] = {}

    def update(self, source: Source, fields: Sequence[Field]) -> None:
        """Render again what changed since the last call."""
        before = self._rows
        known = before if _identical(self._of, source.of) else None
        rows = known or source.make(*source.of)
        if before is not None and same(before.who[0], rows.who[0]):
            self._relabel(source.interface, before, rows)
        else:
            before, self._heads, self._columns = None, {}, {}
        changes = {} if before is None or before is rows else _changes(before, rows)
        self._columns = {
            field.metric: self._column(field, source, rows, changes.get(field.row))
            for field in fields
            if rows.who[0] and field.row in rows.rows
        }
        self._of, self._rows = source.of, rows

    def blocks(self, metric: Metric) -> list[bytes]:
        """All lines of a metric, in few chunks, each with the line feed before it; none if no peer has one."""
        return self._columns[metric].blocks() if metric in self._columns else []

    def _relabel(self, interface: str, before: Rows, rows: Rows) -> None:
        """Other labels for the peers of whom something changed that labels are made of."""
        moved = sorted(set().union(*map(differences, before.who[1:], rows.who[1:])))
        for who, heads in self._heads.items() if moved else ():
            now = [_head(who(interface, *(column[at] for column in rows.who))) for at in moved]
            changed = [at for at, head in zip(moved, now, strict=True) if heads[at] != head]
            for at, head in zip(moved, now, strict=True):
                heads[at] = head
            for column in self._columns.values():
                if column.field.who is who:
                    column.forget(changed)

    def _column(self, field: Field, source: Source, rows: Rows, change: _Change | None) -> Column:
        """The column of a field, brought up to date."""
        column = self._columns.get(field.metric)
        if column is None or column.field is not field:
            if field.who not in self._heads:
                who = map(field.who, repeat(source.interface), *rows.who)
                self._heads[field.who] = [*map(_head, who)]
            column = Column(field, self._heads[field.who], source.netns)
            found = _by_column(rows.rows[field.row])
            column.put(range(len(rows.who[0])), [found[name] for name in field.fields])
        elif change is not None:
            change.put(column)
        return column


def _identical(before: Sequence[object], after: Sequence[object]) -> bool:
    return len(before) == len(after) and all(map(is_, before, after))


def _head(pairs: Pairs) -> str:
    return "{" + inner(pairs)


class _Change(NamedTuple):
    """The rows of one type of the peers at `places`, who have another than before: by column, before and now."""

    places: Sequence[int]
    before: Mapping[str, Sequence[Any]]
    after: Mapping[str, Sequence[Any]]

    def put(self, column: Column) -> None:
        """Put what of this concerns a column in its place."""
        cells = [self.after[name] for name in column.field.fields]
        moved = [differences(self.before[name], self.after[name]) for name in column.field.fields]
        at = moved[0] if len(moved) == 1 else sorted(set().union(*moved))
        if not at:
            return
        if len(at) < len(self.places):
            cells = [[*map(values.__getitem__, at)] for values in cells]
        column.put([*map(self.places.__getitem__, at)], cells)


def _changes(before: Rows, after: Rows) -> dict[type, _Change]:
    """Of each type of row that changed, how. Rows that are equal are mostly the same object, so only that is asked."""
    found = {}
    for kind, now in after.rows.items():
        then = before.rows.get(kind)
        if then is None or then is now:
            continue
        if isinstance(then, Peers) and isinstance(now, Peers):
            found[kind] = _Change(range(len(now)), _by_column(then), _by_column(now))
        elif places := [*compress(range(len(now)), map(is_not, then, now))]:
            old, new = ([*map(rows.__getitem__, places)] for rows in (then, now))
            found[kind] = _Change(places, _by_column(old), _by_column(new))
    return found


def _by_column(rows: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """The fields of these rows, by name."""
    if isinstance(rows, Peers):
        return dict(zip(Peer._fields, rows.columns(), strict=True))
    return dict(zip(type(rows[0])._fields, zip(*rows, strict=True), strict=True))
