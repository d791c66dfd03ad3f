"""What the scripts that write pages of the docs have in common: find the sources, write or check, make tables.

A page that says what the code says is written from the code, so that the two can't disagree; `make lint` checks it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

DOCS = Path(__file__).resolve().parent
# The sources beside this page, not a version that happens to be installed.
sys.path.insert(0, str(DOCS.parent))


def run(page: Path, text: Callable[[], str], description: str | None) -> int:
    """Write `text()` to `page`; with `--check` write nothing, and return 1 if the page is not what it should be."""
    return run_all(lambda: {page: text()}, description)


def run_all(pages: Callable[[], Mapping[Path, str]], description: str | None) -> int:
    """As `run`, for several pages at once: what each file has to hold."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is stale")
    check = parser.parse_args().check
    stale = False
    for page, text in pages().items():
        if not check:
            page.write_text(text)
        elif not page.exists() or page.read_text() != text:
            sys.stderr.write(f"{page} is stale: run `make docs`\n")
            stale = True
    return int(stale)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown; a `|` in a cell stays a character of it."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
