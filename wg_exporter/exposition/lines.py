"""Lines of a metric that has several for each peer, some of which may be absent, kept from scrape to scrape.

Names and labels stay while values move. So a line is pieces: the name (with the line feed *before* it), the labels of
the peer, those of the line, and the value. Joining the pieces makes the text, and what did not move stays joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.exposition.text import NOT_UNICODE, escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.catalogue import Metric, Point

# Lines that are joined and kept as one piece.
BLOCK = 4096

_PIECES = 4  # of a line
_NO_LINE = ("",) * _PIECES


class Lines:
    """The lines of one metric, so many for each peer, and the blocks that they were joined to when last asked for."""

    __slots__ = ("_blanks", "_blocks", "_names", "_peers", "_pieces", "_stride", "_whole")

    def __init__(self, metric: Metric, points: Sequence[Point], heads: Sequence[str], netns: str) -> None:
        own = f',netns="{escape(netns)}"' if netns else ""
        shape = []
        for suffix, labels in points:
            tail = "".join(f',{name}="{value}"' for name, value in labels)
            shape.append((f"\n{metric.name}{suffix}", f"{tail}{own}}} "))
        self._whole = [piece for head in heads for name, tail in shape for piece in (name, head, tail, "")]
        self._pieces = list(self._whole)
        self._stride = _PIECES * len(shape)
        self._peers = max(1, BLOCK // len(shape))  # in a block
        self._blocks: list[bytes | None] = [None] * -(-len(heads) // self._peers)
        self._blanks: set[int] = set()  # the peers of whom a line is left out

    def put(self, places: Sequence[int], values: Sequence[float | None]) -> None:
        """Other values for these peers, who are in order; the line of a value that is None is left out."""
        if len(values) * _PIECES == len(self._pieces) and not self._blanks and None not in values:
            self._pieces[3::_PIECES] = map(repr, values)
            self._blocks = [None] * len(self._blocks)
            return
        points = len(values) // len(places)
        for number, place in enumerate(places):
            self._put_one(place, values[number * points : (number + 1) * points])
            self._blocks[place // self._peers] = None

    def _put_one(self, place: int, values: Sequence[float | None]) -> None:
        first, end = place * self._stride, (place + 1) * self._stride
        if place in self._blanks:
            self._pieces[first:end] = self._whole[first:end]
            self._blanks.discard(place)
        self._pieces[first + 3 : end : _PIECES] = map(repr, values)
        if None in values:
            self._blanks.add(place)
            for line, value in zip(range(first, end, _PIECES), values, strict=True):
                if value is None:
                    self._pieces[line : line + _PIECES] = _NO_LINE

    def blocks(self) -> list[bytes]:
        """All lines, in few chunks."""
        length = self._peers * self._stride
        for number, block in enumerate(self._blocks):
            if block is None:
                lines = "".join(self._pieces[number * length : (number + 1) * length])
                self._blocks[number] = lines.encode(errors=NOT_UNICODE)
        return [block for block in self._blocks if block]
