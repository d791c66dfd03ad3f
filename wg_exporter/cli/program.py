"""The command line with all its commands.

Exit codes: 0 done, 1 it could not be done, 2 wrong usage or configuration. Ctrl-C gives 130, and a reader that leaves
before the end (`show | head`) 141, as with other tools. Each problem is one line on standard error.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

from wg_exporter import __version__
from wg_exporter.cli.common import drop_output
from wg_exporter.linux.scarcity import scarce

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODULES: Final = {
    "serve": "serve",
    "show": "show.command",
    "events": "events.command",
    "mtu": "mtu.command",
    "diagnose": "diagnose.command",
    "drift": "drift.command",
    "quiet": "quiet",
    "up": "up",
    "check": "check.command",
    "export": "export",
    "demo": "demo.command",
}


class _Commands(Mapping[str, click.Command]):
    """All commands by name. Each is imported when it is asked for: what the others need is nothing that all processes
    of `serve` should keep for months.
    """

    def __getitem__(self, name: str) -> click.Command:
        found: click.Command = getattr(import_module(f"wg_exporter.cli.{_MODULES[name]}"), name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


class Program(click.Group):
    """The commands. Ctrl-C, or a reader of the output that leaves, gives no traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; turn Ctrl-C and a reader that left into exit codes."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            drop_output()
            ctx.exit(128 + signal.SIGPIPE)
        except (MemoryError, OSError, RuntimeError) as error:
            problem = scarce(error)
            if not problem:
                raise
            raise click.ClickException(problem) from None


@click.group(
    cls=Program,
    commands=_Commands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="wg-exporter")
def main() -> None:
    """Prometheus exporter and health monitor for WireGuard tunnels."""
