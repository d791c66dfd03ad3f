"""The command line, a file or folder for each command. `main` is the program."""

from wg_exporter.cli.program import main

__all__ = ["main"]
