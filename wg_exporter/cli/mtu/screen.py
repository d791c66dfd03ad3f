"""How `wg-exporter mtu` shows what it does and what came of it, at a terminal or in a pipe.

While probing goes on, a terminal shows one line for each peer at work, redrawn in place; elsewhere there is a line for
each new phase of a peer. Both go to standard error, so that standard output has only results.

A result begins with the sentence, which is what a person came for. Commands are never wrapped, so that they can be
copied. All text from outside goes through `words.plain`, and none is read as markup.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from rich.live import Live
from rich.text import Text

from wg_exporter.cli.mtu.results import shared_devices
from wg_exporter.cli.show.screen import console
from wg_exporter.probed import Verdict
from wg_exporter.status import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from wg_exporter.cli.mtu.results import Asked, Result, Row

LEAST_ROOM = 30  # cells for what came back; if there are fewer, it gets a line of its own
REDRAW = 0.1  # seconds

_STYLES = {Verdict.OK: "bold green"} | dict.fromkeys(
    (Verdict.UNKNOWN, Verdict.INCONCLUSIVE, Verdict.FILTERED_LARGE), "bold yellow"
)
_ROW_STYLES = {True: "green", False: "red", None: ""}


class Phase(StrEnum):
    """What is being done for a peer, in the words of the progress display."""

    WAITING = "waiting"
    SEARCHING = "searching"
    HOP = "looking for the router where it shrinks"
    SILENT = "watching its byte counters, one to two minutes"
    DONE = "done"


class Doing(NamedTuple):
    """The progress of one peer. `known` is what is known so far, `seconds` how long it has been probed."""

    asked: Asked
    phase: Phase
    seconds: float = 0.0
    known: str = ""
    verdict: Verdict | None = None


class Progress(Protocol):
    """Where progress is shown; a context manager."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End, whatever happened, and leave the terminal as it was."""

    def update(self, doing: Sequence[Doing]) -> None:
        """Show this now. `doing` has all peers that were asked for, always in the same order."""


def progress(*, quiet: bool = False) -> Progress:
    """The display for standard error. `quiet`: none if that is no terminal, because a script reads the results."""
    stderr = console(sys.stderr)
    if stderr.is_terminal:
        return LiveProgress(stderr)
    return PlainProgress(stderr, quiet=quiet)


class LiveProgress:
    """On a terminal: the peers at work, redrawn in place, and removed at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def update(self, doing: Sequence[Doing]) -> None:
        """Draw all again."""
        self._live.update(self.picture(doing), refresh=True)

    def picture(self, doing: Sequence[Doing]) -> Text:
        """What stands on the terminal: those at work, as many as fit, and a summary."""
        room = max(self._console.height - 2, 1)
        working = [one for one in doing if one.phase not in (Phase.WAITING, Phase.DONE)]
        width = max((len(_label(one.asked)) for one in working[:room]), default=0)
        lines = []
        for one in working[:room]:
            line = Text(f"{_label(one.asked).ljust(width)}  {one.seconds:5.1f} s  ").append(one.phase.value, "cyan")
            if one.known:
                line.append(f"; {one.known}", "dim")
            line.truncate(self._console.width, overflow="ellipsis")
            lines.append(line)
        done = sum(one.phase is Phase.DONE for one in doing)
        lines.append(Text(f"{done:,} of {words.count(len(doing), 'peer')} done", "dim"))
        return Text("\n").join(lines)


class PlainProgress:
    """In a pipe, a log, a file: a line for each phase of a peer."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._told: dict[Asked, Phase] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, doing: Sequence[Doing]) -> None:
        """Tell what is new."""
        for one in doing:
            if self._quiet or one.phase is self._told.get(one.asked, Phase.WAITING):
                continue
            self._told[one.asked] = one.phase
            what = f"{one.phase}: {one.verdict}, {one.seconds:.1f} s" if one.verdict else one.phase.value
            self._console.print(f"{_label(one.asked)}: {what}", soft_wrap=True)


# --- the results ----------------------------------------------------------------------------------------------------


