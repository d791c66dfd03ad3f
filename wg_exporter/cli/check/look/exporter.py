"""Facts about the exporter that runs: who it is, with which flags, and what it says of the host."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from wg_exporter.cli import ask
from wg_exporter.cli.check.facts import Running
from wg_exporter.cli.serve import serve

if TYPE_CHECKING:
    from wg_exporter.status.rows import Overview


class Flags(NamedTuple):
    """The flags of an exporter, its paths absolute."""

    listen: tuple[str, ...]
    config_file: Path | None
    web_file: Path | None
    parted: bool


class Found(NamedTuple):
    """What listens at the socket and says of itself: whatever of this is known. `unasked` is why nothing was said."""

    running: Running | None = None
    flags: Flags | None = None
    overview: Overview | None = None
    unasked: str = ""
    denied: bool = False


def find(path: str) -> Found:
    """Whoever listens at this socket."""
    if not path:
        return Found(unasked="no socket was named")
    try:
        ready = ask.ready(path)
        pid, uid = ask.listener(path)
    except ask.NotPermittedError as error:
        return Found(unasked=str(error), denied=True)
    except (ask.NotAskedError, OSError) as error:
        return Found(unasked=str(error))
    elsewhere = bool(pid) and _root(str(pid)) not in {None, _root("self")}
    flags = None if elsewhere or not pid else _flags(pid)
    running = Running(pid, uid, ready, flags is None or flags.parted, elsewhere)
    try:
        return Found(running, flags, ask.status(path))
    except ask.NotAskedError as error:
        return Found(running, flags, None, str(error))


def _root(process: str) -> tuple[int, int] | None:
    """What stands for the root directory of a process; None if we may not know."""
    try:
        found = Path(f"/proc/{process}/root").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _flags(pid: int) -> Flags | None:
    """The flags of a process that is `wg-exporter serve`; None of any other, or if they can't be read."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
        directory = os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115 - text
    except OSError:
        return None
    if serve.name not in words:
        return None
    return read_flags(words[words.index(serve.name) + 1 :], directory)


def read_flags(words: list[str], directory: str) -> Flags | None:
    """What these flags of `serve` mean for a process in this directory; None if they are none."""
    try:
        given = serve.make_context("serve", words).params
    except click.exceptions.Exit:
        return None
    except click.ClickException:
        return None

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else Path(directory, path)

    return Flags(given["listen"], absolute(given["config_file"]), absolute(given["web_file"]), not given["one_process"])
