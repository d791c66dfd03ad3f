"""Draw docs/images/show.svg: the output of `wg-exporter show`, colours and all, as a picture for the README.

It is a picture of a real terminal, so nothing can check that it is fresh. To draw it again, let the demo run for four
minutes (then the dead peer is seen to be dead), and in another terminal:

    FORCE_COLOR=1 COLUMNS=150 .venv/bin/wg-exporter show --socket SOCKET_OF_THE_DEMO |
        .venv/bin/python docs/draw_show.py

Every word stands at the place of its first column and takes the width of its columns, whatever font the reader has.
rich's own export leaves gaps to non-breaking spaces, which some programs swallow, and fetches a font from elsewhere.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from rich.color import Color
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI, TerminalTheme
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.style import Style

PICTURE = Path(__file__).resolve().parent / "images" / "show.svg"

COLUMN, LINE, MARGIN = 8.4, 20, 16  # pixels; a column is 0.6 of the font's size, as in most fonts of fixed width
THEME: TerminalTheme = DIMMED_MONOKAI

_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{label}">
<style>text {{ font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }}</style>
<rect width="100%" height="100%" rx="8" fill="{background}"/>
{words}
</svg>
"""
_WORDS = re.compile(r"\S+(?: \S+)*")  # one space stays within, two part columns


def draw(output: str) -> str:
    """The picture of what a terminal shows for this output."""
    lines = list(Text.from_ansi(output.rstrip()).split())
    for line in lines:
        line.rstrip()
    words = [word for number, line in enumerate(lines, 1) for word in _words(line, number * LINE + MARGIN / 2)]
    return _SVG.format(
        width=max(line.cell_len for line in lines) * COLUMN + 2 * MARGIN,
        height=len(lines) * LINE + 2 * MARGIN,
        label="Output of wg-exporter show",
        background=THEME.background_color.hex,
        words="\n".join(words),
    )


def _words(line: Text, y: float) -> Iterator[str]:
    column = 0
    for segment in line.render(Console(color_system="truecolor")):
        for found in _WORDS.finditer(segment.text):
            x, width = MARGIN + (column + found.start()) * COLUMN, len(found[0]) * COLUMN
            place = f'x="{x:.1f}" y="{y:g}" textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs"'
            yield f"<text {place}{_look(segment.style)}>{escape(found[0])}</text>"
        column += len(segment.text)


def _look(style: Style | None) -> str:
    color = (style and style.color) or Color.default()
    dim = ' opacity="0.6"' if style and style.dim else ""
    bold = ' font-weight="bold"' if style and style.bold else ""
    return f' fill="{color.get_truecolor(THEME).hex}"{dim}{bold}'


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(sys.stdin.read()))