def show(results: Sequence[Result], console: Console) -> None:
    """Print all results, and how many there are to act on."""
    for result in results:
        for line in _result(result, console):
            console.print(line, soft_wrap=True)
        console.print()
    for sentence in shared_devices(results):
        _print_all(_wrapped(Text(_plain(sentence, console), "yellow"), console, 0), console)
    left = sum(result.asked.passed_over for result in results)
    checked = [result for result in results if not result.asked.passed_over]
    bad = [_plain(result.asked.name, console) for result in checked if result.advice.verdict is not Verdict.OK]
    total = f"{words.count(len(checked), 'peer')} checked, {len(bad):,} not ok"
    total += f": {words.first_of(bad)}" if bad else ""
    total += f"; {left:,} left out, which nobody expects up" if left else ""
    style = "green" if checked and not bad else "bold red"
    _print_all(_wrapped(Text(total, style), console, 0), console)


def _print_all(lines: Sequence[Text], console: Console) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _result(result: Result, console: Console) -> Iterator[Text]:
    asked, advice = result.asked, result.advice
    ok = advice.verdict is Verdict.OK
    head = Text()
    head.append("" if ok or asked.passed_over else "! ", "bold red")
    head.append(_plain(_label(asked), console), "bold").append("  ")
    head.append(advice.verdict.value, _STYLES.get(advice.verdict, "bold red"))
    if result.seconds:
        head.append(f"  {result.seconds:.1f} s", "dim")
    yield head
    yield from _wrapped(Text(_plain(advice.sentence, console)), console, 2)
    if asked.health.state:
        said = ", ".join(filter(None, (asked.health.state, asked.health.reason)))
        line = f"The exporter says: {said}" + (f": {asked.health.evidence}" if asked.health.evidence else "")
        if at := asked.health.reason_at or asked.health.changed_at:
            line += f" (seen {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC)"
        yield from _wrapped(Text(_plain(line, console), "dim"), console, 2)
    if result.hint:
        yield from _wrapped(Text(_plain(result.hint, console), "dim"), console, 2)
    if result.rows:
        yield Text("")
        yield from _table(result.rows, console)
    if advice.commands:
        yield Text("")
        yield from _commands(result, console)


def _table(rows: Sequence[Row], console: Console) -> Iterator[Text]:
    """The findings under their titles."""
    where = max(len(row.where) for row in rows)
    sent = max(len(row.sent) for row in rows)
    before = 2 + where + 2 + sent + 2
    yield Text(f"  {''.ljust(where)}  {'sent or asked'.ljust(sent)}  came back", "dim")
    for row in rows:
        line = Text(f"  {row.where.ljust(where)}  ").append(_plain(row.sent, console).ljust(sent) + "  ")
        answer = Text(_plain(row.came_back, console), _ROW_STYLES[row.good])
        if console.width - before >= LEAST_ROOM:
            first, *rest = _wrapped(answer, console, before)
            yield line.append_text(first[before:])
            yield from rest
        else:
            line.rstrip()
            yield from _wrapped(line, console, 0)
            yield from _wrapped(answer, console, 2 + where + 4)


def _commands(result: Result, console: Console) -> Iterator[Text]:
    """What to run and to write, here and on the far side."""
    advice, asked = result.advice, result.asked
    where = f" (in namespace {asked.netns})" if asked.netns else ""
    for title, commands, line in (
        (f"Here{where}:", advice.commands, advice.wg_quick),
        ("On the far side, with the name of its own interface:", advice.far_commands, advice.far_wg_quick),
        (f"Then, for a little more, here{where}:", advice.then_commands, advice.then_wg_quick),
    ):
        if not commands:
            continue
        yield Text(f"  {_plain(title, console)}", "dim")
        for command in commands:
            yield Text(f"    {_plain(command, console)}", "bold")
        if line:
            yield Text("  and, to keep it, under [Interface] of its wg-quick file:", "dim")
            yield Text(f"    {line}", "bold")
    if advice.caution:
        caution = f"{advice.caution[0].upper()}{advice.caution[1:]}."
        yield from _wrapped(Text(_plain(caution, console), "yellow"), console, 2)


def _wrapped(text: Text, console: Console, indent: int) -> list[Text]:
    """The text in lines that fit, each `indent` blanks from the left."""
    lines = []
    for line in text.wrap(console, max(console.width - indent, LEAST_ROOM)):
        line.rstrip()
        lines.append(Text(" " * indent).append_text(line))
    return lines


def _label(asked: Asked) -> str:
    place = f"{asked.interface} in {asked.netns}" if asked.netns else asked.interface
    return words.plain(f"{place} {asked.name}")


def _plain(text: str, console: Console) -> str:
    return words.plain(text, "utf-8" if console.encoding.startswith("utf") else console.encoding)
