"""What several commands share: loading the configuration, checking flags, and writing output."""

from __future__ import annotations

import os
import re
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wg_exporter.config import Config
    from wg_exporter.exposition.view import View
    from wg_exporter.model import Snapshot
    from wg_exporter.plan.planner import Plan, Planner

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small


SOCKET = "/run/wg-exporter/http.sock"
"""Where `serve` answers `show`, `mtu` and `diagnose`."""


STORAGE = "/var/lib/wg-exporter"
"""Where `serve` keeps what survives a restart."""


class UsageProblem(click.ClickException):
    """Something the user wrote can't be used. The message has a line for each problem; the exit code is 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the lines without a prefix; each says what it is about."""
        click.echo(self.message, file=file, err=file is None)


class FilePath(click.Path):
    """The path of a file. An empty one, as of a variable that is not set, is a mistake and not the directory here."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, checked. Raises BadParameter."""
        if value == "":
            self.fail("it is empty; name a file, or leave the flag out", param, ctx)
        return super().convert(value, param, ctx)


config_option = click.option(
    "--config.file",
    "config_file",
    type=FilePath(),
    metavar="FILE",
    help="Configuration file (YAML). None is needed.",
)


START_IT = "start it (systemctl start wg-exporter), or name its socket with --socket"
"""What to do where no exporter answers, and nothing can be found out without one."""

socket_option = click.option(
    "--socket",
    "socket_path",
    default=SOCKET,
    show_default=True,
    metavar="PATH",
    help="Ask the exporter that serves on this Unix socket. Empty: ask none, and look.",
)


def check_flags(listen: Sequence[str], telemetry_path: str) -> None:
    """Raise UsageProblem, with a line for each, if an address or the path is malformed."""
    from wg_exporter.web.listen import ListenError, parse_listen, parse_telemetry_path

    problems = []
    for parse, text in [*((parse_listen, address) for address in listen), (parse_telemetry_path, telemetry_path)]:
        try:
            parse(text)
        except ListenError as error:
            problems.append(str(error))
    if problems:
        raise UsageProblem("\n".join(problems))


def load_config(config_file: Path | None) -> Config:
    """The configuration, the default without a file. Raises UsageProblem with a line for each problem."""
    from wg_exporter.catalogue import NAMES
    from wg_exporter.config import Config, ConfigError, load

    if config_file is None:
        return Config()
    try:
        return load(config_file, NAMES)
    except ConfigError as error:
        raise UsageProblem(str(error)) from None


def again() -> str:
    """The command that was given, with its arguments, as root."""
    return shlex.join(["sudo", "wg-exporter", *sys.argv[1:]])


def with_arguments(reason: str) -> str:
    """A reason that ends in a command to be run as root, with the arguments that were given."""
    return re.sub(r"run: sudo wg-exporter \w+$", lambda _: f"run: {again()}", reason)


@contextmanager
def output() -> Iterator[None]:
    """For code that writes to standard output: a full disk, or none at all, becomes a ClickException of one line."""
    if sys.stdout is None:  # as Python has it where it was closed; click would write nothing, and say nothing
        raise click.ClickException("cannot write to standard output: it is closed")
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise click.ClickException(f"cannot write to standard output: {error.strerror}") from None


def drop_output() -> None:
    """Discard what is still in the buffer, as writing it would fail again when the program ends."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def planned(planner: Planner, snapshot: Snapshot, view: View) -> Plan:
    """The plan that the daemon would make after this look."""
    from wg_exporter.history.devices import changes

    metas = {(seen.device.netns, seen.device.name): seen.metas for seen in view.devices}
    return planner.plan(changes({}, snapshot), snapshot, lambda device: metas[device.netns, device.name])
