"""How `wg-exporter diagnose` shows what it does and what came of it, at a terminal or in a pipe.

What is being looked at stands on standard error, a line each as it becomes known; the result on standard output. It
begins with the sentence, which is what a person came for. Commands are never wrapped, so that they can be copied. All
text from outside goes through `words.plain`, and none is read as markup.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.text import Text

from wg_exporter.causes.cause import Cause, Confidence
from wg_exporter.causes.decide import meaning
from wg_exporter.cli.show.screen import console
from wg_exporter.status import words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from wg_exporter.cli.diagnose.result import Result

LEAST_ROOM = 30  # cells for a text; a narrower terminal wraps by itself
_SURE = {
    Confidence.CERTAIN: "certain",
    Confidence.LIKELY: "likely",
    Confidence.POSSIBLE: "one of several that fit",
}


class Progress:
    """Lines on standard error, with the seconds since the beginning."""

    def __init__(self) -> None:
        self._console = console(sys.stderr)

    def tell(self, seconds: float, line: str) -> None:
        """One line."""
        text = Text(f"{seconds:5.1f} s  ", "dim").append(_plain(line, self._console), "")
        self._console.print(text, soft_wrap=True)

    def say(self, line: str) -> None:
        """A line without a time, whoever reads."""
        self._console.print(Text(_plain(line, self._console)), soft_wrap=True)


def show(result: Result, console: Console) -> None:
    """Print the result."""
    for line in _lines(result, console):
        console.print(line, soft_wrap=True)


def _lines(result: Result, console: Console) -> Iterator[Text]:
    finding, chosen = result.finding, result.chosen
    if result.packets:
        yield Text("On the wire:", "dim")
        yield from (Text(f"  {_plain(line, console)}") for line in result.packets)
        yield Text("")
    place = f"{chosen.key[1]} in {chosen.key[0]}" if chosen.key[0] else chosen.key[1]
    fault = finding.cause.fault
    head = Text("! " if fault else "", "bold red")
    head.append(_plain(f"{place} {chosen.name}", console), "bold").append("  ")
    style = "bold red" if fault else "bold yellow" if finding.cause is Cause.UNKNOWN else "bold green"
    head.append(finding.cause.value, style)
    head.append(f"  {_SURE[finding.confidence]}", "dim") if fault else None
    head.append(f"  {result.seconds:.1f} s", "dim")
    yield head
    yield from _wrapped(meaning(finding.cause), console, "  ")
    if finding.evidence:
        yield from _section("What shows it:", finding.evidence, console)
    if finding.also:
        yield from _section("It may also be:", [f"{one}: {meaning(one)}" for one in finding.also], console)
    if finding.excluded and fault:
        excluded = [f"{cause}: {why}" for cause, why in finding.excluded]
        yield from _section("What it is not:", excluded, console, style="dim")
    if finding.fix:
        yield Text("")
        yield Text("  What to do:", "dim")
        for line in finding.fix:
            yield from _fix(line, console)
    if result.uncertain:
        yield from _section("What remains uncertain:", result.uncertain, console, style="yellow")


def _section(title: str, lines: tuple[str, ...] | list[str], console: Console, *, style: str = "") -> Iterator[Text]:
    yield Text("")
    yield Text(f"  {title}", "dim")
    for line in lines:
        yield from _wrapped(line, console, "  - ", style)


def _fix(line: str, console: Console) -> Iterator[Text]:
    """A step; a command stands alone in its line, so that it can be copied."""
    text = _plain(line, console)
    if text.startswith("`") and text.count("`") == 2 and text.endswith("`"):
        yield Text("    ").append(text.strip("`"), "bold")
        return
    yield from _wrapped(text, console, "  - ")


def _wrapped(text: str, console: Console, indent: str, style: str = "") -> Iterator[Text]:
    """The text in lines that fit; the first begins with `indent`, the others with as many blanks."""
    room = max(console.width - len(indent), LEAST_ROOM)
    before = indent
    for line in Text(_plain(text, console), style).wrap(console, room):
        line.rstrip()
        yield Text(before).append_text(line)
        before = " " * len(indent)


def _plain(text: str, console: Console) -> str:
    return words.plain(text, "utf-8" if console.encoding.startswith("utf") else console.encoding)
