"""Write what a package ships and what is made from the program: man pages, completion for shells, the configuration.

    deploy/generate.py DIRECTORY

Nothing of it is kept in the source, so it can't be stale. The man pages are made of what click knows of each command,
as docs/cli.md is. The configuration is docs/config.example.yml with each setting taken out by a `#`, so that what is
installed changes nothing, and every setting can be had by taking one `#` away.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import click  # noqa: E402 - the lines above say where the rest is
from click.shell_completion import BashComplete, ZshComplete  # noqa: E402
from generate_cli import EXIT_CODES  # noqa: E402

from wg_exporter import __version__  # noqa: E402
from wg_exporter.cli import main  # noqa: E402
from wg_exporter.cli.common import SOCKET  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "wg-exporter"
CONFIG_HEAD = """\
# Configuration of wg-exporter. All of it is optional: as it is, every WireGuard interface of this host is served.
#
# Lines of prose begin with "# ". To use a setting, take the "#" in front of it away, and that in front of the line of
# its section, such as "#interfaces:". `systemctl reload wg-exporter` reads the file again; one with a mistake changes
# nothing, and `journalctl -u wg-exporter` says what is wrong. The values are examples, not the defaults: those are in
# configuration.md, in /usr/share/doc/wg-exporter/.
"""
FILES = (
    ("/etc/wg-exporter/config.yml", "The configuration that the service of the Debian package uses."),
    ("/etc/default/wg-exporter", "More flags of the service, in ARGS."),
    (SOCKET, "The Unix socket on which the service answers `show`, `mtu` and `diagnose`."),
)


def man_pages() -> Iterator[tuple[str, str]]:
    """(Name, text) of each page in the section 1: the program, and each of its commands."""
    context = click.Context(main, info_name=PROGRAM)
    commands = [(name, main.commands[name]) for name in main.list_commands(context) if not main.commands[name].hidden]
    names = [PROGRAM, *(f"{PROGRAM}-{name}" for name, _ in commands)]
    short = [(rf"\fB{PROGRAM} {_roff(name)}\fR", _roff(command.get_short_help_str(200))) for name, command in commands]
    yield (
        f"{PROGRAM}.1",
        _page(PROGRAM, main, [r"[\-\-help] [\-\-version] \fICOMMAND\fR [\fIFLAGS\fR]"])
        + _section("Commands", _list(short))
        + _tail(names[1:]),
    )
    for name, command in commands:
        words = [(param.required, (param.name or "").upper()) for param in command.params if _is_argument(param)]
        usage = [r"[\fIFLAGS\fR]", *(rf"\fI{word}\fR" if required else rf"[\fI{word}\fR]" for required, word in words)]
        options = [_option(option) for option in command.params if isinstance(option, click.Option)]
        yield (
            f"{PROGRAM}-{name}.1",
            _page(f"{PROGRAM}-{name}", command, usage) + _section("Options", _list(options)) + _tail([PROGRAM]),
        )


def config() -> str:
    """docs/config.example.yml with no setting in use."""
    example = (ROOT / "docs/config.example.yml").read_text()
    _prose, _blank, sections = example.partition("\n\n")
    # Prose at the margin stays prose; prose inside of a section is a comment of YAML and goes with its section.
    lines = (line if not line or line.startswith("#") else f"#{line}" for line in sections.splitlines())
    return CONFIG_HEAD + "\n" + "\n".join(lines) + "\n"


def completions() -> Iterator[tuple[str, str]]:
    """(Name, text) of the scripts with which bash and zsh ask the program for completions, as click writes them.

    The names are those under which these shells find them.
    """
    variable = f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE"
    for name, shell in ((f"bash/{PROGRAM}", BashComplete), (f"zsh/_{PROGRAM}", ZshComplete)):
        yield name, shell(main, {}, PROGRAM, variable).source().strip() + "\n"


def _page(name: str, command: click.Command, usage: list[str]) -> str:
    seconds = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    date = datetime.datetime.fromtimestamp(seconds, datetime.UTC).date()
    summary = command.get_short_help_str(200).rstrip(".")
    words = name.replace(f"{PROGRAM}-", f"{PROGRAM} ")
    return (
        f'.\\" Made from the program by deploy/generate.py.\n'
        f'.TH "{name.upper()}" 1 "{date}" "{PROGRAM} {__version__}" "User Commands"\n'
        + _section("Name", rf"{_roff(name)} \- {_roff(summary[0].lower() + summary[1:] if words != name else summary)}")
        + _section("Synopsis", rf"\fB{_roff(words)}\fR {' '.join(usage)}")
        + _section("Description", _paragraphs(command.help or ""))
    )


def _tail(others: list[str]) -> str:
    return (
        _section("Exit status", _list([(code, _roff(_plain(meaning))) for code, meaning in EXIT_CODES]))
        + _section("Files", _list([(rf"\fI{_roff(path)}\fR", _roff(_plain(meaning))) for path, meaning in FILES]))
        + _section("See also", ",\n".join(rf"\fB{_roff(name)}\fR(1)" for name in others) + ",\n\\fBwg\\fR(8)")
    )


def _section(title: str, text: str) -> str:
    return f".SH {title.upper()}\n{text.strip()}\n" if text else ""


def _list(rows: list[tuple[str, str]]) -> str:
    return "".join(f".TP\n{term}\n{text}\n" for term, text in rows)


def _option(option: click.Option) -> tuple[str, str]:
    value = ""
    if isinstance(option.type, click.Choice) and not option.is_flag:
        value = "|".join(map(str, option.type.choices))
    elif not option.is_flag:
        value = option.metavar or option.type.name.upper()
    names = ", ".join(rf"\fB{_roff(name)}\fR" + (rf"=\fI{_roff(value)}\fR" if value else "") for name in option.opts)
    default = option.default if isinstance(option.default, tuple | list) else (option.default,)
    told = f" The default is {', '.join(map(str, default))}." if option.show_default and not option.is_flag else ""
    return names, _roff(_plain((option.help or "") + told))


def _is_argument(param: click.Parameter) -> bool:
    return isinstance(param, click.Argument)


def _paragraphs(text: str) -> str:
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", textwrap.dedent(text).replace("\f", ""))]
    return "\n.PP\n".join(_roff(_plain(part.replace("\b", "").strip())) for part in paragraphs if part)


def _plain(text: str) -> str:
    return text.replace("\\|", "|").replace("`", "'")


def _roff(text: str) -> str:
    """Text that roff prints as it is: a hyphen that can be copied, no line that looks like a request."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    lines = textwrap.wrap(text, 78, break_on_hyphens=False, break_long_words=False)
    return "\n".join(rf"\&{line}" if line.startswith(".") else line for line in lines)


def write(directory: Path) -> None:
    """Write all files into a directory, which is made if it is not there."""
    for name, text in (*man_pages(), *completions(), ("config.yml", config())):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: deploy/generate.py DIRECTORY")
    write(Path(sys.argv[1]))
