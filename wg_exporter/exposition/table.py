"""The lines of one device's peers, kept from scrape to scrape: a column of them for each metric.

A scrape of 10,000 peers has 160,000 lines, of which few differ from the scrape before: values move, names and labels
stay. So the labels of each peer, the text of each value, and the blocks of bytes that were made of them are kept. What
is the same object as last time is not looked at, and a block in which nothing moved is the same object as last time,
so that its compressed form can be kept too.
"""

from __future__ import annotations

from itertools import chain, compress, repeat
from operator import floordiv, is_not
from typing import TYPE_CHECKING, Any, NamedTuple

from wg_exporter.accounted import Packets
from wg_exporter.exposition.parts import Keep
from wg_exporter.exposition.text import NOT_UNICODE, escape, inner
from wg_exporter.model import Peers, differences, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wg_exporter.exposition.parts import Field, Pairs, Rows, Source
    from wg_exporter.metric import Metric

# Lines in a block: half a megabyte, enough to keep a socket busy, and all that is joined again when one peer moves.
BLOCK = 4096

# Rows that are kept by column.
_BY_COLUMN = (Peers, Packets)

# A line has four pieces: its name with the line feed before it, the labels of the peer, those of the line, the value.
_HEAD, _TEXT, _PIECES = 1, 3, 4


