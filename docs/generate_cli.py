"""Write docs/cli.md from the commands themselves. With `--check`, only compare.

The page is made of what click knows of each command, not of what `--help` prints, for that depends on the width of the
terminal.
"""

from __future__ import annotations

import inspect
import sys

import click
from generating import DOCS, run, table

from wg_exporter.cli import main

HEAD = """\
<!-- Written by docs/generate_cli.py from wg_exporter/cli/. Do not edit by hand. -->
# Command line

{help}

`wg-exporter --version` prints the version, `wg-exporter COMMAND --help` what is below.

"""

EXIT_CODES = (
    ("0", "done; a server was told to stop"),
    (
        "1",
        (
            "it could not be done: the port is in use, nothing may be read, nothing matches; `check` found something; "
            "`up`: the peer is down"
        ),
    ),
    (
        "2",
        (
            "a flag or the configuration can't be used; each mistake is a line on standard error (`check`: a finding); "
            "`up`: it can't be told"
        ),
    ),
    ("130", "stopped with Ctrl-C; `show --watch`, which is left that way, gives 0"),
    ("141", "the reader of the output left before its end, as in `wg-exporter show | head`"),
)


def page() -> str:
    """The whole text of docs/cli.md."""
    context = click.Context(main, info_name="wg-exporter")
    parts = [HEAD.format(help=_text(main)), table(("exit code", "meaning"), EXIT_CODES)]
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        if command is None or command.hidden:
            continue
        parts.append(f"\n## wg-exporter {name}\n\n    {_usage(name, command)}\n\n{_text(command)}\n")
        options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
        if options:
            parts.append("\n" + table(("flag", "default", "meaning"), map(_row, options)))
    return "".join(parts)


def _text(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").replace("\f", "")


def _usage(name: str, command: click.Command) -> str:
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    names = [(param.required, _argument(param)) for param in arguments]
    return " ".join(["wg-exporter", name, "[FLAGS]", *(word if required else f"[{word}]" for required, word in names)])


def _argument(argument: click.Argument) -> str:
    if isinstance(argument.type, click.Choice):
        return "|".join(map(str, argument.type.choices))
    return (argument.metavar or argument.name or "").strip("[]").upper()


def _row(option: click.Option) -> tuple[str, str, str]:
    if option.is_flag:
        value = ""
    elif isinstance(option.type, click.Choice):
        value = "=" + "|".join(map(str, option.type.choices))
    else:
        value = f"={option.metavar or option.type.name.upper()}"
    flags = ", ".join(f"`{name}{value}`" for name in option.opts)
    return flags, _default(option), option.help or ""


def _default(option: click.Option) -> str:
    values = option.default if isinstance(option.default, tuple | list) else (option.default,)
    return "" if option.is_flag or not option.show_default else ", ".join(f"`{value}`" for value in values)


if __name__ == "__main__":
    sys.exit(run(DOCS / "cli.md", page, __doc__))
