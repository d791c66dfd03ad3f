"""The command line, a file or folder for each command. `main` is the program, imported when it is wanted (`entry`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wg_exporter.cli.program import main

__all__ = ["main"]


def __getattr__(name: str) -> object:
    if name == "main":
        from wg_exporter.cli.program import main as program  # noqa: PLC0415

        return program
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