class Column:
    """The lines of one metric; each peer has one for each point of the metric."""

    __slots__ = ("_blocks", "_gaps", "_own", "_peers", "_pieces", "_stride", "field")

    def __init__(self, field: Field, heads: Sequence[str], netns: str) -> None:
        """`heads` are the labels of the peers."""
        self.field = field
        self._own = f',netns="{escape(netns)}"' if netns else ""
        shape = []
        for point in field.points:
            # If the other labels change, they are one piece with the value.
            tail = "" if field.labels else f"{_continued(point.labels)}{self._own}}} "
            shape += [f"\n{field.metric.name}{point.suffix}", "", tail, ""]
        self._stride = len(shape)
        self._pieces = shape * len(heads)
        for at in range(_HEAD, self._stride, _PIECES):
            self._pieces[at :: self._stride] = heads
        self._gaps = True  # a line may be absent
        self._peers = max(1, BLOCK // len(field.points))  # how many are in a block
        self._blocks: list[bytes | None] = [None] * -(-len(heads) // self._peers)

    def relabel(self, heads: Mapping[int, str]) -> None:
        """Other labels for the peers at these places."""
        for place, head in heads.items():
            first = place * self._stride
            self._pieces[first + _HEAD : first + self._stride : _PIECES] = [head] * len(self.field.points)
        self._forget(heads)

    def put(self, places: Sequence[int], cells: Sequence[Sequence[Any]]) -> None:
        """Take the fields of the peers at these places, by column. The places are in rising order."""
        texts, pieces, stride, points = self._texts(cells), self._pieces, self._stride, len(self.field.points)
        if len(texts) * _PIECES == len(pieces):
            pieces[_TEXT::_PIECES] = texts
            self._blocks = [None] * len(self._blocks)
            return
        if points == 1:
            for place, text in zip(places, texts, strict=True):
                pieces[place * _PIECES + _TEXT] = text
        else:
            for number, place in enumerate(places):
                first = place * stride
                pieces[first + _TEXT : first + stride : _PIECES] = texts[number * points : (number + 1) * points]
        self._forget(places)

    def blocks(self) -> list[bytes]:
        """All lines, in few chunks; none if no peer has one."""
        length = self._peers * self._stride
        for number, block in enumerate(self._blocks):
            if block is None:
                pieces = self._pieces[number * length : (number + 1) * length]
                texts = pieces[_TEXT::_PIECES] if self._gaps else ()
                if not all(texts):
                    pieces = [*compress(pieces, chain.from_iterable(zip(*repeat(texts, _PIECES), strict=True)))]
                self._blocks[number] = "".join(pieces).encode(errors=NOT_UNICODE)
        return [block for block in self._blocks if block]

    def _texts(self, cells: Sequence[Sequence[Any]]) -> list[str]:
        """The last piece of each line: the value, with the labels that change before it. Empty = the line is absent."""
        field = self.field
        if field.labels is not None:
            return [f"{_continued(more)}{self._own}}} 1" if more else "" for more in map(field.labels, *cells)]
        values: Iterable[Any] = cells[0] if field.value is None else map(field.value, *cells)
        texts = [*map(repr, values if len(field.points) == 1 else chain.from_iterable(values))]
        if "None" in texts:
            self._gaps = True
            return ["" if text == "None" else text for text in texts]
        if len(texts) * _PIECES == len(self._pieces):
            self._gaps = False
        return texts

    def _forget(self, places: Iterable[int]) -> None:
        """The lines of these peers have to be joined again."""
        for block in set(map(floordiv, places, repeat(self._peers))):
            self._blocks[block] = None


def _continued(pairs: Pairs) -> str:
    """Labels that follow others."""
    return f",{inner(pairs)}" if pairs else ""


class Table:
    """The lines of one device's peers. Not thread-safe."""

    def __init__(self) -> None:
        self._keep = Keep()
        self._rows: Rows | None = None
        self._heads: dict[Callable[..., Pairs], list[str]] = {}
        self._columns: dict[Metric, Column] = {}

    def update(self, source: Source, fields: Sequence[Field]) -> None:
        """Render again what changed since the last call."""
        before, rows = self._rows, source.rows(self._keep)
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
        self._rows = rows

    def blocks(self, metric: Metric) -> list[bytes]:
        """All lines of a metric, in few chunks, each with the line feed before it; none if no peer has one."""
        return self._columns[metric].blocks() if metric in self._columns else []

    def _relabel(self, interface: str, before: Rows, rows: Rows) -> None:
        """Make the labels again of peers of which something changed that labels are made of."""
        moved = set().union(*map(differences, before.who[1:], rows.who[1:]))
        for who, heads in self._heads.items() if moved else ():
            found = {at: _head(who(interface, *(column[at] for column in rows.who))) for at in moved}
            changed = {at: head for at, head in found.items() if heads[at] != head}
            for at, head in changed.items():
                heads[at] = head
            for column in self._columns.values():
                if column.field.who is who:
                    column.relabel(changed)

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


def _head(pairs: Pairs) -> str:
    return "{" + inner(pairs)


class _Change(NamedTuple):
    """The rows of one type that changed: those of the peers at `places`, by column, before and after."""

    places: Sequence[int]
    before: Mapping[str, Sequence[Any]]
    after: Mapping[str, Sequence[Any]]

    def put(self, column: Column) -> None:
        """Put into a column those of the changes that concern its fields."""
        cells = [self.after[name] for name in column.field.fields]
        moved = [differences(self.before[name], self.after[name]) for name in column.field.fields]
        at = moved[0] if len(moved) == 1 else sorted(set().union(*moved))
        if len(at) == len(self.places):
            column.put(self.places, cells)
        elif at:
            places = at if isinstance(self.places, range) else [*map(self.places.__getitem__, at)]
            column.put(places, [[*map(values.__getitem__, at)] for values in cells])


def _changes(before: Rows, after: Rows) -> dict[type, _Change]:
    """The changes by type of row. Rows that are equal are mostly the same object, so only identity is compared."""
    found = {}
    for kind, new in after.rows.items():
        old = before.rows.get(kind)
        if old is None or old is new:
            continue
        if isinstance(old, _BY_COLUMN) and isinstance(new, _BY_COLUMN):
            found[kind] = _Change(range(len(new)), _by_column(old), _by_column(new))
        elif places := [*compress(range(len(new)), map(is_not, old, new))]:
            moved = [[rows[at] for at in places] for rows in (old, new)]
            found[kind] = _Change(places, *map(_by_column, moved))
    return found


def _by_column(rows: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """The fields of these rows, by name."""
    if isinstance(rows, _BY_COLUMN):
        return dict(zip(rows.ROW._fields, rows.columns(), strict=True))
    return dict(zip(type(rows[0])._fields, zip(*rows, strict=True), strict=True))
