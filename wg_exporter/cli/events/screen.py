"""Events as a table for the terminal: when, where, whom, and what in words."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.cells import cell_len, set_cell_size

from wg_exporter.events import Kind, Level
from wg_exporter.events.words import what
from wg_exporter.status import words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wg_exporter.events import Event

_TITLES = ("time", "interface", "peer", "what happened")
_WIDEST = 40  # cells of a peer
_COLOURS = {Level.WARN: "yellow", Level.ERROR: "red"}


class Widths(NamedTuple):
    """Of the columns before the last, in cells."""

    interface: int = len(_TITLES[1])
    peer: int = len(_TITLES[2])

    @classmethod
    def of(cls, events: Iterable[Event], encoding: str) -> Widths:
        """Wide enough for all of these."""
        rows = [(cell_len(_where(one, encoding)), cell_len(_who(one, encoding))) for one in events]
        least = cls()
        interface = max((row[0] for row in rows), default=0)
        peer = max((row[1] for row in rows), default=0)
        return cls(max(interface, least.interface), min(max(peer, least.peer), _WIDEST))


def head(widths: Widths) -> str:
    """The line above."""
    return _columns(_TITLES[0], _TITLES[1], _TITLES[2], _TITLES[3], widths)


def line(one: Event, widths: Widths, encoding: str) -> str:
    """An event, by the clock of this host."""
    moment = f"{datetime.fromtimestamp(one.time).astimezone():%Y-%m-%d %H:%M:%S}"
    said = words.plain(what(one), encoding)
    coloured = click.style(said, fg=_COLOURS[one.level]) if one.level in _COLOURS else said
    return _columns(moment, _where(one, encoding), _who(one, encoding), coloured, widths)


def _columns(moment: str, where: str, who: str, said: str, widths: Widths) -> str:
    return f"{moment:19}  {_fit(where, widths.interface)}  {_fit(who, widths.peer)}  {said}"


def _fit(text: str, width: int) -> str:
    return text if cell_len(text) > width and width < _WIDEST else set_cell_size(text, width)


def _where(one: Event, encoding: str) -> str:
    return words.plain(one.interface + (f" in {one.netns}" if one.netns else ""), encoding)


def _who(one: Event, encoding: str) -> str:
    if one.kind is Kind.PROCESS or not one.interface:
        return ""
    return words.plain(one.name or one.public_key[:8] or "(all)", encoding)
