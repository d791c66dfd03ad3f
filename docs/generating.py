"""What the scripts that write pages of the docs have in common: find the sources, write or check, make tables.

A page that says what the code says is written from the code, so that the two can't disagree; `make lint` checks it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

DOCS = Path(__file__).resolve().parent
# The sources beside this page, not a version that happens to be installed.
sys.path.insert(0, str(DOCS.parent))


def run(page: Path, text: Callable[[], str], description: str | None) -> int:
    """Write `text()` to `page`; with `--check` write nothing, and return 1 if the page is not what it should be."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    if not parser.parse_args().check:
        page.write_text(text())
        return 0
    if page.exists() and page.read_text() == text():
        return 0
    sys.stderr.write(f"{page} is stale: run `make docs`\n")
    return 1


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown; a `|` in a cell stays a character of it."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
